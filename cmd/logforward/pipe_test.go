package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"logforward/internal/control"
	"logforward/internal/tap"
)

func TestFileArrivesAndIsControlled(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.append("app.log", "one\n")
	s.define("app", "log: app\npath: LOGS/app.log\nstart: beginning\n")
	s.startAll()
	s.arrives("app", "one\n")
	s.append("app.log", "two\n")
	s.arrives("app", "one\ntwo\n")

	var status control.StatusReply
	eventually(t, "status says that all is confirmed", func() bool {
		s.ask(&status, "status")
		return len(status.Logs) == 1 && status.Logs[0].Confirmed == 8 && status.Logs[0].LagBytes == 0
	})
	if l := status.Logs[0]; l.Destination != "central" || filepath.Base(l.Managed) != "app.yaml" || status.Identity != "n1.example.net" {
		t.Errorf("%+v", status)
	}
	if code, out, _ := once(t, "check", "--config", s.config); code != 0 || !strings.Contains(out, "logforward ok") {
		t.Errorf("check: %d %s", code, out)
	}

	// Live reload of a definition, and an operator's start of a glob.
	s.append("web/a.log", "")
	var reply control.Reply
	s.append("late.log", "late\n")
	s.define("late", "log: late\npath: LOGS/late.log\nstart: beginning\n")
	s.arrives("late", "late\n")
	s.ask(&reply, "start", "web", s.logs+"/web/*.log", "--for", "1h", "--reason", "a test")
	if !reply.Changed || len(reply.Logs) != 1 || reply.Until.IsZero() {
		t.Errorf("start: %+v", reply)
	}
	s.append("web/b.log", "b\n")
	s.arrives("web.b.log", "b\n")

	// Pause, write, restart: nothing comes; resume: it comes.
	s.ask(&reply, "pause", "app", "--reason", "storm")
	s.append("app.log", "three\n")
	s.node.signal(term())
	if code := s.node.ended(time.Minute); code != 0 {
		t.Fatalf("SIGTERM: exit %d", code)
	}
	s.startNode()
	s.ask(&status, "status", "app")
	if l := status.Logs[0]; l.State != "paused" || l.Override == nil || l.Override.Reason != "storm" {
		t.Errorf("after a restart: %+v", l)
	}
	eventually(t, "check warns of the pause alone", func() bool { // the node connects behind its first answer
		code, out, _ := once(t, "check", "--config", s.config)
		return code == 1 && strings.Contains(out, "paused by local=root")
	})
	s.arrives("app", "one\ntwo\n")
	s.ask(&reply, "resume", "app")
	s.arrives("app", "one\ntwo\nthree\n")

	// Stop with drain, and the log's ledger and bytes.
	s.append("app.log", "four\n")
	s.ask(&reply, "stop", "app", "--drain")
	s.arrives("app", "one\ntwo\nthree\nfour\n")
	eventually(t, "the drained log is stopped", func() bool {
		s.ask(&status, "status", "app")
		return status.Logs[0].State == "stopped"
	})
	if code, out, errText := once(t, "cat", "n1.example.net/app", "--output", s.output); code != 0 || out != "one\ntwo\nthree\nfour\n" {
		t.Errorf("cat: %d %q %s", code, out, errText)
	}
	if code, out, errText := once(t, "ledger", "n1.example.net/app", "--output", s.output); code != 0 || !strings.Contains(out, "app.log") {
		t.Errorf("ledger: %d %q %s", code, out, errText)
	}
	var list control.ListReply
	s.ask(&list, "list")
	if len(list.Forwarders) != 3 {
		t.Errorf("list: %+v", list)
	}
	if code, out, errText := once(t, "validate", "--config", s.config); code != 0 || !strings.Contains(out, "receiver r1 answers") {
		t.Errorf("validate: %d %s %s", code, out, errText)
	}
	for _, p := range []*process{s.node, s.receiver, s.broker} {
		p.signal(term())
		if code := p.ended(time.Minute); code != 0 {
			t.Errorf("%v: SIGTERM: exit %d", p.cmd.Args[1], code)
		}
	}
	if _, err := os.Lstat(s.dir + "/forward.sock"); err == nil {
		t.Error("the socket is left behind")
	}
}

func TestHangupReadsDefinitionsAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.startNode() // without a broker: the node must come up all the same
	s.define("bad", "log: bad\nurl: x\n")
	s.node.signal(syscall.SIGHUP)
	eventually(t, "the fault is told", func() bool {
		_, out, _ := once(t, "status", "--config", s.config)
		return strings.Contains(out, "bad.yaml:2") && strings.Contains(out, "unknown field")
	})
	if code, out, _ := once(t, "check", "--config", s.config); code == 0 {
		t.Errorf("check: %d %s", code, out)
	}
	s.node.signal(term())
	if code := s.node.ended(time.Minute); code != 0 {
		t.Errorf("exit %d", code)
	}
}

func TestKilledNodeStartsAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.append("app.log", strings.Repeat("line\n", 1000))
	s.define("app", "log: app\npath: LOGS/app.log\nstart: beginning\n")
	s.startAll()
	s.arrives("app", strings.Repeat("line\n", 1000))
	s.node.signal(syscall.SIGKILL)
	s.node.ended(time.Minute)
	s.append("app.log", "more\n")
	s.startNode() // over the socket that the killed one left
	s.arrives("app", strings.Repeat("line\n", 1000)+"more\n")
}

func TestRunComparesBothSides(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.append("app.log", strings.Repeat("a line\n", 5000))
	s.append("web/app.log", "another\n")
	code, out, errText := once(t, "run", s.logs+"/app.log", s.logs+"/web/*.log", "--output", s.output, "--seconds", "8")
	if code != 0 {
		t.Fatalf("%d %s %s", code, out, errText)
	}
	if strings.Count(out, "identical") != 2 || !strings.Contains(out, "app-2") || !strings.Contains(out, "35000") {
		t.Errorf("%s", out)
	}
	// The next run continues where this one ended.
	s.append("app.log", "more\n")
	code, out, errText = once(t, "run", s.logs+"/app.log", "--output", s.output, "--seconds", "8", "--json")
	if code != 0 || strings.Count(out, `"identical"`) != 1 || !strings.Contains(out, `"confirmed": 35005`) {
		t.Errorf("%d %s %s", code, out, errText)
	}
}

func TestVerifyTellsDamageAndWhere(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.define("app", "log: app\npath: LOGS/app.log\ndestination: central\nstart: beginning\n")
	s.append("app.log", strings.Repeat("a line\n", 5000))
	s.startAll()
	s.arrives("app", strings.Repeat("a line\n", 5000))
	verify := func(args ...string) (int, string, string) {
		return once(t, append([]string{"verify", "--output", s.output}, args...)...)
	}
	eventually(t, "the record proves it", func() bool {
		code, out, _ := verify("--record", "--url", s.url)
		return code == 0 && strings.Contains(out, "n1.example.net/app  intact   34 KiB") && !strings.Contains(out, "asks the broker")
	})
	if code, out, errText := verify("n1*/a?p"); code != 0 || !strings.Contains(out, "unproved") || !strings.Contains(out, "no digest behind it yet") || !strings.Contains(out, "--record asks the broker") {
		t.Errorf("without the record: %d %s %s", code, out, errText)
	}
	path := filepath.Join(s.output, "n1.example.net", "app.log")
	b, err := os.ReadFile(path)
	if err == nil {
		b[100] ^= 4
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	code, out, errText := verify("--record", "--url", s.url)
	if code != exitFailure || !strings.Contains(errText, "1 of 1 logs are damaged") || !strings.Contains(out, path) || !strings.Contains(out, "other bytes") {
		t.Errorf("%d %s %s", code, out, errText)
	}
	if code, out, _ := verify("--record", "--url", s.url, "--json"); code != exitFailure || !strings.Contains(out, `"damaged": 35000`) {
		t.Errorf("%d %s", code, out)
	}
	// A log that can't be read doesn't hide the verdicts about the others.
	write(t, filepath.Join(s.output, "a1", "other@ledger.jsonl"), "garbage\n")
	if code, out, errText := verify(); code != exitFailure || !strings.Contains(out, "n1.example.net/app  unproved") || !strings.Contains(out, "a1/other") ||
		!strings.Contains(errText, "1 of 2 logs couldn't be read") {
		t.Errorf("%d %s %s", code, out, errText)
	}
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	if code, out, errText := once(t, "cat", "n1.example.net/app", "--output", s.output); code != exitOK || out != "" || !strings.Contains(errText, "isn't there") || strings.Contains(errText, "has deleted") {
		t.Errorf("cat without the file: %d %q %s", code, out, errText)
	}
	for _, args := range [][]string{{"nobody/app"}, {"app"}, {"[/app"}, {"--output", s.dir + "/nowhere"}} {
		if code, out, errText := verify(args...); code == 0 || out != "" || errText == "" {
			t.Errorf("%v: %d %s %s", args, code, out, errText)
		}
	}
}

// A log whose last ledger went with its directory is known by the record alone; it mustn't be passed over.
func TestVerifyNamesLogsWithoutLedger(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, log := range []string{"app", "web"} {
		s.define(log, "log: "+log+"\npath: LOGS/"+log+".log\nstart: beginning\n")
		s.append(log+".log", strings.Repeat("a line\n", 5000))
	}
	s.startAll()
	for _, log := range []string{"app", "web"} {
		s.arrives(log, strings.Repeat("a line\n", 5000))
	}
	verify := func(args ...string) (int, string, string) {
		return once(t, append([]string{"verify", "--record", "--url", s.url, "--output", s.output}, args...)...)
	}
	eventually(t, "the record proves both", func() bool {
		code, out, _ := verify()
		return code == 0 && strings.Count(out, "intact   34 KiB") == 2
	})
	lose := func(log string) {
		t.Helper()
		files, err := filepath.Glob(filepath.Join(s.output, "n1.example.net", log+"*"))
		if err != nil || len(files) < 2 {
			t.Fatal(files, err)
		}
		for _, file := range files {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.receiver.signal(syscall.SIGTERM) // else it notices what is gone, and begins other ledgers
	if code := s.receiver.ended(time.Minute); code != exitOK {
		t.Fatalf("the receiver ended with %d", code)
	}
	lose("web")
	for _, args := range [][]string{nil, {"*/*"}} {
		code, out, errText := verify(args...)
		if code != exitFailure || !strings.Contains(out, "n1.example.net/app  intact   34 KiB") || !strings.Contains(out, "n1.example.net/web  damaged  0 B     0 B       34 KiB") ||
			!strings.Contains(out, "no ledger below these directories") || !strings.Contains(errText, "1 of 2 logs are damaged") {
			t.Errorf("%v: %d %s %s", args, code, out, errText)
		}
	}
	if code, out, _ := verify("*/app"); code != exitOK || strings.Contains(out, "web") {
		t.Errorf("%d %s", code, out)
	}
	if code, _, errText := verify("n1.example.net/web"); code != exitFailure || !strings.Contains(errText, "there is no ledger of n1.example.net/web") {
		t.Errorf("%d %s", code, errText)
	}
	// A record that can't be read is named, and the others are verified.
	nc, err := nats.Connect(s.url)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := nc.Request("$KV.LOGFORWARD_POSITIONS.n1=2Eexample=2Enet.app", []byte("{"), 10*time.Second); err != nil {
		t.Fatal(err)
	}
	if code, out, errText := verify(); code != exitFailure || !strings.Contains(out, "n1.example.net/app  unread   0 B     34 KiB") || !strings.Contains(out, "n1.example.net/web  damaged") ||
		!strings.Contains(out, "broken record") || !strings.Contains(errText, "1 of 2 logs are damaged, and 1 couldn't be read") {
		t.Errorf("a broken record: %d %s %s", code, out, errText)
	}
	// Where nothing is left, or the directory is another, that is no success.
	lose("app")
	if code, out, errText := verify(); code != exitFailure || !strings.Contains(out, "n1.example.net/web  damaged") || !strings.Contains(out, "n1.example.net/app  unread") || !strings.Contains(errText, "none of 2 logs has a ledger") {
		t.Errorf("%d %s %s", code, out, errText)
	}
}

func TestRunEndsWithSignalAndAnswersOnItsSocket(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.append("app.log", "line\n")
	p := start(t, "run", s.logs+"/app.log", "--output", s.output)
	p.says("app ")
	code, out, errText := once(t, "status", "--socket", s.output+"/.logforward/forward.sock")
	if code != 0 || !strings.Contains(out, "app") {
		t.Errorf("status: %d %s %s", code, out, errText)
	}
	if code, _, errText := once(t, "run", s.logs+"/app.log", "--output", s.output); code != exitFailure || !strings.Contains(errText, "another broker uses it") || !strings.Contains(errText, "of run: output") {
		t.Errorf("a second run on the same output: %d %s", code, errText)
	}
	eventually(t, "it has arrived", func() bool { return strings.Contains(p.out.String(), "5 B received") })
	p.signal(os.Interrupt)
	if code := p.ended(time.Minute); code != 0 || !strings.Contains(p.out.String(), "identical") {
		t.Errorf("exit %d", code)
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	p := startAs(t, "hang", nil)
	p.says("waiting")
	p.signal(term())
	p.says("hanging")
	p.signal(os.Interrupt)
	if code := p.ended(time.Minute); code != exitInterrupted || !strings.Contains(p.err.String(), "second interrupt") {
		t.Errorf("exit %d: %s", code, p.err.String())
	}
}

func TestBuiltWithoutTestsItIsTheSame(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds the binary")
	}
	bin := filepath.Join(t.TempDir(), "logforward")
	if out, err := exec.Command("go", "build", "-ldflags", "-X main.release=9.8.7", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	out, err := exec.Command(bin, "version").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "logforward 9.8.7 go") {
		t.Errorf("%v %s", err, out)
	}
}

func TestTapFollowsALogLive(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.append("app.log", "before\n")
	s.define("app", "log: app\npath: LOGS/app.log\nstart: beginning\n")
	s.startAll()
	s.arrives("app", "before\n")
	one := start(t, "tap", "n1.example.net/app", "--url", s.url)
	all := start(t, "tap", "*/*", "--url", s.url)
	lines := start(t, "tap", "*/app", "--url", s.url, "--json")
	eventually(t, "the taps to listen", func() bool {
		// Lines that come before they do aren't theirs.
		s.append("app.log", "line\n")
		return one.out.String() != "" && all.out.String() != "" && lines.out.String() != ""
	})
	s.append("app.log", "last\n")
	one.says("last\n")
	all.says("n1.example.net/app: last\n")
	eventually(t, "JSON that holds the same bytes", func() bool {
		var data []byte
		for d := json.NewDecoder(strings.NewReader(lines.out.String())); ; {
			var e tap.Event
			if d.Decode(&e) != nil {
				return strings.HasSuffix(string(data), "line\nlast\n")
			}
			data = append(data, e.Data...)
		}
	})
	for _, p := range []*process{one, all, lines} {
		p.signal(os.Interrupt)
		if code := p.ended(time.Minute); code != exitOK || strings.Contains(p.out.String(), "before") || p.err.String() != "" {
			t.Errorf("exit %d: %s%s", code, p.out.String(), p.err.String())
		}
	}
	if code, _, errText := once(t, "tap", "app", "--url", s.url); code != exitUsage || !strings.Contains(errText, "IDENTITY/LOG") {
		t.Errorf("exit %d: %s", code, errText)
	}
	if code, out, errText := once(t, "tap", "n1.example.net/none", "--url", s.url, "--for", "1ms"); code != exitOK || out != "" {
		t.Errorf("exit %d: %s%s", code, out, errText)
	}
}

// What a log holds can't play with the terminal of whoever taps it.
func TestTapIsHarmlessOnATerminal(t *testing.T) {
	t.Parallel()
	text := "a\tb\x1b[2J\x07\u009b\xff ü\u202e\n"
	if got := (&tapped{terminal: true}).safe([]byte(text)); string(got) != "a\tb?[2J??? ü?\n" {
		t.Errorf("%q", got)
	}
	if got := (&tapped{}).safe([]byte(text)); string(got) != text {
		t.Errorf("%q", got)
	}
}
