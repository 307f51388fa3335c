package beat

import (
	"sync"
	"time"
)

// Ticker ticks at a fixed distance. All tickers of one beat with one distance tick at the same moments, however they were begun: what a process
// does each second wakes it once. A tick is left out where the last one wasn't taken yet.
type Ticker struct {
	C    <-chan time.Time
	stop func()
}

// NewTicker makes one, which the caller stops. nil for the beat: it is a ticker of the runtime.
func NewTicker(b *Beat, every time.Duration) *Ticker {
	if b == nil {
		t := time.NewTicker(every)
		return &Ticker{t.C, t.Stop}
	}
	c, ended := make(chan time.Time, 1), make(chan struct{})
	var fire func()
	wait := func() {
		// Half a moment: a tick may come that much before its time, and is not to come again at it.
		passed := time.Since(b.origin) + b.every/2
		b.Wake(b.origin.Add((passed/every+1)*every), fire)
	}
	fire = func() {
		select {
		case <-ended:
			return
		default:
		}
		select {
		case c <- time.Now():
		default:
		}
		wait()
	}
	wait()
	return &Ticker{c, sync.OnceFunc(func() { close(ended) })}
}

// Stop ends the ticks.
func (t *Ticker) Stop() { t.stop() }
