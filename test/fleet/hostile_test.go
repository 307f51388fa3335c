package fleet

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"logforward/test/fleet/site"
)

// relaxed writes a description that checks nothing: as a hostile operator gives it to the own client, and
// as a server would have it whose validation fails. It has an input more than there is.
func relaxed(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(programs.DDL, "logforward.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d map[string]any
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	for _, a := range d["actions"].([]any) {
		inputs := a.(map[string]any)["input"].(map[string]any)
		inputs["force"] = map[string]any{"type": "string"}
		for _, i := range inputs {
			input := i.(map[string]any)
			for _, key := range []string{"validation", "list"} {
				delete(input, key)
			}
			input["type"], input["optional"], input["maxlength"], input["validation"] = "string", true, 0, "."
			input["prompt"], input["description"] = "x", "x"
		}
	}
	if b, err = json.Marshal(d); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "logforward.json"), b, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A client that checks nothing asks a server that checks its inputs, and one that doesn't: whichever part
// it is that says no, nothing changes, and each says so in time.
func TestHostileRequests(t *testing.T) {
	t.Parallel()
	f := newFleet(t, site.Tokens, 1)
	loose := relaxed(t)
	n, err := f.AddNode("n2", site.NodeOptions{DDL: loose})
	f.must(err)
	f.must(n.StartServer(f.ctx))
	f.must(n.StartForwarder(f.ctx))
	f.nodes = append(f.nodes, n)
	f.each(func(n *site.Node) error { f.define(n, "app"); return n.Write("app.log", lines(n.Name, 0, 10)) })
	f.each(func(n *site.Node) error { return f.receiver.Wait(f.ctx, n, "app", lines(n.Name, 0, 10)) })
	mallory, err := f.AddClient("admin", site.ClientOptions{DDL: loose})
	f.must(err)
	file := f.nodes[0].LogFile("app.log")

	long := strings.Repeat("x", 100<<10)
	for _, c := range []struct {
		action string
		inputs site.Inputs
	}{
		{"start", site.Inputs{"path": file}},
		{"start", site.Inputs{"log": "", "path": file}},
		{"start", site.Inputs{"log": "../../etc/cron.d/x", "path": file}},
		{"start", site.Inputs{"log": "..", "path": file}},
		{"start", site.Inputs{"log": "a\nb", "path": file}},
		{"start", site.Inputs{"log": "a\x1b[2Jb", "path": file}},
		{"start", site.Inputs{"log": strings.Repeat("x", 257), "path": file}},
		{"start", site.Inputs{"log": long, "path": file}},
		{"start", site.Inputs{"log": "x", "path": "/etc/shadow"}},
		{"start", site.Inputs{"log": "x", "path": filepath.Dir(file) + "/../../../../../../etc/shadow"}},
		{"start", site.Inputs{"log": "x", "path": "/etc/shadow\n"}},
		{"start", site.Inputs{"log": "x", "path": "/proc/self/environ"}},
		{"start", site.Inputs{"log": "x", "path": "/etc/**"}},
		{"start", site.Inputs{"log": "x", "path": "/" + long}},
		{"start", site.Inputs{"log": "x", "path": "app.log"}},
		{"start", site.Inputs{"log": "x", "path": file, "destination": "nats://evil.example.net"}},
		{"start", site.Inputs{"log": "x", "path": file, "destination": "elsewhere"}},
		{"start", site.Inputs{"log": "x", "path": file, "from": "middle"}},
		{"start", site.Inputs{"log": "x", "path": file, "rate": "-1"}},
		{"start", site.Inputs{"log": "x", "path": file, "rate": "1e300"}},
		{"start", site.Inputs{"log": "x", "path": file, "for": "1e9d"}},
		{"start", site.Inputs{"log": "x", "path": file, "for": "-5m"}},
		{"start", site.Inputs{"log": "x", "path": file, "reason": strings.Repeat("x", 513)}},
		{"start", site.Inputs{"log": "x", "path": file, "reason": "a\nb"}},
		{"start", site.Inputs{"log": "x", "path": file, "force": "true"}},
		{"stop", site.Inputs{"log": "app", "drain": "maybe"}},
		{"stop", site.Inputs{"log": "$(touch /tmp/x)"}},
		{"stop", site.Inputs{"log": "app; rm -rf /"}},
		{"pause", nil},
		{"pause", site.Inputs{"log": "app", "all": "true"}},
		{"pause", site.Inputs{"log": "app", "for": "soon"}},
		{"resume", site.Inputs{"all": "perhaps"}},
		{"redirect", site.Inputs{"log": "app"}},
		{"redirect", site.Inputs{"log": "app", "destination": "../central"}},
		{"status", site.Inputs{"log": "a/b"}},
		{"status", site.Inputs{"log": "a\x00b"}},
		{"list", site.Inputs{"force": "1"}},
	} {
		if strings.Contains(fmt.Sprint(c.inputs), "\x00") {
			continue // no argument of a command can hold it; the agent's own tests have it
		}
		asked := time.Now()
		r, err := mallory.Req(f.ctx, c.action, c.inputs, f.nodes...)
		if err != nil {
			t.Errorf("%s %.80v: %v", c.action, c.inputs, err)
			continue
		}
		if took := time.Since(asked); took > 10*time.Second {
			t.Errorf("%s %.80v took %s", c.action, c.inputs, took)
		}
		for _, n := range f.nodes {
			reply, ok := r.From(n)
			if !ok || reply.Code == 0 || reply.Message == "" || strings.ContainsAny(reply.Message, "\n\x1b") || len(reply.Message) > 4096 {
				t.Errorf("%s: %s %.80v: answered %t: code %d, %.300q", n.Name, c.action, c.inputs, ok, reply.Code, reply.Message)
			}
		}
	}
	for _, n := range f.nodes {
		s, err := n.Status(f.ctx)
		f.must(err)
		if len(s.Logs) != 1 || s.Logs[0].Log != "app" || s.Logs[0].Override != nil || len(s.Logs[0].History) != 0 || s.Logs[0].Destination != "central" || s.Pause != nil {
			t.Errorf("%s: something has changed: %+v", n.Name, s)
		}
	}
	f.each(func(n *site.Node) error {
		return n.Write("app.log", lines(n.Name, 10, 10))
	})
	f.each(func(n *site.Node) error { return f.receiver.Wait(f.ctx, n, "app", lines(n.Name, 0, 20)) })
}

// What is at its limit, but not over it, is taken; so is what looks like a command and is a name.
func TestInputsAtTheirLimits(t *testing.T) {
	t.Parallel()
	f := newFleet(t, site.Tokens, 1)
	n := f.nodes[0]
	deep := n.LogFile("d")
	for len(deep) < 4095-202 {
		deep = filepath.Join(deep, strings.Repeat("d", 200))
	}
	deep = filepath.Join(deep, strings.Repeat("f", 4095-len(deep)-1))
	for log, inputs := range map[string]site.Inputs{
		strings.Repeat("x", 190):    {"path": n.LogFile("long.log"), "for": "3650d", "reason": strings.Repeat("é", 256)},
		"$(touch pwned) `id` ; | &": {"path": n.LogFile("shell $(id).log"), "rate": "1TiB/s"},
		"日誌":                        {"path": n.LogFile("日誌.log"), "rate": "unlimited", "for": "1s1m1h1d"},
		"deep":                      {"path": deep},
	} {
		inputs["log"], inputs["from"] = log, "beginning"
		if log != "deep" { // no call of the kernel takes a path of that length and a file, too
			f.must(n.Write(filepath.Base(inputs["path"]), lines("x", 0, 10)))
		}
		f.wants(f.ask("start", inputs), "changed", true)
		if log != "deep" {
			f.must(f.receiver.Wait(f.ctx, n, log, lines("x", 0, 10)))
		}
	}
	if found, err := filepath.Glob(filepath.Join(f.Dir, "*", "pwned")); err != nil || len(found) > 0 {
		t.Errorf("a name was run: %v %v", found, err)
	}
}

// Several operators ask the same node for different things at the same time: each gets an answer, each
// change is in the history and in the log of decisions once, and the last one holds.
func TestRequestsAtTheSameTime(t *testing.T) {
	t.Parallel()
	f := newFleet(t, site.Tokens, 1)
	n := f.nodes[0]
	f.define(n, "app")
	f.must(n.Write("app.log", lines("x", 0, 10)))
	f.must(f.receiver.Wait(f.ctx, n, "app", lines("x", 0, 10)))
	const each = 6
	var wg sync.WaitGroup
	var mu sync.Mutex
	ids := map[string]bool{}
	for i := range each {
		for _, action := range []string{"pause", "resume"} {
			wg.Go(func() {
				r, err := f.admin.Req(f.ctx, action, site.Inputs{"log": "app", "reason": fmt.Sprintf("%s %d", action, i)}, n)
				if err == nil {
					err = r.Err()
				}
				if err != nil {
					t.Errorf("%s %d: %v", action, i, err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				ids[r.RequestID] = true
			})
		}
	}
	wg.Wait()
	if len(ids) != 2*each {
		t.Fatalf("%d requests were answered, want %d", len(ids), 2*each)
	}
	book, err := os.ReadFile(n.Decisions())
	f.must(err)
	for id := range ids {
		if got := strings.Count(string(book), id); got != 1 {
			t.Errorf("request %s is %d times in the log of decisions", id, got)
		}
	}
	f.ask("resume", site.Inputs{"log": "app"})
	f.must(n.Write("app.log", lines("x", 10, 10)))
	f.must(f.receiver.Wait(f.ctx, n, "app", lines("x", 0, 20)))
}
