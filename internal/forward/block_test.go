package forward

import (
	"crypto/sha256"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"logforward/internal/chunk"
	"logforward/internal/seed"
)

// sealer is a forwarder that signs what its flight is told was published, and sends nothing.
func sealer(t *testing.T) *forwarder {
	t.Helper()
	key, _, err := seed.LoadOrMake(t.TempDir() + "/own.key")
	if err != nil {
		t.Fatal(err)
	}
	e := &Engine{cfg: Config{Identity: identity, Now: time.Now}}
	e.cfg.Limits.SealBlock = 1000
	f := &forwarder{engine: e, signer: &signer{key: key}, stats: new(counters), log: slog.New(slog.DiscardHandler), want: Log{Name: "app"}}
	f.rec.Epoch = 5
	return f
}

// Whatever happens to the chunks of a flight, a block's hash is one of the bytes at its positions, no gap is in a block, and where blocks ended they end when
// the chunks go out again.
func TestFlightBlocksFollowTheBytes(t *testing.T) {
	r := seeded(t)
	f := sealer(t)
	fl := &f.flight
	fl.reset(0, 0)
	data := lines(r, 3000)
	for fl.end() < uint64(len(data)) {
		n := min(uint64(1+r.IntN(60)), uint64(len(data))-fl.end())
		fl.add(sent{length: n, checksum: chunk.Sum(data[fl.end() : fl.end()+n]), file: "g", offset: int64(fl.end()), last: r.IntN(10) == 0})
	}
	ends := map[uint64]string{} // seal of a block's end, as it was first
	gaps := [][2]uint64{}
	publish := func(what string, from int) {
		t.Helper()
		for i := from; i < len(fl.chunks); i++ {
			c := &fl.chunks[i]
			c.tried = true
			var s *chunk.Seal
			if c.gap != nil {
				s = f.seal(i, nil)
			} else {
				s = f.seal(i, data[c.position:c.end()])
			}
			if s == nil {
				continue
			}
			if err := s.Check(f.sealOf()); err != nil || s.Sum != sha256.Sum256(data[s.From:s.To]) {
				t.Fatalf("%s: the seal of %d to %d isn't of these bytes: %v", what, s.From, s.To, err)
			}
			for _, g := range gaps {
				if s.From < g[1] && g[0] < s.To {
					t.Fatalf("%s: the seal of %d to %d goes over the gap of %v", what, s.From, s.To, g)
				}
			}
			if c.seals == blockEnd {
				ends[s.To] = s.ID(f.sealOf()).String()
			}
		}
	}
	again := func(what string) {
		t.Helper()
		was := map[uint64]string{}
		for p, id := range ends {
			was[p] = id
		}
		clear(ends)
		publish(what, 0)
		for p, id := range was {
			if p > fl.start && ends[p] != id {
				t.Fatalf("%s: the block that ended at %d with the seal %.8s now has %.8s", what, p, id, ends[p])
			}
		}
		if len(ends) > len(was) {
			t.Fatalf("%s: %d blocks instead of %d", what, len(ends), len(was))
		}
	}
	publish("first", 0)
	if len(ends) < 20 {
		t.Fatalf("%d blocks", len(ends))
	}
	again("again")
	for range 200 {
		p := fl.start + 1 + uint64(r.IntN(int(fl.end()-fl.start-1)))
		if _, ok := fl.border(p); !ok {
			i := fl.at(p)
			c := fl.chunks[i]
			fl.split(i, p, chunk.Sum(data[c.position:p]), chunk.Sum(data[p:c.end()]))
		}
	}
	again("split")
	before := len(fl.chunks)
	fl.compact(fl.chunks[len(fl.chunks)*3/4].position, 4096)
	if len(fl.chunks) > before*2/3 {
		t.Fatalf("%d chunks of %d are left", len(fl.chunks), before)
	}
	again("compact")
	middle := fl.chunks[len(fl.chunks)/3].position
	digest, _ := fl.border(middle)
	fl.drop(middle, digest)
	if b := fl.blockBefore(0); middle > b.from && (!b.reaches(middle) || b.sum == nil) {
		t.Errorf("after a drop to %d: %+v", middle, b)
	}
	again("drop")
	// As after a restart: only the block at confirmed is known.
	record := &sealing{From: fl.block.from, Prev: fl.block.prev, Sum: fl.block.sum}
	for i := range fl.chunks {
		fl.chunks[i].block = nil
	}
	fl.block, f.rec.Confirmed, f.rec.Seal = nil, fl.start, record
	f.restoreBlock()
	again("restart")

	i, j := len(fl.chunks)/2, len(fl.chunks)/2+3
	gap := [2]uint64{fl.chunks[i].position, fl.chunks[j-1].end()}
	fl.lose(i, j, &chunk.Gap{Cause: "x", Bytes: 1})
	gaps = append(gaps, gap)
	for k := i; k < len(fl.chunks); k++ {
		if fl.chunks[k].block != nil {
			t.Fatalf("chunk %d behind a new gap has a block of what was before it", k)
		}
	}
	publish("gap", i)
	s := f.seal(i, nil)
	if b := fl.blockBefore(i); b.from < gap[0] && (s == nil || s.From != b.from || s.To != gap[0]) {
		t.Errorf("the gap of %v carries %v", gap, s)
	}
	if b := fl.chunks[i].block; b.from != gap[1] || s != nil && b.prev != s.ID(f.sealOf()) {
		t.Errorf("behind the gap of %v: %+v", gap, b)
	}
	// A gap behind a gap, or behind a block's end, has nothing to seal; the block behind it names the same one.
	prev := fl.chunks[i].block.prev
	fl.lose(i+1, i+2, &chunk.Gap{Cause: "y", Bytes: 1})
	if s := f.seal(i+1, nil); s != nil || fl.chunks[i+1].block.prev != prev || fl.chunks[i+1].block.from != fl.chunks[i+1].end() {
		t.Errorf("%v, %+v", s, fl.chunks[i+1].block)
	}
	// What isn't known is left out.
	fl.chunks[i+2].block = nil
	if b := fl.blockBefore(i + 3); b.from != fl.chunks[i+3].position || b.prev != (chunk.Hash{}) || b.sum != nil {
		t.Errorf("%+v", b)
	}
}

// The centre has part of a chunk, which so becomes two, of which the first doesn't go out again: the block goes on over it.
func TestSealGoesOnBehindABorderInsideAChunk(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newSealed(t, c, func(cfg *Config) { cfg.Limits.SealBlock = 0 })
	r := seeded(t)
	first := lines(r, 10)
	n.append("app", first)
	n.start(n.log("app"))
	n.delivered("app", first)
	c.rest(true)
	second := lines(r, 20)
	n.append("app", second)
	want := append(append([]byte(nil), first...), second...)
	eventually(t, "stored", func() bool { return n.status("app").Stored == uint64(len(want)) })
	at := uint64(len(first) + 100)
	f, split := n.engine.runs["app"], make(chan error, 1)
	f.post(func() { // as if an earlier process's chunk had ended there
		before := len(f.flight.chunks)
		f.onConfirm(f.rec.Epoch, at, chunk.Sum(want[:at]))
		if d, ok := f.digestAt(at); ok {
			f.central(at, d)
		}
		b := f.flight.block
		if b == nil || b.from != 0 || !b.reaches(at) || f.flight.start != at {
			split <- fmt.Errorf("confirmed to %d with %d chunks, of %d: the block is %+v", f.flight.start, len(f.flight.chunks), before, b)
			return
		}
		if sum, err := b.hash(); err != nil || sum != sha256.Sum256(want[:at]) {
			split <- fmt.Errorf("the block to %d is of other bytes: %v", at, err)
			return
		}
		split <- nil
	})
	if err := <-split; err != nil {
		t.Error(err)
	}
	c.rest(false)
	n.delivered("app", want)
	c.allSealed(t, "app")
}
