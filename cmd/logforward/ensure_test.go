package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"logforward/internal/control"
	"logforward/internal/keeper"
)

// newEnsured is a node whose daemon ensure starts. The test ends it.
func newEnsured(t *testing.T, more string) *site {
	t.Helper()
	s := newSite(t)
	b, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	write(t, s.config, string(b)+"ensure = "+s.dir+"/ensure\nensure_unit =\nensure_backoff = 1s\n"+more)
	t.Cleanup(s.endDaemon)
	return s
}

// endDaemon ends the daemon that ensure has started, which no [process] stands for, and waits until it is gone.
func (s *site) endDaemon() {
	s.t.Helper()
	b, err := os.ReadFile(s.dir + "/forward/forward.lock")
	if err != nil {
		return // none was ever started
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		s.t.Fatal(err)
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || !strings.Contains(string(line), s.config) {
		return // it has ended
	}
	_ = syscall.Kill(pid, syscall.SIGTERM) // it may end meanwhile
	eventually(s.t, "the daemon has ended", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
}

// look is what ensure --data says.
func (s *site) look(args ...string) map[string]string {
	s.t.Helper()
	code, out, errText := once(s.t, append([]string{"ensure", "--data", "--config", s.config}, args...)...)
	data := map[string]string{}
	if err := json.Unmarshal([]byte(out), &data); err != nil || code != 0 || errText != "" {
		s.t.Fatalf("%d, %v: %s%s", code, err, out, errText)
	}
	return data
}

func TestEnsure(t *testing.T) {
	t.Parallel()
	s := newEnsured(t, "destination.central.password = secret\n")
	if err := os.Chmod(s.config, 0o644); err != nil { // other commands warn of that; a watcher takes what is said for data
		t.Fatal(err)
	}
	if code, out, errText := once(t, "ensure", "--config", s.config); code != 0 || !strings.Contains(errText, "chmod") || !strings.HasPrefix(out, "idle, pid ") || !strings.Contains(out, "started") {
		t.Errorf("%d: %s", code, out)
	}
	first := s.look()
	if first["state"] != "idle" || first["action"] != "" || first["pid"] == "" {
		t.Errorf("%v", first)
	}
	if d := s.look("--order", "pause", "--for", "1h", "--reason", "upgrade"); d["state"] != "paused" || !strings.Contains(d["reason"], "upgrade") || !strings.Contains(d["order"], "pause: ") {
		t.Errorf("%v", d)
	}
	var status control.StatusReply
	s.ask(&status, "status")
	until := status.Pause.Until
	if d := s.look("--order", "pause", "--for", "10m"); d["state"] != "paused" || !strings.Contains(d["order"], "longer already") {
		t.Errorf("%v", d)
	}
	if s.ask(&status, "status"); !status.Pause.Until.Equal(until) {
		t.Errorf("a shorter pause has made %s of %s", status.Pause.Until, until)
	}
	if d := s.look("--order", "resume"); d["state"] != "idle" || d["pid"] != first["pid"] {
		t.Errorf("%v", d)
	}
	if d := s.look("--retry"); d["state"] != "idle" || d["pid"] != first["pid"] || !strings.Contains(d["order"], "retry: ") {
		t.Errorf("%v", d)
	}
	if d := s.look("--order", "restart"); d["state"] != "idle" || d["action"] != "started" || d["pid"] == first["pid"] {
		t.Errorf("%v", d)
	}
	// Settings that nothing can start with don't end what runs, however they are wrong.
	good, running := read(t, s.config), s.look()["pid"]
	for _, bad := range []string{"chunk_size = banana", "destination.other.choria = /nowhere/server.conf", "destination.other.url = bad://one"} {
		write(t, s.config, good+bad+"\n")
		code, out, errText := once(t, "ensure", "--order", "restart", "--config", s.config)
		if _, value, _ := strings.Cut(bad, "= "); code == 0 || !strings.Contains(out+errText, value) {
			t.Errorf("restart with %q: %d %s%s", bad, code, out, errText)
		}
		write(t, s.config, good)
		if d := s.look(); d["state"] != "idle" || d["pid"] != running {
			t.Errorf("restart with %q: %v", bad, d)
		}
	}
	for _, args := range [][]string{{"--order", "explode"}, {"--for", "1h"}, {"--order", "restart", "--for", "1h"}, {"--order", "button"}, {"--order", "pause", "--retry"}, {"--order", "pause", "--for", "soon"}} {
		if code, _, _ := once(t, append([]string{"ensure", "--config", s.config}, args...)...); code != exitUsage {
			t.Errorf("%v: exit code %d, want %d", args, code, exitUsage)
		}
	}
}

func TestEnsureThatFails(t *testing.T) {
	t.Parallel()
	s := newEnsured(t, "ensure_attempts = 1\ndestination.other.choria = /nowhere/server.conf\n")
	if code, out, _ := once(t, "ensure", "--config", s.config); code != exitUnreachable || !strings.Contains(out, "/nowhere/server.conf") {
		t.Errorf("%d: %s", code, out)
	}
	if code, out, _ := once(t, "ensure", "--config", s.config); code != exitFailure || !strings.HasPrefix(out, "failed: ") || !strings.Contains(out, "status 78") {
		t.Errorf("%d: %s", code, out)
	}
	if code, out, _ := once(t, "check", "--config", s.config); code != 2 || !strings.Contains(out, "doesn't stay") || !strings.Contains(out, "/nowhere/server.conf") {
		t.Errorf("check: %d: %s", code, out)
	}
	if code, out, _ := once(t, "ensure", "--order", "pause", "--config", s.config); code != exitUnreachable || !strings.Contains(out, "failed") {
		t.Errorf("an order that nobody hears: %d: %s", code, out)
	}
	if d := s.look(); d["state"] != "failed" || !strings.Contains(d["order"], "pause wasn't done") {
		t.Errorf("%v", d)
	}
	write(t, s.config, "nonsense = 1\n")
	if d := s.look(); d["state"] != "degraded" || !strings.Contains(d["reason"], "nonsense") {
		t.Errorf("settings that can't be read: %v", d)
	}
}

// Who isn't allowed to looks up what to do in the error.
func TestEnsureIsNotPermitted(t *testing.T) {
	denied := &fs.PathError{Op: "mkdir", Path: "/var/lib/logforward/ensure", Err: fs.ErrPermission}
	if err := ensureFailed(denied, 1000); !strings.Contains(err.Error(), "run it as root") || !strings.Contains(err.Error(), denied.Path) || exitCode(err) != exitRefused {
		t.Error(err)
	}
	if err := ensureFailed(denied, 0); err != error(denied) { // to root it is a file system's fault
		t.Error(err)
	}
}

// The policy decides on what the machine asks for as on what anyone does.
func TestEnsureObeysPolicy(t *testing.T) {
	t.Parallel()
	s := newEnsured(t, "")
	b, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	policy := filepath.Join(s.dir, "policy.rego")
	write(t, s.config, strings.Replace(string(b), "policy = peers", "policy = "+policy, 1))
	write(t, policy, "package io.choria.mcorpc.authpolicy\n\nimport rego.v1\n\ndefault allow := false\n\nallow if input.action in {\"status\", \"check\"}\n")
	s.look()
	code, out, errText := once(t, "ensure", "--data", "--order", "pause", "--config", s.config)
	if code != exitRefused || !strings.Contains(out, `"state": "idle"`) || !strings.Contains(errText, "pause is not permitted for local=root") {
		t.Errorf("%d: %s%s", code, out, errText)
	}
	if d := s.look(); !strings.Contains(d["order"], "not permitted") {
		t.Errorf("%v", d)
	}
	write(t, policy, "package io.choria.mcorpc.authpolicy\n\nimport rego.v1\n\ndefault allow := false\n")
	if d := s.look(); d["state"] != "degraded" || d["action"] != "" || !strings.Contains(d["reason"], "may not be seen") {
		t.Errorf("a policy that hides everything: %v", d)
	}
}

func TestMetricsForChoria(t *testing.T) {
	t.Parallel()
	s := newEnsured(t, "")
	dir := t.TempDir()
	numbers := func(dir string) map[string]float64 {
		t.Helper()
		code, out, errText := once(t, "check", "--metrics", "--textfiles", dir, "--config", s.config)
		var m metrics
		if err := json.Unmarshal([]byte(out), &m); err != nil || code != 0 || errText != "" {
			t.Fatalf("%d, %v: %s%s", code, err, out, errText)
		}
		return m.Metrics
	}
	if m := numbers(dir); m["up"] != 0 || m["textfile_written"] != 1 {
		t.Errorf("without a daemon: %v", m)
	}
	s.look()
	if m := numbers(dir); m["up"] != 1 || m["logs"] != 0 {
		t.Errorf("%v", m)
	}
	b, err := os.ReadFile(filepath.Join(dir, "logforward.prom"))
	if err != nil || !strings.Contains(string(b), "\nlogforward_node_up 1\n") {
		t.Errorf("%s (%v)", b, err)
	}
	if m := numbers("/nowhere"); m["textfile_written"] != 0 || m["up"] != 1 {
		t.Errorf("where nothing can be written: %v", m)
	}
}

// Choria writes a machine's data anew for each text, so it is told only what it doesn't know.
func TestTheMachineIsToldNewsOnly(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	o := keeper.Observation{State: keeper.Idle, PID: 7, Time: now}
	for _, c := range []struct {
		name  string
		known func(map[string]any)
		want  string
	}{
		{"all is known", func(d map[string]any) { d["observed"] = "2030-01-02T03:03:50Z" }, "map[]"},
		{"an old look", func(d map[string]any) { d["observed"] = "2030-01-02T03:03:45Z" }, "map[observed:2030-01-02T03:04:05Z]"},
		{"a look of the future", func(d map[string]any) { d["observed"] = "2030-01-02T04:03:45Z" }, "map[observed:2030-01-02T03:04:05Z]"},
		{"no look", func(d map[string]any) { delete(d, "observed") }, "map[observed:2030-01-02T03:04:05Z]"},
		{"another state", func(d map[string]any) { d["state"] = "failed" }, "map[observed:2030-01-02T03:04:05Z state:idle]"},
		{"no text", func(d map[string]any) { d["reason"] = 7 }, "map[observed:2030-01-02T03:04:05Z reason:]"},
	} {
		known := map[string]any{"else": true}
		for name, text := range o.Data() {
			known[name] = text
		}
		c.known(known)
		if got := fmt.Sprint(unknown(o.Data(), known, now)); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	if got := unknown(o.Data(), nil, now); len(got) != 8 {
		t.Errorf("without a machine: %v", got)
	}
}
