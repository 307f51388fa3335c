package tail

import (
	"os"
	"testing"
	"time"
)

func TestRenameRotationLosesNothing(t *testing.T) {
	r := newRig(t).open()
	a, b := lines("a", 100), lines("b", 100)
	r.write("app.log", a[:1000])
	r.drain()
	r.write("app.log", a[1000:])
	r.rename("app.log", "app.log.1")
	r.write("app.log", b)
	r.drain()
	r.want(a + b)
	r.wantLosses(0)
	r.restart()
	r.write("app.log", "more\n")
	r.out, r.pieces = nil, nil
	r.drain()
	r.want(a + b + "more\n") // nothing was released: all comes again
	r.release()
	r.restart()
	r.out, r.pieces = nil, nil
	r.write("app.log", "end\n")
	r.drain()
	if string(r.out) != "end\n" {
		t.Fatalf("got %q", r.out)
	}
}

// The old file is finished before the new one is begun, and until it has been
// quiet, what is still written to it comes first.
func TestRenameOldFileComesFirst(t *testing.T) {
	r := newRig(t).open()
	r.write("app.log", "one\n")
	r.drain()
	f, err := os.OpenFile(r.path, os.O_APPEND|os.O_WRONLY, 0)
	r.must(err)
	defer f.Close()
	r.now = time.Now() // the file system's clock is asked as well
	r.rename("app.log", "app.log.1")
	r.write("app.log", "three\n")
	if r.step() {
		t.Fatalf("new file was begun before the old one was quiet: %q", r.out)
	}
	r.now = r.now.Add(quietDefault / 2)
	if r.step() {
		t.Fatalf("new file was begun before the quiet time was over: %q", r.out)
	}
	_, err = f.WriteString("two\n")
	r.must(err)
	r.drain()
	r.want("one\ntwo\nthree\n")
}

func TestRenameLateWritesAreSentBehind(t *testing.T) {
	r := newRig(t).open()
	r.write("app.log", "one\n")
	f, err := os.OpenFile(r.path, os.O_APPEND|os.O_WRONLY, 0)
	r.must(err)
	defer f.Close()
	r.drain()
	r.rename("app.log", "app.log.1")
	r.write("app.log", "two\n")
	r.drain()
	_, err = f.WriteString("late\n")
	r.must(err)
	r.drain()
	r.write("app.log", "three\n")
	r.drain()
	want := "one\ntwo\nlate\nthree\n"
	r.want(want)
	if n := len(r.log.State().Segments); n != 4 {
		t.Errorf("%d segments, want 4", n)
	}
	// The same order after a restart.
	r.restart()
	r.out, r.pieces = nil, nil
	r.drain()
	r.want(want)
	// Over a release too, the offsets of both stay.
	r.release()
	_, err = f.WriteString("later\n")
	r.must(err)
	r.restart()
	r.out, r.pieces = nil, nil
	r.drain()
	if string(r.out) != "later\n" {
		t.Fatalf("got %q", r.out)
	}
}

func TestRenameFinishedFileIsClosedAfterLinger(t *testing.T) {
	r := newRig(t).open()
	r.write("app.log", "one\n")
	r.drain()
	r.rename("app.log", "app.log.1")
	r.write("app.log", "two\n")
	r.drain()
	if n := len(r.log.gens); n != 2 {
		t.Fatalf("%d generations", n)
	}
	r.now = r.now.Add(2 * time.Hour)
	r.drain()
	if n := len(r.log.gens); n != 2 {
		t.Fatalf("%d generations: unconfirmed bytes must stay readable", n)
	}
	r.release()
	if n := len(r.log.gens); n != 1 {
		t.Fatalf("%d generations after linger and release", n)
	}
}

func TestRenameBackContinues(t *testing.T) {
	r := newRig(t).open()
	r.write("app.log", "one\n")
	r.drain()
	r.rename("app.log", "elsewhere")
	r.drain()
	isErr(t, r.err, os.ErrNotExist)
	r.rename("elsewhere", "app.log")
	r.write("app.log", "two\n")
	r.drain()
	r.want("one\ntwo\n")
}

func TestRenameManyBetweenTwoLooks(t *testing.T) {
	r := newRig(t).open()
	r.write("app.log", "one\n")
	r.drain()
	r.write("app.log", "one and a half\n")
	r.rename("app.log", "app.log.3")
	r.write("app.log.2", "two\n")
	r.write("app.log.1", "three\n")
	r.write("app.log", "four\n")
	r.drain()
	r.want("one\none and a half\ntwo\nthree\nfour\n")
}
