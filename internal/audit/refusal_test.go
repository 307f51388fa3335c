package audit

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// books is a log with a clock of its own.
type books struct {
	*Log
	file string
	at   time.Time
}

func newBooks(t testing.TB, size int64, count int) *books {
	b := &books{file: filepath.Join(t.TempDir(), "audit.log"), at: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	b.Log = New(b.file, "web1.example.net", size, count)
	b.now = func() time.Time { return b.at }
	return b
}

func refusal(caller, log string) Decision {
	return Decision{Action: "pause", Reason: "no rule allows it", Caller: caller, Route: "socket", Inputs: map[string]any{"log": log}}
}

func (b *books) refuse(t testing.TB, caller, log string) {
	t.Helper()
	if err := b.Refuse(refusal(caller, log)); err != nil {
		t.Fatal(err)
	}
}

// The first refusal is written at once, repeats are counted, and a line tells how many there were; none is left out.
func TestRepeatedRefusalsAreCounted(t *testing.T) {
	b := newBooks(t, 0, 0)
	for range 100 {
		b.refuse(t, "up=eve", "app")
	}
	const own = 1 + repeatsOfCaller // that have a line of their own
	if got := lines(t, b.file); len(got) != own || got[0].Count != 1 || got[0].Since != nil {
		t.Fatalf("at once: %+v", got)
	}
	allowed := some("disk")
	if err := b.Record(allowed); err != nil {
		t.Fatal(err)
	}
	first := b.at
	b.at = b.at.Add(firstCount - time.Second)
	if err := b.Tick(); err != nil || len(lines(t, b.file)) != own+1 {
		t.Fatalf("before its time: %v", err)
	}
	b.at = b.at.Add(time.Second)
	if err := b.Tick(); err != nil {
		t.Fatal(err)
	}
	got := lines(t, b.file)[own-1:]
	if len(got) != 3 || !got[1].Allowed || got[1].Count != 1 || got[2].Count != 100-own || !got[2].Since.Equal(first) || got[2].Caller != "up=eve" {
		t.Fatalf("after a minute: %+v", got)
	}
	// Who goes on is told of less often; what is counted at the end is written.
	b.refuse(t, "up=eve", "app")
	b.at = b.at.Add(firstCount)
	if err := b.Tick(); err != nil || len(lines(t, b.file)) != own+2 {
		t.Errorf("the wait doesn't grow: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if got := lines(t, b.file); len(got) != own+3 || got[own+2].Count != 1 {
		t.Errorf("at the end: %+v", got)
	}
}

// However often somebody is refused, under however many names of logs and callers, what was allowed before stays in the
// files, and the lines stand for all that was refused.
func TestRefusalsDoNotPushOutDecisions(t *testing.T) {
	b := newBooks(t, 64<<10, 3)
	defer b.Close()
	if err := b.Record(some("the one that matters")); err != nil {
		t.Fatal(err)
	}
	const n = 20000
	for i := range n {
		b.refuse(t, fmt.Sprintf("up=eve%d", i%7), fmt.Sprintf("app.%d", i/3))
		b.at = b.at.Add(10 * time.Millisecond)
		if i%100 == 0 {
			if err := b.Tick(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	var sum uint64
	kept, all := false, 0
	for _, file := range []string{b.file, b.file + ".1", b.file + ".2", b.file + ".3"} {
		if _, err := os.Stat(file); err != nil {
			continue
		}
		for _, d := range decisions(t, file) {
			if all++; d.Allowed {
				kept = kept || d.Inputs["reason"] == "the one that matters"
				continue
			}
			sum += d.Count
		}
	}
	if !kept || sum != n {
		t.Errorf("the decision is there: %t; %d lines stand for %d refusals of %d", kept, all, sum, n)
	}
}

// A caller's many refusals leave others' apart.
func TestOneCallersRefusalsAreNoOthers(t *testing.T) {
	b := newBooks(t, 0, 0)
	defer b.Close()
	for i := range 1000 {
		b.refuse(t, "up=eve", fmt.Sprintf("app.%d", i))
	}
	b.refuse(t, "up=alice", "app")
	got := decisions(t, b.file)
	if len(got) != kindsOfCaller+2+repeatsOfCaller || got[len(got)-1].Caller != "up=alice" {
		t.Errorf("%d lines", len(got))
	}
}

// Memory is bounded, whoever asks; and nothing is kept of who doesn't come again.
func TestKindsAreBounded(t *testing.T) {
	b := newBooks(t, 0, 0)
	b.Log.file = "/dev/null/none" // nothing is written: this is about what is kept
	for i := range 3 * kindsOfAll {
		if err := b.Refuse(refusal(fmt.Sprintf("up=eve%d", i), "app")); err == nil && i < kindsOfAll {
			t.Fatal("it was written to nowhere")
		}
	}
	if len(b.refusals) > kindsOfAll+1 || len(b.askers) > kindsOfAll+1 {
		t.Errorf("%d kinds of %d callers", len(b.refusals), len(b.askers))
	}
	var sum uint64
	for _, c := range b.refusals {
		sum += c.count
	}
	if sum != 3*kindsOfAll {
		t.Errorf("%d are counted that couldn't be written, of %d", sum, 3*kindsOfAll)
	}
	b.Log.file = filepath.Join(t.TempDir(), "audit.log")
	b.at = b.at.Add(mostCount)
	if err := b.Tick(); err != nil {
		t.Fatal(err)
	}
	b.at = b.at.Add(forget)
	if err := b.Tick(); err != nil || len(b.refusals) > 0 || len(b.askers) > 0 {
		t.Errorf("%d kinds of %d callers are kept, %v", len(b.refusals), len(b.askers), err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

// Whatever the order of refusals, permissions and times, each refusal is in exactly one line, and each permission has its own.
func FuzzRefusals(f *testing.F) {
	f.Add([]byte{0, 0, 0, 255, 1, 2, 3, 200, 0, 7})
	f.Add([]byte("\x00\x40\x80\xc0\xff\x00\x00\x10"))
	f.Fuzz(func(t *testing.T, steps []byte) {
		if len(steps) > 200 {
			return
		}
		b := newBooks(t, 0, 0)
		var refused, allowed uint64
		for _, s := range steps {
			switch s >> 6 {
			case 0, 1:
				b.refuse(t, fmt.Sprint("up=", s&3), fmt.Sprint("app.", s>>2&15))
				refused++
			case 2:
				if err := b.Record(some("x")); err != nil {
					t.Fatal(err)
				}
				allowed++
			default:
				b.at = b.at.Add(time.Duration(s&63) * 20 * time.Second)
				if err := b.Tick(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if refused+allowed == 0 {
			return
		}
		for _, d := range decisions(t, b.file) {
			if d.Count == 0 || d.Count > 1 && (d.Allowed || d.Since == nil) {
				t.Fatalf("%+v", d)
			}
			if d.Allowed {
				allowed--
			} else {
				refused -= d.Count
			}
		}
		if refused != 0 || allowed != 0 {
			t.Fatalf("%d refusals and %d permissions are too few or too many", int64(refused), int64(allowed))
		}
	})
}
