package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A root is a machine to install on: this one's file system with a layer above it that takes every change, in a
// mount and process namespace of its own. Nothing that is done in it is seen outside.
type root struct {
	*testing.T
	keeper *exec.Cmd // its process 1
	pid    string
	path   string // the root, as seen from outside
	booted bool   // systemd is process 1
}

// layer makes the file system, and then is process 1 until it is killed, which ends all others. Its /run is empty,
// so nothing believes that systemd runs, and its /dev has what cannot do harm.
const layer = `set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs tmpfs dev
for d in null zero full random urandom; do : > dev/$d; mount --bind /dev/$d dev/$d; done
mount -t proc proc proc
echo ready
exec chroot . sh -c 'trap "" HUP INT; while :; do sleep 3600 & wait; done'
`

// starter runs functions on one thread that never ends: the kernel kills a root when the thread that started it is gone, so that a test that is
// killed leaves none behind.
var starter = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

func newRoot(t *testing.T) *root {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root for a mount namespace: the packages are not installed")
	}
	return begin(t, []string{"--mount", "--pid"}, layer)
}

// begin has a script make a root, in namespaces of its own, and say when it is ready; then it is process 1.
func begin(t *testing.T, namespaces []string, script string, args ...string) *root {
	t.Helper()
	args = append([]string{"--fork", "--kill-child", "sh", "-c", script, "layer", t.TempDir()}, args...)
	r := &root{T: t, booted: script == boot, keeper: exec.Command("unshare", append(namespaces, args...)...)}
	r.keeper.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var complaint bytes.Buffer
	r.keeper.Stderr = &complaint
	out, err := r.keeper.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan error, 1)
	starter() <- func() { started <- r.keeper.Start() }
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-r.keeper.Process.Pid, syscall.SIGKILL)
		_ = r.keeper.Wait() // it was killed
	})
	line := make([]byte, 6)
	if _, err := io.ReadFull(out, line); err != nil {
		_ = r.keeper.Wait()
		t.Fatalf("a root of its own can't be had (overlay and tmpfs are needed): %s", complaint.String())
	}
	children, err := os.ReadFile("/proc/" + itoa(r.keeper.Process.Pid) + "/task/" + itoa(r.keeper.Process.Pid) + "/children")
	if err != nil || len(strings.Fields(string(children))) != 1 {
		t.Fatalf("process 1: %q, %v", children, err)
	}
	r.pid = strings.Fields(string(children))[0]
	r.path = "/proc/" + r.pid + "/root"
	r.eventually("the root", func() bool {
		if r.booted {
			return r.exists("/run/moved")
		}
		// The chroot shows as its process's root.
		link, err := os.Readlink("/proc/" + r.pid + "/root")
		return err == nil && link != "/"
	})
	return r
}

func (r *root) eventually(what string, ok func() bool) {
	r.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
		if time.Now().After(end) {
			r.Fatalf("%s: not within two minutes", what)
		}
	}
}

// command runs inside.
func (r *root) command(ctx context.Context, args ...string) *exec.Cmd {
	enter := []string{"--target", r.pid, "--mount", "--pid", "--root"}
	env := []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "USER=root", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"}
	if r.booted {
		enter = append(enter, "--net", "--cgroup", "--ipc", "--uts")
	} else {
		env = append(env, "SYSTEMD_OFFLINE=1")
	}
	c := exec.CommandContext(ctx, "nsenter", append(append(enter, "--", "env", "-C", "/"), args...)...)
	c.Env = env
	c.WaitDelay = time.Second
	return c
}

// try gives what a command says, and its exit code.
func (r *root) try(args ...string) (string, int) {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), 3*time.Minute)
	defer cancel()
	out, err := r.command(ctx, args...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !asExit(err, &exit) {
		r.Fatalf("%v: %v\n%s", args, err, out)
	}
	if exit != nil {
		return string(out), exit.ExitCode()
	}
	return string(out), 0
}

// must is try for what has to succeed.
func (r *root) must(args ...string) string {
	r.Helper()
	out, code := r.try(args...)
	if code != 0 {
		r.Fatalf("%v: exit code %d\n%s", args, code, out)
	}
	return out
}

func (r *root) sh(script string) string {
	r.Helper()
	return r.must("sh", "-euc", script)
}

// put copies a file or text in.
func (r *root) put(path, text string, mode os.FileMode) {
	r.Helper()
	file := filepath.Join(r.path, path)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		r.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), mode); err != nil {
		r.Fatal(err)
	}
	if err := os.Chmod(file, mode); err != nil {
		r.Fatal(err)
	}
}

func (r *root) bring(from, to string) {
	r.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		r.Fatal(err)
	}
	r.put(to, string(b), 0o644)
}

func (r *root) get(path string) string {
	r.Helper()
	b, err := os.ReadFile(filepath.Join(r.path, path))
	if err != nil {
		r.Fatal(err)
	}
	return string(b)
}

func (r *root) exists(path string) bool {
	_, err := os.Lstat(filepath.Join(r.path, path))
	return err == nil
}
