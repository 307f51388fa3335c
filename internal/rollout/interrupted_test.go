package rollout

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// killedAt makes this test's program a change that is killed before a step.
const killedAt = "LOGFORWARD_TEST_KILLED_AT"

func TestMain(m *testing.M) {
	if text := os.Getenv(killedAt); text != "" {
		n, _ := strconv.Atoi(text)
		f := strings.Split(os.Getenv(killedAt+"_WHAT"), "\n")
		c := &change{now: Set{Settings: f[2], Definitions: f[3], Policy: f[4]}, former: f[5], at: func(string) {
			if n--; n < 0 {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}}
		if _, err := c.run(f[0], f[1]); err != nil && !errors.Is(err, ErrNothing) {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// killed runs a change that is killed before its nth step, and tells whether it had that many.
func (b *bench) killed(kind string, n int) bool {
	b.Helper()
	from := b.staged
	if kind == kindRollback {
		from = b.former
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killedAt+"="+strconv.Itoa(n), killedAt+"_WHAT="+strings.Join([]string{kind, from, b.now.Settings, b.now.Definitions, b.now.Policy, b.former}, "\n"))
	out, err := cmd.CombinedOutput()
	if err == nil {
		return false
	}
	if s, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || s.Signal() != syscall.SIGKILL {
		b.Fatalf("%v: %s", err, out)
	}
	return true
}

var (
	first  = []string{"logforward.cfg rate = 1", "forwarders.d/a.yaml log: a"}
	second = []string{"logforward.cfg rate = 2", "forwarders.d/b.yaml log: b", "rego/logforward.rego package x"}
	third  = []string{"logforward.cfg rate = 3", "forwarders.d/a.yaml log: a3", "forwarders.d/b.yaml log: b", "rego/logforward.rego package x"}
)

func (b *bench) stageThird() {
	b.put("staged/logforward.cfg", "rate = 3")
	b.put("staged/forwarders.d/a.yaml", "log: a3")
	b.put("staged/forwarders.d/b.yaml", "log: b")
}

// clean wants nothing to lie about that is neither a set nor in force.
func (b *bench) clean(what string) {
	b.Helper()
	err := filepath.WalkDir(b.dir, func(path string, e fs.DirEntry, err error) error {
		if name := e.Name(); err == nil && (strings.HasPrefix(name, ".") || strings.HasSuffix(name, spent) || strings.HasSuffix(name, ".new")) {
			b.Errorf("%s: %s is left", what, path)
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
}

// Wherever an apply is killed: repeated, it is done, and one rollback leads to before it; rolled back at once, what was
// before it is in force. The one before is never what it leads to.
func TestApplyKilledAnywhereIsRepeatedOrTakenBack(t *testing.T) {
	steps := 0
	for n, more := 0, true; more; n++ {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			prepare := func() *bench {
				b := newBench(t)
				b.stageAll()
				if err := apply(b); err != nil {
					t.Fatal(err)
				}
				b.want("the second", second...)
				b.stageThird()
				more = b.killed(kindApply, n)
				return b
			}
			b := prepare()
			if !more {
				steps = n
				return
			}
			over, err := Apply(b.staged, b.now, b.former)
			if err != nil && !errors.Is(err, ErrNothing) || over == Undone {
				t.Fatalf("%d, %v", over, err)
			}
			b.want("repeated", third...)
			b.clean("repeated")
			if err := rollback(b); err != nil {
				t.Fatal(err)
			}
			b.want("repeated and rolled back", second...)

			b = prepare()
			if over, err = Rollback(b.now, b.former); err != nil || over == Finished {
				t.Fatalf("%d, %v", over, err)
			}
			// Nothing had changed yet, so that a rollback is one of the apply before; but then it wasn't this one's.
			if _, err := Open(b.staged); over == Done && err == nil {
				b.want("rolled back before anything was changed", first...)
				return
			}
			b.want("rolled back", second...)
			b.clean("rolled back")
			if over == Undone {
				if err := apply(b); err != nil {
					t.Fatal(err)
				}
				b.want("applied after all", third...)
			}
		})
	}
	if steps < 12 {
		t.Errorf("killed before %d steps only", steps)
	}
}

// Wherever a rollback is killed, a repeated one is that rollback, and the next takes it back.
func TestRollbackKilledAnywhereIsRepeated(t *testing.T) {
	steps := 0
	for n, more := 0, true; more; n++ {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			b := newBench(t)
			b.stageAll()
			if err := apply(b); err != nil {
				t.Fatal(err)
			}
			if more = b.killed(kindRollback, n); !more {
				steps = n
				return
			}
			if _, err := os.Lstat(b.former + ".new"); errors.Is(err, fs.ErrNotExist) {
				b.want("killed behind its end", first...) // a repeated one would be a second
				return
			}
			if over, err := Rollback(b.now, b.former); err != nil || over == Undone {
				t.Fatalf("%d, %v", over, err)
			}
			b.want("repeated", first...)
			b.clean("repeated")
			if err := rollback(b); err != nil {
				t.Fatal(err)
			}
			b.want("rolled back itself", second...)
		})
	}
	if steps < 12 {
		t.Errorf("killed before %d steps only", steps)
	}
}

// The recovery may be killed as well.
func TestRecoveryKilledAnywhereIsRepeated(t *testing.T) {
	for at := 0; ; at += 3 {
		whole := newBench(t)
		whole.stageThird()
		if !whole.killed(kindApply, at) {
			break
		}
		for n := 0; ; n++ {
			b := newBench(t)
			b.stageThird()
			b.killed(kindApply, at)
			if !b.killed(kindApply, n) {
				break
			}
			if _, err := Apply(b.staged, b.now, b.former); err != nil && !errors.Is(err, ErrNothing) {
				t.Fatalf("killed at %d, and again at %d: %v", at, n, err)
			}
			b.want(fmt.Sprintf("killed at %d, and again at %d", at, n), "logforward.cfg rate = 3", "forwarders.d/a.yaml log: a3", "forwarders.d/b.yaml log: b")
			if err := rollback(b); err != nil {
				t.Fatal(err)
			}
			b.want("rolled back", first...)
		}
	}
}

// What is staged while the end of an interrupted apply is missing isn't lost.
func TestSetStagedSinceIsNotLost(t *testing.T) {
	b := newBench(t)
	b.stageAll()
	for n := 0; ; n++ {
		b = newBench(t)
		b.stageAll()
		if !b.killed(kindApply, n) {
			t.Fatal("never killed between the two renames")
		}
		_, kept := os.Lstat(b.former + ".new")
		if _, err := os.Lstat(b.staged + spent); kept == nil && err == nil {
			break
		}
	}
	b.stageThird()
	if over, err := Apply(b.staged, b.now, b.former); err != nil || over != Done {
		t.Fatalf("%d, %v", over, err)
	}
	b.want("both", third...)
	if err := rollback(b); err != nil {
		t.Fatal(err)
	}
	b.want("before the second", second...)
}

// Of two at once one is refused, and the other's change is whole.
func TestTwoAtOnce(t *testing.T) {
	b := newBench(t)
	b.stageAll()
	inside, leave := make(chan struct{}), make(chan struct{})
	result := make(chan error)
	go func() {
		once := false
		_, err := (&change{now: b.now, former: b.former, at: func(string) {
			if !once {
				once = true
				close(inside)
				<-leave
			}
		}}).run(kindApply, b.staged)
		result <- err
	}()
	<-inside
	for _, f := range []func(*bench) error{apply, rollback} {
		if err := f(b); !errors.Is(err, ErrBusy) {
			t.Errorf("a second one: %v", err)
		}
	}
	close(leave)
	if err := <-result; err != nil {
		t.Fatal(err)
	}
	b.want("the first", second...)
	if err := rollback(b); err != nil {
		t.Fatal(err)
	}
	b.want("rolled back", first...)
}

// A full disk changes nothing, and what was staged can be applied when there is room.
func TestFullDiskChangesNothing(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can mount a small file system")
	}
	for _, where := range []string{"etc", "."} {
		t.Run(where, func(t *testing.T) {
			b := newBench(t)
			small := filepath.Join(b.dir, "small")
			if err := os.Mkdir(small, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=512k"); err != nil {
				t.Skipf("no small file system: %v", err)
			}
			t.Cleanup(func() {
				if err := unix.Unmount(small, 0); err != nil {
					t.Error(err)
				}
			})
			b.now = Set{Settings: small + "/etc/logforward.cfg", Definitions: small + "/etc/forwarders.d", Policy: small + "/etc/rego/logforward.rego"}
			if where == "." {
				b.former = small + "/former"
			}
			if err := os.CopyFS(small+"/etc", os.DirFS(b.dir+"/etc")); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(b.dir + "/etc"); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(small+"/etc", b.dir+"/etc"); err != nil { // where want looks
				t.Fatal(err)
			}
			b.put("staged/logforward.cfg", "rate = 2")
			b.put("staged/forwarders.d/b.yaml", "log: b")
			b.put("staged/logforward.rego", "package x")
			filler, err := os.Create(small + "/filler")
			if err != nil {
				t.Fatal(err)
			}
			full := int64(0)
			for err == nil {
				var n int
				n, err = filler.Write(make([]byte, 4096))
				full += int64(n)
			}
			if err := filler.Close(); err != nil {
				t.Fatal(err)
			}
			for free := int64(0); ; free += 4096 {
				if err := os.Truncate(filler.Name(), full-free); err != nil {
					t.Fatal(err)
				}
				err := apply(b)
				if err == nil {
					if free == 0 {
						t.Error("the disk wasn't full")
					}
					break
				}
				if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "nothing was changed") {
					t.Fatalf("with %d more bytes free: %v", free, err)
				}
				b.want("on a full disk", first...)
				b.clean("on a full disk")
			}
			b.want("with room", second...)
		})
	}
}

// A set that the settings have no place for changes nothing.
func TestPolicyWithoutAPlaceChangesNothing(t *testing.T) {
	b := newBench(t)
	b.stageAll()
	b.now.Policy = ""
	if err := apply(b); err == nil || !strings.Contains(err.Error(), "no place for logforward.rego") {
		t.Errorf("%v", err)
	}
	b.want("unchanged", first...)
	b.clean("unchanged")
}

// A rollback goes to where the set came from, whatever the settings in force say now.
func TestRollbackKnowsWhereTheSetWas(t *testing.T) {
	b := newBench(t)
	b.stageAll()
	if err := apply(b); err != nil {
		t.Fatal(err)
	}
	now := b.now
	b.now = Set{Settings: b.dir + "/elsewhere/logforward.cfg", Definitions: b.dir + "/elsewhere/d"}
	if err := rollback(b); err != nil {
		t.Fatal(err)
	}
	b.now = now
	b.want("rolled back", first...)
	if _, err := os.Lstat(b.dir + "/elsewhere"); err == nil {
		t.Error("something was put elsewhere")
	}
}
