package main

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

func TestOneCoreWhileThatHasRoom(t *testing.T) {
	var c cores
	for i, step := range []struct {
		spent time.Duration // of 100 ms
		times int
		one   bool
	}{
		{20, coresCalm - 1, false}, // calm for too short a time
		{20, 1, true},
		{23, 20, true},  // in between nothing changes
		{26, 1, false},  // at once
		{23, 20, false}, // as before
		{20, coresCalm - 1, false},
		{23, 1, false}, // the calm begins anew
		{20, coresCalm - 1, false},
		{20, 1, true},
	} {
		for range step.times {
			c.look(100*time.Millisecond, step.spent*time.Millisecond)
		}
		if c.one != step.one {
			t.Fatalf("after step %d: one core is %v", i, c.one)
		}
	}
}

// A process that ends gives the cores back, and an operator's word is left alone.
func TestCoresAreGivenBack(t *testing.T) {
	all := runtime.GOMAXPROCS(0)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	var spent atomic.Int64
	go func() {
		defer close(done)
		apportion(ctx, time.Millisecond, func() time.Duration { return time.Duration(spent.Load()) })
	}()
	until := func(n int) {
		t.Helper()
		deadline := time.Now().Add(time.Minute)
		for runtime.GOMAXPROCS(0) != n {
			if time.Now().After(deadline) {
				t.Fatalf("it runs on %d cores, not %d", runtime.GOMAXPROCS(0), n)
			}
			time.Sleep(time.Millisecond) // the pace of looking
		}
	}
	until(1)
	spent.Add(int64(time.Hour))
	until(all)
	until(1)
	cancel()
	<-done
	until(all)
	t.Setenv("GOMAXPROCS", "7")
	frugal(context.Background()) // or it would never return
}
