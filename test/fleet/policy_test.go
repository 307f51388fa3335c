package fleet

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"logforward/internal/audit"
	"logforward/internal/control"
	"logforward/policies"
	"logforward/test/fleet/site"
)

// guarded is a fleet whose nodes have the shipped policy, for paths of its own, and clients of each role.
type guarded struct {
	*fleet
	node    *site.Node // decides by the file
	rules   string     // what is in it
	clients map[string]*site.Client
	changes int // that were done
}

// Who is who: one caller of each example role, and one of none.
var callers = []string{"ann", "oncall-eve", "ops-bob", "audit-sue"}

func newGuarded(t *testing.T, security site.Security) *guarded {
	t.Helper()
	g := &guarded{fleet: newFleet(t, security, 0), clients: map[string]*site.Client{}}
	text, err := policies.Files.ReadFile("logforward.rego")
	g.must(err)
	g.rules = strings.ReplaceAll(string(text), "/var/log/", filepath.Dir(g.LogFile("x"))+"/")
	for _, dir := range []string{"nginx", "other", "audit"} {
		g.must(os.MkdirAll(g.LogFile(dir), 0o755))
	}
	g.node, err = g.AddNode("n1", site.NodeOptions{
		Facts: map[string]any{"environment": "production", "site": map[string]any{"name": "ams", "rack": 7}}, Classes: []string{"web", "base", "apache worker"},
		Policies: map[string]string{"logforward.rego": g.rules}, ServerSettings: map[string]string{"loglevel": "debug"},
		Settings: map[string]string{
			"log_level": "debug", "destination.audit.choria": filepath.Join(g.Dir, "n1", "etc", "server.conf"),
			"audit_destination": "central", "audit_rotate_size": "64KiB", "audit_retain_count": "3", "enforce": "running",
		},
	})
	g.must(err)
	g.define(g.node, "app")
	g.must(g.node.Write("app.log", lines("app", 0, 10)))
	g.nodes = append(g.nodes, g.node)
	g.must(errors.Join(g.node.StartServer(g.ctx), g.node.StartForwarder(g.ctx)))
	for _, name := range callers {
		g.clients[name], err = g.AddClient(name, site.ClientOptions{})
		g.must(err)
	}
	return g
}

// rule puts a document in place, as configuration management does.
func (g *guarded) rule(text string) {
	g.Helper()
	g.must(os.WriteFile(g.node.Policy()+".new", []byte(text), 0o600))
	g.must(os.Rename(g.node.Policy()+".new", g.node.Policy()))
}

// Verdicts of a request, by who gave it.
const (
	done      = "done"
	byServer  = "You are not authorized"
	byNode    = "not permitted"
	noVerdict = "there is no policy"
)

// asks has a caller ask the node, and checks what comes of it.
func (g *guarded) asks(caller, action string, inputs site.Inputs, want string) *site.Result {
	g.Helper()
	r, err := g.clients[caller].Req(g.ctx, action, inputs, g.node)
	g.must(err)
	reply, ok := r.From(g.node)
	switch {
	case !ok:
		g.Errorf("%s %s %v: no reply", caller, action, inputs)
	case want == done && reply.Code != 0, want != done && (reply.Code == 0 || !strings.Contains(reply.Message, want)):
		g.Errorf("%s %s %v: code %d, %q; want %s", caller, action, inputs, reply.Code, reply.Message, want)
	case want == done && action != "status" && action != "list" && action != "check":
		g.changes++
	}
	return r
}

// decisions are the lines of the node's audit log, over its files, the oldest first.
func (g *guarded) decisions() (all []audit.Decision, raw []byte) {
	g.Helper()
	for n := 100; n >= 0; n-- {
		file := g.node.Decisions()
		if n > 0 {
			file += "." + strconv.Itoa(n)
		}
		b, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		g.must(err)
		raw = append(raw, b...)
	}
	for s := bufio.NewScanner(bytes.NewReader(raw)); s.Scan(); {
		var line struct {
			Type string
			Data audit.Decision
		}
		g.must(json.Unmarshal(s.Bytes(), &line))
		if line.Type != audit.Type {
			g.Errorf("event %s", s.Bytes())
		}
		all = append(all, line.Data)
	}
	return all, raw
}

// One document on the server and on the node: each example role may do what it says, and nothing else.
func TestPolicy(t *testing.T) {
	t.Parallel()
	for _, security := range []site.Security{site.Tokens, site.Certificates} {
		t.Run(security.String(), func(t *testing.T) {
			t.Parallel()
			g := newGuarded(t, security)
			g.roles()
			if security == site.Tokens {
				g.input()
				g.links()
				g.replaced()
				g.running()
			}
			g.broken()
			g.events(security)
		})
	}
}

func (g *guarded) roles() {
	g.Helper()
	web, books := g.LogFile("nginx/web.log"), g.LogFile("audit/audit.log")
	g.must(g.Write("nginx/web.log", lines("web", 0, 10)))
	g.must(g.Write("audit/audit.log", lines("audit", 0, 10)))
	g.must(g.Write("other/x.log", lines("x", 0, 10)))
	g.asks("ann", "status", nil, done)
	g.asks("ann", "pause", site.Inputs{"log": "app", "for": "1h", "reason": "x"}, byServer)
	pause := g.asks("oncall-eve", "pause", site.Inputs{"log": "app", "for": "1h", "reason": "disk"}, done)
	g.asks("oncall-eve", "pause", site.Inputs{"log": "app", "for": "5h", "reason": "disk"}, byServer)
	g.asks("oncall-eve", "pause", site.Inputs{"log": "app", "for": "1h"}, byServer)
	g.asks("oncall-eve", "pause", site.Inputs{"log": "app", "for": "4h", "reason": "again"}, byNode) // more than four hours in all
	g.asks("oncall-eve", "resume", site.Inputs{"log": "app", "reason": "done"}, done)
	g.asks("oncall-eve", "stop", site.Inputs{"log": "app", "reason": "x"}, byServer)
	g.asks("ops-bob", "start", site.Inputs{"log": "web", "path": web, "destination": "central", "from": "beginning"}, done)
	g.asks("ops-bob", "start", site.Inputs{"log": "x", "path": g.LogFile("other/x.log"), "destination": "central"}, byServer)
	g.asks("ops-bob", "start", site.Inputs{"log": "x", "path": web, "destination": "audit"}, byServer)
	g.asks("ops-bob", "stop", site.Inputs{"log": "app"}, byNode) // only the node knows its path
	g.asks("ops-bob", "pause", site.Inputs{"log": audit.LogName}, byNode)
	// A link in a directory that is let them leads out of it.
	g.must(os.Symlink(g.LogFile("other/x.log"), g.LogFile("nginx/link.log")))
	g.asks("ops-bob", "start", site.Inputs{"log": "x", "path": g.LogFile("nginx/link.log"), "destination": "central", "from": "beginning"}, byNode)
	g.asks("audit-sue", "start", site.Inputs{"log": "audit", "path": books, "destination": "audit", "from": "beginning", "reason": "case 7"}, done)
	g.asks("audit-sue", "start", site.Inputs{"log": "audit2", "path": books, "destination": "central", "reason": "case 7"}, byServer)
	for log, want := range map[string][]byte{"app": lines("app", 0, 10), "web": lines("web", 0, 10), "audit": lines("audit", 0, 10)} {
		g.must(g.receiver.Wait(g.ctx, g.node, log, want))
	}
	all, _ := g.decisions()
	allowed := 0
	for _, d := range all {
		if d.Allowed && d.Route == "socket" {
			allowed++
		}
		if d.Request == pause.RequestID && (d.Caller != g.clients["oncall-eve"].Caller() || d.Rule != "oncall" || d.Inputs["path"] != g.node.LogFile("app.log")) {
			g.Errorf("%+v", d)
		}
	}
	if allowed != g.changes {
		g.Errorf("%d changes were done, and %d are in the audit log", g.changes, allowed)
	}
}

// The daemon's document sees what the server's does, field for field.
func (g *guarded) input() {
	g.Helper()
	r := g.asks("oncall-eve", "pause", site.Inputs{"log": "app", "for": "7m", "reason": "compare"}, done)
	g.asks("oncall-eve", "resume", site.Inputs{"log": "app", "reason": "compared"}, done)
	text, err := os.ReadFile(filepath.Join(g.node.Dir, "server.log"))
	g.must(err)
	server := ""
	for line := range strings.Lines(string(text)) {
		var entry struct{ Msg string }
		if json.Unmarshal([]byte(line), &entry) == nil && strings.HasPrefix(entry.Msg, "regoInputs: ") && strings.Contains(entry.Msg, "reason:compare]") {
			server = entry.Msg
		}
	}
	text, err = os.ReadFile(filepath.Join(g.node.Dir, "forward.log"))
	g.must(err)
	var own map[string]any
	for _, m := range regexp.MustCompile(`msg="policy input" input=("(?:[^"\\]|\\.)*")`).FindAllSubmatch(text, -1) {
		input, err := strconv.Unquote(string(m[1]))
		g.must(err)
		if strings.Contains(input, `"reason":"compare"`) {
			g.must(json.Unmarshal([]byte(input), &own))
		}
	}
	if server == "" || own == nil {
		g.Fatalf("request %s: the server's input %q, the daemon's %v", r.RequestID, server, own)
	}
	fields := 0
	for name, value := range own {
		fields++
		want := fmt.Sprintf("%s:%v", name, value)
		switch name {
		case "time": // the request's there, the node's own clock's here
			sent, err := time.Parse("2006-01-02 15:04:05", regexp.MustCompile(` time:(\S+ [0-9:]{8})`).FindStringSubmatch(server)[1])
			g.must(err)
			decided, err := time.Parse(time.RFC3339Nano, value.(string))
			g.must(err)
			if _, offset := time.Now().Zone(); decided.Sub(sent.Add(-time.Duration(offset)*time.Second)).Abs() > time.Minute {
				g.Errorf("the server's time is %s, the daemon's %s", sent, decided)
			}
			continue
		case "agents": // which others the server has only it knows
			want = "logforward"
		case "data": // the daemon has more
			data := value.(map[string]any)
			if data["path"] != g.node.LogFile("app.log") || data["destination"] != "central" {
				g.Errorf("the node fills in %v", data)
			}
			delete(data, "path")
			delete(data, "destination")
			want = strings.TrimSuffix(fmt.Sprintf("data:%v", data), "]")
		}
		if !strings.Contains(server, want) {
			g.Errorf("the daemon has %s, the server %s", want, server)
		}
	}
	if fields != 11 {
		g.Errorf("%d fields in %v", fields, own)
	}
}

// A link is changed after its log was permitted, by somebody who may write in that directory: nothing that the starter may
// not have arrives, and what he may have goes on.
func (g *guarded) links() {
	g.Helper()
	link, secret := g.LogFile("nginx/current.log"), g.LogFile("other/secret.log")
	lead := func(target string) {
		g.Helper()
		g.must(os.Symlink(target, link+".new"))
		g.must(os.Rename(link+".new", link))
	}
	g.must(g.Write("nginx/day1.log", lines("day1", 0, 10)))
	g.must(g.Write("nginx/day2.log", lines("day2", 0, 10)))
	g.must(g.Write("other/secret.log", lines("secret", 0, 10)))
	lead(g.LogFile("nginx/day1.log"))
	g.asks("ops-bob", "start", site.Inputs{"log": "current", "path": link, "destination": "central", "from": "beginning"}, done)
	g.must(g.receiver.Wait(g.ctx, g.node, "current", lines("day1", 0, 10)))
	lead(secret)
	g.must(os.Symlink(secret, link+".1"))
	g.must(g.Write("nginx/day1.log", lines("day1", 10, 10)))
	g.must(g.node.Await(g.ctx, 5, func(l control.LogStatus) bool {
		return l.Log != "current" || strings.Contains(l.Error, "secret.log") && strings.Contains(l.Error, byNode)
	}))
	want := lines("day1", 0, 20)
	g.must(g.receiver.Wait(g.ctx, g.node, "current", want))
	lead(g.LogFile("nginx/day2.log"))
	want = append(want, lines("day2", 0, 10)...)
	g.must(g.receiver.Wait(g.ctx, g.node, "current", want))
	all, _ := g.decisions()
	files := map[string]bool{}
	for _, d := range all {
		if d.Route == "file" {
			files[fmt.Sprint(filepath.Base(d.Inputs["path"].(string)), d.Allowed)] = true
		}
	}
	if !files["secret.logfalse"] || !files["day2.logtrue"] || len(files) != 2 {
		g.Errorf("decisions about files: %v", files)
	}
	g.asks("ops-bob", "stop", site.Inputs{"log": "current"}, done)
}

// While the document is replaced, each request is decided by one of the two; the node's audit log says by which.
func (g *guarded) replaced() {
	g.Helper()
	before, _ := g.decisions()
	stop := make(chan struct{})
	var swapper, askers sync.WaitGroup
	texts := []string{g.rules, strings.ReplaceAll(g.rules, `oncall-`, `others-`)}
	swaps := 0
	swapper.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for ; ; swaps++ {
			g.rule(texts[swaps%2])
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	})
	results := make(chan string, 100)
	for _, caller := range []string{"oncall-eve", "ann"} {
		askers.Go(func() {
			for range 8 {
				r, err := g.clients[caller].Req(g.ctx, "pause", site.Inputs{"log": "app", "for": "1s", "reason": "load"}, g.node)
				if err != nil {
					results <- err.Error()
					continue
				}
				reply, ok := r.From(g.node)
				switch {
				case !ok:
					results <- "no reply"
				case reply.Code == 0:
					results <- caller + " " + done
				case strings.Contains(reply.Message, byServer), strings.Contains(reply.Message, byNode):
					results <- caller + " refused"
				default:
					results <- reply.Message
				}
			}
		})
	}
	askers.Wait()
	close(stop)
	swapper.Wait()
	close(results)
	counts := map[string]int{}
	for r := range results {
		counts[r]++
	}
	g.Logf("%d swaps: %v", swaps, counts)
	if counts["oncall-eve done"]+counts["oncall-eve refused"] != 8 || counts["ann refused"] != 8 {
		g.Errorf("verdicts %v", counts)
	}
	verdicts := map[string]bool{}
	all, _ := g.decisions()
	for _, d := range all[len(before):] {
		if d.Action != "pause" {
			continue
		}
		if was, known := verdicts[d.Policy]; known && was != d.Allowed || len(d.Policy) != 64 {
			g.Errorf("one document decided both ways: %+v", d)
		}
		verdicts[d.Policy] = d.Allowed
	}
	g.rule(g.rules)
	g.asks("oncall-eve", "resume", site.Inputs{"log": "app", "reason": "load is over"}, done)
}

// Where policy applies to what runs: what isn't permitted any more stops, and goes on where it was.
func (g *guarded) running() {
	g.Helper()
	state := func(log, want string) {
		g.Helper()
		g.must(g.node.Await(g.ctx, 4, func(l control.LogStatus) bool { return l.Log != log || l.State == want }))
	}
	g.rule(strings.ReplaceAll(g.rules, `ops-`, `others-`))
	state("web", "stopped")
	s, err := g.node.Status(g.ctx)
	g.must(err)
	for _, l := range s.Logs {
		if l.Log == "web" && (l.Override.By != "policy" || !strings.Contains(l.Override.Reason, "ops-bob")) {
			g.Errorf("%+v", l.Override)
		}
	}
	g.must(g.node.Write("app.log", lines("app", 10, 10)))
	g.must(g.receiver.Wait(g.ctx, g.node, "app", lines("app", 0, 20))) // configuration management's goes on
	// By now the engine has let go of the file, too.
	g.must(g.Write("nginx/web.log", lines("web", 10, 10)))
	g.must(g.node.Write("app.log", lines("app", 20, 10)))
	g.must(g.receiver.Wait(g.ctx, g.node, "app", lines("app", 0, 30)))
	g.must(g.receiver.Wait(g.ctx, g.node, "web", lines("web", 0, 10)))
	g.rule(g.rules)
	g.must(g.receiver.Wait(g.ctx, g.node, "web", lines("web", 0, 20)))
}

// A document that is missing or broken lets nobody change anything; logs arrive all the same, and it heals by itself.
func (g *guarded) broken() {
	g.Helper()
	resume := site.Inputs{"log": "app", "reason": "x"}
	had, err := g.receiver.Received(g.node, "app")
	g.must(err)
	next := len(had)
	arrives := func() {
		g.Helper()
		more := fmt.Appendf(nil, "more at %d\n", next)
		g.must(g.node.Write("app.log", more))
		had = append(had, more...)
		next = len(had)
		g.must(g.receiver.Wait(g.ctx, g.node, "app", had))
	}
	g.rule("package io.choria.mcorpc.authpolicy\n\nallow if {")
	g.asks("oncall-eve", "resume", resume, byServer)
	g.asks("ann", "status", nil, byServer)
	if s, err := g.node.Status(g.ctx); err != nil || !strings.Contains(fmt.Sprint(s.Problems), "is broken") {
		g.Errorf("%v %v", s.Problems, err)
	}
	arrives()
	// Without a file of its own the agent is under the server's default; the node knows none.
	g.must(os.Remove(g.node.Policy()))
	g.clients["admin"] = g.admin
	g.asks("admin", "resume", resume, noVerdict)
	g.asks("admin", "status", nil, done)
	arrives()
	g.rule(g.rules)
	g.asks("oncall-eve", "resume", resume, done)
	arrives()
}
