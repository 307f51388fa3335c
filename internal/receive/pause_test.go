package receive

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

func (s *site) shared() *broker.Shared {
	s.t.Helper()
	js, err := broker.JetStream(s.nc, "")
	s.must(err)
	shared, err := broker.OpenShared(asking(s.t), js)
	s.must(err)
	return shared
}

func (s *site) press(p broker.Pause) broker.Button {
	s.t.Helper()
	p.Since = time.Now()
	b, err := s.shared().Press(asking(s.t), p)
	s.must(err)
	return b
}

func (s *site) release() broker.Button {
	s.t.Helper()
	b, _, err := s.shared().Release(asking(s.t), "", true)
	s.must(err)
	return b
}

// key is what control messages to it are authenticated with.
func (n *node) key() string { return "the key of " + n.identity }

// asks says hello as a node that obeys change, and gives what it is answered about the button.
func (n *node) asks(change uint64) (*chunk.Answer, error) {
	h := chunk.Hello{Instance: "x", Key: n.key(), Logs: map[string]chunk.HelloLog{chunk.Token(n.log): {}}}
	if change > 0 {
		h.Pause = &chunk.Obeyed{Change: change}
	}
	b, err := json.Marshal(h)
	n.s.must(err)
	m, err := n.s.request(n.identity, b)
	if err != nil {
		return nil, err
	}
	return chunk.ParseAnswer(m.Data)
}

// answered waits for an answer with that state of the button.
func (n *node) answered(what string, ok func(*chunk.Pause) bool) {
	n.s.t.Helper()
	eventually(n.s.t, what, func() (bool, string) {
		a, err := n.asks(0)
		if err != nil {
			return false, err.Error()
		}
		return a.Ready && a.Pause != nil && ok(a.Pause), fmt.Sprintf("%+v", a.Pause)
	})
}

func TestHelloForFleetWidePause(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64
	s := newSite(t, func(c *Config) { c.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) } })
	s.startReceiver()
	b := s.press(broker.Pause{Reason: "storage", By: "up=ops", Match: "web*", Until: time.Now().Add(time.Hour)})
	s.node("web1", "syslog").answered("the pause", func(p *chunk.Pause) bool {
		return p.Change == b.Change && p.Holds() && p.Reason == "storage" && p.By == "up=ops" && p.Duration() > 59*time.Minute && p.Duration() <= time.Hour
	})
	s.node("db1", "syslog").answered("no pause", func(p *chunk.Pause) bool { return p.Change == b.Change && !p.Holds() })
	// Its end is by the receiver's clock, and is no change.
	ahead.Store(int64(2 * time.Hour))
	s.node("web1", "syslog").answered("its end", func(p *chunk.Pause) bool { return p.Change == b.Change && !p.Holds() })
}

// The red button is told to the nodes that are known, by their logs or by their hellos, and not only at their next sync.
// It is authenticated with the key of the last hello, or the node would have to ask first.
func TestPauseIsToldAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.startReceiver()
	told := map[string]chan *chunk.Pause{}
	for _, identity := range []string{"web1", "new1"} {
		pauses := make(chan *chunk.Pause, 100)
		told[identity] = pauses
		sub, err := s.nc.Subscribe(chunk.ControlSubject("logs", identity), func(m *nats.Msg) {
			if c, err := chunk.ParseControl(m.Data); err == nil && c.Pause != nil && chunk.Genuine("the key of "+identity, m.Data, m.Header.Get(chunk.MACHeader)) {
				pauses <- c.Pause
			}
		})
		s.must(err)
		defer sub.Unsubscribe()
	}
	n := s.node("web1", "syslog")
	n.send(n.make("known\n"))
	n.waitConfirmed()
	for _, n := range []*node{n, s.node("new1", "empty")} {
		n.answered("anything", func(*chunk.Pause) bool { return true })
	}
	next := func(identity string, change uint64, holds bool) {
		t.Helper()
		for {
			select {
			case p := <-told[identity]:
				if p.Change == change {
					if p.Holds() != holds {
						t.Errorf("%s is told %+v", identity, p)
					}
					return
				}
			case <-time.After(time.Minute):
				t.Fatalf("%s wasn't told of change %d", identity, change)
			}
		}
	}
	b := s.press(broker.Pause{Reason: "storage"})
	next("web1", b.Change, true)
	next("new1", b.Change, true)
	b = s.release()
	next("web1", b.Change, false)
	next("new1", b.Change, false)
}

// A receiver that hasn't read the red button yet must not say that it isn't pressed.
func TestPauseIsNotLiftedByAReceiverThatHasntReadIt(t *testing.T) {
	r := Receiver{now: time.Now}
	r.button.remembered = broker.Button{Change: 3}
	if p := r.pauseOf("web1"); p != nil {
		t.Fatalf("%+v before it was read", p)
	}
	if p := r.answerPause(t.Context(), "web1", &chunk.Hello{Pause: &chunk.Obeyed{Change: 3, Paused: true}}); p != nil {
		t.Fatalf("%+v before it was read", p)
	}
}

// A node that was told directly may know more than the receiver: it is answered by what the bucket says now.
func TestHelloWithALaterButtonHasItRead(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.startReceiver()
	n := s.node("web1", "syslog")
	n.answered("an answer", func(p *chunk.Pause) bool { return !p.Holds() })
	// Nobody looks by themselves from here on.
	s.r.button.looking <- struct{}{}
	b := s.press(broker.Pause{Reason: "storage"})
	asked := make(chan *chunk.Answer, 1)
	go func() {
		a, err := n.asks(b.Change)
		if err != nil {
			t.Error(err)
		}
		asked <- a
	}()
	<-s.r.button.looking
	if a := <-asked; a != nil && (a.Pause == nil || a.Pause.Change != b.Change || !a.Pause.Holds()) {
		t.Errorf("%+v", a.Pause)
	}
	// One that boasts is told what there is, and costs no more than a few looks.
	if a, err := n.asks(b.Change + 1000); err != nil || a.Pause == nil || a.Pause.Change != b.Change {
		t.Errorf("%+v, %v", a, err)
	}
	// While it can't be read nothing is said.
	s.r.button.looking <- struct{}{}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if p := s.r.answerPause(ctx, "web1", &chunk.Hello{Pause: &chunk.Obeyed{Change: b.Change + 1}}); p != nil {
		t.Errorf("%+v", p)
	}
	<-s.r.button.looking
}

func TestWipedBrokerLiftsNoPause(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.startReceiver()
	b := s.press(broker.Pause{Reason: "storage"})
	n := s.node("web1", "syslog")
	n.answered("the pause", func(p *chunk.Pause) bool { return p.Change == b.Change && p.Holds() })
	s.must(s.stopReceiver())
	s.wipe()
	s.startReceiver()
	n.answered("the pause after the wipe", func(p *chunk.Pause) bool {
		if !p.Holds() {
			t.Errorf("lifted: %+v", p)
		}
		return p.Change == b.Change
	})
	got, _, err := s.shared().Button(asking(t))
	if err != nil || got.Change != b.Change || len(got.Pauses) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	// A receiver that was away knows less than the bucket: that holds.
	b = s.release()
	n.answered("the end", func(p *chunk.Pause) bool { return p.Change == b.Change && !p.Holds() })
	// And the end outlasts a wipe as well.
	s.must(s.stopReceiver())
	s.wipe()
	s.setup(1) // by an administrator, without the button
	s.startReceiver()
	n.answered("the end after the wipe", func(p *chunk.Pause) bool { return p.Change == b.Change && !p.Holds() })
}

// A bucket that came out of a backup is brought forward; one whose button was deleted by hand stays so.
func TestBucketWithAnOlderButton(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.startReceiver()
	n := s.node("web1", "syslog")
	old := s.press(broker.Pause{Reason: "old"})
	b := s.press(broker.Pause{Reason: "new"})
	n.answered("the pause", func(p *chunk.Pause) bool { return p.Change == b.Change })
	shared := s.shared()
	_, revision, err := shared.Button(asking(t))
	s.must(err)
	s.must(shared.PutButton(asking(t), old, revision))
	eventually(t, "the later state in the bucket", func() (bool, string) {
		got, _, err := shared.Button(asking(t))
		return err == nil && got.Change == b.Change && got.Pauses[0].Reason == "new", fmt.Sprintf("%+v, %v", got, err)
	})
	js, err := broker.JetStream(s.nc, "")
	s.must(err)
	kv, err := js.KeyValue(asking(t), broker.Bucket)
	s.must(err)
	s.must(kv.Delete(asking(t), "pause"))
	n.answered("that it was deleted", func(p *chunk.Pause) bool { return p.Change == b.Change+1 && !p.Holds() })
	if next := s.press(broker.Pause{Reason: "once more"}); next.Change <= b.Change+1 {
		t.Errorf("change %d behind %d", next.Change, b.Change+1)
	}
	n.answered("that it was pressed again", func(p *chunk.Pause) bool { return p.Holds() })
}

// A notice without a reply subject is read, remembered and not answered; the nodes kept in mind are bounded.
func TestNoticesAreRememberedWithinBounds(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.startReceiver()
	s.node("db1", "syslog").answered("it to listen", func(*chunk.Pause) bool { return true })
	good, err := json.Marshal(chunk.Hello{Instance: "x", Pause: &chunk.Obeyed{Change: 5, Paused: true}})
	s.must(err)
	s.must(s.nc.Publish("logs.sync.web1.hello", good))
	eventually(t, "it to be met", func() (bool, string) {
		s.r.mu.Lock()
		defer s.r.mu.Unlock()
		_, ok := s.r.button.met["web1"]
		return ok, fmt.Sprint(len(s.r.button.met))
	})
	s.r.mu.Lock()
	for i := range maxMet {
		s.r.button.met[fmt.Sprint("n", i)] = met{at: time.Now()}
	}
	full := len(s.r.button.met)
	s.r.mu.Unlock()
	s.r.meet("one too many", "")
	if n := len(s.r.button.met); n != full {
		t.Errorf("%d nodes kept", n)
	}
	s.r.mu.Lock()
	for k := range s.r.button.met {
		s.r.button.met[k] = met{at: time.Now().Add(-2 * metFor)}
	}
	s.r.mu.Unlock()
	s.r.meet("one", "")
	if n := len(s.r.button.met); n != 1 {
		t.Errorf("%d nodes kept, all but one of long ago", n)
	}
}
