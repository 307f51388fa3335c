package main

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

// What lives must leave the collector room below the limit, and when it is gone the limit is the old one.
func TestTheMemoryLimitStaysAboveWhatLives(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	const least = 32 << 20
	stop := limitMemory(least)
	defer debug.SetMemoryLimit(before)
	defer stop()
	if got := debug.SetMemoryLimit(-1); got != least {
		t.Fatalf("limit %d at the start", got)
	}
	until := func(what string, is func(int64) bool) {
		t.Helper()
		deadline := time.Now().Add(time.Minute)
		for !is(debug.SetMemoryLimit(-1)) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: the limit is %d", what, debug.SetMemoryLimit(-1))
			}
			runtime.GC()
			time.Sleep(time.Millisecond)
		}
	}
	const size = 64 << 20
	held := make([]byte, size)
	until("64 MiB live", func(limit int64) bool { return limit >= size*3/2 })
	runtime.KeepAlive(held)
	held = nil
	until("nothing lives", func(limit int64) bool { return limit < size })
}
