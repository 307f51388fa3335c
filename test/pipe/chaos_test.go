package pipe

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// writer appends to one log file and rotates it, and remembers every byte.
type writer struct {
	path    string
	random  *rand.Rand
	file    *os.File
	rotated int
	may     *atomic.Bool // rotate; nil: always

	mu      sync.Mutex
	written []byte
}

func (w *writer) all() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Clone(w.written)
}

func (w *writer) open() (err error) {
	w.file, err = os.OpenFile(w.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	return err
}

// step writes a few lines, sometimes half of one, and now and then rotates as logrotate's create does.
func (w *writer) step() error {
	// A file that is renamed before the forwarder has ever looked isn't followed: docs/guarantees.md.
	if w.random.IntN(60) == 0 && (w.may == nil || w.may.Load()) {
		w.rotated++
		if err := os.Rename(w.path, fmt.Sprintf("%s.%d", w.path, w.rotated)); err != nil {
			return err
		}
		old := w.file
		if w.random.IntN(2) == 0 { // a writer that goes on with the old file for a moment
			if err := w.append([]byte("late line\n")); err != nil {
				return err
			}
		}
		if err := w.open(); err != nil {
			return err
		}
		return old.Close()
	}
	var b []byte
	for range 1 + w.random.IntN(20) {
		b = fmt.Appendf(b, "%d %0*d\n", w.random.Uint64(), 1+w.random.IntN(200), w.random.Uint32())
	}
	if w.random.IntN(4) == 0 {
		b = b[:w.random.IntN(len(b))]
	}
	return w.append(b)
}

func (w *writer) append(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if _, err := w.file.Write(b); err != nil {
		return err
	}
	w.mu.Lock()
	w.written = append(w.written, b...)
	w.mu.Unlock()
	return nil
}

func seed(t *testing.T) uint64 {
	if s := os.Getenv("LOGFORWARD_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return rand.Uint64()
}

func seconds(t *testing.T, def int) time.Duration {
	if s := os.Getenv("LOGFORWARD_CHAOS_SECONDS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		def = n
	}
	return time.Duration(def) * time.Second
}

// faults of the whole system; each leaves everything running.
var faults = []struct {
	name string
	do   func(f *fleet, r *rand.Rand)
}{
	{"kill forward", func(f *fleet, r *rand.Rand) { f.kill("forward", syscall.SIGKILL); f.start("forward") }},
	{"kill receive", func(f *fleet, r *rand.Rand) { f.kill("receive", syscall.SIGKILL); f.start("receive") }},
	{"kill broker", func(f *fleet, r *rand.Rand) { f.kill("broker", syscall.SIGKILL); f.start("broker") }},
	{"restart forward", func(f *fleet, r *rand.Rand) { f.kill("forward", syscall.SIGTERM); f.start("forward") }},
	{"restart receive", func(f *fleet, r *rand.Rand) { f.kill("receive", syscall.SIGTERM); f.start("receive") }},
	{"restart broker", func(f *fleet, r *rand.Rand) { f.kill("broker", syscall.SIGTERM); f.start("broker") }},
	{"cut the network", func(f *fleet, r *rand.Rand) {
		f.brokers.set(true)
		time.Sleep(time.Duration(r.IntN(1500)) * time.Millisecond)
		f.brokers.set(false)
	}},
	{"stop receive for a while", func(f *fleet, r *rand.Rand) { f.stopped("receive", r) }},
	{"stop forward for a while", func(f *fleet, r *rand.Rand) { f.stopped("forward", r) }},
}

// stopped freezes a process, as a paused virtual machine is.
func (f *fleet) stopped(name string, r *rand.Rand) {
	f.mu.Lock()
	p := f.processes[name]
	f.mu.Unlock()
	p.cmd.Process.Signal(syscall.SIGSTOP)
	time.Sleep(time.Duration(r.IntN(1500)) * time.Millisecond)
	p.cmd.Process.Signal(syscall.SIGCONT)
}

// TestEveryByteArrivesOnceUnderFaults kills, restarts, freezes and cuts off everything at random moments, while
// logs are written and rotated.
func TestEveryByteArrivesOnceUnderFaults(t *testing.T) {
	t.Parallel()
	number := seed(t)
	t.Logf("LOGFORWARD_SEED=%d", number)
	f := newFleet(t)
	var writers []*writer
	for i := range 4 {
		name := fmt.Sprintf("app%d", i)
		f.define(name)
		w := &writer{path: f.path("logs/" + name + ".log"), random: rand.New(rand.NewPCG(number, uint64(i)))}
		f.must(w.open())
		writers = append(writers, w)
	}
	f.startAll()
	// A file that is rotated away before anybody ever looked at it isn't followed: so begin when all are.
	f.eventually("all logs to be followed", 90*time.Second, func() error {
		s, err := f.status()
		if err == nil && len(s.Logs) != len(writers) {
			err = fmt.Errorf("%d logs", len(s.Logs))
		}
		for i := 0; err == nil && i < len(s.Logs); i++ {
			if s.Logs[i].Files != 1 {
				err = fmt.Errorf("%s: %d files", s.Logs[i].Log, s.Logs[i].Files)
			}
		}
		return err
	})
	stop := make(chan struct{})
	var tasks sync.WaitGroup
	for _, w := range writers {
		tasks.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Duration(w.random.IntN(8)) * time.Millisecond):
				}
				if err := w.step(); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	r := rand.New(rand.NewPCG(number, 99))
	begin := time.Now()
	for until := begin.Add(seconds(t, 8)); time.Now().Before(until); {
		time.Sleep(time.Duration(r.IntN(700)) * time.Millisecond)
		fault := faults[r.IntN(len(faults))]
		t.Logf("%6.2fs %s", time.Since(begin).Seconds(), fault.name)
		fault.do(f, r)
	}
	close(stop)
	tasks.Wait()
	for i, w := range writers {
		f.arrived(fmt.Sprintf("app%d", i), w.all(), time.Minute)
		t.Logf("app%d: %d bytes, %d rotations", i, len(w.written), w.rotated)
	}
	f.eventually("no lag", 90*time.Second, func() error {
		s, err := f.status()
		if err != nil {
			return err
		}
		for _, l := range s.Logs {
			if l.LagBytes != 0 || l.GapBytes != 0 || l.Gaps != 0 {
				return fmt.Errorf("%s: lag %d, gaps %d", l.Log, l.LagBytes, l.Gaps)
			}
		}
		return nil
	})
	for i, w := range writers {
		f.must(f.compare(fmt.Sprintf("app%d", i), w.written))
	}
	for _, name := range []string{"forward", "receive", "broker"} {
		f.kill(name, syscall.SIGTERM)
	}
}
