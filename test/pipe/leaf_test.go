package pipe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"logforward/internal/broker"
	"logforward/internal/receive"
)

// TestNodeBehindALeafNode: a node that reaches only a leaf node, whose one outgoing connection goes to a cluster with three copies of
// each stream. The connection breaks, a server of the cluster is gone for a while, and the number of copies changes.
func TestNodeBehindALeafNode(t *testing.T) {
	t.Parallel()
	m := newTeam(t, 1, 2, false)
	hubs := make([]string, teamServers)
	for i := range teamServers {
		port := freePort(t)
		name := fmt.Sprintf("n%d.conf", i+1)
		m.add(name, fmt.Sprintf("leafnodes { listen: \"127.0.0.1:%d\", no_advertise: true }\n", port))
		k := newLink(t, fmt.Sprintf("127.0.0.1:%d", port))
		m.links["leaf"] = append(m.links["leaf"], k)
		hubs[i] = "\"nats-leaf://" + k.address + "\""
	}
	leaf := freePort(t)
	m.write("leaf.conf", fmt.Sprintf(`
server_name: leaf
listen: "127.0.0.1:%d"
log_file: %q
leafnodes { reconnect: 1, remotes: [ { urls: [ %s ] } ] }
`, leaf, m.path("leaf.log"), strings.Join(hubs, ", ")))
	config, err := os.ReadFile(m.path("node0.cfg"))
	m.must(err)
	m.write("node0.cfg", strings.Replace(string(config), strings.Join(m.urlsOf("nodes"), ", "), fmt.Sprintf("nats://127.0.0.1:%d", leaf), 1))
	self, err := os.Executable()
	m.must(err)
	m.launch("leaf", []string{"LOGFORWARD_TEST_SERVER=" + m.path("leaf.conf")}, self)
	m.startAll(3)

	writers, stop := m.writeAll(seed(t), 300*time.Millisecond)
	arrive := func(what string) {
		t.Helper()
		for j, w := range writers {
			var want []byte
			m.eventually("something to be written", time.Minute, func() error {
				if want = w.all(); len(want) < 1000 {
					return fmt.Errorf("%d bytes", len(want))
				}
				return nil
			})
			m.eventually(what, time.Minute, func() error { return m.begins(0, j, want) })
		}
	}
	arrive("the first bytes")
	m.followed.Store(true)
	for _, k := range m.links["leaf"] {
		k.set(true)
	}
	time.Sleep(500 * time.Millisecond) // how long it is cut
	for _, k := range m.links["leaf"] {
		k.set(false)
	}
	arrive("what was written while the leaf was cut off")
	o, err := m.overview()
	m.must(err)
	if o.Layout.Replicas != 3 {
		t.Errorf("%d replicas", o.Layout.Replicas)
	}
	m.kill("n1", 9)
	arrive("what was written with two of three servers")
	m.startServer(0)
	m.eventually("the third copy to be there again", 3*time.Minute, func() error { return m.copies(3) })
	for _, n := range []int{1, 3} {
		began := time.Now()
		m.setup("--partitions", "3", "--replicas", fmt.Sprint(n))
		t.Logf("%d copies are set after %s", n, time.Since(began).Round(time.Millisecond))
		arrive(fmt.Sprintf("what was written while it became %d copies", n))
		m.eventually("the copies", 3*time.Minute, func() error { return m.copies(n) })
		t.Logf("they are there, and what was written meanwhile, after %s", time.Since(began).Round(time.Millisecond))
	}
	stop()
	for j, w := range writers {
		m.eventually("all", time.Minute, func() error { return m.compareAt(0, j, w.written) })
	}
}

// copies tells whether each stream and bucket has so many copies, all of them up to date.
func (m *team) copies(n int) error {
	ctx, cancel := context.WithTimeout(m.t.Context(), 10*time.Second) // a question that comes between two leaders gets no answer, and is asked again
	defer cancel()
	nc, err := broker.Connect(ctx, broker.Options{URLs: strings.Split(m.urls(), ",")})
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := broker.JetStream(nc, "")
	if err != nil {
		return err
	}
	streams := js.ListStreams(ctx)
	seen := 0
	for s := range streams.Info() {
		seen++
		if s.Config.Replicas != n || s.Cluster == nil || len(s.Cluster.Replicas) != n-1 {
			return fmt.Errorf("%s: %d copies, %+v", s.Config.Name, s.Config.Replicas, s.Cluster)
		}
		for _, p := range s.Cluster.Replicas {
			if !p.Current || p.Offline {
				return fmt.Errorf("%s: %+v", s.Config.Name, p)
			}
		}
	}
	if err := streams.Err(); err != nil {
		return err
	}
	if want := 3 + 3; seen != want { // partitions and buckets
		return fmt.Errorf("%d streams, want %d", seen, want)
	}
	return nil
}

// TestTwoSites: a node forwards a log to two independent sites. Each has all of it, also when the other was away for long, over rotations of the
// file, and goes on meanwhile as if there were no other.
func TestTwoSites(t *testing.T) {
	t.Parallel()
	one, two := newFleet(t), newFleet(t)
	name := "forward.cfg"
	config, err := os.ReadFile(one.path(name))
	one.must(err)
	one.write(name, string(config)+fmt.Sprintf("destination.second.url = nats://%s\n", two.brokers.address))
	one.define("app")
	one.write("forwarders/app.second.yaml", fmt.Sprintf("log: app.second\npath: %s\ndestination: second\nstart: beginning\n", one.path("logs/app.log")))
	two.start("broker")
	two.setup("--partitions", "2")
	two.start("receive")
	one.startAll()
	w := newWriter(one.path("logs/app.log"), seed(t), 1)
	one.must(w.open())
	write := func() {
		one.must(w.append(text(fmt.Sprint(len(w.written)), 200<<10)))
	}
	write()
	one.arrived("app", w.written, 90*time.Second)
	two.arrived("app.second", w.written, 90*time.Second)
	for _, x := range []struct {
		away, here       *fleet
		awayLog, hereLog string
	}{{two, one, "app.second", "app"}, {one, two, "app", "app.second"}} {
		// First the connection goes, then the site itself.
		x.away.brokers.set(true)
		for i := range 4 {
			write()
			x.here.arrived(x.hereLog, w.written, 90*time.Second)
			if i == 1 {
				x.away.kill("receive", syscall.SIGKILL)
				x.away.kill("broker", syscall.SIGKILL)
			}
			one.must(w.file.Close())
			one.must(os.Rename(w.path, fmt.Sprintf("%s.%d", w.path, time.Now().UnixNano())))
			one.must(w.open())
		}
		if err := x.away.compare(x.awayLog, w.written); err == nil {
			t.Error("the site that is away has what it can't have")
		}
		x.away.start("broker")
		x.away.start("receive")
		x.away.brokers.set(false)
		x.away.arrived(x.awayLog, w.written, 90*time.Second)
	}
	write()
	one.arrived("app", w.written, 90*time.Second)
	two.arrived("app.second", w.written, 90*time.Second)
}

// add adds to a configuration.
func (m *team) add(name, text string) {
	m.t.Helper()
	b, err := os.ReadFile(m.path(name))
	m.must(err)
	m.write(name, string(b)+text)
}

// begins tells whether a log's central bytes begin with want.
func (m *team) begins(node, log int, want []byte) error {
	var got prefix
	got.want = want
	_, err := receive.Cat(&got, m.outputs(), m.nodes[node], fmt.Sprintf("app%d", log))
	if errors.Is(err, receive.ErrNoLedger) {
		err = nil
	}
	if err == nil && len(got.want) > 0 {
		err = fmt.Errorf("%d bytes of %d are missing", len(got.want), len(want))
	}
	return errors.Join(err, got.err)
}

// prefix compares what is written to it.
type prefix struct {
	want []byte
	at   int
	err  error
}

func (p *prefix) Write(b []byte) (int, error) {
	n := min(len(b), len(p.want))
	if string(b[:n]) != string(p.want[:n]) && p.err == nil {
		p.err = fmt.Errorf("other bytes behind %d", p.at)
	}
	p.want, p.at = p.want[n:], p.at+n
	return len(b), nil
}
