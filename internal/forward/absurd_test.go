package forward

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

// A change of the red button that no node may say in its hello must not be taken from a control message either: no receiver would answer
// this node ever again, after a restart neither. On Choria other nodes may publish to this one's control subject.
func TestForwardTakesNoPauseThatItCouldNotSay(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	n.append("app", []byte("one\n"))
	n.start(n.log("app"))
	n.delivered("app", []byte("one\n"))
	for _, change := range []uint64{math.MaxUint64, chunk.MaxPosition + 1} {
		c.tell(chunk.Control{Pause: &chunk.Pause{Change: change, Since: time.Now(), By: "nobody"}})
	}
	p := c.press(chunk.Pause{}, 0)
	c.tell(chunk.Control{Pause: &p}) // after these, on the same subscription
	c.obeyed("what the centre says", func(o chunk.Obeyed) bool { return o == chunk.Obeyed{Change: p.Change} })
	hellos := func() (h int) { c.with(func() { h = c.hellos }); return h }
	before := hellos()
	eventually(t, "hellos are understood", func() bool { return hellos() > before })
	n.append("app", []byte("two\n"))
	n.delivered("app", []byte("one\ntwo\n"))
}

// One that an older version took and kept ends with the restart.
func TestForwardForgetsAPauseThatItCouldNotSay(t *testing.T) {
	t.Parallel()
	s, err := OpenState(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	now := time.Now()
	if err := s.setFleetPause("central", &held{Pause: chunk.Pause{Change: math.MaxUint64, Since: now}}); err != nil {
		t.Fatal(err)
	}
	if h, err := s.fleetPause("central", now); h != nil || err == nil {
		b, _ := json.Marshal(h)
		t.Errorf("%s, %v", b, err)
	}
}

// A layout with a prefix that the node's credentials don't cover is a mistake that an operator takes back. What was to be sent by it was refused, so nothing of the
// log can be there, and the log must not wait for its confirmation for ever.
func TestForwardLeavesALayoutThatItMayNotPublishBy(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	token := chunk.Token(identity)
	c.raw(func(o *server.Options) {
		o.Users = []*server.User{{Username: "all", Password: "x"}, {Username: "node", Password: "x", Permissions: &server.Permissions{
			Publish:   &server.SubjectPermission{Allow: []string{"logs.*." + token + ".>"}},
			Subscribe: &server.SubjectPermission{Allow: []string{"logs.control." + token, "_INBOX.>"}},
		}}}
	})
	n := newNode(t, c)
	n.change = func(cfg *Config) {
		cfg.Destinations["central"] = Destination{Broker: broker.Options{URLs: []string{c.listen}, User: "node", Password: "x"}}
	}
	n.append("app", []byte("one\n"))
	n.start(n.log("app"))
	n.delivered("app", []byte("one\n"))
	change := func(l chunk.Layout) {
		c.with(func() {
			c.layout = l
			c.setup()
			c.work(0)
		})
	}
	change(chunk.Layout{ID: "layout-2", Prefix: "other", Partitions: 1})
	f := n.engine.runs["app"]
	by := func(id string) bool {
		got := make(chan bool)
		f.post(func() { got <- f.rec.Layout.ID == id })
		return <-got
	}
	eventually(t, "the node takes the new layout", func() bool { return by("layout-2") })
	n.append("app", []byte("two\n"))
	eventually(t, "it is refused", func() bool { return n.status("app").State == Blocked })
	c.with(func() { c.layout = chunk.Layout{ID: "layout-3", Prefix: "logs", Partitions: 1} })
	eventually(t, "the next layout is offered", func() bool {
		got := make(chan bool)
		f.post(func() { got <- f.layout != nil && !f.bare.IsZero() })
		return <-got
	})
	f.post(func() { f.bare = f.bare.Add(-noStreamFor) }) // the time goes by
	n.delivered("app", []byte("one\ntwo\n"))
	if !by("layout-3") {
		t.Error("the layout is still the one that isn't permitted")
	}
}

// A message that nobody asked for can't use up a log's epochs: of the last one there is no next.
func TestForwardBelievesNoAbsurdEpochUnasked(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	n.append("app", []byte("one\n"))
	n.start(n.log("app"))
	n.delivered("app", []byte("one\n"))
	was := n.status("app").Epoch
	c.tell(chunk.Control{Fork: []chunk.Fork{{Log: "app", Epoch: was, Known: chunk.MaxPosition}}})
	eventually(t, "a new epoch", func() bool { return n.status("app").Epoch > was })
	n.append("app", []byte("two\n"))
	n.delivered("app", []byte("one\ntwo\n"))
}
