package tail

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// What happens to files beside rotation: each is a thing that somebody does to a log.
func TestOddThingsLoseNothingSilently(t *testing.T) {
	a, b := lines("a", 100), lines("b", 100)
	for name, c := range map[string]struct {
		do         func(r *rig)
		want       string
		downLosses int    // while down, where what was read is not found again
		downWant   string // where that is something else
	}{
		"a hard link beside it": {func(r *rig) {
			r.must(os.Link(r.path, r.name("app.log.1")))
			r.write("app.log", b)
		}, a + b, 0, ""},
		"rotated by a hard link": {func(r *rig) {
			r.must(os.Link(r.path, r.name("app.log.1")))
			r.write("app.log", b)
			r.remove("app.log")
			r.write("app.log", "c\n")
		}, a + b + "c\n", 0, ""},
		"a hard link of another file": {func(r *rig) {
			r.write("other", b)
			r.must(os.Link(r.name("other"), r.name("link")))
			r.rename("link", "app.log")
		}, a + b, 1, ""},
		"written through its other name": {func(r *rig) {
			r.must(os.Link(r.path, r.name("another")))
			r.write("another", b)
		}, a + b, 0, ""},
		"a FIFO in its place, and a file again": {func(r *rig) {
			r.write("app.log", b)
			r.rename("app.log", "app.log.1")
			r.must(unix.Mkfifo(r.path, 0o600))
			r.drain()
			r.remove("app.log")
			r.write("app.log", "c\n")
		}, a + b + "c\n", 0, ""},
		"a directory in its place, and a file again": {func(r *rig) {
			r.write("app.log", b)
			r.rename("app.log", "app.log.1")
			r.must(os.Mkdir(r.path, 0o700))
			r.drain()
			r.remove("app.log")
			r.write("app.log", "c\n")
		}, a + b + "c\n", 0, ""},
		"a link in its place, to another permitted file": {func(r *rig) {
			r.write("app.log", "more\n")
			r.rename("app.log", "app.log.1")
			r.write("other", b)
			r.must(os.Symlink("other", r.path))
			r.drain()
			r.write("other", "c\n")
		}, a + "more\n" + b + "c\n", 0, ""},
		"one byte shorter": {func(r *rig) { r.must(os.Truncate(r.path, int64(len(a)-1))) }, a + a[:len(a)-1], 1, ""},
		"one byte shorter, and longer again": {func(r *rig) {
			r.must(os.Truncate(r.path, int64(len(a)-1)))
			r.write("app.log", "b\n")
		}, a + a[:len(a)-1] + "b\n", 1, ""},
		"a hole, and bytes behind it": {func(r *rig) {
			f, err := os.OpenFile(r.path, os.O_WRONLY, 0)
			r.must(err)
			_, err = f.WriteAt([]byte("b\n"), int64(len(a)+5000))
			r.must(err)
			r.must(f.Close())
		}, a + string(make([]byte, 5000)) + "b\n", 0, ""},
		"longer by a hole alone": {func(r *rig) { r.must(os.Truncate(r.path, int64(len(a)+10))) }, a + string(make([]byte, 10)), 0, ""},
		"truncated and written to the same size": {func(r *rig) {
			f, err := os.OpenFile(r.path, os.O_WRONLY|os.O_TRUNC, 0)
			r.must(err)
			_, err = f.WriteString(b)
			r.must(err)
			r.must(f.Close())
		}, a + b, 1, ""},
		"its directory is moved away and back": {func(r *rig) {
			r.write("app.log", b)
			r.must(os.Rename(r.dir, r.dir+".away"))
			r.drain()
			r.must(os.Rename(r.dir+".away", r.dir))
			r.write("app.log", "c\n")
		}, a + b + "c\n", 0, ""},
		"its directory is moved away, and another one made": {func(r *rig) {
			r.write("app.log", b)
			r.must(os.Rename(r.dir, r.dir+".away"))
			r.t.Cleanup(func() { _ = os.RemoveAll(r.dir + ".away") })
			r.must(os.Mkdir(r.dir, 0o755))
			r.write("app.log", "c\n")
		}, a + b + "c\n", 1, a + "c\n"},
		"written through a mapping": {func(r *rig) {
			r.must(os.Truncate(r.path, int64(len(a)+len(b))))
			f, err := os.OpenFile(r.path, os.O_RDWR, 0)
			r.must(err)
			m, err := unix.Mmap(int(f.Fd()), 0, len(a)+len(b), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			r.must(err)
			copy(m[len(a):], b)
			r.must(unix.Munmap(m))
			r.must(f.Close())
		}, a + b, 0, ""},
		"a hole that a mapping fills later": {func(r *rig) {
			r.must(os.Truncate(r.path, int64(len(a)+len(b))))
			r.drain()
			f, err := os.OpenFile(r.path, os.O_RDWR, 0)
			r.must(err)
			m, err := unix.Mmap(int(f.Fd()), 0, len(a)+len(b), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			r.must(err)
			copy(m[len(a):], b)
			r.must(unix.Msync(m, unix.MS_SYNC))
			r.must(unix.Munmap(m))
			r.must(f.Close())
		}, a + b, 0, ""},
	} {
		for _, down := range []bool{false, true} {
			t.Run(name+map[bool]string{true: ", while down"}[down], func(t *testing.T) {
				r := newRig(t).open()
				r.write("app.log", a)
				r.drain()
				r.release()
				r.save()
				tick()
				if r.down = down; down {
					r.crash()
				}
				c.do(r)
				if r.down = false; down {
					r.open()
				}
				r.drain()
				if !down {
					r.want(c.want)
					r.wantLosses(0)
					return
				}
				if c.downWant == "" {
					c.downWant = c.want
				}
				r.want(c.downWant)
				r.wantLosses(c.downLosses)
			})
		}
	}
}

// Permission comes back after the new file was made and rotated away again.
func TestFileThatCantBeReadUntilItIsRotated(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may read anything")
	}
	r := newRig(t).open()
	r.write("app.log", "a\n")
	r.drain()
	r.rename("app.log", "app.log.1")
	r.write("app.log", "b\n")
	r.must(os.Chmod(r.path, 0o200))
	r.drain()
	if r.err == nil {
		t.Fatal("no error")
	}
	r.must(os.Chmod(r.path, 0o600))
	r.drain()
	r.want("a\nb\n")
	r.wantLosses(0)
}
