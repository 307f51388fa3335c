package fleet

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"logforward/test/fleet/site"
)

// writer appends lines to a log of each node, on and on, until it is ended.
type writer struct {
	f       *fleet
	end     chan struct{}
	ended   chan error
	written []bytes.Buffer // by node
}

func (f *fleet) write(log string) *writer {
	w := &writer{f: f, end: make(chan struct{}), ended: make(chan error, 1), written: make([]bytes.Buffer, len(f.nodes))}
	go func() { w.ended <- w.run(log) }()
	return w
}

func (w *writer) run(log string) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		for k, n := range w.f.nodes {
			part := lines(n.Name, i*10, 10)
			if err := n.Write(log+".log", part); err != nil {
				return err
			}
			w.written[k].Write(part)
		}
		select {
		case <-w.end:
			return nil
		case <-tick.C:
		}
	}
}

// finish stops writing, and waits until all that was written has arrived.
func (w *writer) finish(log string) {
	w.f.Helper()
	close(w.end)
	w.f.must(<-w.ended)
	for k, n := range w.f.nodes {
		w.f.must(w.f.receiver.Wait(w.f.ctx, n, log, w.written[k].Bytes()))
	}
}

// moved waits until more of a node's log has arrived than now, while it is written to.
func (f *fleet) moved(n *site.Node, log string) {
	f.Helper()
	before, err := f.receiver.Received(n, log)
	f.must(err)
	f.must(f.receiver.WaitLonger(f.ctx, n, log, len(before)))
}

// version is what Choria Server of a node says it is, asked by choria req.
func (f *fleet) version(n *site.Node) string {
	f.Helper()
	r, err := f.admin.Request(f.ctx, "rpcutil", "daemon_stats", nil, n)
	f.must(err)
	f.must(r.Err())
	reply, ok := r.From(n)
	if !ok {
		f.Fatalf("no reply of %s: %+v", n.Identity, r)
	}
	return fmt.Sprint(reply.Data["version"])
}

func TestForwardingOutlivesChoriaServers(t *testing.T) {
	t.Parallel()
	f := newFleet(t, site.Tokens, 3)
	f.each(func(n *site.Node) error { f.define(n, "app"); return nil })
	w := f.write("app")
	f.moved(f.nodes[0], "app")
	was := f.version(f.nodes[0])

	f.each(func(n *site.Node) error { n.Server.Kill(); return nil })
	for _, n := range f.nodes {
		f.moved(n, "app") // with no Choria Server anywhere
	}
	f.each(func(n *site.Node) error { return n.StartServer(f.ctx) })
	f.each(func(n *site.Node) error { // upgraded in place: the program is replaced while it runs
		return errors.Join(n.InstallServer(programs.Next), n.Server.Stop(), n.StartServer(f.ctx))
	})
	for _, n := range f.nodes {
		f.moved(n, "app")
	}
	if now := f.version(f.nodes[0]); now == was || now != nextRelease {
		t.Errorf("version %s after the upgrade from %s", now, was)
	}
	w.finish("app")
	for _, n := range f.nodes {
		if !n.Forwarder.Running() {
			t.Errorf("%s: the daemon has ended", n.Name)
		}
	}
}

// nextRelease is what programs.Next says it is.
const nextRelease = "0.30.2"

func TestForwardingOutlivesTheBroker(t *testing.T) {
	t.Parallel()
	for _, security := range []site.Security{site.Tokens, site.Certificates} {
		t.Run(security.String(), func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, security, 2)
			f.each(func(n *site.Node) error { f.define(n, "app"); return nil })
			w := f.write("app")
			f.moved(f.nodes[0], "app")
			f.Site.Broker.Kill()
			f.must(f.StartBroker(f.ctx))
			f.moved(f.nodes[0], "app")
			f.must(f.Site.Broker.Stop())
			f.Config.Broker = programs.Next // on the store that the older one left
			f.must(f.StartBroker(f.ctx))
			f.moved(f.nodes[1], "app")
			w.finish("app")
		})
	}
}

// Both generations of Choria: all of it newer but the command line.
func TestNextGeneration(t *testing.T) {
	t.Parallel()
	for _, security := range []site.Security{site.Tokens, site.Certificates} {
		t.Run(security.String(), func(t *testing.T) {
			t.Parallel()
			f := newFleetOf(t, security, 2, options{node: site.NodeOptions{Choria: programs.Next}, site: func(c *site.Config) { c.Broker = programs.Next }})
			f.each(func(n *site.Node) error {
				f.define(n, "app")
				return n.Write("app.log", lines(n.Name, 0, 1000))
			})
			f.each(func(n *site.Node) error { return f.receiver.Wait(f.ctx, n, "app", lines(n.Name, 0, 1000)) })
			for _, n := range f.nodes {
				if v := f.version(n); v != nextRelease {
					t.Errorf("%s runs %s", n.Name, v)
				}
			}
		})
	}
}

// A receiver that is killed cuts back what it hadn't committed, and gets it again.
func TestReceiverKilled(t *testing.T) {
	t.Parallel()
	f := newFleet(t, site.Tokens, 2)
	f.each(func(n *site.Node) error { f.define(n, "app"); return nil })
	w := f.write("app")
	for range 3 {
		f.moved(f.nodes[0], "app")
		f.receiver.Process.Kill()
		f.must(f.receiver.Start(f.ctx))
	}
	f.each(func(n *site.Node) error {
		n.Forwarder.Kill()
		return n.StartForwarder(f.ctx)
	})
	w.finish("app")
	if _, err := os.Stat(f.receiver.Output()); err != nil {
		t.Error(err)
	}
}
