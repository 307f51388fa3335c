package tail

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// Thousands of files in one directory, with one watcher.
func TestManyFiles(t *testing.T) {
	n := 2000
	if testing.Short() {
		n = 300
	}
	dir := t.TempDir()
	w := newWatcher(t, WatcherConfig{Poll: -1, NoInotify: true})
	allowed := allow(t, dir+"/*")
	logs := make([]*Log, n)
	path := func(i int) string { return fmt.Sprintf("%s/%04d.log", dir, i) }
	for i := range logs {
		logs[i] = New(Config{Path: path(i), Start: StartBeginning, Allowed: allowed, Watcher: w})
		if err := logs[i].Open(State{}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = logs[i].Close() })
	}
	for i := range logs {
		if err := os.WriteFile(path(i), []byte(fmt.Sprintf("line of %d\n", i)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w.Sweep()
	buf := make([]byte, 1000)
	read := func(i int, want string) {
		t.Helper()
		select {
		case <-logs[i].Wake():
			logs[i].signal()
		default:
			t.Fatalf("log %d wasn't woken", i)
		}
		p, err := logs[i].Peek(buf)
		if err != nil || string(p.Data) != want {
			t.Fatalf("log %d: %q %v", i, p.Data, err)
		}
		if err := logs[i].Advance(uint64(len(p.Data))); err != nil {
			t.Fatal(err)
		}
	}
	for i := range logs {
		read(i, fmt.Sprintf("line of %d\n", i))
	}
	w.Sweep()
	for i := range logs {
		select {
		case <-logs[i].Wake():
			t.Fatalf("log %d was woken for nothing", i)
		default:
		}
	}
	start := time.Now()
	w.Sweep()
	t.Logf("a sweep over %d quiet files took %v", n, time.Since(start))
	f, err := os.OpenFile(path(7), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = f.WriteString("more\n")
	_ = f.Close()
	w.Sweep()
	read(7, "more\n")
}
