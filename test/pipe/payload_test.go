package pipe

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
	"time"
)

// TestSmallerBrokerTakesWhatABiggerOneRefused restarts the broker with a smaller maximum payload while chunks
// of the former size are under way: they are sent again in smaller ones.
func TestSmallerBrokerTakesWhatABiggerOneRefused(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.define("app")
	w := &writer{path: f.path("logs/app.log"), random: rand.New(rand.NewPCG(1, 2))}
	f.must(w.open())
	f.startAll()
	f.must(w.append([]byte("first\n")))
	f.arrived("app", w.all(), 90*time.Second)

	f.kill("receive", syscall.SIGTERM) // nothing is confirmed meanwhile
	f.must(w.append(bytes.Repeat([]byte("a line that makes big chunks\n"), 100_000)))
	f.eventually("the broker to have stored big chunks", 90*time.Second, func() error {
		s, err := f.status()
		if err == nil && (len(s.Logs) != 1 || s.Logs[0].Rate == 0) {
			err = fmt.Errorf("%+v", s.Logs)
		}
		return err
	})
	f.kill("broker", syscall.SIGKILL)
	f.must(os.RemoveAll(f.path("store"))) // so that all of it must be sent again
	f.brokerArgs = []string{"--max-payload", "64KiB"}
	f.start("broker")
	f.start("receive") // sets the wiped broker up again
	f.must(w.append(bytes.Repeat([]byte("and some more\n"), 10_000)))
	f.arrived("app", w.all(), time.Minute)
}
