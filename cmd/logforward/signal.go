package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// shutdownTime is how long an ordered shutdown may take.
const shutdownTime = 20 * time.Second

// twin is how soon after a signal the same one is the same: timeout(1) and others send theirs to their child and to its
// whole group, and whoever does that doesn't mean a second one.
const twin = 200 * time.Millisecond

// signals gives a context that the first SIGINT or SIGTERM ends. The second, or a shutdown
// that takes too long, ends the process where it stands: whatever is not confirmed then is
// sent again after the next start.
func signals(parent context.Context, errw io.Writer) (ctx context.Context, end func()) {
	ctx, cancel := context.WithCancel(parent)
	c := make(chan os.Signal, 2)
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM)
	done := make(chan struct{})
	go obey(c, done, cancel, errw, os.Exit)
	return ctx, func() {
		signal.Stop(c)
		close(done)
		cancel()
	}
}

// obey cancels at the first signal, and exits at the second or when that takes too long, unless done is closed before.
func obey(c <-chan os.Signal, done <-chan struct{}, cancel func(), errw io.Writer, exit func(int)) {
	var first os.Signal
	select {
	case first = <-c:
	case <-done:
		return
	}
	at := time.Now()
	cancel()
	late := time.NewTimer(shutdownTime)
	defer late.Stop()
	for {
		select {
		case <-done:
			return
		case s := <-c:
			if s == first && time.Since(at) < twin {
				continue
			}
			fmt.Fprintf(errw, "logforward: second %s: ending at once\n", s)
			exit(exitInterrupted)
			return
		case <-late.C:
			fmt.Fprintf(errw, "logforward: shutdown took longer than %s: ending at once\n", shutdownTime)
			exit(exitFailure)
			return
		}
	}
}

// hangups are the SIGHUPs from here on, until stop is called: one that comes before anybody can do what it asks for waits,
// and doesn't end the process.
func hangups() (hup <-chan os.Signal, stop func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	return c, func() { signal.Stop(c) }
}
