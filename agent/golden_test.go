package agent

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

var update = flag.Bool("update", false, "write testdata anew")

// What changes from run to run, and what stands for it in testdata.
var volatile = []struct {
	is    *regexp.Regexp
	write string
}{
	{regexp.MustCompile(`20\d\d-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z`), "TIME"},
	{regexp.MustCompile(`"(lag_seconds|rate)": [0-9.e+-]+`), `"$1": 0`},
	{regexp.MustCompile(`"msgtime": \d+`), `"msgtime": 1`},
	{regexp.MustCompile(`"state": "(starting|blocked)"`), `"state": "blocked"`}, // there is no broker
	{regexp.MustCompile(`(starting|blocked) to central`), `blocked to central`},
	{regexp.MustCompile(`connect to nats[^"]*`), `NO BROKER`},
	{regexp.MustCompile(`(; )?(app: )?NO BROKER`), ``},
}

// TestProtocol compares requests as Choria Server writes them, and their replies, with what is in
// testdata: one pair of files for each action and for each kind of failure.
func TestProtocol(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	check := func(name, action string, data inputs) {
		t.Helper()
		e := h.envelope(action, data)
		request, err := json.MarshalIndent(e, "", "  ")
		h.must(err)
		h.send(request)
		raw, err := os.ReadFile(h.path("reply"))
		h.must(err)
		var reply bytes.Buffer
		h.must(json.Indent(&reply, raw, "", "  "))
		h.golden(name+".request.json", request)
		h.golden(name+".reply.json", reply.Bytes())
	}
	app := inputs{"log": "app", "path": h.path("log/app.log"), "destination": "central", "from": "beginning", "rate": "5MiB/s", "for": "1d", "reason": "case 7"}
	h.must(os.WriteFile(h.path("log/app.log"), []byte(strings.Repeat("a line\n", 100)), 0o644))
	h.must(os.WriteFile(h.path("wishes"), nil, 0o600)) // no directory
	check("wish-not-kept", "start", app)
	h.must(os.Remove(h.path("wishes")))
	check("not-running-status", "status", nil)
	check("not-running-list", "list", nil)
	check("not-running-check", "check", nil)
	check("not-running-stop", "stop", inputs{"log": "app"})
	h.must(os.RemoveAll(h.path("wishes")))
	h.start()
	check("start", "start", app)
	check("pause", "pause", inputs{"log": "app", "for": "90m", "reason": "calm"})
	check("pause-again", "pause", inputs{"log": "app", "for": "90m", "reason": "calm"})
	check("status", "status", nil)
	check("status-unknown", "status", inputs{"log": "nothing"})
	check("list", "list", nil)
	check("resume", "resume", inputs{"log": "app"})
	check("redirect", "redirect", inputs{"log": "app", "destination": "audit"})
	check("redirect-unknown", "redirect", inputs{"log": "app", "destination": "elsewhere"})
	check("stop", "stop", inputs{"log": "app"})
	check("unknown-action", "explode", nil)
	check("missing-input", "stop", nil)
	check("invalid-input", "stop", inputs{"log": "a/b"})
	check("not-permitted", "start", inputs{"log": "shadow", "path": "/etc/shadow", "destination": "central"})
	h.must(h.daemon.Process.Signal(syscall.SIGSTOP))
	check("hung", "status", nil)
	h.stop()
	check("apply-nothing", "apply", nil)
	h.stage("log: staged\npath: " + h.path("log/*.log") + "\ndestination: central\n")
	check("plan", "plan", nil)
	check("apply", "apply", nil)
	check("rollback", "rollback", nil)
}

func (h *host) golden(name string, got []byte) {
	h.Helper()
	got = append(bytes.TrimSpace(bytes.ReplaceAll(got, []byte(h.dir), []byte("DIR"))), '\n')
	for _, v := range volatile {
		got = v.is.ReplaceAll(got, []byte(v.write))
	}
	file := filepath.Join("testdata", name)
	if *update {
		h.must(os.MkdirAll("testdata", 0o755))
		h.must(os.WriteFile(file, got, 0o644))
	}
	want, err := os.ReadFile(file)
	h.must(err)
	if !bytes.Equal(got, want) {
		h.Errorf("%s:\n%s\nwant\n%s", name, got, want)
	}
}
