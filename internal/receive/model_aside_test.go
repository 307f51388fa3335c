package receive

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"logforward/internal/chunk"
)

// What the model's receivers cut is set aside, and dropped by the product's own rule.

// modelAside is a tail that was cut. allowed: the record named another's range in its place.
type modelAside struct {
	aside
	at      []uint64
	allowed bool
}

// setAside keeps what is prepared and will be cut.
func (r *modelReceiver) setAside(prepared *mark, size int) {
	at := slices.Clone(r.at[size:min(int(prepared.Size), len(r.at))])
	to := prepared.Place.Position
	r.asides = append(r.asides, modelAside{aside{1, to - uint64(len(at)), to}, at, slices.ContainsFunc(r.rec.Ranges, func(s span) bool {
		return s.Receiver != r.name && s.From < to && s.To > prepared.From
	})})
}

// modelBack is what is on its way back into a file.
type modelBack struct{ putBack }

// isBack tells whether a position was put back into a file.
func (r *modelReceiver) isBack(p uint64) bool {
	return slices.ContainsFunc(r.backs, func(b *modelBack) bool { return b.Done && b.From <= p && p < b.To })
}

// putBack does so by the product's own rule, all of it or up to a crash at any step. A file that was prepared goes on from there.
func (r *modelReceiver) putBack(m *model, wholly bool) {
	goesOn := func() bool { return wholly || m.rng.IntN(4) > 0 }
	product := &Receiver{config: Config{Name: r.name}}
	finish := func(b *modelBack) bool {
		if b.Prepared = b.Prepared || goesOn(); !b.Prepared || !goesOn() {
			return false
		}
		if err := product.recordBack(context.Background(), modelBucket{m}, &asideNote{key: modelKey}, &b.putBack); err != nil {
			return false // lost at the moment
		}
		if b.Done = goesOn(); b.Done {
			m.say("%s: puts %d-%d back", r.name, b.From, b.To)
		}
		return b.Done
	}
	for _, b := range r.backs {
		if !b.Done && !finish(b) {
			return
		}
	}
	for _, a := range r.asides {
		if m.rec == nil {
			return
		}
		rec := clone(m.rec)
		var own []span
		for _, p := range r.at[:r.state.Committed.Size] {
			own = append(own, span{Epoch: 1, From: p, To: p + 1})
		}
		for _, b := range r.backs {
			own = append(own, span{Epoch: 1, From: b.From, To: b.To})
		}
		digests := make(map[uint64]chunk.Digest)
		for p, d := range m.digests {
			digests[uint64(p)] = d
		}
		for i := 0; i < len(a.at); { // runs of positions
			n := i + 1
			for n < len(a.at) && a.at[n] == a.at[n-1]+1 {
				n++
			}
			p := &asidePiece{Epoch: 1, From: a.at[i], To: a.at[n-1] + 1}
			if m := r.state.Prepared; m != nil && m.From < p.To && m.Place.Position > p.From {
				return
			}
			for _, part := range rec.lacks(p, r.name, own, rec.proofs(), digests) {
				b := &modelBack{putBack{asidePiece: asidePiece{Epoch: 1, From: part[0], To: part[1], Before: m.digests[part[0]], After: m.digests[part[1]]}, File: fmt.Sprint("back", part[0])}}
				r.backs = append(r.backs, b)
				if !finish(b) {
					return
				}
			}
			i = n
		}
	}
}

// sweep drops what was set aside, as soon as the product would.
func (m *model) sweep() {
	if m.rec == nil {
		return
	}
	for _, r := range m.receivers {
		r.asides = slices.DeleteFunc(r.asides, func(a modelAside) bool {
			var own []span
			for _, p := range r.at[:r.state.Committed.Size] {
				own = append(own, span{Epoch: 1, From: p, To: p + 1})
			}
			for _, b := range r.backs {
				if b.Done {
					own = append(own, span{Epoch: 1, From: b.From, To: b.To})
				} else if b.From < a.to && b.To > a.from {
					return false
				}
			}
			covered := m.rec.holds(a.aside, r.name, own)
			if covered {
				m.say("%s: drops what it set aside, %d-%d", r.name, a.from, a.to)
			}
			return covered
		})
	}
}

// isAside tells whether a position that is in no file lies where it may.
func (m *model) isAside(p uint64) bool {
	is := !m.lossless && slices.ContainsFunc(m.receivers, func(r *modelReceiver) bool {
		return slices.ContainsFunc(r.asides, func(a modelAside) bool { return a.allowed && slices.Contains(a.at, p) })
	})
	m.aside = m.aside || is
	return is
}

// Schedules that leave confirmed bytes only where they were set aside, for a time.
func TestModelKeepsWhatWasSetAside(t *testing.T) {
	t.Parallel()
	for _, seed := range []uint64{1795685045027115811, 1795697352153904041, 1795697809742282156} {
		m := newModel(seed)
		if broken := m.run(50 + int(m.rng.Uint64N(400))); broken != "" || !m.aside {
			t.Errorf("seed %d: %s; only set aside: %t", seed, broken, m.aside)
		}
	}
}
