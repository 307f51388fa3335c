package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"logforward/internal/awake"
	"logforward/internal/control"
	"logforward/test/proc"
)

// program is the one binary: the daemon, the command line and the agent.
var program string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "agent-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if program, err = proc.Program(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// host is a machine with a daemon, or without.
type host struct {
	testing.TB
	dir    string
	daemon *exec.Cmd
	calls  int
}

func newHost(t testing.TB) *host {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent-") // a test's own directory has a name too long for sockets below it
	if err != nil {
		t.Fatal(err)
	}
	h := &host{TB: t, dir: dir}
	t.Cleanup(func() { h.stop(); os.RemoveAll(dir) })
	for _, d := range []string{"log", "forwarders"} {
		h.must(os.Mkdir(h.path(d), 0o755))
	}
	// Nobody listens on port 1: what the agent says is about this machine.
	h.must(os.WriteFile(h.path("logforward.cfg"), fmt.Appendf(nil, "socket = %[1]s/sock\nwishes = %[1]s/wishes\naudit_log = %[1]s/audit.log\npolicy = peers\nstate = %[1]s/state\nforwarders = %[1]s/forwarders\nallowed_paths = %[1]s/log/**\n"+
		"staged = %[1]s/staged\nformer = %[1]s/former\nidentity = web1.example.net\ndestination.central.url = nats://127.0.0.1:1\ndestination.audit.url = nats://127.0.0.1:1\n", dir), 0o644))
	return h
}

func (h *host) path(name string) string { return filepath.Join(h.dir, name) }

func (h *host) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

// command is the command line on this machine.
func (h *host) command(args ...string) *exec.Cmd {
	return exec.Command(program, append(args, "--config", h.path("logforward.cfg"))...)
}

func (h *host) start() {
	h.Helper()
	h.daemon = h.command("forward")
	log, err := os.OpenFile(h.path("daemon.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	h.must(err)
	defer log.Close()
	h.daemon.Stderr = log
	h.must(h.daemon.Start())
	h.eventually("the daemon to answer", func() error {
		_, err := control.NewClient(h.path("sock")).List(context.Background())
		return err
	})
}

// stage has a definition wait.
func (h *host) stage(definition string) {
	h.Helper()
	h.must(os.MkdirAll(h.path("staged/forwarders.d"), 0o755))
	h.must(os.WriteFile(h.path("staged/forwarders.d/staged.yaml"), []byte(definition), 0o644))
}

func (h *host) stop() {
	if h.daemon == nil {
		return
	}
	_ = h.daemon.Process.Signal(syscall.SIGCONT)
	_ = h.daemon.Process.Kill()
	_ = h.daemon.Wait() // it was killed
	h.daemon = nil
}

func (h *host) eventually(what string, ok func() error) {
	h.Helper()
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if err = ok(); err == nil {
			return
		}
	}
	log, _ := os.ReadFile(h.path("daemon.log"))
	h.Fatalf("%s: %v\n%s", what, err, log)
}

// envelope is a request as Choria Server writes it.
func (h *host) envelope(action string, data map[string]any) map[string]any {
	h.calls++
	return h.envelopeOf(fmt.Sprintf("%032d", h.calls), action, data)
}

func (h *host) envelopeOf(id, action string, data map[string]any) map[string]any {
	if data == nil {
		data = map[string]any{}
	}
	return map[string]any{
		"$schema": "https://choria.io/schemas/mcorpc/external/v1/rpc_request.json", "protocol": requestProtocol,
		"agent": "logforward", "action": action, "requestid": id, "senderid": "dev1.example.net",
		"callerid": "choria=alice.mcollective", "collective": "mcollective", "ttl": 60, "msgtime": time.Now().Unix(), "data": data,
	}
}

type inputs = map[string]any

// ask has the binary answer as Choria Server would.
func (h *host) ask(action string, data inputs) reply {
	h.Helper()
	b, err := json.Marshal(h.envelope(action, data))
	h.must(err)
	return h.send(b)
}

func (h *host) send(request []byte) reply {
	h.Helper()
	h.must(os.WriteFile(h.path("request"), request, 0o600))
	h.must(os.WriteFile(h.path("reply"), nil, 0o600))
	cmd := exec.Command(program, h.path("request"), h.path("reply"), requestProtocol)
	cmd.Dir = h.dir
	cmd.Env = []string{
		"PATH=/bin:/usr/bin", envProtocol + "=" + requestProtocol, envRequest + "=" + h.path("request"), envReply + "=" + h.path("reply"),
		envConfig + "=" + h.path("logforward"), // Choria Server leaves the suffix out
	}
	watch := awake.Begin(h)
	defer watch.End()
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		h.Fatalf("%v: %s", err, out)
	}
	if took := watch.Took(); took > 5*time.Second {
		h.Errorf("answered after %s: more than half of what Choria Server waits", took)
	}
	b, err := os.ReadFile(h.path("reply"))
	h.must(err)
	var r reply
	if err := json.Unmarshal(b, &r); err != nil {
		h.Fatalf("%v in %s", err, b)
	}
	return r
}

// says checks a reply's code, its state, and texts that must be somewhere in it.
func (h *host) says(r reply, code int, state string, texts ...string) {
	h.Helper()
	b, err := json.Marshal(r)
	h.must(err)
	if got, _ := r.Data["state"].(string); r.Code != code || got != state {
		h.Fatalf("want code %d, state %q in %s", code, state, b)
	}
	for _, text := range texts {
		if !strings.Contains(string(b), text) {
			h.Errorf("no %q in %s", text, b)
		}
	}
}
