package fleet

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/choria-io/tokens"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"logforward/internal/broker"
	"logforward/internal/choria"
	"logforward/test/fleet/site"
)

// transition is what Choria publishes when a machine has changed its state.
type transition struct {
	Identity   string `json:"identity"`
	Machine    string `json:"machine"`
	Transition string `json:"transition"`
	From       string `json:"from_state"`
	To         string `json:"to_state"`
}

// events are what the machines of a fleet publish, in the order in which it comes.
type events struct {
	f *fleet

	mu          sync.Mutex
	transitions []transition
	watchers    []string // the data of watchers' notifications, as JSON
}

// cloudEvent is the envelope of all of them.
type cloudEvent struct {
	Type string          `json:"type"`
	Data json.RawMessage `json:"data"`
}

// listen begins to collect, with no more than the right to view events.
func (f *fleet) listen() *events {
	f.Helper()
	c, err := f.AddClient("viewer", site.ClientOptions{NoFleet: true, Rights: tokens.ClientPermissions{EventsViewer: true}})
	f.must(err)
	nc := f.dial(c)
	e := &events{f: f}
	for _, subject := range []string{"choria.machine.transition", "choria.machine.watcher.*.state"} {
		_, err = nc.Subscribe(subject, e.take)
		f.must(err)
	}
	f.must(nc.FlushWithContext(f.ctx))
	return e
}

// dial connects as a client of the site.
func (f *fleet) dial(c *site.Client) *nats.Conn {
	f.Helper()
	config, err := choria.Load(c.Config())
	f.must(err)
	o := broker.Options{Name: "test"}
	f.must(config.Connection(&o))
	o.URLs, err = config.Brokers(f.ctx)
	f.must(err)
	nc, err := broker.Connect(f.ctx, o)
	f.must(err)
	f.Cleanup(nc.Close)
	return nc
}

func (e *events) take(m *nats.Msg) {
	var event cloudEvent
	if json.Unmarshal(m.Data, &event) != nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if !strings.HasSuffix(event.Type, ".transition") {
		e.watchers = append(e.watchers, string(event.Data))
		return
	}
	var t transition
	if json.Unmarshal(event.Data, &t) == nil {
		e.transitions = append(e.transitions, t)
	}
}

// states are those that a node's machine has entered, from the nth on.
func (e *events) states(n *site.Node, machine string, from int) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []string
	for _, t := range e.transitions {
		if t.Identity == n.Identity && t.Machine == machine {
			all = append(all, t.To)
		}
	}
	return all[min(from, len(all)):]
}

// count is how many there have been so far: a mark for what comes later.
func (e *events) count(n *site.Node, machine string) int { return len(e.states(n, machine, 0)) }

// reach waits until the machine's newest state since a mark is this one, and gives all states since.
func (e *events) reach(n *site.Node, machine string, mark int, state string) []string {
	e.f.Helper()
	var all []string
	e.f.await(func() error {
		all = e.states(n, machine, mark)
		if len(all) == 0 || all[len(all)-1] != state {
			data, err := n.MachineData(machine)
			return fmt.Errorf("%s: machine %s went %v, not yet to %s; its data %v (%v)", n.Name, machine, all, state, data, err)
		}
		return nil
	})
	return all
}

// sequence waits until the machine has gone through exactly these states since a mark.
func (e *events) sequence(n *site.Node, machine string, mark int, want ...string) {
	e.f.Helper()
	e.f.await(func() error {
		all := e.states(n, machine, mark)
		if slices.Equal(all, want) {
			return nil
		}
		data, err := n.MachineData(machine)
		return fmt.Errorf("%s: machine %s went %v, want %v; its data %v (%v)", n.Name, machine, all, want, data, err)
	})
}

// said waits until a watcher of some machine has published all of these texts together.
func (e *events) said(texts ...string) string {
	e.f.Helper()
	var found string
	e.f.await(func() error {
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, w := range e.watchers {
			if !slices.ContainsFunc(texts, func(t string) bool { return !strings.Contains(w, t) }) {
				found = w
				return nil
			}
		}
		return fmt.Errorf("of %d notifications none has %q", len(e.watchers), texts)
	})
	return found
}

// await repeats a check until it succeeds, as long as the fleet has time.
func (f *fleet) await(check func() error) {
	f.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-f.ctx.Done():
			f.Fatalf("%v: %v", f.ctx.Err(), err)
		case <-tick.C:
		}
	}
}

// forget drops what was collected of watchers; transitions stay, for they are counted.
func (e *events) forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.watchers = nil
}

// all are the notifications of one machine's watchers since.
func (e *events) all(machine string) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []string
	for _, w := range e.watchers {
		if strings.Contains(w, `"machine":"`+machine+`"`) {
			all = append(all, w)
		}
	}
	return all
}

// watch runs choria machine watch, whose output its log has.
func (f *fleet) watch(args ...string) *site.Process {
	f.Helper()
	c, err := f.AddClient("watcher"+args[len(args)-1], site.ClientOptions{NoFleet: true, Rights: tokens.ClientPermissions{EventsViewer: true}})
	f.must(err)
	p, err := c.Start(append([]string{"machine", "watch"}, args...)...)
	f.must(err)
	return p
}

// stream waits until a consumer of Choria's stream of events has seen a node's machine enter these states, in this order.
func (f *fleet) stream(n *site.Node, states ...string) {
	f.Helper()
	next := f.consume("choria.machine.transition")
	for i := 0; i < len(states); {
		var t transition
		f.must(json.Unmarshal(next().Data, &t))
		if t.Identity == n.Identity && t.Machine == "logforward" && t.To == states[i] {
			i++
		}
	}
}

// streamedHealth waits until such a consumer has seen a result of a node's check with all of these texts.
func (f *fleet) streamedHealth(n *site.Node, texts ...string) {
	f.Helper()
	next := f.consume("choria.machine.watcher.nagios.state")
	for {
		health := string(next().Data)
		if strings.Contains(health, n.Identity) && strings.Contains(health, "logforward_check") && !slices.ContainsFunc(texts, func(t string) bool { return !strings.Contains(health, t) }) {
			return
		}
	}
}

// consume reads Choria's stream of events from its beginning.
func (f *fleet) consume(subject string) (next func() cloudEvent) {
	f.Helper()
	c, err := f.AddClient("consumer-"+subject, site.ClientOptions{NoFleet: true, Rights: tokens.ClientPermissions{StreamsUser: true, EventsViewer: true}})
	f.must(err)
	nc := f.dial(c)
	js, err := broker.JetStream(nc, "$JS.API")
	f.must(err)
	consumer, err := js.OrderedConsumer(f.ctx, "CHORIA_MACHINE", jetstream.OrderedConsumerConfig{FilterSubjects: []string{subject}})
	f.must(err)
	messages, err := consumer.Messages()
	f.must(err)
	f.Cleanup(messages.Stop)
	return func() (event cloudEvent) {
		f.Helper()
		m, err := messages.Next(jetstream.NextContext(f.ctx))
		f.must(err)
		f.must(json.Unmarshal(m.Data(), &event))
		return event
	}
}
