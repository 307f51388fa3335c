package tail

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func newWatcher(t testing.TB, cfg WatcherConfig) *Watcher {
	t.Helper()
	w := NewWatcher(cfg)
	if err := w.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// await peeks at each wake until want has come.
func (r *rig) await(want string) {
	r.t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		for r.step() {
		}
		if string(r.out) == want {
			return
		}
		select {
		case <-r.log.Wake():
			r.log.signal() // Peek takes it
		case <-deadline:
			r.t.Fatalf("got %s, want %s, %v", brief(r.out), brief([]byte(want)), r.err)
		}
	}
}

func realClock(c *Config) { c.Now = time.Now; c.Quiet = 20 * time.Millisecond }

// Without a poll: inotify alone wakes.
func TestWatcherWakesOnEachEvent(t *testing.T) {
	w := newWatcher(t, WatcherConfig{Poll: -1})
	r := newRig(t, realClock, func(c *Config) { c.Watcher = w }).open()
	r.await("")
	r.write("app.log", "one\n")
	r.await("one\n")
	r.write("app.log", "two\n")
	r.await("one\ntwo\n")
	r.rename("app.log", "app.log.1")
	r.write("app.log", "three\n")
	r.await("one\ntwo\nthree\n")
	r.truncate("app.log")
	r.write("app.log", "4\n")
	r.await("one\ntwo\nthree\n4\n")
	// Through a link the other directory is watched.
	r.must(os.Mkdir(r.name("d"), 0o755))
	r.write("d/real", "5\n")
	r.link(r.name("d/real"), "app.log")
	r.await("one\ntwo\nthree\n4\n5\n")
	r.write("d/real", "6\n")
	r.await("one\ntwo\nthree\n4\n5\n6\n")
}

// Without inotify: the sweep alone wakes, also for what has no name any more.
func TestWatcherSweepWakes(t *testing.T) {
	w := newWatcher(t, WatcherConfig{Poll: -1, NoInotify: true})
	r := newRig(t, realClock, func(c *Config) { c.Watcher = w }).open()
	woken := func(want bool, why string) {
		t.Helper()
		w.Sweep()
		select {
		case <-r.log.Wake():
			if !want {
				t.Fatalf("woken: %s", why)
			}
		default:
			if want {
				t.Fatalf("not woken: %s", why)
			}
		}
	}
	w.Sweep()
	_ = r.log.Look()
	woken(false, "nothing happened")
	r.write("app.log", "one\n")
	woken(true, "file was made")
	_ = r.log.Look()
	woken(false, "nothing happened")
	r.write("app.log", "two\n")
	woken(true, "file grew")
	f, err := os.OpenFile(r.path, os.O_APPEND|os.O_WRONLY, 0)
	r.must(err)
	defer f.Close()
	r.rename("app.log", "app.log.1")
	woken(true, "file was renamed")
	_ = r.log.Look()
	r.write("app.log", "four\n")
	woken(true, "new file")
	_ = r.log.Look()
	_, err = f.WriteString("three\n")
	r.must(err)
	woken(true, "late write")
	_ = r.log.Look()
	woken(false, "nothing happened")
	r.remove("app.log.1")
	woken(true, "old file was deleted")
	_ = r.log.Look()
	woken(false, "nothing happened")
}

// A directory that doesn't exist yet, is removed and made again, or replaced by
// another of the same name.
func TestWatcherDirectoryComesAndGoes(t *testing.T) {
	w := newWatcher(t, WatcherConfig{Poll: -1})
	r := newRig(t, realClock, func(c *Config) { c.Watcher = w })
	r.cfg.Path = r.name("sub/app.log")
	r.open()
	watched := func(want bool) {
		t.Helper()
		deadline := time.Now().Add(10 * time.Second)
		for {
			w.mu.Lock()
			got := w.dirs[r.name("sub")].watched
			w.mu.Unlock()
			if got == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("watched %v", got)
			}
			w.Sweep()
		}
	}
	want := ""
	for i := range 3 {
		r.must(os.Mkdir(r.name("sub"), 0o755))
		watched(true)
		s := fmt.Sprintf("%d\n", i)
		want += s
		r.write("sub/app.log", s)
		r.await(want)
		s = fmt.Sprintf("%d again\n", i)
		want += s
		r.write("sub/app.log", s)
		r.await(want)
		if i == 1 {
			r.rename("sub", "old")
			r.must(os.Mkdir(r.name("sub"), 0o755))
			w.Sweep()
			r.write("sub/app.log", "other directory\n")
			want += "other directory\n"
			r.await(want)
		}
		r.must(os.RemoveAll(r.name("sub")))
		watched(false)
	}
}

// One watch serves all logs of a directory, and goes with the last.
func TestWatcherSharesDirectories(t *testing.T) {
	w := newWatcher(t, WatcherConfig{Poll: -1})
	dir := t.TempDir()
	var logs []*Log
	for i := range 5 {
		l := New(Config{Path: fmt.Sprintf("%s/%d.log", dir, i), Allowed: allow(t, dir+"/*"), Watcher: w})
		if err := l.Open(State{}); err != nil {
			t.Fatal(err)
		}
		logs = append(logs, l)
	}
	if n := len(w.notify.WatchList()); n != 1 {
		t.Fatalf("%d watches", n)
	}
	for _, l := range logs {
		_ = l.Close()
	}
	if n := len(w.notify.WatchList()); n != 0 || len(w.dirs) != 0 || len(w.logs) != 0 {
		t.Fatalf("%d watches, %d directories, %d logs left", n, len(w.dirs), len(w.logs))
	}
}

// Where inotify's limits are reached it is said once, and the poll serves.
func TestWatcherReportsLimitsOnce(t *testing.T) {
	var out lockedBuffer
	w := newWatcher(t, WatcherConfig{Poll: -1, Logger: slog.New(slog.NewTextHandler(&out, nil))})
	w.mu.Lock()
	w.report("/a", unix.ENOSPC)
	w.report("/b", unix.EMFILE)
	w.mu.Unlock()
	if n := bytes.Count(out.b.Bytes(), []byte("max_user_watches")); n != 1 || bytes.Count(out.b.Bytes(), []byte("\n")) != 1 {
		t.Fatalf("%s", out.b.Bytes())
	}
}

func TestWatcherWakeAllAfterOverflow(t *testing.T) {
	w := newWatcher(t, WatcherConfig{Poll: -1, NoInotify: true})
	r := newRig(t, realClock, func(c *Config) { c.Watcher = w }).open()
	w.WakeAll()
	select {
	case <-r.log.Wake():
	default:
		t.Fatal("not woken")
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}
