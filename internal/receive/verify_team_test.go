package receive

import (
	"testing"

	"logforward/internal/chunk"
)

// What one receiver has ended in the middle of what another wrote is proved by the digest at its end, which no other ledger knows: the broker lost an update of the
// record, so that both have some positions, and the first one goes on in its own file, or closes it.
func TestVerifyProvesAnEndThatNobodyGoesOnFrom(t *testing.T) {
	t.Parallel()
	for name, rotate := range map[string]int64{"in the same file": 0, "in a new file": 30} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, r2 := pair(t, func(c *Config) { c.RotateSize = rotate })
			n := s.node("web1", "syslog")
			s.steady(n, "of both\n")
			before := n.record()
			s.startReceiver()
			both := n.make("of both, and the record forgets it\n")
			n.send(both)
			n.waitConfirmed()
			s.dies()
			s.rewrite(n, func(rec *record, n *node) { *rec = *before })
			r2.follows(s)
			more := n.make("of r2\n")
			joined := *more
			joined.Position, joined.Length, joined.Digest = both.Position, both.Length+more.Length, both.Digest
			joined.Data = append(append([]byte(nil), both.Data...), more.Data...)
			joined.Checksum = chunk.Sum(joined.Data)
			n.send(&joined)
			n.waitConfirmed()
			s.again(r2)
			for range 2 {
				n.send(n.make("of the first one again\n"))
				n.waitConfirmed()
			}
			n.same()
			n.verify(Intact)
		})
	}
}

// The end of an epoch is proved also where the receiver that has it is away when another one begins the next epoch.
func TestVerifyProvesAnEpochThatEndsWithAnotherReceiver(t *testing.T) {
	t.Parallel()
	s, r2 := pair(t, nil)
	n := s.node("web1", "syslog")
	s.steady(n, "of the first epoch\n")
	r2.startReceiver()
	n.prev, n.epoch, n.position, n.digest = n.epoch, n.epoch+1, 0, 0
	n.send(n.make("of the second\n"))
	n.waitConfirmed()
	n.same()
	n.verify(Intact)
	if v, err := Verify(t.Context(), []string{r2.config.Output}, n.identity, n.log, nil); err != nil || v.Damaged != int64(len("of the first epoch\n")) {
		t.Errorf("without the first receiver's directory: %+v, %v", v, err)
	}
	s.again(r2)
	n.send(n.make("of the first receiver again\n"))
	n.waitConfirmed()
	n.same()
	n.verify(Intact)
}

// A node that was told more than receiver and record know ends a range, too.
func TestVerifyProvesWhatIsBeforeARepair(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	n := s.node("web1", "syslog")
	s.startReceiver()
	n.send(n.make("before it\n"))
	n.waitConfirmed()
	known := int64(n.position)
	n.make("lost at the centre\n")
	h := n.here()
	h.Confirmed, h.Digest = n.position, n.digest
	n.place(t, h)
	n.send(n.make("behind it\n"))
	n.waitConfirmed()
	if v, err := Verify(t.Context(), s.outputs(), n.identity, n.log, nil); err != nil || v.Intact != known || v.Damaged != 0 { // by the ledger alone: the record may know it, too
		t.Errorf("%+v, %v", v, err)
	}
}

// A receiver that only settles, again and again, writes nothing to its ledger.
func TestSettlingLeavesTheLedgerAsItIs(t *testing.T) {
	t.Parallel()
	s, r2 := pair(t, nil)
	n := s.node("web1", "syslog")
	s.steady(n, "of the first one\n")
	before := len(n.ledger())
	r2.startReceiver()
	n.send(n.make("of the second\n"))
	n.waitConfirmed()
	for range 3 {
		s.startReceiver()
		s.settles("web1", "syslog")
		eventually(t, "settle", func() (bool, string) {
			s.r.mu.Lock()
			defer s.r.mu.Unlock()
			return len(s.r.begun) == 1, ""
		})
		s.must(s.stopReceiver())
	}
	if now := n.ledger(); len(now) != before {
		t.Errorf("%d lines, and %d before: %+v", len(now), before, now)
	}
	n.verify(Intact)
}
