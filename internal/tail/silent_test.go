package tail

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What is written without an event that comes here is seen at the next poll all the same, though inotify works for the file and the poll asks no path.
func TestWhatIsWrittenWithoutAnEventIsSeenAtTheNextPoll(t *testing.T) {
	for name, silent := range map[string]func(r *rig) (write func(s string)){
		"by another name in another directory": func(r *rig) func(string) {
			r.must(os.Mkdir(r.name("other"), 0o755))
			r.must(os.Link(r.path, r.name("other/name")))
			return func(s string) { r.write("other/name", s) }
		},
		"by a name that it was given later": func(r *rig) func(string) {
			r.must(os.Mkdir(r.name("other"), 0o755))
			return func(s string) {
				_ = os.Link(r.path, r.name("other/later"))
				r.write("other/later", s)
			}
		},
		"by another name, and its time put back": func(r *rig) func(string) {
			r.must(os.Mkdir(r.name("other"), 0o755))
			r.must(os.Link(r.path, r.name("other/name")))
			return func(s string) {
				at, err := statPath(r.path)
				r.must(err)
				r.write("other/name", s)
				r.touch("other/name", at.mtime)
			}
		},
		"through an overlay on its directory": func(r *rig) func(string) {
			merged := overlayOn(r.t, r.dir)
			return func(s string) {
				f, err := os.OpenFile(filepath.Join(merged, "app.log"), os.O_APPEND|os.O_WRONLY, 0)
				r.must(err)
				_, err = f.WriteString(s)
				r.must(cmp.Or(err, f.Close()))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := local(t)
			w := newWatcher(t, WatcherConfig{Poll: -1})
			r := newRig(t, realClock, func(c *Config) {
				c.Path, c.Allowed, c.Watcher = filepath.Join(dir, "app.log"), allow(t, dir+"/**"), w
			})
			r.dir, r.path = dir, filepath.Join(dir, "app.log")
			r.write("app.log", "one\n")
			r.open()
			r.await("one\n")
			write, want := silent(r), "one\n"
			p := &pollings{mounts: &mounts{-1}}
			calm := func() {
				t.Helper()
				for deadline := time.Now().Add(time.Minute); ; {
					r.drained()
					if p.restful && len(r.log.Wake()) == 0 {
						p.glances = 0
						return
					}
					if time.Now().After(deadline) {
						t.Fatal("the poll doesn't rest")
					}
					p.glances = relaxed
					w.round(p)
				}
			}
			calm()
			for i := range 3 {
				s := fmt.Sprintf("%d: a line of its own\n", i)
				w.remove(w.add(r.name("another.log"), func() {})) // others come and go
				write(s)
				want += s
				calmed := w.sweeps
				tick() // times of files go in steps
				w.round(p)
				if w.sweeps != calmed {
					t.Fatal("all paths were looked at")
				}
				select {
				case <-r.log.Wake():
				default:
					t.Fatal("not woken")
				}
				r.await(want)
				calm()
			}
			r.wantLosses(0)
		})
	}
}

// drained takes what there is, without waiting.
func (r *rig) drained() {
	for r.step() {
	}
}

// overlayOn mounts an overlay whose upper layer is a directory: what containers write to lies below /var/lib, and is written through such a one.
func overlayOn(t *testing.T, upper string) (merged string) {
	t.Helper()
	dir := t.TempDir()
	merged = filepath.Join(dir, "merged")
	lower, work := filepath.Join(dir, "lower"), upper+".work" // on the upper one's file system
	t.Cleanup(func() { _ = os.RemoveAll(work) })
	for _, d := range []string{lower, merged, work} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mount("overlay", merged, "overlay", 0, "lowerdir="+lower+",upperdir="+upper+",workdir="+work); err != nil {
		t.Skipf("no overlay here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(merged, unix.MNT_DETACH) })
	return merged
}

// What other processes write by names of theirs is told by events where the file is theirs and ours alike: bind mounts, of a file alone, too, other mount
// namespaces, and the way through /proc to them.
func TestEventsComeOfOtherNamespacesNames(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounts are for root")
	}
	for name, do := range map[string]string{
		"a directory of theirs":        `mount --bind "$1" "$2" && echo more >> "$2/app.log"`,
		"a file of theirs":             `: > "$2/own" && mount --bind "$1/app.log" "$2/own" && echo more >> "$2/own"`,
		"their root, through /proc":    `echo more >> "/proc/self/root$1/app.log"`,
		"their descriptor":             `exec 3>>"$1/app.log" && echo more >> /proc/self/fd/3`,
		"a link in their namespace":    `ln -s "$1/app.log" "$2/link" && echo more >> "$2/link"`,
		"longer, and then overwritten": `truncate -s +5 "$1/app.log" && printf 'more\n' | dd of="$1/app.log" bs=1 seek=4 conv=notrunc 2>/dev/null`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := local(t)
			w := newWatcher(t, WatcherConfig{Poll: -1})
			r := newRig(t, realClock, func(c *Config) {
				c.Path, c.Allowed, c.Watcher = filepath.Join(dir, "app.log"), allow(t, dir+"/**"), w
			})
			r.dir, r.path = dir, filepath.Join(dir, "app.log")
			r.write("app.log", "one\n")
			r.open()
			r.await("one\n")
			for len(r.log.Wake()) > 0 {
				<-r.log.Wake()
			}
			cmd := exec.Command("sh", "-c", do, "sh", dir, t.TempDir())
			cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Skipf("%v: %s", err, out)
			}
			r.hears("one\nmore\n")
		})
	}
}

// What is mounted over a directory, or over a file, is read from the next poll on; and what was there before goes on when it is unmounted.
func TestMountsAreSeenAtTheNextPoll(t *testing.T) {
	for name, over := range map[string]string{"a directory on the way": ".", "the directory": "d", "the file": "d/app.log"} {
		t.Run(name, func(t *testing.T) {
			dir := local(t)
			w := newWatcher(t, WatcherConfig{Poll: -1})
			r := newRig(t, realClock, func(c *Config) {
				c.Path, c.Allowed, c.Watcher = filepath.Join(dir, "at/d/app.log"), allow(t, dir+"/**"), w
			})
			r.dir, r.path = filepath.Join(dir, "at"), filepath.Join(dir, "at/d/app.log")
			other := filepath.Join(dir, "other")
			r.must(cmp.Or(os.MkdirAll(r.name("d"), 0o755), os.MkdirAll(filepath.Join(other, "d"), 0o755)))
			r.write("d/app.log", "one\n")
			r.must(os.WriteFile(filepath.Join(other, "d/app.log"), []byte("other\n"), 0o644))
			told := make(chan struct{}, 1)
			defer w.Directory(r.name("d"), true, kicks(told)).Close()
			r.open()
			r.await("one\n")
			p := &pollings{mounts: openMounts()}
			defer p.mounts.close()
			calm := func() {
				for !p.restful || p.glances == 0 {
					w.round(p)
					r.drained()
				}
				drain(w, told)
			}
			calm()
			for _, step := range []struct {
				do   func() error
				what string
			}{
				{func() error { return unix.Mount(filepath.Join(other, over), r.name(over), "", unix.MS_BIND, "") }, "mounted"},
				{func() error { return unix.Unmount(r.name(over), 0) }, "unmounted"},
			} {
				if err := step.do(); err != nil {
					t.Skipf("no bind mount here: %v", err)
				}
				if step.what == "mounted" {
					t.Cleanup(func() { _ = unix.Unmount(r.name(over), unix.MNT_DETACH) })
				}
				w.round(p)
				select {
				case <-told:
				default:
					t.Errorf("%s: who asks for the directory isn't told", step.what)
				}
				select {
				case <-r.log.Wake():
					r.log.signal()
				default:
					t.Fatalf("%s: not woken", step.what)
				}
				r.drained()
				if step.what == "mounted" {
					r.await("one\nother\n")
				}
				p.glances = relaxed
				calm()
			}
			r.write("d/app.log", "two\n")
			r.await("one\nother\ntwo\n")
			r.wantLosses(0)
		})
	}
}
