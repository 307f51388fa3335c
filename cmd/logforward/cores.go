package main

import (
	"context"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// frugal keeps the process on one core while that has room to spare, and gives it all while it hasn't, until ctx ends. A server's steps are short: to
// hand each to another thread is a fifth of its work where little comes at a time, and makes nothing sooner. GOMAXPROCS in the environment wins.
func frugal(ctx context.Context) {
	if os.Getenv("GOMAXPROCS") == "" && runtime.GOMAXPROCS(0) > 1 {
		apportion(ctx, coresEvery, spentCPU)
	}
}

func apportion(ctx context.Context, every time.Duration, spentCPU func() time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	c := cores{one: true}
	runtime.GOMAXPROCS(1)
	defer runtime.SetDefaultGOMAXPROCS()
	for at, spent := time.Now(), spentCPU(); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now, total := time.Now(), spentCPU()
		was := c.one
		c.look(now.Sub(at), total-spent)
		at, spent = now, total
		switch { // each change stops the process for a moment
		case c.one && !was:
			runtime.GOMAXPROCS(1)
		case was && !c.one:
			runtime.SetDefaultGOMAXPROCS() // which follows the control group's limit again
		}
	}
}

const (
	coresEvery = 100 * time.Millisecond // how long a sudden load has one core only
	coresCalm  = 10                     // quiet looks in a row before one core must do
)

// cores decides whether one is enough.
type cores struct {
	one  bool
	calm int
}

// look takes what CPU time was spent in the time that passed. A quarter of a core is too much for one: what comes then shall not wait for a thread that is in
// the kernel, writing or syncing. Less than a fifth is little, so that a load in between changes nothing.
func (c *cores) look(passed, spent time.Duration) {
	switch {
	case spent > passed/4:
		c.one, c.calm = false, 0
	case spent > passed/5:
		c.calm = 0
	default:
		if c.calm++; c.calm >= coresCalm {
			c.one = true
		}
	}
}

// spentCPU is what the process has used of all cores.
func spentCPU() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		return 0 // Linux has this clock
	}
	return time.Duration(t.Nano())
}
