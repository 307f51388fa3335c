package fleet

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"logforward/internal/awake"
	"logforward/test/fleet/site"
)

// supervised is a fleet whose nodes have the autonomous agent, which starts their daemons.
type supervised struct {
	*fleet
	events *events
}

// quick makes the machine's looks frequent; what it does stays as it is.
func quick(text string) string {
	return strings.NewReplacer("interval: 5s", "interval: 1s", "interval: 60s", "interval: 2s", "interval: 2m", "interval: 2s").Replace(text)
}

// asShipped changes nothing but where the definitions are.
func asShipped(text string) string { return text }

// machinePolicy lets the administrator do everything, and the node's own root what the machine does.
const machinePolicy = `package io.choria.mcorpc.authpolicy

import rego.v1

default allow := false

allow if input.callerid in {"up=admin", "choria=admin.mcollective"}

allow if {
	input.callerid == "local=root"
	input.action in {"status", "list", "check", "pause", "resume"}
}
`

// supervise starts so many nodes' servers, with the machine and its check in their stores, and nothing else.
func supervise(t *testing.T, security site.Security, nodes int, choria string, edit func(string) string) *supervised {
	t.Helper()
	return superviseOf(t, security, nodes, edit, site.NodeOptions{Choria: choria})
}

func superviseOf(t *testing.T, security site.Security, nodes int, edit func(string) string, o site.NodeOptions) *supervised {
	t.Helper()
	settings := map[string]string{"ensure_backoff": "1s", "ensure_steady": "2s"}
	for k, v := range o.Settings {
		settings[k] = v
	}
	o.Settings = settings
	if o.Policies == nil {
		o.Policies = map[string]string{"logforward.rego": machinePolicy}
	}
	f := newFleetOf(t, security, nodes, options{node: o, idle: true, time: 3 * patience})
	s := &supervised{f, f.listen()}
	f.each(func(n *site.Node) error {
		for _, name := range []string{"logforward", "logforward_check", "logforward_metrics"} {
			err := n.InstallMachine(filepath.Join(programs.Machines, name), func(text string) string {
				return edit(strings.Replace(text, "/etc/choria/logforward/forwarders.d", n.Definitions(), 1)) + "\n"
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return s
}

// up starts the servers, and waits until all nodes forward.
func (s *supervised) up() {
	s.Helper()
	s.each(func(n *site.Node) error { return n.StartServer(s.ctx) })
	for _, n := range s.nodes {
		s.events.reach(n, "logforward", 0, "forwarding")
	}
}

// From a server that starts on a node on which nothing runs to bytes at the centre, with the intervals as they are shipped.
func TestMachineColdStart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		security site.Security
		choria   string
	}{{"tokens", site.Tokens, programs.Choria}, {"certificates", site.Certificates, programs.Choria}, {"next", site.Tokens, programs.Next}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := supervise(t, c.security, 1, c.choria, asShipped)
			n := s.nodes[0]
			s.define(n, "app")
			s.must(n.Write("app.log", lines(n.Name, 0, 1000)))
			watch := awake.Begin(t)
			s.must(n.StartServer(s.ctx))
			s.must(s.receiver.Wait(s.ctx, n, "app", lines(n.Name, 0, 1000)))
			arrived := watch.Took()
			s.events.reach(n, "logforward", 0, "forwarding")
			if took := watch.Took(); took > 15*time.Second {
				t.Errorf("forwarding after %s (bytes after %s), want less than 15 s", took, arrived)
			} else {
				t.Logf("bytes after %s, state after %s", arrived.Round(time.Millisecond), took.Round(time.Millisecond))
			}
			s.events.sequence(n, "logforward", 0, "observed", "forwarding")
			s.daemon(n)
		})
	}
}

// What the schema of choria machine validate doesn't know, though every server since 0.29 runs it.
func TestMachineValidates(t *testing.T) {
	t.Parallel()
	f := newFleet(t, site.Tokens, 0)
	for name, unknown := range map[string][]string{
		"logforward": {"expression"}, "logforward_metrics": {"metric"}, "logforward_check": nil, "logforward_quiet": nil, "logforward_button": {"expression"},
		"logforward_plugins": {"plugins"}, "logforward_policy": nil,
	} {
		out, err := f.admin.Choria(f.ctx, "machine", "validate", filepath.Join(programs.Machines, name))
		text := string(out)
		if (err != nil) != (len(unknown) > 0) {
			t.Errorf("%s: %v: %s", name, err, text)
		}
		b, err := os.ReadFile(filepath.Join(programs.Machines, name, "machine.yaml"))
		f.must(err)
		types := watcherTypes(t, b)
		for i, kind := range types {
			rejected := strings.Contains(text, fmt.Sprintf("/watchers/%d: ", i))
			known := true
			for _, u := range unknown {
				known = known && kind != u
			}
			if rejected == known {
				t.Errorf("%s: watcher %d, of type %s: rejected %t", name, i, kind, rejected)
			}
		}
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "/") && !strings.HasPrefix(line, "/watchers/") && !strings.Contains(line, "valid machine.yaml") {
				t.Errorf("%s: %s", name, line)
			}
		}
	}
}

// Where the program isn't installed the machine says so, and no watcher fails again and again.
func TestMachineWithoutTheProgram(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/usr/bin/logforward"); err == nil {
		t.Skip("/usr/bin/logforward is installed on this machine")
	}
	s := supervise(t, site.Tokens, 1, "", quick)
	n := s.nodes[0]
	s.must(os.Remove(n.Command()))
	s.must(n.StartServer(s.ctx))
	s.events.sequence(n, "logforward", 0, "observed", "failed")
	s.reason(n, "no program logforward", "install it")
}

// What operators do with choria req choria_util, and what the fleet's tools show of it.
func TestMachineTransitions(t *testing.T) {
	bothGenerations(t, func(t *testing.T, choria string) {
		s := supervise(t, site.Tokens, 1, choria, quick)
		n := s.nodes[0]
		s.define(n, "app")
		watch, health := s.watch("--machine", "logforward"), s.watch("--type", "nagios")
		w := s.write("app")
		s.up()
		s.moved(n, "app")
		s.must(health.Await(s.ctx, `logforward_check#check OK: `))

		mark := s.events.count(n, "logforward")
		s.transit(n, "pause")
		s.events.sequence(n, "logforward", mark, "pausing", "observed", "paused")
		status, err := n.Status(s.ctx)
		s.must(err)
		if p := status.Pause; p == nil || p.By != "local=root" || !strings.Contains(p.Reason, "transition pause") || time.Until(p.Until) > 4*time.Hour || time.Until(p.Until) < 239*time.Minute {
			t.Errorf("the pause is %+v, want one of local=root for four hours", p)
		}
		s.must(health.Await(s.ctx, `logforward_check#check WARNING: .*paused`))
		s.streamedHealth(n, `"WARNING"`, "paused")
		// A daemon that is started anew meanwhile, for an upgrade say, publishes no more than the one before.
		mark = s.events.count(n, "logforward")
		s.transit(n, "restart")
		s.events.sequence(n, "logforward", mark, "restarting", "observed", "paused")
		again, err := n.Status(s.ctx)
		s.must(err)
		if again.PID == status.PID || again.Pause == nil || !again.Pause.Until.Equal(status.Pause.Until) {
			t.Errorf("after a restart of %d the daemon %d has the pause %+v, want %+v", status.PID, again.PID, again.Pause, status.Pause)
		}
		first := s.daemon(n)
		mark = s.events.count(n, "logforward")
		s.transit(n, "resume")
		s.events.sequence(n, "logforward", mark, "resuming", "observed", "forwarding")
		s.moved(n, "app")
		if s.daemon(n) != first {
			t.Error("a pause and a resume have replaced the daemon")
		}
		mark = s.events.count(n, "logforward")
		s.transit(n, "restart")
		s.events.sequence(n, "logforward", mark, "restarting", "observed", "forwarding")
		if s.daemon(n) == first {
			t.Error("a restart has left the daemon alone")
		}
		s.moved(n, "app")
		w.finish("app")
		if state := s.state(n, "logforward"); state != "forwarding" {
			t.Errorf("machine_states says %s", state)
		}
		s.must(watch.Await(s.ctx, `(?s)logforward.*pause: forwarding => pausing.*found_paused: observed => paused.*restart: forwarding => restarting`))
		s.stream(n, "pausing", "paused", "resuming", "restarting", "forwarding")
	})
}

// A node on which nothing happens costs next to nothing: looks make no events, no complaints and no disk's work.
func TestMachineIsQuiet(t *testing.T) {
	bothGenerations(t, func(t *testing.T, choria string) {
		s := supervise(t, site.Tokens, 1, choria, quick)
		n := s.nodes[0]
		s.define(n, "app")
		s.must(n.Write("app.log", lines(n.Name, 0, 100)))
		s.up()
		s.must(s.receiver.Wait(s.ctx, n, "app", lines(n.Name, 0, 100)))
		log := func() string {
			b, err := os.ReadFile(filepath.Join(n.Dir, "server.log"))
			s.must(err)
			return string(b)
		}
		s.await(func() error { // the start is over
			data, err := n.MachineData("logforward")
			if err == nil && (data["attempts"] != "0" || data["action"] != "") {
				err = fmt.Errorf("data %v", data)
			}
			return err
		})
		before, began := log(), time.Now()
		s.events.forget()
		written := map[time.Time]bool{}
		var since string
		s.await(func() error {
			info, err := os.Stat(filepath.Join(n.MachineStore(), "logforward", "machine_data.json"))
			if err != nil {
				return err
			}
			written[info.ModTime()] = true
			since = log()[len(before):]
			if looks := strings.Count(since, "Running ./logforward ensure --data"); looks < 10 {
				return fmt.Errorf("%d looks", looks)
			}
			return nil
		})
		if most := 2 + int(time.Since(began)/(20*time.Second)); len(written) > most {
			t.Errorf("10 looks have written the machine's data %d times, want %d at most", len(written)-1, most-1)
		}
		if all := s.events.all("logforward"); len(all) != 0 {
			t.Errorf("events of a node on which nothing happens: %v", all)
		}
		for line := range strings.Lines(since) {
			if strings.Contains(line, "logforward") && (strings.Contains(line, "level=warn") || strings.Contains(line, "level=error")) {
				t.Errorf("Choria Server complains: %s", line)
			}
		}
	})
}

// transit does what choria req choria_util machine_transition does.
func (s *supervised) transit(n *site.Node, name string) {
	s.Helper()
	r, err := s.admin.Request(s.ctx, "choria_util", "machine_transition", site.Inputs{"name": "logforward", "transition": name}, n)
	s.must(err)
	s.must(r.Err())
	if reply, ok := r.From(n); !ok || reply.Data["success"] != true {
		s.Fatalf("transition %s: %+v", name, r.Replies)
	}
}

// state is what choria req choria_util machine_states says of a machine.
func (s *supervised) state(n *site.Node, machine string) string {
	s.Helper()
	r, err := s.admin.Request(s.ctx, "choria_util", "machine_states", nil, n)
	s.must(err)
	s.must(r.Err())
	reply, _ := r.From(n)
	b, err := json.Marshal(reply.Data["states"])
	s.must(err)
	states := map[string]struct{ Name, State string }{}
	s.must(json.Unmarshal(b, &states))
	for _, m := range states {
		if m.Name == machine {
			return m.State
		}
	}
	s.Fatalf("machine_states doesn't know %s: %s", machine, b)
	return ""
}

// watcherTypes are those of a machine's watchers, in its order.
func watcherTypes(t *testing.T, text []byte) []string {
	t.Helper()
	var m struct {
		Watchers []struct{ Type string } `yaml:"watchers"`
	}
	if err := yaml.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, w := range m.Watchers {
		all = append(all, w.Type)
	}
	return all
}

// The picture in the guide is that of the machine as it is.
func TestMachineGraphIsCurrent(t *testing.T) {
	t.Parallel()
	docs := filepath.Join(filepath.Dir(programs.Machines), "docs", "machine")
	graph := exec.CommandContext(t.Context(), "sh", "-c", `"$0" machine graph "$1" | LC_ALL=C awk -f "$2"`, programs.Choria, filepath.Join(programs.Machines, "logforward"), filepath.Join(docs, "graph.awk"))
	graph.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/", "USER=root"}
	now, err := graph.Output()
	if err != nil {
		t.Fatal(err)
	}
	was, err := os.ReadFile(filepath.Join(docs, "graph.dot"))
	if err != nil {
		t.Fatal(err)
	}
	if string(now) != string(was) {
		t.Errorf("docs/machine/graph.dot isn't what the machine says: make docs")
	}
	svg, err := os.ReadFile(filepath.Join(docs, "graph.svg"))
	if err != nil {
		t.Fatal(err)
	}
	edges := regexp.MustCompile(`"([a-z]+)" -> "([a-z]+)"`).FindAllStringSubmatch(string(now), -1)
	if len(edges) < 40 {
		t.Errorf("the graph has %d edges only", len(edges))
	}
	for _, e := range edges {
		if !strings.Contains(string(svg), "<title>"+e[1]+"&#45;&gt;"+e[2]+"</title>") {
			t.Errorf("docs/machine/graph.svg has no arrow from %s to %s: make docs", e[1], e[2])
		}
	}
	if drawn := len(regexp.MustCompile(`<title>[^<]*&gt;`).FindAllString(string(svg), -1)); drawn != len(edges) {
		t.Errorf("docs/machine/graph.svg has %d arrows, the machine %d: make docs", drawn, len(edges))
	}
}
