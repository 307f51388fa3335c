package tap

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

// serve starts a plain NATS server and gives its URL.
func serve(t *testing.T, o *server.Options) string {
	t.Helper()
	o.Host, o.Port, o.NoLog, o.NoSigs = "127.0.0.1", server.RANDOM_PORT, true, true
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the server doesn't start")
	}
	return s.ClientURL()
}

// node publishes one log's chunks.
type node struct {
	t       *testing.T
	nc      *nats.Conn
	subject string
	chunk.Chunk
}

func newNode(t *testing.T, url, subject string) *node {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return &node{t: t, nc: nc, subject: subject, Chunk: chunk.Chunk{Epoch: 7, File: "f"}}
}

// make is the next chunk; what is published, and how often, is the test's business.
func (n *node) make(text string) *chunk.Chunk {
	c := n.Chunk
	c.Data, c.Length, c.Checksum = []byte(text), uint64(len(text)), chunk.Sum([]byte(text))
	n.Position, n.Digest = c.End(), c.DigestAfter()
	return &c
}

func (n *node) publish(chunks ...*chunk.Chunk) {
	n.t.Helper()
	for _, c := range chunks {
		data, encoding := c.Data, chunk.Plain
		if len(data) >= chunk.CompressFrom {
			z, err := chunk.NewCompressor(chunk.S2)
			if err != nil {
				n.t.Fatal(err)
			}
			data, encoding = z.Compress(nil, data)
		}
		if err := n.nc.PublishMsg(&nats.Msg{Subject: n.subject, Header: c.Header(encoding), Data: data}); err != nil {
			n.t.Fatal(err)
		}
	}
	if err := n.nc.Flush(); err != nil {
		n.t.Fatal(err)
	}
}

// tapping runs a tap beside the test; what it shows comes as text.
func tapping(t *testing.T, url, identity, log string) (*Tap, chan string) {
	t.Helper()
	shown, listening, ended := make(chan string, 100), make(chan struct{}), make(chan error, 1)
	p := &Tap{Broker: broker.Options{URLs: []string{url}}, Prefix: "logs", Identity: identity, Log: log, Listening: func() { close(listening) }}
	p.Show = func(e *Event) error {
		text := string(e.Data)
		switch {
		case e.Missing > 0:
			text = fmt.Sprintf("[%d missing at %d]", e.Missing, e.Position)
		case e.Gap != nil:
			text = "[" + e.Gap.Cause + "]"
		case e.Fork:
			text = "[fork]" + text
		}
		shown <- e.Identity + "/" + e.Log + " " + text
		return nil
	}
	p.now = func() time.Time { return time.Unix(0, 0) }
	ctx, cancel := context.WithCancel(t.Context())
	go func() { ended <- p.Run(ctx); close(ended) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-listening:
	case err := <-ended:
		t.Fatal(err)
	}
	return p, shown
}

func see(t *testing.T, shown chan string, want ...string) {
	t.Helper()
	for _, w := range want {
		select {
		case got := <-shown:
			if got != w {
				t.Errorf("%q, want %q", got, w)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%q isn't shown", w)
		}
	}
}

const web = "web1.example.net/app "

func TestTapShowsEachByteOnceInOrder(t *testing.T) {
	url := serve(t, &server.Options{})
	_, shown := tapping(t, url, "web1.example.net", "app")
	n := newNode(t, url, "logs.0.web1=2Eexample=2Enet.app")
	other := newNode(t, url, "logs.0.web2=2Eexample=2Enet.app")
	a, b, c, d := n.make("a\n"), n.make("b\n"), n.make("c\n"), n.make(strings.Repeat("long ", 1000))
	other.publish(other.make("of another\n"))
	n.publish(a, a, c, d, b, c, a, d) // a hole, and a node that goes back
	see(t, shown, web+"a\n", web+"b\n", web+"c\n", web+strings.Repeat("long ", 1000))
	n.subject = "logs.1.web1=2Eexample=2Enet.app" // after a change of layout
	e := n.make("e\nf\n")
	half := *e
	half.Data, half.Length, half.Checksum = e.Data[:2], 2, chunk.Sum(e.Data[:2])
	n.publish(&half, e)
	see(t, shown, web+"e\n", web+"f\n")
	if err := n.nc.Publish(n.subject, []byte("rubbish")); err != nil {
		t.Fatal(err)
	}
	gap := n.Chunk
	gap.Gap, gap.Length = &chunk.Gap{Cause: "truncated", Bytes: 5}, 5
	n.Position, n.Digest = gap.End(), gap.DigestAfter()
	n.publish(&gap, &gap, n.make("behind it\n"))
	see(t, shown, web+"[truncated]", web+"behind it\n")
	old := n.make("of the old epoch\n")
	n.Chunk = chunk.Chunk{Epoch: 8, Predecessor: 7, File: "g"}
	n.publish(n.make("new\n"))
	old.Position = n.Position // where it would continue the new one
	n.publish(old)
	n.Digest++
	n.publish(n.make("forked\n"))
	see(t, shown, web+"new\n", web+"[fork]forked\n")
}

func TestTapGoesOnBehindWhatNeverComes(t *testing.T) {
	url := serve(t, &server.Options{})
	p, shown := tapping(t, url, "*", "*")
	n := newNode(t, url, "logs.0.n1.app")
	n.publish(n.make("a\n"))
	see(t, shown, "n1/app a\n")
	n.make("never published\n")
	late := n.make("late\n")
	n.publish(late)
	other := newNode(t, url, "logs.0.n2.x")
	other.publish(other.make("one\n"))
	see(t, shown, "n2/x one\n") // so late has been looked at
	p.now = func() time.Time { return time.Unix(0, 0).Add(patience) }
	n.publish(late)
	see(t, shown, "n1/app [16 missing at 2]", "n1/app late\n")
}

// The time that a tap is given begins when it listens: on a slow way to the broker it would be over before.
func TestTapsTimeBeginsWhenItListens(t *testing.T) {
	listened := false
	p := &Tap{Broker: broker.Options{URLs: []string{serve(t, &server.Options{})}}, Prefix: "logs", Identity: "*", Log: "*", For: time.Nanosecond, Listening: func() { listened = true }}
	if err := p.Run(t.Context()); err != nil || !listened {
		t.Errorf("listened %t, %v", listened, err)
	}
}

func TestTapSaysWhichRightIsMissing(t *testing.T) {
	url := serve(t, &server.Options{Users: []*server.User{{Username: "u", Password: "p", Permissions: &server.Permissions{Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.>"}}}}}})
	p := &Tap{Broker: broker.Options{URLs: []string{url}, User: "u", Password: "p"}, Prefix: "logs", Identity: "*", Log: "app"}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := p.Run(ctx); err == nil || !strings.Contains(err.Error(), "logs.*.*.app") || !strings.Contains(err.Error(), "--subscribe") {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{"", "..", "a/b"} {
		p.Log = bad
		if err := p.Run(ctx); err == nil {
			t.Errorf("log %q is followed", bad)
		}
	}
}
