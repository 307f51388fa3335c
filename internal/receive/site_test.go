package receive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

// sendTo publishes to the partition that a layout of so many gives the node.
func (n *node) sendTo(partitions int, chunks ...*chunk.Chunk) {
	n.s.t.Helper()
	for _, c := range chunks {
		n.raw(chunk.Subject{Prefix: "logs", Partition: chunk.Partition(n.identity, partitions), Identity: n.identity, Log: n.log}.String(), c.Header(chunk.Plain), c.Data)
	}
}

// Partitions come and go; what lies in streams of an older layout is received all the same.
func TestLayoutChangesLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.startReceiver()
	var nodes []*node
	for i := range 12 {
		nodes = append(nodes, s.node(fmt.Sprintf("web%d.example.net", i), "syslog"))
	}
	round := func(partitions int, text string) {
		for _, n := range nodes {
			n.sendTo(partitions, n.make(text))
		}
	}
	all := func() {
		t.Helper()
		for _, n := range nodes {
			n.waitConfirmed()
			n.same()
		}
	}
	round(1, "one\n")
	all()
	for _, partitions := range []int{3, 2} {
		before := map[int]int{3: 1, 2: 3}[partitions]
		round(before, "before the change\n")
		s.must(s.stopReceiver())
		round(before, "while nobody receives\n") // left over in the old streams
		s.setup(partitions)
		s.startReceiver()
		all()
		round(partitions, fmt.Sprintf("in %d\n", partitions))
		all()
		round(partitions, "and without a restart\n")
		all()
	}
	// A change while the receiver runs.
	old := s.r.Status(t.Context()).Layout
	s.setup(4)
	eventually(t, "take the new layout", func() (bool, string) {
		now := s.r.Status(t.Context()).Layout
		return now != "" && now != old, now
	})
	round(2, "by the old layout\n")
	all()
	round(4, "by the new one\n")
	all()
	for i := range 4 {
		eventually(t, "empty the streams", func() (bool, string) { left := s.left(i); return left == 0, fmt.Sprint(i, left) })
	}
}

// A clean shutdown under load loses nothing, leaves nothing to cut, and no goroutine.
func TestCleanShutdownUnderLoad(t *testing.T) {
	s := newSite(t, func(c *Config) { c.RotateSize = 5000 })
	s.startReceiver()
	var nodes []*node
	for i := range 8 {
		nodes = append(nodes, s.node("web1", fmt.Sprint(i)))
	}
	nodes[0].send(nodes[0].make("warm\n"))
	nodes[0].waitConfirmed()
	s.must(s.stopReceiver())
	base := runtime.NumGoroutine()
	for round := range 5 {
		s.startReceiver()
		for i := range 40 {
			for _, n := range nodes {
				n.send(n.make(fmt.Sprintf("%d %d %s\n", round, i, strings.Repeat("x", 100))))
			}
		}
		s.must(s.stopReceiver())
		logs, _, err := peek(t, s)
		s.must(err)
		for key, lo := range logs {
			if lo.Prepared != nil {
				t.Errorf("%s is left prepared at %d", key, lo.Prepared.Place.Position)
			}
		}
	}
	eventually(t, "end all goroutines", func() (bool, string) {
		if now := runtime.NumGoroutine(); now > base {
			b := make([]byte, 1<<20)
			return false, string(b[:runtime.Stack(b, true)])
		}
		return true, ""
	})
	s.startReceiver()
	for _, n := range nodes {
		n.waitConfirmed()
		n.same()
	}
}

// peek reads the state of a receiver that isn't running.
func peek(t *testing.T, s *site) (map[string]*local, []error, error) {
	t.Helper()
	st, note, err := openState(s.config.State, &disk{})
	if err != nil || note != nil {
		t.Fatal(err, note)
	}
	defer st.close()
	return st.logs(nil)
}

// Another receiver, with its own state, begins files beside those that are there.
func TestTwoReceiversOnOneOutput(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *Config) { c.RotateSize = 30 })
	n := s.node("web1", "syslog")
	one, two := s.config, s.config
	two.Name, two.State = "r2", filepath.Join(s.dir, "state2")
	for i := range 6 {
		s.config = []Config{one, two}[i%2]
		s.startReceiver()
		for j := range 3 {
			n.send(n.make(fmt.Sprintf("receiver %d, line %d\n", i%2, j)))
		}
		n.waitConfirmed()
		n.same()
		s.must(s.stopReceiver())
	}
	names, err := Ledgers(s.config.Output, "web1", "syslog")
	s.must(err)
	if len(names) != 2 {
		t.Errorf("ledgers %q", names)
	}
	for _, name := range names {
		entries, err := Ledger(filepath.Join(s.config.Output, name))
		s.must(err)
		for _, e := range entries {
			if strings.Contains(e.File, "@r2") != strings.Contains(name, "@r2") {
				t.Errorf("%s writes to %s", name, e.File)
			}
		}
	}
}

// The record's ranges decide what is committed, not who wrote it last: another receiver may have written on top.
func TestRangesDecideWhoeverWroteTheRecordLast(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	n := s.node("web1", "syslog")
	s.steady(n, "committed\n")
	one, two := s.config, s.config
	two.Name, two.State = "r2", filepath.Join(s.dir, "state2")
	f := s.crashAt(opRecord, true)
	s.startReceiver()
	n.send(n.make("in the record, and its writer doesn't know\n"))
	s.crashed(f)
	s.config = two
	s.startReceiver()
	n.waitConfirmed() // the other one has learnt it, and told the node
	n.send(n.make("of the other receiver\n"))
	n.waitConfirmed()
	s.must(s.stopReceiver())
	s.config = one
	s.startReceiver()
	n.send(n.make("of the first one again\n"))
	n.waitConfirmed()
	n.same()
}

// What another receiver's record says without its writer's knowledge is told to nobody, whatever this one
// knows by itself.
func TestOnlyWhatTheOtherReceiverLearntIsTold(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	n := s.node("web1", "syslog")
	s.steady(n, "committed\n")
	one := s.config
	s.config.Name, s.config.State = "r2", filepath.Join(s.dir, "state2")
	f := s.crashAt(opRecord, true)
	s.startReceiver()
	n.send(n.make("the record says so, its writer's state doesn't\n"))
	s.crashed(f)
	s.config = one
	s.config.CommitInterval = time.Hour
	s.startReceiver()
	if l := n.place(t, n.here()); l.Position != 10 {
		t.Fatalf("told %d before it was learnt", l.Position)
	}
	s.config.CommitInterval = 20 * time.Millisecond
	s.must(s.stopReceiver())
	s.startReceiver()
	n.waitConfirmed()
	n.same()
}

func TestCorruptStateIsSetAside(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(b []byte) []byte{
		"garbage":      func(b []byte) []byte { return bytes.Repeat([]byte("garbage "), 4096) },
		"short":        func(b []byte) []byte { return b[:100] },
		"one page":     func(b []byte) []byte { return b[:4096] },
		"two pages":    func(b []byte) []byte { return b[:8192] },
		"half":         func(b []byte) []byte { return b[:len(b)/2/4096*4096] },
		"odd":          func(b []byte) []byte { return b[:len(b)/2+123] },
		"last byte":    func(b []byte) []byte { return b[:len(b)-1] },
		"pages zeroed": func(b []byte) []byte { clear(b[8192:]); return b },
		"metas zeroed": func(b []byte) []byte { clear(b[:8192]); return b },
		"pages noise": func(b []byte) []byte {
			for i := 8192; i < len(b); i++ {
				b[i] = byte(i * 31)
			}
			return b
		},
		"empty": func(b []byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, nil)
			n := s.node("web1", "syslog")
			s.steady(n, "before\n")
			db := filepath.Join(s.config.State, "receive.db")
			b, err := os.ReadFile(db)
			s.must(err)
			s.must(os.WriteFile(db, harm(b), 0o600))
			s.startReceiver()
			n.send(n.make("after\n"))
			n.waitConfirmed()
			n.same()
			if aside, _ := filepath.Glob(db + ".corrupt-*"); len(aside) != 1 && name != "empty" && name != "last byte" && name != "odd" && name != "half" {
				t.Errorf("set aside: %q", aside)
			}
		})
	}
}

// Entries that can't be read are left out, each for itself.
func TestRubbishInStateAndBucket(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	good, lost := s.node("web1", "good"), s.node("web1", "lost")
	s.startReceiver()
	for _, n := range []*node{good, lost} {
		n.send(n.make("before\n"))
		n.waitConfirmed()
	}
	s.must(s.stopReceiver())
	records := s.records()
	put := func(key, value string) {
		t.Helper()
		_, rev, err := records.Get(asking(t), key)
		if err != nil && !errors.Is(err, broker.ErrNotFound) {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		records.Update(key, []byte(value), rev, func(_ uint64, err error) { done <- err })
		s.must(<-done)
	}
	for i, value := range []string{"", "null", "[]", "{", "\x00\xff", `{"place":{"epoch":18446744073709551615,"position":18446744073709551615}}`, `{"place":{"position":5,"tail":{"from":6}}}`,
		`{"place":{"epoch":1},"ranges":[{"receiver":"r1","from":9,"to":3}]}`, `{"place":{"epoch":1},"learnt":{"position":18446744073709551615}}`} {
		put(fmt.Sprintf("web2.log%d", i), value)
	}
	put("nonsense", "{}")
	put("web2.=2E=2E", "{}")
	put("web1.good", "rubbish")
	st, _, err := openState(s.config.State, &disk{})
	s.must(err)
	s.must(st.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucketLogs).Put([]byte("web1.lost"), []byte("{rubbish")) }))
	s.must(st.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(bucketClosed).Put([]byte("x"), []byte("rubbish")) }))
	s.must(st.close())
	s.startReceiver()
	for _, n := range []*node{good, lost} {
		n.send(n.make("after\n"))
		n.waitConfirmed()
		n.same()
	}
	for i := range 9 {
		n := s.node("web2", fmt.Sprintf("log%d", i))
		n.send(n.make("a log's first line\n"))
		n.waitConfirmed()
		n.same()
	}
}

func TestStateHasOneReceiver(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.startReceiver()
	c := s.config
	c.Broker.Server = s.server
	second := New(c)
	err := second.Open(t.Context())
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), s.config.State) {
		t.Errorf("%v", err)
	}
	s.must(second.Close())
	s.must(s.stopReceiver())
	c.Name = "other"
	third := New(c)
	if err := third.Open(t.Context()); err == nil || !strings.Contains(err.Error(), `belongs to receiver "r1"`) {
		t.Errorf("%v", err)
	}
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good := Config{Name: "r1", Output: filepath.Join(dir, "o"), State: filepath.Join(dir, "s")}
	for name, change := range map[string]func(*Config){
		"name": func(c *Config) { c.Name = "" }, "output": func(c *Config) { c.Output = "" }, "state": func(c *Config) { c.State = "" },
		"long name": func(c *Config) { c.Name = strings.Repeat("r", 33) }, "path": func(c *Config) { c.Name = "../x" },
		"compress": func(c *Config) { c.Compress = "lz4" }, "pattern": func(c *Config) { c.FilePattern = "x" },
	} {
		c := good
		change(&c)
		r := New(c)
		if err := r.Open(t.Context()); err == nil {
			t.Errorf("%s: taken", name)
		}
		if err := r.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := New(good).Close(); err != nil { // before Open
		t.Error(err)
	}
}

func TestBrokerWithoutSetup(t *testing.T) {
	t.Parallel()
	s := &site{t: t, dir: t.TempDir()}
	s.config = Config{Name: "r1", Output: filepath.Join(s.dir, "out"), State: filepath.Join(s.dir, "state"), CommitInterval: 20 * time.Millisecond, Logger: testLogger(t)}
	t.Cleanup(func() { s.stopReceiver(); s.stopBroker() })
	s.startBroker()
	s.startReceiver()
	eventually(t, "say what to do", func() (bool, string) {
		st := s.r.Status(t.Context())
		return !st.Ready && strings.Contains(strings.Join(st.Problems, "\n"), "run logforward setup"), fmt.Sprintf("%+v", st)
	})
	s.setup(2)
	n := s.node("web1", "syslog")
	n.sendTo(2, n.make("after the setup\n"))
	n.waitConfirmed()
	n.same()
	if st := s.r.Status(t.Context()); len(st.Problems) > 0 {
		t.Errorf("%q", st.Problems)
	}
}

// A term whose connection is over marks nothing, for it has read another broker's bucket.
func TestTermOfALostConnectionMarksNothing(t *testing.T) {
	t.Parallel()
	r := New(Config{})
	r.layout.Partitions = 2
	r.linked()
	old := r.link.ctx
	r.linked()
	if err := r.contributed(old, 0, true); r.complete || !errors.Is(err, context.Canceled) || len(r.begun) != 0 {
		t.Errorf("%v, begun %v", err, r.begun)
	}
	if r.setComplete(old); r.complete {
		t.Error("complete")
	}
	r.linked()
	if r.setComplete(r.link.ctx); !r.complete {
		t.Error("not complete")
	}
}
