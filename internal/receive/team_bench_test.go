package receive

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

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

// load publishes chunks of as many logs, and waits until the broker has them.
func load(b testing.TB, s *site, logs, chunks int, data []byte) {
	var waiting sync.WaitGroup
	sum := chunk.Sum(data)
	for n := range chunks {
		digest := chunk.Digest(0)
		for range n {
			digest = digest.Extend(sum, uint64(len(data)))
		}
		for l := range logs {
			identity := fmt.Sprintf("node%d", l/4)
			c := chunk.Chunk{Epoch: 1, Position: uint64(n * len(data)), Length: uint64(len(data)), Checksum: sum, Digest: digest, File: "f", Offset: int64(n * len(data)), Data: data}
			waiting.Add(1)
			s.pub.Publish(chunk.Subject{Prefix: "logs", Partition: chunk.Partition(identity, s.partitions), Identity: identity, Log: fmt.Sprint("log", l%4)}.String(), c.Header(false), data, func(a broker.Ack) {
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
				load(b, team[0], logs, chunks, data)
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

// BenchmarkManyActiveLogs lets 10,000 logs each bring a chunk of 10 KiB a second: what the commit of so many dirty files costs, and whether
// receiving goes on meanwhile.
func BenchmarkManyActiveLogs(b *testing.B) {
	data := bytes.Repeat([]byte("2026-01-01T00:00:00Z host daemon[1234]: a message of usual length\n"), 10<<10/66+1)[:10<<10]
	const logs, chunks = 10_000, 6
	for _, partitions := range []int{1, 4} {
		b.Run(fmt.Sprintf("partitions=%d", partitions), func(b *testing.B) {
			b.SetBytes(logs * chunks * int64(len(data)))
			for b.Loop() {
				b.StopTimer()
				team := teamOf(b, 1, partitions, func(c *Config) {
					c.CommitInterval, c.Sweep = time.Second, time.Hour
				})
				load(b, team[0], logs, chunks, data)
				team[0].startReceiver()
				b.StartTimer()
				drained(b, team[0])
				b.StopTimer()
				reg := team[0].r.metrics
				h := gathered(b, reg.commitSeconds).GetHistogram()
				b.ReportMetric(h.GetSampleSum()/float64(h.GetSampleCount()), "s/commit")
				b.ReportMetric(counted(b, reg.commits), "commits")
				if err := team[0].stopReceiver(); err != nil {
					b.Fatal(err)
				}
				team[0].stopBroker()
				b.StartTimer()
			}
		})
	}
}

// BenchmarkTakeOver is how long a log waits for its confirmation when its receiver goes, with the default heartbeat: in order, and by a crash at a random
// moment between two beats. LOGFORWARD_SAMPLES says how many times (20 and 8 by default), spread over ten teams that run side by side.
func BenchmarkTakeOver(b *testing.B) {
	for _, how := range []struct {
		name    string
		samples int
	}{{"in order", 20}, {"crash", 8}} {
		b.Run(how.name, func(b *testing.B) {
			samples := how.samples
			if v := os.Getenv("LOGFORWARD_SAMPLES"); v != "" {
				var err error
				if samples, err = strconv.Atoi(v); err != nil {
					b.Fatal(err)
				}
			}
			var mu sync.Mutex
			var took []time.Duration
			for b.Loop() {
				var teams sync.WaitGroup
				const most = 10
				for i := range most {
					if rounds := (samples + most - 1 - i) / most; rounds > 0 {
						teams.Go(func() {
							list := takeOvers(b, how.name == "crash", rounds)
							mu.Lock()
							defer mu.Unlock()
							took = append(took, list...)
						})
					}
				}
				teams.Wait()
			}
			slices.Sort(took)
			b.ReportMetric(float64(len(took)), "samples")
			b.ReportMetric(took[len(took)/2].Seconds(), "p50-s")
			b.ReportMetric(took[len(took)*99/100].Seconds(), "p99-s")
		})
	}
}

// takeOvers lets two receivers follow each other.
func takeOvers(b *testing.B, crash bool, rounds int) (took []time.Duration) {
	team := teamOf(b, 2, 1, func(c *Config) {
		c.CommitInterval, c.LeaseInterval, c.LeaseTimeout = 100*time.Millisecond, time.Second, 5*time.Second
	})
	n := team[0].node("web1", "syslog")
	team[0].startReceiver()
	n.send(n.make("first\n"))
	n.waitConfirmed()
	for i := range rounds {
		old, next := team[i%2], team[(i+1)%2]
		next.startReceiver()
		ready(b, next)
		if crash {
			time.Sleep(rand.N(old.config.LeaseInterval)) // the moment of the crash
		}
		began := time.Now()
		if crash {
			old.r.crash()
		} else {
			team[0].must(old.stopReceiver())
		}
		n.send(n.make("x\n"))
		eventually(b, "be told", func() (bool, string) { // asking would take two seconds where the hello is handed on to the dead one
			n.mu.Lock()
			defer n.mu.Unlock()
			return n.confirmed.Position == n.position, fmt.Sprint(n.confirmed.Position)
		})
		took = append(took, time.Since(began))
		if crash {
			_ = old.stopReceiver() // what a crashed one says counts for nothing
		}
	}
	for _, s := range team {
		_ = s.stopReceiver()
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
