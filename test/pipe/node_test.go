package pipe

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"logforward/internal/broker"
	"logforward/internal/forward"
	daemon "logforward/internal/node"
	"logforward/internal/tail"
)

// node is one machine: a directory of log files and one of state, with an engine while it runs.
type node struct {
	*rig
	identity string
	dir      string // of log files
	state    string
	speaks   *link // between engine and broker
	change   func(*forward.Config)
	logs     []forward.Log
	defines  string // directory of definitions, in place of logs

	engine *forward.Engine
	st     *forward.State
	cancel context.CancelFunc
	ended  chan error
}

// newNode makes a machine with one log, app, from its beginning.
func (r *rig) newNode(identity string) *node {
	r.t.Helper()
	r.must(os.MkdirAll(r.path("nodes"), 0o755))
	dir, err := os.MkdirTemp(r.path("nodes"), identity+"-")
	r.must(err)
	n := &node{rig: r, identity: identity, dir: filepath.Join(dir, "log"), state: filepath.Join(dir, "state")}
	r.must(os.MkdirAll(n.dir, 0o755))
	n.speaks = newLink(r.t, r.serve.Listen)
	n.logs = []forward.Log{n.entry("app")}
	r.t.Cleanup(n.stop)
	return n
}

func (n *node) path(name string) string { return filepath.Join(n.dir, name) }

// entry is a log whose file has its name, with .log behind it.
func (n *node) entry(log string) forward.Log {
	return forward.Log{Name: log, Path: n.path(log + ".log"), Destination: "central", Start: tail.StartBeginning}
}

func (n *node) config() forward.Config {
	c := forward.Config{
		Identity: n.identity, Allowed: n.allow(n.dir + "/**"), State: n.st, Logger: n.log.With("at", filepath.Base(filepath.Dir(n.dir))),
		Destinations: map[string]forward.Destination{"central": {Broker: broker.Options{URLs: []string{n.speaks.address}}}},
		Limits: forward.Limits{
			Poll: 50 * time.Millisecond, Quiet: 100 * time.Millisecond, SyncInterval: 200 * time.Millisecond,
			Checkpoint: 20 * time.Millisecond, AckTimeout: time.Second, PartialWait: 50 * time.Millisecond,
		},
	}
	if n.change != nil {
		n.change(&c)
	}
	return c
}

func (n *node) start() {
	n.t.Helper()
	st, err := forward.OpenState(n.state, n.log)
	n.must(err)
	n.st = st
	n.engine = forward.New(n.config())
	n.must(n.engine.Open(n.t.Context()))
	run := n.engine.Run
	if n.defines == "" {
		n.engine.Set(n.logs)
	} else {
		d := daemon.New(daemon.Config{
			Identity: n.identity, Definitions: n.defines, Allowed: n.config().Allowed, Destinations: []string{"central"},
			Engine: n.engine, State: n.st, Logger: n.log, Poll: 50 * time.Millisecond,
		})
		n.must(d.Open(n.t.Context()))
		run = d.Run
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel, n.ended = cancel, make(chan error, 1)
	ended := n.ended
	go func() { ended <- run(ctx) }()
}

// stop ends in order.
func (n *node) stop() {
	n.t.Helper()
	if n.engine == nil {
		return
	}
	n.cancel()
	if err := <-n.ended; err != nil {
		n.t.Errorf("engine: %v", err)
	}
	n.close()
}

// crash ends without a last checkpoint: what isn't on disk by now is lost.
func (n *node) crash() {
	n.t.Helper()
	if n.engine == nil {
		return
	}
	n.must(n.st.Close()) // from here on nothing reaches the disk
	n.cancel()
	<-n.ended
	n.close()
}

func (n *node) close() {
	n.t.Helper()
	if err := errors.Join(n.engine.Close(), n.st.Close()); err != nil {
		n.t.Errorf("close engine: %v", err)
	}
	n.engine, n.st = nil, nil
}

// forget deletes the state of a node that doesn't run.
func (n *node) forget() { n.must(os.RemoveAll(n.state)) }

// pause holds a log, and waits until it is held.
func (n *node) pause(log string) {
	n.t.Helper()
	n.engine.Pause(log, true)
	n.eventually("pause", func() error {
		if s := n.status(log); s.State != forward.Paused {
			return errors.New(s.State)
		}
		return nil
	})
}

func (n *node) resume(log string) { n.engine.Pause(log, false) }

// seen waits until a held log knows that so many bytes wait.
func (n *node) seen(log string, lag int) {
	n.t.Helper()
	n.eventually(fmt.Sprintf("%d bytes to be seen", lag), func() error {
		if s := n.status(log); s.LagBytes != int64(lag) {
			return fmt.Errorf("%d bytes", s.LagBytes)
		}
		return nil
	})
}

// stored waits until the broker has all up to a position of the first epoch.
func (n *node) stored(log string, position int) {
	n.t.Helper()
	n.eventually("the broker to have it", func() error {
		if s := n.status(log); s.Stored < uint64(position) {
			return fmt.Errorf("stored %d of %d: %s %s", s.Stored, position, s.State, s.LastError)
		}
		return nil
	})
}

// --- its files

// text is n bytes of lines that don't recur.
func text(tag string, n int) []byte {
	random := rand.NewPCG(uint64(n), uint64(len(tag)))
	var b []byte
	for i := 0; len(b) < n; i++ {
		b = fmt.Appendf(b, "%s %06d %016x %016x\n", tag, i, random.Uint64(), random.Uint64())
	}
	return append(b[:n-1], '\n')
}

func (n *node) write(name string, data []byte) {
	n.t.Helper()
	f, err := os.OpenFile(n.path(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	n.must(err)
	_, err = f.Write(data)
	n.must(errors.Join(err, f.Close()))
}

func (n *node) rename(from, to string) { n.t.Helper(); n.must(os.Rename(n.path(from), n.path(to))) }
func (n *node) remove(name string)     { n.t.Helper(); n.must(os.Remove(n.path(name))) }
func (n *node) truncate(name string)   { n.t.Helper(); n.must(os.Truncate(n.path(name), 0)) }

func (n *node) copy(from, to string) {
	n.t.Helper()
	_, err := copyFile(n.path(from), n.path(to))
	n.must(err)
}

// link swaps a symbolic link in one step.
func (n *node) symlink(target, name string) {
	n.t.Helper()
	n.must(os.Symlink(target, n.path(name+".new")))
	n.rename(name+".new", name)
}

// command runs a program of the machine, and skips the test where there is none.
func command(t testing.TB, name string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s isn't installed", name)
	}
	if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}

func (r *rig) allow(globs ...string) tail.Allowed {
	r.t.Helper()
	allowed, err := tail.ParseAllowed(globs)
	r.must(err)
	return allowed
}

// mount makes a small file system of its own, and skips the test where that isn't permitted.
func mount(t testing.TB, kind string, size int) string {
	t.Helper()
	dir := t.TempDir()
	args := []string{"-t", kind, "-o", fmt.Sprintf("size=%d", size), "none", dir}
	if kind != "tmpfs" {
		image := filepath.Join(t.TempDir(), "image")
		if err := os.WriteFile(image, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
		command(t, "mkfs."+kind, "-q", image)
		args = []string{"-t", kind, "-o", "loop", image, dir}
	}
	if out, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
		t.Skipf("mount isn't permitted: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return dir
}

// copyTree copies a directory of plain files and directories.
func (r *rig) copyTree(from, to string) {
	r.t.Helper()
	r.must(os.CopyFS(to, os.DirFS(from)))
}

// asNobody runs one test of this program as another user, on a directory of its own.
func asNobody(t *testing.T, dir string, uid int, test string) {
	t.Helper()
	self, err := os.ReadFile("/proc/self/exe")
	if err == nil { // it may lie where the other user can't get to
		err = os.WriteFile(filepath.Join(dir, "pipe.test"), self, 0o755)
	}
	if err == nil {
		err = os.Chown(dir, uid, uid)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(dir, "pipe.test"), "-test.run", "^"+test+"$", "-test.v")
	cmd.Dir = dir
	cmd.Env = []string{"LOGFORWARD_TEST_NOBODY=1", "TMPDIR=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+test) {
		t.Fatalf("%v\n%s", err, out)
	}
}
