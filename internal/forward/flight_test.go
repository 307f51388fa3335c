package forward

import (
	"bytes"
	"testing"

	"logforward/internal/chunk"
)

// TestFlightDigestsFollowTheBytes runs random operations and compares each border's
// digest with one computed from the bytes.
func TestFlightDigestsFollowTheBytes(t *testing.T) {
	r := seeded(t)
	var f flight
	f.reset(0, 0)
	data := lines(r, 2000)
	digest := func(p uint64) chunk.Digest { return chunk.Sum(data[:p]) }
	check := func(what string) {
		t.Helper()
		at := f.start
		for i := range f.chunks {
			c := &f.chunks[i]
			if c.position != at || c.before != digest(at) || c.checksum != chunk.Sum(data[at:c.end()]) || c.offset != int64(at) {
				t.Fatalf("%s: chunk %d at %d, want %d: digests %s, %s", what, i, c.position, at, c.before, digest(at))
			}
			at = c.end()
		}
		if f.last() != digest(f.end()) {
			t.Fatalf("%s: digest at the end", what)
		}
	}
	for f.end() < uint64(len(data)) {
		n := min(uint64(1+r.IntN(60)), uint64(len(data))-f.end())
		f.add(sent{length: n, checksum: chunk.Sum(data[f.end() : f.end()+n]), file: "g", offset: int64(f.end()), tried: true})
	}
	check("add")
	for range 200 {
		p := f.start + 1 + uint64(r.IntN(int(f.end()-f.start-1)))
		if _, ok := f.border(p); ok {
			continue
		}
		i := f.at(p)
		c := f.chunks[i]
		f.split(i, p, chunk.Sum(data[c.position:p]), chunk.Sum(data[p:c.end()]))
		if d, ok := f.border(p); !ok || d != digest(p) {
			t.Fatal("no border after a split")
		}
	}
	check("split")
	before := len(f.chunks)
	half := f.chunks[len(f.chunks)/2].position
	f.compact(half, 4096)
	check("compact")
	if len(f.chunks) > before*2/3 || f.chunks[0].length > 4096 {
		t.Errorf("%d chunks of %d are left", len(f.chunks), before)
	}
	if d, ok := f.border(half); !ok || d != digest(half) {
		t.Error("what isn't stored was merged")
	}
	n := f.chunks[3].end()
	bytes, gap := f.drop(n, digest(n))
	if bytes != n || gap != 0 {
		t.Errorf("dropped %d and %d, want %d", bytes, gap, n)
	}
	check("drop")
}

func TestFlightGapStartsTheDigestAnew(t *testing.T) {
	var f flight
	f.reset(100, 42)
	part := bytes.Repeat([]byte("b"), 10)
	for range 5 {
		f.add(sent{length: 10, checksum: chunk.Sum(part), tried: true})
	}
	old := f.last()
	if lost := f.lose(1, 3, &chunk.Gap{Cause: "test", Bytes: 20}); lost != 20 {
		t.Errorf("%d bytes lost", lost)
	}
	if d, ok := f.border(130); !ok || d != chunk.AfterGap(130) {
		t.Errorf("digest behind the gap is %s", d)
	}
	if want := chunk.AfterGap(130).Update(part).Update(part); f.last() != want {
		t.Errorf("digest at the end is %s, want %s", f.last(), want)
	}
	if bytes, gap := f.unconfirmed(); bytes != 30 || gap != 20 {
		t.Errorf("%d bytes and %d gap", bytes, gap)
	}
	// The receiver may have had all of it before: its digests count.
	if !f.wasBorder(150, old) || f.wasBorder(150, f.last()+1) {
		t.Error("the former digest is not remembered")
	}
	f.drop(150, old)
	if f.last() != old || len(f.former) != 0 || f.gaps != 0 {
		t.Errorf("after the confirmation: %+v", f)
	}
}
