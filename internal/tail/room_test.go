package tail

import (
	"bytes"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// mapped is a file's content, to be written to.
func (r *rig) mapped(name string) []byte {
	r.t.Helper()
	f, err := os.OpenFile(r.name(name), os.O_RDWR, 0)
	r.must(err)
	defer f.Close()
	at, err := f.Stat()
	r.must(err)
	m, err := unix.Mmap(int(f.Fd()), 0, int(at.Size()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	r.must(err)
	return m
}

// hollow makes a file longer by room of so many bytes, and skips the test where the file system keeps no holes.
func (r *rig) hollow(name string, n int64) {
	r.t.Helper()
	at, err := statPath(r.name(name))
	r.must(err)
	r.must(os.Truncate(r.name(name), at.size+n))
	f, err := os.Open(r.name(name))
	r.must(err)
	defer f.Close()
	needHole(r.t, f, at.size+n)
}

// needHole skips the test where the file system keeps no hole at a file's end. It doesn't ask the code that is tested.
func needHole(t *testing.T, f *os.File, size int64) {
	t.Helper()
	if at, err := f.Seek(size-1, unix.SEEK_HOLE); err != nil || at != size-1 {
		t.Skipf("the file system of %s keeps no holes: %d, %v", f.Name(), at, err)
	}
}

// A writer that maps its file makes it longer first, fills it then, and cuts off what is left when it ends. Each line comes when it is written, once, and the
// room never does. No event tells of a line, and no watcher is here that polls.
func TestRoomThatAMappingFillsComesAsItIsFilled(t *testing.T) {
	r := newRig(t, realClock).open()
	r.write("app.log", "one\n")
	r.drained()
	want, at := "one\n", 4
	for range 3 {
		r.hollow("app.log", 64<<10)
		r.log.signal() // the event
		r.drained()
		m := r.mapped("app.log")
		for at+15_000 < len(m) {
			n := copy(m[at:], lines("a", 400)) // also over the borders of pages
			want += string(m[at : at+n])
			at += n
			r.hears(want)
			if p := r.log.Pending(); p != 0 {
				t.Fatalf("%d bytes pending: the room counts", p)
			}
		}
		r.must(unix.Munmap(m))
	}
	r.must(os.Truncate(r.path, int64(at)))
	r.log.signal()
	r.drained()
	r.write("app.log", "last\n")
	r.log.signal()
	r.drained()
	if got := string(r.out); got != want+"last\n" {
		t.Fatal(brief(r.out))
	}
	r.wantLosses(0)
	if s := r.log.Status(); len(s.Generations) != 1 || s.Doubtful != 0 {
		t.Errorf("%+v", s)
	}
}

// What is done to a file with room in it, and what comes of it, the program running or not.
func TestRoomIsNoByteOfTheLog(t *testing.T) {
	a, b := lines("a", 30), lines("b", 200)
	fill := func(r *rig, name string, at int, s string) {
		m := r.mapped(name)
		copy(m[at:], s)
		r.must(unix.Munmap(m))
		r.log.signal()
	}
	for name, c := range map[string]struct {
		do   func(r *rig)
		want string
	}{
		"filled":                 {func(r *rig) { fill(r, "app.log", len(a), b) }, a + b},
		"not filled":             {func(r *rig) {}, a},
		"filled, and more of it": {func(r *rig) { fill(r, "app.log", len(a), b); r.hollow("app.log", 1<<20); r.log.signal() }, a + b},
		"filled twice": {func(r *rig) {
			fill(r, "app.log", len(a), b[:100])
			r.drain()
			fill(r, "app.log", len(a)+100, b[100:])
		}, a + b},
		"cut off": {func(r *rig) { r.must(os.Truncate(r.path, int64(len(a)))); r.log.signal() }, a},
		"cut off, and written to": {func(r *rig) {
			r.must(os.Truncate(r.path, int64(len(a))))
			r.write("app.log", b)
			r.log.signal()
		}, a + b},
		"written behind": {func(r *rig) {
			r.write("app.log", "b\n")
			r.log.signal()
			r.settle()
		}, a + string(make([]byte, 1<<20)) + "b\n"},
		"rotated": {func(r *rig) {
			r.rename("app.log", "app.log.1")
			r.write("app.log", "c\n")
			r.log.signal()
		}, a + "c\n"},
		"filled, and rotated": {func(r *rig) {
			fill(r, "app.log", len(a), b)
			r.rename("app.log", "app.log.1")
			r.write("app.log", "c\n")
			r.log.signal()
		}, a + b + "c\n"},
		"truncated to nothing": {func(r *rig) {
			r.truncate("app.log")
			r.write("app.log", "c\n")
			r.log.signal()
		}, a + "c\n"},
		"filled with two bytes a character": {func(r *rig) {
			fill(r, "app.log", len(a), "h\x00i\x00\n\x00")
			r.drain()
			r.must(os.Truncate(r.path, int64(len(a)+6)))
			r.log.signal()
		}, a + "h\x00i\x00\n\x00"},
		"filled from behind": {func(r *rig) {
			fill(r, "app.log", len(a)+10, b[10:])
			r.drained()
			if string(r.out) != a {
				r.t.Fatalf("%s", brief(r.out))
			}
			fill(r, "app.log", len(a), b)
		}, a + b},
		"filled from behind, and left so": {func(r *rig) {
			fill(r, "app.log", len(a)+10, b[10:])
			r.log.signal()
			r.settle()
		}, a + string(make([]byte, 10)) + b[10:]},
	} {
		for _, down := range []bool{false, true} {
			t.Run(name+map[bool]string{true: ", while down"}[down], func(t *testing.T) {
				r := newRig(t).open()
				r.write("app.log", a)
				r.hollow("app.log", 1<<20)
				r.drain()
				r.want(a)
				r.release()
				r.restart()
				r.drain()
				tick()
				if r.down = down; down {
					r.save()
					r.crash()
				}
				if down && (name == "filled from behind" || name == "truncated to nothing") {
					return // nobody saw the one before the other; what was truncated is a gap then
				}
				c.do(r)
				if r.down = false; down {
					r.open()
				}
				r.drain()
				r.want(c.want)
				r.wantLosses(0)
				if p := r.log.Pending(); p != 0 {
					t.Errorf("%d bytes pending", p)
				}
			})
		}
	}
}

// settle waits until NULs that have data behind them count as bytes.
func (r *rig) settle() {
	if r.down {
		return
	}
	before := len(r.out)
	for deadline := time.Now().Add(time.Minute); len(r.out) == before && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		r.log.signal()
		r.drained()
	}
}

// A log that begins at the end begins where its file is filled.
func TestRoomIsntSkippedByALogThatBeginsAtTheEnd(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Start = StartEnd })
	r.write("app.log", "old\n")
	r.hollow("app.log", 1<<20)
	r.open().drain()
	m := r.mapped("app.log")
	copy(m[4:], "new\n")
	r.must(unix.Munmap(m))
	r.log.signal()
	r.drain()
	r.want("new\n")
}

// Room that is allocated, but that nothing was written to, is room as well.
func TestRoomOfAllocatedBlocks(t *testing.T) {
	r := newRig(t).open()
	r.write("app.log", "one\n")
	f, err := os.OpenFile(r.path, os.O_RDWR, 0)
	r.must(err)
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), 0, 0, 1<<20); err != nil {
		t.Skipf("no such blocks here: %v", err)
	}
	needHole(t, f, 1<<20)
	r.drain()
	r.want("one\n")
	_, err = f.WriteAt([]byte("two\n"), 4)
	r.must(err)
	r.log.signal()
	r.drain()
	r.want("one\ntwo\n")
	r.wantLosses(0)
}

// NULs that were written are bytes, at the end of a file, too.
func TestNULsThatWereWrittenAreNoRoom(t *testing.T) {
	r := newRig(t).open()
	want := "one\n" + string(make([]byte, 3*page-4))
	r.write("app.log", want)
	r.drain()
	r.want(want)
	r.hollow("app.log", 1<<20)
	r.log.signal()
	r.drain()
	r.want(want)
	r.write("app.log", "x")
	r.log.signal()
	r.settle()
	r.want(want + string(make([]byte, 1<<20)) + "x")
	r.wantLosses(0)
}

// NULs that were handed out and are a hole by now, for a version without rooms handed them out or somebody has dug it, stay handed out.
func TestRoomThatWasHandedOutStaysSo(t *testing.T) {
	for name, do := range map[string]func(r *rig){
		"after a restart": func(r *rig) { r.save(); r.crash(); r.dig(); r.open() },
		"seen again":      func(r *rig) { r.dig(); r.must(r.log.changed(r.log.live())) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t).open()
			was := "one\n" + string(make([]byte, 16*page-4))
			r.write("app.log", was)
			r.drain()
			r.want(was)
			r.release()
			do(r)
			r.drain()
			r.want(was)
			r.wantLosses(0)
			r.hollow("app.log", 16*page)
			m := r.mapped("app.log")
			copy(m[len(was):], "two\n")
			r.must(unix.Munmap(m))
			r.log.signal()
			r.drain()
			r.want(was + "two\n")
			r.wantLosses(0)
		})
	}
}

// dig makes a hole of the file's end.
func (r *rig) dig() {
	r.t.Helper()
	f, err := os.OpenFile(r.path, os.O_RDWR, 0)
	r.must(err)
	defer f.Close()
	if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, page, 15*page); err != nil {
		r.t.Skip(err)
	}
	needHole(r.t, f, 16*page)
}

func TestWrittenEndsBeforeNULsThatMayBeRoom(t *testing.T) {
	for in, want := range map[string]int{
		"": 0, "abc": 3, "\x00": 0, "abc\x00": 3, "a\x00b\x00c": 5, "a\x00\x00\x00b": 5, "a\x00\x00\x00\x00b": 1, "\x00\x00\x00\x00b": 0, "\x00b": 2, "a\x00b\x00\x00": 3,
	} {
		if got := written([]byte(in)); got != want {
			t.Errorf("%q: %d, want %d", in, got, want)
		}
	}
	if got := written(bytes.Repeat([]byte("a\x00"), 1000)); got != 1999 {
		t.Error(got)
	}
}
