package pipe

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"logforward/internal/receive"
)

// These benchmarks run the built binary as three processes, and beside them, in the same run, what the
// machine itself can do: figures of a shared machine mean something only as ratios.

func mebibytes(b *testing.B) int {
	if s := os.Getenv("LOGFORWARD_BENCH_MIB"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			b.Fatal(err)
		}
		return n
	}
	return 1024
}

// lines writes n bytes of 180-byte lines.
func lines(path string, n int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	line := bytes.Repeat([]byte("x"), 180)
	line[179] = '\n'
	for i := 0; n > 0; i++ {
		copy(line, fmt.Sprintf("%016d %x ", i, uint64(i)*0x9e3779b97f4a7c15))
		m := min(n, len(line))
		if _, err := w.Write(line[:m]); err != nil {
			return err
		}
		n -= m
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}

func copyFile(from, to string) (time.Duration, error) {
	begin := time.Now()
	src, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer src.Close()
	dst, err := os.Create(to)
	if err != nil {
		return 0, err
	}
	// As cp does where it can't share extents: a plain loop.
	_, err = io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, make([]byte, 128<<10))
	if err2 := dst.Close(); err == nil {
		err = err2
	}
	return time.Since(begin), err
}

// usage is what a running process has taken.
type usage struct {
	cpu  time.Duration
	peak int64 // bytes
}

func (f *fleet) usage(name string) (u usage) {
	f.mu.Lock()
	p := f.processes[name]
	f.mu.Unlock()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	f.must(err)
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+2:]))
	for _, i := range []int{11, 12} { // utime, stime in ticks of 10 ms
		n, err := strconv.ParseInt(fields[i], 10, 64)
		f.must(err)
		u.cpu += time.Duration(n) * 10 * time.Millisecond
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	f.must(err)
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			f.must(err)
			u.peak = n << 10
		}
	}
	return u
}

// benchFleet makes a fleet with the settings that users get, not those of the fault tests.
func benchFleet(b *testing.B) *fleet {
	f := newFleet(b)
	f.write("forward.cfg", fmt.Sprintf("identity = %s\nstate = %s\nsocket = %s\nforwarders = %s\ndestination.central.url = nats://127.0.0.1:%d\nallowed_paths = %s\n",
		identity, f.path("node"), f.socket(), f.path("forwarders"), f.port, f.path("logs/**"))+os.Getenv("LOGFORWARD_BENCH_FORWARD"))
	f.write("receive.cfg", fmt.Sprintf("url = nats://127.0.0.1:%d\noutput = %s\nstate = %s\nreceiver = r1\nrotate_size = 0\ncompress = none\n", f.port, f.path("received"), f.path("centre")))
	f.start("broker")
	f.setup("--partitions", "1")
	f.start("receive")
	f.start("forward")
	f.eventually("start", 20*time.Second, func() error { _, err := f.status(); return err })
	return f
}

// BenchmarkThroughput forwards one file of 180-byte lines from its beginning until all of it is confirmed.
func BenchmarkThroughput(b *testing.B) { throughput(b, lines) }

// throughput forwards a file that fill makes, of so many bytes.
func throughput(b *testing.B, fill func(path string, n int) error) {
	for b.Loop() {
		f := benchFleet(b)
		size := mebibytes(b) << 20
		file := f.path("logs/big.log")
		f.must(fill(file, size))
		copied, err := copyFile(file, f.path("copy"))
		f.must(err)
		f.must(os.Remove(f.path("copy")))
		before := map[string]usage{}
		names := []string{"forward", "broker", "receive"}
		for _, n := range names {
			before[n] = f.usage(n)
		}
		begin := time.Now()
		f.define("big")
		central := filepath.Join(f.path("received"), identity, "big.log")
		f.eventually("arrive", 5*time.Minute, func() error {
			st, err := os.Stat(central)
			if err == nil && st.Size() != int64(size) {
				err = fmt.Errorf("%d of %d bytes", st.Size(), size)
			}
			return err
		})
		took := time.Since(begin)
		f.eventually("confirm", time.Minute, func() error {
			s, err := f.status()
			if err == nil && (len(s.Logs) != 1 || s.Logs[0].Confirmed != uint64(size)) {
				err = fmt.Errorf("%+v", s.Logs)
			}
			return err
		})
		gib := float64(size) / (1 << 30)
		total := 0.0
		for _, n := range names {
			u := f.usage(n)
			cpu := (u.cpu - before[n].cpu).Seconds() / gib
			total += cpu
			b.ReportMetric(cpu, n+"-CPU-s/GiB")
			b.ReportMetric(float64(u.peak)/1e6, n+"-peak-MB")
		}
		b.ReportMetric(total, "CPU-s/GiB")
		b.ReportMetric(float64(size)/took.Seconds()/1e6, "MB/s")
		b.ReportMetric(copied.Seconds()/took.Seconds(), "of-cp")
		equal(f, file, "big")
		for _, n := range []string{"forward", "receive", "broker"} {
			f.kill(n, syscall.SIGTERM)
		}
		f.must(os.RemoveAll(f.dir))
	}
}

// equal compares a node's file with the central ones without holding either in memory.
func equal(f *fleet, file, log string) {
	f.t.Helper()
	src, err := os.Open(file)
	f.must(err)
	defer src.Close()
	r, w := io.Pipe()
	go func() {
		_, err := receive.Cat(w, []string{f.path("received")}, identity, log)
		w.CloseWithError(err)
	}()
	x, y := bufio.NewReaderSize(src, 1<<20), bufio.NewReaderSize(r, 1<<20)
	bufX, bufY := make([]byte, 1<<20), make([]byte, 1<<20)
	for {
		n, errX := io.ReadFull(x, bufX)
		m, errY := io.ReadFull(y, bufY)
		if !bytes.Equal(bufX[:n], bufY[:m]) {
			f.t.Fatalf("central bytes of %s differ", log)
		}
		if errX != nil || errY != nil {
			return
		}
	}
}

// BenchmarkLatency writes 5,000 lines a second for ten seconds, and measures the time from a line's
// write to its appearance in the central file.
func BenchmarkLatency(b *testing.B) {
	const perSecond, duration = 5000, 10 * time.Second
	for b.Loop() {
		f := benchFleet(b)
		f.define("app")
		w, err := os.Create(f.path("logs/app.log"))
		f.must(err)
		f.must(writeLine(w, time.Now()))
		central := filepath.Join(f.path("received"), identity, "app.log")
		f.eventually("first line", 20*time.Second, func() error { _, err := os.Stat(central); return err })
		r, err := os.Open(central)
		f.must(err)
		before := map[string]usage{}
		names := []string{"forward", "broker", "receive"}
		for _, n := range names {
			before[n] = f.usage(n)
		}
		done := make(chan []time.Duration)
		count := int(duration.Seconds() * perSecond)
		go func() { done <- watchLines(r, count+1) }()
		begin := time.Now()
		for i := range count {
			at := begin.Add(time.Duration(i) * time.Second / perSecond)
			if d := time.Until(at); d > 0 {
				pause(d)
			}
			f.must(writeLine(w, time.Now()))
		}
		seen := <-done
		slices.Sort(seen)
		total := 0.0
		for _, n := range names {
			cpu := (f.usage(n).cpu - before[n].cpu).Seconds()
			total += cpu
			b.ReportMetric(cpu, n+"-CPU-s")
		}
		b.ReportMetric(total, "CPU-s")
		for _, q := range []struct {
			name string
			part float64
		}{{"p50", 0.5}, {"p99", 0.99}, {"p99.9", 0.999}} {
			b.ReportMetric(seen[int(float64(len(seen))*q.part)].Seconds()*1e3, q.name+"-ms")
		}
		r.Close()
		w.Close()
		for _, n := range []string{"forward", "receive", "broker"} {
			f.kill(n, syscall.SIGTERM)
		}
		f.must(os.RemoveAll(f.dir))
	}
}

// pause sleeps for d. The runtime's own sleep lasts a millisecond at least where the process has nothing else to do, which would be half of
// what is measured.
func pause(d time.Duration) {
	t := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&t, nil) // a signal may end it early
}

func writeLine(w io.Writer, at time.Time) error {
	_, err := fmt.Fprintf(w, "%019d %s\n", at.UnixNano(), strings.Repeat("y", 159))
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
	for b.Loop() {
		f := benchFleet(b)
		for i := range 200 {
			f.must(os.WriteFile(f.path(fmt.Sprintf("logs/quiet%03d.log", i)), []byte("one line\n"), 0o644))
		}
		f.write("forwarders/quiet.yaml", fmt.Sprintf("log: quiet\npath: %s\ndestination: central\nstart: beginning\n", f.path("logs/quiet*.log")))
		f.eventually("all confirmed", time.Minute, func() error {
			s, err := f.status()
			if err != nil {
				return err
			}
			for _, l := range s.Logs {
				if l.Confirmed != 9 {
					return fmt.Errorf("%s: %d confirmed", l.Log, l.Confirmed)
				}
			}
			if len(s.Logs) != 200 {
				return fmt.Errorf("%d logs", len(s.Logs))
			}
			return nil
		})
		time.Sleep(2 * time.Second)
		before := f.usage("forward")
		time.Sleep(15 * time.Second)
		after := f.usage("forward")
		b.ReportMetric((after.cpu - before.cpu).Seconds(), "CPU-s-in-15-s")
		b.ReportMetric(float64(after.peak)/1e6, "peak-MB")
		for _, n := range []string{"forward", "receive", "broker"} {
			f.kill(n, syscall.SIGTERM)
		}
		f.must(os.RemoveAll(f.dir))
	}
}
