package forward

import (
	"testing"
	"time"
)

func TestWindowFollowsTheRoundTrip(t *testing.T) {
	for name, c := range map[string]struct {
		limits    Limits
		roundTrip time.Duration
		want      int64
	}{
		"at once":             {Limits{Window: 16 << 20, ChunkSize: 512 << 10}, 0, 4 << 20},
		"a region away":       {Limits{Window: 16 << 20, ChunkSize: 512 << 10}, 10 * time.Millisecond, 6 << 20},
		"an ocean away":       {Limits{Window: 16 << 20, ChunkSize: 512 << 10}, 100 * time.Millisecond, 16 << 20},
		"no answer":           {Limits{Window: 1 << 30, ChunkSize: 512 << 10}, 2 * time.Second, 404 << 20},
		"a small one":         {Limits{Window: 64 << 10, ChunkSize: 512 << 10}, time.Second, 64 << 10},
		"chunks that are big": {Limits{Window: 1 << 30, ChunkSize: 8 << 20}, 0, 64 << 20},
	} {
		if got := windowAt(&c.limits, c.roundTrip); got != c.want {
			t.Errorf("%s: %d bytes, want %d", name, got, c.want)
		}
	}
}

// Who waits for a place gets it when the window grows, and what is under way when it shrinks isn't counted twice.
func TestWindowChangesItsSize(t *testing.T) {
	w := newWindow(4)
	if ok, _ := w.take(4, nil); !ok {
		t.Fatal("the whole window wasn't free")
	}
	granted := false
	if ok, _ := w.take(2, func() { granted = true }); ok {
		t.Fatal("more than the window")
	}
	w.resize(6)
	if !granted {
		t.Fatal("a larger window let nobody in")
	}
	w.resize(3)
	w.give(2)
	if ok, turn := w.take(1, func() {}); ok {
		t.Fatal("4 of 3 bytes are taken, and more was given")
	} else {
		w.cancel(turn)
	}
	w.give(4)
	if n := w.inUse(); n != 0 {
		t.Fatalf("%d bytes in use after all came back", n)
	}
	if ok, _ := w.take(3, nil); !ok {
		t.Fatal("the smaller window isn't free")
	}
}

func TestForwardUsesASmallWindowNearby(t *testing.T) {
	const whole = 1 << 30
	n := newNode(t, newCentre(t))
	n.change = func(cfg *Config) { cfg.Limits.Window = whole }
	n.start(n.log("app"))
	var l *link
	eventually(t, "a destination", func() bool {
		n.engine.mu.Lock()
		defer n.engine.mu.Unlock()
		l = n.engine.links["central"]
		return l != nil
	})
	size := func() int64 {
		l.window.mu.Lock()
		defer l.window.mu.Unlock()
		return l.window.size
	}
	eventually(t, "a window that fits a broker on this machine", func() bool { return size() < whole })
	n.c.end()
	l.window.resize(whole)
	n.c.start()
	eventually(t, "one that fits the next connection", func() bool { return size() < whole })
}
