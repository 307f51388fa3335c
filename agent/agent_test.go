package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"logforward/ddl"
	"logforward/internal/audit"
	"logforward/internal/control"
	"logforward/internal/wish"
)

func TestActionsOnARunningDaemon(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.start()
	file := h.path("log/app.log")
	h.must(os.WriteFile(file, []byte(strings.Repeat("a line\n", 100)), 0o644))
	h.says(h.ask("status", nil), codeOK, "idle")
	h.says(h.ask("list", nil), codeOK, "none")
	r := h.ask("start", inputs{"log": "app", "path": file, "destination": "central", "from": "beginning", "rate": "5MiB/s", "for": "2h", "reason": "case 7"})
	if r.Code != codeOK || r.Data["changed"] != true || r.Data["files"] != 1.0 || r.Data["lag_bytes"] != 700.0 || r.Data["until"] == "" {
		t.Fatalf("start: %+v", r)
	}
	r = h.ask("status", nil)
	if r.Code != codeOK || r.Data["lag_bytes"] != 700.0 || r.Data["files"] != 1.0 {
		t.Errorf("status: %+v", r)
	}
	if line := fmt.Sprint(r.Data["logs"]); !strings.Contains(line, "700 B behind") || !strings.Contains(line, "start by choria=alice.mcollective") || !strings.Contains(line, "case 7") {
		t.Errorf("status: %s", line)
	}
	h.says(h.ask("list", nil), codeOK, "defined", file)
	h.says(h.ask("pause", inputs{"log": "app", "for": "90m", "reason": "calm"}), codeOK, "paused")
	h.says(h.ask("status", inputs{"log": "app"}), codeOK, "paused", "pause by choria=alice.mcollective until", "calm")
	if r := h.ask("status", inputs{"details": true}); r.Data["logs"].(map[string]any)["app"].(map[string]any)["override"].(map[string]any)["request"] != fmt.Sprintf("%032d", h.calls-2) {
		t.Errorf("details: %+v", r)
	}
	if r := h.ask("resume", inputs{"log": "app"}); r.Code != codeOK || r.Data["state"] == "paused" {
		t.Errorf("resume: %+v", r)
	}
	h.says(h.ask("redirect", inputs{"log": "app", "destination": "elsewhere"}), codeAborted, "", "elsewhere", "audit")
	if r := h.ask("redirect", inputs{"log": "app", "destination": "audit"}); r.Code != codeOK {
		t.Errorf("redirect: %+v", r)
	}
	h.says(h.ask("stop", inputs{"log": "nothing"}), codeAborted, "", "not known")
	if r := h.ask("pause", inputs{"all": true}); r.Code != codeOK || r.Data["state"] != "paused" {
		t.Errorf("pause all: %+v", r)
	}
	if r := h.ask("check", nil); r.Code != codeOK || r.Data["text"] == "" {
		t.Errorf("check: %+v", r)
	}
	history, err := h.command("status", "--history").CombinedOutput()
	if err != nil || !strings.Contains(string(history), "redirect by choria=alice.mcollective") {
		t.Errorf("%v: %s", err, history)
	}
	h.says(h.ask("stop", inputs{"log": "app"}), codeOK, "stopped")
	book, err := os.ReadFile(h.path("audit.log"))
	h.must(err)
	var first struct{ Data audit.Decision }
	h.must(json.NewDecoder(bytes.NewReader(book)).Decode(&first))
	if d := first.Data; d.Action != "start" || !d.Allowed || d.Caller != "choria=alice.mcollective" || len(d.Request) != 32 || d.Collective != "mcollective" ||
		d.Inputs["path"] != file || d.Inputs["for"] != "2h" || d.Inputs["rate"] != "5MiB/s" {
		t.Errorf("%+v in %s", d, book)
	}
	// What can't be recorded isn't done; reads go on.
	h.must(os.Remove(h.path("audit.log")))
	h.must(os.Mkdir(h.path("audit.log"), 0o700))
	h.says(h.ask("pause", inputs{"all": true}), codeOther, "", "audit log", "is a directory")
	h.says(h.ask("resume", inputs{"all": true}), codeOther, "", "audit log")
	if s, err := control.NewClient(h.path("sock")).Status(context.Background(), control.StatusRequest{}); err != nil || s.Pause == nil {
		t.Errorf("the pause of before was lifted: %+v, %v", s.Pause, err)
	}
}

// What can't be right, and what isn't permitted, is said and changes nothing.
func TestHostileRequests(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.start()
	h.must(os.WriteFile(h.path("log/app.log"), nil, 0o644))
	h.must(os.Symlink("/etc/shadow", h.path("log/shadow.log")))
	path := h.path("log/app.log")
	for name, c := range map[string]struct {
		action string
		data   inputs
		code   int
		says   string
	}{
		"no such action":       {"explode", nil, codeUnknown, "explode"},
		"log missing":          {"start", inputs{"path": path}, codeMissing, "log is missing"},
		"pause of nothing":     {"pause", nil, codeInvalid, "either"},
		"undeclared input":     {"stop", inputs{"log": "app", "force": true}, codeInvalid, "force"},
		"wrong type":           {"stop", inputs{"log": 7}, codeInvalid, "want a text"},
		"flag as text":         {"stop", inputs{"log": "app", "drain": "yes"}, codeInvalid, "true or false"},
		"newline in the log":   {"start", inputs{"log": "app\nx", "path": path}, codeInvalid, "log"},
		"separator in the log": {"start", inputs{"log": "../app", "path": path}, codeInvalid, "log"},
		"escape in the reason": {"stop", inputs{"log": "app", "reason": "\x1b[2J"}, codeInvalid, "reason"},
		"long reason":          {"stop", inputs{"log": "app", "reason": strings.Repeat("x", 513)}, codeInvalid, "513"},
		"long path":            {"start", inputs{"log": "app", "path": "/" + strings.Repeat("x", 4095)}, codeInvalid, "4096"},
		"relative path":        {"start", inputs{"log": "app", "path": "app.log"}, codeInvalid, "path"},
		"traversal":            {"start", inputs{"log": "app", "path": h.path("log/") + "/../../../etc/shadow"}, codeInvalid, "not clean"},
		"path not allowed":     {"start", inputs{"log": "app", "path": "/etc/shadow", "destination": "central"}, codeAborted, "/etc/shadow"},
		"URL as destination":   {"start", inputs{"log": "app", "path": path, "destination": "nats://evil.example.net"}, codeInvalid, "destination"},
		"bad duration":         {"pause", inputs{"log": "app", "for": "soon"}, codeInvalid, "for"},
		"endless duration":     {"pause", inputs{"log": "app", "for": "99999999d"}, codeInvalid, "for"},
		"bad rate":             {"start", inputs{"log": "app", "path": path, "rate": "fast"}, codeInvalid, "rate"},
		"bad beginning":        {"start", inputs{"log": "app", "path": path, "from": "middle"}, codeInvalid, "from"},
	} {
		r := h.ask(c.action, c.data)
		if r.Code != c.code || !strings.Contains(r.Message, c.says) {
			t.Errorf("%s: code %d, %q", name, r.Code, r.Message)
		}
	}
	// A link to what isn't allowed is taken as a definition at most; its bytes are never read.
	h.ask("start", inputs{"log": "shadow", "path": h.path("log/shadow.log"), "destination": "central", "from": "beginning"})
	if r := h.ask("status", nil); r.Data["files"] != 0.0 || r.Data["lag_bytes"] != 0.0 {
		t.Errorf("a file that isn't allowed is open: %+v", r)
	}
	for name, change := range map[string]func(map[string]any){
		"expired":    func(e map[string]any) { e["msgtime"] = time.Now().Add(-10 * time.Minute).Unix() },
		"too early":  func(e map[string]any) { e["msgtime"] = time.Now().Add(10 * time.Minute).Unix() },
		"no end":     func(e map[string]any) { e["ttl"] = 0 },
		"no time":    func(e map[string]any) { delete(e, "msgtime") },
		"no caller":  func(e map[string]any) { e["callerid"] = "" },
		"no request": func(e map[string]any) { e["requestid"] = "" },
	} {
		e := h.envelope("pause", inputs{"all": true})
		change(e)
		b, err := json.Marshal(e)
		h.must(err)
		if r := h.send(b); r.Code != codeAborted {
			t.Errorf("%s: %+v", name, r)
		}
	}
	for name, b := range map[string][]byte{
		"empty": nil, "no JSON": []byte("start"), "an array": []byte("[]"), "half": []byte(`{"action":"start"`),
		"wrong types": []byte(`{"action":7}`), "too large": append([]byte(`{"action":"`), bytes.Repeat([]byte("x"), 2<<20)...),
	} {
		if r := h.send(b); r.Code == codeOK || r.Message == "" {
			t.Errorf("%s: %+v", name, r)
		}
	}
	e := h.envelope("pause", inputs{"all": true})
	e["callerid"] = "choria=alice\r\nLogforward-Caller: root"
	b, err := json.Marshal(e)
	h.must(err)
	if r := h.send(b); r.Code == codeOK {
		t.Errorf("a caller with a header of its own: %+v", r)
	}
	if r := h.ask("status", nil); strings.Contains(fmt.Sprint(r.Data), "pause") {
		t.Errorf("something was paused: %+v", r)
	}
}

// Without a daemon reads say so, and changes wait until there is one, in their order.
func TestNoDaemon(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.must(os.WriteFile(h.path("log/app.log"), []byte("a line\n"), 0o644))
	h.says(h.ask("status", nil), codeOK, notRunning, "systemctl start")
	h.says(h.ask("list", nil), codeOK, notRunning)
	h.says(h.ask("check", nil), codeOK, control.Critical, "isn't running")
	h.says(h.ask("start", inputs{"log": "app", "path": "relative"}), codeInvalid, "")
	h.says(h.ask("start", inputs{"log": "app", "path": h.path("log/app.log"), "destination": "central", "from": "beginning"}), codeOK, recorded, "isn't running")
	h.says(h.ask("pause", inputs{"log": "app", "for": "2h", "reason": "calm"}), codeOK, recorded)
	h.says(h.ask("start", inputs{"log": "secret", "path": "/etc/shadow", "destination": "central"}), codeOK, recorded)
	entries, problems := wish.Read(h.path("wishes"))
	if len(entries) != 3 || len(problems) != 0 || entries[1].Verb != "pause" || entries[1].Caller != "choria=alice.mcollective" {
		t.Fatalf("%+v %v", entries, problems)
	}
	over := entries[1].Wish
	over.Time, over.Body = time.Now().Add(-3*time.Hour), json.RawMessage(`{"all":true,"for":"2h"}`)
	h.must(wish.Record(h.path("wishes"), over)) // its time is over
	h.must(os.WriteFile(h.path("wishes/0.json"), []byte(`{"verb":"pause","body":{"all":true},"caller":"mallory"}`), 0o666))
	h.must(os.Chmod(h.path("wishes/0.json"), 0o666)) // anybody may have written it
	h.start()
	h.eventually("the wishes to be taken", func() error {
		if entries, _ := wish.Read(h.path("wishes")); len(entries) > 0 {
			return fmt.Errorf("%d wait", len(entries))
		}
		return nil
	})
	h.eventually("the log to be looked at", func() error {
		if r := h.ask("status", inputs{"log": "app"}); r.Data["state"] != "paused" || r.Data["lag_bytes"] != 7.0 {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	h.says(h.ask("status", inputs{"log": "app"}), codeOK, "paused", "pause by choria=alice.mcollective until", "calm", "7 B behind")
	r := h.ask("list", nil)
	if text := fmt.Sprint(r.Data); strings.Contains(text, "shadow") {
		t.Errorf("what isn't allowed was taken: %s", text)
	}
	if s, err := control.NewClient(h.path("sock")).Status(context.Background(), control.StatusRequest{}); err != nil || s.Pause != nil {
		t.Errorf("all paused by a wish of nobody, or by an old one: %+v, %v", s.Pause, err)
	}
}

// A wish that can't be kept is an error, not a promise.
func TestWishCanNotBeKept(t *testing.T) {
	t.Parallel()
	for name, break_ := range map[string]func(dir string) error{
		"a file where the directory should be": func(dir string) error { return os.WriteFile(dir, nil, 0o600) },
		"anybody may write there": func(dir string) error {
			return os.Mkdir(dir, 0o700)
		},
	} {
		h := newHost(t)
		h.must(break_(h.path("wishes")))
		if info, err := os.Stat(h.path("wishes")); err == nil && info.IsDir() {
			h.must(os.Chmod(h.path("wishes"), 0o777))
		}
		if r := h.ask("pause", inputs{"all": true}); r.Code != codeOther || !strings.Contains(r.Message, "can't be kept") {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// A full disk is another way: a file system of its own, with no room.
func TestWishOnAFullDisk(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root to mount")
	}
	h := newHost(t)
	h.must(os.Mkdir(h.path("wishes"), 0o700))
	if err := syscall.Mount("tmpfs", h.path("wishes"), "tmpfs", 0, "size=4096,mode=700"); err != nil {
		t.Skipf("no mounts here: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(h.path("wishes"), syscall.MNT_DETACH) })
	h.must(os.WriteFile(h.path("wishes/fill"), make([]byte, 4096), 0o600))
	if r := h.ask("pause", inputs{"all": true}); r.Code != codeOther || !strings.Contains(r.Message, "no space left") {
		t.Errorf("%+v", r)
	}
	if names, err := os.ReadDir(h.path("wishes")); err != nil || len(names) != 1 {
		t.Errorf("something was left: %v, %v", names, err)
	}
}

// A daemon that hangs is waited for less than half of what Choria Server waits.
func TestHungDaemon(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.start()
	h.must(h.daemon.Process.Signal(syscall.SIGSTOP))
	h.says(h.ask("status", nil), codeOther, "", "didn't answer")
	h.says(h.ask("pause", inputs{"all": true}), codeOther, "", "didn't answer")
	h.says(h.ask("check", nil), codeOK, control.Critical, "didn't answer")
}

func TestActivation(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	cmd := exec.Command(program)
	cmd.Env = []string{envProtocol + "=" + activationProtocol, envReply + "=" + h.path("reply")}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if b, err := os.ReadFile(h.path("reply")); err != nil || string(b) != `{"activate":true}` {
		t.Errorf("%s, %v", b, err)
	}
	cmd = exec.Command(program)
	cmd.Env = []string{envProtocol + "=io.choria.mcorpc.external.v9.rpc_request", envReply + "=" + h.path("reply")}
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "isn't understood") {
		t.Errorf("%v: %s", err, out)
	}
}

// The agent, its description, the daemon's requests and the command line know the same actions, inputs and outputs.
func TestAgreement(t *testing.T) {
	t.Parallel()
	d, err := ddl.Parse()
	if err != nil {
		t.Fatal(err)
	}
	var described []string
	for i := range d.Actions {
		described = append(described, d.Actions[i].Name)
	}
	slices.Sort(described)
	if known := slices.Sorted(maps.Keys(actions)); !slices.Equal(known, described) {
		t.Errorf("the agent knows %v, its description %v", known, described)
	}
	// What an input is called on the command line, where its name is another.
	flags := map[string]string{"log": "<log>", "path": "<path>", "from": "--beginning", "details": "--json"}
	positional := map[string]string{"redirect destination": "<destination>"}
	for _, action := range d.Actions {
		help, err := exec.Command(program, action.Name, "--help").CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v: %s", action.Name, err, help)
			continue
		}
		for input := range action.Inputs {
			want := positional[action.Name+" "+input]
			if want == "" {
				want = flags[input]
			}
			if want == "" {
				want = "--" + input
			}
			if !strings.Contains(strings.ToLower(string(help)), want) {
				t.Errorf("logforward %s has no %s", action.Name, want)
			}
		}
	}
	h := newHost(t)
	h.start()
	h.must(os.WriteFile(h.path("log/app.log"), nil, 0o644))
	data := map[string]inputs{
		"start": {"log": "app", "path": h.path("log/app.log"), "destination": "central"}, "stop": {"log": "app"}, "pause": {"log": "app"},
		"resume": {"log": "app"}, "redirect": {"log": "app", "destination": "audit"},
	}
	h.stage("log: staged\npath: " + h.path("log/staged.log") + "\ndestination: central\n")
	for _, name := range []string{"start", "pause", "resume", "status", "list", "check", "redirect", "stop", "plan", "apply", "rollback"} {
		action := d.Action(name)
		outputs := slices.Sorted(maps.Keys(action.Outputs))
		r := h.ask(name, data[name])
		if got := slices.Sorted(maps.Keys(r.Data)); r.Code != codeOK || !slices.Equal(got, outputs) {
			t.Errorf("%s gives %v of %v: %s", name, got, outputs, r.Message)
			continue
		}
		for output, v := range r.Data {
			want := action.Outputs[output].Type
			is := map[string]bool{"string": false, "integer": false, "float": false, "boolean": false, "hash": false, "array": false}
			switch v := v.(type) {
			case string:
				is["string"] = true
			case float64:
				is["float"], is["integer"] = true, v == float64(int64(v))
			case bool:
				is["boolean"] = true
			case map[string]any:
				is["hash"] = true
			case []any:
				is["array"] = true
			}
			if known, ok := is[want]; !ok || !known {
				t.Errorf("%s: output %s is %T, not %s", name, output, v, want)
			}
		}
	}
}

// Whatever the request's file holds, there is a reply with a code that Choria has a heading for.
func FuzzRequest(f *testing.F) {
	dir := f.TempDir()
	config := filepath.Join(dir, "logforward.cfg")
	if err := os.WriteFile(config, fmt.Appendf(nil, "socket = %[1]s/sock\nwishes = %[1]s/none/\n", dir), 0o600); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"agent":"logforward","action":"start","requestid":"1","callerid":"up=a","ttl":60,"msgtime":4000000000,"data":{"log":"a","path":"/x"}}`))
	f.Add([]byte(`{"action":"status","data":null}`))
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, b []byte) {
		file := filepath.Join(t.TempDir(), "request")
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		r := inTime(t.Context(), func(name string) string { return map[string]string{envRequest: file, envConfig: config}[name] })
		if r == nil || r.Code < codeOK || r.Code > codeOther || r.Message == "" || r.Data == nil {
			t.Errorf("%+v", r)
		}
		if strings.ContainsAny(r.Message, "\n\x1b\x00") {
			t.Errorf("%q", r.Message)
		}
	})
}

// BenchmarkRequest is what Choria Server waits for at each request: the process from its start to its end, fifty times.
func BenchmarkRequest(b *testing.B) {
	h := newHost(b)
	h.start()
	var rss int64
	var took []float64
	for b.Loop() {
		for range 50 {
			e, err := json.Marshal(h.envelope("status", nil))
			h.must(err)
			h.must(os.WriteFile(h.path("request"), e, 0o600))
			cmd := exec.Command(program)
			cmd.Env = []string{envProtocol + "=" + requestProtocol, envRequest + "=" + h.path("request"), envReply + "=" + h.path("reply"), envConfig + "=" + h.path("logforward")}
			began := time.Now()
			h.must(cmd.Run())
			took = append(took, time.Since(began).Seconds()*1000)
			rss = max(rss, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)
		}
	}
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2], "p50-ms")
	b.ReportMetric(took[len(took)*95/100], "p95-ms")
	b.ReportMetric(float64(rss)*1024/1e6, "peak-MB")
}
