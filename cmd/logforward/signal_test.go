package main

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// A signal that comes twice at once, as timeout(1) sends it, asks for an end in order; a second one later, or another one, for one at once.
func TestSignalThatComesTwiceAtOnceIsOne(t *testing.T) {
	for name, second := range map[string]struct {
		after  time.Duration
		signal os.Signal
		code   int // 0: it goes on with its ordered end
	}{
		"the same, at once":  {0, syscall.SIGTERM, 0},
		"the same, later":    {time.Second, syscall.SIGTERM, exitInterrupted},
		"another, at once":   {0, syscall.SIGINT, exitInterrupted},
		"the end isn't near": {shutdownTime + time.Second, syscall.SIGTERM, exitFailure},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, done := make(chan os.Signal, 2), make(chan struct{})
				canceled, code := false, 0
				var said strings.Builder
				go obey(c, done, func() { canceled = true }, &said, func(n int) { code = n })
				c <- syscall.SIGTERM
				synctest.Wait()
				time.Sleep(second.after)
				c <- second.signal
				synctest.Wait()
				if !canceled || code != second.code || (code == 0) != (said.String() == "") {
					t.Errorf("canceled %v, exit code %d, want %d; %s", canceled, code, second.code, said.String())
				}
				close(done)
			})
		})
	}
}
