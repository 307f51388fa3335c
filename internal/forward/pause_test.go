package forward

import (
	"encoding/json"
	"sync/atomic"
	"testing"
	"time"

	"logforward/internal/chunk"
)

func TestForwardGivesNoticeOfThePauseWithTheBytesThatWait(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	n.change = func(cfg *Config) { cfg.Limits.SyncInterval = time.Hour } // hellos tell nothing
	n.append("app", []byte("one\n"))
	n.start(n.log("app"))
	n.delivered("app", []byte("one\n"))

	p := c.press(chunk.Pause{Since: time.Now(), By: "ops"}, 0)
	c.tell(chunk.Control{Pause: &p})
	c.obeyed("notice of the pause", func(o chunk.Obeyed) bool { return o == chunk.Obeyed{Change: 1, Paused: true} })
	if d := n.engine.Destinations(); len(d) != 1 || d[0].Pause == nil || d[0].Pause.By != "ops" || !d[0].PauseEnds.IsZero() {
		t.Errorf("%+v", d)
	}
	n.append("app", []byte("two\n"))
	c.tell(chunk.Control{Pause: &p}) // asked again: counted again
	c.obeyed("notice of what waits", func(o chunk.Obeyed) bool { return o == chunk.Obeyed{Change: 1, Paused: true, Waiting: 4} })

	// One that was overtaken on its way changes nothing, and is answered.
	late := chunk.Pause{Change: 0}
	before := 0
	c.with(func() { before = len(c.heard) })
	c.tell(chunk.Control{Pause: &late})
	eventually(t, "another notice", func() (ok bool) { c.with(func() { ok = len(c.heard) > before }); return ok })
	c.obeyed("the pause still", func(o chunk.Obeyed) bool { return o.Change == 1 && o.Paused })
	if got := c.data("app"); string(got) != "one\n" {
		t.Errorf("published during the pause: %q", got)
	}

	p = c.press(chunk.Pause{}, 0)
	c.tell(chunk.Control{Pause: &p})
	c.obeyed("notice of its end", func(o chunk.Obeyed) bool { return o == chunk.Obeyed{Change: 2} })
	n.delivered("app", []byte("one\ntwo\n"))
}

func TestForwardFleetPauseSurvivesRestartAndEndsByItself(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	// The node's clock is wrong by hours: what is left of the pause counts, not when it ends at the centre.
	var clock atomic.Int64
	clock.Store(int64(-5 * time.Hour))
	n.change = func(cfg *Config) {
		cfg.Now = func() time.Time { return time.Now().Add(time.Duration(clock.Load())) }
	}
	n.append("app", []byte("one\n"))
	n.start(n.log("app"))
	n.delivered("app", []byte("one\n"))
	c.press(chunk.Pause{Since: time.Now(), Until: time.Now().Add(time.Hour), By: "ops"}, time.Hour)
	eventually(t, "paused", func() bool { return n.status("app").State == Paused })
	c.halt() // the broker is away from here on
	n.crash()
	n.append("app", []byte("two\n"))
	// Over the restart the clock was set back: it doesn't last longer for that.
	clock.Store(int64(-10 * time.Hour))
	n.start()
	eventually(t, "paused after the restart", func() bool { return n.status("app").State == Paused })
	d := n.engine.Destinations()
	if left := d[0].PauseEnds.Sub(n.engine.cfg.Now()); left > time.Hour || left < time.Hour-time.Minute {
		t.Errorf("%s are left", left)
	}
	clock.Add(int64(time.Hour)) // the time goes by
	eventually(t, "it ends without a broker", func() bool { return n.engine.Destinations()[0].Pause == nil && n.status("app").State != Paused })
	c.with(func() { c.pause = nil }) // nobody says so
	c.start()
	n.delivered("app", []byte("one\ntwo\n"))
	eventually(t, "hellos say that it is over", func() bool { h := c.lastPause(); return h != nil && h.Change == 1 && !h.Paused })
}

func TestForwardFleetPauseEndsAtItsTime(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	n.change = func(cfg *Config) { cfg.Limits.SyncInterval = time.Hour }
	n.append("app", []byte("one\n"))
	n.start(n.log("app"))
	n.delivered("app", []byte("one\n"))
	const lasts = 300 * time.Millisecond
	began := time.Now()
	p := c.press(chunk.Pause{Since: began, By: "ops"}, lasts)
	c.tell(chunk.Control{Pause: &p})
	c.obeyed("its beginning", func(o chunk.Obeyed) bool { return o.Paused })
	n.append("app", []byte("two\n"))
	c.obeyed("its end, at once", func(o chunk.Obeyed) bool { return o.Change == 1 && !o.Paused })
	if took := time.Since(began); took < lasts-10*time.Millisecond || took > lasts+time.Minute {
		t.Errorf("it took %s", took)
	}
	n.delivered("app", []byte("one\ntwo\n"))
}

// A receiver that hasn't yet read what the node was told directly must not lift the pause; one that was asked with the
// newest number and knows only an older one speaks for a centre that has forgotten.
func TestForwardKnowsALateAnswerFromAForgetfulCentre(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	n.append("app", []byte("one\n"))
	n.start(n.log("app"))
	n.delivered("app", []byte("one\n"))
	var l *link
	for _, l = range n.engine.links {
	}
	l.toldPause(&chunk.Pause{Change: 7, Since: time.Now(), By: "ops"})
	l.answeredPause(&chunk.Pause{Change: 6}, 6) // to a hello of before
	if p, _ := l.paused(); p == nil {
		t.Fatal("lifted by a late answer")
	}
	l.answeredPause(nil, 7)
	if p, _ := l.paused(); p == nil {
		t.Fatal("lifted by a receiver that says nothing")
	}
	l.answeredPause(&chunk.Pause{Change: 6}, 7)
	if p, _ := l.paused(); p != nil {
		t.Fatalf("still %+v", p)
	}
}

// A log whose disk hangs hasn't stopped yet, so the node doesn't say that it has.
func TestForwardSaysNothingBeforeEveryLogHasStopped(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	n.append("app", []byte("one\n"))
	n.start(n.log("app"))
	n.delivered("app", []byte("one\n"))
	hang, free := make(chan struct{}), make(chan struct{})
	n.engine.runs["app"].post(func() { close(hang); <-free })
	<-hang
	p := c.press(chunk.Pause{Since: time.Now(), By: "ops"}, 0)
	c.tell(chunk.Control{Pause: &p})
	eventually(t, "the node to be told", func() bool { return n.engine.Destinations()[0].Pause != nil })
	c.with(func() { // hellos are made by the same link as notices
		for _, o := range c.heard {
			if o.Paused {
				t.Errorf("%+v", o)
			}
		}
	})
	close(free)
	c.obeyed("now it has", func(o chunk.Obeyed) bool { return o.Paused })
}

func TestFleetPauseOfAnOlderStateFile(t *testing.T) {
	t.Parallel()
	s, err := OpenState(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	now := time.Now()
	if h, err := s.fleetPause("central", now); h != nil || err != nil {
		t.Errorf("%+v, %v", h, err)
	}
	for _, c := range []struct {
		name       string
		ends, want time.Time
		left       int64
	}{
		{"without end", time.Time{}, time.Time{}, 0},
		{"half is left", now.Add(time.Minute), now.Add(time.Minute), 120_000},
		{"the clock was set back", now.Add(time.Hour), now.Add(2 * time.Minute), 120_000},
		{"over", now.Add(-time.Hour), now.Add(-time.Hour), 120_000},
	} {
		if err := s.setFleetPause("central", &held{Pause: chunk.Pause{Change: 3, Since: now, Left: c.left}, Ends: c.ends}); err != nil {
			t.Fatal(err)
		}
		h, err := s.fleetPause("central", now)
		if err != nil || !h.Ends.Equal(c.want) || h.Change != 3 {
			b, _ := json.Marshal(h)
			t.Errorf("%s: %s, %v; want %s", c.name, b, err, c.want)
		}
	}
}

// A pause may end right after its effect was looked at: the centre is told all the same.
func TestForwardPauseThatEndsUnseenIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	now := time.Now()
	l := &link{limits: &Limits{SyncInterval: time.Minute}, now: func() time.Time { return now }}
	l.button = &held{Pause: chunk.Pause{Change: 1, Since: now}, Ends: now.Add(time.Second)}
	l.obeyed = &chunk.Obeyed{Change: 1, Paused: true}
	if wait := l.nextTurn(); wait != time.Second {
		t.Errorf("while it holds: %s", wait)
	}
	now = now.Add(time.Second)
	if wait := l.nextTurn(); wait > time.Second {
		t.Errorf("when it has ended: %s", wait)
	}
	l.obeyed = &chunk.Obeyed{Change: 1}
	if wait := l.nextTurn(); wait != time.Hour {
		t.Errorf("when that is known: %s", wait)
	}
}
