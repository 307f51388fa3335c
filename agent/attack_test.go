package agent

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"logforward/internal/control"
	"logforward/internal/wish"
)

// What another user of the machine leaves where wishes are is never taken, and holds up nobody's.
func TestWishesOfOtherLocalUsers(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root: gives files to another user")
	}
	h := newGuardedHost(t, rules)
	const hostile = `{"verb":"stop","body":{"log":"app"},"caller":"up=ops-bob","request":"%d","time":"2026-01-01T00:00:00Z"}`
	wishes := h.path("wishes")
	h.must(os.Mkdir(wishes, 0o700))
	put := func(file string) error {
		return os.WriteFile(file, fmt.Appendf(nil, hostile, time.Now().UnixNano()), 0o600)
	}
	outside := h.path("outside.json")
	h.must(put(outside))
	traps := map[string]func(file string) error{
		"owner": func(file string) error {
			return firstOf(put(file), func() error { return os.Chown(file, 65534, 65534) })
		},
		"mode":  func(file string) error { return firstOf(put(file), func() error { return os.Chmod(file, 0o622) }) },
		"group": func(file string) error { return firstOf(put(file), func() error { return os.Chmod(file, 0o660) }) },
		"hard":  func(file string) error { return os.Link(outside, file) },
		"soft":  func(file string) error { return os.Symlink(outside, file) },
		"fifo":  func(file string) error { return syscall.Mkfifo(file, 0o600) },
		"dir":   func(file string) error { return os.Mkdir(file, 0o700) },
		"dev":   func(file string) error { return os.Symlink("/dev/zero", file) },
		"root": func(file string) error { // the kernel names these
			return os.WriteFile(file, []byte(strings.ReplaceAll(fmt.Sprintf(hostile, 1), "up=ops-bob", "local=root")), 0o600)
		},
	}
	for name, make := range traps {
		h.must(make(filepath.Join(wishes, "0-"+name+".json")))
	}
	h.says(h.as("up=oncall-eve", "pause", inputs{"log": "other", "for": "1h", "reason": "disk"}), codeOK, recorded)
	h.start()
	h.eventually("the good wish to be taken", func() error {
		if r := h.as("up=anybody", "status", inputs{"log": "other"}); r.Data["state"] != "paused" {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	for name := range traps {
		if name != "root" {
			h.eventually("the log to tell of "+name, func() error { return h.logged("0-" + name + ".json") })
		}
	}
	h.says(h.as("up=anybody", "status", inputs{"log": "app"}), codeOK, "starting")
	for _, d := range h.decisions() {
		if d.Action == "stop" {
			t.Errorf("decided on: %+v", d)
		}
	}
	// A directory that others may write to, or that is another's, holds no wishes, and nothing is recorded there.
	h.stop()
	for name, spoil := range map[string]func() error{
		"not to root": func() error { return os.Chown(wishes, 65534, 65534) },
		"mode 0777":   func() error { return firstOf(os.Chown(wishes, 0, 0), func() error { return os.Chmod(wishes, 0o777) }) },
		"not a directory": func() error {
			return firstOf(os.Rename(wishes, wishes+".real"), func() error { return os.Symlink(wishes+".real", wishes) })
		},
	} {
		_ = os.Chmod(wishes, 0o700)
		h.must(spoil())
		if r := h.as("up=oncall-eve", "resume", inputs{"log": "other", "reason": "x"}); r.Code != codeOther || !strings.Contains(r.Message, "can't be kept") {
			t.Errorf("%s: %+v", name, r)
		}
		if entries, problems := wish.Read(wishes); len(entries) > 0 || len(problems) != 1 {
			t.Errorf("%s: %d wishes, %v", name, len(entries), problems)
		}
		_ = os.Remove(wishes)
		if _, err := os.Lstat(wishes); err != nil {
			h.must(os.Rename(wishes+".real", wishes))
		}
		h.must(os.Chown(wishes, 0, 0))
	}
}

func firstOf(err error, then func() error) error {
	if err != nil {
		return err
	}
	return then()
}

// Callers are compared letter for letter: what only looks like one is another, and is let do nothing.
func TestCallersThatLookLikeOthers(t *testing.T) {
	t.Parallel()
	h := newGuardedHost(t, rules)
	h.start()
	for _, caller := range []string{
		"UP=ops-bob", "Up=Ops-Bob", "up=OPS-bob", "up=ops", "xup=ops-bob", "up=\u043eps-bob", "up=op\u0455-bob", "\uff55p=ops-bob", "up\uff1dops-bob",
		"up=o\u0301ps-bob", "up=ops\u2010bob", "up=ops\u2011bob", " up=ops-bob", "up=ops-bob ", "up=ops-bob\t", "up=ops-bob\u00a0", "up=ops-\u200bbob", "\ufeffup=ops-bob",
		"up=ops-bob\u202e", "up=ops-bob\x00", "up=ops-bob\n", "up=ops-bob\r\nLogforward-Caller: up=ops-eve", "local=root", "LOCAL=root", " local=root", "local=nobody", "root", "",
		"choria=ops-bob.mcollective", strings.Repeat("up=ops-", 60), "up=ops-\xff",
	} {
		switch r := h.as(caller, "stop", inputs{"log": "app"}); {
		case r.Code == codeOK:
			t.Errorf("%q may stop: %+v", caller, r)
		case strings.ContainsAny(r.Message, "\n\r\x00"):
			t.Errorf("%q: message %q", caller, r.Message)
		}
	}
	h.says(h.as("up=ops-bob", "stop", inputs{"log": "app"}), codeOK, "stopped")
	for _, d := range h.decisions() {
		if d.Allowed != (d.Caller == "up=ops-bob") {
			t.Errorf("%+v", d)
		}
	}
}

// A log's name is what policy sees, letter for letter; one that looks like another is refused, or is another.
func TestLogsThatLookLikeOthers(t *testing.T) {
	t.Parallel()
	h := newGuardedHost(t, `package io.choria.mcorpc.authpolicy

import rego.v1

default allow := false

allow if {
	input.callerid == "up=team"
	input.data.log in {"app", "caf\u00e9"}
}

allow if input.action in {"list", "status"}
`)
	h.start()
	start := func(log string) reply {
		return h.as("up=team", "start", inputs{"log": log, "path": h.path("log/app/app.log"), "destination": "central"})
	}
	for _, log := range []string{
		"App", "APP", "app.", "app ", " app", "app\x00", "app\x00.log", "app\u200b", "\u0430pp", "\uff41pp", "app\u00a0", "app\u0300", "ap\u00adp", "./app", "app/", "..", "app/../app", "app\n", "app\u2028",
		"cafe\u0301", "CAF\u00c9", "audit.logforward",
	} {
		if r := start(log); r.Code == codeOK {
			t.Errorf("%q was started: %+v", log, r)
		}
		if r := h.as("up=team", "pause", inputs{"log": log}); r.Code == codeOK {
			t.Errorf("%q was paused: %+v", log, r)
		}
	}
	h.says(start("caf\u00e9"), codeOK, "starting")
	h.says(h.as("up=team", "pause", inputs{"log": "app"}), codeOK, "paused")
}

// The same request again, on the same route or another, also after a restart, takes no effect a second time.
func TestReplayedRequests(t *testing.T) {
	t.Parallel()
	h := newGuardedHost(t, rules)
	h.start()
	e := h.envelope("pause", inputs{"log": "app", "for": "1h", "reason": "disk"})
	e["callerid"] = "up=oncall-eve"
	b, err := json.Marshal(e)
	h.must(err)
	h.says(h.send(b), codeOK, "paused")
	h.says(h.as("up=oncall-eve", "resume", inputs{"log": "app", "reason": "done"}), codeOK, "starting")
	h.says(h.send(b), codeAborted, "", "took effect", "ask anew")
	e["callerid"] = "up=ops-bob"
	other, err := json.Marshal(e)
	h.must(err)
	h.says(h.send(other), codeAborted, "", "took effect")
	h.stop()
	h.says(h.send(b), codeOK, recorded) // it is decided on when the daemon runs
	h.must(wish.Record(h.path("wishes"), wish.Wish{Verb: "pause", Body: json.RawMessage(`{"log":"app","for":"1h","reason":"x"}`), Caller: "up=oncall-eve", RequestID: e["requestid"].(string), TTL: 60, Time: time.Now()}))
	h.start()
	h.eventually("the wishes to be decided on", func() error {
		if entries, _ := wish.Read(h.path("wishes")); len(entries) > 0 {
			return fmt.Errorf("%d wait", len(entries))
		}
		return nil
	})
	h.says(h.send(b), codeAborted, "", "took effect")
	if r := h.as("up=anybody", "status", inputs{"log": "app"}); r.Data["state"] == "paused" {
		t.Errorf("%+v", r)
	}
	refused := 0
	for _, d := range h.decisions() {
		if strings.Contains(d.Reason, "took effect") {
			refused++
		}
	}
	if refused != 5 {
		t.Errorf("%d replays are in the audit log, want 5", refused)
	}
	// An expired one never reaches the daemon; nor does one that is good for ever.
	for name, change := range map[string]func(){
		"expired":      func() { e["msgtime"] = time.Now().Add(-2 * time.Minute).Unix() },
		"good forever": func() { e["msgtime"], e["ttl"] = time.Now().Unix(), 1<<30 },
		"negative":     func() { e["ttl"] = -60 },
	} {
		e["requestid"] = strings.Repeat("f", 32)
		change()
		b, err := json.Marshal(e)
		h.must(err)
		if r := h.send(b); r.Code != codeAborted || !strings.Contains(r.Message, "good for") {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// Asking again doesn't make a time longer than policy lets it be: the reply says what it would be in all.
func TestAnOperatorExtendingTheirTime(t *testing.T) {
	t.Parallel()
	h := newGuardedHost(t, rules)
	h.start()
	pause := func(d string) reply {
		return h.as("up=oncall-eve", "pause", inputs{"log": "app", "for": d, "reason": "disk"})
	}
	h.says(pause("4h"), codeOK, "paused")
	h.says(pause("4h"), codeAborted, "", "4h", "in all")
	h.says(pause("3h"), codeOK, "paused")
	h.says(h.as("up=oncall-eve", "pause", inputs{"all": true, "for": "4h", "reason": "trick"}), codeAborted, "", "in all")
	h.stop()
	h.start()
	h.says(pause("4h"), codeAborted, "", "in all")
	h.says(h.as("up=oncall-bob", "pause", inputs{"log": "app", "for": "4h", "reason": "my turn"}), codeOK, "paused")
	last := h.decisions()
	if d := last[len(last)-2]; d.Allowed || d.Total == "" || d.Inputs["for"] != "4h" {
		t.Errorf("%+v", d)
	}
}

// Start can't be used to send a log that there is elsewhere, nor to put another file under its name.
func TestStartIsNoRedirect(t *testing.T) {
	t.Parallel()
	h := newGuardedHost(t, strings.Replace(rules, `input.data.destination == "central"`, `input.data.destination in {"central", "audit"}
	input.action != "redirect"`, 1))
	for _, file := range []string{"log/app/mine.log", "log/app/else.log"} {
		h.must(os.WriteFile(h.path(file), nil, 0o644))
	}
	h.start()
	start := func(caller, log, file, destination string) reply {
		return h.as(caller, "start", inputs{"log": log, "path": h.path("log/" + file), "destination": destination})
	}
	h.says(start("up=ops-bob", "mine", "app/mine.log", "central"), codeOK, "starting")
	for _, c := range [][]string{
		{"app", "app/app.log", "audit"}, {"app", "app/else.log", "central"}, {"mine", "app/mine.log", "audit"}, {"mine", "app/else.log", "central"},
		{"other", "app/app.log", "central"}, {"other", "other/other.log", "audit"},
	} {
		for _, caller := range []string{"up=ops-bob", "up=ops-eve"} {
			if r := start(caller, c[0], c[1], c[2]); r.Code != codeAborted {
				t.Errorf("%s starts %q: %+v", caller, c, r)
			}
		}
	}
	h.says(h.as("up=ops-bob", "redirect", inputs{"log": "mine", "destination": "audit"}), codeAborted, "", "not permitted")
	s, err := control.NewClient(h.path("sock")).Status(t.Context(), control.StatusRequest{})
	h.must(err)
	for _, l := range s.Logs {
		if l.Destination != "central" || !strings.HasSuffix(l.Path, "/"+l.Log+".log") {
			t.Errorf("%+v", l)
		}
	}
}

// A glob that is permitted as a text may match more than the policy's author thought of: each file is decided on by itself. So
// is what a link leads to, whenever it does.
func TestGlobsAndLinks(t *testing.T) {
	t.Parallel()
	h := newGuardedHost(t, rules)
	for _, dir := range []string{"log/app/deep/er", "log/app/.hidden"} {
		h.must(os.MkdirAll(h.path(dir), 0o755))
	}
	for _, file := range []string{"app/a.log", "app/deep/b.log", "app/deep/er/c.log", "app/.hidden/d.log"} {
		h.must(os.WriteFile(h.path("log/"+file), []byte("x\n"), 0o644))
	}
	for link, target := range map[string]string{"app/link.log": "log/other/other.log", "app/loop.log": "log/app/loop.log", "app/up": "log", "app/fine.log": "log/app/a.log", "app/etc.log": ""} {
		if target = h.path(target); link == "app/etc.log" {
			target = "/etc/passwd"
		}
		h.must(os.Symlink(target, h.path("log/"+link)))
	}
	h.start()
	start := func(log, path string) reply {
		return h.as("up=ops-bob", "start", inputs{"log": log, "path": h.path("log/") + "/" + path, "destination": "central", "from": "beginning"})
	}
	for _, path := range []string{"app/link.log", "app/etc.log", "app/up/other/other.log", "app/up/app/a.log", "other/*", "*", "**", "app/../other/other.log", "app/./a.log", "app//a.log", "{app,other}/*.log", "app/{a,../other/other}.log", "[a-z]*/*.log", "app/deep/*.log"} {
		if r := start("trick", path); r.Code == codeOK {
			t.Errorf("%s was started: %+v", path, r)
			h.as("up=ops-bob", "stop", inputs{"log": "trick"})
		}
	}
	// Both texts look like files of the directory; what they match doesn't.
	h.says(start("wide", "app/**"), codeOK, "starting")
	h.says(start("fine", "app/fine.log"), codeOK, "starting")
	open := func() (files []string) {
		s, err := control.NewClient(h.path("sock")).Status(t.Context(), control.StatusRequest{})
		h.must(err)
		for _, l := range s.Logs {
			if l.Files > 0 && strings.HasPrefix(l.Log, "wide") {
				files = append(files, l.Log)
			}
		}
		return files
	}
	h.eventually("the files to be looked at", func() error {
		if err := h.logged("er/c.log"); err != nil {
			return err
		}
		if got := open(); len(got) == 0 {
			return fmt.Errorf("%q is open", got)
		}
		return nil
	})
	if got := fmt.Sprint(open()); strings.Contains(got, "b.log") || strings.Contains(got, "c.log") || strings.Contains(got, "d.log") || strings.Contains(got, "other") {
		t.Errorf("%s is open", got)
	}
	asked := map[string]bool{}
	for _, d := range h.decisions() {
		if d.Route == "file" {
			asked[strings.TrimPrefix(fmt.Sprint(d.Inputs["path"]), h.path("log"))] = d.Allowed
		}
	}
	for path, allowed := range map[string]bool{"/app/a.log": true, "/app/app.log": true, "/app/deep/b.log": false, "/app/deep/er/c.log": false} {
		if got, known := asked[path]; !known || got != allowed {
			t.Errorf("%s: asked %t, allowed %t; want %t", path, known, got, allowed)
		}
	}
	// The link leads elsewhere now.
	h.must(os.Symlink(h.path("log/other/other.log"), h.path("log/app/new")))
	h.must(os.Rename(h.path("log/app/new"), h.path("log/app/fine.log")))
	h.eventually("the log to say so", func() error { return h.logged(`other.log\" isn't what fine was decided on`) })
}
