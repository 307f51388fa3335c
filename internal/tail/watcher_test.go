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
	deadline := time.After(time.Minute)
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

// hears waits until want has come, and looks only when it is woken: await looks at once, and shows no wake.
func (r *rig) hears(want string) {
	r.t.Helper()
	deadline := time.After(time.Minute)
	for string(r.out) != want {
		select {
		case <-r.log.Wake():
			r.log.signal() // Peek takes it
		case <-deadline:
			r.t.Fatalf("got %s, want %s, %v", brief(r.out), brief([]byte(want)), r.err)
		}
		r.drained()
	}
}

func realClock(c *Config) { c.Now = time.Now; c.Quiet = 20 * time.Millisecond }

// Without a poll: inotify alone wakes.
func TestWatcherWakesOnEachEvent(t *testing.T) {
	w := newWatcher(t, WatcherConfig{Poll: -1})
	r := newRig(t, realClock, func(c *Config) { c.Watcher = w }).open()
	r.await("")
	r.write("app.log", "one\n")
	r.hears("one\n")
	r.write("app.log", "two\n")
	r.hears("one\ntwo\n")
	r.rename("app.log", "app.log.1")
	r.write("app.log", "three\n")
	r.hears("one\ntwo\nthree\n")
	r.truncate("app.log")
	r.write("app.log", "4\n")
	r.hears("one\ntwo\nthree\n4\n")
	// Through a link the other directory is watched.
	r.must(os.Mkdir(r.name("d"), 0o755))
	r.write("d/real", "5\n")
	r.link(r.name("d/real"), "app.log")
	r.hears("one\ntwo\nthree\n4\n5\n")
	w.mu.Lock()
	if d := w.dirs[r.name("d")]; d == nil || !d.watched || len(d.names["real"]) != 1 {
		t.Errorf("directory of the link's target isn't watched: %+v", d)
	}
	w.mu.Unlock()
	r.write("d/real", "6\n")
	r.hears("one\ntwo\nthree\n4\n5\n6\n")
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
		deadline := time.Now().Add(time.Minute)
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
		r.hears(want)
		s = fmt.Sprintf("%d again\n", i)
		want += s
		r.write("sub/app.log", s)
		r.hears(want)
		if i == 1 {
			r.rename("sub", "old")
			r.must(os.Mkdir(r.name("sub"), 0o755))
			w.Sweep()
			r.write("sub/app.log", "other directory\n")
			want += "other directory\n"
			r.hears(want)
		}
		r.must(os.RemoveAll(r.name("sub")))
		watched(false)
	}
}

// The directory's parent is replaced: no event tells of that.
func TestWatcherParentIsReplaced(t *testing.T) {
	w := newWatcher(t, WatcherConfig{Poll: -1})
	r := newRig(t, realClock, func(c *Config) { c.Watcher = w })
	r.must(os.MkdirAll(r.name("a/b"), 0o755))
	r.cfg.Path = r.name("a/b/app.log")
	r.open()
	r.write("a/b/app.log", "one\n")
	r.await("one\n")
	r.rename("a", "old")
	r.must(os.MkdirAll(r.name("a/b"), 0o755))
	r.write("a/b/app.log", "two\n")
	w.Sweep()
	r.await("one\ntwo\n")
	at, err := statPath(r.name("a/b"))
	r.must(err)
	w.mu.Lock()
	defer w.mu.Unlock()
	if d := w.dirs[r.name("a/b")]; !d.watched || !at.same(d.dev, d.ino) {
		t.Fatal("the old directory is still the one that is watched")
	}
}

// A log that is behind opens each new file in time, whoever took the signal.
func TestWatcherRotationIsNoticedWhileBehind(t *testing.T) {
	w := newWatcher(t, WatcherConfig{Poll: -1, NoInotify: true})
	r := newRig(t, realClock, func(c *Config) { c.Watcher = w }).open()
	r.write("app.log", lines("a", 100))
	r.buf = make([]byte, 10)
	r.step()
	w.Sweep()
	r.step()
	for i := range 3 {
		r.rename("app.log", fmt.Sprintf("elsewhere%d", i))
		r.write("app.log", fmt.Sprintf("file %d\n", i))
		w.Sweep()
		<-r.log.Wake()
		r.step()
		r.remove(fmt.Sprintf("elsewhere%d", i)) // held by now
	}
	r.buf = make([]byte, 10_000)
	r.await(lines("a", 100) + "file 0\nfile 1\nfile 2\n")
}

// Where inotify works a poll looks at a file only each fifteenth time; then it still does.
func TestWatcherPollsRarelyWhereInotifyWorks(t *testing.T) {
	w := newWatcher(t, WatcherConfig{Poll: -1, NoInotify: true})
	r := newRig(t, realClock, func(c *Config) { c.Watcher = w })
	r.write("app.log", "one\n")
	r.open()
	r.await("one\n")
	w.mu.Lock()
	d := w.dirs[r.dir]
	d.watched, d.local = true, true // as if no event ever came
	w.mu.Unlock()
	w.Sweep()
	_ = r.log.Look()
	woken := func() (n int) {
		for range 2 * relaxed {
			w.sweep(false)
			select {
			case <-r.log.Wake():
				n++
			default:
			}
		}
		return n
	}
	if n := woken(); n != 0 {
		t.Fatalf("woken %d times for nothing", n)
	}
	r.write("app.log", "two\n")
	if n := woken(); n != 1 {
		t.Fatalf("woken %d times", n)
	}
	_ = r.log.Look()
	looks := 0
	for range 30 { // each time another file: the one that is open says nothing of it
		r.write("new", "more\n")
		r.rename("new", "app.log")
		w.sweep(false)
		select {
		case <-r.log.Wake():
			looks++
		default:
		}
	}
	if looks != 2 {
		t.Fatalf("looked at %d times in 30 polls", looks)
	}
	_ = r.log.Look()
	for i := range 5 { // what is written to the open file shows each time
		r.write("app.log", "more\n")
		w.sweep(false)
		select {
		case <-r.log.Wake():
		default:
			t.Fatalf("not woken in round %d", i)
		}
		_ = r.log.Look()
	}
	// A network file system sends no events for what others do: each poll looks.
	w.mu.Lock()
	d.local = false
	w.mu.Unlock()
	for i := range relaxed {
		r.write("app.log", "more\n")
		w.sweep(false)
		select {
		case <-r.log.Wake():
		default:
			t.Fatalf("not woken in round %d", i)
		}
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
	w.mu.Lock()
	if n := len(w.notify.dirs); n != 1 {
		t.Fatalf("%d watches", n)
	}
	w.mu.Unlock()
	for _, l := range logs {
		_ = l.Close()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.notify.dirs) + len(w.notify.ways); n != 0 || len(w.dirs) != 0 || len(w.logs) != 0 {
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

// The kernel says that it dropped events: each log looks, for nobody knows whose they were.
func TestWatcherLostEventsWakeEveryLog(t *testing.T) {
	w := newWatcher(t, WatcherConfig{Poll: -1})
	var rigs []*rig
	for range 3 {
		r := newRig(t, realClock, func(c *Config) { c.Watcher = w }).open()
		r.drain()
		rigs = append(rigs, r)
	}
	for _, r := range rigs {
		select {
		case <-r.log.Wake():
		default:
		}
	}
	w.handle(w.notify, overflow())
	for i, r := range rigs {
		select {
		case <-r.log.Wake():
		case <-time.After(time.Second):
			t.Fatalf("log %d isn't woken", i)
		}
	}
}

// The poll rests where an event comes of all that can happen, and only there.
func TestWatcherRestsOnlyWhereEventsCome(t *testing.T) {
	w := newWatcher(t, WatcherConfig{Poll: -1})
	r := newRig(t, realClock, func(c *Config) { c.Watcher = w })
	if !IsLocal(r.dir) || !straight(r.dir) {
		t.Skip("the file system of temporary files isn't local, or its path has links")
	}
	rests := func(want bool, why string) {
		t.Helper()
		w.sweep(false)
		if got := w.sweep(false); got != want {
			t.Fatalf("%s: rests %t", why, got)
		}
	}
	hurried := func(want bool, why string) {
		t.Helper()
		select {
		case <-w.hurry:
			if !want {
				t.Fatalf("%s: the poll is hastened", why)
			}
		default:
			if want {
				t.Fatalf("%s: the poll isn't hastened", why)
			}
		}
	}
	rests(true, "no logs")
	r.open()
	hurried(true, "a new log")
	rests(true, "a file that isn't there")
	r.write("app.log", "one\n")
	r.await("one\n")
	hurried(false, "a new file")
	rests(true, "a file at rest")
	r.rename("app.log", "app.log.1")
	r.write("app.log", "two\n")
	r.await("one\ntwo\n")
	hurried(true, "a rotated file is open")
	rests(false, "a rotated file is open, which has no name to watch")
	w.mu.Lock()
	d := w.dirs[r.dir]
	d.sure = false
	w.mu.Unlock()
	rests(false, "a link on the way")
	w.mu.Lock()
	d.sure = true
	for e := range w.logs {
		e.set(nil, 0)
	}
	w.mu.Unlock()
	rests(true, "at rest again")
	w.mu.Lock()
	w.event(d, happened{mask: unix.IN_MOVE_SELF})
	w.mu.Unlock()
	hurried(true, "the directory is another one")
	r.link(r.name("nowhere"), "dangling.log")
	e := w.add(r.name("dangling.log"), func() {})
	rests(false, "a link to nowhere")
	w.remove(e)
	r.write("target", "")
	r.link(r.name("target"), "link.log")
	other := New(Config{Path: r.name("link.log"), Allowed: r.cfg.Allowed, Watcher: w})
	r.must(other.Open(State{}))
	defer other.Close()
	_, _ = other.Peek(make([]byte, 10))
	rests(false, "a file behind a link")
}

// A poll that rests looks at every file all the same, each fifteenth time; one that is hastened, each time.
func TestWatcherPollRests(t *testing.T) {
	w := NewWatcher(WatcherConfig{Poll: 2 * time.Millisecond, NoInotify: true})
	r := newRig(t, realClock, func(c *Config) { c.Watcher = w })
	r.write("app.log", "one\n")
	r.open()
	r.await("one\n")
	w.mu.Lock()
	d := w.dirs[r.dir]
	d.watched, d.local, d.sure = true, true, true // as if no event ever came
	w.mu.Unlock()
	r.must(w.Open())
	defer w.Close()
	sweeps := func(n uint64) time.Duration {
		began, first := time.Now(), uint64(0)
		for {
			w.mu.Lock()
			now := w.sweeps
			w.mu.Unlock()
			if first == 0 {
				first = now
			}
			if now >= first+n {
				return time.Since(began)
			}
			time.Sleep(time.Millisecond)
		}
	}
	sweeps(3) // by then it rests
	if took := sweeps(4); took < 3*relaxed*w.cfg.Poll {
		t.Fatalf("four polls in %s: it doesn't rest", took)
	}
	r.write("app.log", "two\n")
	r.await("one\ntwo\n")
	w.mu.Lock()
	d.sure = false
	w.hasten()
	w.mu.Unlock()
	least := time.Hour
	for range 20 {
		least = min(least, sweeps(4))
	}
	if least >= 2*relaxed*w.cfg.Poll {
		t.Fatalf("four polls in %s at least, though a directory has to be polled", least)
	}
}
