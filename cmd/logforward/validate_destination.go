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
		v.fail(check, err)
	case missing != "":
		v.fail(check, errors.New(missing))
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
		v.fail(check, err)
		return
	}
	defer nc.Close()
	v.ok(check, "connected to %s", nc.ConnectedUrlRedacted())
	v.publishes(ctx, check, nc, d, c.Identity, refusals)
	v.hello(ctx, check, nc, d, c.Identity, refusals)
	v.streams(ctx, check, nc, streamAPI(o), refusals)
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
		v.fail(check, fmt.Errorf("publish on %s: %w", subject, err))
		return
	}
	select {
	case r := <-refusals:
		v.fail(check, fmt.Errorf("the credentials don't permit to %s %s", r.Op, r.Subject))
		v.remedy("a node needs to publish on %s.*.%s.>, and to hear its own inbox", d.Prefix, chunk.Token(identity))
		return
	case <-time.After(100 * time.Millisecond): // it is told beside the connection's own answers
	}
	v.ok(check, "may publish on %s.*.%s.>", d.Prefix, chunk.Token(identity))
}

// clocks that differ by more than this make lag and the ends of pauses hard to understand. Positions don't depend on them.
const clockSkew = 10 * time.Second

// clock compares this machine's with the broker's.
func (v *validation) clock(ctx context.Context, check string, shared *broker.Shared) {
	there, err := shared.Clock(ctx)
	if err != nil {
		v.warn(check, "the broker's time can't be had: %v", err)
		return
	}
	switch skew := time.Until(there).Round(time.Millisecond); {
	case skew > clockSkew || skew < -clockSkew:
		v.warn(check, "this machine's clock and the broker's differ by %s", skew.Abs().Round(time.Second))
		v.remedy("keep both in time, with chrony or systemd-timesyncd; positions are right all the same")
	default:
		v.ok(check, "this machine's clock and the broker's differ by %s", skew.Abs())
	}
}

// hello tells whether the node may say hello, hears the answer, and whether a receiver is there.
func (v *validation) hello(ctx context.Context, check string, nc *nats.Conn, d forward.Destination, identity string, refusals chan broker.Refusal) {
	subject := chunk.SyncSubject(d.Prefix, identity)
	within, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	type answered struct {
		msg *nats.Msg
		err error
	}
	answer := make(chan answered, 1)
	go func() {
		// An empty hello changes nothing: it asks for the layout and the pause.
		m, err := nc.RequestWithContext(within, subject, []byte(`{"instance":"validate"}`))
		answer <- answered{m, err}
	}()
	var a answered
	select {
	case r := <-refusals:
		// NATS tells a refusal apart from the call, which only times out.
		cancel()
		<-answer
		v.fail(check, fmt.Errorf("the credentials don't permit to %s %s; a node needs to publish %s.*.%s.> and to hear its own inbox", r.Op, r.Subject, d.Prefix, chunk.Token(identity)))
		return
	case a = <-answer:
	}
	switch {
	case errors.Is(a.err, nats.ErrNoResponders):
		v.warn(check, "no receiver listens on %s: logs wait until one does", subject)
	case a.err != nil:
		v.warn(check, "no receiver answered on %s: %v", subject, a.err)
	default:
		reply, err := chunk.ParseAnswer(a.msg.Data)
		switch {
		case err != nil:
			v.fail(check, err)
		case !reply.Ready || reply.Layout == nil:
			v.warn(check, "receiver %s isn't ready yet", reply.Receiver)
		default:
			v.ok(check, "receiver %s answers; prefix %s, %d partitions", reply.Receiver, reply.Layout.Prefix, reply.Layout.Partitions)
			if reply.Pause.Holds() {
				v.warn(check, "the fleet is paused by %s: %s", reply.Pause.By, reply.Pause.Reason)
			}
		}
	}
}

// streams looks for what setup makes. A node need not be permitted to look.
func (v *validation) streams(ctx context.Context, check string, nc *nats.Conn, api string, refusals chan broker.Refusal) {
	js, err := broker.JetStream(nc, api)
	if err != nil {
		v.fail(check, err)
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
	case errors.Is(err, broker.ErrNoStream), errors.Is(err, broker.ErrNotFound):
		v.fail(check, fmt.Errorf("the streams are not set up: run logforward setup --url … (%w)", err))
	case errors.Is(err, broker.ErrNoJetStream):
		v.fail(check, err)
	default:
		select {
		case <-refusals:
			v.ok(check, "streams can't be looked at with a node's rights, which is as it should be")
		default:
			v.warn(check, "streams can't be looked at: %v", err)
		}
	}
}
