package receive

import (
	"fmt"
	"testing"
	"time"

	"logforward/internal/chunk"
)

// A receiver that has taken over finds a log's lost tail by the log's own subject.
func TestTeamAsksForALostTail(t *testing.T) {
	t.Parallel()
	s, r2 := pair(t, func(c *Config) { c.CommitInterval = time.Hour })
	quiet, busy := s.node("web1", "quiet"), s.node("web2", "busy")
	s.startReceiver()
	quiet.send(quiet.make("the tail\n"))
	eventually(t, "have it in hand", func() (bool, string) {
		st := s.r.Status(t.Context())
		return len(st.Logs) == 1 && st.Logs[0].Position == quiet.position, fmt.Sprintf("%+v", st.Logs)
	})
	s.dies()
	s.purge("logs.0.web1.quiet")
	busy.send(busy.make("always something\n"))
	r2.follows(s)
	h := quiet.here()
	h.Round = 3
	if l := quiet.place(t, h); l.Resend == nil || l.Resend.From != 0 || l.Resend.Round != 3 {
		t.Fatalf("answer %+v: want a resend from 0", l)
	}
	if l := busy.place(t, busy.here()); l.Resend != nil {
		t.Fatalf("answer %+v for what is in the stream", l)
	}
}

// A hole before a long backlog is asked for once by each owner, and in the node's round only.
func TestTeamAsksOnceForAHole(t *testing.T) {
	t.Parallel()
	s, r2 := pair(t, func(c *Config) { c.CommitInterval = time.Hour })
	n := s.node("web1", "syslog")
	lost := n.make("lost\n")
	var backlog []*chunk.Chunk
	for i := range 300 {
		backlog = append(backlog, n.make(fmt.Sprintf("%d\n", i)))
	}
	n.send(backlog...)
	asked := func() (total int) {
		n.mu.Lock()
		defer n.mu.Unlock()
		return len(n.resends)
	}
	began := time.Now()
	for i, x := range []*site{s, r2} {
		if i == 0 {
			x.startReceiver()
		} else {
			s.dies() // in its middle: nothing is committed, and all comes again
			x.follows(s)
		}
		eventually(t, "drop the backlog", func() (bool, string) {
			st := x.r.Status(t.Context())
			return len(st.Logs) == 1 && st.Logs[0].Holes == 300, fmt.Sprintf("%+v", st.Logs)
		})
	}
	eventually(t, "ask for the hole", func() (bool, string) { return asked() > 0, "" })
	if total := asked(); total > 3+int(time.Since(began)/time.Second) { // one of each, and one more for each second that a slow machine needs
		t.Errorf("asked %d times", total)
	}
	r2.must(r2.stopReceiver())
	r2.config.CommitInterval = 20 * time.Millisecond
	r2.startReceiver()
	n.send(lost)
	n.send(backlog...)
	n.waitConfirmed()
	n.same()
}

// An owner that was paused commits after another has taken over, and what it had is gone from the stream: the new owner sees a hole,
// reads the record again, and asks the node for nothing.
func TestTeamReadsTheRecordAgainAtAHole(t *testing.T) {
	t.Parallel()
	s, r2 := pair(t, nil)
	n := s.node("web1", "syslog")
	s.knownToBoth(r2, n)
	known := n.position
	x, release := s.hold(opRecord, false)
	s.startReceiver()
	n.send(n.make("in the hands of the first\n"))
	<-x.hit
	x.numb.Store(true)
	t.Cleanup(func() { x.numb.Store(false) })
	s.purge("")
	r2.follows(s)
	if l := n.place(t, chunk.HelloLog{}); l.Position != known {
		t.Fatalf("r2 begins at %+v", l)
	}
	release()
	eventually(t, "land", func() (bool, string) {
		p := n.record().Place
		return p.Position == n.position, fmt.Sprintf("%+v", p)
	})
	behind := n.make("behind it\n")
	n.send(behind)
	n.confirmedBehindAHole(behind)
	s.settles("web1", "syslog")
	n.same()
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.resends) > 0 {
		t.Errorf("asked for what is committed: %+v", n.resends)
	}
}

// confirmedBehindAHole waits for the confirmation of a chunk that was sent to an owner which takes it for one behind a hole, until it has read the
// record again. A commit in between may have acknowledged it: a node hears so at its next hello.
func (n *node) confirmedBehindAHole(c *chunk.Chunk) {
	n.s.t.Helper()
	eventually(n.s.t, "confirm", func() (bool, string) {
		l := n.place(n.s.t, n.here())
		if l.Resend != nil && l.Resend.From == c.Position {
			n.send(c)
		}
		return l.Epoch == n.epoch && l.Position == n.position, fmt.Sprintf("%+v", l)
	})
}

// knownToBoth brings a log to where the other receiver knows all that is committed, and won't write the record when it takes over. Both are stopped.
func (s *site) knownToBoth(r2 *site, n *node) {
	s.t.Helper()
	r2.steady(n, "of r2\n")
	s.steady(n, "ok\n")
	r2.startReceiver()
	eventually(s.t, "know all", func() (bool, string) {
		lo, err := r2.r.state.log(key(n.identity, n.log))
		s.must(err)
		return lo.Committed.Place.Position == n.position, fmt.Sprintf("%+v", lo.Committed.Place)
	})
	s.must(r2.stopReceiver())
}

// A file that was rewritten before its bytes were confirmed is a gap. The owner that had them on disk already dies, the next one
// takes the gap, and what the first one had comes into the log no more.
func TestTeamTakesTheGapOfARewrittenFile(t *testing.T) {
	t.Parallel()
	s, r2 := pair(t, nil)
	n := s.node("web1", "syslog")
	s.steady(n, "committed\n")
	f := s.crashAt(opPrepare, true)
	s.startReceiver()
	rewritten := n.make("rewritten in place\n")
	n.send(rewritten)
	s.crashed(f)
	s.purge("") // it isn't in the stream any more, and the node can't read it again
	n.position, n.digest, n.written = rewritten.Position, rewritten.Digest, n.written[:10]
	r2.startReceiver()
	n.send(n.gap(rewritten.Length), n.make("what stands there now\n"))
	n.waitConfirmed()
	s.again(r2)   // as long as it is dead, nobody can know that its file's tail isn't committed
	for range 2 { // the second one's record says that the first is central, and so all before it that is no gap
		n.send(n.make("of the first one again\n"))
		n.waitConfirmed()
	}
	n.same()
	s.must(s.r.dropCovered(t.Context()))
	if kept := cutFiles(t, s); len(kept) != 1 || kept[0] != "rewritten in place\n" {
		t.Errorf("set aside: %q", kept)
	}
}

// What only the broker acknowledged isn't central for one that takes over either: the chunks in the stream come first.
func TestTeamTakesTheBrokersWordForNothing(t *testing.T) {
	t.Parallel()
	s, r2 := pair(t, nil)
	change, let := heldNames(t)
	change(&r2.config)
	n := s.node("web1", "syslog")
	n.send(n.make("one\n"), n.make("two\n"))
	f := s.crashAt(opPrepare, false)
	s.startReceiver()
	s.crashed(f)
	r2.follows(s)
	h := n.here()
	h.Confirmed, h.Digest, h.Weak = n.position, n.digest, true
	if a := n.place(t, h); a.Fork || a.Resend != nil || a.Position != 0 {
		t.Errorf("%+v", a)
	}
	let()
	n.waitConfirmed()
	n.same()
	s.again(r2)
	n.send(n.make("three\n"))
	n.waitConfirmed()
	n.same()
}
