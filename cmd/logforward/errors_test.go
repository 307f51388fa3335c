package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"logforward/internal/broker"
	"logforward/internal/control"
	"logforward/internal/receive"
)

// Every error says what, where and what to do, and has its exit code.
func TestErrors(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	other := s.dir + "/other.cfg"
	for _, c := range []struct {
		name   string
		config string
		args   []string
		code   int
		says   []string
	}{
		{"no command", "", nil, exitOK, []string{"--help", "Exit codes"}},
		{"unknown command", "", []string{"explode"}, exitUsage, []string{"explode"}},
		{"unknown flag", "", []string{"status", "--colour"}, exitUsage, []string{"colour"}},
		{"missing argument", "", []string{"stop"}, exitUsage, []string{"log"}},
		{"bad duration", "", []string{"stop", "a", "--for", "soon"}, exitUsage, []string{"--for", "90m"}},
		{"bad rate", "", []string{"start", "a", "/var/log/a", "--rate", "fast"}, exitUsage, []string{"--rate", "5MiB/s"}},
		{"pause of nothing", "", []string{"pause"}, exitUsage, []string{"either"}},
		{"bad setting", "window = wide\n", []string{"forward"}, exitConfig, []string{"window", "wide", other + ":1"}},
		{"unknown setting", "# comment\nalowed_paths = /var/log/**\n", []string{"forward"}, exitConfig, []string{"alowed_paths", "allowed_paths", other + ":2"}},
		{"line without an end", "rate = " + strings.Repeat("1", 70<<10), []string{"forward"}, exitConfig, []string{other + ":1", "65536 bytes"}},
		{"unreadable file", "", []string{"forward", "--config", s.dir}, exitConfig, []string{s.dir}},
		{"missing file", "", []string{"forward", "--config", s.dir + "/none.cfg"}, exitConfig, []string{"none.cfg"}},
		{"socket missing", "socket = " + s.dir + "/none.sock\n", []string{"status"}, exitUnreachable, []string{"isn't running", "none.sock", "systemctl start"}},
		{"a reason that begins with @", "socket = " + s.dir + "/none.sock\n", []string{"pause", "--all", "--reason", "@alice asked"}, exitUnreachable, []string{"isn't running"}},
		{"a name that begins with @", "", []string{"cat", "@" + other, "--output", s.dir}, exitUsage, []string{"IDENTITY/LOG"}},
		{"start without daemon", "socket = " + s.dir + "/none.sock\n", []string{"start", "a", "/var/log/a"}, exitUnreachable, []string{"isn't running"}},
		{"check without daemon", "socket = " + s.dir + "/none.sock\nensure = " + s.dir + "/ensure\n", []string{"check"}, 2, []string{"critical", "isn't running"}},
		{"unreachable broker", "", []string{"setup", "--url", "nats://127.0.0.1:" + freePort(t)}, exitUnreachable, []string{"127.0.0.1", "reach"}},
		{"stream smaller than a chunk", "", []string{"setup", "--url", "nats://127.0.0.1:1", "--max-bytes", "1MiB"}, exitConfig, []string{"max_bytes", "flag --max-bytes", "at least"}},
		{"run without such a file", "", []string{"run", s.dir + "/none.log"}, exitFailure, []string{"none.log", "no such file"}},
		{"run of a directory", "", []string{"run", s.dir}, exitUsage, []string{"directory", "*.log"}},
		{"cat of nothing", "", []string{"cat", "n1/none", "--output", s.dir}, exitFailure, []string{"no ledger", "n1/none", "--output"}},
		{"cat of no log", "", []string{"cat", "n1"}, exitUsage, []string{"IDENTITY/LOG"}},
		{"ledger that isn't there", "", []string{"ledger", s.dir + "/none.jsonl"}, exitUsage, []string{"none.jsonl: no such file"}},
		{"what a setting means though others are wrong", "# comment\nalowed_paths = /var/log/**\n", []string{"config", "^rate$"}, exitConfig, []string{"5MiB/s", other + ":2"}},
		{"escapes in a name", "", []string{"cat", "n1\x1b[31m/none", "--output", s.dir}, exitFailure, []string{"n1?[31m/none"}},
		{"escapes in a flag", "", []string{"status", "--n\x1b[31m"}, exitUsage, []string{"--n?[31m"}},
		{"ledger of nothing", "", []string{"ledger", "n1/none", "--output", s.dir}, exitFailure, []string{"no ledger"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := c.args
			if c.config != "" {
				write(t, other, c.config)
				args = append(args, "--config", other)
			}
			code, out, errText := once(t, args...)
			if code != c.code {
				t.Errorf("exit %d; want %d", code, c.code)
			}
			for _, want := range c.says {
				if !strings.Contains(out+errText, want) {
					t.Errorf("%q doesn't say %q", out+errText, want)
				}
			}
			if strings.Contains(errText, "panic") || strings.Contains(errText, "goroutine ") {
				t.Errorf("a panic: %s", errText)
			}
		})
	}
}

// Commands that ask the daemon share their settings, and each one's help has only what it uses.
func TestHelpHasTheCommandsOwnFlags(t *testing.T) {
	t.Parallel()
	for command, own := range map[string]string{"start": "", "stop": "", "pause": "", "resume": "", "redirect": "", "status": "", "list": "", "check": "ensure textfiles", "ensure": "ensure"} {
		p := start(t, command, "--help")
		if code := p.ended(time.Minute); code != exitOK || !strings.Contains(p.out.String(), "--socket") {
			t.Errorf("%s: %d %s", command, code, p.out.String())
		}
		for _, flag := range []string{"wishes", "ensure", "textfiles"} {
			if has := strings.Contains(p.out.String(), "--"+flag+"="); has != slices.Contains(strings.Fields(own), flag) {
				t.Errorf("%s --help has --%s: %v", command, flag, has)
			}
		}
	}
	// Scripts that give them all the same aren't broken.
	if code, _, errText := once(t, "status", "--wishes", "/x", "--ensure", "/x", "--textfiles", "/x", "--socket", "/nowhere.sock"); code != exitUnreachable {
		t.Errorf("%d %s", code, errText)
	}
}

// Who reads documents gets one of a wrong command line, too.
func TestWrongUsageAsJSON(t *testing.T) {
	t.Parallel()
	code, out, errText := once(t, "status", "--json", "--nope")
	var e control.Error
	if err := json.Unmarshal([]byte(out), &e); err != nil || code != exitUsage || e.Code != control.CodeInvalid || !strings.Contains(e.Message, "--nope") || !strings.Contains(errText, "--nope") {
		t.Errorf("%d %v %q %q", code, err, out, errText)
	}
}

// Help that can't be written is no crash.
func TestHelpIntoAFullDisk(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	if _, err := (sturdy{full}).Write([]byte("help")); err != nil {
		t.Error(err)
	}
	p := start(t, "status", "--help")
	if code := p.ended(time.Minute); code != exitOK || !strings.Contains(p.out.String(), "--history") {
		t.Errorf("%d %s", code, p.out.String())
	}
}

// A result that can't be written is no success, whichever command printed it.
func TestResultIntoAFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	var errText strings.Builder
	if code := execute([]string{"config", "rotate"}, full, &errText); code != exitFailure || !strings.Contains(errText.String(), "write the result") {
		t.Errorf("%d %s", code, errText.String())
	}
}

// Who looks at status learns where it is told what a gap lost.
func TestStatusTellsWhereGapsAreTold(t *testing.T) {
	var b strings.Builder
	p := &program{out: &b}
	s := control.StatusReply{Identity: "web1", Logs: []control.LogStatus{{Log: "app", Gaps: 2}, {Log: "whole"}}, Problems: []control.Problem{{Where: "/a.yaml", Problem: "/a.yaml:1: bad"}}}
	if err := p.showStatus(s); err != nil || !strings.Contains(b.String(), "app: 2 gaps since the daemon started") || !strings.Contains(b.String(), "logforward ledger web1/app\n") || strings.Contains(b.String(), "whole: ") || !strings.Contains(b.String(), "problem: /a.yaml:1: bad\n") {
		t.Error(err, b.String())
	}
}

// A receiver that is forgotten while it is waited for is no crash.
func TestDrainOfAReceiverThatIsForgotten(t *testing.T) {
	var b strings.Builder
	p := &program{out: &b}
	if err := p.drained("r2", nil, "has no partition any more"); err != nil || b.String() != "r2 has no partition any more\n" {
		t.Error(err, b.String())
	}
}

func TestRefusalTellsHowToLearnWhy(t *testing.T) {
	err := explained(control.Errorf(control.CodeRefused, "pause is not permitted for local=root: the policy doesn't let local=root pause this"))
	if exitCode(err) != exitRefused || !strings.Contains(err.Error(), "logforward policy explain --caller local=root --action pause") {
		t.Error(err)
	}
	for _, other := range []error{control.Errorf(control.CodeRefused, "no"), control.Errorf(control.CodeInvalid, "x is not permitted for y: the policy z")} {
		if got := explained(other); got != other {
			t.Error(got)
		}
	}
}

// Whatever is refused by policy, the command says it with the hint.
func TestEveryRefusedChangeTellsHowToLearnWhy(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var verb atomic.Value
	daemon := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, `{"error": "%s is not permitted for local=eve: the policy doesn't let local=eve do this", "code": "refused"}`, verb.Load())
	})}
	go func() { _ = daemon.Serve(l) }() // ends with Close
	t.Cleanup(func() { _ = daemon.Close() })
	for _, args := range [][]string{{"start", "a", "/var/log/a"}, {"stop", "a"}, {"pause", "--all"}, {"resume", "a"}, {"redirect", "a", "central"}} {
		verb.Store(args[0])
		code, _, errText := once(t, append(args, "--socket", socket)...)
		if code != exitRefused || !strings.Contains(errText, "logforward policy explain --caller local=eve --action "+args[0]) {
			t.Errorf("%v: %d %s", args, code, errText)
		}
	}
}

// Cat fails where positions are missing, and not where retention deleted files, or nobody knows of any bytes.
func TestCatSaysWhatIsLeftOut(t *testing.T) {
	for _, c := range []struct {
		holes   []receive.Part
		expired int
		code    int
		says    string
	}{
		{nil, 0, exitOK, ""},
		{nil, 2, exitOK, "2 files are left out, which retention has deleted"},
		{[]receive.Part{{Verdict: receive.Damaged, Epoch: 7, From: 10, To: 20, Output: "/o", File: "a\x1b.log", Why: "gone"}}, 0, exitFailure, "positions 10 to 20 of epoch 7 are left out: /o/a?.log: gone"},
		{[]receive.Part{{Verdict: receive.Unproved, Epoch: 7, From: 10, To: 20, Why: "elsewhere"}}, 0, exitFailure, "elsewhere"},
		{[]receive.Part{{Verdict: receive.Unproved, Epoch: 7, From: 10, To: 10, File: "a.log", Why: "gone"}}, 0, exitOK, "what began at position 10"},
		{slices.Repeat([]receive.Part{{Verdict: receive.Damaged, To: 1, Why: "gone"}}, maxHoles+3), 0, exitFailure, "and 3 more"},
	} {
		var b strings.Builder
		p := &program{err: &b}
		if code := exitCode(p.leftOut("web1/app", c.holes, c.expired)); code != c.code || !strings.Contains(b.String(), c.says) {
			t.Errorf("%+v: %d %s", c.holes, code, b.String())
		}
	}
}

// A way to the broker that Ctrl-C ended says nothing of the broker.
func TestAnInterruptedConnectionIsNotABrokerThatIsAway(t *testing.T) {
	t.Parallel()
	away := fmt.Errorf("connect: %w", broker.ErrUnreachable)
	ctx, cancel := context.WithCancel(t.Context())
	if code := exitCode(cutShort(ctx, away)); code != exitUnreachable {
		t.Errorf("without a signal: %d", code)
	}
	cancel()
	var b strings.Builder
	if code := (&program{err: &b}).report(cutShort(ctx, away)); code != exitInterrupted || b.String() != "logforward: interrupted, and not done\n" {
		t.Errorf("%d %s", code, b.String())
	}
}

// What is interrupted isn't done: a verification that was cut short mustn't look like one that found nothing.
func TestInterruptionIsNoSuccess(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := (interruptible{ctx, io.Discard}).Write([]byte("x"))
	var b strings.Builder
	if code := (&program{err: &b}).report(fmt.Errorf("cat: %w", err)); code != exitInterrupted || !strings.Contains(b.String(), "interrupted") {
		t.Errorf("%d %s", code, b.String())
	}
	if code := (&program{err: &b, endless: true}).report(err); code != exitOK {
		t.Error(code)
	}
}

func TestPathThatIsNotPermittedIsRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.startNode()
	code, _, errText := once(t, "start", "shadow", "/etc/shadow", "--config", s.config)
	if code != exitRefused || !strings.Contains(errText, "/etc/shadow") || !strings.Contains(errText, "allowed_paths") {
		t.Errorf("%d %s", code, errText)
	}
	code, _, errText = once(t, "start", "app", s.logs+"/app.log", "--destination", "moon", "--config", s.config)
	if code != exitRefused || !strings.Contains(errText, "known: central") {
		t.Errorf("%d %s", code, errText)
	}
	code, _, errText = once(t, "stop", "none", "--config", s.config)
	if code != exitUsage || !strings.Contains(errText, "not known") {
		t.Errorf("%d %s", code, errText)
	}
}

func TestStateOfAnotherProcessIsLeftAlone(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.startNode()
	code, _, errText := once(t, "forward", "--config", s.config)
	if code != exitFailure || !strings.Contains(errText, s.dir+"/forward") || !strings.Contains(errText, "pid ") {
		t.Errorf("%d %s", code, errText)
	}
}

func TestSocketOfAnotherProcessIsLeftAlone(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.startNode()
	code, _, errText := once(t, "forward", "--config", s.config, "--state", s.dir+"/forward2")
	if code != exitFailure || !strings.Contains(errText, "forward.sock") || !strings.Contains(errText, "answers there") {
		t.Errorf("%d %s", code, errText)
	}
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.startBroker()
	listen := strings.TrimPrefix(s.url, "nats://")
	code, _, errText := once(t, "broker", "--listen", listen, "--store", s.dir+"/b2")
	if code != exitFailure || !strings.Contains(errText, listen) || !strings.Contains(errText, "in use") {
		t.Errorf("%d %s", code, errText)
	}
	code, _, errText = once(t, "broker", "--listen", "127.0.0.1:0", "--store", s.dir+"/broker")
	if code != exitFailure || !strings.Contains(errText, "another broker uses it") {
		t.Errorf("%d %s", code, errText)
	}
	code, _, errText = once(t, "forward", "--config", s.config, "--metrics-listen", listen)
	if code != exitFailure || !strings.Contains(errText, "metrics_listen") {
		t.Errorf("%d %s", code, errText)
	}
}

func TestCorruptStateIsSetAside(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	write(t, s.dir+"/forward/forward.db", strings.Repeat("this is no database\n", 2000))
	s.startNode()
	if !strings.Contains(s.node.err.String(), "corrupt") {
		t.Errorf("it isn't told: %s", s.node.err.String())
	}
	if found, _ := filepath.Glob(s.dir + "/forward/forward.db.corrupt-*"); len(found) != 1 {
		t.Errorf("set aside: %v", found)
	}
}

func TestMissingStreamsAreTold(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.startBroker()
	code, out, _ := once(t, "validate", "--config", s.config)
	if code != exitConfig || !strings.Contains(out, "run logforward setup") {
		t.Errorf("%d %s", code, out)
	}
	if code, _, errText := once(t, "setup", "--url", s.url, "--check"); code != exitFailure || strings.Contains(errText, "logforward: ") {
		t.Errorf("setup --check where there is nothing yet: %d %s", code, errText)
	}
	if code, out, _ = once(t, "setup", "--url", s.url, "--dry-run"); code != 0 || !strings.Contains(out, "nothing was done") {
		t.Errorf("%d %s", code, out)
	}
	if code, out, _ = once(t, "setup", "--url", s.url); code != 0 || !strings.Contains(out, "changes done") {
		t.Errorf("%d %s", code, out)
	}
	if code, out, _ = once(t, "setup", "--url", s.url); code != 0 || !strings.Contains(out, "as it should be") {
		t.Errorf("%d %s", code, out)
	}
	// No receiver is a warning: the node may be restarted.
	code, out, _ = once(t, "validate", "--config", s.config)
	if code != 0 || !strings.Contains(out, "no receiver listens") {
		t.Errorf("%d %s", code, out)
	}
}

func TestValidateFindsEveryFault(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.define("bad", "log: bad\nurl: x\n")
	s.define("outside", "log: outside\npath: /etc/passwd\n")
	s.define("moon", "log: moon\npath: LOGS/moon\ndestination: moon\n")
	s.define("good", "log: good\npath: LOGS/good\n")
	code, out, _ := once(t, "validate", "--config", s.config)
	if code != exitConfig {
		t.Errorf("exit %d", code)
	}
	for _, want := range []string{"bad.yaml:2", "/etc/passwd", "known: central", "ok       log good", "reach"} {
		if !strings.Contains(out, want) {
			t.Errorf("%s doesn't say %q", out, want)
		}
	}
}

func TestWrongCredentials(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	url := guarded(t)
	code, _, errText := once(t, "setup", "--url", url, "--user", "n1", "--password", "wrong")
	if code != exitRefused || !strings.Contains(errText, "credentials") || strings.Contains(errText, "wrong\"") {
		t.Errorf("%d %s", code, errText)
	}
	write(t, s.config+".2", strings.ReplaceAll(read(t, s.config), s.url, url)+"destination.central.user = n1\ndestination.central.password = wrong\n")
	code, out, _ := once(t, "validate", "--config", s.config+".2")
	if code != exitConfig || !strings.Contains(out, "credentials") {
		t.Errorf("%d %s", code, out)
	}
	// A node without the right to say hello.
	write(t, s.config+".3", strings.ReplaceAll(read(t, s.config), s.url, url)+"destination.central.user = mute\ndestination.central.password = right\n")
	code, out, _ = once(t, "validate", "--config", s.config+".3")
	if code != exitConfig || !strings.Contains(out, "permit to publish logs.sync.n1") {
		t.Errorf("%d %s", code, out)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestShutdownTimeIsBelowSystemds(t *testing.T) {
	if shutdownTime >= 90*time.Second {
		t.Error("systemd kills after 90 s")
	}
}

// guarded is a broker with two users whose password is "right"; mute may only ask JetStream.
func guarded(t *testing.T) (url string) {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
		Users: []*server.User{
			{Username: "n1", Password: "right"},
			{Username: "mute", Password: "right", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Allow: []string{"$JS.API.>"}}}},
		}})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the broker doesn't start")
	}
	return s.ClientURL()
}

// With --json standard output is one document, whatever went wrong.
func TestJSONIsOneDocument(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, args := range [][]string{
		{"validate", "--json", "--config", s.config},
		{"status", "--json", "--config", s.config},
		{"check", "--json", "--config", s.config},
		{"version", "--json"},
		{"config", "--json"},
		{"setup", "--json", "--url", s.url},
	} {
		_, out, errText := once(t, args...)
		if !json.Valid([]byte(out)) {
			t.Errorf("%v: %q %s", args, out, errText)
		}
	}
}

func TestLiveViewFitsItsWindow(t *testing.T) {
	var out strings.Builder
	s := &solo{program: &program{out: &out}, output: "/out"}
	var logs []control.LogStatus
	for range 100 {
		logs = append(logs, control.LogStatus{Log: strings.Repeat("long", 30), State: "idle", Error: "an error\x1b[2J"})
	}
	if n := s.draw(logs, 0, time.Second); n > 23 || n != strings.Count(out.String(), "\n") {
		t.Errorf("%d lines drawn, %d written", n, strings.Count(out.String(), "\n"))
	}
	for line := range strings.Lines(out.String()) {
		if len([]rune(line)) > 80 || strings.Contains(line, "\x1b") {
			t.Errorf("%q", line)
		}
	}
}
