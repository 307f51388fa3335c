package pipe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"logforward/internal/control"
	"logforward/internal/receive"
	"logforward/test/proc"
)

// binary is the program under test.
var binary string

func TestMain(m *testing.M) { os.Exit(build(m)) }

func build(m *testing.M) int {
	if config := os.Getenv("LOGFORWARD_TEST_SERVER"); config != "" {
		return proc.Serve(config)
	}
	if os.Getenv("LOGFORWARD_TEST_NOBODY") != "" {
		return m.Run() // this program again, as another user, for a test that needs no binary
	}
	dir, err := os.MkdirTemp("", "logforward-pipe-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if binary, err = proc.Program(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

const identity = "web1.example.net"

// process is one run of the binary. Its output is kept for when a test fails.
type process struct {
	*proc.Process
	cmd *exec.Cmd
}

// fleet is a broker, a receiver and a forwarder on one directory.
type fleet struct {
	t       testing.TB
	dir     string
	brokers *link // between forwarder, receiver and broker: can be cut
	port    int   // of the broker itself

	brokerArgs []string // beside address and store

	mu        sync.Mutex
	processes map[string]*process
}

func newFleet(t testing.TB) *fleet {
	t.Helper()
	f := &fleet{t: t, dir: t.TempDir(), port: freePort(t), processes: map[string]*process{}}
	f.brokers = newLink(t, fmt.Sprintf("127.0.0.1:%d", f.port))
	for _, d := range []string{"logs", "forwarders"} {
		f.must(os.MkdirAll(f.path(d), 0o755))
	}
	url := "nats://" + f.brokers.address
	f.write("forward.cfg", fmt.Sprintf(`
identity = %s
state = %s
policy = peers
audit_log = %s
wishes = %s
socket = %s
forwarders = %s
destination.central.url = %s
allowed_paths = %s
sync_interval = 2s
poll = 100ms
quiet = 200ms
`, identity, f.path("node"), f.path("audit.log"), f.path("wishes"), f.socket(), f.path("forwarders"), url, f.path("logs/**")))
	f.write("receive.cfg", fmt.Sprintf(`
url = %s
output = %s
state = %s
receiver = r1
rotate_size = 1MiB
compress = zstd
commit_interval = 100ms
`, url, f.path("received"), f.path("centre")))
	t.Cleanup(func() {
		for name := range f.processes {
			f.kill(name, syscall.SIGKILL)
		}
		if t.Failed() {
			f.showLogs()
		}
	})
	return f
}

// socket is kept short: a unix socket's path has at most 107 bytes.
func (f *fleet) socket() string { return f.path("s") }

func (f *fleet) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fleet) path(name string) string { return filepath.Join(f.dir, name) }

func (f *fleet) write(name, text string) {
	f.t.Helper()
	f.must(os.WriteFile(f.path(name), []byte(text), 0o644))
}

// define adds a forwarder for a log file.
func (f *fleet) define(log string) {
	f.write("forwarders/"+log+".yaml", fmt.Sprintf("log: %s\npath: %s\ndestination: central\nstart: beginning\n", log, f.path("logs/"+log+".log")))
}

func (f *fleet) start(name string) {
	f.t.Helper()
	var args []string
	switch name {
	case "broker":
		args = []string{"broker", "--listen", fmt.Sprintf("127.0.0.1:%d", f.port), "--store", f.path("store")}
		args = append(args, f.brokerArgs...)
	case "receive":
		args = []string{"receive", "--config", f.path("receive.cfg")}
	case "forward":
		args = []string{"forward", "--config", f.path("forward.cfg")}
	}
	f.launch(name, nil, append([]string{binary}, args...)...)
}

// launch runs a program as one of the fleet's processes.
func (f *fleet) launch(name string, env []string, args ...string) {
	f.t.Helper()
	p, err := proc.Launch(name, f.path(name+".out"), env, nil, args...)
	f.must(err)
	f.mu.Lock()
	f.processes[name] = &process{p, p.Cmd}
	f.mu.Unlock()
}

// kill sends a signal and waits for the end.
func (f *fleet) kill(name string, sig syscall.Signal) {
	f.mu.Lock()
	p := f.processes[name]
	delete(f.processes, name)
	f.mu.Unlock()
	if p == nil {
		return
	}
	if err := p.End(sig); err != nil {
		f.t.Error(err)
	}
}

// setup waits for the broker and makes the streams.
func (f *fleet) setup(args ...string) {
	f.t.Helper()
	f.eventually("setup", 90*time.Second, func() error {
		out, err := f.run(append([]string{"setup", "--url", fmt.Sprintf("nats://127.0.0.1:%d", f.port)}, args...)...)
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

func (f *fleet) startAll() {
	f.t.Helper()
	f.start("broker")
	f.setup("--partitions", "2")
	f.start("receive")
	f.start("forward")
}

// run runs a command to its end.
func (f *fleet) run(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, binary, args...).CombinedOutput()
	return string(out), err
}

func (f *fleet) status() (*control.StatusReply, error) {
	out, err := f.run("status", "--json", "--socket", f.socket())
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	var s control.StatusReply
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return &s, nil
}

// eventually repeats a check until it succeeds; its last error is shown when time is up.
func (f *fleet) eventually(what string, within time.Duration, check func() error) {
	f.t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("%s: not within %s: %v", what, within, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// arrived waits until the central files of a log hold exactly want.
func (f *fleet) arrived(log string, want []byte, within time.Duration) {
	f.t.Helper()
	f.eventually(log+" to arrive", within, func() error { return f.compare(log, want) })
	// and stays so: nothing comes twice later
}

func (f *fleet) compare(log string, want []byte) error {
	var got bytes.Buffer
	_, err := receive.Cat(&got, []string{f.path("received")}, identity, log)
	if err != nil && !errors.Is(err, receive.ErrNoLedger) {
		return err
	}
	if bytes.Equal(got.Bytes(), want) {
		return nil
	}
	at := 0
	for at < min(got.Len(), len(want)) && got.Bytes()[at] == want[at] {
		at++
	}
	if at == got.Len() {
		return fmt.Errorf("%d of %d bytes are there, all as written", got.Len(), len(want))
	}
	return fmt.Errorf("%d bytes, want %d; first difference at %d", got.Len(), len(want), at)
}

func (f *fleet) showLogs() {
	for _, name := range []string{"broker", "receive", "forward"} {
		b, _ := os.ReadFile(f.path(name + ".out"))
		lines := strings.Split(string(b), "\n")
		if len(lines) > 60 {
			lines = lines[len(lines)-60:]
		}
		f.t.Logf("%s:\n%s", name, strings.Join(lines, "\n"))
	}
	if s, err := f.status(); err == nil {
		b, _ := json.MarshalIndent(s, "", " ")
		f.t.Logf("status: %s", b)
	}
	filepath.Walk(f.path("received"), func(p string, i os.FileInfo, err error) error {
		if err == nil && !i.IsDir() {
			f.t.Logf("%9d %s", i.Size(), strings.TrimPrefix(p, f.dir))
		}
		return nil
	})
}

// link is a TCP proxy that can be cut: established connections break and new ones are refused.
type link struct {
	*proc.Link
	address string
}

func newLink(t testing.TB, target string) *link {
	t.Helper()
	k, err := proc.NewLink(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return &link{k, k.Address}
}

// mute lets nothing through to the target, from it, or either, while connections stay.
func (k *link) mute(to, from bool) { k.Mute(to, from) }

// set cuts the link, or lets it work again.
func (k *link) set(cut bool) { k.Cut(cut) }
