package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"logforward/internal/control"
	"logforward/internal/freeport"
)

// The test binary is the program itself where this is set, so that what is tested is what main does, signals
// and exit codes included, and under the race detector too.
const beProgram = "LOGFORWARD_TEST_BE_PROGRAM"

// raceExit is what the race detector is told: a program that ends would else wait a second for races of what still runs, where the real one is gone. See
// https://go.dev/doc/articles/race_detector#Options.
var raceExit = strings.TrimSpace("GORACE=atexit_sleep_ms=10 " + os.Getenv("GORACE"))

func TestMain(m *testing.M) {
	switch os.Getenv(beProgram) {
	case "1":
		main()
		return
	case "hang":
		hang()
	}
	os.Exit(m.Run())
}

// hang is a program that never ends in order.
func hang() {
	ctx, _ := signals(context.Background(), os.Stderr)
	fmt.Println("waiting")
	<-ctx.Done()
	fmt.Println("hanging")
	select {}
}

// output is written by a process and read by the test.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// process is one running logforward.
type process struct {
	t        *testing.T
	cmd      *exec.Cmd
	out, err output
	done     chan struct{}
	code     int
}

func start(t *testing.T, args ...string) *process {
	t.Helper()
	return startAs(t, "1", args)
}

// startAs starts the test binary as one of its parts, with more variables in its environment.
func startAs(t *testing.T, as string, args []string, env ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(os.Args[0], args...), done: make(chan struct{})}
	p.cmd.Env = append(env, beProgram+"="+as, raceExit, "PATH="+os.Getenv("PATH"), "HOME="+t.TempDir())
	p.cmd.Dir = t.TempDir()
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.err
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		err := p.cmd.Wait()
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			p.code = exit.ExitCode()
		} else if err != nil {
			p.code = -1
		}
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		if t.Failed() {
			t.Logf("logforward %s\nout: %s\nerr: %s", strings.Join(args, " "), p.out.String(), p.err.String())
		}
	})
	return p
}

// ended waits for the process's own end.
func (p *process) ended(within time.Duration) int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(within):
		p.t.Fatalf("%v doesn't end within %s", p.cmd.Args[1:], within)
	}
	return p.code
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// says waits until the process has written this.
func (p *process) says(text string) {
	p.t.Helper()
	eventually(p.t, "logforward says "+text, func() bool {
		select {
		case <-p.done:
			p.t.Fatalf("%v ended with %d instead of saying %q", p.cmd.Args[1:], p.code, text)
		default:
		}
		return strings.Contains(p.out.String()+p.err.String(), text)
	})
}

// once runs a command to its end.
func once(t *testing.T, args ...string) (code int, out, errText string) {
	t.Helper()
	p := start(t, args...)
	code = p.ended(2 * time.Minute)
	return code, p.out.String(), p.err.String()
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// site is a broker, a receiver and a node, each a process of its own.
type site struct {
	t                              *testing.T
	dir, url, config, logs, output string
	broker, receiver, node         *process
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func newSite(t *testing.T) *site {
	t.Helper()
	dir, err := os.MkdirTemp("", "lf") // a unix socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &site{t: t, dir: dir, logs: dir + "/log", output: dir + "/central", config: dir + "/logforward.cfg"}
	if err := os.Mkdir(s.logs, 0o755); err != nil {
		t.Fatal(err)
	}
	s.url = "nats://127.0.0.1:" + freePort(t)
	write(t, s.config, strings.NewReplacer("DIR", dir, "URL", s.url).Replace(`
identity = n1.example.net
state = DIR/forward
audit_log = DIR/audit.log
policy = peers
wishes = DIR/wishes
socket = DIR/forward.sock
forwarders = DIR/forwarders.d
allowed_paths = DIR/log/**
destination.central.url = URL
`))
	if err := os.Mkdir(dir+"/forwarders.d", 0o755); err != nil {
		t.Fatal(err)
	}
	return s
}

func freePort(t *testing.T) string {
	t.Helper()
	port, err := freeport.Port()
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(port)
}

func (s *site) startBroker() {
	s.t.Helper()
	s.broker = start(s.t, "broker", "--listen", strings.TrimPrefix(s.url, "nats://"), "--store", s.dir+"/broker")
	s.broker.says("broker at")
}

func (s *site) startAll() {
	s.t.Helper()
	s.startBroker()
	if code, out, errText := once(s.t, "setup", "--url", s.url, "--partitions", "2"); code != 0 {
		s.t.Fatalf("setup: %d %s %s", code, out, errText)
	}
	s.receiver = start(s.t, "receive", "--url", s.url, "--output", s.output, "--state", s.dir+"/receive", "--receiver", "r1", "--rotate-every", "0") // at midnight a log would be in two files
	s.startNode()
}

func (s *site) startNode() {
	s.t.Helper()
	s.node = start(s.t, "forward", "--config", s.config)
	eventually(s.t, "the node answers", func() bool {
		_, err := control.NewClient(s.dir + "/forward.sock").Check(s.t.Context())
		return err == nil
	})
}

func (s *site) define(log, text string) {
	s.t.Helper()
	write(s.t, s.dir+"/forwarders.d/"+log+".yaml", strings.ReplaceAll(text, "LOGS", s.logs))
}

func (s *site) append(file, text string) {
	s.t.Helper()
	if err := os.MkdirAll(filepath.Dir(filepath.Join(s.logs, file)), 0o755); err != nil {
		s.t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(s.logs, file), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		s.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		s.t.Fatal(err)
	}
}

// arrives waits until the centre has exactly these bytes.
func (s *site) arrives(log, text string) {
	s.t.Helper()
	path := filepath.Join(s.output, "n1.example.net", log+".log")
	eventually(s.t, log+" has arrived", func() bool {
		b, err := os.ReadFile(path)
		return err == nil && string(b) == text
	})
}

// ask runs a command against the node and reads its JSON.
func (s *site) ask(into any, args ...string) {
	s.t.Helper()
	code, out, errText := once(s.t, append(args, "--json", "--config", s.config)...)
	if code != 0 {
		s.t.Fatalf("%v: %d %s", args, code, errText)
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		s.t.Fatalf("%v: %v in %q", args, err, out)
	}
}

func term() os.Signal { return syscall.SIGTERM }
