package receive

import (
	"context"
	"encoding/json"
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

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

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
	if d := time.Since(began); d > 10*time.Second { // of an hour
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
			value, _, err := s.records().Get(t.Context(), key("web1", "syslog"))
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
			value, _, err := s.records().Get(t.Context(), key("web1", "syslog"))
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

// Two receivers of one name aren't let work side by side, and the later one says why.
func TestTwoReceiversOfOneName(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.startReceiver()
	divided(t, 1, s)
	twin := s.beside("r1", true)
	twin.config.State = filepath.Join(s.dir, "state-twin")
	twin.startReceiver()
	eventually(t, "say what is wrong", func() (bool, string) {
		said := strings.Join(twin.r.Health(), "\n")
		return strings.Contains(said, `another receiver named "r1"`) && strings.Contains(said, "give one of them another name"), said
	})
	n := s.node("web1", "syslog")
	n.send(n.make("x\n"))
	n.waitConfirmed()
	if len(s.works()) != 1 || len(twin.works()) != 0 {
		t.Errorf("the first works %v, its twin %v", s.works(), twin.works())
	}
	s.must(s.stopReceiver())
	divided(t, 1, twin)
	n.send(n.make("y\n"))
	n.waitConfirmed()
	n.same()
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
		s.must(js.DeleteStream(t.Context(), "KV_"+broker.Leases))
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
	s.must(js.DeleteStream(t.Context(), "KV_"+broker.Leases))
	s.startReceiver()
	s.setup(1)
	divided(t, 1, s)
	n := s.node("web1", "syslog")
	n.send(n.make("x\n"))
	n.waitConfirmed()
	gone()
}

// Whatever lies in the leases, a receiver works its partitions, and who looks gets an answer.
func TestRubbishInTheLeases(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	js, err := broker.JetStream(s.nc, "")
	s.must(err)
	leases, err := broker.OpenRecords(t.Context(), js, s.pub, broker.Leases)
	s.must(err)
	for key, value := range map[string]string{
		"receiver.x": "\x00\xff", "receiver.y": `{"name":"r1","layout":7}`, "receiver.=41.b": "{}", "receiver": "", "receiver.silent": `{"name":"silent","timeout":4611686018427387904}`,
		"partition.0": `{"owner":"r1","term":"x"`, "partition.-1": `{"owner":"r1"}`, "partition.99999999999999999999": `{"owner":"r1"}`, "partition.12": `{"owner":"nobody","term":18446744073709551615,"layout":"other"}`,
		"drain.r1": `{"since":"yesterday"}`, "drain.=": `{"since":"2026-01-01T00:00:00Z"}`, "else.r1": "x",
	} {
		done := make(chan error, 1)
		leases.Update(key, []byte(value), 0, func(_ uint64, err error) { done <- err })
		s.must(<-done)
	}
	s.startReceiver()
	divided(t, 1, s)
	n := s.node("web1", "syslog")
	n.send(n.make("x\n"))
	n.waitConfirmed()
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
	defer cancel()
	o, err := Look(ctx, js, leases)
	s.must(err)
	if r := o.Receiver("r1"); r == nil || !r.Alive || len(r.Partitions) != 1 {
		t.Errorf("%+v", o.Receivers)
	}
}

// A machine that was copied, state directory and all, doesn't take part beside the one it was copied from; one that has
// replaced it does.
func TestCopyOfAReceiversMachine(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	n := s.node("web1", "syslog")
	s.steady(n, "before the copy\n")
	twin := s.beside("r1", true)
	twin.config.State = filepath.Join(s.dir, "state-copy")
	s.must(os.CopyFS(twin.config.State, os.DirFS(s.config.State)))
	s.startReceiver()
	divided(t, 1, s)
	c := twin.config
	c.Broker = broker.Options{Server: s.server}
	twin.r = New(c)
	s.must(twin.r.Open(t.Context()))
	twin.r.sharing.host = "copy.example.net"
	twin.run()
	eventually(t, "say what is wrong", func() (bool, string) {
		said := strings.Join(twin.r.Health(), "\n")
		return strings.Contains(said, `another receiver named "r1"`), said
	})
	n.send(n.make("after it\n"))
	n.waitConfirmed()
	n.same()
	if len(s.works()) != 1 || len(twin.works()) != 0 {
		t.Errorf("the first works %v, its copy %v", s.works(), twin.works())
	}
	s.must(s.stopReceiver())
	divided(t, 1, twin)
	n.send(n.make("of the copy\n"))
	n.waitConfirmed()
	n.same()
}

// A wiped bucket isn't complete before every receiver that was ever seen has given what it knows: one that is down may have
// the only copy. Nodes without state wait so long, the others are served.
func TestWipedBucketWaitsForAllReceivers(t *testing.T) {
	t.Parallel()
	for _, forget := range []bool{false, true} {
		t.Run(fmt.Sprintf("forget %t", forget), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, nil)
			s.setup(2)
			r2 := s.beside("r2", false)
			r2.startReceiver()
			s.startReceiver()
			divided(t, 2, s, r2)
			n, only := s.node("web1", "syslog"), s.node("web2", "syslog")
			n.sendTo(2, n.make("of one of the two\n"))
			n.waitConfirmed()
			s.must(r2.stopReceiver())
			divided(t, 2, s)
			n.sendTo(2, n.make("of r1\n"))
			n.waitConfirmed()
			s.must(s.stopReceiver())
			r2.startReceiver()
			only.sendTo(2, only.make("of r2\n"))
			only.waitConfirmed()
			s.must(r2.stopReceiver())
			s.wipe()
			r2.server, r2.nc, r2.pub = s.server, s.nc, s.pub
			n.listen()
			only.listen()
			s.startReceiver()
			divided(t, 2, s)
			// It has a part of what r2 wrote, and doesn't know what else there is.
			eventually(t, "say whom it waits for", func() (bool, string) {
				said := strings.Join(s.r.Health(), "\n")
				return strings.Contains(said, "only copy") && strings.Contains(said, "r2"), said
			})
			for range 5 {
				for _, h := range []chunk.HelloLog{{}, {Epoch: 1}} {
					a, err := only.hello(t, h)
					s.must(err)
					if l := a.Logs["syslog"]; a.Ready && (l.Error == "" || l.Known) {
						t.Fatalf("a node whose log only r2 knows is told %+v", a)
					}
				}
			}
			// Who has state of a log that is known goes on.
			if l := n.place(t, n.here()); !l.Known || l.Position != n.position {
				t.Errorf("answer %+v", l)
			}
			n.sendTo(2, n.make("more of r1\n"))
			n.waitConfirmed()
			if forget {
				records, err := broker.OpenRecords(t.Context(), s.r.js, s.pub, broker.Leases)
				s.must(err)
				s.must(Forget(t.Context(), records, "r2"))
				eventually(t, "give up waiting", func() (bool, string) {
					a, err := only.hello(t, chunk.HelloLog{})
					return err == nil && a.Ready && !a.Logs["syslog"].Known && a.Logs["syslog"].Error == "", fmt.Sprintf("%+v %v", a, err)
				})
				return
			}
			r2.startReceiver()
			eventually(t, "tell where it stands", func() (bool, string) {
				a, err := only.hello(t, chunk.HelloLog{})
				if err != nil {
					return false, err.Error()
				}
				l := a.Logs["syslog"]
				if a.Ready && !l.Known && l.Error == "" {
					t.Fatal("the log was called unknown")
				}
				return a.Ready && l.Known && l.Position == only.position, fmt.Sprintf("%+v", a)
			})
			n.same()
			only.same()
		})
	}
}

// Positions that are lost while every connection stands are put together again by all receivers, too: else no new log would
// ever begin, for nobody would mark the bucket as complete.
func TestPositionsLostUnderLiveConnections(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	n := s.node("web1", "syslog")
	s.steady(n, "of r1\n")
	first := n.position
	r2 := s.beside("r2", false)
	r2.startReceiver()
	divided(t, 1, r2)
	newest := n.make("the newest is of r2\n")
	n.send(newest)
	n.waitConfirmed()
	s.startReceiver()
	leases, err := broker.OpenRecords(t.Context(), s.r.js, s.pub, broker.Leases)
	s.must(err)
	s.must(SetDrain(t.Context(), leases, "r2", "test", true))
	all := n.position
	eventually(t, "hand over", func() (bool, string) {
		return len(s.works()) == 1 && n.place(t, chunk.HelloLog{}).Position == all, ""
	})
	js, err := broker.JetStream(s.nc, "")
	s.must(err)
	s.must(js.DeleteStream(t.Context(), "KV_"+broker.Positions))
	s.setup(1)
	last := n.make("behind the loss\n")
	n.send(last)
	eventually(t, "put the positions together", func() (bool, string) {
		a, err := n.hello(t, chunk.HelloLog{})
		if err != nil {
			return false, err.Error()
		}
		l := a.Logs["syslog"]
		switch {
		case !a.Ready || l.Error != "":
		case !l.Known:
			t.Fatal("the log was called unknown")
		case l.Position == first: // a node without state believes it
			n.send(newest, last)
		case l.Position == all:
			n.send(last)
		}
		return a.Ready && l.Position == n.position, fmt.Sprintf("%+v", a)
	})
	n.same()
	fresh := s.node("web2", "new")
	eventually(t, "let a new log begin", func() (bool, string) {
		a, err := fresh.hello(t, chunk.HelloLog{})
		return err == nil && a.Ready && !a.Logs["new"].Known && a.Logs["new"].Error == "", fmt.Sprintf("%+v %v", a, err)
	})
	var size int64
	for _, output := range s.outputs() {
		st, err := os.Stat(filepath.Join(output, "web1", "syslog.log"))
		s.must(err)
		size += st.Size()
	}
	if size != int64(len(n.written)) {
		t.Errorf("%d bytes lie in the files, and the log has %d", size, len(n.written))
	}
}

// An owner that doesn't know that it isn't one any more calls nothing unknown: the bucket is asked.
func TestUnknownIsSaidOnlyByTheBucket(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.startReceiver()
	n := s.node("web1", "syslog")
	n.place(t, chunk.HelloLog{})
	// Another receiver has committed the log meanwhile.
	rec := record{Place: chunk.Place{Epoch: 7, Position: 5}, Writer: "r2/x"}
	b, err := json.Marshal(rec)
	s.must(err)
	done := make(chan error, 1)
	s.records().Update(key("web1", "syslog"), b, 0, func(_ uint64, err error) { done <- err })
	s.must(<-done)
	a, err := n.hello(t, chunk.HelloLog{})
	s.must(err)
	if l := a.Logs["syslog"]; l.Known || l.Error == "" {
		t.Errorf("told %+v", l)
	}
	_, rev, err := s.records().Get(t.Context(), completeKey)
	if err != nil || rev == 0 {
		t.Error(errors.Join(err, errors.New("the bucket isn't complete")))
	}
}

// A node's first hello may name thousands of logs: of each the bucket is asked for its record, and for the rest once.
func TestManyUnknownLogsAreLookedUpTogether(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.startReceiver()
	s.node("web1", "syslog").place(t, chunk.HelloLog{})
	b, err := json.Marshal(record{Place: chunk.Place{Epoch: 7, Position: 5}, Writer: "r2/x"})
	s.must(err)
	done := make(chan error, 1)
	s.records().Update(key("web1", "log7"), b, 0, func(_ uint64, err error) { done <- err })
	s.must(<-done)
	var asked atomic.Int64
	sub, err := s.nc.Subscribe("$JS.API.STREAM.INFO.KV_"+broker.Positions, func(*nats.Msg) { asked.Add(1) })
	s.must(err)
	defer sub.Unsubscribe()
	all, err := s.nc.Subscribe("$JS.API.STREAM.MSG.GET.KV_"+broker.Positions, func(*nats.Msg) { asked.Add(1) })
	s.must(err)
	defer all.Unsubscribe()
	s.must(s.nc.Flush())
	const logs = 100
	h := chunk.Hello{Instance: "x", Logs: map[string]chunk.HelloLog{}}
	for i := range logs {
		h.Logs[fmt.Sprintf("log%d", i)] = chunk.HelloLog{}
	}
	b, err = json.Marshal(h)
	s.must(err)
	m, err := s.request("web1", b)
	s.must(err)
	a, err := chunk.ParseAnswer(m.Data)
	s.must(err)
	for token := range h.Logs {
		l, told := a.Logs[token]
		if !told || l.Known || (l.Error != "") != (token == "log7") {
			t.Errorf("%s: told %+v", token, l)
		}
	}
	s.must(s.nc.Flush())
	if n := asked.Load(); n < logs || n > logs+10 {
		t.Errorf("the bucket was asked %d times for %d logs", n, logs)
	}
}

// Where the bucket has lost its mark of completeness, it has lost more: no log is called unknown by it, whatever this receiver believed before.
func TestBucketThatIsNotCompleteCallsNothingUnknown(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.startReceiver()
	n := s.node("web1", "syslog")
	if l := n.place(t, chunk.HelloLog{}); l.Error != "" {
		t.Fatalf("told %+v", l)
	}
	js, err := jetstream.New(s.nc)
	s.must(err)
	bucket, err := js.Stream(t.Context(), "KV_"+broker.Positions)
	s.must(err)
	s.must(bucket.Purge(t.Context(), jetstream.WithPurgeSubject("$KV."+broker.Positions+"."+completeKey)))
	a, err := n.hello(t, chunk.HelloLog{})
	s.must(err)
	if l := a.Logs["syslog"]; l.Known || l.Error == "" {
		t.Errorf("told %+v", l)
	}
}

// Plain names in a directory are one receiver's: another's first file has its name even where the plain one is free.
func TestPlainNamesAreOneReceivers(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	r2 := s.beside("r2", true)
	s.steady(s.node("web1", "first"), "of r1\n")
	n := s.node("web1", "second")
	r2.steady(n, "of r2\n")
	for name, want := range map[string]bool{"second.log": false, "second@ledger.jsonl": false, "second@r2.log": true, "second@ledger@r2.jsonl": true} {
		if got := exists(filepath.Join(s.config.Output, "web1", name)); got != want {
			t.Errorf("%s is there: %t, want %t", name, got, want)
		}
	}
	n.same()
}

// A receiver that crashed when it had chosen plain names, which are another's now, takes the other's files for its own no more.
func TestPlainNamesThatChangedHands(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	n := s.node("web1", "syslog")
	f := s.crashAt(opNames, true)
	s.startReceiver()
	n.send(n.make("in the file of r2\n"))
	s.crashed(f)
	s.must(os.WriteFile(filepath.Join(s.config.Output, plainNames), []byte("r2\n"), 0o640))
	r2 := s.beside("r2", true)
	r2.startReceiver()
	n.waitConfirmed()
	s.must(r2.stopReceiver())
	s.startReceiver()
	n.send(n.make("of r1\n"))
	n.waitConfirmed()
	n.same()
	if !exists(filepath.Join(s.config.Output, "web1", "syslog.log")) {
		t.Error("the other's file is gone")
	}
}

// A receiver that has taken a log over without bytes, and begins again before the first, tells its ledger where they go.
func TestRangeBegunAfterARestartIsInTheLedger(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	n := s.node("web1", "syslog")
	r2 := s.beside("r2", false)
	s.steady(n, "of r1\n")
	r2.steady(n, "of r2\n")
	s.startReceiver()
	eventually(t, "take it over", func() (bool, string) {
		lo, err := s.r.state.log(key("web1", "syslog"))
		s.must(err)
		return lo.Committed.Place.Position == n.position, fmt.Sprint(lo.Committed.Place.Position)
	})
	s.must(s.stopReceiver())
	s.steady(n, "of r1 again\n")
	n.same()
}
