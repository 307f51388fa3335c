package pipe

import (
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// BenchmarkRecovery is how long, after one fault, the first line that is written behind it takes to be central, while a
// log gets 1,000 lines a second. A process that was killed is started again at once. What is cut off or frozen is so for 5 s,
// and the time counts from their end. At the end all bytes are compared.
func BenchmarkRecovery(b *testing.B) {
	const away, rounds = 5 * time.Second, 3
	again := func(name string, sig syscall.Signal) func(*fleet) {
		return func(f *fleet) { f.kill(name, sig); f.start(name) }
	}
	frozen := func(name string) func(*fleet) {
		return func(f *fleet) {
			f.signal(name, syscall.SIGSTOP)
			time.Sleep(away)
			f.signal(name, syscall.SIGCONT)
		}
	}
	for _, fault := range []struct {
		name string
		do   func(f *fleet)
		away time.Duration
	}{
		{name: "kill-9-forwarder", do: again("forward", syscall.SIGKILL)},
		{name: "kill-9-receiver", do: again("receive", syscall.SIGKILL)},
		{name: "kill-9-broker", do: again("broker", syscall.SIGKILL)},
		{name: "restart-forwarder", do: again("forward", syscall.SIGTERM)},
		{name: "restart-receiver", do: again("receive", syscall.SIGTERM)},
		{name: "restart-broker", do: again("broker", syscall.SIGTERM)},
		{name: "forwarder-frozen-5-s", do: frozen("forward"), away: away},
		{name: "receiver-frozen-5-s", do: frozen("receive"), away: away},
		{name: "network-away-5-s", away: away, do: func(f *fleet) {
			f.brokers.set(true)
			time.Sleep(away)
			f.brokers.set(false)
		}},
	} {
		b.Run(fault.name, func(b *testing.B) {
			for b.Loop() {
				f := newFleet(b)
				f.configure(map[string]string{"url": "nats://" + f.brokers.address})
				f.start("broker")
				f.setup("--partitions", "1")
				f.start("receive")
				f.startForward()
				f.define("app")
				w := f.writeSteadily("app", 1000)
				central := filepath.Join(f.path("received"), identity, "app.log")
				f.reach(central, w.next(), patience)
				var took []time.Duration
				for range rounds {
					time.Sleep(1200 * time.Millisecond) // a commit and a checkpoint later
					began := time.Now()
					fault.do(f)
					if fault.away > 0 {
						began = time.Now()
					}
					took = append(took, f.reach(central, w.next(), time.Minute).Sub(began))
				}
				w.end()
				f.confirmed(1, int(w.size.Load()), time.Minute)
				equal(f, f.path("logs/app.log"), f.path("received"), "app")
				slices.Sort(took)
				b.ReportMetric(took[rounds/2].Seconds(), "recovery-s")
				b.ReportMetric(took[rounds-1].Seconds(), "longest-s")
				f.end(pipeline...)
			}
		})
	}
}

func (f *fleet) signal(name string, sig syscall.Signal) {
	f.t.Helper()
	f.mu.Lock()
	p := f.processes[name]
	f.mu.Unlock()
	f.must(p.cmd.Process.Signal(sig))
}

// steady appends lines to a log's file.
type steady struct {
	size atomic.Int64 // bytes so far
	end  func()
}

func (f *fleet) writeSteadily(log string, perSecond int) *steady {
	f.t.Helper()
	file, err := os.Create(f.path("logs/" + log + ".log"))
	f.must(err)
	const pace = 10 * time.Millisecond
	s := &steady{}
	stop := make(chan struct{})
	var task sync.WaitGroup
	task.Go(func() {
		defer file.Close()
		tick := time.NewTicker(pace)
		defer tick.Stop()
		buf := make([]byte, lineLength*max(1, perSecond*int(pace)/int(time.Second)))
		for n := 0; ; {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			for at := 0; at < len(buf); at += lineLength {
				line(buf[at:at+lineLength], n)
				n++
			}
			if _, err := file.Write(buf); err != nil {
				f.t.Error(err)
				return
			}
			s.size.Add(int64(len(buf)))
		}
	})
	s.end = sync.OnceFunc(func() { close(stop); task.Wait() })
	f.t.Cleanup(s.end)
	return s
}

// next is the size that the file has with its next line.
func (s *steady) next() int64 { return s.size.Load() + lineLength }

// reach waits until a central file has so many bytes, and gives the time then.
func (f *fleet) reach(path string, size int64, within time.Duration) time.Time {
	f.t.Helper()
	for deadline := time.Now().Add(within); ; time.Sleep(2 * time.Millisecond) { // how exactly the end is measured
		st, err := os.Stat(path)
		now := time.Now()
		if err == nil && st.Size() >= size {
			return now
		}
		if now.After(deadline) {
			f.t.Fatalf("%d bytes are not central within %s: %v", size, within, err)
		}
	}
}
