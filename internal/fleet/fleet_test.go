package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"logforward/internal/broker"
	"logforward/internal/chunk"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// site is a broker with streams, without a receiver: who tells the nodes is the command.
type site struct {
	t      *testing.T
	server *broker.Server
	nc     *nats.Conn
	js     jetstream.JetStream
	prefix string
}

func newSite(t *testing.T, prefix string) *site {
	t.Helper()
	server, err := broker.Serve(t.Context(), broker.ServerOptions{InProcess: true, Store: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, server: server, prefix: prefix}
	t.Cleanup(func() {
		if err := server.Shutdown(); err != nil {
			t.Error(err)
		}
	})
	s.nc = s.connect()
	s.js, err = broker.JetStream(s.nc, "")
	s.must(err)
	_, err = broker.Setup(t.Context(), s.js, broker.Wanted{Prefix: prefix, Partitions: 1})
	s.must(err)
	return s
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) connect() *nats.Conn {
	s.t.Helper()
	nc, err := broker.Connect(s.t.Context(), broker.Options{Server: s.server})
	s.must(err)
	s.t.Cleanup(nc.Close)
	return nc
}

func (s *site) open() *Fleet {
	s.t.Helper()
	f, err := Open(s.t.Context(), Config{Broker: broker.Options{Server: s.server}, Prefix: "logs"})
	s.must(err)
	s.t.Cleanup(f.Close)
	return f
}

// committed makes a record of a log, as a receiver does.
func (s *site) committed(identity, log string) {
	s.t.Helper()
	kv, err := s.js.KeyValue(s.t.Context(), broker.Positions)
	s.must(err)
	_, err = kv.Put(s.t.Context(), chunk.Token(identity)+"."+chunk.Token(log), []byte("{}"))
	s.must(err)
}

// node obeys and confirms as a node does, over its own connection.
type node struct {
	s        *site
	identity string
	nc       *nats.Conn

	mu   sync.Mutex
	told []chunk.Pause
	obey func(chunk.Pause) *chunk.Obeyed // nil: it says nothing
}

func (s *site) node(identity string, waiting int64) *node {
	s.t.Helper()
	n := &node{s: s, identity: identity, nc: s.connect()}
	n.obey = func(p chunk.Pause) *chunk.Obeyed {
		o := &chunk.Obeyed{Change: p.Change, Paused: p.Holds()}
		if o.Paused {
			o.Waiting = waiting
		}
		return o
	}
	_, err := n.nc.Subscribe(chunk.ControlSubject(s.prefix, identity), func(m *nats.Msg) {
		c, err := chunk.ParseControl(m.Data)
		if err != nil || c.Pause == nil {
			s.t.Errorf("%s: %s, %v", identity, m.Data, err)
			return
		}
		mac := m.Header.Get(chunk.MACHeader)
		if mac == "" { // nobody here has heard its key: it says hello
			n.say(nil)
			return
		}
		if !chunk.Genuine(n.key(), m.Data, mac) {
			s.t.Errorf("%s: %s isn't authenticated", identity, m.Data)
			return
		}
		n.mu.Lock()
		n.told = append(n.told, *c.Pause)
		o := n.obey(*c.Pause)
		n.mu.Unlock()
		if o != nil {
			n.say(o)
		}
	})
	s.must(err)
	s.must(n.nc.Flush())
	return n
}

func (n *node) key() string { return "key of " + n.identity }

func (n *node) say(o *chunk.Obeyed) {
	b, err := json.Marshal(chunk.Hello{Instance: n.identity, Key: n.key(), Pause: o})
	if err == nil {
		err = n.nc.Publish(chunk.SyncSubject(n.s.prefix, n.identity), b)
	}
	if err != nil {
		n.s.t.Error(err)
	}
}

func (n *node) heard() []chunk.Pause {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.told)
}

func all(string) bool { return true }

func ignore(Summary) {}

func TestCallEndsWhenEveryNodeHasConfirmed(t *testing.T) {
	t.Parallel()
	s := newSite(t, "other") // not the prefix that is configured: the layout's counts
	for i := range 20 {
		s.committed(fmt.Sprintf("web%d.example.net", i), "syslog")
		s.committed(fmt.Sprintf("web%d.example.net", i), "app")
		s.node(fmt.Sprintf("web%d.example.net", i), 100)
	}
	f := s.open()
	b, err := f.Press(t.Context(), broker.Pause{By: "ops", Match: "web1*"}, time.Hour)
	s.must(err)
	if p := b.Pauses[0]; p.Until.Sub(p.Since) != time.Hour || time.Since(p.Since).Abs() > time.Minute {
		t.Errorf("%+v", p)
	}
	var seen []Summary
	got, err := f.Call(t.Context(), b, all, func(s Summary) { seen = append(seen, s) })
	// web1 and web10 to web19 match.
	if err != nil || !got.Complete() || got.Nodes != 20 || got.Confirmed != 20 || got.Paused != 11 || got.Waiting != 1100 || got.Late != 0 || len(got.Missing) != 0 || len(got.Pauses) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	if len(seen) == 0 || seen[0].Confirmed != 0 {
		t.Errorf("progress: %+v", seen)
	}
	b, _, err = f.Release(t.Context(), "", true)
	s.must(err)
	got, err = f.Call(t.Context(), b, (&broker.Pause{Match: "web1*"}).Matches, ignore)
	if err != nil || got.Nodes != 11 || got.Confirmed != 11 || got.Paused != 0 || got.Waiting != 0 || len(got.Pauses) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

// Nodes that are away, deaf, disobedient or liars are named, and no other's confirmation depends on them.
func TestCallNamesThoseThatDontObey(t *testing.T) {
	t.Parallel()
	s := newSite(t, "logs")
	for _, identity := range []string{"good", "away", "publishes", "liar", "old"} {
		s.committed(identity, "syslog")
	}
	s.node("good", 7)
	s.node("publishes", 0).obey = func(p chunk.Pause) *chunk.Obeyed { return &chunk.Obeyed{Change: p.Change} }
	s.node("liar", 0).obey = func(p chunk.Pause) *chunk.Obeyed {
		return &chunk.Obeyed{Change: chunk.MaxPosition, Waiting: math.MaxInt64, Paused: true}
	}
	fresh := s.node("fresh", 0) // nothing of it was ever committed
	old := s.node("old", 0)
	old.obey = func(chunk.Pause) *chunk.Obeyed { old.say(nil); return nil }
	evil := s.connect()
	for _, m := range []nats.Msg{
		{Subject: "logs.sync.good.hello", Data: []byte(`{"pause":{"change":-1}}`)},
		{Subject: "logs.sync.=2E=2E.hello", Data: []byte(`{"instance":"x"}`)},
		{Subject: "logs.sync.good.hello", Data: []byte("\x00")},
	} {
		f := s.open()
		s.must(evil.PublishMsg(&m))
		s.must(evil.Flush())
		s.must(f.nc.Flush())
		if len(f.roll.nodes) > 0 {
			t.Errorf("%s %q is believed", m.Subject, m.Data)
		}
		f.Close()
	}
	f := s.open()
	b, err := f.Press(t.Context(), broker.Pause{}, 0)
	s.must(err)
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
	defer cancel()
	fresh.say(nil) // its regular hello, some time
	got, err := f.Call(ctx, b, all, ignore)
	if err != nil || got.Complete() || got.Nodes != 6 || got.Confirmed != 3 || got.Waiting != 7+maxWaiting || got.Late != 3 {
		t.Errorf("%+v, %v", got, err)
	}
	var names []string
	for _, n := range got.Missing {
		names = append(names, n.Identity)
		switch n.Identity {
		case "away":
			if n.Heard || n.Said != nil || n.Seen.IsZero() || !n.Pause {
				t.Errorf("%+v", n)
			}
		case "publishes":
			if !n.Heard || n.Said == nil || n.Said.Paused {
				t.Errorf("%+v", n)
			}
		case "old":
			if !n.Heard || n.Said != nil {
				t.Errorf("%+v", n)
			}
		}
	}
	slices.Sort(names)
	if strings.Join(names, " ") != "away old publishes" {
		t.Errorf("missing: %v", names)
	}
}

// Somebody else changes the button meanwhile: what holds in the end is what is counted.
func TestCallFollowsTheButton(t *testing.T) {
	t.Parallel()
	s := newSite(t, "logs")
	s.committed("web1", "syslog")
	kv, err := s.js.KeyValue(t.Context(), broker.Positions)
	s.must(err)
	_, err = kv.Put(t.Context(), "complete", []byte("{}")) // a mark of the receivers', not a node
	s.must(err)
	n := s.node("web1", 0)
	n.obey = func(p chunk.Pause) *chunk.Obeyed {
		if p.Holds() {
			return nil // it takes no notice of pauses, only of their end
		}
		return &chunk.Obeyed{Change: p.Change}
	}
	f, other := s.open(), s.open()
	b, err := f.Press(t.Context(), broker.Pause{}, 0)
	s.must(err)
	done := make(chan Summary, 1)
	go func() {
		got, err := f.Call(t.Context(), b, all, ignore)
		if err != nil {
			t.Error(err)
		}
		done <- got
	}()
	for len(n.heard()) == 0 {
		time.Sleep(time.Millisecond)
	}
	b, _, err = other.Release(t.Context(), "", false)
	s.must(err)
	if got := <-done; got.Change != b.Change || got.Confirmed != 1 || len(got.Pauses) != 0 {
		t.Errorf("%+v", got)
	}
}

// A pause that someone set from a machine with another clock neither ends earlier nor drops others' pauses.
func TestClockIsTheBrokers(t *testing.T) {
	t.Parallel()
	s := newSite(t, "logs")
	f := s.open()
	if d := time.Until(f.Now()).Abs(); d > time.Minute {
		t.Errorf("the broker runs on this machine, and its clock is off by %s", d)
	}
	f.ahead = -10 * time.Hour // as if this machine's clock were ten hours ahead
	b, err := f.Press(t.Context(), broker.Pause{}, time.Hour)
	s.must(err)
	if p := b.Pauses[0]; time.Until(p.Since).Round(time.Hour) != -10*time.Hour {
		t.Errorf("%+v", p)
	}
}

func TestTellSaysWhatIsLeft(t *testing.T) {
	now := time.Now()
	b := broker.Button{Change: 9, Pauses: []broker.Pause{{Until: now.Add(time.Nanosecond), Match: "short"}, {Match: "open", Until: time.Time{}}, {Since: now, Until: now.Add(time.Minute), Match: "web*", By: "ops", Reason: "why"}}}
	if p := Tell(&b, "db1", now); p.Holds() || p.Change != 9 {
		t.Errorf("%+v", p)
	}
	if p := Tell(&b, "short", now); !p.Holds() || p.Left != 1 {
		t.Errorf("%+v: 0 would be without end", p)
	}
	if p := Tell(&b, "open", now); !p.Holds() || p.Left != 0 {
		t.Errorf("%+v: a zero Since would lift", p)
	}
	if p := Tell(&b, "web7", now); p.Duration() != time.Minute || p.By != "ops" || p.Reason != "why" || p.Match != "web*" {
		t.Errorf("%+v", p)
	}
}

func TestOpenSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	server, err := broker.Serve(t.Context(), broker.ServerOptions{InProcess: true, Store: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Shutdown()
	if _, err := Open(t.Context(), Config{Broker: broker.Options{Server: server}, Prefix: "logs"}); !errors.Is(err, broker.ErrNoStream) || !strings.Contains(err.Error(), "logforward setup") {
		t.Errorf("%v", err)
	}
}

// The roll is bounded, whoever invents identities.
func TestRollIsBounded(t *testing.T) {
	r := roll{nodes: make(map[string]*entry)}
	for i := range maxNodes {
		r.nodes[fmt.Sprint(i)] = nil
	}
	r.heard("one more", "", nil, time.Now())
	r.known("another", time.Now())
	if len(r.nodes) != maxNodes {
		t.Errorf("%d nodes", len(r.nodes))
	}
}

func TestNodesAreToldAgainAtAGrowingDistance(t *testing.T) {
	r := roll{nodes: map[string]*entry{"deaf": {}, "done": {said: &chunk.Obeyed{Change: 5, Paused: true}}}}
	b := broker.Button{Change: 5, Pauses: []broker.Pause{{}}}
	due := func() string { return strings.Join(r.due(&b, all, time.Now()), " ") }
	if got := due(); got != "deaf" {
		t.Errorf("at first: %q", got)
	}
	if got := due(); got != "" {
		t.Errorf("at once again: %q", got)
	}
	r.heard("deaf", "", &chunk.Obeyed{Change: 5}, time.Now())
	if got := due(); got != "" {
		t.Errorf("for each of its words: %q", got)
	}
	r.nodes["deaf"].told = time.Now().Add(-patience(1))
	if got := due(); got != "deaf" {
		t.Errorf("after a while: %q", got)
	}
	for times, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 3: 4 * time.Second, 4: 5 * time.Second, 100: 5 * time.Second} {
		if got := patience(times); got != want {
			t.Errorf("patience(%d) = %s", times, got)
		}
	}
	r.again()
	if got := due(); got != "deaf" {
		t.Errorf("after a change: %q", got)
	}
}
