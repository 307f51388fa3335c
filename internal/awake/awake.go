// Package awake measures time in tests of what is promised within a time, so that a machine that has much else to do breaks none of them.
package awake

import (
	"context"
	"sync/atomic"
	"testing"
	"time"
)

// step is what one turn counts for.
const step = 2 * time.Millisecond

// Watch counts the turns that this process gets. Time in which it stood still, or others had the processors, isn't counted.
type Watch struct {
	turns atomic.Int64
	end   context.CancelFunc
	done  chan struct{}
}

// Begin starts one, which ends with the test or before.
func Begin(t testing.TB) *Watch {
	ctx, cancel := context.WithCancel(t.Context())
	w := &Watch{end: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		for ctx.Err() == nil {
			time.Sleep(step)
			w.turns.Add(1)
		}
	}()
	t.Cleanup(w.End)
	return w
}

// End ends it; it may be called again.
func (w *Watch) End() {
	w.end()
	<-w.done
}

// Took is how long the process was awake up to now or the end: never more than the time that has passed.
func (w *Watch) Took() time.Duration { return time.Duration(w.turns.Load()) * step }
