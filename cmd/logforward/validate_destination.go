package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"logforward/internal/broker"
	"logforward/internal/chunk"
	"logforward/internal/forward"
)

// rights tells whether a node's Choria token permits what it needs; the broker would only refuse.
func (v *validation) rights(values *values, name string) {
	destinations, configs, err := values.destinations()
	if err != nil || configs[name] == nil {
		return
	}
	check := "destination " + name
	missing, err := configs[name].Missing(destinations[name].Prefix)
	switch {
	case err != nil:
		v.fail(check, err, "have Choria's token and seed where its configuration says, readable by the daemon")
	case missing != "":
		v.fail(check, errors.New(missing), "have the node's token issued anew with that right")
	default:
		v.ok(check, "identity %s by %s (%s)", configs[name].Identity, configs[name].File, configs[name].Provider)
	}
}

// destination connects as the daemon would, and does what it may: it says hello.
func (v *validation) destination(ctx context.Context, name string, c forward.Config) {
	ctx, cancel := context.WithTimeout(ctx, validateTime)
	defer cancel()
	check := "destination " + name
	d := c.Destinations[name]
	o := d.Broker
	o.Name = "logforward validate"
	refusals := make(chan broker.Refusal, 8)
	o.OnPermission = func(r broker.Refusal) {
		select {
		case refusals <- r:
		default:
		}
	}
	nc, err := broker.Connect(ctx, o)
	if err != nil {
		v.fail(check, err, "see that the broker runs and can be reached from here, and that "+check+" has its URL, credentials and authorities")
		return
	}
	defer nc.Close()
	v.ok(check, "connected to %s", nc.ConnectedUrlRedacted())
	v.publishes(ctx, check, nc, d, c.Identity, refusals)
	answered := v.hello(ctx, check, nc, d, c.Identity, refusals)
	v.streams(ctx, check, nc, streamAPI(o), answered, refusals)
}

// publishes tells whether the node may publish its logs. It publishes where no stream listens: nothing is stored.
func (v *validation) publishes(ctx context.Context, check string, nc *nats.Conn, d forward.Destination, identity string, refusals chan broker.Refusal) {
	subject := d.Prefix + ".validate." + chunk.Token(identity) + ".rights"
	within, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	err := nc.Publish(subject, nil)
	if err == nil {
		err = nc.FlushWithContext(within) // the refusal, if there is one, comes before its answer
	}
	if err != nil {
		v.fail(check, fmt.Errorf("publish on %s: %w", subject, err), "try again; if it stays so, look at the broker's log")
		return
	}
	select {
	case r := <-refusals:
		v.fail(check, fmt.Errorf("the credentials don't permit to %s %s", r.Op, r.Subject), needsRights(d, identity))
		return
	case <-time.After(100 * time.Millisecond): // it is told beside the connection's own answers
	}
	v.ok(check, "may publish on %s.*.%s.>", d.Prefix, chunk.Token(identity))
}

// Remedies that more than one check has.
const (
	startReceiver = "start a receiver: systemctl enable --now logforward-receive, at the centre"
	enableStreams = "enable JetStream at the broker; in Choria's, plugin.choria.network.stream.store"
	runSetup      = "run logforward setup, once, with the rights of an administrator"
)

// needsRights says which ones a node needs.
func needsRights(d forward.Destination, identity string) string {
	return fmt.Sprintf("a node needs to publish on %s.*.%s.>, and to hear its own inbox", d.Prefix, chunk.Token(identity))
}

// clocks that differ by more than this make lag and the ends of pauses hard to understand. Positions don't depend on them.
const clockSkew = 10 * time.Second

// clock compares this machine's with the broker's.
func (v *validation) clock(ctx context.Context, check string, shared *broker.Shared) {
	there, err := shared.Clock(ctx)
	if err != nil {
		v.warn(check, fmt.Sprintf("the broker's time can't be had: %v", err), "compare the clocks yourself")
		return
	}
	v.skew(check, "the broker", time.Until(there))
}

func (v *validation) skew(check, whose string, skew time.Duration) {
	skew = skew.Abs()
	if skew > clockSkew {
		v.warn(check, fmt.Sprintf("the clocks of this machine and %s differ by %s", whose, skew.Round(time.Second)), "keep both in time, with chrony or systemd-timesyncd; positions are right all the same")
		return
	}
	v.ok(check, "the clocks of this machine and %s differ by %s", whose, skew.Round(time.Millisecond))
}

// hello tells whether the node may say hello, hears the answer, and whether a receiver is there. It returns whether one has answered
// with a layout: then there are streams, wherever they are.
func (v *validation) hello(ctx context.Context, check string, nc *nats.Conn, d forward.Destination, identity string, refusals chan broker.Refusal) (answered bool) {
	subject := chunk.SyncSubject(d.Prefix, identity)
	within, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	type outcome struct {
		msg *nats.Msg
		err error
	}
	answer := make(chan outcome, 1)
	go func() {
		// An empty hello changes nothing: it asks for the layout and the pause.
		m, err := nc.RequestWithContext(within, subject, []byte(`{"instance":"validate"}`))
		answer <- outcome{m, err}
	}()
	var a outcome
	select {
	case r := <-refusals:
		// NATS tells a refusal apart from the call, which only times out.
		cancel()
		<-answer
		v.fail(check, fmt.Errorf("the credentials don't permit to %s %s", r.Op, r.Subject), needsRights(d, identity))
		return false
	case a = <-answer:
	}
	switch {
	case errors.Is(a.err, nats.ErrNoResponders):
		v.warn(check, fmt.Sprintf("no receiver listens on %s: logs wait until one does", subject), startReceiver)
	case a.err != nil:
		v.warn(check, fmt.Sprintf("no receiver answered on %s: %v", subject, a.err), startReceiver+"; a node that may not hear its inbox hears no answer, too")
	default:
		reply, err := chunk.ParseAnswer(a.msg.Data)
		if err == nil && !reply.Time.IsZero() {
			v.skew(check, "receiver "+reply.Receiver, time.Until(reply.Time))
		}
		switch {
		case err != nil:
			v.fail(check, err, "see who answers there: it is no receiver of this version")
		case !reply.Ready || reply.Layout == nil:
			v.warn(check, fmt.Sprintf("receiver %s isn't ready yet", reply.Receiver), "wait, or look at its log: it is finding out where logs stand")
		default:
			v.ok(check, "receiver %s answers; prefix %s, %d partitions", reply.Receiver, reply.Layout.Prefix, reply.Layout.Partitions)
			if reply.Pause.Holds() {
				v.warn(check, fmt.Sprintf("the fleet is paused by %s: %s", reply.Pause.By, reply.Pause.Reason), "logforward fleet resume, at the centre, ends it")
			}
			return true
		}
	}
	return false
}

// streams looks for what setup makes. A node need not be permitted to look; and a leaf node, or a broker of another
// account, has none to show: where a receiver has answered, chunks reach them all the same.
func (v *validation) streams(ctx context.Context, check string, nc *nats.Conn, api string, answered bool, refusals chan broker.Refusal) {
	js, err := broker.JetStream(nc, api)
	if err != nil {
		v.fail(check, err, enableStreams)
		return
	}
	within, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	shared, err := broker.OpenShared(within, js)
	var layout broker.Layout
	if err == nil {
		layout, err = shared.Layout(within)
	}
	switch {
	case err == nil:
		v.clock(within, check, shared)
		v.ok(check, "streams are set up: prefix %s, %d partitions, %d replicas", layout.Prefix, layout.Partitions, layout.Replicas)
	case answered && (errors.Is(err, broker.ErrNoStream) || errors.Is(err, broker.ErrNotFound) || errors.Is(err, broker.ErrNoJetStream)):
		v.ok(check, "streams can't be seen from here, as behind a leaf node; a receiver knows them")
	case errors.Is(err, broker.ErrNoStream), errors.Is(err, broker.ErrNotFound):
		v.fail(check, fmt.Errorf("the streams are not set up: %w", err), runSetup)
	case errors.Is(err, broker.ErrNoJetStream):
		v.fail(check, err, enableStreams)
	default:
		select {
		case <-refusals:
			v.ok(check, "streams can't be looked at with a node's rights, which is as it should be")
		default:
			v.warn(check, fmt.Sprintf("streams can't be looked at: %v", err), "try again; if it stays so, look at the broker's log")
		}
	}
}
