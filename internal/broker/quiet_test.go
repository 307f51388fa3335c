package broker_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"logforward/internal/broker"
)

// outcome is one call of a done function.
type outcome struct {
	name string
	ack  broker.Ack
}

// quietly publishes to a subject, with an answer if one is asked for, and has the outcome sent under a name.
func quietly(p *broker.Publisher, subject, name string, asked bool, to chan<- outcome) {
	publish := p.PublishQuietly
	if asked {
		publish = p.Publish
	}
	publish(subject, nil, []byte(name), func(a broker.Ack) { to <- outcome{name, a} })
}

func TestPublishQuietlyEndsWithTheNextAnswerOfItsSubject(t *testing.T) {
	nc := connect(t, broker.Options{Server: serve(t, broker.ServerOptions{InProcess: true})})
	js := streamAPI(t, nc)
	setUp(t, js, broker.Wanted{Partitions: 1})
	p := newPublisher(t, nc, broker.PublisherOptions{Timeout: time.Hour})
	const a, b, c = "logs.0.node.a", "logs.0.node.b", "logs.0.node.c"
	outcomes := make(chan outcome, 10)
	quietly(p, a, "a1", false, outcomes)
	quietly(p, b, "b1", false, outcomes)
	quietly(p, a, "a2", false, outcomes)
	quietly(p, c, "c1", true, outcomes)
	// All are in the stream by now, and another subject's answer tells of itself alone.
	if o := receive(t, outcomes, "the answered one"); o.name != "c1" || o.ack.Err != nil || o.ack.Sequence == 0 {
		t.Fatalf("%+v", o)
	}
	if n, err := broker.SubjectPending(testContext(t), js, "LOGFORWARD_0", a); err != nil || n != 2 {
		t.Fatalf("stream holds %d messages, %v; want 2", n, err)
	}
	quietly(p, a, "a3", true, outcomes)
	quietly(p, a, "a4", false, outcomes)
	for i, want := range []string{"a1", "a2", "a3"} {
		o := receive(t, outcomes, want)
		if o.name != want || o.ack.Err != nil || o.ack.Stream != "LOGFORWARD_0" || (o.ack.Sequence != 0) != (i == 2) {
			t.Errorf("outcome %d: %+v", i, o)
		}
	}
	eventually(t, "b1 and a4 alone to be left", func() bool { return p.Pending() == 2 })
	if n := p.Quiet(); n != 2 {
		t.Errorf("%d wait for another's answer", n)
	}
	nc.Close()
	for range 2 {
		wantError(t, receive(t, outcomes, "the end of the connection").ack.Err, broker.ErrDisconnected)
	}
	if n := p.Quiet(); n != 0 {
		t.Errorf("%d are still kept", n)
	}
}

func TestPublishQuietlyFails(t *testing.T) {
	nc := connect(t, broker.Options{Server: serve(t, broker.ServerOptions{InProcess: true})})
	js := streamAPI(t, nc)
	if _, err := js.CreateStream(testContext(t), jetstream.StreamConfig{Name: "COUNT", Subjects: []string{"count"}, MaxMsgs: 1, Discard: jetstream.DiscardNew}); err != nil {
		t.Fatal(err)
	}
	p := newPublisher(t, nc, broker.PublisherOptions{Timeout: 100 * time.Millisecond})
	outcomes := make(chan outcome, 10)
	t.Run("with the next", func(t *testing.T) {
		for i := range 3 {
			quietly(p, "count", fmt.Sprint(i), i == 2, outcomes)
		}
		for i := range 3 {
			o := receive(t, outcomes, "a failure")
			if o.name != fmt.Sprint(i) {
				t.Errorf("outcome %d is that of %s", i, o.name)
			}
			wantError(t, o.ack.Err, broker.ErrStreamFull)
		}
	})
	t.Run("without one", func(t *testing.T) {
		quietly(p, "count", "quiet", false, outcomes)
		o := receive(t, outcomes, "the timeout")
		wantError(t, o.ack.Err, broker.ErrTimeout)
		if !broker.OutcomeUnknown(o.ack.Err) {
			t.Errorf("outcome must be unknown: %v", o.ack.Err)
		}
		if n := p.Quiet(); n != 0 {
			t.Errorf("%d are still kept", n)
		}
	})
	t.Run("at once", func(t *testing.T) {
		quietly(p, "a b", "malformed", false, outcomes)
		if o := receive(t, outcomes, "the failure"); o.ack.Err == nil || broker.OutcomeUnknown(o.ack.Err) {
			t.Errorf("%+v", o)
		}
		if n := p.Quiet(); n != 0 {
			t.Errorf("%d are still kept", n)
		}
	})
}
