package pipe

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// peer is another program that brings a file's lines to a central file: one process on the node, one at the centre, configured by the files in test/peers.
type peer struct {
	name          string // logforward: this one, for the comparison
	send, receive string // files in test/peers
}

var peers = []peer{
	{name: "logforward"},
	{"rsyslog-relp", "rsyslog-relp-send.conf", "rsyslog-relp-receive.conf"},
	{"rsyslog-tcp", "rsyslog-tcp-send.conf", "rsyslog-tcp-receive.conf"},
	{"syslog-ng", "syslog-ng-send.conf", "syslog-ng-receive.conf"},
	{"syslog-ng-disk", "syslog-ng-disk-send.conf", "syslog-ng-receive.conf"},
}

// pair is a peer that runs: the processes send and receive, and with logforward a broker.
type pair struct {
	*fleet
	peer    peer
	names   []string
	file    string // on the node
	central string
	env     []string
}

func newPair(b *testing.B, p peer) *pair {
	b.Helper()
	f := newFleet(b)
	x := &pair{fleet: f, peer: p, file: f.path("logs/app.log"), names: []string{"send", "receive"}}
	if p.send == "" {
		x.names = pipeline
		x.central = filepath.Join(f.path("received"), identity, "app.log")
		f.configure(nil)
		f.define("app")
		return x
	}
	x.central = f.path("central.log")
	for _, d := range []string{"send", "receive"} {
		f.must(os.MkdirAll(f.path("state-"+d), 0o755))
	}
	x.env = []string{fmt.Sprintf("PORT=%d", f.port), "INPUT=" + x.file, "OUTPUT=" + x.central}
	for _, role := range x.names {
		if _, _, err := x.command(role); err != nil {
			b.Skipf("%v: make bench-peers gets it", err)
		}
	}
	return x
}

// command is how a peer's process is started: the one that make bench-peers unpacked, or else what is installed.
func (x *pair) command(role string) (env, args []string, err error) {
	config := x.peer.send
	if role == "receive" {
		config = x.peer.receive
	}
	if config, err = filepath.Abs(filepath.Join("../peers", config)); err != nil {
		return nil, nil, err
	}
	root, err := filepath.Abs("../../bin/peers/root")
	if err != nil {
		return nil, nil, err
	}
	program := "rsyslogd"
	if strings.HasPrefix(x.peer.name, "syslog-ng") {
		program = "syslog-ng"
	}
	env = append(x.env, "STATE="+x.path("state-"+role))
	path := filepath.Join(root, "usr/sbin", program)
	var libraries []string
	if !exists(path) {
		if path, err = exec.LookPath(program); err != nil {
			path, err = exec.LookPath(filepath.Join("/usr/sbin", program))
		}
		if err != nil {
			return nil, nil, err
		}
		root = ""
	} else {
		for _, pattern := range []string{"usr/lib/*-linux-gnu", "lib/*-linux-gnu", "usr/lib/syslog-ng", "usr/lib/syslog-ng/[0-9]*"} {
			found, err := filepath.Glob(filepath.Join(root, pattern))
			if err != nil {
				return nil, nil, err
			}
			libraries = append(libraries, found...)
		}
		env = append(env, "LD_LIBRARY_PATH="+strings.Join(libraries, ":"))
	}
	if program == "syslog-ng" {
		args = []string{path, "-F", "--no-caps", "-f", config, "-R", x.path(role + ".persist"), "-p", x.path(role + ".pid"), "-c", x.path(role + ".ctl")}
		if root != "" {
			args = append(args, "--module-path="+strings.Join(libraries, ":"))
		}
		return env, args, nil
	}
	args = []string{path, "-n", "-f", config, "-i", x.path(role + ".pid")}
	if root != "" {
		args = append(args, "-M", filepath.Join(libraries[0], "rsyslog"))
	}
	return env, args, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// run starts one role: send, receive, and with logforward the broker before both.
func (x *pair) run(role string) {
	x.t.Helper()
	if x.peer.send == "" {
		if role == "receive" && x.processes["broker"] == nil {
			x.start("broker")
			x.setup("--partitions", "1")
		}
		x.start(map[string]string{"send": "forward", "receive": "receive"}[role])
		return
	}
	env, args, err := x.command(role)
	x.must(err)
	x.launch(role, env, args...)
	if role == "receive" {
		x.eventually("it to listen", 20*time.Second, func() error {
			_, err := os.Stat(x.path(role + ".pid"))
			return err
		})
	}
}

// process is the name of a role's process.
func (x *pair) process(role string) string {
	if role == "send" {
		return x.names[0]
	}
	return "receive"
}

// settled waits until the central file has so many bytes, or hasn't changed for a while, and gives the time of its last change.
func (x *pair) settled(size int64, quiet, within time.Duration) time.Time {
	last, changed := int64(-1), time.Now()
	for deadline := time.Now().Add(within); ; time.Sleep(5 * time.Millisecond) { // how exactly the end is measured
		n := int64(0)
		if st, err := os.Stat(x.central); err == nil {
			n = st.Size()
		}
		now := time.Now()
		if n != last {
			last, changed = n, now
		}
		if n == size || now.Sub(changed) > quiet || now.After(deadline) {
			return changed
		}
	}
}

// tally is what has become of numbered lines.
type tally struct{ lost, doubled, damaged, disordered int }

func count(path string, lines int) (c tally, err error) {
	f, err := os.Open(path)
	if err != nil {
		return c, err
	}
	defer f.Close()
	seen := make([]uint8, lines)
	r := bufio.NewReaderSize(f, 1<<20)
	want := make([]byte, lineLength)
	last := -1
	for {
		got, err := r.ReadSlice('\n')
		if len(got) > 0 {
			n, perr := strconv.Atoi(string(bytes.TrimLeft(got[:min(16, len(got))], "0")))
			if len(got) > 16 && bytes.Count(got[:16], []byte("0")) == 16 {
				n, perr = 0, nil
			}
			if perr == nil && n < lines {
				line(want, n)
			}
			switch {
			case perr != nil || n >= lines || !bytes.Equal(got, want):
				c.damaged++
			case seen[n] > 0:
				c.doubled++
			default:
				seen[n]++
				if n < last {
					c.disordered++
				}
				last = n
			}
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return c, err
		}
	}
	for _, n := range seen {
		if n == 0 {
			c.lost++
		}
	}
	return c, nil
}

func (c tally) report(b *testing.B) {
	b.ReportMetric(float64(c.lost), "lost-lines")
	b.ReportMetric(float64(c.doubled), "doubled-lines")
	b.ReportMetric(float64(c.damaged), "damaged-lines")
	b.ReportMetric(float64(c.disordered), "disordered-lines")
}

// load writes whole lines.
func (x *pair) load(b *testing.B, mib int) (lineCount int, size int64) {
	b.Helper()
	lineCount = (mib << 20) / lineLength
	x.must(lines(x.file, lineCount*lineLength))
	unix.Sync()
	return lineCount, int64(lineCount * lineLength)
}

// BenchmarkPeers brings one file to a central one, with this program and others, judged alike.
func BenchmarkPeers(b *testing.B) {
	for _, p := range peers {
		b.Run(p.name, func(b *testing.B) {
			for b.Loop() {
				x := newPair(b, p)
				n, size := x.load(b, smaller(b))
				x.run("receive")
				time.Sleep(time.Second) // for the centre to be ready
				begin := time.Now()
				x.run("send")
				took := x.settled(size, 10*time.Second, 90*time.Second).Sub(begin)
				if p.send == "" {
					x.confirmed(1, int(size), time.Minute)
				}
				x.fromStart(x.names...).report(b, float64(size)/(1<<30), "CPU-s/GiB")
				c, err := count(x.central, n)
				x.must(err)
				c.report(b)
				b.ReportMetric(float64((n-c.lost)*lineLength)/took.Seconds()/1e6, "MB/s")
				if p.send == "" && c != (tally{}) {
					b.Fatalf("%+v", c)
				}
				x.end(x.names...)
			}
		})
	}
}

// BenchmarkPeersLatency is BenchmarkLatency with others.
func BenchmarkPeersLatency(b *testing.B) {
	for _, p := range peers[1:] {
		b.Run(p.name, func(b *testing.B) {
			for b.Loop() {
				x := newPair(b, p)
				x.run("receive")
				time.Sleep(time.Second)
				x.run("send")
				time.Sleep(time.Second)
				if said, err := os.ReadFile(x.path("send.out")); err == nil && bytes.Contains(said, []byte("cannot watch")) {
					b.Skipf("inotify's limits are reached, and it doesn't poll: %s", said)
				}
				x.latency(b, x.file, x.central, x.names)
				x.end(x.names...)
			}
		})
	}
}

// BenchmarkCrash kills one process with SIGKILL when half of a file is central, starts it again after a second, and tells what has become of
// the lines when nothing happens any more.
func BenchmarkCrash(b *testing.B) {
	const quiet = 5 * time.Second
	for _, role := range []string{"receive", "send"} {
		for _, p := range peers {
			b.Run(map[string]string{"receive": "receiver", "send": "sender"}[role]+"/"+p.name, func(b *testing.B) {
				for b.Loop() {
					x := newPair(b, p)
					n, size := x.load(b, min(mebibytes(b), 64))
					x.run("receive")
					time.Sleep(time.Second)
					x.run("send")
					x.reach(x.central, size/2, time.Minute)
					x.kill(x.process(role), syscall.SIGKILL)
					time.Sleep(time.Second)
					x.run(role)
					x.settled(-1, quiet, 90*time.Second) // also when all is there: it may come again
					c, err := count(x.central, n)
					x.must(err)
					c.report(b)
					if p.send == "" && c != (tally{}) {
						b.Fatalf("%+v", c)
					}
					x.end(x.names...)
				}
			})
		}
	}
}
