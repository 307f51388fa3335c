package beat

import (
	"testing"
	"time"
)

// Tickers that were begun at different times come at the same moments, which wakes the process once for all.
func TestTickersTickTogether(t *testing.T) {
	const every = 50 * time.Millisecond
	b := start(t, 2*time.Millisecond)
	one := NewTicker(b, every)
	defer one.Stop()
	<-one.C
	<-b.after(every / 3)
	two := NewTicker(b, every)
	defer two.Stop()
	for range 3 {
		for _, tick := range []*Ticker{one, two} {
			select {
			case <-tick.C:
			case <-time.After(time.Minute):
				t.Fatal("no tick")
			}
		}
		b.mu.Lock()
		for _, w := range b.waiting {
			if w.moment != b.waiting[0].moment || w.moment*int64(b.every)%int64(every) != 0 {
				t.Errorf("they wait for moments %d and %d", b.waiting[0].moment, w.moment)
			}
		}
		b.mu.Unlock()
	}
}

func (b *Beat) after(d time.Duration) <-chan struct{} {
	c := make(chan struct{})
	b.Wake(time.Now().Add(d), func() { close(c) })
	return c
}

func TestAStoppedTickerTicksNoMore(t *testing.T) {
	b := start(t, time.Millisecond)
	tick := NewTicker(b, 5*time.Millisecond)
	<-tick.C
	tick.Stop()
	tick.Stop()
	<-b.after(20 * time.Millisecond)
	<-b.after(20 * time.Millisecond)
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) != 0 {
		t.Errorf("%d still wait", len(b.waiting))
	}
}

func TestWithoutABeatATickerIsTheRuntimes(t *testing.T) {
	tick := NewTicker(nil, time.Millisecond)
	defer tick.Stop()
	select {
	case <-tick.C:
	case <-time.After(time.Minute):
		t.Fatal("no tick")
	}
}
