package tail

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"logforward/internal/logrotate"
)

// turner runs the real logrotate with a configuration of its own.
type turner struct {
	*rig
	conf string
}

// turned begins a rig whose rotated files go by options, each on a line of its own. reads: the log knows the configuration.
func turned(t *testing.T, reads bool, options ...string) *turner {
	t.Helper()
	if _, err := os.Stat(logrotateProgram); err != nil {
		t.Skipf("%s isn't installed", logrotateProgram)
	}
	r := &turner{rig: newRig(t)}
	r.conf = filepath.Join(t.TempDir(), "logrotate.conf")
	r.must(os.Chmod(r.dir, 0o755))
	r.must(os.Mkdir(r.name("old"), 0o755))
	if reads {
		r.cfg.Olddirs = logrotate.New(r.conf, nil).Olddirs
	}
	r.configure(options...)
	return r
}

func (r *turner) configure(options ...string) {
	r.t.Helper()
	r.must(os.WriteFile(r.conf, fmt.Appendf(nil, "%s {\n\tsu root root\n\trotate 20\n\t%s\n}\n", r.path, strings.Join(options, "\n\t")), 0o644))
}

func (r *turner) rotate() {
	r.t.Helper()
	if out, err := exec.Command(logrotateProgram, "-f", "-s", r.conf+".state", r.conf).CombinedOutput(); err != nil {
		r.t.Fatalf("logrotate: %v: %s", err, out)
	}
}

// age makes rotated files that are dated by the second older, as logrotate refuses to write to one that exists.
func (r *turner) age() {
	r.t.Helper()
	old, _ := filepath.Glob(r.name("old/app.log-*"))
	for _, path := range old {
		var n int64
		_, err := fmt.Sscanf(strings.TrimPrefix(path, r.name("old/app.log-")), "%d", &n)
		r.must(err)
		r.must(os.Rename(path, strings.Replace(path, fmt.Sprint(n), fmt.Sprint(n-10), 1)))
	}
}

var olddirOptions = [][]string{
	{"create", "olddir old"},
	{"create", "olddir DIR/old"},
	{"nocreate", "olddir old"},
	{"create", "olddir old", "compress"},
	{"create", "olddir old", "compress", "delaycompress"},
	{"create", "olddir old", "dateext", "dateformat -%s"},
	{"create", "olddir old", "dateext", "dateformat -%s", "compress"},
	{"create", "olddir old", "renamecopy"},
	{"copytruncate", "olddir old"},
	{"copytruncate", "olddir old", "compress"},
}

// Rotations that nobody saw, some of files that were never opened, while the log runs and while it is down.
func TestOlddirUnseenRotations(t *testing.T) {
	for _, options := range olddirOptions {
		for _, mode := range []string{"running", "down"} {
			for _, reads := range []bool{true, false} {
				for times := 1; times <= 3; times++ {
					name := strings.Join(options, " ")
					copied := strings.Contains(name, "copy")
					if !reads && copied {
						continue // a copy tells nobody where it is: see TestOlddirOnAnotherFileSystem
					}
					t.Run(fmt.Sprintf("%s/%s/configured=%v/%d", name, mode, reads, times), func(t *testing.T) {
						t.Parallel()
						r := turned(t, reads)
						var mine []string
						for _, o := range options {
							mine = append(mine, strings.Replace(o, "DIR", r.dir, 1))
						}
						r.configure(mine...)
						first := lines("first", 50)
						r.write("app.log", first[:1000])
						r.open()
						r.drain()
						want := first
						r.release()
						if mode == "down" {
							r.save()
							r.crash()
						}
						r.write("app.log", first[1000:])
						if copied && mode == "running" {
							r.drain() // what is truncated between two looks nobody can see
						}
						for i := range times {
							r.age()
							r.rotate()
							s := lines(fmt.Sprint("generation ", i), 40+i)
							want += s
							r.write("app.log", s)
						}
						if mode == "down" {
							r.out, r.pieces = []byte(first[:1000]), nil
							r.open()
						}
						r.drain()
						if string(r.out) != want {
							t.Fatalf("got %s\nwant %s\nlosses %+v\nlast error %v", brief(r.out), brief([]byte(want)), r.losses, r.err)
						}
						r.wantLosses(0)
						// None of them comes again.
						r.release()
						r.restart()
						r.age()
						r.rotate()
						r.write("app.log", "the end\n")
						r.drain()
						if string(r.out) != want+"the end\n" {
							t.Fatalf("got %s\nwant %s", brief(r.out), brief([]byte(want+"the end\n")))
						}
						r.wantLosses(0)
					})
				}
			}
		}
	}
}

// The file that was open was empty: it has nothing to be known by but its inode.
func TestOlddirAfterAnEmptyFile(t *testing.T) {
	r := turned(t, false, "create", "olddir old")
	r.write("app.log", "")
	r.open()
	r.save()
	r.crash()
	want := lines("a", 50)
	r.write("app.log", want)
	r.rotate()
	r.rotate()
	r.write("app.log", "b\n")
	r.open()
	r.drain()
	r.want(want + "b\n")
	r.wantLosses(0)
}

// What was learnt of the directory outlives the files that it was learnt from.
func TestOlddirIsRemembered(t *testing.T) {
	r := turned(t, false, "create", "olddir old")
	r.write("app.log", lines("a", 50))
	r.open()
	r.drain()
	r.rotate()
	r.drain()
	r.release()
	r.now = r.now.Add(2 * time.Hour)
	r.must(r.log.Look())
	r.restart()
	r.write("app.log", "")
	r.drain()
	r.out = nil
	r.save()
	r.crash()
	if got := r.state.Dirs; len(got) != 1 || got[0] != r.name("old") {
		t.Fatalf("%q are remembered", got)
	}
	// The one that was open is gone with its directory's help: only the state tells where to look for the others.
	r.must(os.Remove(r.path))
	r.write("app.log", "b\n")
	r.rotate()
	r.write("app.log", "c\n")
	r.open()
	r.drain()
	r.want("b\nc\n")
}

// It is configured while the log is followed.
func TestOlddirAppearsLater(t *testing.T) {
	for _, reads := range []bool{true, false} {
		r := turned(t, reads, "create")
		a, b, c := lines("a", 50), lines("b", 50), lines("c", 50)
		r.write("app.log", a)
		r.open()
		r.drain()
		r.rotate()
		r.write("app.log", b)
		r.drain()
		r.configure("create", "olddir new", "createolddir 755 root root")
		time.Sleep(time.Second) // what was read of the configuration counts for so long
		r.rotate()
		r.write("app.log", c)
		r.rotate()
		r.write("app.log", "end\n")
		r.drain()
		r.want(a + b + c + "end\n")
		r.wantLosses(0)
	}
}

// Copies go to another file system; there are two unseen ones and the file that was open.
func TestOlddirOnAnotherFileSystem(t *testing.T) {
	other, err := os.MkdirTemp("/dev/shm", "olddir")
	if err != nil {
		t.Skipf("no other file system: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(other) })
	if a, err := statPath(other); err != nil {
		t.Fatal(err)
	} else if b, err := statPath(t.TempDir()); err != nil || a.dev == b.dev {
		t.Skip("the temporary directory is on the file system of /dev/shm")
	}
	for _, how := range []string{"renamecopy", "copytruncate"} {
		t.Run(how, func(t *testing.T) {
			dir, err := os.MkdirTemp(other, "")
			if err != nil {
				t.Fatal(err)
			}
			r := turned(t, true, how, "olddir "+dir)
			r.must(os.Chmod(dir, 0o755))
			r.cfg.Allowed = allow(t, r.dir+"/**", dir+"/**")
			a, b, c := lines("a", 50), lines("b", 50), lines("c", 50)
			r.write("app.log", a[:1000])
			r.open()
			r.drain()
			r.release()
			r.save()
			r.crash()
			r.write("app.log", a[1000:])
			r.rotate()
			r.write("app.log", b)
			r.rotate()
			r.write("app.log", c)
			r.open()
			r.out, r.pieces = nil, nil
			r.drain()
			if want := a[1000:] + b + c; string(r.out) != want {
				t.Fatalf("got %s\nwant %s\nlosses %+v", brief(r.out), brief([]byte(want)), r.losses)
			}
			r.wantLosses(0)
		})
	}
}

// What is a link, or lies behind one, isn't opened, whoever says that it is the directory.
func TestOlddirHostileLinks(t *testing.T) {
	for _, how := range []string{"directory", "file", "swapped"} {
		t.Run(how, func(t *testing.T) {
			r := newRig(t)
			secret := t.TempDir()
			inside := r.name("others") // permitted, but not the log's
			r.must(os.Mkdir(inside, 0o755))
			r.cfg.Olddirs = func(string) []string { return []string{r.name("old")} }
			r.write("app.log", "a\n")
			r.open()
			r.drain()
			switch how {
			case "directory": // out of what is permitted
				r.must(os.Symlink(secret, r.name("old")))
			case "file":
				r.must(os.Mkdir(r.name("old"), 0o755))
				r.must(os.Symlink(filepath.Join(secret, "app.log.1"), r.name("old/app.log.1")))
				r.must(os.Symlink(filepath.Join(inside, "app.log.1"), r.name("old/app.log.2")))
			case "swapped":
				// It was seen to be the directory, and is a link by now.
				r.must(os.Mkdir(r.name("old"), 0o755))
				r.rename("app.log", "old/app.log.3")
				r.write("app.log", "b\n")
				r.drain()
				r.rename("old", "gone")
				r.must(os.Symlink(inside, r.name("old")))
				r.cfg.Olddirs = nil
				r.log.cfg.Olddirs = nil
				if len(r.log.dirs) != 1 {
					t.Fatalf("%q", r.log.dirs)
				}
			}
			r.must(os.WriteFile(filepath.Join(secret, "app.log.1"), []byte(lines("secret", 50)), 0o644))
			r.must(os.WriteFile(filepath.Join(inside, "app.log.1"), []byte(lines("other", 50)), 0o644))
			r.rename("app.log", "app.log.1")
			r.write("app.log", "end\n")
			r.drain()
			looked := r.log.elsewhere(r.log.whereabouts())
			if slices.Contains(looked, secret) || slices.Contains(looked, inside) {
				t.Errorf("%q are looked at", looked)
			}
			// As it is where the link comes between listing and opening.
			c := &candidate{path: r.name("old/app.log.1"), strict: true}
			if ok, err := c.open(allow(t, "/**")); ok || err != nil {
				t.Errorf("a link is opened: %v, %v", ok, err)
			}
			list, err := r.log.candidates(nil)
			r.must(err)
			for _, c := range list {
				if dir := filepath.Dir(c.path); dir != r.dir && dir != r.name("gone") { // where the directory itself went
					t.Errorf("%s is a candidate", c.path)
				}
			}
			r.release()
			r.restart()
			r.drain()
			for _, s := range []string{"secret", "other"} {
				if strings.Contains(string(r.out), s) {
					t.Fatalf("%q was read", r.out)
				}
			}
			if !strings.HasSuffix(string(r.out), "end\n") {
				t.Fatalf("%q", r.out)
			}
			r.wantLosses(0)
		})
	}
}

// A link in the configuration's path is followed if what it leads to is permitted.
func TestOlddirByALinkOfTheConfiguration(t *testing.T) {
	r := newRig(t)
	r.must(os.Mkdir(r.name("disk"), 0o755))
	r.must(os.Symlink(r.name("disk"), r.name("old")))
	r.cfg.Olddirs = func(string) []string { return []string{r.name("old")} }
	r.write("app.log", "a\n")
	r.open()
	r.drain()
	r.release()
	r.save()
	r.crash()
	r.rename("app.log", "disk/app.log.2")
	r.write("disk/app.log.1", "b\n")
	r.write("app.log", "c\n")
	r.open()
	r.drain()
	r.want("a\nb\nc\n")
	r.wantLosses(0)
}

// Policy's refusal of what was rotated away is a loss that is said.
func TestOlddirRefusedIsAGap(t *testing.T) {
	r := newRig(t)
	r.must(os.Mkdir(r.name("old"), 0o755))
	r.cfg.Allowed = r.cfg.Allowed.Also(func(real string) error {
		if filepath.Dir(real) != r.dir {
			return ErrNotPermitted
		}
		return nil
	})
	r.write("app.log", "a\n")
	r.open()
	r.drain()
	r.rename("app.log", "old/app.log.2")
	r.write("old/app.log.1", "b\n")
	r.write("app.log", "c\n")
	r.drain()
	r.want("a\nc\n")
	r.wantLosses(1)
	r.rename("app.log", "app.log.1")
	r.write("app.log", "d\n")
	r.drain()
	r.wantLosses(1) // once
}

// Of thousands of files none is opened that can't be one that was missed.
func TestOlddirOfThousands(t *testing.T) {
	r := newRig(t)
	r.must(os.Mkdir(r.name("old"), 0o755))
	past := time.Now().Add(-time.Hour)
	for i := range 1500 {
		name := r.name(fmt.Sprintf("old/app.log.%d", i+2))
		r.must(os.WriteFile(name, []byte("old\n"), 0o644))
		r.must(os.Chtimes(name, past, past))
		r.must(os.WriteFile(r.name(fmt.Sprintf("old/other-%d.log.1", i)), []byte("other\n"), 0o644))
	}
	r.write("app.log", lines("a", 50))
	r.open()
	r.drain()
	opened := 0
	r.log.cfg.Allowed = r.cfg.Allowed.Also(func(real string) error {
		if filepath.Dir(real) == r.name("old") {
			opened++
		}
		return nil
	})
	r.rename("app.log", "old/app.log.5000")
	r.write("old/app.log.1", "b\n")
	r.write("app.log", "c\n")
	r.drain()
	r.want(lines("a", 50) + "b\nc\n")
	if opened != 1 {
		t.Errorf("%d files were opened to find one", opened)
	}
	// While it is down, too.
	r.release()
	r.save()
	r.crash()
	r.rename("app.log", "old/app.log.6000")
	r.write("app.log", "d\n")
	opened = 0
	r.cfg.Allowed = r.log.cfg.Allowed
	r.open()
	r.drain()
	r.want(lines("a", 50) + "b\nc\nd\n")
	if opened > 2 {
		t.Errorf("%d files were opened to find one again", opened)
	}
}

// A damaged state's directories are refused.
func TestOlddirStateIsChecked(t *testing.T) {
	for _, dirs := range [][]string{{"old"}, {"/a/../b"}, {"/a", "/b", "/c", "/d", "/e"}} {
		r := newRig(t)
		if err := New(r.cfg).Open(State{Version: stateVersion, Dirs: dirs}); err == nil {
			t.Errorf("%q is taken over", dirs)
		}
	}
}
