package forward

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"logforward/internal/broker"
	"logforward/internal/chunk"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

// A broker whose max_payload is lowered by a reload tells its clients nothing. It refuses the next chunk and ends the connection,
// in a way after which the client library doesn't connect again. With a new connection smaller chunks go out.
func TestForwardGoesOnAfterTheBrokerTakesSmallerMessages(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	s := c.raw(func(o *server.Options) { o.MaxPayload = 1 << 20 })
	n := newNode(t, c)
	r := seeded(t)
	want := lines(r, 100)
	n.append("app", want)
	n.start(n.log("app"))
	n.delivered("app", want)
	s.reload(func(o *server.Options) { o.MaxPayload = 64 << 10 })
	more := bytes.Repeat([]byte("much\n"), 100<<10)
	n.append("app", more)
	n.delivered("app", append(want, more...))
}

// A stream may take less than its broker, and says so only by refusing.
func TestForwardFindsWhatAStreamTakes(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	c.options = jetstream.StreamConfig{MaxMsgSize: 40 << 10}
	c.restart()
	n := newNode(t, c)
	want := bytes.Repeat([]byte("much\n"), 100<<10)
	n.append("app", want)
	n.start(n.log("app"))
	n.delivered("app", want)
	if g := c.look("app"); len(g.gaps) != 0 || len(g.epochs) != 1 {
		t.Errorf("gaps %+v, epochs %v", g.gaps, g.epochs)
	}
}

// A broker tells its clients of a smaller max_payload together with other news. The client library then refuses what is bigger, without a new connection.
func TestForwardHearsOfSmallerMessagesWithoutANewConnection(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	s := c.raw(func(o *server.Options) {
		o.MaxPayload, o.LameDuckDuration, o.LameDuckGracePeriod = 1<<20, 2*time.Hour, time.Hour
	})
	n := newNode(t, c)
	want := lines(seeded(t), 100)
	n.append("app", want)
	n.start(n.log("app"))
	n.delivered("app", want)
	s.reload(func(o *server.Options) { o.MaxPayload = 64 << 10 })
	go s.LameDuckShutdown() // its clients are told, and may stay for an hour, though without JetStream
	var l *link
	for _, l = range n.engine.links {
	}
	eventually(t, "the client library knows", func() bool { return l.takes() == 64<<10 })
	f, limit := n.engine.runs["app"], make(chan int)
	f.post(func() {
		f.failed(fmt.Errorf("%w (65536 bytes)", broker.ErrPayloadTooBig))
		limit <- f.limit()
	})
	if got := <-limit; got != 64<<10-chunk.HeaderRoom {
		t.Errorf("chunks of %d bytes", got)
	}
	if !n.engine.Destinations()[0].Connected {
		t.Error("it isn't connected any more")
	}
}
