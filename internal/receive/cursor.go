package receive

import "logforward/internal/chunk"

// tailLength is how many bytes before a place its tail proves, at least, where that many lie in one run.
const tailLength = 64 << 10

// maxSources is how many generations of a log a place remembers.
const maxSources = 8

// cursor is where a log stands: the place that the next chunk must continue.
type cursor struct {
	chunk.Place
	// next is a later start for the tail, taken once it is tailLength behind the position.
	next   chunk.Tail
	forked bool // nothing more is taken in this epoch
}

func newCursor(p chunk.Place) cursor { return cursor{Place: p, next: p.Tail} }

type verdict int

const (
	take      verdict = iota // append the chunk's bytes from skip on, or note the gap
	duplicate                // nothing new
	hole                     // something before it is missing
	fork                     // other bytes have these positions
	stale                    // the epoch is over
)

func (v verdict) String() string {
	return [...]string{"take", "duplicate", "hole", "fork", "stale"}[v]
}

// judge says what a chunk is to this log, without changing anything. skip is how many of
// a taken chunk's positions are already there.
func (c *cursor) judge(ch *chunk.Chunk) (v verdict, skip uint64) {
	switch {
	case ch.Epoch < c.Epoch:
		return stale, 0
	case ch.Epoch > c.Epoch:
		// A new epoch begins at its beginning, and its digest with it.
		switch {
		case ch.Position > 0:
			return hole, 0
		case ch.Digest != 0:
			return fork, 0
		}
		return take, 0
	case c.forked:
		return fork, 0
	case ch.Position > c.Position:
		return hole, 0
	case ch.Position == c.Position:
		if ch.Digest != c.Digest {
			return fork, 0
		}
		return take, 0
	case ch.End() > c.Position:
		skip = c.Position - ch.Position
		// A gap over bytes that are already here: the node lost them after it sent them.
		if ch.Gap == nil && ch.Digest.Update(ch.Data[:skip]) != c.Digest {
			return fork, 0
		}
		return take, skip
	case ch.End() == c.Position && ch.DigestAfter() != c.Digest:
		if ch.Gap != nil {
			// The node's digest starts anew here, and ours must with it: no
			// position is taken, but what follows fits.
			return take, ch.Length
		}
		return fork, 0 // two nodes with one identity, say, that both sent these positions
	}
	return duplicate, 0
}

// advance moves over a chunk that judge said to take.
func (c *cursor) advance(ch *chunk.Chunk, skip uint64) {
	if ch.Epoch != c.Epoch {
		sources := c.Sources
		*c = cursor{Place: chunk.Place{Epoch: ch.Epoch, Predecessor: ch.Predecessor, Sources: sources}}
	}
	if ch.Gap != nil {
		c.Position, c.Digest = ch.End(), chunk.AfterGap(ch.End())
		c.Tail = chunk.Tail{From: c.Position, Digest: c.Digest}
		c.next = c.Tail
		return
	}
	before := chunk.Tail{From: c.Position, Digest: c.Digest}
	last, known := c.source(ch.File)
	if !known || !last || c.Sources[len(c.Sources)-1].Offset != ch.Offset+int64(skip) {
		c.Tail, c.next = before, before // the run of consecutive offsets begins here
	}
	c.Position, c.Digest = ch.End(), ch.DigestAfter()
	if c.Position-c.next.From >= tailLength {
		c.Tail, c.next = c.next, chunk.Tail{From: c.Position, Digest: c.Digest}
	}
	c.setSource(chunk.Source{File: ch.File, Offset: ch.Offset + int64(ch.Length)})
}

// source tells whether a generation is known, and whether it is the one read last.
func (c *cursor) source(file string) (last, known bool) {
	for i := range c.Sources {
		if c.Sources[i].File == file {
			return i == len(c.Sources)-1, true
		}
	}
	return false, false
}

// setSource puts a generation last. The slice is replaced, for marks share the old one.
func (c *cursor) setSource(s chunk.Source) {
	if n := len(c.Sources); n > 0 && c.Sources[n-1].File == s.File {
		fresh := append([]chunk.Source(nil), c.Sources...)
		fresh[n-1] = s
		c.Sources = fresh
		return
	}
	fresh := make([]chunk.Source, 0, len(c.Sources)+1)
	for _, old := range c.Sources {
		if old.File != s.File {
			fresh = append(fresh, old)
		}
	}
	fresh = append(fresh, s)
	if len(fresh) > maxSources {
		fresh = fresh[len(fresh)-maxSources:]
	}
	c.Sources = fresh
}

// further tells whether place a is beyond place b: a later epoch, or further in the same.
func further(a, b *chunk.Place) bool {
	return a.Epoch > b.Epoch || a.Epoch == b.Epoch && a.Position > b.Position
}

// same tells whether two places are one: equal position, and equal bytes before it.
func same(a, b *chunk.Place) bool {
	return a.Epoch == b.Epoch && a.Position == b.Position && a.Digest == b.Digest
}
