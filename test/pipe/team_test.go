package pipe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"logforward/internal/broker"
	"logforward/internal/receive"
)

const (
	teamServers   = 3
	teamReceivers = 3
)

// team is a cluster of servers, receivers and nodes, each a process of its own; every connection of a receiver or node goes
// through a link that can be cut or muted.
type team struct {
	*fleet
	ports  []int
	links  map[string][]*link // of each receiver, and of all nodes together, to each server
	shared bool
	nodes  []string
	logs   int // of each node

	followed atomic.Bool // all logs are, and may be rotated
}

func newTeam(t testing.TB, nodes, logs int, shared bool) *team {
	t.Helper()
	f := &fleet{t: t, dir: t.TempDir(), processes: map[string]*process{}}
	m := &team{fleet: f, links: make(map[string][]*link), shared: shared, logs: logs}
	t.Cleanup(func() {
		for name := range f.processes {
			f.kill(name, syscall.SIGKILL)
		}
		if t.Failed() {
			m.showAll()
		}
	})
	var routes []string
	var clusters []int
	for range teamServers {
		m.ports = append(m.ports, freePort(t))
		clusters = append(clusters, freePort(t))
	}
	for _, c := range clusters {
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", c))
	}
	for i := range teamServers {
		m.write(fmt.Sprintf("n%d.conf", i+1), fmt.Sprintf(`
server_name: n%d
listen: "127.0.0.1:%d"
log_file: %q
jetstream { store_dir: %q, max_file_store: 10GB, max_memory_store: 1GB }
cluster { name: test, listen: "127.0.0.1:%d", no_advertise: true, routes: [ %s ] }
`, i+1, m.ports[i], m.path(fmt.Sprintf("n%d.log", i+1)), m.path(fmt.Sprintf("store%d", i+1)), clusters[i], strings.Join(routes, ", ")))
	}
	for i := range teamReceivers {
		name := fmt.Sprintf("r%d", i+1)
		m.write(name+".cfg", fmt.Sprintf(`
url = %s
output = %s
state = %s
receiver = %s
rotate_size = 200KiB
compress = zstd
commit_interval = 200ms
lease_interval = 300ms
lease_timeout = 1500ms
`, strings.Join(m.through(name), ", "), m.output(i), m.path("state-"+name), name))
	}
	urls := strings.Join(m.through("nodes"), ", ")
	for i := range nodes {
		identity := fmt.Sprintf("web%d.example.net", i)
		m.nodes = append(m.nodes, identity)
		dir := fmt.Sprintf("node%d", i)
		for _, d := range []string{"logs", "forwarders"} {
			m.must(os.MkdirAll(m.path(dir+"/"+d), 0o755))
		}
		m.write(dir+".cfg", fmt.Sprintf(`
identity = %s
state = %s
policy = peers
audit_log = %s
wishes = %s
socket = %s
forwarders = %s
destination.central.url = %s
allowed_paths = %s
sync_interval = 2s
poll = 200ms
quiet = 200ms
`, identity, m.path(dir+"/state"), m.path(dir+"/audit.log"), m.path(dir+"/wishes"), m.path(dir+"/s"), m.path(dir+"/forwarders"), urls, m.path(dir+"/logs/**")))
		for j := range logs {
			m.write(fmt.Sprintf("%s/forwarders/app%d.yaml", dir, j), fmt.Sprintf("log: app%d\npath: %s\ndestination: central\nstart: beginning\n", j, m.logPath(i, j)))
		}
	}
	return m
}

func (m *team) logPath(node, log int) string {
	return m.path(fmt.Sprintf("node%d/logs/app%d.log", node, log))
}

func (m *team) output(receiver int) string {
	if m.shared {
		return m.path("received")
	}
	return m.path(fmt.Sprintf("received%d", receiver+1))
}

func (m *team) outputs() (list []string) {
	for i := range teamReceivers {
		list = append(list, m.output(i))
	}
	return list
}

// through makes a client's links and gives their URLs.
func (m *team) through(name string) (urls []string) {
	for _, port := range m.ports {
		k := newLink(m.t, fmt.Sprintf("127.0.0.1:%d", port))
		m.links[name] = append(m.links[name], k)
		urls = append(urls, "nats://"+k.address)
	}
	return urls
}

// urlsOf are a client's links.
func (m *team) urlsOf(name string) (urls []string) {
	for _, k := range m.links[name] {
		urls = append(urls, "nats://"+k.address)
	}
	return urls
}

func (m *team) startServer(i int) {
	self, err := os.Executable()
	m.must(err)
	m.launch(fmt.Sprintf("n%d", i+1), []string{"LOGFORWARD_TEST_SERVER=" + m.path(fmt.Sprintf("n%d.conf", i+1))}, self)
}

func (m *team) startReceiver(i int) {
	name := fmt.Sprintf("r%d", i+1)
	m.launch(name, nil, binary, "receive", "--config", m.path(name+".cfg"))
}

func (m *team) startNode(i int) {
	m.launch(fmt.Sprintf("node%d", i), nil, binary, "forward", "--config", m.path(fmt.Sprintf("node%d.cfg", i)))
}

func (m *team) startAll(partitions int) {
	m.t.Helper()
	for i := range teamServers {
		m.startServer(i)
	}
	m.leader()
	m.setup("--partitions", fmt.Sprint(partitions), "--replicas", "3")
	for i := range teamReceivers {
		m.startReceiver(i)
	}
	for i := range m.nodes {
		m.startNode(i)
	}
}

// leader waits until the servers have chosen who makes streams.
func (m *team) leader() {
	m.t.Helper()
	m.eventually("a leader", patience, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		nc, err := broker.Connect(ctx, broker.Options{URLs: strings.Split(m.urls(), ",")})
		if err != nil {
			return err
		}
		defer nc.Close()
		js, err := broker.JetStream(nc, "")
		if err == nil {
			_, err = js.AccountInfo(ctx)
		}
		return err
	})
}

// urls are those of the servers themselves.
func (m *team) urls() string {
	var list []string
	for _, p := range m.ports {
		list = append(list, fmt.Sprintf("nats://127.0.0.1:%d", p))
	}
	return strings.Join(list, ",")
}

func (m *team) setup(args ...string) {
	m.t.Helper()
	m.eventually("setup", 60*time.Second, func() error {
		out, err := m.run(append([]string{"setup", "--url", m.urls()}, args...)...)
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

func (m *team) overview() (*receive.Overview, error) {
	out, err := m.output2("receivers", "--json", "--url", m.urls())
	if err != nil {
		return nil, err
	}
	o := new(receive.Overview)
	return o, json.Unmarshal(out, o)
}

// output2 is what a command writes to standard output.
func (m *team) output2(args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%v: %w: %s", args, err, errs.String())
	}
	return out.Bytes(), nil
}

func (m *team) compareAt(node, log int, want []byte) error {
	var got bytes.Buffer
	missing, err := receive.Cat(&got, m.outputs(), m.nodes[node], fmt.Sprintf("app%d", log))
	if err != nil && !errors.Is(err, receive.ErrNoLedger) {
		return err
	}
	if bytes.Equal(got.Bytes(), want) && missing == 0 {
		return nil
	}
	at := 0
	for at < min(got.Len(), len(want)) && got.Bytes()[at] == want[at] {
		at++
	}
	return fmt.Errorf("node %d, log %d: %d bytes, want %d; first difference at %d; %d files missing", node, log, got.Len(), len(want), at, missing)
}

func (m *team) showAll() {
	for _, name := range []string{"n1.out", "n1.log", "n2.out", "n2.log", "n3.out", "n3.log", "r1.out", "r2.out", "r3.out", "node0.out"} {
		b, _ := os.ReadFile(m.path(name))
		lines := strings.Split(string(b), "\n")
		m.t.Logf("%s:\n%s", name, strings.Join(lines[max(0, len(lines)-50):], "\n"))
	}
	out, err := m.output2("receivers", "--url", m.urls())
	m.t.Logf("%s %v", out, err)
	for _, dir := range m.outputs() {
		_ = filepath.Walk(dir, func(p string, i os.FileInfo, err error) error {
			if err == nil && !i.IsDir() && strings.HasSuffix(p, "@ledger.jsonl") {
				m.t.Logf("%9d %s", i.Size(), strings.TrimPrefix(p, m.dir))
			}
			return nil
		})
	}
}

// writeAll writes to all logs until stop is called.
func (m *team) writeAll(number uint64, pace time.Duration) (writers []*writer, stop func()) {
	var tasks sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	stop = func() {
		cancel()
		tasks.Wait()
	}
	m.t.Cleanup(stop)
	for i := range m.nodes {
		for j := range m.logs {
			w := newWriter(m.logPath(i, j), number, uint64(i*1000+j))
			w.may = &m.followed
			m.must(w.open())
			writers = append(writers, w)
		}
	}
	for _, w := range writers {
		tasks.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-time.After(time.Duration(w.random.Int64N(int64(pace)))):
				}
				if err := w.step(); err != nil {
					m.t.Error(err)
					return
				}
			}
		})
	}
	return writers, stop
}
