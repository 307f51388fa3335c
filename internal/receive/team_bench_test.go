package receive

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"golang.org/x/sys/unix"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

// teamOf is a site with so many receivers, each with a disk directory of its own, not started.
func teamOf(b testing.TB, receivers, partitions int, change func(*Config)) []*site {
	s := newSite(b, change)
	s.setup(partitions)
	team := []*site{s}
	for i := 1; i < receivers; i++ {
		team = append(team, s.beside(fmt.Sprintf("r%d", i+1), false))
	}
	return team
}

// load publishes the chunks from one number to another of as many logs, and waits until the broker has them.
func load(b testing.TB, s *site, logs, from, to int, data []byte) {
	var waiting sync.WaitGroup
	sum := chunk.Sum(data)
	for n := from; n < to; n++ {
		digest := chunk.Digest(0)
		for range n {
			digest = digest.Extend(sum, uint64(len(data)))
		}
		for l := range logs {
			identity := fmt.Sprintf("node%d", l/4)
			c := chunk.Chunk{Epoch: 1, Position: uint64(n * len(data)), Length: uint64(len(data)), Checksum: sum, Digest: digest, File: "f", Offset: int64(n * len(data)), Data: data}
			waiting.Add(1)
			s.pub.Publish(chunk.Subject{Prefix: "logs", Partition: chunk.Partition(identity, s.partitions), Identity: identity, Log: fmt.Sprint("log", l%4)}.String(), c.Header(chunk.Plain), data, func(a broker.Ack) {
				if a.Err != nil {
					b.Error(a.Err)
				}
				waiting.Done()
			})
		}
		waiting.Wait()
	}
}

// drained waits until the streams are empty: all is committed and acknowledged.
func drained(b testing.TB, s *site) {
	for {
		left := uint64(0)
		for n := range s.partitions {
			left += s.stream(n).State.Msgs
		}
		if left == 0 {
			return
		}
		time.Sleep(5 * time.Millisecond) // how exactly the end is measured
	}
}

// BenchmarkTeam is the throughput of several receivers over eight partitions, from full streams to empty ones. Broker and receivers share
// the machine's cores.
func BenchmarkTeam(b *testing.B) {
	data := bytes.Repeat([]byte("2026-01-01T00:00:00Z host daemon[1234]: a message of usual length\n"), 64<<10/66+1)[:64<<10]
	const logs, chunks = 256, 24
	for _, receivers := range []int{1, 2, 4} {
		b.Run(fmt.Sprintf("receivers=%d", receivers), func(b *testing.B) {
			b.SetBytes(logs * chunks * int64(len(data)))
			for b.Loop() {
				b.StopTimer()
				team := teamOf(b, receivers, 8, func(c *Config) {
					c.CommitInterval, c.Sweep, c.LeaseInterval, c.LeaseTimeout = time.Second, time.Hour, time.Second, 5*time.Second
				})
				load(b, team[0], logs, 0, chunks, data)
				for _, s := range team {
					s.startReceiver()
				}
				b.StartTimer()
				drained(b, team[0])
				b.StopTimer()
				for _, s := range team {
					if err := s.stopReceiver(); err != nil {
						b.Fatal(err)
					}
				}
				team[0].stopBroker()
				b.StartTimer()
			}
		})
	}
}

// BenchmarkManyActiveLogs has 10,000 logs bring chunks of 10 KiB: first one of each, for which files are made (new-s), then more of logs that are
// known, from full streams to empty ones: throughput, CPU of broker and receiver together, what a commit of so many dirty files takes,
// and the longest time for which nothing was received meanwhile.
func BenchmarkManyActiveLogs(b *testing.B) {
	data := bytes.Repeat([]byte("2026-01-01T00:00:00Z host daemon[1234]: a message of usual length\n"), 10<<10/66+1)[:10<<10]
	const logs, chunks = 10_000, 9
	for _, partitions := range []int{1, 4} {
		b.Run(fmt.Sprintf("partitions=%d", partitions), func(b *testing.B) {
			for b.Loop() {
				s := teamOf(b, 1, partitions, func(c *Config) {
					c.CommitInterval, c.Sweep = time.Second, time.Hour
				})[0]
				load(b, s, logs, 0, 1, data)
				began := time.Now()
				s.startReceiver()
				drained(b, s)
				b.ReportMetric(time.Since(began).Seconds(), "new-s")
				s.must(s.stopReceiver())
				load(b, s, logs, 1, chunks, data)
				runtime.GC() // of what publishing has left
				s.startReceiver()
				eventually(b, "begin", func() (bool, string) {
					s.r.mu.Lock()
					defer s.r.mu.Unlock()
					return len(s.r.working) == partitions, ""
				})
				before, cpu := counted(b, s.r.metrics.bytes), processorTime(b)
				began = time.Now()
				stop, paused := make(chan struct{}), make(chan time.Duration)
				go func() { paused <- longestPause(b, s.r, logs*(chunks-1)*float64(len(data)), stop) }()
				drained(b, s)
				took := time.Since(began)
				close(stop)
				size := logs*(chunks-1)*float64(len(data)) - before
				b.ReportMetric(size/took.Seconds()/1e6, "MB/s")
				b.ReportMetric((processorTime(b)-cpu).Seconds()/size*(1<<30), "CPU-s/GiB")
				b.ReportMetric((<-paused).Seconds(), "pause-s")
				h := gathered(b, s.r.metrics.commitSeconds).GetHistogram()
				b.ReportMetric(h.GetSampleSum()/float64(h.GetSampleCount()), "s/commit")
				b.ReportMetric(counted(b, s.r.metrics.commits), "commits")
				s.must(s.stopReceiver())
				s.stopBroker()
			}
		})
	}
}

// processorTime is what this process has taken.
func processorTime(b testing.TB) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// longestPause is the longest time in which a receiver appended nothing, until it has appended so many bytes in all, or stop is closed.
func longestPause(b testing.TB, r *Receiver, all float64, stop <-chan struct{}) (longest time.Duration) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	last, at := counted(b, r.metrics.bytes), time.Now()
	for last < all {
		select {
		case <-tick.C:
		case <-stop:
			return longest
		}
		if now := counted(b, r.metrics.bytes); now != last {
			longest = max(longest, time.Since(at))
			last, at = now, time.Now()
		}
	}
	return longest
}

// BenchmarkTakeOver is how long a log waits for its confirmation when its receiver goes, with the default heartbeat: in order, and by a crash. Seven
// sites side by side, which are idle but for that, give 56 samples in the time of eight.
func BenchmarkTakeOver(b *testing.B) {
	const sites, rounds = 7, 8
	for _, how := range []string{"in-order", "crash"} {
		b.Run(how, func(b *testing.B) {
			var mu sync.Mutex
			var took []time.Duration
			for b.Loop() {
				var all sync.WaitGroup
				for n := range sites {
					team := teamOf(b, 2, 1, func(c *Config) {
						c.CommitInterval, c.LeaseInterval, c.LeaseTimeout = 100*time.Millisecond, time.Second, 5*time.Second
					})
					all.Go(func() {
						time.Sleep(time.Duration(n) * time.Second / sites) // so that they don't beat as one
						mine := takeOvers(b, team, rounds, how == "crash")
						mu.Lock()
						took = append(took, mine...)
						mu.Unlock()
					})
				}
				all.Wait()
			}
			slices.Sort(took)
			b.ReportMetric(took[len(took)/2].Seconds(), "p50-s")
			b.ReportMetric(took[len(took)*99/100].Seconds(), "p99-s")
			b.ReportMetric(float64(len(took)), "samples")
		})
	}
}

// takeOvers has two receivers lose a partition to each other in turns, and gives how long each took.
func takeOvers(b *testing.B, team []*site, rounds int, crash bool) (took []time.Duration) {
	n := team[0].node("web1", "syslog")
	team[0].startReceiver()
	n.send(n.make("first\n"))
	n.waitConfirmed()
	for i := range rounds {
		old, next := team[i%2], team[(i+1)%2]
		next.startReceiver()
		ready(b, next)
		if crash {
			time.Sleep(rand.N(old.config.LeaseInterval)) // the crash is at any moment between two beats
		}
		began := time.Now()
		if crash {
			old.r.crash()
		} else if err := old.stopReceiver(); err != nil {
			b.Error(err)
			return took
		}
		n.send(n.make("x\n"))
		eventually(b, "be told", func() (bool, string) { // asking would take two seconds where the hello is handed on to the dead one
			n.mu.Lock()
			defer n.mu.Unlock()
			return n.confirmed.Position == n.position, fmt.Sprint(n.confirmed.Position)
		})
		took = append(took, time.Since(began))
		if crash {
			old.stopReceiver()
		}
	}
	for _, s := range team {
		s.stopReceiver()
	}
	team[0].stopBroker()
	return took
}

// ready waits until a receiver sees the leases, and its heart beats.
func ready(b testing.TB, s *site) {
	eventually(b, "be ready", func() (bool, string) {
		s.r.mu.Lock()
		defer s.r.mu.Unlock()
		return s.r.sharing.table != nil && s.r.sharing.own > 0, ""
	})
}

// gathered is a metric as a collector would see it.
func gathered(t testing.TB, c prometheus.Collector) *dto.Metric {
	t.Helper()
	reg := prometheus.NewRegistry()
	if err := reg.Register(c); err != nil {
		t.Fatal(err)
	}
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return all[0].GetMetric()[0]
}
