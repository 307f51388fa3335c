package beat

import (
	"sync/atomic"
	"testing"
	"time"
)

func start(t *testing.T, every time.Duration) *Beat {
	t.Helper()
	b, err := New(every)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func TestEachWaiterIsWokenAtItsMoment(t *testing.T) {
	b := start(t, 2*time.Millisecond)
	type woken struct{ due, at time.Time }
	all := make(chan woken, 300)
	for i := range 100 {
		for _, ahead := range []time.Duration{0, 3 * time.Millisecond, time.Duration(i) * time.Millisecond / 3} {
			due := b.Near(time.Now().Add(ahead))
			b.Wake(due, func() { all <- woken{due, time.Now()} })
		}
	}
	for range 300 {
		select {
		case w := <-all:
			if w.at.Before(w.due) {
				t.Fatalf("woken %s before its moment", w.due.Sub(w.at))
			}
		case <-time.After(time.Minute):
			t.Fatal("not woken")
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) != 0 || b.armed != 0 {
		t.Errorf("%d wait, armed for %d: it beats though nobody waits", len(b.waiting), b.armed)
	}
}

// Who waits for later is neither woken nor forgotten by an earlier moment, and the other way round.
func TestAnEarlierMomentComesFirst(t *testing.T) {
	b := start(t, time.Millisecond)
	var late atomic.Bool
	b.Wake(time.Now().Add(time.Hour), func() { late.Store(true) })
	soon := make(chan struct{}, 1)
	for range 5 {
		b.Wake(time.Now().Add(time.Millisecond), func() { soon <- struct{}{} })
		select {
		case <-soon:
		case <-time.After(time.Minute):
			t.Fatal("not woken")
		}
	}
	b.mu.Lock()
	if len(b.waiting) != 1 || b.armed != b.waiting[0].moment || late.Load() {
		t.Errorf("%d wait, armed for %d", len(b.waiting), b.armed)
	}
	b.mu.Unlock()
}

func TestMomentsAreOneDistanceApart(t *testing.T) {
	b := start(t, 2*time.Millisecond)
	for offset, want := range map[time.Duration]time.Duration{
		-time.Hour: 0, 0: 0, 999 * time.Microsecond: 0, time.Millisecond: 2 * time.Millisecond,
		2100 * time.Microsecond: 2 * time.Millisecond, 3 * time.Second: 3 * time.Second,
	} {
		if got := b.Near(b.origin.Add(offset)).Sub(b.origin); got != want {
			t.Errorf("%s: near %s, want %s", offset, got, want)
		}
	}
	if _, err := New(0); err == nil {
		t.Error("a beat without distance was made")
	}
}

func TestNobodyIsWokenAfterClose(t *testing.T) {
	b := start(t, time.Millisecond)
	var woken atomic.Bool
	b.Wake(time.Now().Add(time.Hour), func() { woken.Store(true) })
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b.Wake(time.Now(), func() { woken.Store(true) })
	if woken.Load() || len(b.waiting) != 0 {
		t.Error("woken after Close")
	}
}
