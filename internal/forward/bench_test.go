package forward

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sys/unix"
)

func cpu() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkForward sends 1 GiB of lines of 180 bytes through a broker in this process to a
// receiver that decodes, acknowledges and confirms. The CPU time is that of all three.
func BenchmarkForward(b *testing.B) {
	const size = 1 << 30
	for range b.N {
		b.StopTimer()
		c := newCentre(b)
		n := newNode(b, c)
		n.change = func(cfg *Config) { cfg.Limits.Checkpoint, cfg.Limits.SyncInterval, cfg.Limits.Poll = 0, 0, 0 }
		if _, err := os.Stat("/dev/shm"); err == nil {
			dir, err := os.MkdirTemp("/dev/shm", "forward")
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { os.RemoveAll(dir) })
			n.dir, c.store = dir, filepath.Join(dir, "store")
			c.restart()
		}
		line := append(bytes.Repeat([]byte("a line of 180 bytes "), 9)[:179], '\n')
		part := bytes.Repeat(line, 1<<20/len(line))
		for written := 0; written < size; written += len(part) {
			n.append("app", part)
		}
		fi, err := os.Stat(n.path("app"))
		if err != nil {
			b.Fatal(err)
		}
		c.with(func() { c.discard = true })
		b.StartTimer()
		began, used := time.Now(), cpu()
		n.start(n.log("app"))
		for n.status("app").Confirmed < uint64(fi.Size()) {
			time.Sleep(5 * time.Millisecond)
		}
		took := time.Since(began).Seconds()
		b.ReportMetric(float64(fi.Size())/1e6/took, "MB/s")
		b.ReportMetric((cpu()-used).Seconds()/(float64(fi.Size())/(1<<30)), "cpu-s/GiB")
		c.with(func() { b.ReportMetric(float64(c.bytes)/float64(fi.Size()), "traffic") })
		b.StopTimer()
		n.stop()
	}
}

// BenchmarkForwardQuiet is what 200 logs without news cost.
func BenchmarkForwardQuiet(b *testing.B) {
	c := newCentre(b)
	n := newNode(b, c)
	n.change = func(cfg *Config) { cfg.Limits.Checkpoint, cfg.Limits.SyncInterval, cfg.Limits.Poll = 0, 0, 0 }
	var logs []Log
	for i := range 200 {
		name := fmt.Sprint("l", i)
		n.append(name, []byte("x\n"))
		logs = append(logs, n.log(name))
	}
	n.start(logs...)
	for _, l := range logs {
		n.delivered(l.Name, []byte("x\n"))
	}
	for _, stop := range c.stop {
		stop()
	}
	c.loops.Wait()
	for b.Loop() {
		used := cpu()
		time.Sleep(15 * time.Second)
		b.ReportMetric((cpu()-used).Seconds()*1000, "cpu-ms/15s")
	}
}

// BenchmarkForwardLatency writes 5,000 lines/s one by one and takes the time until each is at the
// broker's consumer.
func BenchmarkForwardLatency(b *testing.B) {
	for _, every := range []time.Duration{200 * time.Microsecond, 20 * time.Millisecond} {
		b.Run(every.String(), func(b *testing.B) {
			c := newCentre(b)
			n := newNode(b, c)
			n.change = func(cfg *Config) { cfg.Limits.Checkpoint, cfg.Limits.SyncInterval, cfg.Limits.Poll = 0, 0, 0 }
			n.append("app", []byte("first\n"))
			n.start(n.log("app"))
			n.delivered("app", []byte("first\n"))
			var seen []time.Duration
			for _, stop := range c.stop {
				stop()
			}
			c.loops.Wait()
			_, err := c.nc.Subscribe("logs.0.>", func(m *nats.Msg) {
				now := time.Now()
				for line := range bytes.Lines(m.Data) {
					if at, err := strconv.ParseInt(string(line[:len(line)-1]), 10, 64); err == nil {
						c.with(func() { seen = append(seen, now.Sub(time.Unix(0, at))) })
					}
				}
			})
			if err != nil {
				b.Fatal(err)
			}
			if err := c.nc.Flush(); err != nil {
				b.Fatal(err)
			}
			f, err := os.OpenFile(n.path("app"), os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			const span = 3 * time.Second
			for b.Loop() {
				used, began, count := cpu(), time.Now(), 0
				for next := began; time.Since(began) < span; next = next.Add(every) {
					if wait := time.Until(next); wait > 0 {
						time.Sleep(wait)
					}
					fmt.Fprintf(f, "%d\n", time.Now().UnixNano())
					count++
				}
				eventually(b, "all is there", func() bool { ok := false; c.with(func() { ok = len(seen) >= count }); return ok })
				b.ReportMetric((cpu()-used).Seconds()/time.Since(began).Seconds()*100, "cpu-%")
				b.ReportMetric(float64(count)/span.Seconds(), "lines/s")
			}
			c.with(func() {
				slices.Sort(seen)
				b.ReportMetric(float64(seen[len(seen)/2].Microseconds()), "p50-µs")
				b.ReportMetric(float64(seen[len(seen)*99/100].Microseconds()), "p99-µs")
			})
		})
	}
}
