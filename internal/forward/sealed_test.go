package forward

import (
	"cmp"
	"crypto/sha256"
	"flag"
	"maps"
	"slices"
	"testing"

	"logforward/internal/chunk"
)

// Every seal that reached a centre is checked, against the bytes that came as those of its positions, in whichever chunks and however often; and that these are the bytes
// that were written is what the tests compare anyway.

var sealAll = flag.Bool("sealed", false, "have all tests' destinations sealed, and check every seal")

// seal has all destinations sealed, and every seal that comes checked when the test ends.
func (n *node) seal(cfg *Config) {
	for name, d := range cfg.Destinations {
		d.Seal = true
		cfg.Destinations[name] = d
	}
	n.c.with(func() {
		if !n.c.record && !n.c.discard {
			n.c.record = true
			n.c.t.Cleanup(func() { n.c.checkSeals() })
		}
	})
}

// sealedEpoch is what came of one epoch of a log.
type sealedEpoch struct {
	pages   map[uint64]*page
	seals   []chunk.Seal // in the order of arrival, repeated ones too
	taken   []chunk.Seal // of chunks that brought something new
	end     uint64       // of what the centre took
	gaps    [][2]uint64  // that it took
	told    [][2]uint64  // gaps that came, taken or not
	unclear bool         // other bytes came for a position, as after a fork
}

const pageSize = 4 << 10

type page struct {
	data [pageSize]byte
	have [pageSize]bool
}

// keep keeps what came, whether it is taken or not. mu is held.
func (g *got) keep(ch *chunk.Chunk) {
	if g.sealed == nil {
		g.sealed = map[uint64]*sealedEpoch{}
	}
	e := g.sealed[ch.Epoch]
	if e == nil {
		e = &sealedEpoch{pages: map[uint64]*page{}}
		g.sealed[ch.Epoch] = e
	}
	for i, b := range ch.Data {
		at := ch.Position + uint64(i)
		p := e.pages[at/pageSize]
		if p == nil {
			p = new(page)
			e.pages[at/pageSize] = p
		}
		if p.have[at%pageSize] && p.data[at%pageSize] != b {
			e.unclear = true
		}
		p.data[at%pageSize], p.have[at%pageSize] = b, true
	}
	if ch.Gap != nil {
		e.told = append(e.told, [2]uint64{ch.Position, ch.End()})
	}
	if ch.Seal != nil {
		e.seals = append(e.seals, *ch.Seal)
	}
}

// took notes what the centre took of a chunk; was is where it stood before. mu is held.
func (g *got) took(was chunk.Place, ch *chunk.Chunk) {
	e := g.sealed[g.Epoch]
	if e == nil || g.Epoch != ch.Epoch {
		return
	}
	from := uint64(0)
	if was.Epoch == g.Epoch {
		from = was.Position
	}
	if ch.Gap != nil && g.Position > from {
		e.gaps = append(e.gaps, [2]uint64{from, g.Position})
	}
	if ch.Seal != nil && g.Position > from {
		e.taken = append(e.taken, *ch.Seal)
	}
	e.end = max(e.end, g.Position)
}

// hash is the SHA-256 of the bytes of [from, to) that came; false: some didn't.
func (e *sealedEpoch) hash(from, to uint64) (sum chunk.Hash, ok bool) {
	h := sha256.New()
	for at := from; at < to; {
		p := e.pages[at/pageSize]
		if p == nil {
			return sum, false
		}
		begin, end := at%pageSize, min(pageSize, at%pageSize+to-at)
		for _, have := range p.have[begin:end] {
			if !have {
				return sum, false
			}
		}
		h.Write(p.data[begin:end])
		at += end - begin
	}
	return chunk.Hash(h.Sum(nil)), true
}

// open are the ranges of positions that are neither gaps nor under a seal that came with new bytes: a receiver need not look at others.
func (e *sealedEpoch) open() (open [][2]uint64) {
	var closed [][2]uint64
	for _, s := range e.taken {
		closed = append(closed, [2]uint64{s.From, s.To})
	}
	return uncovered(append(closed, e.gaps...), 0, e.end)
}

// uncovered are the parts of [at, end) that are in none of the ranges.
func uncovered(ranges [][2]uint64, at, end uint64) (open [][2]uint64) {
	ranges = slices.Clone(ranges)
	slices.SortFunc(ranges, func(a, b [2]uint64) int { return cmp.Compare(a[0], b[0]) })
	for _, c := range ranges {
		if c[0] > at && at < end {
			open = append(open, [2]uint64{at, min(c[0], end)})
		}
		at = max(at, c[1])
	}
	if at < end {
		open = append(open, [2]uint64{at, end})
	}
	return open
}

// checkSeals checks every seal of every log that came.
func (c *centre) checkSeals() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for token := range c.logs {
		c.checkLog(token)
	}
}

// checkLog checks every seal of one log: signature, bytes, and that what it names before it ends where it begins, or where the gap before it does. mu is held.
func (c *centre) checkLog(token string) {
	log, err := chunk.ParseToken(token)
	if err != nil {
		c.t.Fatal(err)
	}
	for epoch, e := range c.logs[token].sealed {
		of := chunk.SealOf{Identity: identity, Log: log, Epoch: epoch}
		ids := map[chunk.Hash]chunk.Seal{}
		for _, s := range e.seals {
			ids[s.ID(of)] = s
			if err := s.Check(of); err != nil {
				c.t.Errorf("%s, epoch %d: the seal of %d to %d: %v", log, epoch, s.From, s.To, err)
			}
			if e.unclear {
				continue
			}
			sum, ok := e.hash(s.From, s.To)
			if !ok {
				c.t.Errorf("%s, epoch %d: the seal of %d to %d is about bytes that never came", log, epoch, s.From, s.To)
			} else if sum != s.Sum {
				c.t.Errorf("%s, epoch %d: the seal of %d to %d isn't of these bytes", log, epoch, s.From, s.To)
			}
		}
		for _, s := range e.seals {
			before, ok := ids[s.Prev]
			if ok && (before.To > s.From || uncovered(e.told, before.To, s.From) != nil) {
				c.t.Errorf("%s, epoch %d: the seal of %d to %d says that it follows that of %d to %d", log, epoch, s.From, s.To, before.From, before.To)
			}
		}
	}
}

// seals are those of a log that came, in all epochs, repeated ones too.
func (c *centre) seals(log string) (all []chunk.Seal) {
	c.with(func() {
		if g := c.logs[chunk.Token(log)]; g != nil {
			for _, epoch := range slices.Sorted(maps.Keys(g.sealed)) {
				all = append(all, g.sealed[epoch].seals...)
			}
		}
	})
	return all
}

// unsealed are the positions of a log that are neither under a seal that was taken nor gaps, by epoch.
func (c *centre) unsealed(log string) map[uint64][][2]uint64 {
	all := map[uint64][][2]uint64{}
	c.with(func() {
		if g := c.logs[chunk.Token(log)]; g != nil {
			for epoch, e := range g.sealed {
				if open := e.open(); open != nil {
					all[epoch] = open
				}
			}
		}
	})
	return all
}

// allSealed fails where a position of a log is neither under a seal nor a gap.
func (c *centre) allSealed(t testing.TB, log string) {
	t.Helper()
	if open := c.unsealed(log); len(open) > 0 {
		t.Errorf("%s: not sealed: %v; seals: %v", log, open, shortly(c.seals(log)))
	}
	c.checkSeals()
}

func shortly(seals []chunk.Seal) (list [][2]uint64) {
	for _, s := range seals {
		list = append(list, [2]uint64{s.From, s.To})
	}
	return list
}
