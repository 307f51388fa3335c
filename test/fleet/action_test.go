package fleet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"logforward/internal/audit"
	"logforward/internal/control"
	"logforward/test/fleet/site"
)

// ask asks all nodes for an action as the administrator; every one of them has to do it.
func (f *fleet) ask(action string, inputs site.Inputs) *site.Result {
	f.Helper()
	r, err := f.admin.Req(f.ctx, action, inputs, f.nodes...)
	f.must(err)
	f.must(r.Err())
	if len(r.Replies) != len(f.nodes) {
		f.Fatalf("%s: %d replies of %d nodes", action, len(r.Replies), len(f.nodes))
	}
	return r
}

// wants compares an output of all replies.
func (f *fleet) wants(r *site.Result, output string, want any) {
	f.Helper()
	for _, reply := range r.Replies {
		if got := reply.Data[output]; got != want {
			f.Errorf("%s: %s is %v, want %v; all: %v", reply.Sender, output, got, want, reply.Data)
		}
	}
}

// Each action, of three real servers, as an operator asks for it; and the bytes that come of it.
func TestActions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		security site.Security
		next     bool // broker and servers of the next generation of Choria
	}{{site.Tokens, false}, {site.Certificates, false}, {site.Tokens, true}, {site.Certificates, true}} {
		name := c.security.String()
		o := options{archive: true}
		if c.next {
			name += " of " + nextRelease
			o.node.Choria, o.site = programs.Next, func(c *site.Config) { c.Broker = programs.Next }
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := &actions{fleet: newFleetOf(t, c.security, 3, o), path: "app.log"}
			a.nothing()
			a.start()
			a.read()
			a.pause()
			a.pauseAll()
			a.redirect()
			a.history()
			a.stop()
		})
	}
}

// actions is one log's life.
type actions struct {
	*fleet
	path    string
	central []byte // what the receiver should have of each node
	archive []byte
	ids     map[string]string // verb to request id
	fastest time.Duration
}

func (a *actions) ask(action string, inputs site.Inputs) *site.Result {
	a.Helper()
	r := a.fleet.ask(action, inputs)
	if a.ids == nil {
		a.ids = map[string]string{}
	}
	a.ids[action] = r.RequestID
	if inputs["log"] != "" {
		a.ids[action+" "+inputs["log"]] = r.RequestID
	}
	if took := r.Stats.RequestTime; a.fastest == 0 || took < a.fastest {
		a.fastest = took
	}
	return r
}

// arrived waits until both places have what they should, and the nodes know it.
func (a *actions) arrived() {
	a.Helper()
	a.each(func(n *site.Node) error { return a.receiver.Wait(a.ctx, n, "app", a.central) })
	a.each(func(n *site.Node) error { return a.fleet.archive.Receiver.Wait(a.ctx, n, "app", a.archive) })
	position := len(a.central) // elsewhere it begins anew
	if len(a.archive) > 0 {
		position = len(a.archive)
	}
	a.each(func(n *site.Node) error { return n.Await(a.ctx, 1, site.Confirmed(position)) })
}

// write appends lines, which belong to the given place.
func (a *actions) write(to *[]byte) {
	a.Helper()
	more := lines("all", len(a.central)+len(a.archive), 500)
	*to = append(*to, more...)
	a.must(a.Write(a.path, more))
}

func (a *actions) nothing() {
	a.Helper()
	r := a.ask("list", nil)
	a.wants(r, "state", "none")
	a.wants(a.ask("status", nil), "state", "idle")
	r = a.ask("check", nil)
	a.wants(r, "state", "unknown") // nobody has asked it for anything
	a.wants(r, "logs", 0.0)
	if n := r.Summaries["state"]["unknown"]; n != 3 {
		a.Errorf("the summary counts %v nodes, want 3: %v", n, r.Summaries)
	}
}

func (a *actions) start() {
	a.Helper()
	a.write(&a.central)
	inputs := site.Inputs{"log": "app", "path": a.LogFile(a.path), "destination": "central", "from": "beginning", "rate": "50MiB/s", "for": "90m", "reason": "ticket 4711"}
	before := time.Now()
	r := a.ask("start", inputs)
	a.wants(r, "changed", true)
	for _, reply := range r.Replies {
		until, err := time.Parse(time.RFC3339, fmt.Sprint(reply.Data["until"]))
		if d := until.Sub(before); err != nil || d < 89*time.Minute || d > 92*time.Minute {
			a.Errorf("%s: it ends at %v (%v), want in 90 minutes", reply.Sender, reply.Data["until"], err)
		}
		if text := fmt.Sprint(reply.Data["message"]); !strings.Contains(text, a.LogFile(a.path)) || !strings.Contains(text, "central") {
			a.Errorf("%s: message %q", reply.Sender, text)
		}
	}
	a.arrived()
}

func (a *actions) read() {
	a.Helper()
	for _, inputs := range []site.Inputs{nil, {"log": "app"}} {
		r := a.ask("status", inputs)
		a.wants(r, "files", 1.0)
		a.wants(r, "lag_bytes", 0.0)
		a.wants(r, "lag_seconds", 0.0)
		a.wants(r, "error", "")
		for _, reply := range r.Replies {
			logs, _ := reply.Data["logs"].(map[string]any)
			if text := fmt.Sprint(logs["app"]); !strings.Contains(text, a.admin.Caller()) || !strings.Contains(text, "ticket 4711") {
				a.Errorf("%s says of the log %q, want who started it and why", reply.Sender, text)
			}
		}
	}
	for _, reply := range a.ask("status", site.Inputs{"details": "true"}).Replies {
		logs, _ := reply.Data["logs"].(map[string]any)
		app, _ := logs["app"].(map[string]any)
		override, _ := app["override"].(map[string]any)
		if app["confirmed"] != float64(len(a.central)) || app["gaps"] != 0.0 || app["limit"] != float64(50<<20) || override["by"] != a.admin.Caller() || override["request"] != a.ids["start"] {
			a.Errorf("%s: details %v", reply.Sender, app)
		}
	}
	r := a.ask("list", nil)
	a.wants(r, "state", "defined")
	for _, reply := range r.Replies {
		forwarders, _ := reply.Data["forwarders"].(map[string]any)
		if text := fmt.Sprint(forwarders["app"]); !strings.Contains(text, a.LogFile(a.path)) || !strings.Contains(text, "central") {
			a.Errorf("%s lists %v", reply.Sender, forwarders)
		}
	}
	r = a.ask("check", nil)
	a.wants(r, "state", "ok")
	a.wants(r, "logs", 1.0)
}

// held writes, and sees that nothing of it comes while the nodes say why.
func (a *actions) held() {
	a.Helper()
	had, before := a.central, len(a.central)
	a.write(&a.central)
	lag := int64(len(a.central) - before)
	a.each(func(n *site.Node) error {
		return n.Await(a.ctx, 1, func(l control.LogStatus) bool { return l.State == "paused" && l.LagBytes == lag })
	})
	r := a.ask("status", site.Inputs{"log": "app"})
	a.wants(r, "state", "paused")
	a.wants(r, "lag_bytes", float64(lag))
	if n := r.Summaries["state"]["paused"]; n != 3 {
		a.Errorf("the summary counts %v paused nodes, want 3: %v", n, r.Summaries)
	}
	a.each(func(n *site.Node) error { return a.receiver.Wait(a.ctx, n, "app", had) })
}

func (a *actions) pause() {
	a.Helper()
	r := a.ask("pause", site.Inputs{"log": "app", "for": "1d", "reason": "maintenance"})
	a.wants(r, "state", "paused")
	a.wants(r, "changed", true)
	a.held()
	a.wants(a.ask("resume", site.Inputs{"log": "app"}), "changed", true)
	a.arrived()
}

func (a *actions) pauseAll() {
	a.Helper()
	a.wants(a.ask("pause", site.Inputs{"all": "true"}), "state", "paused")
	a.held()
	a.ask("resume", site.Inputs{"all": "true"})
	a.arrived()
}

func (a *actions) redirect() {
	a.Helper()
	r := a.ask("redirect", site.Inputs{"log": "app", "destination": "archive", "reason": "move"})
	a.wants(r, "changed", true)
	a.write(&a.archive)
	a.arrived()
}

// history compares what the nodes remember with who asked for what: as the command line tells it, and as the audit logs have it.
func (a *actions) history() {
	a.Helper()
	app := a.LogFile(a.path)
	told := map[string][]string{
		"start":    {"ticket 4711", "path=" + app, "destination=central", "from=beginning", "rate=52428800"},
		"pause":    {},
		"resume":   {},
		"redirect": {"move", "destination=archive"},
	}
	inputs := map[string]map[string]any{
		"start":    {"log": "app", "path": app, "destination": "central", "from": "beginning", "rate": "50MiB/s", "for": "1h30m", "reason": "ticket 4711"}, // as they are decided on
		"redirect": {"log": "app", "destination": "archive", "reason": "move"},
	}
	for _, n := range a.nodes {
		out, err := a.Command(a.ctx, "status", "app", "--history", "--socket", n.Socket())
		a.must(err)
		for verb, texts := range told {
			// Of pause and resume the last ones were about all logs, and are no log's.
			id := a.ids[verb+" app"]
			lines := slices.DeleteFunc(strings.Split(string(out), "\n"), func(l string) bool {
				return !strings.Contains(l, "request "+id) || strings.Contains(l, "(lifted") // when it began, not when it ended
			})
			if id == "" || len(lines) != 1 {
				a.Fatalf("%s: request %q of %s is told of in %d lines, want 1, in\n%s", n.Name, id, verb, len(lines), out)
			}
			for _, text := range append(texts, verb+" by "+a.admin.Caller()) {
				if !strings.Contains(lines[0], text) {
					a.Errorf("%s: the history has no %q in %q", n.Name, text, lines[0])
				}
			}
		}
		choria, err := os.ReadFile(n.AuditLog())
		a.must(err)
		own, err := os.ReadFile(n.Decisions())
		a.must(err)
		decided := map[string]audit.Decision{}
		for line := range bytes.Lines(own) {
			var event struct{ Data audit.Decision }
			a.must(json.Unmarshal(line, &event))
			decided[event.Data.Request] = event.Data
		}
		for key, id := range a.ids {
			verb, _, _ := strings.Cut(key, " ")
			if verb == "status" || verb == "list" || verb == "check" {
				continue
			}
			d, known := decided[id]
			if !known || !d.Allowed || d.Action != verb || d.Caller != a.admin.Caller() {
				a.Errorf("%s: the audit log has of request %s of %s: %+v", n.Name, id, verb, d)
			}
			for input, want := range inputs[verb] {
				if d.Inputs[input] != want {
					a.Errorf("%s: the audit log of %s has %s %v, want %v", n.Name, verb, input, d.Inputs[input], want)
				}
			}
			if !bytes.Contains(choria, []byte(id)) {
				a.Errorf("%s: Choria's audit log has no request %s of %s", n.Name, id, verb)
			}
		}
	}
}

func (a *actions) stop() {
	a.Helper()
	a.write(&a.archive)
	a.ask("stop", site.Inputs{"log": "app", "drain": "true", "reason": "the end"})
	a.each(func(n *site.Node) error { return a.fleet.archive.Receiver.Wait(a.ctx, n, "app", a.archive) })
	a.each(func(n *site.Node) error { return n.Await(a.ctx, 0, nil) })
	a.wants(a.ask("list", nil), "state", "none")
	a.must(a.Write(a.path, []byte("nobody sends this\n")))
	a.each(func(n *site.Node) error { return a.fleet.archive.Receiver.Wait(a.ctx, n, "app", a.archive) })
	if a.fastest > time.Second {
		a.Errorf("no request was answered within a second; the fastest took %s", a.fastest)
	}
}

// A definition of configuration management stays: an operator's word stands above it, and is lifted.
func TestOperatorsStopOfAManagedLog(t *testing.T) {
	t.Parallel()
	f := newFleet(t, site.Tokens, 3)
	f.each(func(n *site.Node) error {
		f.define(n, "web")
		return n.Write("web.log", lines(n.Name, 0, 100))
	})
	f.each(func(n *site.Node) error { return f.receiver.Wait(f.ctx, n, "web", lines(n.Name, 0, 100)) })
	f.wants(f.ask("stop", site.Inputs{"log": "web", "for": "2h", "reason": "upgrade"}), "state", "stopped")
	f.each(func(n *site.Node) error {
		return n.Await(f.ctx, 1, func(l control.LogStatus) bool {
			return l.State == "stopped" && l.Override.By == f.admin.Caller() && l.Managed != ""
		})
	})
	f.each(func(n *site.Node) error { return n.Write("web.log", lines(n.Name, 100, 100)) })
	f.wants(f.ask("stop", site.Inputs{"log": "web", "for": "2h", "reason": "upgrade"}), "state", "stopped")
	f.each(func(n *site.Node) error { return f.receiver.Wait(f.ctx, n, "web", lines(n.Name, 0, 100)) })
	f.wants(f.ask("start", site.Inputs{"log": "web"}), "changed", true)
	f.each(func(n *site.Node) error { return f.receiver.Wait(f.ctx, n, "web", lines(n.Name, 0, 200)) })
}
