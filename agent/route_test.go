package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"logforward/internal/control"
	"logforward/internal/policy"
	"logforward/internal/wish"
)

// rules is a document with a role for each way to be limited; LOGS is the directory of logs.
const rules = `package io.choria.mcorpc.authpolicy

import rego.v1

default allow := false

allow if {
	not input.provision_mode
	count(rule) > 0
}

rule contains "reader" if input.action in {"status", "list", "check"}

rule contains "oncall" if {
	startswith(input.callerid, "up=oncall-")
	input.action in {"pause", "resume"}
	input.data.reason != ""
	short
}

short if input.action == "resume"

short if time_of(input.data["for"]) <= 240

time_of(text) := sum([n |
	some part in regex.find_n("[0-9]+[smhd]", text, -1)
	n := to_number(trim_right(part, "smhd")) * {"s": 1 / 60, "m": 1, "h": 60, "d": 1440}[substring(part, count(part) - 1, 1)]
])

rule contains "ops" if {
	glob.match("up=ops-*", null, input.callerid)
	input.action in {"start", "stop", "redirect", "pause", "resume"}
	glob.match("LOGS/app/*", ["/"], input.data.path)
	input.data.destination == "central"
}

rule contains "short-lived" if {
	input.callerid == "up=quick"
	input.action == "pause"
	input.ttl <= 30
}

rule contains "root" if {
	input.callerid == "local=root"
	input.action == "resume"
}

rule contains "nobody" if {
	input.callerid == "local=nobody"
	input.action == "pause"
	input.data.log == "app"
}
`

// newGuardedHost is a host with these rules, or others, and a log that is defined.
func newGuardedHost(t testing.TB, text string) *host {
	t.Helper()
	h := newHost(t)
	config, err := os.ReadFile(h.path("logforward.cfg"))
	h.must(err)
	h.must(os.WriteFile(h.path("logforward.cfg"), []byte(strings.Replace(string(config), "policy = peers", "policy = "+h.path("logforward.rego"), 1)), 0o644))
	for _, dir := range []string{"log/app", "log/other"} {
		h.must(os.Mkdir(h.path(dir), 0o755))
	}
	h.must(os.WriteFile(h.path("log/app/app.log"), nil, 0o644))
	h.must(os.WriteFile(h.path("log/other/other.log"), nil, 0o644))
	for _, log := range []string{"app", "other"} {
		h.must(os.WriteFile(h.path("forwarders/"+log+".yaml"), fmt.Appendf(nil, "log: %s\npath: %s\ndestination: central\n", log, h.path("log/"+log+"/"+log+".log")), 0o644))
	}
	h.rule(text)
	return h
}

// rule puts a policy in place, as configuration management does; none: it is taken away.
func (h *host) rule(text string) {
	h.Helper()
	file := h.path("logforward.rego")
	if text == "" {
		h.must(os.Remove(file))
		return
	}
	h.must(os.WriteFile(file+".new", []byte(strings.ReplaceAll(text, "LOGS", h.path("log"))), 0o600))
	h.must(os.Rename(file+".new", file))
}

// metric is a value of the daemon's.
func (h *host) metric(name string) string {
	h.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", h.path("sock"))
	}}}
	r, err := client.Get("http://logforward/metrics")
	h.must(err)
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	h.must(err)
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(rest)
		}
	}
	return "none"
}

// One document, and whichever way a request comes: the agent, the socket, a wish that waited. The verdict is the
// document's own.
func TestTheSameVerdictOnEveryRoute(t *testing.T) {
	t.Parallel()
	h := newGuardedHost(t, rules)
	app, other := h.path("log/app/app.log"), h.path("log/other/other.log")
	document := policy.Open(h.path("logforward.rego"))
	pause := inputs{"log": "app", "for": "1h", "reason": "disk"}
	cases := []struct {
		caller, action string
		data, filled   inputs // filled in by the node
	}{
		{"up=oncall-eve", "pause", pause, inputs{"path": app, "destination": "central"}},
		{"up=oncall-eve", "pause", inputs{"log": "app", "for": "5h", "reason": "disk"}, inputs{"path": app, "destination": "central"}},
		{"up=oncall-eve", "pause", inputs{"log": "app", "for": "1h"}, inputs{"path": app, "destination": "central"}},
		{"up=oncall-eve", "stop", inputs{"log": "app"}, inputs{"path": app, "destination": "central"}},
		{"up=ops-bob", "stop", inputs{"log": "app"}, inputs{"path": app, "destination": "central"}},
		{"up=ops-bob", "stop", inputs{"log": "other"}, inputs{"path": other, "destination": "central"}},
		{"up=ops-bob", "start", inputs{"log": "new", "path": h.path("log/app/new.log"), "destination": "central"}, nil},
		{"up=ops-bob", "start", inputs{"log": "new2", "path": h.path("log/other/new.log"), "destination": "central"}, nil},
		{"up=ops-bob", "start", inputs{"log": "new3", "path": h.path("log/app/new.log"), "destination": "audit"}, nil},
		{"up=ops-bob", "redirect", inputs{"log": "app", "destination": "audit"}, inputs{"path": app}},
		{"up=quick", "pause", pause, inputs{"path": app, "destination": "central"}}, // the envelope's TTL is 60
		{"up=nobody", "pause", pause, inputs{"path": app, "destination": "central"}},
		{"", "", nil, nil},
	}
	cases = cases[:len(cases)-1]
	want := make([]bool, len(cases))
	for i, c := range cases {
		all := inputs{}
		for _, m := range []inputs{c.data, c.filled} {
			for k, v := range m {
				all[k] = v
			}
		}
		want[i] = document.Decide(t.Context(), policy.Input{Agent: "logforward", Action: c.action, CallerID: c.caller, Collective: "mcollective", Data: all, TTL: 60, Time: time.Now()}).Allowed
	}
	allowed := 0
	for _, w := range want {
		if w {
			allowed++
		}
	}
	if allowed != 3 {
		t.Fatalf("the document allows %d of the cases: %v", allowed, want)
	}
	// A wish has to wait for its daemon; a daemon has its own state, so that the routes don't meet.
	for _, c := range cases {
		h.says(h.as(c.caller, c.action, c.data), codeOK, recorded)
	}
	h.start()
	h.eventually("the wishes to be decided on", func() error {
		if b, err := os.ReadFile(h.path("audit.log")); err != nil || strings.Count(string(b), "\n") < len(cases) {
			return fmt.Errorf("%v of %d decisions", strings.Count(string(b), "\n"), len(cases))
		}
		if left, problems := wish.Read(h.path("wishes")); len(left)+len(problems) > 0 {
			return fmt.Errorf("%v, %v are left", left, problems) // they would be taken a second time
		}
		return nil
	})
	h.stop()
	h.must(os.RemoveAll(h.path("state")))
	h.start()
	for _, c := range cases {
		h.as(c.caller, c.action, c.data)
	}
	decisions := h.decisions()
	if len(decisions) != 2*len(cases) {
		t.Fatalf("%d decisions of %d requests on two routes", len(decisions), len(cases))
	}
	for i, d := range decisions {
		c, route := cases[i%len(cases)], []string{"wish", "socket"}[i/len(cases)]
		if d.Allowed != want[i%len(cases)] || d.Route != route || d.Caller != c.caller || d.Action != c.action || len(d.Policy) != 64 || d.Collective != "mcollective" {
			t.Errorf("%s of %s by %s: want allowed %t in %+v", route, c.action, c.caller, want[i%len(cases)], d)
		}
	}
}

// On the socket the kernel says who asks: root and every other user are callers that policy limits.
func TestLocalCallers(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root: starts processes as other users")
	}
	h := newGuardedHost(t, rules)
	h.start()
	for _, path := range []string{h.dir, filepath.Dir(program), program} {
		h.must(os.Chmod(path, 0o755))
	}
	h.must(os.Chown(h.path("sock"), 0, 4242))
	as := func(uid uint32, groups []uint32, args ...string) string {
		cmd := h.command(args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid, Groups: groups}}
		out, err := cmd.CombinedOutput()
		return fmt.Sprintf("%s%v", out, err)
	}
	in := []uint32{4242}
	for _, c := range []struct {
		uid    uint32
		groups []uint32
		args   []string
		says   string
	}{
		{0, nil, []string{"pause", "app"}, "not permitted for local=root"},
		{0, nil, []string{"stop", "app"}, "not permitted for local=root"},
		{65534, nil, []string{"pause", "app"}, "no permission to talk"},
		{65534, in, []string{"pause", "other"}, "not permitted for local=nobody"},
		{65534, in, []string{"resume", "app"}, "not permitted for local=nobody"},
		{65534, in, []string{"pause", "app"}, "<nil>"},
		{12345, in, []string{"pause", "app"}, "not permitted for local=uid:12345"},
		{12345, in, []string{"status"}, "<nil>"},
		{0, nil, []string{"resume", "app"}, "<nil>"},
	} {
		if out := as(c.uid, c.groups, c.args...); !strings.Contains(out, c.says) {
			t.Errorf("uid %d %q: %s; want %q", c.uid, c.args, out, c.says)
		}
	}
	// Who may connect and isn't in the group is refused whatever policy says.
	h.must(os.Chmod(h.path("sock"), 0o666))
	if out := as(65534, nil, "pause", "app"); !strings.Contains(out, "members of the socket's group") {
		t.Errorf("outside the group: %s", out)
	}
	for _, d := range h.decisions() {
		if !strings.HasPrefix(d.Caller, "local=") || d.Route != "socket" || d.PID == 0 || d.Allowed == (d.Reason != "") {
			t.Errorf("%+v", d)
		}
	}
}

// Without a policy in force nothing changes, reads go on, everything that an operator looks at says why, and it heals by itself.
func TestAPolicyThatIsMissingOrBroken(t *testing.T) {
	t.Parallel()
	h := newGuardedHost(t, rules)
	h.start()
	stop := inputs{"log": "app"}
	h.says(h.as("up=ops-bob", "stop", stop), codeOK, "stopped")
	h.says(h.as("up=ops-bob", "start", stop), codeOK, "starting")
	for name, text := range map[string]string{"there is no policy": "", "broken": strings.Replace(rules, "rule contains", "rule contain", 1), "its package is other": "package other\n\nallow := true\n", "neither true nor false": "package io.choria.mcorpc.authpolicy\n"} {
		h.rule(text)
		works := name == "neither true nor false" // a document that decides, and allows nothing
		h.says(h.as("up=ops-bob", "stop", stop), codeAborted, "", name)
		if out, err := h.command("resume", "app").CombinedOutput(); err == nil {
			t.Errorf("%s: root may change: %s", name, out)
		}
		if !works {
			h.reads(h.as("up=anybody", "status", nil), "mend the file that the setting policy names")
			h.says(h.as("up=anybody", "list", nil), codeOK, "defined", "mend the file")
			h.reads(h.as("up=anybody", "check", nil), name)
			h.eventually("the log to say so", func() error { return h.logged(name) })
		}
		if got := h.metric("logforward_policy_in_force"); got != map[bool]string{true: "1", false: "0"}[works] {
			t.Errorf("%s: in force %s", name, got)
		}
		h.rule(rules)
		h.says(h.as("up=ops-bob", "stop", stop), codeOK, "stopped")
		h.says(h.as("up=ops-bob", "start", stop), codeOK, "starting")
		if r := h.as("up=anybody", "status", nil); r.Data["error"] != "" {
			t.Errorf("mended: %+v", r)
		}
		if got := h.metric("logforward_policy_in_force"); got != "1" {
			t.Errorf("mended: in force %s", got)
		}
		if !works {
			h.eventually("the log to say that it is mended", func() error { return h.logged("in force again") })
		}
	}
	if got := h.metric(`logforward_policy_decisions_total{action="stop",verdict="refused"}`); got != "4" {
		t.Errorf("%s refused stops are counted", got)
	}
}

// reads checks that a read is answered, and says something.
func (h *host) reads(r reply, texts ...string) {
	h.Helper()
	state, _ := r.Data["state"].(string)
	h.says(r, codeOK, state, texts...)
}

func (h *host) logged(text string) error {
	b, err := os.ReadFile(h.path("daemon.log"))
	if err == nil && !strings.Contains(string(b), text) {
		err = fmt.Errorf("no %q in the log", text)
	}
	return err
}

// While a policy is replaced again and again, each request is decided wholly by one of the two, and the audit log says by which.
func TestPolicyIsReplacedUnderLoad(t *testing.T) {
	t.Parallel()
	const document = `package io.choria.mcorpc.authpolicy

import rego.v1

default allow := false

allow if input.action in {"VERBS", "list"}

rule := "RULE"
`
	odd := strings.NewReplacer("VERBS", "pause", "RULE", "odd").Replace(document)
	even := strings.NewReplacer("VERBS", "resume", "RULE", "even").Replace(document)
	h := newGuardedHost(t, odd)
	h.start()
	digests := map[string]string{}
	for verb, text := range map[string]string{"pause": odd, "resume": even} {
		h.rule(text)
		d := policy.Open(h.path("logforward.rego")).Decide(t.Context(), policy.Input{Action: verb})
		digests[d.Digest] = verb
	}
	stop := make(chan struct{})
	var swapper, askers sync.WaitGroup
	swaps := 0
	swapper.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				h.rule([]string{odd, even}[swaps%2])
				swaps++
				time.Sleep(time.Millisecond) // the daemon has to get its turn
			}
		}
	})
	errs := make(chan error, 8)
	for i := range 4 {
		askers.Go(func() {
			c := control.NewClient(h.path("sock"))
			c.Caller, c.TTL = fmt.Sprintf("up=asker%d", i), 60
			for n := range 30 {
				c.RequestID = fmt.Sprintf("%d-%d", i, n)
				_, err := c.Pause(context.Background(), control.PauseRequest{Log: "app"})
				if err == nil {
					continue
				}
				if !strings.Contains(err.Error(), "not permitted") {
					errs <- err
				}
				c.RequestID += "r"
				if _, err = c.Resume(context.Background(), control.ResumeRequest{Log: "app"}); err != nil && !strings.Contains(err.Error(), "not permitted") {
					errs <- err
				}
			}
		})
	}
	askers.Wait()
	close(stop)
	swapper.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	seen := map[string]int{}
	for _, d := range h.decisions() {
		verb, known := digests[d.Policy]
		if !known || d.Allowed != (d.Action == verb) || d.Allowed && d.Rule != map[string]string{"pause": "odd", "resume": "even"}[verb] {
			t.Fatalf("%+v by a policy that lets %q", d, verb)
		}
		seen[fmt.Sprint(verb, d.Allowed)]++
	}
	t.Logf("%d swaps, decisions %v", swaps, seen)
	if len(seen) != 4 {
		t.Errorf("not each of the two was met and missed: %v", seen)
	}
}

// Nothing that decides is in what Choria Server starts for each request: the daemon has it prepared.
func TestTheAgentHoldsNoPolicy(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", "logforward/agent").Output()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(out), "open-policy-agent") || !strings.Contains(string(out), "logforward/internal/control") {
		t.Errorf("the agent's packages: %s", out)
	}
}

// BenchmarkChange is a change with a policy in force, its decision on disk; BenchmarkRequest beside it is a read without.
func BenchmarkChange(b *testing.B) {
	for _, c := range []struct{ name, policy string }{{"peers", "peers"}, {"policy", ""}} {
		b.Run(c.name, func(b *testing.B) {
			h := newGuardedHost(b, rules)
			if c.policy != "" {
				config, err := os.ReadFile(h.path("logforward.cfg"))
				h.must(err)
				h.must(os.WriteFile(h.path("logforward.cfg"), []byte(strings.Replace(string(config), "policy = "+h.path("logforward.rego"), "policy = peers", 1)), 0o644))
			}
			h.start()
			n := 0
			for b.Loop() {
				n++
				e := h.envelope("pause", inputs{"log": "app", "for": fmt.Sprintf("%dm", 1+n%50)})
				e["callerid"], e["requestid"] = fmt.Sprintf("up=ops-%d", n/1000), fmt.Sprintf("%s-%d", b.Name(), n)
				text, err := json.Marshal(e)
				h.must(err)
				h.must(os.WriteFile(h.path("request"), text, 0o600))
				cmd := exec.Command(program)
				cmd.Env = []string{envProtocol + "=" + requestProtocol, envRequest + "=" + h.path("request"), envReply + "=" + h.path("reply"), envConfig + "=" + h.path("logforward")}
				h.must(cmd.Run())
				text, err = os.ReadFile(h.path("reply"))
				h.must(err)
				var r reply
				if err := json.Unmarshal(text, &r); err != nil || r.Code != codeOK {
					b.Fatalf("%v %s", err, text)
				}
			}
		})
	}
}
