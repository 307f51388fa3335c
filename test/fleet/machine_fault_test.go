package fleet

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"logforward/test/fleet/site"
)

// slow skips what takes long where it isn't asked for.
func slow(t *testing.T) {
	t.Helper()
	if os.Getenv("LOGFORWARD_MACHINE_TESTS") == "" {
		t.Skip("takes long; make test-machine runs it")
	}
}

// fault is what happens to a node's daemon, and what the machine shall go through because of it.
type fault struct {
	*supervised
	n      *site.Node
	w      *writer
	daemon int // its process
	mark   int // of the machine's states
}

// inject starts a node that forwards what is written all the time, and then has something happen to it.
func inject(t *testing.T, choria string, happens func(*fault)) *fault {
	t.Helper()
	s := supervise(t, site.Tokens, 1, choria, quick)
	f := &fault{supervised: s, n: s.nodes[0]}
	s.define(f.n, "app")
	f.w = s.write("app")
	s.up()
	s.moved(f.n, "app")
	f.daemon, f.mark = s.daemon(f.n), s.events.count(f.n, "logforward")
	happens(f)
	return f
}

// recovers sees the machine go through these states, one other daemon forwarding, and each byte at the centre, once.
func (f *fault) recovers(want ...string) {
	f.Helper()
	f.events.sequence(f.n, "logforward", f.mark, want...)
	if now := f.fleet.daemon(f.n); now == f.daemon {
		f.Errorf("the daemon is still %d", now)
	}
	f.arrives()
	if state := f.state(f.n, "logforward"); state != "forwarding" {
		f.Errorf("the machine is %s", state)
	}
	f.events.sequence(f.n, "logforward", f.mark, want...) // and none since
}

func (f *fault) arrives() {
	f.Helper()
	f.moved(f.n, "app")
	f.w.finish("app")
	if now := f.status(f.n); now.Gaps != 0 {
		f.Errorf("%d gaps", now.Gaps)
	}
}

// generations runs a test on both generations of Choria.
func generations(t *testing.T, test func(t *testing.T, choria string)) {
	t.Helper()
	slow(t)
	bothGenerations(t, test)
}

// bothGenerations does so in every run of the tests.
func bothGenerations(t *testing.T, test func(t *testing.T, choria string)) {
	t.Helper()
	t.Parallel()
	for name, program := range map[string]string{"0.29.4": programs.Choria, "0.30.2": programs.Next} {
		t.Run(name, func(t *testing.T) { t.Parallel(); test(t, program) })
	}
}

// A killed daemon is back at the next look; that it died is told of while the next is young. The quickest of the faults: it
// is in every run of the tests.
func TestMachineDaemonKilled(t *testing.T) {
	bothGenerations(t, func(t *testing.T, choria string) {
		f := inject(t, choria, func(f *fault) { f.must(syscall.Kill(f.daemon, syscall.SIGKILL)) })
		f.reason(f.n, "ended, and was started again", "ended with status 137")
		f.recovers("degraded", "forwarding")
	})
}

func TestMachineDaemonStopped(t *testing.T) {
	generations(t, func(t *testing.T, choria string) {
		f := inject(t, choria, func(f *fault) { f.must(syscall.Kill(f.daemon, syscall.SIGSTOP)) })
		f.recovers("degraded", "forwarding")
	})
}

func TestMachineSocketDeleted(t *testing.T) {
	generations(t, func(t *testing.T, choria string) {
		f := inject(t, choria, func(f *fault) {
			// Younger than the grace that a starting daemon has, it isn't missed.
			f.must(os.Remove(f.n.Socket()))
		})
		f.recovers("degraded", "forwarding")
	})
}

// An upgrade renames the new program into the old one's place.
func TestMachineBinaryReplaced(t *testing.T) {
	generations(t, func(t *testing.T, choria string) {
		f := inject(t, choria, func(f *fault) {
			f.must(copyFile(f.n.Program(), f.n.Program()+".new"))
			f.must(os.Rename(f.n.Program()+".new", f.n.Program()))
		})
		f.await(func() error {
			if pids, err := f.n.Daemons(); err != nil || len(pids) != 1 || pids[0] == f.daemon {
				return fmt.Errorf("daemons %v, want another than %d (%v)", pids, f.daemon, err)
			}
			return nil
		})
		f.recovers()
	})
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// fileSystem is a small one in a file, mounted on a directory, that can break as disks do.
type fileSystem struct {
	f          *fleet
	image, dir string
	device     string
}

func (f *fleet) mount(dir string) *fileSystem {
	f.Helper()
	fs := &fileSystem{f: f, image: filepath.Join(f.Dir, "disk.img"), dir: dir}
	f.must(os.WriteFile(fs.image, nil, 0o600))
	f.must(os.Truncate(fs.image, 64<<20))
	f.run("mke2fs", "-q", "-t", "ext4", "-F", fs.image)
	f.must(os.MkdirAll(dir, 0o700))
	fs.up()
	f.Cleanup(func() { _ = exec.Command("umount", "--lazy", dir).Run() }) // it may be gone already
	return fs
}

func (fs *fileSystem) up() {
	fs.f.Helper()
	fs.f.run("mount", "-o", "loop,errors=remount-ro", fs.image, fs.dir)
	fs.device = filepath.Base(strings.TrimSpace(fs.f.run("findmnt", "--noheadings", "--output", "SOURCE", fs.dir)))
}

// breaks makes the kernel meet an error in the file system: it is read-only from then on, open files too.
func (fs *fileSystem) breaks() {
	fs.f.Helper()
	fs.f.must(os.WriteFile("/sys/fs/ext4/"+fs.device+"/trigger_fs_error", []byte("1"), 0))
}

// mended is what an administrator does about it, once nobody has files open there.
func (fs *fileSystem) mended() {
	fs.f.Helper()
	fs.f.run("umount", fs.dir)
	_ = exec.Command("e2fsck", "-f", "-y", fs.image).Run() // it exits with 1 where it has mended something
	fs.up()
}

func (f *fleet) run(name string, args ...string) string {
	f.Helper()
	out, err := exec.CommandContext(f.ctx, name, args...).CombinedOutput()
	if err != nil {
		f.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
	return string(out)
}

func TestMachineStateReadOnly(t *testing.T) {
	generations(t, func(t *testing.T, choria string) {
		s := supervise(t, site.Tokens, 1, choria, quick)
		n := s.nodes[0]
		disk := s.mount(filepath.Join(n.Dir, "state"))
		f := &fault{supervised: s, n: n}
		s.define(n, "app")
		f.w = s.write("app")
		s.up()
		s.moved(n, "app")
		f.mark = s.events.count(n, "logforward")
		disk.breaks()
		f.events.sequence(n, "logforward", f.mark, "degraded")
		f.reason(n, "read-only file system")
		f.mark = f.events.count(n, "logforward")
		f.transit(n, "restart") // what nobody would need to do; but only so is the disk free to be mended
		f.events.sequence(n, "logforward", f.mark, "restarting", "observed", "degraded", "failed")
		f.reason(n, "read-only file system", "ended with status 1", "5 starts in a row")
		f.events.said("logforward_check", "CRITICAL", "doesn't stay", "read-only file system")
		f.mark = f.events.count(n, "logforward")
		disk.mended()
		f.transit(n, "retry")
		f.events.sequence(n, "logforward", f.mark, "retrying", "observed", "forwarding")
		f.arrives()
	})
}

// reason waits until the machine's data have a reason with all of these texts.
func (s *supervised) reason(n *site.Node, texts ...string) {
	s.Helper()
	s.await(func() error {
		data, err := n.MachineData("logforward")
		reason := fmt.Sprint(data["reason"])
		for _, t := range texts {
			if err == nil && !strings.Contains(reason, t) {
				err = fmt.Errorf("%s: the reason is %q, want %q in it", n.Name, reason, texts)
			}
		}
		return err
	})
}

// A daemon that can't start is tried less and less often, and then not before something has changed.
func TestMachineCrashLoop(t *testing.T) {
	generations(t, func(t *testing.T, choria string) {
		var config []byte
		f := inject(t, choria, func(f *fault) {
			var err error
			config, err = os.ReadFile(f.n.Config())
			f.must(err)
			f.must(os.WriteFile(f.n.Config(), []byte(strings.ReplaceAll(string(config), f.n.ServerConfig(), "/nowhere/server.conf")), 0o600))
			f.must(syscall.Kill(f.daemon, syscall.SIGKILL))
		})
		f.events.sequence(f.n, "logforward", f.mark, "degraded", "failed")
		f.reason(f.n, "/nowhere/server.conf", "ended with status 78")
		if pids, err := f.n.Daemons(); err != nil || len(pids) != 0 {
			t.Errorf("daemons %v (%v)", pids, err)
		}
		f.must(os.WriteFile(f.n.Config(), config, 0o600))
		f.recovers("degraded", "failed", "forwarding")
	})
}

// A new definition is reason to try again, too.
func TestMachineTriesAgainForADefinition(t *testing.T) {
	slow(t)
	t.Parallel()
	f := inject(t, "", func(f *fault) {
		f.must(os.Rename(f.n.ServerConfig(), f.n.ServerConfig()+".away")) // the server that runs has read it
		f.must(syscall.Kill(f.daemon, syscall.SIGKILL))
	})
	f.events.sequence(f.n, "logforward", f.mark, "degraded", "failed")
	f.must(os.Rename(f.n.ServerConfig()+".away", f.n.ServerConfig())) // nobody watches that
	f.must(f.n.Write("other.log", []byte("a line\n")))
	f.define(f.n, "other")
	f.events.reach(f.n, "logforward", f.mark+2, "forwarding")
	f.moved(f.n, "app")
	f.w.finish("app")
}

// Choria Server restarts, and its machine is reloaded, again and again, while lines are written.
func TestMachineServerRestartsAndReloads(t *testing.T) {
	generations(t, func(t *testing.T, choria string) {
		f := inject(t, choria, func(*fault) {})
		for i := range 3 {
			mark := f.events.count(f.n, "logforward")
			if i%2 == 0 {
				f.must(f.n.Server.Stop())
			} else {
				f.n.Server.Kill()
			}
			f.must(f.n.StartServer(f.ctx))
			f.events.sequence(f.n, "logforward", mark, "observed", "forwarding")
			f.moved(f.n, "app")
		}
		for i := range 2 {
			mark := f.events.count(f.n, "logforward")
			f.must(f.n.EditMachine("logforward", func(text string) string { return text + fmt.Sprintf("# edit %d\n", i) }))
			f.events.sequence(f.n, "logforward", mark, "observed", "forwarding")
			f.moved(f.n, "app")
		}
		mark := f.events.count(f.n, "logforward")
		f.must(f.n.EditMachine("logforward", func(text string) string { return "broken: [\n" + text })) // stops the machine, not the daemon
		f.must(f.n.Server.Await(f.ctx, "Could not load Autonomous Agent from .*logforward"))
		f.moved(f.n, "app")
		f.must(f.n.EditMachine("logforward", func(text string) string { return strings.TrimPrefix(text, "broken: [\n") }))
		f.events.sequence(f.n, "logforward", mark, "observed", "forwarding")
		if now := f.fleet.daemon(f.n); now != f.daemon {
			t.Errorf("the daemon is %d, was %d", now, f.daemon)
		}
		f.arrives()
		said, err := os.ReadFile(filepath.Join(f.n.Dir, "ensure", "daemon.log"))
		f.must(err)
		if strings.Contains(string(said), "the daemon ended") {
			t.Errorf("a second daemon was started, and turned away: %s", said)
		}
	})
}

// A definition with an error is told of everywhere, and the others go on.
func TestMachineDefinitionError(t *testing.T) {
	generations(t, func(t *testing.T, choria string) {
		f := inject(t, choria, func(f *fault) {
			f.must(os.WriteFile(filepath.Join(f.n.Definitions(), "bad.yaml"), []byte("log: bad\npath: relative.log\n"), 0o644))
		})
		f.events.sequence(f.n, "logforward", f.mark, "degraded")
		f.reason(f.n, "bad.yaml", "relative.log")
		f.moved(f.n, "app")
		status, err := f.n.Status(f.ctx)
		f.must(err)
		if len(status.Problems) != 1 || !strings.Contains(status.Problems[0].Where, "bad.yaml") {
			t.Errorf("status has the problems %+v", status.Problems)
		}
		f.events.said(`"name":"logforward"`, `"problems":1`)
		f.events.said("logforward_check", "WARNING", "bad.yaml", "relative.log")
		f.await(func() error {
			text, err := f.n.TextFiles()
			if err == nil && !strings.Contains(text, "logforward_node_problems 1\n") {
				err = fmt.Errorf("no metric of the problem: %s", text)
			}
			return err
		})
		f.await(func() error { // what Choria itself makes of the check
			text, err := f.n.TextFiles()
			if err == nil && !regexp.MustCompile(`(?m)^choria_machine_nagios_watcher_status\{.*logforward_check.*\} 1$`).MatchString(text) {
				err = fmt.Errorf("no metric of the check's warning: %s", text)
			}
			return err
		})
		text, err := f.n.TextFiles()
		f.must(err)
		for _, name := range []string{"up", "lag_bytes", "lag_seconds", "confirmed_bytes", "bytes_per_second", "gaps", "uptime_seconds"} {
			if !strings.Contains(text, "\nlogforward_node_"+name+" ") {
				t.Errorf("no metric %s in %s", name, text)
			}
		}
		f.must(os.Remove(filepath.Join(f.n.Definitions(), "bad.yaml")))
		f.events.sequence(f.n, "logforward", f.mark, "degraded", "forwarding")
		if now := f.fleet.daemon(f.n); now != f.daemon {
			t.Errorf("the daemon is %d, was %d", now, f.daemon)
		}
		f.arrives()
	})
}

// The broker is away, Choria Server restarts meanwhile and the daemon dies: nobody is at the keyboard.
func TestMachineAlone(t *testing.T) {
	generations(t, func(t *testing.T, choria string) {
		f := inject(t, choria, func(*fault) {})
		f.Broker.Kill()
		f.reason(f.n, "disconnected from the broker")
		f.must(syscall.Kill(f.daemon, syscall.SIGKILL))
		f.await(func() error {
			if pids, err := f.n.Daemons(); err != nil || len(pids) != 1 || pids[0] == f.daemon {
				return fmt.Errorf("daemons %v, want another than %d (%v)", pids, f.daemon, err)
			}
			return nil
		})
		second := f.fleet.daemon(f.n)
		f.n.Server.Kill()
		started := make(chan error, 1)
		go func() { started <- f.n.StartServer(f.ctx) }() // it waits for the broker
		f.must(f.StartBroker(f.ctx))
		f.must(<-started)
		f.moved(f.n, "app")
		if now := f.fleet.daemon(f.n); now != second {
			t.Errorf("the daemon is %d, was %d", now, second)
		}
		f.w.finish("app")
	})
}

// What operators asked for while no daemon ran is done once the machine has started one.
func TestMachineFulfilsWishes(t *testing.T) {
	slow(t)
	t.Parallel()
	f := newFleetOf(t, site.Tokens, 1, options{idle: true})
	n := f.nodes[0]
	f.must(n.Write("app.log", lines(n.Name, 0, 100)))
	f.must(n.StartServer(f.ctx))
	r, err := f.admin.Req(f.ctx, "start", site.Inputs{"log": "app", "path": n.LogFile("app.log"), "destination": "central", "from": "beginning"}, n)
	f.must(err)
	f.must(r.Err())
	if pids, err := n.Daemons(); err != nil || len(pids) != 0 {
		t.Fatalf("daemons %v (%v), want none yet", pids, err)
	}
	f.must(n.InstallMachine(filepath.Join(programs.Machines, "logforward"), func(text string) string {
		return strings.Replace(text, "/etc/choria/logforward/forwarders.d", n.Definitions(), 1)
	}))
	f.must(f.receiver.Wait(f.ctx, n, "app", lines(n.Name, 0, 100)))
}

// Policy decides on what the machine asks for: where it refuses, the machine is back where it was, and says why.
func TestMachineOrderRefused(t *testing.T) {
	slow(t)
	t.Parallel()
	s := superviseOf(t, site.Tokens, 1, quick, site.NodeOptions{Policies: map[string]string{"logforward.rego": strings.Replace(machinePolicy, `, "pause", "resume"`, "", 1)}})
	n := s.nodes[0]
	s.define(n, "app")
	s.must(n.Write("app.log", lines(n.Name, 0, 10)))
	s.up()
	mark := s.events.count(n, "logforward")
	s.transit(n, "pause")
	s.events.sequence(n, "logforward", mark, "pausing", "unknown", "observed", "forwarding")
	data, err := n.MachineData("logforward")
	s.must(err)
	if order := fmt.Sprint(data["order"]); !strings.Contains(order, "pause wasn't done: pause is not permitted for local=root") {
		t.Errorf("the datum order is %q", order)
	}
	decisions, err := os.ReadFile(n.Decisions())
	s.must(err)
	if !strings.Contains(string(decisions), "local=root") || !strings.Contains(string(decisions), "pause") {
		t.Errorf("the audit log has nothing of the refusal: %s", decisions)
	}
}
