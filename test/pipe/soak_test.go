package pipe

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io/fs"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"logforward/internal/control"
	"logforward/internal/receive"
)

// soakHours is how long the soak takes; 0: it isn't asked for.
func soakHours(t *testing.T) time.Duration {
	text := os.Getenv("LOGFORWARD_SOAK_HOURS")
	if text == "" {
		return 0
	}
	hours, err := strconv.ParseFloat(text, 64)
	if err != nil || hours <= 0 {
		t.Fatalf("LOGFORWARD_SOAK_HOURS=%s isn't a number of hours", text)
	}
	return time.Duration(hours * float64(time.Hour))
}

const (
	soakNodes = 3
	soakLogs  = 4 // of each node
)

// soak is a broker, two receivers and some nodes, whose logs are written and rotated all the time.
type soak struct {
	*fleet
	links   map[string]*link // of the nodes together, and of each receiver
	metrics map[string]int   // ports, by process
	logs    []*soakLog
	random  *rand.Rand
}

// soakLog is a log of a node. What was written is remembered as a digest alone.
type soakLog struct {
	node      int
	name      string
	writer    *writer
	digest    hash.Hash
	size      int64
	confirmed atomic.Int64
	rotated   []rotatedFile // that are still there
}

type rotatedFile struct {
	path  string
	end   int64     // the log's size up to this file's end
	since time.Time // when all of it was first seen to be confirmed; zero: it isn't
}

// keptFor is how long a file stays when all of it is confirmed: longer than a node needs to note that in its checkpoint.
const keptFor = 30 * time.Second

// step writes, and removes files all of which has been central for a while.
func (l *soakLog) step() error {
	before := l.writer.rotated
	if err := l.writer.step(); err != nil {
		return err
	}
	l.writer.mu.Lock()
	l.digest.Write(l.writer.written)
	l.size += int64(len(l.writer.written))
	l.writer.written = l.writer.written[:0]
	l.writer.mu.Unlock()
	if l.writer.rotated != before {
		l.rotated = append(l.rotated, rotatedFile{path: fmt.Sprintf("%s.%d", l.writer.path, l.writer.rotated), end: l.size})
	}
	for i := range l.rotated {
		if r := &l.rotated[i]; r.since.IsZero() && r.end <= l.confirmed.Load() {
			r.since = time.Now()
		}
	}
	for len(l.rotated) > 0 && !l.rotated[0].since.IsZero() && time.Since(l.rotated[0].since) > keptFor {
		if err := os.Remove(l.rotated[0].path); err != nil {
			return err
		}
		l.rotated = l.rotated[1:]
	}
	return nil
}

func identityOf(node int) string { return fmt.Sprintf("web%d.example.net", node) }

func newSoak(t *testing.T, number uint64) *soak {
	t.Helper()
	f := newFleet(t)
	s := &soak{fleet: f, links: map[string]*link{"nodes": f.brokers}, metrics: map[string]int{}, random: rand.New(rand.NewPCG(number, 99))}
	t.Cleanup(func() {
		for name := range s.metrics {
			if b, err := os.ReadFile(s.path(name + ".out")); err == nil && t.Failed() {
				t.Logf("%s:\n%s", name, b[max(0, len(b)-6000):])
			}
		}
	})
	s.metrics["broker"] = freePort(t)
	f.brokerArgs = []string{"--metrics-listen", fmt.Sprintf("127.0.0.1:%d", s.metrics["broker"])}
	for _, name := range []string{"r1", "r2"} {
		s.links[name] = newLink(t, fmt.Sprintf("127.0.0.1:%d", f.port))
		s.metrics[name] = freePort(t)
		f.write(name+".cfg", fmt.Sprintf("url = nats://%s\noutput = %s\nstate = %s\nreceiver = %s\nrotate_size = 1MiB\ncompress = zstd\nmetrics_listen = 127.0.0.1:%d\n",
			s.links[name].address, f.path("received-"+name), f.path("state-"+name), name, s.metrics[name]))
	}
	for i := range soakNodes {
		name := fmt.Sprintf("node%d", i)
		s.metrics[name] = freePort(t)
		for _, d := range []string{"logs", "forwarders"} {
			f.must(os.MkdirAll(f.path(name+"/"+d), 0o755))
		}
		f.write(name+".cfg", fmt.Sprintf("identity = %s\nstate = %s\nsocket = %s\nforwarders = %s\ndestination.central.url = nats://%s\nallowed_paths = %s\naudit_log = %s\nwishes = %s\npolicy = peers\nmetrics_listen = 127.0.0.1:%d\n",
			identityOf(i), f.path(name+"/state"), f.path(name+"/s"), f.path(name+"/forwarders"), f.brokers.address, f.path(name+"/logs/**"), f.path(name+"/audit.log"),
			f.path(name+"/wishes"), s.metrics[name]))
		for j := range soakLogs {
			l := &soakLog{node: i, name: fmt.Sprintf("app%d", j), digest: sha256.New()}
			l.writer = newWriter(f.path(fmt.Sprintf("%s/logs/%s.log", name, l.name)), number, uint64(i*100+j))
			f.must(l.writer.open())
			f.write(fmt.Sprintf("%s/forwarders/%s.yaml", name, l.name), fmt.Sprintf("log: %s\npath: %s\ndestination: central\nstart: beginning\n", l.name, l.writer.path))
			s.logs = append(s.logs, l)
		}
	}
	return s
}

// start starts a process by its name.
func (s *soak) start(name string) {
	switch {
	case name == "broker":
		s.fleet.start(name)
	case strings.HasPrefix(name, "node"):
		s.launch(name, nil, binary, "forward", "--config", s.path(name+".cfg"))
	default:
		s.launch(name, nil, binary, "receive", "--config", s.path(name+".cfg"))
	}
}

// learn asks the nodes what is confirmed; one that doesn't answer now does so later.
func (s *soak) learn() {
	for i := range soakNodes {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		status, err := control.NewClient(s.path(fmt.Sprintf("node%d/s", i))).Status(ctx, control.StatusRequest{})
		cancel()
		if err != nil {
			continue
		}
		for _, l := range s.logs {
			for _, x := range status.Logs {
				if l.node == i && x.Log == l.name {
					l.confirmed.Store(int64(x.Confirmed))
				}
			}
		}
	}
}

// fault lets one thing happen at random, and says what. Those that are watched for growth aren't killed once the soak is settled: they
// live to its end.
func (s *soak) fault(settled bool) string {
	pick := func(names ...string) string { return names[s.random.IntN(len(names))] }
	kill := []string{"r2", "node1", "node2"}
	if !settled {
		kill = append(kill, "broker", "r1", "node0")
	}
	a := time.Duration(s.random.IntN(4000)) * time.Millisecond
	switch s.random.IntN(5) {
	case 0:
		name := pick(kill...)
		s.kill(name, syscall.SIGKILL)
		time.Sleep(a)
		s.start(name)
		return "kill " + name
	case 1:
		name := pick(kill...)
		s.kill(name, syscall.SIGTERM)
		s.start(name)
		return "restart " + name
	case 2:
		name := pick("broker", "r1", "r2", "node0", "node1", "node2")
		s.signal(name, syscall.SIGSTOP)
		time.Sleep(2 * a)
		s.signal(name, syscall.SIGCONT)
		return "freeze " + name
	case 3:
		name := pick("nodes", "r1", "r2")
		s.links[name].set(true)
		time.Sleep(a)
		s.links[name].set(false)
		return "cut off " + name
	default:
		name := pick("nodes", "r1", "r2")
		way := s.random.IntN(3)
		s.links[name].mute(way != 0, way != 1)
		time.Sleep(2 * a)
		s.links[name].mute(false, false)
		return "let nothing through from or to " + name
	}
}

// --- growth

// series is what one quantity was, over the part of a soak that is judged.
type series struct {
	name   string
	values []float64
	slack  float64 // what it may grow by whatever it was
}

// growth compares the medians of the first and the last half. It is growth where the last is more than a fifth and the slack above the first.
func (s series) growth() (first, last float64, grows bool) {
	half := len(s.values) / 2
	first, last = median(s.values[:half]), median(s.values[half:])
	return first, last, last > first*1.2+s.slack
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	v := slices.Sorted(slices.Values(values))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// TestGrowth: what the soak calls growth.
func TestGrowth(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		name  string
		value func(i int) float64
		grows bool
	}{
		{"noise", func(int) float64 { return 50 + 20*r.Float64() }, false},
		{"waves", func(i int) float64 { return 50 + 20*math.Sin(float64(i)/5) }, false},
		{"one peak at the end", func(i int) float64 { return 50 + 500*float64(i/97) }, false},
		{"leak", func(i int) float64 { return 50 + float64(i)/2 + 5*r.Float64() }, true},
		{"step", func(i int) float64 { return 50 + 30*float64(i/50) }, true},
	} {
		s := series{name: c.name, slack: 8}
		for i := range 100 {
			s.values = append(s.values, c.value(i))
		}
		if first, last, grows := s.growth(); grows != c.grows {
			t.Errorf("%s: %.0f to %.0f: %v", c.name, first, last, grows)
		}
	}
}

// watched live through the whole judged part.
var watched = []string{"broker", "r1", "node0"}

// sample adds what the watched processes and directories are now.
func (s *soak) sample(into map[string]*series) {
	add := func(name string, value, slack float64) {
		if into[name] == nil {
			into[name] = &series{name: name, slack: slack}
		}
		into[name].values = append(into[name].values, value)
	}
	for _, process := range watched {
		m, err := scrape(s.metrics[process])
		if err != nil {
			continue // frozen just now
		}
		add(process+" resident MB", m["process_resident_memory_bytes"]/1e6, 32)
		add(process+" heap's next goal MB", m["go_memstats_next_gc_bytes"]/1e6, 40) // a multiple of what lives, two to nine times: a leak shows here first
		add(process+" descriptors", m["process_open_fds"], 30)
		add(process+" goroutines", m["go_goroutines"], 30)
	}
	for name, slack := range map[string]float64{"node0/state": 4, "state-r1": 8, "store": 64} {
		add(name+" MB", float64(size(s.path(name)))/1e6, slack)
	}
	rotated := 0.0
	for _, l := range s.logs {
		found, err := filepath.Glob(l.writer.path + ".*")
		s.must(err)
		rotated += float64(len(found))
	}
	add("rotated files on the nodes", rotated, 100)
}

// scrape reads a process's metrics that have no labels.
func scrape(port int) (map[string]float64, error) {
	client := http.Client{Timeout: time.Second}
	reply, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", port))
	if err != nil {
		return nil, err
	}
	defer reply.Body.Close()
	values := map[string]float64{}
	lines := bufio.NewScanner(reply.Body)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), " ")
		if v, err := strconv.ParseFloat(value, 64); ok && err == nil {
			values[name] = v
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	for _, name := range []string{"go_goroutines", "process_open_fds", "process_resident_memory_bytes", "go_memstats_next_gc_bytes"} {
		if values[name] == 0 {
			return nil, fmt.Errorf("no metric %s", name)
		}
	}
	return values, nil
}

func size(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if i, err := d.Info(); err == nil {
				n += i.Size()
			}
		}
		return nil
	})
	return n
}

// TestSoak runs a broker, two receivers and three nodes whose logs rotate, under load and faults, for as long as one likes. In the last two thirds of
// the time nothing of a process that lives through them may grow: memory, descriptors, goroutines, disk. At the end every log is compared by its digest.
func TestSoak(t *testing.T) {
	duration := soakHours(t)
	if duration == 0 {
		t.Skip("make soak HOURS=n runs it")
	}
	number := seed(t)
	t.Logf("LOGFORWARD_SEED=%d", number)
	s := newSoak(t, number)
	s.start("broker")
	s.setup("--partitions", "4")
	for _, name := range []string{"r1", "r2", "node0", "node1", "node2"} {
		s.start(name)
	}
	s.eventually("all logs to be followed", time.Minute, func() error {
		n := 0
		for i := range soakNodes {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			status, err := control.NewClient(s.path(fmt.Sprintf("node%d/s", i))).Status(ctx, control.StatusRequest{})
			cancel()
			if err != nil {
				return err
			}
			for _, l := range status.Logs {
				n += l.Files
			}
		}
		if n != len(s.logs) {
			return fmt.Errorf("%d files", n)
		}
		return nil
	})
	begin := time.Now()
	end, settled := begin.Add(duration), begin.Add(duration/3)
	var tasks, watching sync.WaitGroup
	ctx, stop := context.WithDeadline(t.Context(), end)
	defer stop()
	for _, l := range s.logs {
		tasks.Go(func() {
			for ctx.Err() == nil {
				if err := l.step(); err != nil {
					t.Error(err)
					return
				}
				time.Sleep(time.Duration(l.writer.random.IntN(60)) * time.Millisecond) // the pace of the load
			}
		})
	}
	judged := map[string]*series{}
	watching.Go(func() {
		tick := time.NewTicker(max(time.Second, duration/2000))
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			s.learn()
			if time.Now().After(settled) {
				s.sample(judged)
			}
		}
	})
	faults := map[string]int{}
	for time.Now().Before(end) {
		time.Sleep(time.Duration(s.random.IntN(4000)) * time.Millisecond)
		what := s.fault(time.Now().After(settled))
		faults[what]++
		t.Logf("%8.1fs %s", time.Since(begin).Seconds(), what)
	}
	tasks.Wait()
	watching.Wait()
	ended := time.Now()
	total := int64(0)
	for _, l := range s.logs {
		total += l.size
		want := l.digest.Sum(nil)
		s.eventually(fmt.Sprintf("%s of node %d to arrive", l.name, l.node), 2*time.Minute, func() error {
			got := sha256.New()
			counted := &counting{h: got}
			missing, err := receive.Cat(counted, []string{s.path("received-r1"), s.path("received-r2")}, identityOf(l.node), l.name)
			if err != nil {
				return err
			}
			if missing != 0 || counted.n != l.size || !slices.Equal(got.Sum(nil), want) {
				return fmt.Errorf("%d bytes are central, %d were written; %d files missing", counted.n, l.size, missing)
			}
			return nil
		})
	}
	t.Logf("%d logs, %.1f MB, all central %s after the last fault: equal; %d faults", len(s.logs), float64(total)/1e6, time.Since(ended).Round(100*time.Millisecond), sum(faults))
	for _, name := range slices.Sorted(maps.Keys(judged)) {
		one := judged[name]
		if least := 20; len(one.values) < least {
			t.Errorf("%s: %d samples, want %d at least: the soak is too short to judge", name, len(one.values), least)
			continue
		}
		first, last, grows := one.growth()
		t.Logf("%-45s %8.1f, then %8.1f, at most %8.1f (%d samples)", name, first, last, slices.Max(one.values), len(one.values))
		if grows {
			t.Errorf("%s grows: from %.1f to %.1f", name, first, last)
		}
	}
	for _, name := range []string{"node0", "node1", "node2", "r1", "r2", "broker"} {
		s.kill(name, syscall.SIGTERM)
	}
}

type counting struct {
	h hash.Hash
	n int64
}

func (c *counting) Write(b []byte) (int, error) {
	c.n += int64(len(b))
	return c.h.Write(b)
}

func sum(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}
