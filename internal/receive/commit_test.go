package receive

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func TestReceiveWritesExactBytes(t *testing.T) {
	s := newSite(t, nil)
	s.startReceiver()
	n := s.node("web1.example.net", "nginx-access")
	for i := range 100 {
		n.send(n.make(strings.Repeat(fmt.Sprintf("line %d\n", i), i+1)))
	}
	n.waitConfirmed()
	n.same()
	s.must(s.stopReceiver())
	n.same()
	s.startReceiver()
	n.send(n.make("after a restart\n"))
	n.waitConfirmed()
	n.same()
}

// The order of a commit's steps is its whole point: everything durable, its name too, before anybody hears of it.
func TestStepsOfACommit(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var steps []string
	s := newSite(t, func(c *Config) {
		c.fault = func(op string, done bool) error {
			mu.Lock()
			defer mu.Unlock()
			if done && op != opBegin && op != opBeat && (len(steps) == 0 || steps[len(steps)-1] != op) {
				steps = append(steps, op)
			}
			return nil
		}
	})
	s.startReceiver()
	n := s.node("web1", "syslog")
	n.send(n.make("the log's first line\n"))
	n.waitConfirmed()
	s.must(s.stopReceiver())
	want := []string{opNames, opCreate, opAppend, opSync, opSyncDir, opPrepare, opRecord, opCommit, opConfirm, opAck}
	if len(steps) < len(want) || !slices.Equal(steps[:len(want)], want) {
		t.Errorf("%q, want %q", steps, want)
	}
}

// fault fails, or stops the world at, the n-th time that an operation is reached.
type fault struct {
	mu   sync.Mutex
	op   string
	done bool // behind the operation, not before it
	n    int  // which time; counted down
	err  error
	hit  chan struct{}
	dead bool
}

func (f *fault) check(op string, done bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return errStopped // the process is gone: nothing happens any more
	}
	if op != f.op || done != f.done || f.n < 0 {
		return nil
	}
	if f.n--; f.n >= 0 {
		return nil
	}
	close(f.hit)
	if errors.Is(f.err, errStopped) {
		f.dead = true
	}
	return f.err
}

// TestCommitSurvivesAnyStep stops the receiver right before and right behind every operation on
// its files, state and records, or makes it fail once; then a fresh receiver goes on from what is left.
func TestCommitSurvivesAnyStep(t *testing.T) {
	ops := []string{opCreate, opAppend, opSync, opSyncDir, opNames, opPrepare, opRecord, opCommit, opConfirm, opAck, opClose, opRename}
	faults := map[string]error{"crash": errStopped, "EIO": syscall.EIO, "ENOSPC": syscall.ENOSPC}
	for _, op := range ops {
		for name, err := range faults {
			for _, done := range []bool{false, true} {
				if done && name != "crash" {
					continue // an error behind a success isn't a fault that exists
				}
				for nth := range 2 {
					when := map[bool]string{false: "before", true: "after"}[done]
					t.Run(fmt.Sprintf("%s/%s/%s/%d", op, name, when, nth), func(t *testing.T) {
						t.Parallel()
						f := &fault{op: op, done: done, n: nth, err: err, hit: make(chan struct{})}
						s := newSite(t, func(c *Config) {
							c.RotateSize = 2000
							c.fault = f.check
						})
						survive(t, s, f)
					})
				}
			}
		}
	}
}

// stopped tells whether the fault was the world's end.
func (f *fault) stopped() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dead
}

func survive(t *testing.T, s *site, f *fault) {
	s.startReceiver()
	n := s.node("web1", "syslog")
	hit := false
	for i := 0; i < 400 && !hit; i++ {
		n.send(n.make(fmt.Sprintf("%d %s\n", i, strings.Repeat("x", 100))))
		select {
		case <-f.hit:
			hit = true
		default:
		}
		if i%10 == 9 && !hit { // so that there are several commits and rotations
			select {
			case <-f.hit:
				hit = true
			case <-n.wait(n.position):
			}
		}
	}
	if !hit {
		t.Fatalf("the fault was never met")
	}
	if f.stopped() {
		if err := s.stopReceiver(); err != nil && !errors.Is(err, errStopped) {
			t.Fatal(err)
		}
		s.config.fault = nil
		s.startReceiver()
	}
	for i := range 50 {
		n.send(n.make(fmt.Sprintf("again %d\n", i)))
	}
	n.waitConfirmed()
	n.same()
	s.must(s.stopReceiver())
	n.same()
}

// wait closes its channel when the node was told that it may forget so much, or after 10 s.
func (n *node) wait(position uint64) <-chan struct{} {
	c := make(chan struct{})
	go func() {
		defer close(c)
		for range 2000 {
			n.mu.Lock()
			told := n.confirmed.Position
			n.mu.Unlock()
			if told == position {
				return
			}
			pause()
		}
	}()
	return c
}
