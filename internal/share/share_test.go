package share

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Whoever asks while a call runs gets the next one, all of them the same; who asks before it begins shares it.
func TestAResultIsNeverOlderThanTheQuestion(t *testing.T) {
	var c Calls[int]
	var n atomic.Int64
	begun, go1 := make(chan struct{}), make(chan struct{})
	first := c.Ask("dir", func() int { close(begun); <-go1; return int(n.Add(1)) })
	<-begun
	second := c.Ask("dir", func() int { return int(n.Add(1)) })
	third := c.Ask("dir", func() int { return int(n.Add(1)) })
	if first == second || second != third {
		t.Error("a call that runs is shared, or one that waits isn't")
	}
	close(go1)
	for i, call := range []*Call[int]{first, second, third} {
		if v, err := call.Wait(t.Context()); err != nil || v != min(i+1, 2) {
			t.Errorf("call %d: %d, %v", i, v, err)
		}
	}
}

// A call that hangs costs its own key's callers their patience and nobody else anything.
func TestAHangingCallHoldsUpItsOwnKeyAlone(t *testing.T) {
	var c Calls[int]
	hang := make(chan struct{})
	stuck := c.Ask("nfs", func() int { <-hang; return 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := stuck.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if v, err := c.Ask("local", func() int { return 2 }).Wait(t.Context()); v != 2 || err != nil {
		t.Error(v, err)
	}
	close(hang)
	if v, err := stuck.Wait(t.Context()); v != 1 || err != nil {
		t.Error(v, err)
	}
}

// A thousand who ask at once get a few calls, and nothing is kept afterwards.
func TestManyShareAFewCalls(t *testing.T) {
	var c Calls[int]
	var ran atomic.Int64
	begun, hold := make(chan struct{}), make(chan struct{})
	c.Ask("dir", func() int { close(begun); <-hold; return 0 })
	<-begun
	var all sync.WaitGroup
	calls := make([]*Call[int], 1000)
	for i := range calls {
		all.Go(func() { calls[i] = c.Ask("dir", func() int { return int(ran.Add(1)) }) })
	}
	all.Wait()
	close(hold)
	for _, call := range calls {
		if _, err := call.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if ran.Load() != 1 {
		t.Errorf("%d calls", ran.Load())
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		c.mu.Lock()
		left := len(c.keys)
		c.mu.Unlock()
		if left == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d keys are kept", left)
		}
	}
}
