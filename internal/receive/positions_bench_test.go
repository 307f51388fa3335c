package receive

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

// BenchmarkTakeOverPositions is what a takeover reads of the positions bucket: LOGFORWARD_RECORDS logs (20,000 by default) of a fifth as many nodes, in 16
// partitions, one of which is taken over. kept-MB is what stays in memory while the partition begins.
func BenchmarkTakeOverPositions(b *testing.B) {
	logs := 20_000
	if v := os.Getenv("LOGFORWARD_RECORDS"); v != "" {
		var err error
		if logs, err = strconv.Atoi(v); err != nil {
			b.Fatal(err)
		}
	}
	const partitions = 16
	s := newSite(b, nil)
	s.setup(partitions)
	putPositions(b, s, logs)
	c := s.config
	c.Broker = broker.Options{Server: s.server}
	r := New(c)
	s.must(r.Open(b.Context()))
	defer r.Close()
	r.layout.Partitions = partitions
	eventually(b, "connect", func() (bool, string) { return r.nc.IsConnected(), "" })
	var kept, peak uint64
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		b.StopTimer()
		before := heap()
		p := newPartition(r, 3)
		p.reset()
		b.StartTimer()
		if _, err := p.gather(b.Context(), nil); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		peak = max(peak, live())
		kept = max(kept, heap()-min(before, heap()))
		if want := logs / partitions / 2; len(p.known) < want {
			b.Fatalf("%d records of the partition, want at least %d", len(p.known), want)
		}
		runtime.KeepAlive(p)
		b.StartTimer()
	}
	b.ReportMetric(float64(kept)/1e6, "kept-MB")
	b.ReportMetric(float64(peak)/1e6, "heap-MB")
}

func heap() uint64 {
	runtime.GC()
	return live()
}

func live() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// putPositions writes records as receivers do, with two ranges each.
func putPositions(b *testing.B, s *site, logs int) {
	records := s.records()
	var waiting sync.WaitGroup
	for i := range logs {
		place := chunk.Place{Epoch: 1_764_000_000_000_000, Position: 123_456_789, Digest: 0x0123456789abcdef,
			Tail:    chunk.Tail{From: 123_300_000, Digest: 0xfedcba9876543210},
			Sources: []chunk.Source{{File: "64768:1234567:0123456789abcdef:4096", Offset: 123_456}}}
		identity, log := fmt.Sprintf("web%06d.example.net", i/5), fmt.Sprintf("log%d", i%5)
		rec := record{Place: place, Learnt: &place, Writer: "r1/AbCdEfGhIjKlMnOpQrStUv", Commit: uint64(i), Ranges: []span{
			{Receiver: "r1", File: identity + "/" + log + "@20260101T000000Z.log", Epoch: place.Epoch, To: 100_000_000, Since: time.Unix(1_764_000_000, 0).UTC()},
			{Receiver: "r1", File: identity + "/" + log + ".log", Epoch: place.Epoch, From: 100_000_000, To: place.Position, Since: time.Unix(1_764_000_000, 0).UTC()}}}
		value, err := rec.bytes()
		s.must(err)
		waiting.Add(1)
		records.Update(key(identity, log), value, 0, func(_ uint64, err error) {
			if err != nil {
				b.Error(err)
			}
			waiting.Done()
		})
		if i%5000 == 4999 {
			waiting.Wait()
		}
	}
	waiting.Wait()
}
