package pipe

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
)

// How much a log compresses decides much of what it costs: an access log is in the middle, random bytes are the end.

// BenchmarkThroughputAccessLog forwards what a web server writes.
func BenchmarkThroughputAccessLog(b *testing.B) { throughput(b, accessLog) }

// BenchmarkThroughputRandom forwards bytes that can't be compressed.
func BenchmarkThroughputRandom(b *testing.B) { throughput(b, noise) }

// accessLog writes n bytes of a web server's log.
func accessLog(path string, n int) error {
	paths := []string{"/", "/index.html", "/api/v1/users", "/static/app.js", "/static/css/main.css", "/favicon.ico", "/api/v1/orders"}
	agents := []string{
		"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36", "curl/8.4.0",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605.1.15",
	}
	r := rand.New(rand.NewPCG(1, 2))
	second := 0
	return fill(path, n, func(line []byte) []byte {
		second += r.IntN(100) / 99
		return fmt.Appendf(line, "%d.%d.%d.%d - - [25/Nov/2026:%02d:%02d:%02d +0000] \"GET %s/%d HTTP/1.1\" %d %d \"-\" \"%s\"\n",
			r.IntN(256), r.IntN(256), r.IntN(256), r.IntN(256), second/3600%24, second/60%60, second%60,
			paths[r.IntN(len(paths))], r.IntN(100000), 200+r.IntN(5), r.IntN(100000), agents[r.IntN(len(agents))])
	})
}

// noise writes n random bytes.
func noise(path string, n int) error {
	r := rand.NewChaCha8([32]byte{1})
	return fill(path, n, func(line []byte) []byte {
		line = line[:4096]
		_, _ = r.Read(line)
		return line
	})
}

// fill writes n bytes of what next gives; next gets an empty slice with room for 4 KiB.
func fill(path string, n int, next func([]byte) []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	buf := make([]byte, 0, 4096)
	for n > 0 {
		line := next(buf)
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
