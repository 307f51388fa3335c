package tail

import (
	"os"
	"testing"
)

func TestTruncateCaughtUpStartsANewGeneration(t *testing.T) {
	r := newRig(t).open()
	r.write("app.log", "one\n")
	r.drain()
	r.truncate("app.log")
	r.drain()
	r.write("app.log", "two\n")
	r.drain()
	r.want("one\ntwo\n")
	r.wantLosses(0)
	ids := map[string]bool{}
	for _, p := range r.pieces {
		ids[p.Generation] = true
	}
	if len(ids) != 2 {
		t.Fatalf("generations %v", ids)
	}
}

func TestTruncateBehindIsALoss(t *testing.T) {
	r := newRig(t).open()
	r.buf = make([]byte, 100)
	a := lines("a", 50)
	r.write("app.log", a)
	for range 3 {
		r.step()
	}
	r.truncate("app.log")
	r.write("app.log", "b\n")
	r.drain()
	r.want(a[:300] + "b\n")
	r.wantLosses(1)
	loss := r.losses[0]
	if loss.Bytes != int64(len(a)-300) || loss.Exact || loss.Length != uint64(loss.Bytes) || loss.Cause != "truncated" {
		t.Fatalf("%+v", loss)
	}
	// What was read before is gone now, and says so.
	_, err := r.log.Reread(0, make([]byte, 10))
	isErr(t, err, ErrGone)
	// Going back gives the same positions as losses, then the rest as before.
	r.must(r.log.Seek(100))
	p, err := r.log.Peek(r.buf)
	r.must(err)
	if p.Loss == nil || p.Position != 100 || p.Loss.Length != 200 {
		t.Fatalf("%+v", p)
	}
	r.restart()
	r.must(r.log.Seek(300))
	r.out, r.pieces, r.losses = nil, nil, nil
	r.drain()
	if string(r.out) != "b\n" || len(r.losses) != 1 {
		t.Fatalf("%q %v", r.out, r.losses)
	}
}

// Truncated before the first byte was read: size alone tells it.
func TestTruncateUnreadIsALoss(t *testing.T) {
	r := newRig(t).open()
	r.write("app.log", lines("a", 50))
	r.must(r.log.Look())
	r.truncate("app.log")
	r.write("app.log", "b\n")
	r.drain()
	r.want("b\n")
	r.wantLosses(1)
}

// Cut in the middle: what is left comes, what was cut off is a loss.
func TestTruncateInTheMiddle(t *testing.T) {
	r := newRig(t).open()
	r.buf = make([]byte, 100)
	a := lines("a", 50)
	r.write("app.log", a)
	r.step()
	r.must(os.Truncate(r.path, 500))
	r.drain()
	r.write("app.log", "b\n")
	r.drain()
	r.want(a[:500] + "b\n")
	r.wantLosses(1)
	if got := r.losses[0].Bytes; got != int64(len(a)-500) {
		t.Fatal(got)
	}
}

// Same size, other bytes.
func TestTruncateRewrittenToTheSameSize(t *testing.T) {
	r := newRig(t).open()
	r.write("app.log", "aaaa\n")
	r.drain()
	r.truncate("app.log")
	r.write("app.log", "bbbb\n")
	r.write("app.log", "cccc\n")
	r.drain()
	r.want("aaaa\nbbbb\ncccc\n")
}

// A network file system's cache shows the file as shorter than it is.
func TestTruncateFalseAlarm(t *testing.T) {
	r := newRig(t).open()
	a := lines("a", 100)
	r.write("app.log", a)
	r.drain()
	var lies int
	r.log.statAt = func(g *generation, at info) info {
		if lies > 0 {
			lies--
			at.size = 10
		}
		return at
	}
	lies = 1
	r.drain()
	lies = 1
	r.write("app.log", "b\n")
	r.drain()
	r.want(a + "b\n")
	r.wantLosses(0)
	if r.log.shrinks != 2 {
		t.Errorf("%d false alarms, want 2", r.log.shrinks)
	}
	if n := len(r.log.gens); n != 1 {
		t.Errorf("%d generations", n)
	}
}

func TestTruncateWhileDown(t *testing.T) {
	r := newRig(t).open()
	a := lines("a", 50)
	r.write("app.log", a)
	r.drain()
	r.release()
	r.save()
	r.crash()
	r.truncate("app.log")
	r.write("app.log", "b\n")
	r.open()
	r.out, r.pieces = nil, nil
	// A crash: more may have been sent than the state says. So there is a loss
	// in any case, and the caller can lay it up to what it had reserved.
	p, err := r.log.Peek(r.buf)
	r.must(err)
	if p.Loss == nil || p.Loss.Bytes != -1 || p.Position != uint64(len(a)) {
		t.Fatalf("%+v", p)
	}
	r.must(r.log.Advance(p.Loss.Length))
	r.must(r.log.AdvanceTo(1 << 20))
	r.drain()
	if string(r.out) != "b\n" {
		t.Fatalf("%q", r.out)
	}
	if p := r.pieces[len(r.pieces)-1]; p.Position != 1<<20 {
		t.Fatalf("position %d", p.Position)
	}
	r.restart()
	if err := r.log.AdvanceTo(2 << 20); err == nil {
		t.Fatal("AdvanceTo without a loss")
	}
}
