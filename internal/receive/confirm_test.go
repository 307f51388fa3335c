package receive

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

// A node with many logs of long names is told of all of them where the broker takes small messages only.
func TestConfirmFitsIntoMessages(t *testing.T) {
	dir := t.TempDir()
	server, err := broker.Serve(t.Context(), broker.ServerOptions{InProcess: true, Store: filepath.Join(dir, "store"), MaxPayload: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Shutdown()
	r := New(Config{Name: "r1", Output: filepath.Join(dir, "out"), State: filepath.Join(dir, "state"), Broker: broker.Options{Server: server}})
	if err := r.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var mu sync.Mutex
	got := make(map[string]bool)
	sub, err := r.nc.Subscribe(chunk.ControlSubject("logs", "web1"), func(m *nats.Msg) {
		c, err := chunk.ParseControl(m.Data)
		if err != nil {
			t.Error(err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, x := range c.Confirm {
			got[x.Log] = true
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Unsubscribe()
	eventually(t, "connect", func() (bool, string) { return r.nc.IsConnected(), "" })
	if err := r.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	const logs = 1000
	var items []*item
	for i := range logs {
		it := &item{identity: "web1", name: fmt.Sprintf("%s-%d", strings.Repeat("n", 150), i), moved: true}
		it.local.Committed.Place = chunk.Place{Epoch: chunk.MaxPosition, Position: chunk.MaxPosition, Digest: ^chunk.Digest(0)}
		items = append(items, it)
	}
	r.confirm(items)
	eventually(t, "all confirmations", func() (bool, string) {
		mu.Lock()
		defer mu.Unlock()
		return len(got) == logs, fmt.Sprint(len(got))
	})
}

// A node that asks after it was told of a commit is never told less, though the receiver's loop hasn't heard of the commit's end yet.
func TestNoAnswerIsBehindAConfirmation(t *testing.T) {
	s := newSite(t, nil)
	n := s.node("web1", "syslog")
	s.steady(n, "one\n")
	x, release := s.hold(opConfirm, true)
	s.startReceiver()
	n.send(n.make("two\n"))
	<-x.hit
	eventually(t, "confirm", func() (bool, string) {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.confirmed.Position == n.position, fmt.Sprintf("%+v", n.confirmed)
	})
	if l := n.place(t, n.here()); l.Position != n.position || l.Digest != n.digest || l.Resend != nil || l.Fork {
		t.Errorf("%+v, want the position %d that was confirmed", l, n.position)
	}
	release()
	n.waitConfirmed()
	n.same()
}
