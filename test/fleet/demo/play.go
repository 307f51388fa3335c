package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"

	"logforward/test/fleet/site"
)

// demo is what is shown.
type demo struct {
	*site.Site
	out      io.Writer
	nodes    []*site.Node
	receiver *site.Receiver
	archive  *site.Destination
	operator *site.Client

	written bytes.Buffer // to the log
	lines   int
	central int // bytes of it that the receiver has at most: the archive has what is behind them
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, "\n# "+format+"\n", args...) }

// begin starts everything.
func (d *demo) begin(ctx context.Context) (err error) {
	d.say("A Choria broker, a receiver, an archive, and three nodes, below %s", d.Dir)
	d.Commands = prompt{d.out}
	if err := d.Setup(ctx, "--partitions", "2"); err != nil {
		return err
	}
	if d.receiver, err = d.AddReceiver("central", nil); err != nil {
		return err
	}
	if err := d.receiver.Start(ctx); err != nil {
		return err
	}
	if d.archive, err = d.AddDestination(ctx, "archive"); err != nil {
		return err
	}
	if d.operator, err = d.AddClient("admin", site.ClientOptions{}); err != nil {
		return err
	}
	for i := range 3 {
		n, err := d.AddNode(fmt.Sprintf("n%d", i+1), site.NodeOptions{Settings: d.archive.Settings()})
		if err != nil {
			return err
		}
		d.nodes = append(d.nodes, n)
		if err := n.StartServer(ctx); err != nil {
			return err
		}
		if err := n.StartForwarder(ctx); err != nil {
			return err
		}
	}
	return nil
}

// play is the demonstration.
func (d *demo) play(ctx context.Context) error {
	d.central = -1
	for _, step := range []struct {
		say string
		do  func(context.Context) error
	}{
		{"One request starts forwarding on all nodes", d.req("start", site.Inputs{"log": "app", "path": d.LogFile("app.log"), "destination": "central", "from": "beginning", "reason": "demonstration"})},
		{"What is written arrives, once for each node", d.write},
		{"A pause keeps positions: what is written waits in the file", d.req("pause", site.Inputs{"log": "app", "for": "1h", "reason": "maintenance"})},
		{"", d.hold},
		{"", d.req("status", site.Inputs{"log": "app"})},
		{"Resumed, it goes on where it was", d.req("resume", site.Inputs{"log": "app"})},
		{"", d.arrive},
		{"Redirected, what comes next goes elsewhere, nothing is lost or doubled", d.redirect},
		{"", d.write},
		{"", d.req("check", nil)},
		{"", d.req("list", nil)},
		{"Stopped, once all is confirmed", d.req("stop", site.Inputs{"log": "app", "drain": "true", "reason": "the end"})},
		{"", d.ended},
	} {
		if step.say != "" {
			d.say("%s", step.say)
		}
		if err := step.do(ctx); err != nil {
			return err
		}
	}
	return nil
}

// req is one request to all nodes; what choria prints is shown.
func (d *demo) req(action string, inputs site.Inputs) func(context.Context) error {
	return func(ctx context.Context) error {
		text, err := d.operator.Text(ctx, action, inputs, d.nodes...)
		fmt.Fprintln(d.out, strings.TrimRight(text, "\n"))
		return err
	}
}

// more appends lines to the log.
func (d *demo) more() error {
	var b bytes.Buffer
	for range 1000 {
		d.lines++
		fmt.Fprintf(&b, "line %d\n", d.lines)
	}
	d.written.Write(b.Bytes())
	return d.Write("app.log", b.Bytes())
}

func (d *demo) write(ctx context.Context) error {
	if err := d.more(); err != nil {
		return err
	}
	return d.arrive(ctx)
}

// arrive waits until all that was written is where it belongs.
func (d *demo) arrive(ctx context.Context) error {
	want := d.written.Bytes()
	central, archive, position := want, []byte(nil), len(want)
	if d.central >= 0 {
		central, archive, position = want[:d.central], want[d.central:], len(want)-d.central
	}
	for _, n := range d.nodes {
		if err := d.receiver.Wait(ctx, n, "app", central); err != nil {
			return err
		}
		if err := d.archive.Receiver.Wait(ctx, n, "app", archive); err != nil {
			return err
		}
		if err := n.Await(ctx, 1, site.Confirmed(position)); err != nil {
			return err
		}
	}
	fmt.Fprintf(d.out, "%d lines are in log/app.log\n", d.lines)
	return d.show()
}

// show tells what has arrived where.
func (d *demo) show() error {
	for _, r := range []*site.Receiver{d.receiver, d.archive.Receiver} {
		for _, n := range d.nodes {
			b, err := r.Received(n, "app")
			if err != nil {
				return err
			}
			if len(b) > 0 {
				fmt.Fprintf(d.out, "%5d lines in receivers/%s/output/%s/app.log\n", bytes.Count(b, []byte("\n")), r.Name, n.Identity)
			}
		}
	}
	return nil
}

// hold writes while nothing may arrive.
func (d *demo) hold(context.Context) error {
	before := d.lines
	if err := d.more(); err != nil {
		return err
	}
	fmt.Fprintf(d.out, "%d lines more are in log/app.log\n", d.lines-before)
	return d.show()
}

// redirect sends the log to the archive from here on.
func (d *demo) redirect(ctx context.Context) error {
	d.central = d.written.Len()
	return d.req("redirect", site.Inputs{"log": "app", "destination": "archive", "reason": "the centre moves"})(ctx)
}

// ended waits until no node has the log any more.
func (d *demo) ended(ctx context.Context) error {
	for _, n := range d.nodes {
		if err := n.Await(ctx, 0, nil); err != nil {
			return err
		}
	}
	return nil
}

// prompt shows a command line as it is typed.
type prompt struct{ io.Writer }

func (p prompt) Write(line []byte) (int, error) {
	if _, err := fmt.Fprintf(p.Writer, "$ %s", line); err != nil {
		return 0, err
	}
	return len(line), nil
}
