package receive

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"logforward/internal/chunk"
)

// A receiver that is stopped between all of its steps leaves nothing behind the stream's back: the broker's
// copy goes last.
func TestCutOffConnectionLosesNothing(t *testing.T) {
	s := newSite(t, func(c *Config) { c.RotateSize = 4096 })
	s.startReceiver()
	n := s.node("web1", "syslog")
	for i := range 200 {
		n.send(n.make(fmt.Sprintf("%d %s\n", i, strings.Repeat("y", 80))))
		if i%40 == 20 {
			s.r.unlinked()
			s.r.linked()
		}
	}
	n.waitConfirmed()
	n.same()
}

// A hello that isn't one is answered by silence, and a reply goes to inboxes alone.
func TestHostileHellosAreNotAnswered(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.startReceiver()
	n := s.node("web1", "syslog")
	n.place(t, n.here())
	good, err := json.Marshal(chunk.Hello{Instance: "x"})
	s.must(err)
	heard := make(chan *nats.Msg, 10)
	sub, err := s.nc.ChanSubscribe("logs.0.web2.syslog.>", heard)
	s.must(err)
	defer sub.Unsubscribe()
	for _, m := range []*nats.Msg{
		{Subject: "logs.sync.web1.hello", Reply: "logs.0.web2.syslog.x", Data: good},
		{Subject: "logs.sync.=2E=2E.hello", Reply: "_INBOX.x", Data: good},
		{Subject: "logs.sync.web1.hello", Reply: "_INBOX.x", Data: []byte(`{"logs":{"a":{"confirmed":5}}}`)},
		{Subject: "logs.sync.web1.hello", Reply: "_INBOX.x", Data: []byte("rubbish")},
	} {
		s.must(s.nc.PublishMsg(m))
	}
	n.place(t, n.here()) // it comes behind them, and is answered
	select {
	case m := <-heard:
		t.Errorf("published to %s", m.Subject)
	default:
	}
	// A word without an epoch makes no log.
	if l := n.place(t, chunk.HelloLog{Stored: 5, Confirmed: 5}); l.Known || l.Position != 0 {
		t.Errorf("%+v", l)
	}
	if st := s.r.Status(t.Context()); len(st.Logs) != 0 {
		t.Errorf("%+v", st.Logs)
	}
}
