package tail

import (
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inode sets the inode that the state says, as if the file system had used it again.
func (r *rig) inode(name string) uint64 {
	r.t.Helper()
	at, err := statPath(r.name(name))
	r.must(err)
	return at.ino
}

// The saved inode belongs to another file now: it isn't read on from the old
// offset, and isn't taken for read.
func TestIdentityInodeReuse(t *testing.T) {
	r := newRig(t).open()
	a := lines("a", 50)
	r.write("app.log", a[:1500])
	r.drain()
	r.release()
	r.save()
	r.crash()
	r.write("app.log", a[1500:])
	r.rename("app.log", "app.log.1")
	r.write("app.log", lines("b", 60))
	// As if the live file had got the old one's inode, and the old one had moved.
	r.state.Generations[0].Ino = r.inode("app.log")
	r.open()
	r.drain()
	r.want(a + lines("b", 60))
	r.wantLosses(0)
}

// Two files with equal first kilobytes are told apart by inode and by what
// stands in front of the offset.
func TestIdentityEqualFirstKilobytes(t *testing.T) {
	header := strings.Repeat("the same header in every file\n", 100) // 3,000 bytes
	for _, how := range []string{"plain", "gz"} {
		t.Run(how, func(t *testing.T) {
			r := newRig(t).open()
			r.write("app.log", header+"first\n")
			r.drain()
			r.write("app.log", "more of the first\n")
			r.rename("app.log", "app.log.1")
			r.write("app.log", header+"second, longer than the first\n")
			r.drain()
			want := header + "first\nmore of the first\n" + header + "second, longer than the first\n"
			r.want(want)
			r.release()
			r.save()
			r.crash()
			r.write("app.log", "end of the second\n")
			r.rename("app.log.1", "app.log.2")
			r.rename("app.log", "app.log.1")
			r.pack("app.log.2", how)
			r.pack("app.log.1", how)
			r.write("app.log", header+"third\n")
			r.open()
			r.drain()
			r.want(want + "end of the second\n" + header + "third\n")
			r.wantLosses(0)
		})
	}
}

// The whole file is shorter than the fingerprint, the check, or one comparison.
func TestIdentityShortFiles(t *testing.T) {
	for _, n := range []int{1, 5, 63, 64, 65, 255, 256, 257, 1023, 1024, 1025} {
		r := newRig(t).open()
		a := strings.Repeat("x", n-1) + "\n"
		b := strings.Repeat("y", n-1) + "\n"
		r.write("app.log", a)
		r.drain()
		r.restart()
		r.write("app.log", "more\n")
		r.restart()
		r.drain()
		r.save()
		r.crash()
		r.rename("app.log", "app.log.1")
		r.write("app.log", b)
		r.open()
		r.drain()
		if want := a + "more\n" + b; !strings.HasSuffix(string(r.out), want) || len(r.losses) > 0 {
			t.Fatalf("%d: got %s, losses %v", n, brief(r.out), r.losses)
		}
	}
}

// A small file that is the same as the one before it is a file of its own: a
// header that every file begins with is sent each time.
func TestIdentitySameShortContent(t *testing.T) {
	r := newRig(t).open()
	for i := range 4 {
		r.write("app.log", "header\n")
		r.drain()
		r.release()
		if i%2 == 0 {
			r.restart()
		}
		r.rename("app.log", "app.log."+string(rune('9'-i)))
	}
	r.want(strings.Repeat("header\n", 4))
}

// Small files that begin alike and come and go unseen are all sent.
func TestIdentitySmallFilesThatBeginAlike(t *testing.T) {
	r := newRig(t).open()
	r.write("app.log", "h\n")
	r.drain()
	r.release()
	r.rename("app.log", "app.log.2")
	r.write("app.log.1", "h\n")
	later := time.Now().Add(time.Second) // else both have the same time, as a compressed form has
	r.must(os.Chtimes(r.name("app.log.1"), later, later))
	r.write("app.log", "h\n")
	r.drain()
	r.want("h\nh\nh\n")
	// The same with a generation that is finished.
	r = newRig(t).open()
	r.write("app.log", "h\n")
	r.drain()
	r.release()
	r.remove("app.log")
	r.drain()
	if len(r.log.gens) != 0 || len(r.log.finished) != 1 {
		t.Fatalf("%d generations, %d finished", len(r.log.gens), len(r.log.finished))
	}
	r.write("app.log.1", "h\nother\n")
	r.write("app.log", "x\n")
	r.drain()
	r.want("h\nh\nother\nx\n")
}

// An older file that is written to once more isn't one that came between.
func TestIdentityOlderFileWrittenLate(t *testing.T) {
	r := newRig(t)
	r.write("app.log.1", "old\n")
	born := func(name string) time.Time { return birthOf(unix.AT_FDCWD, r.name(name), 0) }
	if born("app.log.1").IsZero() {
		t.Skip("this file system doesn't say when a file was made")
	}
	tick()
	r.write("app.log", "one\n")
	r.open()
	r.drain()
	r.log.older = nil
	r.write("app.log.1", "old and late\n")
	r.rename("app.log.1", "app.log.2")
	r.rename("app.log", "app.log.1")
	r.write("app.log", "two\n")
	r.drain()
	r.want("one\ntwo\n")
}

// The directory was moved to another file system: other inodes, same content.
func TestIdentityRestoredFromABackup(t *testing.T) {
	r := newRig(t).open()
	a := lines("a", 100)
	r.write("app.log", a)
	r.drain()
	r.release()
	r.save()
	r.crash()
	r.copy("app.log", "tmp")
	r.remove("app.log")
	r.rename("tmp", "app.log")
	r.write("app.log", "more\n")
	r.state.Generations[0].Ino += 1 << 40
	r.state.Generations[0].Dev++
	r.open()
	r.drain()
	r.want(a + "more\n")
	r.wantLosses(0)
}

func TestIdentityResume(t *testing.T) {
	content := lines("a", 300)
	newOne := func(t *testing.T) (*rig, Source) {
		r := newRig(t).open()
		r.write("app.log", content[:5000])
		r.drain()
		src := r.log.Sources()
		if len(src) != 1 || src[0].Offset != 5000 {
			t.Fatalf("%+v", src)
		}
		r.crash()
		r.write("app.log", content[5000:])
		return r, src[0]
	}
	verify := func(t *testing.T, calls *int) func(func([]byte, int64) (int, error)) bool {
		return func(readAt func(p []byte, off int64) (int, error)) bool {
			*calls++
			buf := make([]byte, 4096)
			n, err := readAt(buf, 5000-4096)
			return err == nil && string(buf[:n]) == content[5000-4096:5000]
		}
	}
	for _, how := range []string{"live", "plain", "gz", "zst", "bz2", "xz"} {
		t.Run(how, func(t *testing.T) {
			r, src := newOne(t)
			if how != "live" {
				r.rename("app.log", "app.log.1")
				r.pack("app.log.1", how)
				r.write("app.log", "new\n")
			}
			l := New(r.cfg)
			calls := 0
			r.must(l.Resume(777, src, nil, verify(t, &calls)))
			r.log, r.out, r.pieces = l, nil, nil
			t.Cleanup(func() { _ = l.Close() })
			if l.Position() != 777 || calls == 0 {
				t.Fatalf("position %d, %d calls", l.Position(), calls)
			}
			r.drain()
			want := content[5000:]
			if how != "live" {
				want += "new\n"
			}
			if string(r.out) != want || len(r.losses) > 0 {
				t.Fatalf("got %s, losses %v", brief(r.out), r.losses)
			}
			if got := r.pieces[0]; got.Position != 777 || got.Generation != src.ID || got.Offset != 5000 {
				t.Fatalf("%+v", got)
			}
			r.restart()
			r.out, r.pieces = nil, nil
			r.drain()
			if string(r.out) != want {
				t.Fatalf("after a restart %s", brief(r.out))
			}
		})
	}
	t.Run("refused", func(t *testing.T) {
		r, src := newOne(t)
		l := New(r.cfg)
		isErr(t, l.Resume(0, src, nil, func(func([]byte, int64) (int, error)) bool { return false }), ErrGone)
		isErr(t, l.Resume(0, Source{"nonsense", 0}, nil, nil), ErrGone)
		isErr(t, l.Resume(0, Source{src.ID, -1}, nil, nil), ErrGone)
		isErr(t, l.Resume(0, Source{src.ID, 1 << 40}, nil, nil), ErrGone)
		r.must(l.Begin(0, nil))
		t.Cleanup(func() { _ = l.Close() })
		r.log, r.out, r.pieces = l, nil, nil
		r.drain()
		r.want(content)
	})
	t.Run("file isn't there", func(t *testing.T) {
		r, src := newOne(t)
		r.rename("app.log", "app.log.1")
		l := New(r.cfg)
		r.must(l.Resume(0, src, nil, nil)) // under its rotated name, with no live file
		_ = l.Close()
		r.remove("app.log.1")
		err := New(r.cfg).Resume(0, src, nil, nil)
		isErr(t, err, os.ErrNotExist)
	})
	t.Run("others", func(t *testing.T) {
		r := positions(t) // the last bytes came from the older file
		src := r.log.Sources()
		if len(src) != 2 {
			t.Fatalf("%+v", src)
		}
		r.crash()
		r.write("app.log", "three\n")
		r.write("app.log.1", "later\n")
		for i, want := range []string{"later\nthree\n", "three\nlater\n"} {
			// What the last bytes came from is read on first.
			l := New(r.cfg)
			r.must(l.Resume(13, src[i], src[1-i:2-i], nil))
			t.Cleanup(func() { _ = l.Close() })
			r.log, r.out, r.pieces = l, nil, nil
			r.drain()
			if string(r.out) != want {
				t.Fatalf("%d: %q", i, r.out)
			}
		}
	})
}
