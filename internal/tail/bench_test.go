package tail

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// BenchmarkRead compares Peek and Advance with plain pread, over 64 MiB in pieces of 1 MiB.
func BenchmarkRead(b *testing.B) {
	const size, step = 64 << 20, 1 << 20
	path := b.TempDir() + "/app.log"
	if err := os.WriteFile(path, make([]byte, size), 0o644); err != nil {
		b.Fatal(err)
	}
	for _, step := range []int{step, 64 << 10, 4 << 10} {
		buf := make([]byte, step)
		b.Run(fmt.Sprintf("pread/%d", step), func(b *testing.B) {
			f, err := os.Open(path)
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			b.SetBytes(size)
			for b.Loop() {
				for off := int64(0); off < size; off += int64(step) {
					if _, err := unix.Pread(int(f.Fd()), buf, off); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
		b.Run(fmt.Sprintf("tail/%d", step), func(b *testing.B) {
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				l := New(Config{Path: path, Start: StartBeginning, Allowed: allow(b, path)})
				if err := l.Open(State{}); err != nil {
					b.Fatal(err)
				}
				for l.Head() < size {
					p, err := l.Peek(buf)
					if err != nil {
						b.Fatal(err)
					}
					if err := l.Advance(uint64(len(p.Data))); err != nil {
						b.Fatal(err)
					}
				}
				_ = l.Close()
			}
		})
	}
}

// BenchmarkIdleSweep is one sweep over 1,000 quiet files: what they cost each second.
func BenchmarkIdleSweep(b *testing.B) {
	dir := b.TempDir()
	w := newWatcher(b, WatcherConfig{Poll: -1})
	for i := range 1000 {
		path := fmt.Sprintf("%s/%d.log", dir, i)
		if err := os.WriteFile(path, []byte("x\n"), 0o644); err != nil {
			b.Fatal(err)
		}
		l := New(Config{Path: path, Allowed: allow(b, dir+"/*"), Watcher: w})
		if err := l.Open(State{}); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = l.Close() })
	}
	w.Sweep()
	b.ReportAllocs()
	for b.Loop() {
		w.Sweep()
	}
}
