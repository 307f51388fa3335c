package tail

import (
	"os"
	"testing"
	"time"
)

func TestDeleteWhileBehindIsHeld(t *testing.T) {
	budget := NewBudget(1 << 20)
	r := newRig(t, func(c *Config) { c.Budget = budget }).open()
	r.buf = make([]byte, 100)
	a := lines("a", 100)
	r.write("app.log", a)
	r.step()
	r.remove("app.log")
	r.write("app.log", "new\n")
	r.step()
	if r.log.Look(); budget.Held() != int64(len(a)) {
		t.Fatalf("%d bytes held, want all %d: none is confirmed", budget.Held(), len(a))
	}
	r.must(r.log.Release(150))
	r.must(r.log.Look())
	if want := int64(len(a) - 150); budget.Held() != want {
		t.Fatalf("%d bytes held, want %d", budget.Held(), want)
	}
	r.drain()
	r.want(a + "new\n")
	r.release()
	r.must(r.log.Look())
	if budget.Held() != 0 {
		t.Fatalf("%d bytes held after all was confirmed", budget.Held())
	}
	if n := len(r.log.gens); n != 1 {
		t.Fatalf("%d generations: nobody writes to the deleted file, it should be closed", n)
	}
}

// A deleted file that somebody still writes to is read on.
func TestDeleteStillWritten(t *testing.T) {
	r := newRig(t).open()
	r.write("app.log", "one\n")
	f, err := os.OpenFile(r.path, os.O_APPEND|os.O_WRONLY, 0)
	r.must(err)
	r.drain()
	r.release()
	r.remove("app.log")
	r.write("app.log", "two\n")
	r.drain()
	r.release()
	_, err = f.WriteString("late\n")
	r.must(err)
	r.drain()
	r.release()
	r.want("one\ntwo\nlate\n")
	if n := len(r.log.gens); n != 2 {
		t.Fatalf("%d generations", n)
	}
	r.must(f.Close())
	r.drain()
	if n := len(r.log.gens); n != 1 {
		t.Fatalf("%d generations after the writer closed it", n)
	}
}

func TestDeleteBeyondTheBudget(t *testing.T) {
	budget := NewBudget(5000)
	r := newRig(t, func(c *Config) { c.Budget = budget }).open()
	other := newRig(t, func(c *Config) { c.Budget = budget }).open()
	r.buf = make([]byte, 1000)
	a, b := lines("a", 100), lines("b", 100) // 3,600 bytes each
	r.write("app.log", a)
	r.step()
	r.remove("app.log")
	r.write("app.log", "new\n")
	_ = r.log.Look()
	other.write("app.log", b)
	_ = other.log.Look()
	other.remove("app.log")
	other.write("app.log", "new\n")
	_ = other.log.Look()
	// The older one is let go: its log is woken and reports it.
	select {
	case <-r.log.Wake():
	case <-time.After(time.Minute):
		t.Fatal("log wasn't woken")
	}
	r.must(r.log.Look())
	r.drain()
	r.want(a[:1000] + "new\n")
	r.wantLosses(1)
	if l := r.losses[0]; l.Bytes != int64(len(a)-1000) || !l.Exact || l.Length != uint64(l.Bytes) || l.Cause != "deleted beyond the budget" {
		t.Fatalf("%+v", l)
	}
	if budget.Held() != int64(len(b)) {
		t.Fatalf("%d bytes held", budget.Held())
	}
	_, err := r.log.Reread(0, r.buf)
	isErr(t, err, ErrGone)
	other.drain()
	other.want(b + "new\n")
	other.wantLosses(0)
	r.restart()
	r.out, r.losses, r.pieces = nil, nil, nil
	r.drain()
	r.wantLosses(2) // what was handed out and not confirmed, and what was never read
}

func TestDeleteDirectoryAndMakeItAgain(t *testing.T) {
	r := newRig(t)
	r.path = r.name("sub/app.log")
	r.cfg.Path = r.path
	r.open()
	r.drain()
	isErr(t, r.err, os.ErrNotExist)
	r.must(os.Mkdir(r.name("sub"), 0o755))
	r.write("sub/app.log", "one\n")
	r.drain()
	r.write("sub/app.log", "two\n")
	r.must(os.RemoveAll(r.name("sub")))
	r.drain()
	isErr(t, r.err, os.ErrNotExist)
	r.must(os.Mkdir(r.name("sub"), 0o755))
	r.write("sub/app.log", "three\n")
	r.drain()
	r.want("one\ntwo\nthree\n")
	r.wantLosses(0)
	r.release()
	r.restart()
	r.write("sub/app.log", "four\n")
	r.drain()
	r.want("one\ntwo\nthree\nfour\n")
}

// Who has a deleted file open writes its last words and closes it, and then the rest is confirmed: nobody looked in between.
func TestDeletedFilesLastWords(t *testing.T) {
	r := newRig(t).open()
	f, err := os.Create(r.path)
	r.must(err)
	_, err = f.WriteString("first\n")
	r.must(err)
	r.drain()
	r.remove("app.log")
	r.drain()
	_, err = f.WriteString("last words\n")
	r.must(err)
	r.must(f.Close())
	r.release()
	r.drain()
	r.want("first\nlast words\n")
	r.wantLosses(0)
}

// A deleted file is let go of that somebody may still write to.
func TestDeletedFileBeyondTheBudgetThatIsWrittenTo(t *testing.T) {
	for _, open := range []bool{true, false} {
		r := newRig(t, func(c *Config) { c.Budget = NewBudget(100) }).open()
		f, err := os.Create(r.path)
		r.must(err)
		_, err = f.WriteString(lines("a", 10))
		r.must(err)
		r.drain()
		if !open {
			r.must(f.Close())
		}
		r.remove("app.log")
		r.drain()
		if open {
			_, err = f.WriteString("last words\n")
			r.must(err)
			r.must(f.Close())
		}
		r.drain()
		r.want(lines("a", 10))
		r.wantLosses(map[bool]int{true: 1}[open])
		if open && (r.losses[0].Bytes != -1 || r.losses[0].Exact) {
			t.Fatalf("%+v", r.losses[0])
		}
	}
}
