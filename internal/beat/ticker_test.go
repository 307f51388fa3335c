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

// A ticker that goes slower, and then faster again, ticks at the moments of each distance and never twice at one.
func TestAResetTickerTicksAtItsNewDistance(t *testing.T) {
	const every = 20 * time.Millisecond
	b := start(t, time.Millisecond)
	tick := NewTicker(b, every)
	defer tick.Stop()
	<-tick.C
	at := func() time.Duration {
		tick.mu.Lock()
		defer tick.mu.Unlock()
		return tick.at
	}
	tick.Reset(time.Hour)
	if at()%time.Hour != 0 {
		t.Fatalf("the next tick is after %s", at())
	}
	<-b.after(3 * every)
	select {
	case <-tick.C:
		t.Fatal("a tick of the former distance came")
	default:
	}
	for range 3 { // what waited for the same moment before must not make it tick again
		tick.Reset(time.Hour)
		tick.Reset(every)
	}
	next := at()
	<-tick.C
	<-b.after(0)
	if got := at(); got <= next || got%every != 0 {
		t.Fatalf("the tick after %s is to come after %s", next, got)
	}
	tick.Reset(every) // nothing changes
	select {
	case <-tick.C:
	case <-time.After(time.Minute):
		t.Fatal("no tick")
	}
	tick.Stop()
	tick.Reset(2 * every)
	if at() != 0 {
		t.Fatal("a stopped ticker waits for its next tick")
	}
	plain := NewTicker(nil, time.Hour)
	defer plain.Stop()
	plain.Reset(time.Millisecond)
	select {
	case <-plain.C:
	case <-time.After(time.Minute):
		t.Fatal("no tick without a beat")
	}
}
