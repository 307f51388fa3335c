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

// signals gives a context that the first SIGINT or SIGTERM ends. The second, or a shutdown
// that takes too long, ends the process where it stands: whatever is not confirmed then is
// sent again after the next start.
func signals(parent context.Context, errw io.Writer) (ctx context.Context, end func()) {
	ctx, cancel := context.WithCancel(parent)
	c := make(chan os.Signal, 2)
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		select {
		case <-c:
		case <-done:
			return
		}
		cancel()
		late := time.NewTimer(shutdownTime)
		defer late.Stop()
		select {
		case <-done:
		case s := <-c:
			fmt.Fprintf(errw, "logforward: second %s: ending at once\n", s)
			os.Exit(exitInterrupted)
		case <-late.C:
			fmt.Fprintf(errw, "logforward: shutdown took longer than %s: ending at once\n", shutdownTime)
			os.Exit(exitFailure)
		}
	}()
	return ctx, func() {
		signal.Stop(c)
		close(done)
		cancel()
	}
}

// hangups are the SIGHUPs from here on, until stop is called: one that comes before anybody can do what it asks for waits,
// and doesn't end the process.
func hangups() (hup <-chan os.Signal, stop func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	return c, func() { signal.Stop(c) }
}
