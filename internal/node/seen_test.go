package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"logforward/internal/control"
)

// A request that somebody kept takes effect once: whichever way it comes, whoever sends it, also after a restart.
func TestARequestTakesEffectOnce(t *testing.T) {
	b := newBench(t)
	b.define("nginx.yaml", nginx)
	b.open()
	ctx := t.Context()
	var refused []string
	b.node.config.Refused = func(c control.Caller, r control.Request, err error) {
		refused = append(refused, c.Name+" "+r.Verb+" "+r.Log)
	}
	first := alice()
	b.must(b.node.Pause(ctx, first, control.PauseRequest{Log: "nginx"}))
	b.must(b.node.Resume(ctx, alice(), control.ResumeRequest{Log: "nginx"}))
	again := first
	again.Route = "wish"
	if _, err := b.node.Pause(ctx, again, control.PauseRequest{Log: "nginx"}); !errors.Is(err, control.ErrRefused) || !strings.Contains(err.Error(), "took effect") {
		t.Errorf("by another route: %v", err)
	}
	again.Name = "choria=mallory.mcollective"
	if _, err := b.node.Stop(ctx, again, control.StopRequest{Log: "nginx"}); !errors.Is(err, control.ErrRefused) {
		t.Errorf("as another's: %v", err)
	}
	if len(refused) != 2 || refused[1] != "choria=mallory.mcollective stop nginx" {
		t.Errorf("told of %q", refused)
	}
	b.now = b.now.Add(time.Minute)
	b.open()
	if _, err := b.node.Pause(ctx, first, control.PauseRequest{Log: "nginx"}); !errors.Is(err, control.ErrRefused) {
		t.Errorf("after a restart: %v", err)
	}
	b.want("not paused", "nginx access.log end")
	b.now = b.now.Add(time.Hour) // the agent itself takes none that is as old as this
	b.open()
	b.must(b.node.Pause(ctx, alice(), control.PauseRequest{Log: "nginx"}))
	if n := len(b.node.requests.known); n != 1 {
		t.Errorf("%d are remembered for ever", n)
	}
}

// One that is sent again while the daemon is away waits as a wish, and may wait for longer than it was good for.
func TestARequestThatComesAgainAsAWishTakesNoEffect(t *testing.T) {
	b := newBench(t)
	b.define("nginx.yaml", nginx)
	b.open()
	first, other := alice(), alice()
	b.must(b.node.Pause(t.Context(), first, control.PauseRequest{Log: "nginx"}))
	b.must(b.node.Resume(t.Context(), alice(), control.ResumeRequest{Log: "nginx"}))
	b.now = b.now.Add(2 * time.Hour)
	b.open()
	first.Route, other.Route = control.RouteWish, control.RouteWish
	b.must(b.node.Resume(t.Context(), other, control.ResumeRequest{Log: "nginx"}))
	if _, err := b.node.Pause(t.Context(), first, control.PauseRequest{Log: "nginx"}); !errors.Is(err, control.ErrRefused) {
		t.Errorf("%v", err)
	}
	b.want("not paused", "nginx access.log end")
	b.must(b.node.Pause(t.Context(), alice(), control.PauseRequest{Log: "nginx"}))
	if n := len(b.node.requests.known); n != 2 { // this one, and the wish
		t.Errorf("%d are remembered", n)
	}
}

// What took no effect may be asked again: a wish that had to wait is the same request.
func TestARequestWithoutEffectMayComeAgain(t *testing.T) {
	b := newBench(t)
	b.open()
	c := alice()
	if _, err := b.node.Pause(t.Context(), c, control.PauseRequest{Log: "nginx"}); !errors.Is(err, control.ErrUnknownLog) {
		t.Fatal(err)
	}
	b.define("nginx.yaml", nginx)
	b.open()
	if r := b.must(b.node.Pause(t.Context(), c, control.PauseRequest{Log: "nginx"})); !r.Changed {
		t.Errorf("%+v", r)
	}
}

// Many at once with one id: one of them is done.
func TestOneOfManyWithOneIDIsDone(t *testing.T) {
	b := newBench(t)
	b.define("nginx.yaml", nginx)
	b.open()
	c := alice()
	var mu sync.Mutex
	done := 0
	var group sync.WaitGroup
	for i := range 20 {
		group.Go(func() {
			r, err := b.node.Pause(context.Background(), c, control.PauseRequest{Log: "nginx", For: control.Duration(i+1) * hour})
			if err == nil && r.Changed {
				mu.Lock()
				done++
				mu.Unlock()
			}
		})
	}
	group.Wait()
	if done != 1 {
		t.Errorf("%d took effect", done)
	}
}

// One caller can fill their own share alone, and every memory has an end.
func TestRememberedRequestsAreBounded(t *testing.T) {
	b := newBench(t)
	b.open()
	r, now := b.node.requests, b.now
	for i := range maxSeenOf {
		if _, err := r.take(control.Caller{Name: "up=mallory", RequestID: fmt.Sprint(i), TTL: 3600}, now); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.check(control.Caller{Name: "up=mallory", RequestID: "more", TTL: 60}, now); !errors.Is(err, control.ErrBusy) {
		t.Errorf("%v", err)
	}
	if err := r.check(control.Caller{Name: "up=alice", RequestID: "one", TTL: 60}, now); err != nil {
		t.Errorf("another is locked out: %v", err)
	}
	if err := r.check(control.Caller{Name: "up=mallory", RequestID: "more", TTL: 60}, now.Add(2*time.Hour)); err != nil {
		t.Errorf("for ever: %v", err)
	}
	if _, err := r.take(control.Caller{Name: "up=alice", RequestID: "one", TTL: 60}, now.Add(2*time.Hour)); err != nil || len(r.known) != 1 {
		t.Errorf("%d remembered, %v", len(r.known), err)
	}
}
