package beat

import (
	"sync"
	"time"
)

// AtRest is how many times longer whoever looks again and again waits between two looks where an event comes of all that can happen. All who do so look
// at the same moments, and only for what no event told of after all.
const AtRest = 15

// Ticker ticks at a fixed distance. All tickers of one beat with one distance tick at the same moments, however they were begun: what a process
// does each second wakes it once. Where one distance is several times another, its moments are among the other's. A tick is left out where the last one wasn't taken yet.
type Ticker struct {
	C <-chan time.Time

	runtime *time.Ticker // without a beat
	beat    *Beat
	ticks   chan time.Time

	mu    sync.Mutex
	every time.Duration
	at    time.Duration // from the beat's origin: when the next tick is; 0: it is stopped
}

// NewTicker makes one, which the caller stops. nil for the beat: it is a ticker of the runtime.
func NewTicker(b *Beat, every time.Duration) *Ticker {
	if b == nil {
		t := time.NewTicker(every)
		return &Ticker{C: t.C, runtime: t, every: every}
	}
	c := make(chan time.Time, 1)
	t := &Ticker{C: c, beat: b, ticks: c, every: every}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wait()
	return t
}

// wait has the next tick come. Called with mu.
func (t *Ticker) wait() {
	// Half a moment: a tick may come that much before its time, and is not to come again at it.
	passed := time.Since(t.beat.origin) + t.beat.every/2
	at := (passed/t.every + 1) * t.every
	t.at = at
	t.beat.Wake(t.beat.origin.Add(at), func() { t.fire(at) })
}

// fire ticks, unless it was stopped since, or waits for another moment by now.
func (t *Ticker) fire(at time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.at != at {
		return
	}
	select {
	case t.ticks <- time.Now():
	default:
	}
	t.wait()
}

// Reset has it tick at another distance from now on; with the same one nothing changes.
func (t *Ticker) Reset(every time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.every == every {
		return
	}
	t.every = every
	switch {
	case t.runtime != nil:
		t.runtime.Reset(every)
	case t.at != 0:
		t.wait()
	}
}

// Stop ends the ticks.
func (t *Ticker) Stop() {
	if t.runtime != nil {
		t.runtime.Stop()
		return
	}
	t.mu.Lock()
	t.at = 0
	t.mu.Unlock()
}
