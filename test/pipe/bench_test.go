package pipe

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// These benchmarks run the built binary as three processes, and beside them, in the same run, what the
// machine itself can do: figures of a shared machine mean something only as ratios.

// BenchmarkThroughput forwards files of 180-byte lines from the forwarder's start until all is confirmed: one of 1 GiB, the same
// compressed on the way, as much in 200 files, and 10,000 logs of a quarter of that.
func BenchmarkThroughput(b *testing.B) {
	for _, variant := range []struct{ name, settings string }{{name: "files=1"}, {"s2", "destination.central.compression = s2\n"}} {
		b.Run(variant.name, func(b *testing.B) {
			for b.Loop() {
				forwardOne(b, variant.settings)
			}
		})
	}
	for _, load := range []struct{ files, part int }{{200, 1}, {10_000, 4}} {
		b.Run(fmt.Sprintf("files=%d", load.files), func(b *testing.B) {
			for b.Loop() {
				forwardMany(b, load.files, (mebibytes(b)<<20)/load.part/load.files)
			}
		})
	}
}

func forwardOne(b *testing.B, settings string) {
	f := benchFleet(b, map[string]string{"forward": settings})
	size := mebibytes(b) << 20
	file := f.path("logs/big.log")
	f.must(lines(file, size))
	f.warm(size)
	copied, err := copyFile(file, f.path("copy"))
	f.must(err)
	f.must(os.Remove(f.path("copy")))
	f.warm(size)
	synced, err := copyBlocks(file, f.path("copy"), 1<<20, true)
	f.must(err)
	f.must(os.Remove(f.path("copy")))
	published, raw := f.publishRaw(file, size)

	took, confirmed := f.forward(b, "big", size)
	speed := func(d time.Duration) float64 { return float64(size) / d.Seconds() / 1e6 }
	b.ReportMetric(speed(took), "MB/s")
	b.ReportMetric(speed(confirmed), "confirmed-MB/s")
	b.ReportMetric(raw.cpu.Seconds()/(float64(size)/(1<<30)), "raw-broker-CPU-s/GiB")
	for name, d := range map[string]time.Duration{"cp": copied, "dd-fsync": synced, "raw-publish": published} {
		b.ReportMetric(speed(d), name+"-MB/s")
		b.ReportMetric(d.Seconds()/took.Seconds(), "of-"+name)
	}
	equal(f, file, f.path("received"), "big")
	f.end(pipeline...)
}

// forward has one log's file forwarded, reports its cost, and gives how long it took from the forwarder's start to be central, and to be confirmed.
func (f *fleet) forward(b *testing.B, log string, size int) (central, confirmed time.Duration) {
	b.Helper()
	f.define(log)
	f.warm(size)
	m := f.meter("broker", "receive")
	begin := time.Now()
	f.start("forward")
	m.before["forward"] = usage{}
	central = f.arrive(filepath.Join(f.path("received"), identity, log+".log"), size, 5*time.Minute).Sub(begin)
	f.confirmed(1, size, time.Minute)
	confirmed = time.Since(begin)
	m.report(b, float64(size)/(1<<30), "CPU-s/GiB")
	b.ReportMetric(float64(f.usage("forward").written)/float64(size), "written-B/B")
	return central, confirmed
}

func forwardMany(b *testing.B, files, size int) {
	f := benchFleet(b, nil)
	for i := range files {
		f.must(lines(f.path(fmt.Sprintf("logs/f%05d.log", i)), size))
	}
	f.write("forwarders/many.yaml", fmt.Sprintf("log: many\npath: %s\ndestination: central\nstart: beginning\n", f.path("logs/f*.log")))
	f.warm(files * size)
	m := f.meter("broker", "receive")
	begin := time.Now()
	f.start("forward")
	m.before["forward"] = usage{}
	took := f.arrive(filepath.Join(f.path("received"), identity), files*size, 5*time.Minute).Sub(begin)
	f.confirmed(files, files*size, time.Minute)
	m.report(b, float64(files*size)/(1<<30), "CPU-s/GiB")
	b.ReportMetric(float64(files*size)/took.Seconds()/1e6, "MB/s")
	for i := range files {
		name := fmt.Sprintf("f%05d.log", i)
		// Not by the ledger, as cat does: that lists a directory of 20,000 files for each.
		want, err := os.ReadFile(f.path("logs/" + name))
		f.must(err)
		got, err := os.ReadFile(filepath.Join(f.path("received"), identity, "many."+name+".log"))
		f.must(err)
		if !bytes.Equal(got, want) {
			b.Fatalf("central bytes of %s differ", name)
		}
	}
	f.end(pipeline...)
}

// BenchmarkLatency writes 5,000 lines a second for ten seconds, and measures the time from a line's
// write to its appearance in the central file.
func BenchmarkLatency(b *testing.B) {
	for b.Loop() {
		f := benchFleet(b, nil)
		f.startForward()
		f.define("app")
		f.latency(b, f.path("logs/app.log"), filepath.Join(f.path("received"), identity, "app.log"), pipeline)
		f.watches(b)
		f.end(pipeline...)
	}
}

// latency writes to one file, watches another, and reports how old lines are when they are seen there, and what that costs.
func (f *fleet) latency(b *testing.B, file, central string, names []string) {
	b.Helper()
	const perSecond, duration = 5000, 10 * time.Second
	w, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	f.must(err)
	defer w.Close()
	f.must(writeLine(w, time.Now()))
	f.eventually("first line", 20*time.Second, func() error {
		st, err := os.Stat(central)
		if err == nil && st.Size() != lineLength {
			err = fmt.Errorf("%d bytes", st.Size())
		}
		return err
	})
	r, err := os.Open(central)
	f.must(err)
	defer r.Close()
	_, err = r.Seek(lineLength, io.SeekStart) // how long the start takes isn't what is asked
	f.must(err)
	m := f.meter(names...)
	done := make(chan []time.Duration)
	count := int(duration.Seconds() * perSecond)
	go func() { done <- watchLines(r, count) }()
	begin := time.Now()
	for i := range count {
		at := begin.Add(time.Duration(i) * time.Second / perSecond)
		if d := time.Until(at); d > 0 {
			pause(d)
		}
		f.must(writeLine(w, time.Now()))
	}
	seen := <-done
	if len(seen) != count {
		b.Fatalf("%d of %d lines seen", len(seen), count)
	}
	m.report(b, 1, "CPU-s")
	quantiles(b, seen)
}

// watches fails where the forwarder had to poll, because inotify's limits were reached: then the figures are those of polling.
func (f *fleet) watches(b *testing.B) {
	b.Helper()
	said, err := os.ReadFile(f.path("forward.out"))
	f.must(err)
	if bytes.Contains(said, []byte("inotify can't watch")) {
		b.Fatal("the forwarder polls, for inotify's limits are reached: raise fs.inotify.max_user_watches")
	}
}

// pause sleeps for d. The runtime's own sleep lasts a millisecond at least where the process has nothing else to do, which would be half of
// what is measured.
func pause(d time.Duration) {
	t := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&t, nil) // a signal may end it early
}

func writeLine(w io.Writer, at time.Time) error {
	_, err := fmt.Fprintf(w, "%019d %s\n", at.UnixNano(), strings.Repeat("y", lineLength-21))
	return err
}

// watchLines reads a growing file until it has n lines, and gives each line's age when it was seen.
func watchLines(r *os.File, n int) []time.Duration {
	var ages []time.Duration
	buf := make([]byte, 1<<20)
	kept := 0
	deadline := time.Now().Add(time.Minute)
	for len(ages) < n && time.Now().Before(deadline) {
		m, err := r.Read(buf[kept:])
		if err != nil && err != io.EOF {
			return ages
		}
		now := time.Now()
		data := buf[:kept+m]
		for {
			i := bytes.IndexByte(data, '\n')
			if i < 0 {
				break
			}
			if ns, err := strconv.ParseInt(string(data[:19]), 10, 64); err == nil {
				ages = append(ages, now.Sub(time.Unix(0, ns)))
			}
			data = data[i+1:]
		}
		kept = copy(buf, data)
		if m == 0 {
			pause(100 * time.Microsecond)
		}
	}
	return ages
}

// BenchmarkIdle has a forwarder follow 200 quiet files for 15 seconds.
func BenchmarkIdle(b *testing.B) {
	const files, text = 200, "one line\n"
	for b.Loop() {
		f := benchFleet(b, nil)
		f.startForward()
		for i := range files {
			f.write(fmt.Sprintf("logs/quiet%03d.log", i), text)
		}
		f.write("forwarders/quiet.yaml", fmt.Sprintf("log: quiet\npath: %s\ndestination: central\nstart: beginning\n", f.path("logs/quiet*.log")))
		f.confirmed(files, files*len(text), time.Minute)
		time.Sleep(2 * time.Second) // what the start left over
		m := f.meter(pipeline...)
		time.Sleep(15 * time.Second)
		m.report(b, 1, "CPU-s-in-15-s")
		for _, n := range pipeline {
			b.ReportMetric(float64(f.usage(n).resident)/1e6, n+"-resident-MB")
		}
		f.watches(b)
		f.end(pipeline...)
	}
}
