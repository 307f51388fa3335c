package pipe

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What one choice costs, everything else being equal.

// BenchmarkChunkSize is the pipe's cost against the size of its messages.
func BenchmarkChunkSize(b *testing.B) {
	for _, kib := range []int{4, 16, 64, 256, 512, 1000} {
		b.Run(fmt.Sprintf("KiB=%d", kib), func(b *testing.B) {
			for b.Loop() {
				f := benchFleet(b, map[string]string{"forward": fmt.Sprintf("chunk_size = %dKiB\n", kib)})
				size := smaller(b) << 20
				f.must(lines(f.path("logs/big.log"), size))
				took, _ := f.forward(b, "big", size)
				b.ReportMetric(float64(size)/took.Seconds()/1e6, "MB/s")
				equal(f, f.path("logs/big.log"), f.path("received"), "big")
				f.end(pipeline...)
			}
		})
	}
}

// BenchmarkCompression is what compression on the way costs, and saves, with lines of a web server and with bytes that can't be made smaller.
func BenchmarkCompression(b *testing.B) {
	for _, name := range []string{"none", "s2", "zstd", "none-random", "s2-random"} {
		how, random := strings.CutSuffix(name, "-random")
		content := accesses
		if random {
			content = noise
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				f := benchFleet(b, map[string]string{"forward": fmt.Sprintf("destination.central.compression = %s\n", how)})
				size := smaller(b) << 20
				f.must(content(f.path("logs/big.log"), size))
				took, _ := f.forward(b, "big", size)
				b.ReportMetric(float64(size)/took.Seconds()/1e6, "MB/s")
				equal(f, f.path("logs/big.log"), f.path("received"), "big")
				f.end(pipeline...)
			}
		})
	}
}

// BenchmarkReplicas is the cost of copies in a cluster of three servers, which share this machine's cores and disk.
func BenchmarkReplicas(b *testing.B) {
	for _, replicas := range []int{1, 3} {
		b.Run(fmt.Sprintf("copies=%d", replicas), func(b *testing.B) {
			for b.Loop() {
				m := newTeam(b, 0, 0, false)
				for _, d := range []string{"logs", "forwarders"} {
					m.must(os.MkdirAll(m.path(d), 0o755))
				}
				m.configure(map[string]string{"url": m.urls()})
				var names []string
				for i := range teamServers {
					m.startServer(i)
					names = append(names, fmt.Sprintf("n%d", i+1))
				}
				m.leader()
				m.setup("--partitions", "1", "--replicas", fmt.Sprint(replicas))
				m.start("receive")
				names = append(names, "receive")
				size := smaller(b) << 20
				m.must(lines(m.path("logs/big.log"), size))
				m.define("big")
				unix.Sync()
				meter := m.meter(names...)
				begin := time.Now()
				m.start("forward")
				meter.before["forward"] = usage{}
				took := m.arrive(filepath.Join(m.path("received"), identity, "big.log"), size, 2*time.Minute).Sub(begin)
				m.confirmed(1, size, time.Minute)
				meter.report(b, float64(size)/(1<<30), "CPU-s/GiB")
				b.ReportMetric(float64(size)/took.Seconds()/1e6, "MB/s")
				equal(m.fleet, m.path("logs/big.log"), m.path("received"), "big")
				for i := range teamServers { // one that is left alone would wait for the others
					m.kill(fmt.Sprintf("n%d", i+1), syscall.SIGKILL)
				}
				m.end("forward", "receive")
			}
		})
	}
}

// BenchmarkSites forwards a file to one site, and to two that each have a broker and a receiver: the price of redundant sites.
func BenchmarkSites(b *testing.B) {
	for _, sites := range []int{1, 2} {
		b.Run(fmt.Sprintf("sites=%d", sites), func(b *testing.B) {
			for b.Loop() {
				forwardToSites(b, sites)
			}
		})
	}
}

func forwardToSites(b *testing.B, sites int) {
	f := newFleet(b)
	names := []string{"broker", "receive"}
	destinations := ""
	if sites == 2 {
		port := freePort(b)
		url := fmt.Sprintf("nats://127.0.0.1:%d", port)
		destinations = "destination.second.url = " + url + "\n"
		f.write("receive2.cfg", fmt.Sprintf("url = %s\noutput = %s\nstate = %s\nreceiver = r2\nrotate_size = 0\nrotate_every = 0\ncompress = none\n", url, f.path("received2"), f.path("centre2")))
		f.launch("broker2", nil, binary, "broker", "--listen", fmt.Sprintf("127.0.0.1:%d", port), "--store", f.path("store2"))
		f.eventually("setup of the second site", 20*time.Second, func() error {
			_, err := f.run("setup", "--url", url, "--partitions", "1")
			return err
		})
		f.launch("receive2", nil, binary, "receive", "--config", f.path("receive2.cfg"))
		names = append(names, "broker2", "receive2")
	}
	f.configure(map[string]string{"forward": destinations})
	f.start("broker")
	f.setup("--partitions", "1")
	f.start("receive")
	size := smaller(b) << 20
	f.must(lines(f.path("logs/big.log"), size))
	if sites == 2 {
		f.write("forwarders/second.yaml", fmt.Sprintf("log: big.second\npath: %s\ndestination: second\nstart: beginning\n", f.path("logs/big.log")))
	}
	f.define("big")
	unix.Sync()
	m := f.meter(names...)
	begin := time.Now()
	f.start("forward")
	m.before["forward"] = usage{}
	took := f.arrive(filepath.Join(f.path("received"), identity, "big.log"), size, 2*time.Minute).Sub(begin)
	if sites == 2 {
		took = max(took, f.arrive(filepath.Join(f.path("received2"), identity, "big.second.log"), size, 2*time.Minute).Sub(begin))
		equal(f, f.path("logs/big.log"), f.path("received2"), "big.second")
	}
	f.confirmed(sites, sites*size, time.Minute)
	m.report(b, float64(size)/(1<<30), "CPU-s/GiB")
	b.ReportMetric(float64(size)/took.Seconds()/1e6, "MB/s")
	b.ReportMetric(float64(f.usage("forward").written)/float64(size), "written-B/B")
	equal(f, f.path("logs/big.log"), f.path("received"), "big")
	f.end(append(names, "forward")...)
}
