package receive

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

// heldNames lets no log have a file until the returned function is called: chunks arrive and wait.
func heldNames(t *testing.T) (change func(*Config), let func()) {
	open := make(chan struct{})
	done := false
	let = func() {
		if !done {
			done = true
			close(open)
		}
	}
	t.Cleanup(let)
	return func(c *Config) {
		c.fault = func(op string, done bool) error {
			if op == opNames && !done {
				<-open
			}
			return nil
		}
	}, let
}

// What only the broker acknowledged isn't central: the chunks in the stream come first.
func TestBrokersWordIsNoWitness(t *testing.T) {
	change, let := heldNames(t)
	s := newSite(t, change)
	n := s.node("web1", "syslog")
	n.send(n.make("one\n"), n.make("two\n"))
	s.startReceiver()
	h := n.here()
	h.Confirmed, h.Digest, h.Weak = n.position, n.digest, true
	if a := n.place(t, h); a.Fork || a.Resend != nil {
		t.Errorf("%+v", a)
	}
	let()
	n.waitConfirmed()
	n.same()

	// What the stream has lost is over: nobody could send it again.
	n.make("lost\n")
	n.written = n.written[:len(n.written)-5]
	h.Confirmed, h.Stored, h.Digest = n.position, n.position, n.digest
	eventually(t, "what is lost to be left behind", func() (bool, string) {
		a := n.place(t, h)
		return a.Position == n.position, fmt.Sprintf("%+v", a)
	})
	n.send(n.make("more\n"))
	n.waitConfirmed()
	n.same()
}

// While chunks of a log that has no record yet wait in the stream it isn't unknown.
func TestLogWithWaitingChunksIsNotUnknown(t *testing.T) {
	change, let := heldNames(t)
	s := newSite(t, change)
	n := s.node("web1", "syslog")
	n.send(n.make("one\n"))
	s.startReceiver()
	if a := n.place(t, chunk.HelloLog{}); a.Known || a.Error == "" {
		t.Errorf("%+v: a node without state would begin anew", a)
	}
	let()
	n.waitConfirmed()
	if a := n.place(t, chunk.HelloLog{}); !a.Known || a.Position != n.position {
		t.Errorf("%+v", a)
	}
}

// A node that forked begins its epoch behind what is committed, so what was taken before must be.
func TestForkIsAnsweredWhenWhatWasTakenIsCommitted(t *testing.T) {
	s := newSite(t, func(c *Config) { c.CommitInterval = 500 * time.Millisecond })
	s.startReceiver()
	n := s.node("web1", "syslog")
	n.place(t, chunk.HelloLog{})
	n.send(n.make("one\n"))
	clone := *n.make("ONE\n")
	clone.Position, clone.Digest = 0, 0
	n.written, n.position, n.digest = n.written[:4], 4, chunk.Sum([]byte("one\n"))
	n.send(&clone)
	eventually(t, "the fork to be told", func() (bool, string) {
		n.mu.Lock()
		defer n.mu.Unlock()
		return len(n.forks) > 0, "no fork"
	})
	a := n.place(t, n.here())
	if a.Error == "" && a.Position != n.position {
		t.Fatalf("%+v: position %d is taken and not committed", a, n.position)
	}
	eventually(t, "the commit", func() (bool, string) {
		a = n.place(t, n.here())
		return a.Error == "" && a.Position == n.position && a.Fork, fmt.Sprintf("%+v", a)
	})
}

// No receiver asks below what a node knows to be central.
func TestResendIsNotAskedBelowConfirmed(t *testing.T) {
	for _, c := range []struct{ epoch, learnt, confirmed, stored, want uint64 }{
		{1, 5, 10, 20, 10}, // the record lost what the node was told
		{1, 10, 5, 20, 10}, // a confirmation is still on its way
		{2, 10, 5, 20, 5},  // an epoch whose beginning the record lost
		{1, 5, 10, 10, 0},
		{1, 20, 10, 20, 0},
		{2, 5, 10, 10, 0},
	} {
		var l log
		l.local.Committed.Place = chunk.Place{Epoch: 1, Position: c.learnt}
		a := new(partition).answer(&l, chunk.HelloLog{Epoch: c.epoch, Confirmed: c.confirmed, Stored: c.stored}, true)
		if r := a.Resend; (r == nil) != (c.want == 0) || r != nil && r.From != c.want {
			t.Errorf("%+v: %+v", c, r)
		}
	}
}

// An answer that is bigger than the broker takes is given in parts.
func TestAnswerFitsIntoAMessage(t *testing.T) {
	s := newSite(t, nil)
	const limit = 64 << 10
	s.stopBroker()
	var err error
	s.server, err = broker.Serve(t.Context(), broker.ServerOptions{InProcess: true, Store: filepath.Join(s.dir, "store"), MaxPayload: limit})
	s.must(err)
	s.nc, err = broker.Connect(t.Context(), broker.Options{Server: s.server})
	s.must(err)
	s.pub, err = broker.NewPublisher(s.nc, broker.PublisherOptions{})
	s.must(err)
	s.startReceiver()
	n := s.node("web1", "syslog")
	n.place(t, chunk.HelloLog{})
	left := map[string]chunk.HelloLog{}
	for i := range chunk.MaxHelloLogs {
		left[fmt.Sprintf("%s%03d", strings.Repeat("x", 22), i)] = chunk.HelloLog{Epoch: 1, Stored: 10, Confirmed: 10, Digest: 5}
	}
	for parts := 0; len(left) > 0; parts++ {
		b, err := json.Marshal(chunk.Hello{Instance: "x", Logs: left})
		s.must(err)
		m, err := s.request("web1", b)
		s.must(err)
		a, err := chunk.ParseAnswer(m.Data)
		s.must(err)
		if !a.Ready || len(a.Logs) == 0 {
			t.Fatalf("%+v", a)
		}
		for token := range a.Logs {
			delete(left, token)
		}
	}
}
