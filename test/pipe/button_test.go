package pipe

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"logforward/internal/broker"
	"logforward/internal/chunk"
	roll "logforward/internal/fleet"
	"logforward/internal/forward"
)

// crowd is many nodes on one rig. They say hello once in a minute, so that what is heard of them earlier is
// what they were told.
func (r *rig) crowd(size int, direct bool) []*node {
	r.t.Helper()
	nodes := make([]*node, size)
	for i := range nodes {
		n := r.newNode(fmt.Sprintf("web%d.example.net", i))
		n.change = func(c *forward.Config) {
			c.Limits.SyncInterval = time.Minute
			if direct {
				c.Limits.Poll, c.Limits.Checkpoint = time.Second, time.Second // as they are outside tests
				c.Destinations["central"] = forward.Destination{Broker: broker.Options{URLs: []string{r.serve.Listen}}}
			}
		}
		n.write("app.log", one(n))
		n.start()
		nodes[i] = n
	}
	for _, n := range nodes {
		n.confirmed("app", len(one(n)))
	}
	return nodes
}

func one(n *node) []byte { return fmt.Appendf(nil, "one of %s\n", n.identity) }

// confirmed waits until the node knows that so much is central.
func (n *node) confirmed(log string, position int) {
	n.t.Helper()
	n.eventually("it to be confirmed", func() error {
		if s := n.status(log); s.Confirmed < uint64(position) {
			return fmt.Errorf("confirmed %d of %d: %s %s", s.Confirmed, position, s.State, s.LastError)
		}
		return nil
	})
}

func (r *rig) openFleet() *roll.Fleet {
	r.t.Helper()
	f, err := roll.Open(r.t.Context(), roll.Config{Broker: broker.Options{URLs: []string{r.serve.Listen}}, Prefix: "logs"})
	r.must(err)
	r.t.Cleanup(f.Close)
	return f
}

// call waits until all nodes obey, or time is up, or a summary is enough for one of these.
func (r *rig) call(f *roll.Fleet, b broker.Button, wait time.Duration, enough ...func(roll.Summary) bool) roll.Summary {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), wait)
	defer cancel()
	s, err := f.Call(ctx, b, func(string) bool { return true }, func(s roll.Summary) {
		for _, is := range enough {
			if is(s) {
				cancel()
			}
		}
	})
	r.must(err)
	return s
}

// TestRedButton stops fifty nodes, and one that is away hears of it before it sends anything new.
func TestRedButton(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	nodes := r.crowd(50, false)
	away := nodes[7]
	away.speaks.set(true)
	r.eventually("one to be away", func() error {
		if d := away.engine.Destinations(); d[0].Connected {
			return fmt.Errorf("%+v", d)
		}
		return nil
	})

	f := r.openFleet()
	b, err := f.Press(t.Context(), broker.Pause{By: "operator", Reason: "test"}, time.Hour)
	r.must(err)
	s := r.call(f, b, patience, func(s roll.Summary) bool { return s.Nodes == 50 && s.Confirmed == 49 })
	if s.Nodes != 50 || s.Confirmed != 49 || s.Paused != 49 || s.Late != 1 || len(s.Missing) != 1 || s.Missing[0].Identity != away.identity || s.Missing[0].Heard {
		t.Errorf("%+v", s)
	}
	two := []byte("two, during the pause\n")
	for _, n := range nodes {
		n.write("app.log", two)
	}
	for _, n := range nodes {
		n.seen("app", len(two))
	}
	away.speaks.set(false)
	s = r.call(r.openFleet(), b, patience) // asks everybody anew
	if s.Nodes != 50 || s.Confirmed != 50 || s.Waiting != int64(50*len(two)) {
		t.Errorf("%+v", s)
	}
	for _, n := range nodes {
		if s := n.status("app"); s.State != forward.Paused || s.Stored != uint64(len(one(n))) {
			t.Errorf("%s: %s, stored %d", n.identity, s.State, s.Stored)
		}
	}
	b, lifted, err := f.Release(t.Context(), "", false)
	r.must(err)
	if s = r.call(f, b, patience); len(lifted) != 1 || s.Confirmed != 50 || s.Paused != 0 {
		t.Errorf("%+v", s)
	}
	for _, n := range nodes {
		n.confirmed("app", len(one(n))+len(two))
		r.must(n.bytes("app", join(one(n), two)))
	}
}

// BenchmarkRedButton measures how soon each of 1,000 engines, with a connection of its own, has stopped and said so, and
// how soon it goes on.
func BenchmarkRedButton(b *testing.B) {
	const size = 1000
	for b.Loop() {
		r := newRig(b)
		r.pace = 50 * time.Millisecond
		nodes := r.crowd(size, true)
		heard := r.notices()
		f := r.openFleet()
		for _, way := range []struct {
			name  string
			press func() (broker.Button, error)
		}{
			{"pause", func() (broker.Button, error) { return f.Press(b.Context(), broker.Pause{By: "bench"}, 0) }},
			{"resume", func() (broker.Button, error) {
				state, _, err := f.Release(b.Context(), "", true)
				return state, err
			}},
		} {
			begin := time.Now()
			state, err := way.press()
			r.must(err)
			s := r.call(f, state, time.Minute)
			if s.Confirmed != size || s.Nodes != size {
				b.Fatalf("%s: %d of %d confirmed, %d known", way.name, s.Confirmed, size, s.Nodes)
			}
			took := heard.since(begin, state.Change)
			b.ReportMetric(took[size/2].Seconds(), way.name+"-p50-s")
			b.ReportMetric(took[size*95/100].Seconds(), way.name+"-p95-s")
			b.ReportMetric(took[size-1].Seconds(), way.name+"-max-s")
		}
		var stopping sync.WaitGroup
		for _, n := range nodes {
			stopping.Go(n.stop)
		}
		stopping.Wait()
		r.stopReceiver()
		r.stopBroker()
	}
}

// heard is when each node first said that it obeys a state of the button.
type heard struct {
	mu sync.Mutex
	at map[uint64]map[string]time.Time // by change and identity
}

// notices listens to all nodes from now on.
func (r *rig) notices() *heard {
	r.t.Helper()
	nc, err := broker.Connect(r.t.Context(), broker.Options{URLs: []string{r.serve.Listen}})
	r.must(err)
	r.t.Cleanup(nc.Close)
	h := &heard{at: map[uint64]map[string]time.Time{}}
	_, err = nc.Subscribe(chunk.SyncSubject("logs", "*"), func(m *nats.Msg) {
		now := time.Now()
		said, err := chunk.ParseHello(m.Data)
		if err != nil || said.Pause == nil {
			return
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		change := said.Pause.Change
		if h.at[change] == nil {
			h.at[change] = map[string]time.Time{}
		}
		if _, known := h.at[change][m.Subject]; !known {
			h.at[change][m.Subject] = now
		}
	})
	r.must(err)
	r.must(nc.Flush())
	return h
}

// since is how long each took to obey a change, the quickest first.
func (h *heard) since(begin time.Time, change uint64) []time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	var took []time.Duration
	for _, at := range h.at[change] {
		took = append(took, at.Sub(begin))
	}
	slices.Sort(took)
	return took
}
