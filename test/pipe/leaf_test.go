package pipe

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"logforward/internal/receive"
)

// TestNodeBehindALeafNode: a node that reaches only a leaf node, whose one outgoing connection goes to a cluster with three copies of
// each stream. The connection breaks, and a server of the cluster is gone for good.
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
	stop()
	for j, w := range writers {
		m.eventually("all", time.Minute, func() error { return m.compareAt(0, j, w.written) })
	}
}

// TestTwoSites: a node forwards a log to two independent sites. Each has all of it, also when the other was away for long.
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
	one.arrived("app", w.written, 30*time.Second)
	two.arrived("app.second", w.written, 30*time.Second)
	two.brokers.set(true)
	write()
	one.arrived("app", w.written, 30*time.Second)
	if err := two.compare("app.second", w.written); err == nil {
		t.Error("the second site has what it can't have")
	}
	two.brokers.set(false)
	two.arrived("app.second", w.written, 60*time.Second)
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
