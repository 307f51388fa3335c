package receive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

// works tells which partitions a receiver works, by its own word.
func (s *site) works() []int {
	if s.r == nil {
		return nil
	}
	return s.r.Status(s.t.Context()).Partitions
}

// shared waits until the partitions are divided among the receivers as evenly as they can be, and gives who has which.
func divided(t *testing.T, partitions int, team ...*site) map[int]string {
	t.Helper()
	owners := make(map[int]string)
	eventually(t, "divide the partitions", func() (bool, string) {
		clear(owners)
		counts := make(map[string]int)
		for _, s := range team {
			list := s.works()
			if len(list) < partitions/len(team) || len(list) > (partitions+len(team)-1)/len(team) {
				return false, fmt.Sprintf("%s works %v", s.config.Name, list)
			}
			for _, n := range list {
				if owners[n] != "" {
					return false, fmt.Sprintf("%d is worked by %s and %s", n, owners[n], s.config.Name)
				}
				owners[n] = s.config.Name
				counts[s.config.Name]++
			}
		}
		return len(owners) == partitions, fmt.Sprint(counts)
	})
	return owners
}

// moved are the partitions that have another owner.
func moved(before, after map[int]string) (list []int) {
	for n, name := range before {
		if after[n] != name {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	return list
}

// of are the partitions that a receiver has.
func of(owners map[int]string, name string) (list []int) {
	for n, x := range owners {
		if x == name {
			list = append(list, n)
		}
	}
	slices.Sort(list)
	return list
}

// Joining, leaving and a crash move only the partitions that must move, and each has one owner.
func TestPartitionsMoveNoMoreThanTheyMust(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.setup(9)
	r2, r3 := s.beside("r2", false), s.beside("r3", false)
	s.startReceiver()
	divided(t, 9, s)
	r2.startReceiver()
	two := divided(t, 9, s, r2)
	r3.startReceiver()
	three := divided(t, 9, s, r2, r3)
	if m := moved(two, three); !slices.Equal(m, of(three, "r3")) {
		t.Errorf("%v moved, and r3 has %v", m, of(three, "r3"))
	}
	s.must(r2.stopReceiver())
	left := divided(t, 9, s, r3)
	if m := moved(three, left); !slices.Equal(m, of(three, "r2")) {
		t.Errorf("%v moved, and r2 had %v", m, of(three, "r2"))
	}
	r2.startReceiver()
	back := divided(t, 9, s, r2, r3)
	if m := moved(left, back); !slices.Equal(m, of(back, "r2")) {
		t.Errorf("%v moved, and r2 has %v", m, of(back, "r2"))
	}
	r3.r.crash() // nothing is said any more
	crashed := divided(t, 9, s, r2)
	if m := moved(back, crashed); !slices.Equal(m, of(back, "r3")) {
		t.Errorf("%v moved, and r3 had %v", m, of(back, "r3"))
	}
}

// A receiver that ends in order is followed at once: nobody waits for its heart to be missed.
func TestHandOverIsImmediate(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *Config) { c.LeaseInterval, c.LeaseTimeout = time.Second, time.Hour })
	r2 := s.beside("r2", false)
	s.startReceiver()
	divided(t, 1, s)
	n := s.node("web1", "syslog")
	n.send(n.make("of the first\n"))
	n.waitConfirmed()
	r2.startReceiver()
	s.must(s.stopReceiver())
	began := time.Now()
	n.send(n.make("of the second\n"))
	n.waitConfirmed()
	if d := time.Since(began); d > 5*time.Minute { // of an hour
		t.Errorf("hand-over took %s", d)
	}
	n.same()
}

// Hellos are answered by the receiver that works the partition, whichever hears them.
func TestHelloIsHandedOnToTheOwner(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.setup(8)
	team := []*site{s, s.beside("r2", false), s.beside("r3", false)}
	for _, x := range team {
		x.startReceiver()
	}
	owners := divided(t, 8, team...)
	for i := range 24 {
		n := s.node(fmt.Sprintf("web%d", i), "syslog")
		n.sendTo(8, n.make("x\n"))
		n.waitConfirmed()
		want := owners[chunk.Partition(n.identity, 8)]
		for range 6 {
			a, err := n.hello(t, n.here())
			if err != nil || !a.Ready || a.Receiver != want || a.Logs["syslog"].Position != n.position {
				t.Fatalf("%s is answered %+v (%v), want %s", n.identity, a, err, want)
			}
		}
	}
}

// A log goes on beside what another receiver has written, in files whose names say whose they are, on disks of their own and
// in one directory, and back again in the same files.
func TestTakeOverBeginsFilesBeside(t *testing.T) {
	t.Parallel()
	for _, shared := range []bool{false, true} {
		t.Run(fmt.Sprintf("shared %t", shared), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, func(c *Config) { c.RotateSize, c.Compress = 60, "zstd" })
			r2 := s.beside("r2", shared)
			n := s.node("web1", "syslog")
			var team = []*site{s, r2}
			s.startReceiver()
			for i := range 8 {
				next := team[(i+1)%2]
				for j := range 3 {
					n.send(n.make(fmt.Sprintf("turn %d, line %d of it\n", i, j)))
				}
				n.waitConfirmed()
				next.startReceiver()
				s.must(team[i%2].stopReceiver())
				n.same()
			}
			all, err := Extents(s.outputs(), "web1", "syslog")
			s.must(err)
			names := make(map[string]bool)
			for _, x := range all {
				names[filepath.Join(x.Output, x.File)] = strings.Contains(x.File, "@r2")
			}
			if shared { // the one that came first has the plain names, the other's all have its own
				for _, name := range []string{"syslog.log", "syslog@r2.log"} {
					if _, err := os.Stat(filepath.Join(s.config.Output, "web1", name)); err != nil {
						t.Error(err)
					}
				}
				r2.must(r2.ledgerNames("@r2"))
			} else if slices.Contains(slices.Collect(maps.Values(names)), true) {
				t.Errorf("a suffix where nobody else writes: %v", names)
			}
			value, _, err := s.records().Get(asking(t), key("web1", "syslog"))
			s.must(err)
			rec, err := parseRecord(value)
			s.must(err)
			checkRanges(t, rec)
			committers := make(map[string]bool)
			for _, r := range rec.Ranges {
				committers[r.Receiver] = true
			}
			if len(committers) != 2 {
				t.Errorf("the record names %v: %+v", committers, rec.Ranges)
			}
		})
	}
}

// ledgerNames tells whether all files of the ledger with this suffix have it, too.
func (s *site) ledgerNames(suffix string) error {
	entries, err := Ledger(filepath.Join(s.config.Output, "web1", "syslog@ledger"+suffix+".jsonl"))
	for _, e := range entries {
		if e.File != "" && !strings.Contains(e.File, suffix) {
			err = errors.Join(err, fmt.Errorf("%s is in the ledger %s", e.File, suffix))
		}
	}
	return err
}

// checkRanges: each position has one committer.
func checkRanges(t testing.TB, rec *record) {
	t.Helper()
	for i, a := range rec.Ranges {
		for _, b := range rec.Ranges[i+1:] {
			if a.Epoch == b.Epoch && a.From < b.To && b.From < a.To {
				t.Errorf("two ranges overlap: %+v and %+v", a, b)
			}
		}
	}
}

// A receiver whose partition was taken while it was stopped in the middle of a commit commits nothing, cuts its tail back
// without being the owner, keeps it until another's range covers it, and its files and the other's are the log.
func TestStoppedOwnerCommitsNothingAndCutsItsTail(t *testing.T) {
	t.Parallel()
	for _, at := range []struct {
		op     string
		done   bool
		shared bool // one directory for both
	}{{opAppend, true, true}, {opSync, true, false}, {opPrepare, false, true}, {opPrepare, true, false}, {opRecord, false, true}, {opRecord, true, true},
		{opCommit, false, false}, {opCommit, true, true}, {opConfirm, true, false}, {opAck, false, false}} {
		t.Run(fmt.Sprintf("%s %t, shared %t", at.op, at.done, at.shared), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, nil)
			n := s.node("web1", "syslog")
			s.steady(n, "committed\n")
			r2 := s.beside("r2", at.shared)
			stopped := &stopper{op: at.op, done: at.done, hit: make(chan struct{}), goOn: make(chan struct{})}
			s.config.fault = stopped.check
			s.startReceiver()
			divided(t, 1, s)
			n.send(n.make("in the hands of the first\n"))
			<-stopped.hit
			stopped.numb.Store(true)
			t.Cleanup(func() { stopped.numb.Store(false) })
			never := s.recordGoesOn(key("web1", "syslog"))
			r2.startReceiver()
			eventually(t, "take over", func() (bool, string) { return len(r2.works()) == 1, "" })
			n.send(n.make("after the takeover\n"))
			n.waitConfirmed()
			close(stopped.goOn)
			// It wakes up, learns that it has lost the partition, and settles.
			s.settles("web1", "syslog")
			n.send(n.make("and on\n"))
			n.waitConfirmed()
			n.same()
			value, _, err := s.records().Get(asking(t), key("web1", "syslog"))
			s.must(err)
			rec, err := parseRecord(value)
			s.must(err)
			checkRanges(t, rec)
			eventually(t, "drop what was set aside", func() (bool, string) {
				kept := cutFiles(t, s)
				return len(kept) == 0, fmt.Sprintf("%q", kept)
			})
			s.must(r2.stopReceiver())
			stopped.numb.Store(false)
			n.send(n.make("the first one again\n"))
			n.waitConfirmed()
			n.same()
			never()
		})
	}
}

// settles waits until a receiver works nothing, and has cut a log's file back to what is committed.
func (s *site) settles(identity, log string) {
	s.t.Helper()
	eventually(s.t, "settle", func() (bool, string) {
		lo, err := s.r.state.log(key(identity, log))
		s.must(err)
		if len(s.works()) > 0 || lo.Prepared != nil {
			return false, fmt.Sprintf("works %v, %+v", s.works(), lo)
		}
		if lo.Committed.File == "" {
			return true, "" // it was closed
		}
		st, err := os.Stat(filepath.Join(s.config.Output, lo.Committed.File))
		if errors.Is(err, fs.ErrNotExist) {
			return false, lo.Committed.File + " is getting its final name"
		}
		s.must(err)
		return st.Size() == lo.Committed.Size, fmt.Sprintf("%d bytes, %d committed", st.Size(), lo.Committed.Size)
	})
}

// recordGoesOn watches a record, which may never go back, nor lose the ranges of another receiver. The function that it gives ends that.
func (s *site) recordGoesOn(key string) (end func()) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	records, done := s.records(), make(chan struct{})
	var last record
	go func() {
		defer close(done)
		records.Watch(ctx, func() {}, func(x broker.Record) {
			if x.Key != key {
				return
			}
			rec, err := parseRecord(x.Value)
			if err != nil {
				s.t.Error(err)
				return
			}
			if further(&last.Place, &rec.Place) || len(rec.Ranges) < len(last.Ranges) {
				s.t.Errorf("the record went back from %+v to %+v", last, *rec)
			}
			last = *rec
		}, func() {}, func(error) {})
	}()
	return func() { cancel(); <-done }
}

// stopper holds a receiver right before or behind an operation's first time, as SIGSTOP does.
type stopper struct {
	op   string
	done bool
	hit  chan struct{}
	goOn chan struct{}
	met  atomic.Bool
	numb atomic.Bool // the heart stands still, while all else goes on
}

func (x *stopper) check(op string, done bool) error {
	for op == opBeat && x.numb.Load() {
		pause()
	}
	if op == x.op && done == x.done && x.met.CompareAndSwap(false, true) {
		close(x.hit)
		<-x.goOn
	}
	return nil
}

// A receiver that can't take part in the sharing, because it has no right to the leases or they are gone, says so in its health.
func TestHealthTellsOfLeases(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	js, err := broker.JetStream(s.nc, "")
	s.must(err)
	s.startReceiver()
	divided(t, 1, s)
	gone := func() {
		t.Helper()
		s.must(js.DeleteStream(asking(t), "KV_"+broker.Leases))
		eventually(t, "say what is wrong", func() (bool, string) {
			said := strings.Join(s.r.Health(), "\n")
			return strings.Contains(said, "leases: "), said
		})
		s.setup(1)
		eventually(t, "be well again", func() (bool, string) {
			said := strings.Join(s.r.Health(), "\n")
			return said == "", said
		})
	}
	gone() // under a receiver that works
	s.must(s.stopReceiver())
	s.must(js.DeleteStream(asking(t), "KV_"+broker.Leases))
	s.startReceiver()
	s.setup(1)
	divided(t, 1, s)
	n := s.node("web1", "syslog")
	n.send(n.make("x\n"))
	n.waitConfirmed()
	gone()
}
