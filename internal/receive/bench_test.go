package receive

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

// BenchmarkReceive is the throughput from a full stream to confirmed files, beside plain writes of the same
// bytes to as many files with fdatasync. One operation is the whole load.
func BenchmarkReceive(b *testing.B) {
	for _, load := range []struct{ logs, chunks, size int }{{1, 512, 512 << 10}, {1000, 20, 10 << 10}} {
		name := fmt.Sprintf("%dlogs/%dKiB", load.logs, load.size>>10)
		data := bytes.Repeat([]byte("2026-01-01T00:00:00Z host daemon[1234]: a message of usual length\n"), load.size/66+1)[:load.size]
		b.Run(name+"/receive", func(b *testing.B) {
			b.SetBytes(int64(load.logs * load.chunks * load.size))
			for b.Loop() {
				receiveLoad(b, load.logs, load.chunks, data)
			}
		})
		b.Run(name+"/plain", func(b *testing.B) {
			b.SetBytes(int64(load.logs * load.chunks * load.size))
			for b.Loop() {
				plainLoad(b, load.logs, load.chunks, data)
			}
		})
	}
}

func receiveLoad(b *testing.B, logs, chunks int, data []byte) {
	b.StopTimer()
	s := newSite(b, func(c *Config) { c.CommitInterval, c.Sweep = time.Second, time.Hour })
	defer s.stopBroker()
	var waiting sync.WaitGroup
	sum := chunk.Sum(data)
	for n := range chunks {
		for l := range logs {
			digest := chunk.Digest(0)
			for range n {
				digest = digest.Extend(sum, uint64(len(data)))
			}
			c := chunk.Chunk{Epoch: 1, Position: uint64(n * len(data)), Length: uint64(len(data)), Checksum: sum, Digest: digest, File: "f", Offset: int64(n * len(data)), Data: data}
			waiting.Add(1)
			s.pub.Publish(fmt.Sprintf("logs.0.node%d.log%d", l/10, l%10), c.Header(chunk.Plain), data, func(a broker.Ack) {
				if a.Err != nil {
					b.Error(a.Err)
				}
				waiting.Done()
			})
		}
		waiting.Wait()
	}
	b.StartTimer()
	s.startReceiver()
	want := uint64(chunks * len(data))
	for {
		st := s.r.Status(b.Context())
		done := 0
		for _, l := range st.Logs {
			if l.Committed == want {
				done++
			}
		}
		if done == logs {
			break
		}
		time.Sleep(2 * time.Millisecond) // how exactly the end is measured
	}
	b.StopTimer()
	if err := s.stopReceiver(); err != nil {
		b.Fatal(err)
	}
	b.StartTimer()
}

func plainLoad(b *testing.B, logs, chunks int, data []byte) {
	b.StopTimer()
	dir, err := os.MkdirTemp("", "plain")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(dir)
	b.StartTimer()
	files := make([]*os.File, logs)
	for l := range files {
		if files[l], err = os.Create(filepath.Join(dir, fmt.Sprint(l))); err != nil {
			b.Fatal(err)
		}
	}
	for range chunks {
		for _, f := range files {
			if _, err := f.Write(data); err != nil {
				b.Fatal(err)
			}
		}
	}
	for _, f := range files {
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
}
