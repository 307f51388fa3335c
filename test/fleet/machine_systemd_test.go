package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"logforward/test/proc"
)

// booted is a real systemd in namespaces of its own.
type booted struct {
	*testing.T
	ctx context.Context
	pid int // of systemd, outside
}

func boot(t *testing.T) *booted {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can make the namespaces")
	}
	if _, err := os.Stat("/lib/systemd/systemd"); err != nil {
		t.Skip("there is no systemd on this machine")
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	b := &booted{T: t, ctx: ctx}
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	log, err := os.Create(filepath.Join(dir, "systemd.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", "--fork", "--pid", "--kill-child", "--mount", "--cgroup", "--ipc", "--uts", "--net", "sh", "testdata/systemd.sh", root, programs.Logforward)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := proc.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // and with it, systemd, and with that all in its namespace
		_ = cmd.Wait()
	})
	b.await(func() error {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", cmd.Process.Pid, cmd.Process.Pid))
		if err == nil {
			b.pid, err = strconv.Atoi(strings.TrimSpace(string(children)))
		}
		if err == nil {
			var out []byte
			out, err = b.in("systemctl", "is-active", "test.target").CombinedOutput()
			if err != nil {
				said, _ := os.ReadFile(log.Name())
				err = fmt.Errorf("%w: %s; systemd says: %s", err, out, said)
			}
		}
		return err
	})
	return b
}

// in is a command where systemd is the first process.
func (b *booted) in(args ...string) *exec.Cmd {
	enter := []string{"--target", strconv.Itoa(b.pid), "--mount", "--pid", "--cgroup", "--ipc", "--uts", "--net", "--root", "--wd", "env", "-i", "PATH=/usr/local/bin:/usr/bin:/bin"}
	return exec.CommandContext(b.ctx, "nsenter", append(enter, args...)...)
}

// ensure is one look there.
func (b *booted) ensure(args ...string) map[string]string {
	b.Helper()
	out, err := b.in(append([]string{"logforward", "ensure", "--data", "--config", "/etc/lf/logforward.cfg"}, args...)...).CombinedOutput()
	data := map[string]string{}
	if err != nil || json.Unmarshal(out, &data) != nil {
		b.Fatalf("%v: %s", err, out)
	}
	return data
}

// must runs a command there.
func (b *booted) must(args ...string) string {
	b.Helper()
	out, err := b.in(args...).CombinedOutput()
	if err != nil {
		b.Fatalf("%q: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func (b *booted) await(check func() error) {
	b.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-b.ctx.Done():
			b.Fatalf("%v: %v", b.ctx.Err(), err)
		case <-tick.C:
		}
	}
}

// main is the process that systemd has for the unit.
func (b *booted) main() string {
	b.Helper()
	return b.must("systemctl", "show", "--property", "MainPID", "--value", "logforward-forward.service")
}

// Where systemd runs and knows the unit, the daemon is its own: started, restarted and told of by it.
func TestMachineWithSystemd(t *testing.T) {
	slow(t)
	t.Parallel()
	b := boot(t)
	d := b.ensure()
	if d["state"] != "idle" || d["action"] != "started" || d["pid"] != b.main() {
		t.Errorf("%v, and the unit's process is %s", d, b.main())
	}
	first := d["pid"]
	if d = b.ensure("--order", "restart"); d["state"] != "idle" || d["pid"] == first || d["pid"] != b.main() {
		t.Errorf("restart: %v, and the unit's process is %s", d, b.main())
	}
	killed := d["pid"]
	b.must("kill", "-KILL", killed)
	b.await(func() error {
		if d = b.ensure(); d["state"] != "idle" || d["pid"] == killed || d["pid"] != b.main() {
			return fmt.Errorf("%v, and the unit's process is %s", d, b.main())
		}
		return nil
	})
	b.must("sh", "-c", "echo destination.other.choria = /nowhere/server.conf >>/etc/lf/logforward.cfg")
	b.must("kill", "-KILL", d["pid"])
	b.await(func() error {
		// At first it may be the kill that is told of.
		if d = b.ensure(); d["state"] != "failed" || !strings.Contains(d["reason"], "logforward-forward.service") || !strings.Contains(d["reason"], "status 78") {
			return fmt.Errorf("%v", d)
		}
		return nil
	})
	b.must("sh", "-c", "systemctl stop logforward-forward.service; ln -sf /dev/null /etc/systemd/system/logforward-forward.service; systemctl daemon-reload")
	if d = b.ensure("--order", "retry"); !strings.Contains(d["reason"], "masked") {
		t.Errorf("of a masked unit: %v", d)
	}
	if out := b.must("sh", "-c", "ls /run/logforward-ensure"); strings.Contains(out, "daemon.log") {
		t.Errorf("a daemon was started beside systemd: %s", out)
	}
}
