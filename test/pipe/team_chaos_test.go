package pipe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"logforward/internal/receive"
)

func newWriter(path string, number, stream uint64) *writer {
	return &writer{path: path, random: rand.New(rand.NewPCG(number, stream))}
}

// teamFaults leave everything running.
var teamFaults = []struct {
	name string
	do   func(m *team, r *rand.Rand)
}{
	{"kill a receiver", func(m *team, r *rand.Rand) {
		i := r.IntN(teamReceivers)
		m.kill(fmt.Sprintf("r%d", i+1), syscall.SIGKILL)
		time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond)
		m.startReceiver(i)
	}},
	{"stop a receiver for longer than its lease", func(m *team, r *rand.Rand) {
		m.mu.Lock()
		p := m.processes[fmt.Sprintf("r%d", r.IntN(teamReceivers)+1)]
		m.mu.Unlock()
		p.cmd.Process.Signal(syscall.SIGSTOP)
		time.Sleep(time.Duration(1500+r.IntN(2000)) * time.Millisecond)
		p.cmd.Process.Signal(syscall.SIGCONT)
	}},
	{"cut a receiver off", func(m *team, r *rand.Rand) {
		links := m.links[fmt.Sprintf("r%d", r.IntN(teamReceivers)+1)]
		for _, k := range links {
			k.set(true)
		}
		time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond)
		for _, k := range links {
			k.set(false)
		}
	}},
	{"let nothing through from or to a receiver", func(m *team, r *rand.Rand) {
		links, way := m.links[fmt.Sprintf("r%d", r.IntN(teamReceivers)+1)], r.IntN(3)
		for _, k := range links {
			k.mute(way != 0, way != 1)
		}
		time.Sleep(time.Duration(500+r.IntN(3000)) * time.Millisecond)
		for _, k := range links {
			k.mute(false, false)
		}
	}},
	{"kill a server", func(m *team, r *rand.Rand) {
		i := r.IntN(teamServers)
		m.kill(fmt.Sprintf("n%d", i+1), syscall.SIGKILL)
		time.Sleep(time.Duration(r.IntN(2000)) * time.Millisecond)
		m.startServer(i)
	}},
	{"kill a node", func(m *team, r *rand.Rand) {
		i := r.IntN(len(m.nodes))
		m.kill(fmt.Sprintf("node%d", i), syscall.SIGKILL)
		m.startNode(i)
	}},
	{"cut all nodes off", func(m *team, r *rand.Rand) {
		for _, k := range m.links["nodes"] {
			k.set(true)
		}
		time.Sleep(time.Duration(r.IntN(1500)) * time.Millisecond)
		for _, k := range m.links["nodes"] {
			k.set(false)
		}
	}},
	{"restart all receivers one by one", func(m *team, r *rand.Rand) {
		for i := range teamReceivers {
			m.kill(fmt.Sprintf("r%d", i+1), syscall.SIGTERM)
			m.startReceiver(i)
		}
	}},
	{"change the number of partitions", func(m *team, r *rand.Rand) {
		m.setup("--partitions", fmt.Sprint(3+r.IntN(6)), "--replicas", "3")
	}},
}

// TestTeamUnderFaults: three servers with three copies of everything, three receivers and fifty logs of five nodes, while all of them are
// killed, stopped, cut off and restarted, and the layout changes. All bytes arrive, each once, in order.
func TestTeamUnderFaults(t *testing.T) {
	t.Parallel()
	number := seed(t)
	t.Logf("LOGFORWARD_SEED=%d", number)
	r := rand.New(rand.NewPCG(number, 99))
	m := newTeam(t, 5, 10, r.IntN(2) == 0)
	m.startAll(4)
	writers, stop := m.writeAll(number, 400*time.Millisecond)
	m.eventually("all logs to be followed", time.Minute, func() error {
		for i := range m.nodes {
			for j := range m.logs {
				var got bytes.Buffer
				if _, err := receive.Cat(&got, m.outputs(), m.nodes[i], fmt.Sprintf("app%d", j)); err != nil || got.Len() == 0 {
					return errors.Join(err, fmt.Errorf("node %d, log %d: nothing yet", i, j))
				}
			}
		}
		return nil
	})
	m.followed.Store(true)
	begin := time.Now()
	last := len(teamFaults)
	order := r.Perm(last) // each once, and then at random
	for n, until := 0, begin.Add(seconds(t, 10)); time.Now().Before(until); n++ {
		fault := teamFaults[r.IntN(last)]
		if n < len(order) {
			fault = teamFaults[order[n]]
		}
		t.Logf("%6.2fs %s", time.Since(begin).Seconds(), fault.name)
		fault.do(m, r)
		time.Sleep(time.Duration(r.IntN(500)) * time.Millisecond)
	}
	stop()
	ended := time.Now()
	total := 0
	for n, w := range writers {
		i, j := n/m.logs, n%m.logs
		total += len(w.written)
		m.eventually("all to arrive", 90*time.Second, func() error { return m.compareAt(i, j, w.written) })
	}
	t.Logf("%6.2fs %d bytes of %d logs; all there %s after the last was written", time.Since(begin).Seconds(), total, len(writers), time.Since(ended).Round(10*time.Millisecond))
	m.operate()
	for n, w := range writers {
		m.must(m.compareAt(n/m.logs, n%m.logs, w.written))
	}
}

// operate does what an operator does with a team, and compares.
func (m *team) operate() {
	m.t.Helper()
	m.eventually("all receivers to live", 90*time.Second, func() error {
		o, err := m.overview()
		if err != nil {
			return err
		}
		for _, r := range o.Receivers {
			if !r.Alive {
				return fmt.Errorf("%+v", r)
			}
		}
		for _, p := range o.Partitions {
			if p.Owner == "" {
				return fmt.Errorf("%+v", p)
			}
		}
		return nil
	})
	if _, err := m.output2("drain", "r2", "--url", m.urls()); err != nil {
		m.t.Fatal(err)
	}
	o, err := m.overview()
	m.must(err)
	if r := o.Receiver("r2"); r == nil || len(r.Partitions) > 0 || !r.Drained {
		m.t.Errorf("drained: %+v", r)
	}
	if _, err := m.output2("drain", "r2", "--undo", "--url", m.urls()); err != nil {
		m.t.Fatal(err)
	}
	m.eventually("r2 to have partitions again", 90*time.Second, func() error {
		o, err := m.overview()
		if err != nil {
			return err
		}
		if r := o.Receiver("r2"); len(r.Partitions) == 0 {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	// What locate says is where the bytes are.
	b, err := m.output2("locate", "web0.example.net/app0", "--json", "--url", m.urls())
	m.must(err)
	var l receive.Located
	m.must(json.Unmarshal(b, &l))
	end := l.Locations[len(l.Locations)-1]
	if end.To != l.Position || !slices.Contains(m.outputs(), end.Output) {
		m.t.Errorf("located %+v", l)
	}
	var want bytes.Buffer
	_, err = receive.Cat(&want, m.outputs(), "web0.example.net", "app0")
	m.must(err)
	args := []string{"cat", "web0.example.net/app0", "--output", m.output(0) + "," + m.output(1) + "," + m.output(2)}
	if got, err := m.output2(args...); err != nil || !bytes.Equal(got, want.Bytes()) {
		m.t.Errorf("%v: %d bytes, want %d, %v", args, len(got), want.Len(), err)
	}
}
