package forward

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff doubles from first to most; half of each wait is chance, so that a
// fleet doesn't come back in one wave.
type backoff struct {
	first, most time.Duration
	failures    int
}

func (b *backoff) next() time.Duration {
	d := b.most
	if b.failures < 20 {
		d = min(b.first<<b.failures, b.most)
		b.failures++
	}
	return d/2 + rand.N(d/2+1)
}

func (b *backoff) reset() { b.failures = 0 }

// sleep waits; false: ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
