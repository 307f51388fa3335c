package agent

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"logforward/ddl"
	"logforward/internal/awake"
)

// everything is an input for each action.
func (h *host) everything() map[string]inputs {
	return map[string]inputs{
		"start": {"log": "app", "path": h.path("log/app.log"), "destination": "central"}, "stop": {"log": "app"}, "pause": {"log": "app"},
		"resume": {"log": "app"}, "redirect": {"log": "app", "destination": "audit"},
		"status": nil, "list": nil, "check": nil, "plan": nil, "apply": nil, "rollback": nil,
	}
}

// running bounds how many agents are timed at once: they are to wait for the daemon, not for each other.
var running = make(chan struct{}, 6)

// call runs the agent for one request with files of its own, so that many run at once. A uid of 0 is this process's own user.
func (h *host) call(action string, data inputs, uid uint32) (reply, time.Duration, error) {
	var r reply
	dir, err := os.MkdirTemp(h.dir, "call-")
	if err != nil {
		return r, 0, err
	}
	e := h.envelopeOf(fmt.Sprintf("%032x", time.Now().UnixNano()), action, data)
	b, err := json.Marshal(e)
	if err != nil {
		return r, 0, err
	}
	request, answer := filepath.Join(dir, "request"), filepath.Join(dir, "reply")
	if err := os.WriteFile(request, b, 0o600); err != nil {
		return r, 0, err
	}
	if err := os.WriteFile(answer, nil, 0o600); err != nil {
		return r, 0, err
	}
	cmd := exec.Command(program, request, answer, requestProtocol)
	cmd.Env = []string{"PATH=/bin:/usr/bin", envProtocol + "=" + requestProtocol, envRequest + "=" + request, envReply + "=" + answer, envConfig + "=" + h.path("logforward")}
	if uid != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		for _, file := range []string{dir, request, answer} {
			if err := os.Chown(file, int(uid), int(uid)); err != nil {
				return r, 0, err
			}
		}
	}
	running <- struct{}{}
	defer func() { <-running }()
	began := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(began)
	if err != nil || len(out) > 0 {
		return r, took, fmt.Errorf("%v: %s", err, out)
	}
	if b, err = os.ReadFile(answer); err != nil {
		return r, took, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, took, fmt.Errorf("%w in %q", err, b)
	}
	return r, took, nil
}

// half is what a reply may take in a failure.
func half(t *testing.T) time.Duration {
	t.Helper()
	d, err := ddl.Parse()
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(d.Metadata.Timeout) * time.Second / 2
}

// Whatever is wrong with the daemon or the way to it, each action is answered within half of what Choria Server waits,
// and the answer says what is wrong. Those about what is staged need no daemon.
func TestEachActionIsAnsweredInEachFailure(t *testing.T) {
	t.Parallel()
	limit := half(t)
	staged := []string{"plan", "apply", "rollback"}
	changes := []string{"start", "stop", "pause", "resume", "redirect"}
	for name, c := range map[string]struct {
		spoil   func(*testing.T, *host)
		uid     uint32
		changes string // what a change is told
		reads   string // what status and list are
		check   string
	}{
		"no socket": {spoil: func(*testing.T, *host) {}, changes: "recorded", reads: "not running", check: "there is no socket"},
		"killed":    {spoil: func(_ *testing.T, h *host) { h.start(); h.stop() }, changes: "recorded", reads: "not running", check: "nobody answers"},
		"frozen": {spoil: func(t *testing.T, h *host) { h.start(); h.must(h.daemon.Process.Signal(syscall.SIGSTOP)) },
			changes: "didn't answer", reads: "didn't answer", check: "didn't answer"},
		"answers by drops": {spoil: drops, changes: "didn't answer", reads: "didn't answer", check: "didn't answer"},
		"something else":   {spoil: stranger, changes: "is that logforward", reads: "is that logforward", check: "is that logforward"},
		"no permission": {spoil: func(_ *testing.T, h *host) { h.start() }, uid: 65534,
			changes: "no permission to talk", reads: "no permission to talk", check: "no permission to talk"},
		"no room for wishes": {spoil: func(_ *testing.T, h *host) { h.must(os.WriteFile(h.path("wishes"), nil, 0o600)) },
			changes: "can't be kept", reads: "not running", check: "there is no socket"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if c.uid != 0 && os.Getuid() != 0 {
				t.Skip("needs root to ask as somebody else")
			}
			h := newHost(t)
			if c.uid != 0 {
				h.must(os.Chmod(h.dir, 0o755))
				h.must(os.Chmod(filepath.Dir(program), 0o755))
			}
			c.spoil(t, h)
			var all sync.WaitGroup
			for action, data := range h.everything() {
				all.Go(func() {
					r, took, err := h.call(action, data, c.uid)
					for n := 0; n < 2 && err == nil && took > limit; n++ { // the machine may be busy with something else
						r, took, err = h.call(action, data, c.uid)
					}
					b, _ := json.Marshal(r) // it was JSON
					switch {
					case err != nil:
						t.Errorf("%s: %v", action, err)
					case took > limit:
						t.Errorf("%s: answered after %s, want at most %s: %s", action, took, limit, b)
					case slices.Contains(staged, action):
						if r.Message == "" {
							t.Errorf("%s: says nothing", action)
						}
					case slices.Contains(changes, action):
						if !strings.Contains(string(b), c.changes) || (r.Code == codeOK) != (c.changes == "recorded") {
							t.Errorf("%s: want %q in %s", action, c.changes, b)
						}
					case action == "check":
						if !strings.Contains(string(b), c.check) {
							t.Errorf("%s: want %q in %s", action, c.check, b)
						}
					case !strings.Contains(string(b), c.reads):
						t.Errorf("%s: want %q in %s", action, c.reads, b)
					}
				})
			}
			all.Wait()
		})
	}
}

// listen answers on the daemon's socket in its place.
func listen(t *testing.T, h *host, answer func(net.Conn)) {
	t.Helper()
	l, err := net.Listen("unix", h.path("sock"))
	h.must(err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); answer(c) }()
		}
	}()
}

// drops is a reply that never ends, though there always is some more of it.
func drops(t *testing.T, h *host) {
	listen(t, h, func(c net.Conn) {
		_, err := c.Read(make([]byte, 4096)) // the request
		if err != nil {
			return
		}
		_, err = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"))
		for ; err == nil; time.Sleep(50 * time.Millisecond) {
			_, err = c.Write([]byte(" "))
		}
	})
}

// stranger is another server on the socket.
func stranger(t *testing.T, h *host) {
	listen(t, h, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 1024)) // whatever it is
		_, _ = c.Write([]byte("HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"))
	})
}

// A disk that hangs can't be told to stop; there is a reply all the same. A pipe that nobody writes to hangs like one.
func TestAHangingDiskIsAnsweredAbout(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	limit := half(t)
	h.must(syscall.Mkfifo(h.path("request"), 0o600))
	h.must(os.WriteFile(h.path("reply"), nil, 0o600))
	cmd := exec.Command(program)
	cmd.Env = []string{envProtocol + "=" + requestProtocol, envRequest + "=" + h.path("request"), envReply + "=" + h.path("reply"), envConfig + "=" + h.path("logforward")}
	h.must(cmd.Start())
	kill := time.AfterFunc(3*limit, func() { _ = cmd.Process.Kill() }) // so that the test ends
	watch := awake.Begin(t)
	err := cmd.Wait()
	kill.Stop()
	if took := watch.Took(); err != nil || took > limit {
		t.Fatalf("ended after %s, want at most %s: %v", took, limit, err)
	}
	b, err := os.ReadFile(h.path("reply"))
	h.must(err)
	var r reply
	h.must(json.Unmarshal(b, &r))
	h.says(r, codeOther, "", "no answer within", "hangs")
}

// Where the reply itself can't be written, the agent says so and ends: Choria Server makes that an aborted request.
func TestReplyOnAFullDisk(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	b, err := json.Marshal(h.envelope("status", nil))
	h.must(err)
	h.must(os.WriteFile(h.path("request"), b, 0o600))
	cmd := exec.Command(program)
	cmd.Env = []string{envProtocol + "=" + requestProtocol, envRequest + "=" + h.path("request"), envReply + "=/dev/full", envConfig + "=" + h.path("logforward")}
	out, err := cmd.CombinedOutput()
	if exit := cmd.ProcessState; err == nil || exit.ExitCode() != 1 || !strings.Contains(string(out), "no space left") {
		t.Errorf("%v: %s", err, out)
	}
}

// A daemon that runs is no reason to wait: each action is answered within a second. The machine may be busy with something else, so one of ten
// attempts is enough. A plan looks for a second at how files grow, and what is staged is no daemon's.
func TestARunningDaemonAnswersWithinASecond(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.must(os.WriteFile(h.path("log/app.log"), []byte("a line\n"), 0o644))
	h.start()
	all := h.everything()
	for _, action := range []string{"plan", "apply", "rollback"} {
		delete(all, action)
	}
	for _, action := range append([]string{"start"}, slices.Sorted(maps.Keys(all))...) {
		var fastest time.Duration
		for n := 0; n < 10 && (n == 0 || fastest > time.Second); n++ {
			_, took, err := h.call(action, all[action], 0)
			h.must(err)
			if n == 0 || took < fastest {
				fastest = took
			}
		}
		if fastest > time.Second {
			t.Errorf("%s: answered after %s at best", action, fastest)
		}
	}
}

// A storm of agents over the same logs: each one is answered, nothing is left half done, and what is said last holds.
func TestAStormOfAgents(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	for i := range 3 {
		h.must(os.WriteFile(h.path(fmt.Sprintf("log/%d.log", i)), []byte("a line\n"), 0o644))
	}
	h.start()
	var all sync.WaitGroup
	for n := range 90 {
		log := fmt.Sprint(n % 3)
		action, data := "start", inputs{"log": log, "path": h.path("log/" + log + ".log"), "destination": "central", "from": "beginning"}
		switch n / 3 % 5 {
		case 1:
			action, data = "stop", inputs{"log": log}
		case 2:
			action, data = "pause", inputs{"log": log}
		case 3:
			action, data = "redirect", inputs{"log": log, "destination": "audit"}
		case 4:
			action, data = "status", nil
		}
		all.Go(func() {
			r, _, err := h.call(action, data, 0)
			if err != nil {
				t.Errorf("%s %s: %v", action, log, err)
			} else if r.Code != codeOK && r.Code != codeAborted { // another stopped it: the log isn't known
				t.Errorf("%s %s: %+v", action, log, r)
			}
		})
	}
	all.Wait()
	for _, log := range []string{"0", "1", "2"} {
		h.ask("stop", inputs{"log": log}) // it may be stopped
	}
	h.says(h.ask("list", nil), codeOK, "none")
	h.says(h.ask("status", nil), codeOK, "idle")
	for _, log := range []string{"0", "1", "2"} {
		h.says(h.ask("start", inputs{"log": log, "path": h.path("log/" + log + ".log"), "destination": "central"}), codeOK, "starting")
	}
	if r := h.ask("status", nil); r.Data["files"] != 3.0 {
		t.Errorf("after the storm: %+v", r)
	}
}
