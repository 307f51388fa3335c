package receive

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"logforward/internal/chunk"
)

// The acknowledgements of an owner that was stopped right before them delete nothing that the new owner has in hand.
func TestTeamLateAckDeletesNothing(t *testing.T) {
	t.Parallel()
	s, r2 := pair(t, nil)
	n := s.node("web1", "syslog")
	x, release := s.hold(opAck, false)
	s.startReceiver()
	n.send(n.make("one\n"))
	<-x.hit
	x.numb.Store(true)
	t.Cleanup(func() { x.numb.Store(false) })
	n.send(n.make("two\n"))
	r2.config.CommitInterval = time.Hour
	r2.follows(s)
	eventually(t, "have both in hand", func() (bool, string) {
		st := r2.r.Status(t.Context())
		return len(st.Logs) == 1 && st.Logs[0].Position == n.position && st.Logs[0].Duplicates == 1, fmt.Sprintf("%+v", st.Logs)
	})
	release()
	s.settles("web1", "syslog") // all that it had to say is said
	if left := s.waiting(); left != 2 {
		t.Fatalf("%d messages left of 2", left)
	}
	s.must(r2.stopReceiver()) // it commits
	n.waitConfirmed()
	n.same()
}

// Duplicates are acknowledged by nobody before the bytes are synced, neither by the owner that dies before nor by the one that takes over.
func TestTeamAcknowledgesNothingBeforeTheCommit(t *testing.T) {
	t.Parallel()
	s, r2 := pair(t, nil)
	n := s.node("web1", "syslog")
	c := n.make("one\n")
	n.send(c, c, c)
	f := s.crashAt(opSync, false)
	s.startReceiver()
	s.crashed(f)
	r2.config.CommitInterval = time.Hour
	r2.follows(s)
	eventually(t, "have all in hand", func() (bool, string) {
		st := r2.r.Status(t.Context())
		return len(st.Logs) == 1 && st.Logs[0].Duplicates == 2, fmt.Sprintf("%+v", st.Logs)
	})
	if left := s.waiting(); left != 3 {
		t.Fatalf("%d messages left of 3", left)
	}
	r2.must(r2.stopReceiver())
	n.waitConfirmed()
	n.same()
	eventually(t, "acknowledge all behind the commit", func() (bool, string) {
		left := s.waiting()
		return left == 0, fmt.Sprintf("%d messages left", left)
	})
}

// No clock takes part in who works what: with clocks that are years apart, and jump, nobody is taken for dead, and nobody takes over.
func TestTeamHasNoClock(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.setup(4)
	var jumps atomic.Int64
	for _, x := range []*site{s, s.beside("r2", false), s.beside("r3", false)} {
		x.config.Now = func() time.Time { return time.Now().Add(time.Duration(jumps.Load()) * 1000 * time.Hour) }
	}
	s.others[0].config.Now = func() time.Time { return time.Now().Add(-time.Duration(jumps.Load()) * 5000 * time.Hour) }
	team := append([]*site{s}, s.others...)
	for _, x := range team {
		x.startReceiver()
	}
	before := divided(t, 4, team...)
	leases := s.leases()
	terms := func() (list []string) {
		for n := range 4 {
			value, _, err := leases.Get(asking(t), leaseKey(n))
			s.must(err)
			list = append(list, string(value))
		}
		return list
	}
	held := terms()
	for range 2 {
		jumps.Add(1)
		for _, x := range team {
			x.beats(3)
		}
	}
	if after := divided(t, 4, team...); len(moved(before, after)) > 0 || !slices.Equal(held, terms()) {
		t.Errorf("%v moved; terms %v, then %v", moved(before, after), held, terms())
	}
	n := s.node("web1", "syslog")
	n.sendTo(4, n.make("x\n"))
	n.waitConfirmed()
	n.same()
}

// beats waits until a receiver's heart has beaten so often.
func (s *site) beats(times int) {
	s.t.Helper()
	revision := func() uint64 {
		s.r.mu.Lock()
		defer s.r.mu.Unlock()
		return s.r.sharing.own
	}
	for range times {
		old := revision()
		eventually(s.t, "beat", func() (bool, string) { now := revision(); return now > 0 && now != old, fmt.Sprint(now) })
	}
}

// More messages than a consumer holds by default wait for the commit of one that has taken over.
func TestTeamTakesThousandsOfWaitingMessages(t *testing.T) {
	t.Parallel()
	s, r2 := pair(t, func(c *Config) { c.CommitInterval = time.Hour })
	n := s.node("web1", "syslog")
	for range 1500 {
		n.send(n.make("x\n"))
	}
	appended := func(x *site) {
		t.Helper()
		eventually(t, "append all before a commit", func() (bool, string) {
			st := x.r.Status(t.Context())
			return len(st.Logs) == 1 && st.Logs[0].Position == n.position && st.Logs[0].Committed == 0, fmt.Sprintf("%+v", st)
		})
	}
	s.startReceiver()
	appended(s)
	s.dies()
	r2.follows(s)
	appended(r2)
	r2.must(r2.stopReceiver())
	n.waitConfirmed()
	s.startReceiver()
	n.same()
}

// A node that crashed in the middle of a layout change sends by both layouts. Three receivers share the work, the one that moves
// what lies in the older stream dies, and each chunk is written once, by its partition's owner.
func TestTeamMovesChunksOfBothLayouts(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *Config) { c.LeftoverGrace = time.Hour })
	s.setup(3)
	team := []*site{s, s.beside("r2", false), s.beside("r3", false)}
	for _, x := range team {
		x.startReceiver()
	}
	divided(t, 3, team...)
	n := s.node("web4", "syslog")
	old := chunk.Partition(n.identity, 3)
	if old != 2 {
		t.Fatalf("partition %d: take another name", old)
	}
	n.sendTo(3, n.make("by the old layout\n"))
	n.waitConfirmed()
	before := s.r.Status(t.Context()).Layout
	s.setup(2) // the node's stream is an older layout's now
	for _, x := range team {
		eventually(t, "take the new layout", func() (bool, string) {
			now := x.r.Status(t.Context()).Layout
			return now != before && now != "", now
		})
	}
	one, two, three := n.make("stored by the old layout before the crash\n"), n.make("sent by both\n"), n.make("and by the new one\n")
	n.sendTo(3, one)
	n.sendTo(2, three, two) // holes, until what lies in the old stream is moved
	leases := s.leases()
	var mover *site
	eventually(t, "work the older stream", func() (bool, string) {
		value, _, err := leases.Get(asking(t), leaseKey(old))
		for _, x := range team {
			if err == nil && strings.Contains(string(value), fmt.Sprintf(`"owner":%q`, x.config.Name)) {
				mover = x
			}
		}
		return mover != nil, fmt.Sprintf("%s %v", value, err)
	})
	mover.dies()
	s.must(Forget(asking(t), leases, mover.config.Name))
	n.sendTo(3, one, two)
	eventually(t, "empty the older stream", func() (bool, string) { left := s.left(old); return left == 0, fmt.Sprint(left) })
	n.sendTo(2, two, three)
	n.waitConfirmed()
	n.same()
	mover.startReceiver()
	n.sendTo(2, n.make("in the end\n"))
	n.waitConfirmed()
	n.same()
	checkRanges(t, n.record())
}
