package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/choria-io/fisk"
	"github.com/dustin/go-humanize"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"logforward/internal/broker"
	"logforward/internal/receive"
	"logforward/internal/settings"
)

// centre is a connection of a command that looks at, or changes, how receivers share their work.
type centre struct {
	nc        *nats.Conn
	js        jetstream.JetStream
	pub       *broker.Publisher
	leases    *broker.Records
	positions *broker.Records
}

func (p *program) centre(ctx context.Context, v *values, name string) (_ *centre, err error) {
	options, _, err := v.centre()
	if err != nil {
		return nil, misconfigured(err)
	}
	options.Name, options.Logger = "logforward "+name, p.logger(v)
	c := new(centre)
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.nc, err = broker.Connect(ctx, options); err != nil {
		return nil, err
	}
	if c.js, err = broker.JetStream(c.nc, streamAPI(options)); err != nil {
		return nil, err
	}
	if c.pub, err = broker.NewPublisher(c.nc, broker.PublisherOptions{}); err != nil {
		return nil, err
	}
	err = broker.Insist(ctx, func(ctx context.Context) (err error) {
		if c.leases, err = broker.OpenRecords(ctx, c.js, c.pub, broker.Leases); err == nil {
			c.positions, err = broker.OpenRecords(ctx, c.js, c.pub, broker.Positions)
		}
		return err
	})
	return c, err
}

func (c *centre) close() {
	if c.pub != nil {
		c.pub.Close()
	}
	if c.nc != nil {
		c.nc.Close()
	}
}

// forgotten is what receivers --forget prints.
type forgotten struct {
	Receiver string `json:"receiver"` // that is given up
	Known    bool   `json:"known"`    // false: this broker had never heard of it, and the name may be wrong
}

func (p *program) receiversCommand(app *fisk.Application) {
	var set *given
	var forget string
	c := p.command(app, "receivers", "Show the receivers: who lives, who works what, and what waits", `
It listens until each receiver's heart has beaten, which takes a second, or some where one is dead.

--forget says that a receiver won't come back: nothing waits any more for what only its disk
knows. The others tell in their health where that is so, after the broker has lost its store.

With --json, alive, drained and leaving say what the table's STATE shows; state is the id of the
receiver's state directory.

    logforward receivers
    logforward receivers --json
    logforward receivers --forget r3
`, func(ctx context.Context) error {
		v, err := p.load(set)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		x, err := p.centre(ctx, v, "receivers")
		if err != nil {
			return err
		}
		defer x.close()
		o, err := receive.Look(ctx, x.js, x.leases)
		if err != nil {
			return err
		}
		if forget != "" {
			r := o.Receiver(forget)
			if r != nil && r.Alive {
				return &exitError{exitRefused, fmt.Errorf("receiver %s lives: stop it first", forget)}
			}
			if err := receive.Forget(ctx, x.leases, forget); err != nil {
				return err
			}
			fmt.Fprintf(p.err, "logforward: receiver %s is forgotten; if it starts again it is as before\n", harmless(forget))
			if p.json {
				err = p.print(forgotten{forget, r != nil})
			}
			if r == nil { // a new broker may not know of it yet, while the others wait for it
				fmt.Fprintln(p.err, "logforward: this broker had never heard of it: is the name right? logforward receivers shows those that it knows")
			}
			return err
		}
		if p.json {
			return p.print(o)
		}
		return p.showReceivers(o)
	})
	c.Flag("forget", "Give up a receiver that won't come back").PlaceHolder("RECEIVER").StringVar(&forget)
	set = p.settings(c, settings.Fleet)
}

func (p *program) showReceivers(o *receive.Overview) error {
	fmt.Fprintf(p.out, "layout %s: prefix %s, %d partitions, %d replicas\n\n", o.Layout.ID, harmless(o.Layout.Prefix), o.Layout.Partitions, o.Layout.Replicas)
	rows := [][]string{{"RECEIVER", "STATE", "PARTITIONS", "PENDING", "OLDEST", "LAST COMMIT", "HOST", "OUTPUT"}}
	for _, r := range o.Receivers {
		rows = append(rows, []string{r.Name, receiverState(&r), numbers(r.Partitions), size(r.Pending), ago(r.Oldest), ago(r.Committed), r.Host, r.Output})
	}
	if err := table(p.out, rows...); err != nil {
		return err
	}
	for _, r := range o.Receivers {
		for _, problem := range r.Problems {
			fmt.Fprintf(p.out, "%s: %s\n", harmless(r.Name), harmless(problem))
		}
	}
	rows = [][]string{{"PARTITION", "OWNER", "TERM", "SINCE", "IN STREAM", "MESSAGES"}}
	for _, x := range o.Partitions {
		n, owner := strconv.Itoa(x.Partition), x.Owner
		if x.Leftover {
			n += " (older layout)"
		}
		if owner == "" {
			owner = "NOBODY"
		} else if r := o.Receiver(owner); r == nil || !r.Alive {
			owner += " (DEAD)"
		}
		rows = append(rows, []string{n, owner, strconv.FormatUint(x.Term, 10), ago(x.Since), size(x.Bytes), strconv.FormatUint(x.Messages, 10)})
	}
	fmt.Fprintln(p.out)
	return table(p.out, rows...)
}

func receiverState(r *receive.ReceiverView) string {
	state := "alive"
	switch {
	case r.Left:
		state = "stopped"
	case r.Hung:
		state = "DISK HANGS"
	case !r.Alive:
		state = "DEAD"
	case r.Leaving:
		state = "leaving"
	}
	if r.Drained {
		state += ", drained"
	}
	return state
}

func numbers(list []int) string {
	text := make([]string, len(list))
	for i, n := range list {
		text[i] = strconv.Itoa(n)
	}
	return strings.Join(text, ",")
}

func ago(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return humanize.Time(t)
}

func (p *program) drainCommand(app *fisk.Application) {
	var set *given
	var name, wait string
	var undo bool
	c := p.command(app, "drain", "Move all partitions away from a receiver, before maintenance", `
It comes back when the others have them, and the receiver may be stopped. It holds over restarts
until --undo. A receiver that is merely restarted needs no drain: it hands over by itself.

    logforward drain r2
    logforward drain r2 --undo
`, func(ctx context.Context) error {
		limit, err := positive("--wait", wait)
		if err != nil {
			return err
		}
		v, err := p.load(set)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		x, err := p.centre(ctx, v, "drain")
		if err != nil {
			return err
		}
		defer x.close()
		return p.drain(ctx, x, name, undo)
	})
	c.Arg("receiver", "Its name, as logforward receivers shows it").Required().StringVar(&name)
	c.Flag("undo", "Let it take partitions again").UnNegatableBoolVar(&undo)
	c.Flag("wait", "How long it is waited until it has none").Default("60s").StringVar(&wait)
	set = p.settings(c, settings.Fleet)
}

func (p *program) drain(ctx context.Context, x *centre, name string, undo bool) error {
	o, err := receive.Look(ctx, x.js, x.leases)
	if err != nil {
		return err
	}
	if o.Receiver(name) == nil {
		return &exitError{exitRefused, fmt.Errorf("there is no receiver %q: see logforward receivers", name)}
	}
	if !undo {
		others := 0
		for _, r := range o.Receivers {
			if r.Name != name && r.Alive && !r.Drained && !r.Leaving {
				others++
			}
		}
		if others == 0 {
			return &exitError{exitRefused, fmt.Errorf("no other receiver could take what %s has: start one, or just stop it (nodes keep what they can't send)", name)}
		}
	}
	if err := receive.SetDrain(ctx, x.leases, name, caller(), !undo); err != nil {
		return err
	}
	if undo {
		r := o.Receiver(name)
		r.Drained = false // it was looked at before
		return p.drained(name, r, "takes partitions again")
	}
	for {
		o, err := receive.Look(ctx, x.js, x.leases)
		if err == nil {
			if r := o.Receiver(name); r == nil || len(r.Partitions) == 0 {
				return p.drained(name, r, "has no partition any more, and may be stopped")
			}
		}
		if ctx.Err() != nil {
			why := "nothing more is waited for"
			if err != nil && !errors.Is(err, ctx.Err()) {
				why = err.Error()
			}
			return &exitError{exitUnconfirmed, fmt.Errorf("receiver %s still has partitions: %s; the drain stands, see logforward receivers, and logforward drain %s --undo ends it", name, why, name)}
		}
	}
}

// drained tells how a drain ended; r is nil where the receiver was forgotten meanwhile.
func (p *program) drained(name string, r *receive.ReceiverView, what string) error {
	if p.json {
		if r == nil {
			r = &receive.ReceiverView{Beat: receive.Beat{Name: name, Forgotten: true}, Drained: true, Partitions: []int{}}
		}
		return p.print(r)
	}
	fmt.Fprintf(p.out, "%s %s\n", harmless(name), what)
	return nil
}
