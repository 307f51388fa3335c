package pipe

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sys/unix"

	"logforward/internal/broker"
	"logforward/internal/control"
	"logforward/internal/receive"
)

// mebibytes is the size of the throughput benchmark's load.
func mebibytes(b *testing.B) int { return environment(b, "LOGFORWARD_BENCH_MIB", 1024) }

// smaller is that of benchmarks that compare many variants.
func smaller(b *testing.B) int { return min(mebibytes(b), 256) }

func environment(t testing.TB, name string, def int) int {
	t.Helper()
	if s := os.Getenv(name); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return n
	}
	return def
}

const lineLength = 180

// words are what a line is filled with: a line shrinks as those of programs do, to about a third.
var words = strings.Fields("GET POST 200 404 user session request failed connection reset timeout upstream cache miss hit retry worker queue " +
	"started finished accepted denied token expired from to for with at in id= pid= addr= status= bytes= ms= /api/v1/orders /api/v1/users /static/app.js " +
	"10.1.4.17 10.3.200.9 192.168.7.31 nginx postgres kafka billing search INFO WARN ERROR DEBUG Mozilla/5.0 curl/8.9.1 Firefox/128.0")

// line writes the line of a number into b, which has its length. No two are alike.
func line(b []byte, number int) {
	state := uint64(number) * 0x9e3779b97f4a7c15
	at := copy(b, fmt.Sprintf("%016d %016x ", number, state))
	for at < lineLength-1 {
		state = state*6364136223846793005 + 1442695040888963407
		word := words[state>>33%uint64(len(words))]
		at += copy(b[at:lineLength-1], word)
		if strings.HasSuffix(word, "=") {
			at += copy(b[at:lineLength-1], strconv.FormatUint(state>>40, 10))
		}
		at += copy(b[at:lineLength-1], " ")
	}
	b[lineLength-1] = '\n'
}

// lines writes n bytes of 180-byte lines.
func lines(path string, n int) error {
	buf := make([]byte, lineLength)
	return written(path, n, func(i int) []byte { line(buf, i); return buf })
}

// noise writes n random bytes, as lines of 4 KiB or so.
func noise(path string, n int) error {
	r := rand.NewChaCha8([32]byte{1})
	buf := make([]byte, 4096)
	return written(path, n, func(int) []byte { _, _ = r.Read(buf); return buf })
}

// accesses writes n bytes of lines as web servers have them: they shrink like real ones.
func accesses(path string, n int) error {
	state := uint64(1)
	random := func(n uint64) uint64 {
		state = state*6364136223846793005 + 1442695040888963407
		return state >> 33 % n
	}
	agents := []string{"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", "curl/8.9.1", "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15"}
	paths := []string{"/", "/login", "/api/v1/items", "/static/app.js", "/search"}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var buf []byte
	return written(path, n, func(i int) []byte {
		at := start.Add(time.Duration(i) * 3 * time.Millisecond).Format("02/Jan/2006:15:04:05 -0700")
		buf = fmt.Appendf(buf[:0], "10.%d.%d.%d - - [%s] \"GET %s?id=%d HTTP/1.1\" %d %d \"-\" \"%s\" %08x\n", random(4), random(256), random(256), at,
			paths[random(5)], random(1e6), []int{200, 200, 200, 304, 404}[random(5)], random(50000), agents[random(3)], random(1<<31))
		return buf
	})
}

func written(path string, n int, next func(i int) []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	for i := 0; n > 0; i++ {
		b := next(i)
		m := min(n, len(b))
		if m == n {
			b[m-1] = '\n' // the rest of a last line would be waited for
		}
		if _, err := w.Write(b[:m]); err != nil {
			return err
		}
		n -= m
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}

// --- what the machine itself can do

// warm writes out what earlier work left, and touches as much free memory as the pipe takes for a load of that size, which it writes twice. It comes before each thing that is
// measured, the pipe and what that is compared with alike: the host of a virtual machine backs memory when it is touched first, and takes it back once it
// has been free for a while, and whoever touches it pays for that.
func (f *fleet) warm(size int) {
	f.t.Helper()
	unix.Sync()
	name := f.path("warm") // the memory is a file's, for that is what is needed: the kernel has several kinds
	w, err := os.Create(name)
	f.must(err)
	defer w.Close()
	for zeros := make([]byte, 1<<20); size > 0; size -= len(zeros) / 2 {
		_, err := w.Write(zeros)
		f.must(err)
	}
	f.must(os.Remove(name)) // before any of it is written to the disk
}

// copyFile copies as cp does where it can't share extents, with a plain loop.
func copyFile(from, to string) (time.Duration, error) { return copyBlocks(from, to, 128<<10, false) }

// copyBlocks copies with a plain loop; synced as dd conv=fsync does.
func copyBlocks(from, to string, block int, synced bool) (time.Duration, error) {
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
	_, err = io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, make([]byte, block))
	if synced && err == nil {
		err = dst.Sync()
	}
	err = errors.Join(err, dst.Close())
	return time.Since(begin), err
}

// publishRaw publishes a file's bytes in messages of 512 KiB to a stream of a broker of its own, with the client library alone, and gives the time
// until the last one is acknowledged, and what that broker took.
func (f *fleet) publishRaw(file string, size int) (time.Duration, usage) {
	f.t.Helper()
	port := freePort(f.t)
	f.launch("raw", nil, binary, "broker", "--listen", fmt.Sprintf("127.0.0.1:%d", port), "--store", f.path("raw-store"))
	defer func() {
		f.kill("raw", syscall.SIGTERM)
		f.must(os.RemoveAll(f.path("raw-store")))
	}()
	url := fmt.Sprintf("nats://127.0.0.1:%d", port)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var js jetstream.JetStream
	f.eventually("a broker to publish to", 20*time.Second, func() error {
		nc, err := broker.Connect(ctx, broker.Options{URLs: []string{url}})
		if err != nil {
			return err
		}
		f.t.Cleanup(nc.Close)
		js, err = jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(32))
		if err == nil {
			_, err = js.CreateStream(ctx, jetstream.StreamConfig{Name: "RAW", Subjects: []string{"raw"}, Storage: jetstream.FileStorage})
		}
		return err
	})
	src, err := os.Open(file)
	f.must(err)
	defer src.Close()
	f.warm(size)
	before := f.usage("raw")
	begin := time.Now()
	var acks []jetstream.PubAckFuture
	for {
		buf := make([]byte, 512<<10) // the library keeps it
		n, err := io.ReadFull(src, buf)
		if n > 0 {
			ack, err := js.PublishAsync("raw", buf[:n])
			f.must(err)
			acks = append(acks, ack)
		}
		if err != nil {
			break
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-ctx.Done():
		f.must(ctx.Err())
	}
	took, spent := time.Since(begin), f.usage("raw")
	spent.cpu -= before.cpu
	for _, a := range acks {
		select {
		case <-a.Ok():
		case err := <-a.Err():
			f.must(err)
		}
	}
	return took, spent
}

// --- what processes take

// usage is what a running process has taken.
type usage struct {
	cpu      time.Duration
	peak     int64 // bytes
	resident int64 // bytes
	written  int64 // bytes, to files and connections
}

func (f *fleet) usage(name string) (u usage) {
	f.t.Helper()
	f.mu.Lock()
	p := f.processes[name]
	f.mu.Unlock()
	// The process's own clock counts in ns, where /proc has ticks of 10 ms; see clock_getcpuclockid(3).
	var spent unix.Timespec
	f.must(unix.ClockGettime(int32(^p.cmd.Process.Pid<<3|2), &spent))
	u.cpu = time.Duration(spent.Nano())
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	f.must(err)
	for line := range strings.Lines(string(status)) {
		for field, to := range map[string]*int64{"VmHWM:": &u.peak, "VmRSS:": &u.resident} {
			if rest, ok := strings.CutPrefix(line, field); ok {
				n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
				f.must(err)
				*to = n << 10
			}
		}
	}
	count, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", p.cmd.Process.Pid))
	f.must(err)
	for line := range strings.Lines(string(count)) {
		if rest, ok := strings.CutPrefix(line, "wchar: "); ok {
			u.written, err = strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
			f.must(err)
		}
	}
	return u
}

// metered is what some processes had taken at one time.
type metered struct {
	f      *fleet
	before map[string]usage
}

func (f *fleet) meter(names ...string) metered {
	f.t.Helper()
	m := metered{f, map[string]usage{}}
	for _, n := range names {
		m.before[n] = f.usage(n)
	}
	return m
}

// fromStart meters processes from their beginning.
func (f *fleet) fromStart(names ...string) metered {
	m := metered{f, map[string]usage{}}
	for _, n := range names {
		m.before[n] = usage{}
	}
	return m
}

// report tells the CPU seconds since then, divided by per, each process's and their sum, and peaks of memory. Processes with the same word before
// a digit at the end of their name count as one, and servers of a cluster as the broker.
func (m metered) report(b *testing.B, per float64, unit string) {
	b.Helper()
	total := 0.0
	cpu, peak := map[string]float64{}, map[string]float64{}
	for name, before := range m.before {
		u := m.f.usage(name)
		s := (u.cpu - before.cpu).Seconds() / per
		role := strings.TrimRight(name, "0123456789")
		if role == "n" {
			role = "broker"
		}
		cpu[role] += s
		peak[role] += float64(u.peak) / 1e6
		total += s
	}
	for role, s := range cpu {
		b.ReportMetric(s, role+"-"+unit)
		b.ReportMetric(peak[role], role+"-peak-MB")
	}
	b.ReportMetric(total, unit)
}

// quantiles of durations, in milliseconds.
func quantiles(b *testing.B, seen []time.Duration) {
	b.Helper()
	slices.Sort(seen)
	for _, q := range []struct {
		name string
		part float64
	}{{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}} {
		b.ReportMetric(seen[int(float64(len(seen))*q.part)].Seconds()*1e3, q.name+"-ms")
	}
	b.ReportMetric(seen[len(seen)-1].Seconds()*1e3, "max-ms")
}

// --- the processes that are measured

var pipeline = []string{"forward", "broker", "receive"}

// benchFleet makes a fleet with the settings that users get, not those of the fault tests, beside those given for forwarder and receiver. The forwarder
// isn't started.
func benchFleet(b *testing.B, settings map[string]string) *fleet {
	b.Helper()
	f := newFleet(b)
	f.configure(settings)
	f.start("broker")
	f.setup("--partitions", "1")
	f.start("receive")
	return f
}

func (f *fleet) configure(settings map[string]string) {
	f.t.Helper()
	url := fmt.Sprintf("nats://127.0.0.1:%d", f.port)
	if settings["url"] != "" {
		url = settings["url"]
	}
	f.write("forward.cfg", fmt.Sprintf("identity = %s\nstate = %s\nsocket = %s\nforwarders = %s\ndestination.central.url = %s\nallowed_paths = %s\naudit_log = %s\nwishes = %s\npolicy = peers\n%s",
		identity, f.path("node"), f.socket(), f.path("forwarders"), url, f.path("logs/**"), f.path("audit.log"), f.path("wishes"), settings["forward"]))
	f.write("receive.cfg", fmt.Sprintf("url = %s\noutput = %s\nstate = %s\nreceiver = r1\nrotate_size = 0\nrotate_every = 0\ncompress = none\n%s",
		url, f.path("received"), f.path("centre"), settings["receive"]))
}

func (f *fleet) startForward() {
	f.t.Helper()
	f.start("forward")
	f.eventually("start", 20*time.Second, func() error { _, err := f.ask(); return err })
}

// ask is status without another process.
func (f *fleet) ask() (control.StatusReply, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return control.NewClient(f.socket()).Status(ctx, control.StatusRequest{})
}

func (f *fleet) end(names ...string) {
	f.t.Helper()
	for _, n := range names {
		f.kill(n, syscall.SIGTERM)
	}
	f.must(os.RemoveAll(f.dir))
}

// centralBytes are those of all open central files below a directory.
func centralBytes(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(p, ".log") {
			if i, err := d.Info(); err == nil {
				n += i.Size()
			}
		}
		return nil
	})
	return n
}

// arrive waits until so many bytes lie in central files, one file if it is named, and gives the time then.
func (f *fleet) arrive(path string, want int, within time.Duration) time.Time {
	f.t.Helper()
	deadline := time.Now().Add(within)
	for {
		began := time.Now()
		n := int64(0)
		if st, err := os.Stat(path); err == nil && !st.IsDir() {
			n = st.Size()
		} else if err == nil {
			n = centralBytes(path)
		}
		now := time.Now()
		if n == int64(want) {
			return now
		}
		if n > int64(want) || now.After(deadline) {
			f.t.Fatalf("%d of %d bytes are central", n, want)
		}
		time.Sleep(max(5*time.Millisecond, 20*now.Sub(began))) // how exactly the end is measured; looking mustn't take what is measured
	}
}

// confirmed waits until the node knows of so many bytes and logs.
func (f *fleet) confirmed(logs, want int, within time.Duration) {
	f.t.Helper()
	deadline := time.Now().Add(within)
	for {
		began := time.Now()
		s, err := f.ask()
		n := uint64(0)
		for _, l := range s.Logs {
			n += l.Confirmed
		}
		if err == nil && len(s.Logs) == logs && n == uint64(want) {
			return
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("%d of %d bytes of %d of %d logs confirmed: %v", n, want, len(s.Logs), logs, err)
		}
		time.Sleep(max(20*time.Millisecond, 10*time.Since(began)))
	}
}

// equal compares a node's file with the central ones without holding either in memory.
func equal(f *fleet, file, output, log string) {
	f.t.Helper()
	src, err := os.Open(file)
	f.must(err)
	defer src.Close()
	r, w := io.Pipe()
	defer r.Close()
	go func() {
		_, err := receive.Cat(w, []string{output}, identity, log)
		w.CloseWithError(err)
	}()
	x, y := bufio.NewReaderSize(src, 64<<10), bufio.NewReaderSize(r, 64<<10)
	bufX, bufY := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, errX := io.ReadFull(x, bufX)
		m, errY := io.ReadFull(y, bufY)
		if !bytes.Equal(bufX[:n], bufY[:m]) {
			f.t.Fatalf("central bytes of %s differ: %v", log, errY)
		}
		if errX != nil || errY != nil {
			if (errX == nil) != (errY == nil) {
				f.t.Fatalf("%s: %v on the node, %v centrally", log, errX, errY)
			}
			return
		}
	}
}
