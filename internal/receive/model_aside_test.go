package receive

import (
	"slices"
	"testing"
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

// The schedules that once left confirmed bytes only where they were set aside.
func TestModelKeepsWhatWasSetAside(t *testing.T) {
	t.Parallel()
	for _, seed := range []uint64{1795685045027115811, 1795688375481323318, 1795688410040841390} {
		m := newModel(seed)
		if broken := m.run(50 + int(m.rng.Uint64N(400))); broken != "" || !m.aside {
			t.Errorf("seed %d: %s; only set aside: %t", seed, broken, m.aside)
		}
	}
}
