package tail

import (
	"strings"
	"testing"
)

// positions returns a log with three segments: 0..4 "one\n", 4..8 "two\n" of
// the next file, 8..13 "late\n" of the first, and a file that goes on.
func positions(t *testing.T) *rig {
	r := newRig(t).open()
	r.write("app.log", "one\n")
	r.drain()
	r.rename("app.log", "app.log.1")
	r.write("app.log", "two\n")
	r.drain()
	r.write("app.log.1", "late\n")
	r.drain()
	r.want("one\ntwo\nlate\n")
	return r
}

func TestPositionSeekGivesTheSameSegments(t *testing.T) {
	r := positions(t)
	for from := range uint64(13) {
		r.must(r.log.Seek(from))
		var got []string
		for {
			p, err := r.log.Peek(r.buf)
			r.must(err)
			if len(p.Data) == 0 {
				break
			}
			if p.Position != from+uint64(len(strings.Join(got, ""))) {
				t.Fatalf("piece at %d", p.Position)
			}
			got = append(got, string(p.Data))
			r.must(r.log.Advance(uint64(len(p.Data))))
		}
		want := "one\ntwo\nlate\n"[from:]
		if strings.Join(got, "") != want {
			t.Fatalf("from %d: %q", from, got)
		}
		if from < 4 && len(got) != 3 || from >= 4 && from < 8 && len(got) != 2 {
			t.Fatalf("from %d: %q: other segments than before", from, got)
		}
	}
	if err := r.log.Seek(14); err == nil {
		t.Fatal("sought beyond the end")
	}
	r.must(r.log.Release(5))
	if err := r.log.Seek(4); err == nil {
		t.Fatal("sought below what is released")
	}
	if _, err := r.log.Reread(4, r.buf); err == nil {
		t.Fatal("reread below what is released")
	}
	if err := r.log.Release(14); err == nil {
		t.Fatal("released what was never handed out")
	}
}

func TestPositionRereadKeepsWhatWasPeeked(t *testing.T) {
	r := positions(t)
	r.write("app.log", "three\n")
	p, err := r.log.Peek(r.buf)
	r.must(err)
	if string(p.Data) != "three\n" {
		t.Fatalf("%q", p.Data)
	}
	q, err := r.log.Reread(2, make([]byte, 100))
	r.must(err)
	if string(q.Data) != "e\n" || q.Position != 2 || q.Offset != 2 || q.NewSegment {
		t.Fatalf("%+v: up to the segment's end, no further", q)
	}
	r.must(r.log.Advance(6))
	if r.log.Head() != 19 {
		t.Fatal(r.log.Head())
	}
}

func TestPositionLose(t *testing.T) {
	r := positions(t)
	loss := r.log.Lose(2, 6, "changed")
	if loss.Length != 4 || loss.Bytes != 4 || !loss.Exact || loss.Cause != "changed" {
		t.Fatalf("%+v", loss)
	}
	r.must(r.log.Seek(0))
	var trace []string
	for range 10 {
		p, err := r.log.Peek(r.buf)
		r.must(err)
		n := uint64(len(p.Data))
		if p.Loss != nil {
			n = p.Loss.Length
			trace = append(trace, "loss")
		} else if n == 0 {
			break
		} else {
			trace = append(trace, string(p.Data))
		}
		r.must(r.log.Advance(n))
	}
	if got := strings.Join(trace, "|"); got != "on|loss|o\n|late\n" {
		t.Fatalf("%q", got)
	}
	// Into the middle of a loss: the rest of it.
	r.restart()
	r.must(r.log.Seek(3))
	p, err := r.log.Peek(r.buf)
	r.must(err)
	if p.Loss == nil || p.Loss.Length != 3 || p.Loss.Bytes != 3 {
		t.Fatalf("%+v", p)
	}
	if l := r.log.Lose(13, 99, "x"); l.Length != 0 {
		t.Fatalf("%+v", l)
	}
	// The whole, over the first loss.
	if l := r.log.Lose(0, 99, "x"); l.Length != 13 {
		t.Fatalf("%+v", l)
	}
	r.write("app.log", "three\n")
	r.must(r.log.Seek(13))
	p, err = r.log.Peek(r.buf)
	r.must(err)
	if string(p.Data) != "three\n" || p.Position != 13 {
		t.Fatalf("%+v", p)
	}
	// Peek stood in the range: it begins at the loss.
	r.must(r.log.Advance(6))
	r.must(r.log.Seek(15))
	r.log.Lose(13, 19, "x")
	if r.log.Position() != 13 {
		t.Fatal(r.log.Position())
	}
}

func TestPositionRebase(t *testing.T) {
	r := positions(t)
	r.must(r.log.Rebase(6))
	if r.log.Head() != 7 || r.log.Released() != 0 {
		t.Fatalf("head %d, released %d", r.log.Head(), r.log.Released())
	}
	r.restart()
	r.out, r.pieces = nil, nil
	r.write("app.log", "three\n")
	r.drain()
	r.want("o\nlate\nthree\n")
	if err := r.log.Rebase(99); err == nil {
		t.Fatal("rebased beyond the end")
	}
	r.must(r.log.Rebase(r.log.Head()))
	if r.log.Head() != 0 {
		t.Fatal(r.log.Head())
	}
}

// The state that is saved before the first bytes of a segment are sent binds what
// comes next, whether it was saved before or after Advance.
func TestPositionCrashAfterTheStateWasSaved(t *testing.T) {
	for _, advanced := range []bool{false, true} {
		r := newRig(t).open()
		r.write("app.log", "one\n")
		r.drain()
		r.release()
		r.rename("app.log", "app.log.1")
		r.write("app.log", "two\n")
		r.drain2()
		r.write("app.log.1", "late\n")
		var p Piece
		for p.Data == nil {
			_ = r.log.Look()
			var err error
			p, err = r.log.Peek(r.buf)
			r.must(err)
		}
		if string(p.Data) != "late\n" {
			t.Fatalf("%q", p.Data)
		}
		if advanced {
			r.must(r.log.Advance(5))
		}
		r.save()
		r.crash()
		r.write("app.log", "three\n")
		r.open()
		r.out, r.pieces = nil, nil
		r.drain()
		if string(r.out) != "two\nlate\nthree\n" {
			t.Fatalf("advanced %v: %q", advanced, r.out)
		}
	}
}

// drain2 takes what there is up to "two" and keeps it unconfirmed.
func (r *rig) drain2() {
	r.t.Helper()
	r.drain()
	r.want("one\ntwo\n")
}

// A crash with a state that is older than what was sent of the last segment: its
// bytes come first again, before those of any other file.
func TestPositionCrashWithAnOldState(t *testing.T) {
	r := newRig(t).open()
	r.buf = make([]byte, 10)
	a := lines("a", 100)
	r.write("app.log", a)
	r.step()
	r.save()
	saved := r.state
	for range 50 {
		r.step()
	}
	r.state = saved
	r.crash()
	r.write("app.log", "more\n")
	r.rename("app.log", "app.log.1")
	r.write("app.log", "new\n")
	r.open()
	r.out, r.pieces = nil, nil
	r.drain()
	r.want(a + "more\nnew\n")
}

// The same where an older file was written to meanwhile: what was sent of the last
// segment beyond the state must get its positions again.
func TestPositionCrashContinuesTheLastSegment(t *testing.T) {
	r := newRig(t).open()
	r.write("app.log", "one\n")
	r.drain()
	r.rename("app.log", "app.log.1")
	r.write("app.log", "two\n")
	r.drain()
	r.save()
	r.write("app.log", "sent and not in the state\n")
	r.step()
	r.crash()
	r.write("app.log.1", "late\n")
	r.open()
	r.out, r.pieces = nil, nil
	r.drain()
	r.want("one\ntwo\nsent and not in the state\nlate\n")
}

func TestPositionPendingAndStatus(t *testing.T) {
	r := newRig(t).open()
	r.write("app.log", "0123456789")
	if n := r.log.Pending(); n != 0 {
		t.Fatalf("%d pending before the file was seen", n)
	}
	r.buf = make([]byte, 4)
	r.step()
	if n := r.log.Pending(); n != 6 {
		t.Fatalf("%d pending", n)
	}
	r.must(r.log.Seek(1))
	if n := r.log.Pending(); n != 9 {
		t.Fatalf("%d pending after going back", n)
	}
	s := r.log.Status()
	if s.Position != 1 || len(s.Generations) != 1 || s.Generations[0].State != "live" || s.Error != "" {
		t.Fatalf("%+v", s)
	}
	if r.log.Size() != 10 {
		t.Fatal(r.log.Size())
	}
}

func TestPositionStartRule(t *testing.T) {
	for _, c := range []struct {
		start       Start
		exists      bool
		first, want string
	}{
		{StartBeginning, true, "old\n", "old\nnew\n"},
		{StartEnd, true, "old\n", "new\n"},
		{StartEnd, false, "", "new\n"},
		{"", true, "old\n", "new\n"},
		{StartEnd, true, "", "new\n"},
	} {
		r := newRig(t, func(cfg *Config) { cfg.Start = c.start })
		if c.exists {
			r.write("app.log", c.first)
		}
		r.open()
		r.drain()
		r.release()
		r.restart() // the rule isn't applied a second time
		r.write("app.log", "new\n")
		r.restart()
		r.drain()
		r.want(c.want)
	}
	r := newRig(t, func(cfg *Config) { cfg.Start = "middle" })
	if err := New(r.cfg).Open(State{}); err == nil {
		t.Fatal("unknown start rule accepted")
	}
	r.cfg.Start, r.cfg.Path = "", "relative"
	if err := New(r.cfg).Open(State{}); err == nil {
		t.Fatal("relative path accepted")
	}
	if _, err := New(r.cfg).Peek(nil); err == nil {
		t.Fatal("peeked into a log that isn't open")
	}
}

func TestPositionBeginWithALoss(t *testing.T) {
	r := newRig(t)
	r.write("app.log.1", "not ours\n")
	r.write("app.log", "one\n")
	l := New(r.cfg)
	r.must(l.Begin(1000, &Loss{Cause: "state lost", Length: 7, Bytes: -1}))
	t.Cleanup(func() { _ = l.Close() })
	p, err := l.Peek(r.buf)
	r.must(err)
	if p.Loss == nil || p.Position != 1000 || p.Loss.Length != 7 {
		t.Fatalf("%+v", p)
	}
	r.must(l.Advance(7))
	p, err = l.Peek(r.buf)
	r.must(err)
	if string(p.Data) != "one\n" || p.Position != 1007 || !p.NewSegment {
		t.Fatalf("%+v", p)
	}
	if err := l.Begin(0, nil); err == nil {
		t.Fatal("begun twice")
	}
}

// Bytes that Pending told of are a loss if they are truncated away before they
// were read, and come from the copy if there is one.
func TestPositionPendingIsAPromise(t *testing.T) {
	for _, copied := range []bool{false, true} {
		r := newRig(t)
		r.write("app.log", "")
		r.open()
		r.drain()
		r.write("app.log", "0123456789")
		if n := r.log.Pending(); n != 10 {
			t.Fatalf("%d pending", n)
		}
		if copied {
			r.copy("app.log", "app.log.1")
		}
		r.truncate("app.log")
		r.write("app.log", "new\n")
		r.drain()
		if copied {
			r.want("0123456789new\n")
			r.wantLosses(0)
			continue
		}
		r.want("new\n")
		r.wantLosses(1)
		if l := r.losses[0]; l.Bytes != 10 {
			t.Fatalf("%+v", l)
		}
	}
}

// Given up between Peek and Advance: what was shown came out, the rest is lost.
func TestPositionGivenUpBetweenPeekAndAdvance(t *testing.T) {
	budget := NewBudget(10)
	r := newRig(t, func(c *Config) { c.Budget = budget }).open()
	a := lines("a", 10)
	r.write("app.log", a)
	p, err := r.log.Peek(r.buf[:100])
	r.must(err)
	r.remove("app.log")
	_ = r.log.Look()
	_ = r.log.Look()
	r.out = append(r.out, p.Data...)
	r.must(r.log.Advance(100))
	r.drain()
	if string(r.out) != a[:100] {
		t.Fatalf("got %s", brief(r.out))
	}
	r.wantLosses(1)
	if l := r.losses[0]; l.Bytes != int64(len(a)-100) || l.Length != uint64(l.Bytes) || !l.Exact {
		t.Fatalf("%+v", l)
	}
}
