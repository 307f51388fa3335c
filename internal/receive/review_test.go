package receive

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

// The scenarios here are faults that a simpler protocol met: each would lose or double bytes
// without the rule that the test's name states.

// crashAt lets the receiver die right before or behind an operation's next time.
func (s *site) crashAt(op string, done bool) *fault {
	f := &fault{op: op, done: done, err: errStopped, hit: make(chan struct{})}
	s.config.fault = f.check
	return f
}

func (s *site) crashed(f *fault) {
	s.t.Helper()
	select {
	case <-f.hit:
	case <-time.After(time.Minute):
		s.t.Fatalf("%s was never reached", f.op)
	}
	if err := s.stopReceiver(); err != nil && !errors.Is(err, errStopped) {
		s.t.Fatal(err)
	}
	s.config.fault = nil
}

// steady brings a log to a committed state, and stops the receiver.
func (s *site) steady(n *node, data string) {
	s.t.Helper()
	s.startReceiver()
	n.send(n.make(data))
	n.waitConfirmed()
	s.must(s.stopReceiver())
}

func (s *site) records() *broker.Records {
	s.t.Helper()
	js, err := broker.JetStream(s.nc, "")
	s.must(err)
	records, err := broker.OpenRecords(asking(s.t), js, s.pub, broker.Positions)
	s.must(err)
	return records
}

// wipe takes the broker's store away, as a lost disk does.
func (s *site) wipe() {
	s.t.Helper()
	s.stopBroker()
	s.must(os.RemoveAll(filepath.Join(s.dir, "store")))
	s.startBroker()
}

func TestLateRecordUpdateCantLandAfterCutBack(t *testing.T) {
	s := newSite(t, nil)
	n := s.node("web1", "syslog")
	s.steady(n, "committed\n")
	key := key("web1", "syslog")
	old, rev, err := s.records().Get(asking(t), key)
	s.must(err)

	f := s.crashAt(opRecord, false)
	s.startReceiver()
	n.send(n.make("prepared, and its update is on the way\n"))
	s.crashed(f)
	// The update that the dead receiver sent arrives when the new one has begun.
	rec, err := parseRecord(old)
	s.must(err)
	rec.Place.Position = n.position
	late, err := rec.bytes()
	s.must(err)

	s.startReceiver()
	n.place(t, n.here())
	done := make(chan error, 1)
	s.records().Update(key, late, rev, func(_ uint64, err error) { done <- err })
	if err := <-done; !errors.Is(err, broker.ErrWrongRevision) {
		t.Fatalf("the late update landed: %v", err)
	}
	n.waitConfirmed()
	n.same()
}

// The same where what was prepared isn't on disk any more, so that the commit isn't carried through, and nothing is delivered again
// whose commit would be in the way: the begin itself raises the revision.
func TestLateRecordUpdateCantLandWhereItsBytesAreGone(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	n := s.node("web1", "syslog")
	s.steady(n, "committed\n")
	key := key("web1", "syslog")
	committed := n.position
	old, rev, err := s.records().Get(asking(t), key)
	s.must(err)
	f := s.crashAt(opRecord, false)
	s.startReceiver()
	lost := n.make("prepared, and its update is on the way\n")
	n.send(lost)
	s.crashed(f)
	s.must(os.Truncate(filepath.Join(s.config.Output, "web1", "syslog.log"), int64(committed)))
	js, err := broker.JetStream(s.nc, "")
	s.must(err)
	stream, err := js.Stream(asking(t), streamName(0))
	s.must(err)
	s.must(stream.Purge(asking(t)))
	rec, err := parseRecord(old)
	s.must(err)
	rec.Place.Position = n.position
	late, err := rec.bytes()
	s.must(err)

	s.startReceiver()
	n.place(t, n.here())
	done := make(chan error, 1)
	s.records().Update(key, late, rev, func(_ uint64, err error) { done <- err })
	if err := <-done; !errors.Is(err, broker.ErrWrongRevision) {
		t.Fatalf("the late update landed: %v", err)
	}
	n.send(lost)
	n.waitConfirmed()
	n.same()
}

func TestCutTailIsSetAsideUntilARangeCoversIt(t *testing.T) {
	s := newSite(t, func(c *Config) { c.leaveCuts = true })
	n := s.node("web1", "syslog")
	s.steady(n, "committed\n")
	f := s.crashAt(opPrepare, true)
	s.startReceiver()
	n.send(n.make("prepared\n"))
	s.crashed(f)
	// Another one has gone on, and where its bytes are isn't said.
	k := key("web1", "syslog")
	update := func(ranges []span) {
		t.Helper()
		value, rev, err := s.records().Get(asking(t), k)
		s.must(err)
		rec, err := parseRecord(value)
		s.must(err)
		rec.Place.Position, rec.Place.Digest = n.position, n.digest
		place := rec.Place
		rec.Learnt, rec.Ranges = &place, append(rec.Ranges, ranges...)
		value, err = rec.bytes()
		s.must(err)
		done := make(chan error, 1)
		s.records().Update(k, value, rev, func(_ uint64, err error) { done <- err })
		s.must(<-done)
	}
	update(nil)
	s.startReceiver()
	n.place(t, n.here())
	for range 10 {
		s.must(s.r.dropCovered(t.Context()))
		if kept := cutFiles(t, s); len(kept) != 1 || kept[0] != "prepared\n" {
			t.Fatalf("set aside: %q", kept)
		}
	}
	got, err := n.central()
	s.must(err)
	if string(got) != "committed\n" {
		t.Fatalf("central: %q", got)
	}
	s.must(s.stopReceiver())
	update([]span{{Receiver: "r2", File: "x", Epoch: 1, From: 10, To: n.position}})
	s.startReceiver()
	eventually(t, "drop what was set aside", func() (bool, string) {
		kept := cutFiles(t, s)
		return len(kept) == 0, fmt.Sprintf("%q", kept)
	})
}

// A commit that a crash ended between state and record is carried through, whatever became of the bucket: what it
// prepared is on disk, and to cut it back would lose it if the record had it, and was lost.
func TestPreparedRangeIsCommittedWhereNobodyHasGoneBeyond(t *testing.T) {
	for _, wiped := range []bool{false, true} {
		t.Run(fmt.Sprintf("wiped %t", wiped), func(t *testing.T) {
			s := newSite(t, nil)
			n := s.node("web1", "syslog")
			s.steady(n, "committed\n")
			f := s.crashAt(opPrepare, true)
			s.startReceiver()
			n.send(n.make("prepared\n"))
			s.crashed(f)
			if wiped {
				s.wipe()
				n.listen()
			}
			s.startReceiver()
			n.waitConfirmed()
			n.same()
			if kept := cutFiles(t, s); len(kept) > 0 {
				t.Errorf("set aside: %q", kept)
			}
			n.send(n.make("and on\n"))
			n.waitConfirmed()
			n.same()
		})
	}
}

func cutFiles(t *testing.T, s *site) (contents []string) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(s.config.State, "cut", "*", "*"))
	s.must(err)
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if errors.Is(err, os.ErrNotExist) {
			continue // the receiver has put it back, or dropped it, since
		}
		s.must(err)
		contents = append(contents, string(b))
	}
	return contents
}

// A power failure takes the bucket's last updates.
func TestRecordBehindLocalStateIsRepairedForward(t *testing.T) {
	s := newSite(t, nil)
	n := s.node("web1", "syslog")
	s.steady(n, "first\n")
	old, _, err := s.records().Get(asking(t), key("web1", "syslog"))
	s.must(err)
	s.steady(n, "second\n")
	_, rev, err := s.records().Get(asking(t), key("web1", "syslog"))
	s.must(err)
	done := make(chan error, 1)
	s.records().Update(key("web1", "syslog"), old, rev, func(_ uint64, err error) { done <- err })
	s.must(<-done)

	s.startReceiver()
	if l := n.place(t, n.here()); l.Position != n.position || l.Resend != nil {
		t.Fatalf("answer %+v, want position %d", l, n.position)
	}
	value, _, err := s.records().Get(asking(t), key("web1", "syslog"))
	s.must(err)
	rec, err := parseRecord(value)
	s.must(err)
	if rec.Place.Position != n.position {
		t.Fatalf("record at %d, want %d", rec.Place.Position, n.position)
	}
	n.send(n.make("third\n"))
	n.waitConfirmed()
	n.same()
}

// What a failed sync may have lost isn't trusted because a second sync succeeds.
func TestFailedSyncIsNeverRetried(t *testing.T) {
	f := &fault{op: opSync, n: 2, err: errors.New("input/output error"), hit: make(chan struct{})}
	s := newSite(t, func(c *Config) { c.fault = f.check })
	s.startReceiver()
	n := s.node("web1", "syslog")
	n.send(n.make("committed\n"))
	n.waitConfirmed()
	n.send(n.make("its sync fails\n"))
	<-f.hit
	n.waitConfirmed()
	n.same()
	all, err := Extents([]string{s.config.Output}, "web1", "syslog")
	s.must(err)
	if len(all) != 2 || all[0].File == all[1].File || all[0].End != int64(len("committed\n")) {
		t.Fatalf("extents %+v: want the first file closed behind what was committed, and a new one", all)
	}
}

// An update that landed without its writer's knowledge is told to nobody.
func TestOnlyWhatWasLearntIsTold(t *testing.T) {
	s := newSite(t, nil)
	n := s.node("web1", "syslog")
	s.steady(n, "committed\n")
	f := s.crashAt(opRecord, true)
	s.startReceiver()
	n.send(n.make("the record says so, the state doesn't\n"))
	s.crashed(f)
	n.mu.Lock()
	told := n.confirmed.Position
	n.mu.Unlock()
	if told != 10 {
		t.Fatalf("the node was told %d", told)
	}
	value, _, err := s.records().Get(asking(t), key("web1", "syslog"))
	s.must(err)
	rec, err := parseRecord(value)
	s.must(err)
	if rec.Place.Position != n.position || rec.Learnt == nil || rec.Learnt.Position != 10 {
		t.Fatalf("record %+v, learnt %+v", rec.Place, rec.Learnt)
	}
	// A receiver without local state tells what was learnt until it has written on top.
	s.must(os.RemoveAll(s.config.State))
	s.config.CommitInterval = time.Hour
	s.startReceiver()
	if l := n.place(t, n.here()); l.Position != 10 {
		t.Fatalf("told %d before it was learnt", l.Position)
	}
	s.config.CommitInterval = 20 * time.Millisecond
	s.must(s.stopReceiver())
	s.startReceiver()
	n.waitConfirmed()
}

func TestGapIsCountedOnceAndLeavesAHoleWhenLost(t *testing.T) {
	s := newSite(t, nil)
	s.startReceiver()
	n := s.node("web1", "syslog")
	n.send(n.make("before\n"))
	gap := n.gap(1)
	after := n.make("after\n")
	n.send(after) // the gap's message was lost
	eventually(t, "ask for the gap", func() (bool, string) {
		n.mu.Lock()
		defer n.mu.Unlock()
		return len(n.resends) > 0 && n.resends[0].From == gap.Position, fmt.Sprintf("%+v", n.resends)
	})
	n.send(gap, gap, after)
	n.waitConfirmed()
	n.same()
	entries, err := Ledger(filepath.Join(s.config.Output, "web1", "syslog@ledger.jsonl"))
	s.must(err)
	gaps := 0
	for _, e := range entries {
		if e.Event == EventGap {
			gaps++
			if e.From != gap.Position || e.To != gap.End() || *e.Bytes != -1 || e.Cause != "truncated" {
				t.Errorf("gap %+v", e)
			}
		}
	}
	if gaps != 1 {
		t.Fatalf("%d gaps in the ledger", gaps)
	}
}

// Epochs are compared with what is known, not with a clock.
func TestNewEpochIsTakenAndOldOneIsStale(t *testing.T) {
	s := newSite(t, nil)
	s.startReceiver()
	n := s.node("web1", "syslog")
	n.epoch = 5_000_000_000_000_000 // a clock far ahead
	n.send(n.make("first epoch\n"))
	n.waitConfirmed()
	stale := &node{s: s, identity: "web1", log: "syslog", epoch: 7, file: "x"}
	n.send(stale.make("an older epoch\n"))
	eventually(t, "tell the stale node", func() (bool, string) {
		n.mu.Lock()
		defer n.mu.Unlock()
		return len(n.forks) > 0 && n.forks[0].Known == n.epoch && n.forks[0].Epoch == 7, fmt.Sprintf("%+v", n.forks)
	})
	n.prev, n.epoch, n.position, n.digest = n.epoch, n.epoch+1, 0, 0
	n.send(n.make("second epoch\n"))
	n.waitConfirmed()
	n.same()
}

// Other bytes for positions that are here never overwrite, and are reported.
func TestForkOverwritesNothing(t *testing.T) {
	for _, test := range []struct {
		name string
		fork func(n *node) *chunk.Chunk
	}{
		{"continues other bytes", func(n *node) *chunk.Chunk {
			c := n.make("x\n")
			n.written = n.written[:len(n.written)-2]
			c.Digest++
			return c
		}},
		{"same positions, other bytes", func(n *node) *chunk.Chunk {
			clone := &node{s: n.s, epoch: n.epoch, file: n.file}
			return clone.make("COMMITTED\n")
		}},
		{"overlaps with other bytes", func(n *node) *chunk.Chunk {
			clone := &node{s: n.s, epoch: n.epoch, file: n.file}
			return clone.make("COMMITTED\nand more\n")
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSite(t, nil)
			s.startReceiver()
			n := s.node("web1", "syslog")
			n.send(n.make("committed\n"))
			n.waitConfirmed()
			good := n.digest
			n.send(test.fork(n))
			eventually(t, "tell of the fork", func() (bool, string) {
				n.mu.Lock()
				defer n.mu.Unlock()
				return len(n.forks) > 0 && n.forks[0].Epoch == 1 && n.forks[0].Known == 1, fmt.Sprintf("%+v", n.forks)
			})
			if l := n.place(t, chunk.HelloLog{Epoch: 1, Stored: 10, Confirmed: 10, Digest: good}); !l.Fork {
				t.Errorf("sync doesn't demand a new epoch: %+v", l)
			}
			n.position, n.digest = 0, 0
			n.prev, n.epoch = 1, 2
			n.send(n.make("the new epoch\n"))
			n.waitConfirmed()
			n.same()
		})
	}
}

// More than a thousand messages can wait for a commit.
func TestCommitIntervalDoesntBoundTheRate(t *testing.T) {
	s := newSite(t, func(c *Config) { c.CommitInterval = time.Hour })
	n := s.node("web1", "syslog")
	for range 3000 {
		n.send(n.make("x\n"))
	}
	s.startReceiver()
	eventually(t, "append all before a commit", func() (bool, string) {
		st := s.r.Status(t.Context())
		return len(st.Logs) == 1 && st.Logs[0].Position == n.position && st.Logs[0].Committed == 0, fmt.Sprintf("%+v", st)
	})
}

// The record keeps an offset for each generation that is still written to.
func TestRecordKeepsOffsetsOfAllOpenGenerations(t *testing.T) {
	s := newSite(t, nil)
	s.startReceiver()
	n := s.node("web1", "syslog")
	n.send(n.make("old file\n"))
	n.file, n.offset = "5:6:7:8", 0
	n.send(n.make("new file\n"))
	n.file, n.offset = "1:2:3:4", 9
	n.send(n.make("late\n"))
	n.waitConfirmed()
	l := n.place(t, n.here())
	want := []chunk.Source{{File: "5:6:7:8", Offset: 9}, {File: "1:2:3:4", Offset: 14}}
	if fmt.Sprint(l.Sources) != fmt.Sprint(want) || l.Tail.From != 18 {
		t.Fatalf("sources %+v, tail from %d", l.Sources, l.Tail.From)
	}
	if got := l.Tail.Digest.Update([]byte("late\n")); got != l.Digest {
		t.Fatalf("tail proves %s, want %s", got, l.Digest)
	}
}

// A fork is a fork also for the next term: what fits by chance may belong to a node that has begun anew meanwhile.
func TestForkIsRememberedByTheNextTerm(t *testing.T) {
	s := newSite(t, nil)
	s.startReceiver()
	n := s.node("web1", "syslog")
	n.send(n.make("committed\n"))
	n.waitConfirmed()
	late := n.make("late, and it fits\n")
	n.written = n.written[:10]
	bad := *late
	bad.Digest++
	n.send(&bad)
	told := func(times int) {
		t.Helper()
		eventually(t, "tell of the fork", func() (bool, string) {
			n.mu.Lock()
			defer n.mu.Unlock()
			return len(n.forks) >= times, fmt.Sprintf("%+v", n.forks)
		})
	}
	told(1)
	s.must(s.stopReceiver())
	s.startReceiver()
	n.send(late)
	told(2)
	n.prev, n.epoch, n.position, n.digest = 1, 2, 0, 0
	n.send(n.make("the new epoch\n"))
	n.waitConfirmed()
	n.same()
}
