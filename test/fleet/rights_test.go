package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"logforward/internal/broker"
	"logforward/internal/choria"
	"logforward/internal/chunk"
	"logforward/test/fleet/site"
)

// connect connects as a node does, and gives what the broker refuses.
func (f *fleet) connect(n *site.Node) (*nats.Conn, chan broker.Refusal) {
	f.Helper()
	refusals := make(chan broker.Refusal, 8)
	c, err := choria.Load(n.ServerConfig())
	f.must(err)
	o := broker.Options{Name: "test", OnPermission: func(r broker.Refusal) { refusals <- r }}
	f.must(c.Connection(&o))
	o.URLs, err = c.Brokers(f.ctx)
	f.must(err)
	nc, err := broker.Connect(f.ctx, o)
	f.must(err)
	f.Cleanup(nc.Close)
	return nc, refusals
}

// refused tells whether the broker refused what was done before the flush. A refusal that is wanted is waited for longer.
func (f *fleet) refused(nc *nats.Conn, refusals chan broker.Refusal, want bool) bool {
	f.Helper()
	f.must(nc.FlushWithContext(f.ctx)) // the refusal comes before the pong
	wait := 100 * time.Millisecond     // it is handed over by another goroutine
	if want {
		wait = patience
	}
	select {
	case <-refusals:
		return true
	case <-time.After(wait):
		return false
	}
}

func TestANodeMayPublishItsOwnLogsAlone(t *testing.T) {
	t.Parallel()
	f := newFleet(t, site.Tokens, 2)
	nc, refusals := f.connect(f.nodes[0])
	own, other := chunk.Token(f.nodes[0].Identity), chunk.Token(f.nodes[1].Identity)
	for _, test := range []struct {
		subject string
		refused bool
	}{
		{"logs.0." + own + ".app", false},
		{"logs.sync." + own + ".hello", false},
		{"logs.0." + other + ".app", true},
		{"logs.1." + other + ".app", true},
		{"logs.sync." + other + ".hello", true},
		{"logs.0." + own, true},
		{"$KV.LOGFORWARD.pause", true},
		{"$KV.LOGFORWARD_POSITIONS.x", true},
		{"$JS.API.STREAM.DELETE.LOGFORWARD_0", true},
		{"$JS.API.STREAM.MSG.GET.LOGFORWARD_0", true},
		{"$JS.API.CONSUMER.LIST.LOGFORWARD_0", true},
	} {
		f.must(nc.Publish(test.subject, []byte("x")))
		if got := f.refused(nc, refusals, test.refused); got != test.refused {
			t.Errorf("publish %s: refused %t, want %t", test.subject, got, test.refused)
		}
	}
	for _, subject := range []string{"logs.>", "logs.0." + other + ".>", "logs.sync.>", "choria.reply.>", "$JS.>"} {
		sub, err := nc.SubscribeSync(subject)
		f.must(err)
		if !f.refused(nc, refusals, true) {
			t.Errorf("subscribe %s: not refused", subject)
		}
		_ = sub.Unsubscribe() // the broker has refused it
	}
}

// A daemon that says it is another node is seen by nobody but itself.
func TestADaemonCannotBeAnotherNode(t *testing.T) {
	t.Parallel()
	f := newFleet(t, site.Tokens, 2)
	_, err := f.Command(f.ctx, "validate", "--config", f.nodes[0].Config(), "--identity", f.nodes[1].Identity)
	if err == nil {
		t.Fatal("another's identity with the own token is said to be all right")
	}
	n := f.nodes[0]
	f.must(n.Forwarder.Stop())
	b, err := os.ReadFile(n.ServerConfig())
	f.must(err)
	f.must(os.WriteFile(n.ServerConfig(), []byte(strings.ReplaceAll(string(b), "identity = "+n.Identity, "identity = "+f.nodes[1].Identity)), 0o600))
	f.define(n, "forged")
	f.must(n.Write("forged.log", lines("forged", 0, 10)))
	if _, err := f.Command(f.ctx, "validate", "--json", "--config", n.Config()); err == nil {
		t.Error("a configuration that names another node is said to be all right")
	}
	f.must(n.StartForwarder(f.ctx))
	f.must(n.Forwarder.Await(f.ctx, "msg=\"the broker refuses\".*"+regexp.QuoteMeta(chunk.Token(f.nodes[1].Identity))))
	if b, err := f.receiver.Received(f.nodes[1], "forged"); err != nil || len(b) != 0 {
		t.Errorf("%d bytes of the forged log arrived (%v)", len(b), err)
	}
}

// findings runs validate, and gives what it found at all.
func (f *fleet) findings(n *site.Node) (failed []string) {
	f.Helper()
	out, err := f.Command(f.ctx, "--json", "validate", "--config", n.Config())
	var all []struct{ Check, Result, Text string }
	if uerr := json.Unmarshal(out, &all); uerr != nil {
		f.Fatalf("%v: %s (%v)", uerr, out, err)
	}
	for _, x := range all {
		f.Logf("%s %s: %s", x.Result, x.Check, x.Text)
		if x.Result == "failed" {
			failed = append(failed, x.Text)
		}
	}
	if (err != nil) != (len(failed) > 0) {
		f.Errorf("%d checks failed, and the command ended with %v", len(failed), err)
	}
	return failed
}

func TestValidateNamesTheMissingRight(t *testing.T) {
	t.Parallel()
	f := newFleet(t, site.Tokens, 1)
	if failed := f.findings(f.nodes[0]); len(failed) != 0 {
		t.Errorf("a node as it should be: %q", failed)
	}
	n, err := f.AddNode("n9", site.NodeOptions{Subjects: []string{"elsewhere.>"}})
	f.must(err)
	want := "--subjects 'logs.*." + chunk.Token(n.Identity) + ".>'"
	if failed := f.findings(n); !slices.ContainsFunc(failed, func(s string) bool { return strings.Contains(s, want) && strings.Contains(s, "choria jwt server") }) {
		t.Errorf("%q, want the command that grants it with %s", failed, want)
	}
}

// Choria's own clients go on where no authority vouches for the broker; a daemon must not.
func TestUnverifiedBrokerIsRefused(t *testing.T) {
	t.Parallel()
	for _, security := range []site.Security{site.Tokens, site.Certificates} {
		t.Run(security.String(), func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, security, 1)
			n := f.nodes[0]
			f.must(n.Forwarder.Stop())
			other, err := os.MkdirTemp(f.Dir, "other-")
			f.must(err)
			ca, err := site.OtherAuthority(other)
			f.must(err)
			b, err := os.ReadFile(n.ServerConfig())
			f.must(err)
			f.must(os.WriteFile(n.ServerConfig(), []byte(strings.ReplaceAll(string(b), filepath.Join(f.Dir, "authority", "ca.pem"), ca)), 0o600))
			if failed := f.findings(n); !slices.ContainsFunc(failed, func(s string) bool { return strings.Contains(s, "certificate") }) {
				t.Errorf("%q, want a word about the certificate", failed)
			}
			f.define(n, "app")
			f.must(n.Write("app.log", lines("x", 0, 10)))
			f.must(n.StartForwarder(f.ctx))
			f.must(n.Forwarder.Await(f.ctx, "certificate"))
			if got, err := f.receiver.Received(n, "app"); err != nil || len(got) != 0 {
				t.Errorf("%d bytes were sent to a broker that nobody vouches for (%v)", len(got), err)
			}
		})
	}
}

// A receiver's token has no rights beyond its work: it can't delete streams, nor ask the fleet.
func TestAReceiverMayNotAdminister(t *testing.T) {
	t.Parallel()
	f := newFleet(t, site.Tokens, 1)
	c, err := choria.Load(filepath.Join(f.Dir, "clients", "r1", "client.conf"))
	f.must(err)
	o := broker.Options{Name: "test"}
	f.must(c.Connection(&o))
	o.URLs, err = c.Brokers(f.ctx)
	f.must(err)
	nc, err := broker.Connect(f.ctx, o)
	f.must(err)
	defer nc.Close()
	js, err := broker.JetStream(nc, o.Identity.StreamAPI())
	f.must(err)
	if _, err := js.Stream(f.ctx, "LOGFORWARD_0"); err != nil {
		t.Errorf("look at a stream: %v", err)
	}
	short, cancel := context.WithTimeout(f.ctx, 500*time.Millisecond)
	defer cancel()
	if err := js.DeleteStream(short, "LOGFORWARD_0"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("delete a stream: %v, want no answer", err)
	}
	if _, err := js.Stream(f.ctx, "LOGFORWARD_0"); errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Error("the stream is gone")
	}
	nobody, err := f.AddClient("nobody", site.ClientOptions{NoFleet: true})
	f.must(err)
	if r, err := nobody.Request(f.ctx, "rpcutil", "ping", nil, f.nodes[0]); err == nil && len(r.Replies) > 0 {
		t.Errorf("who may not ask the fleet was answered: %+v", r.Replies)
	}
}
