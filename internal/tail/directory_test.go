package tail

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// told waits until a channel was written to.
func told(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(time.Minute):
		t.Fatalf("nothing was told: %s", what)
	}
}

func kicks(c chan struct{}) func() {
	return func() {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

func local(t *testing.T) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if !IsLocal(dir) {
		t.Skip("the file system of temporary files isn't local")
	}
	return dir
}

// settled waits until a directory is as sure as wanted, sweeping as the poll would.
func settled(t *testing.T, w *Watcher, d *Directory, want bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for d.Sure() != want {
		if time.Now().After(deadline) {
			t.Fatalf("sure: %t", !want)
		}
		w.Sweep()
	}
}

// Each change of a directory is told by an event, also those of the way to it, without any poll.
func TestDirectoryTellsOfEachChange(t *testing.T) {
	w := newWatcher(t, WatcherConfig{Poll: -1})
	dir := local(t)
	path := filepath.Join(dir, "a", "b")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(path, 0o755))
	all, names := make(chan struct{}, 1), make(chan struct{}, 1)
	d := w.Directory(path, true, kicks(all))
	of := w.Directory(path, false, kicks(names))
	if !d.Sure() || !of.Sure() {
		t.Fatal("a local directory isn't sure")
	}
	file := filepath.Join(path, "x.yaml")
	must(os.WriteFile(file, []byte("one"), 0o644))
	told(t, all, "a new file")
	told(t, names, "a new file")
	drain(w, names)
	of.event(happened{mask: unix.IN_MODIFY, name: "x.yaml"})
	d.event(happened{mask: unix.IN_MODIFY, name: "x.yaml"})
	if told(t, all, "a file that is written to"); len(names) != 0 {
		t.Fatal("who asks for names alone is told of what is written")
	}
	must(os.WriteFile(file, []byte("two"), 0o644))
	told(t, all, "a file that is written to")
	must(os.Rename(file, file+"2"))
	told(t, names, "another name")
	must(os.Chmod(path, 0o700))
	told(t, names, "the directory's mode")

	for i, replace := range []func(){
		func() { must(os.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "old"))) },
		func() { must(os.RemoveAll(filepath.Join(dir, "a"))) },
		func() { must(os.Remove(path)) },
		func() { must(os.Rename(path, filepath.Join(dir, "older"))) },
	} {
		if i > 0 {
			must(os.MkdirAll(path, 0o755))
			for deadline := time.Now().Add(time.Minute); !w.isWatched(path); w.Sweep() {
				if time.Now().After(deadline) {
					t.Fatal("the directory that came isn't watched")
				}
			}
			settled(t, w, d, true)
			drain(w, names)
		}
		drain(w, w.hurry)
		replace()
		deadline := time.Now().Add(time.Minute)
		for w.isWatched(path) {
			told(t, names, "the directory went")
			if time.Now().After(deadline) {
				t.Fatal("it is still watched")
			}
		}
		hastened(t, w, "the directory went")
		settled(t, w, d, true) // that it isn't there is watched as well
		if _, err := os.Stat(path); err == nil {
			t.Fatal("it is there")
		}
		drain(w, names)
	}
	// Each part of the way appears by itself.
	must(os.RemoveAll(filepath.Join(dir, "a")))
	settled(t, w, d, true)
	drain(w, names)
	must(os.Mkdir(filepath.Join(dir, "a"), 0o755))
	told(t, names, "a part of the way")
	hastened(t, w, "a part of the way")
	settled(t, w, d, true)
	drain(w, names)
	must(os.Mkdir(path, 0o755))
	told(t, names, "the directory came")
	hastened(t, w, "the directory came")
	settled(t, w, d, true)
	must(os.WriteFile(file, []byte("three"), 0o644))
	told(t, names, "a file in the new one")

	d.Close()
	d.Close()
	of.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.subs) != 0 || len(w.dirs) != 0 || len(w.notify.dirs) != 0 || len(w.notify.ways) != 0 {
		t.Fatalf("%d subscribers, %d directories, %d watches, %d of ways are left", len(w.subs), len(w.dirs), len(w.notify.dirs), len(w.notify.ways))
	}
}

func drain(w *Watcher, c chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(c) > 0 {
		<-c
	}
}

// hastened tells whether the poll is to look soon, and forgets it.
func hastened(t *testing.T, w *Watcher, what string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.hurry:
	default:
		t.Fatalf("the poll doesn't look soon: %s", what)
	}
}

func (w *Watcher) isWatched(path string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dirs[path].watched
}

// Where events may not come nothing is sure: without inotify, where its watches are exhausted, on other file systems, and below links.
func TestDirectoryIsSureOnlyWhereEventsCome(t *testing.T) {
	dir := local(t)
	if err := os.MkdirAll(filepath.Join(dir, "real", "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "dangling")); err != nil {
		t.Fatal(err)
	}
	nothing := func() {}
	w := newWatcher(t, WatcherConfig{Poll: -1})
	for path, want := range map[string]bool{
		"real/d": true, "real": true, "real/later": true, "real/later/still": true, "link/d": false, "link": false, "link/later": false,
		"dangling": false, "dangling/d": false, "/proc/self": false, "/sys/kernel": false,
	} {
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		d := w.Directory(path, true, nothing)
		if d.Sure() != want {
			t.Errorf("%s: sure %t", path, !want)
		}
		d.Close()
	}
	if w.Directory("relative", true, nothing) != nil || (*Watcher)(nil).Directory("/", true, nothing).Sure() {
		t.Error("what isn't watched is sure")
	}
	without := newWatcher(t, WatcherConfig{Poll: -1, NoInotify: true})
	if without.Directory(filepath.Join(dir, "real"), true, nothing).Sure() {
		t.Error("sure without inotify")
	}
	// A descriptor that takes no watches stands for a kernel that has none left.
	exhausted := newWatcher(t, WatcherConfig{Poll: -1})
	exhausted.mu.Lock()
	fd := exhausted.notify.fd
	exhausted.notify.fd = -1
	exhausted.mu.Unlock()
	if exhausted.Directory(filepath.Join(dir, "real"), true, nothing).Sure() {
		t.Error("sure without watches")
	}
	exhausted.mu.Lock()
	exhausted.notify.fd = fd
	exhausted.mu.Unlock()
}

// An overflow may have hidden anything: everybody is told, and what wasn't there is looked for anew.
func TestDirectoryIsToldOfAnOverflow(t *testing.T) {
	w := newWatcher(t, WatcherConfig{Poll: -1})
	dir := local(t)
	c := make(chan struct{}, 1)
	d := w.Directory(filepath.Join(dir, "a", "b"), true, kicks(c))
	if !d.Sure() {
		t.Fatal("a directory that isn't there isn't sure")
	}
	w.handle(w.notify, overflow())
	told(t, c, "an overflow")
	if d.Sure() {
		t.Fatal("it is sure though its appearance may have been missed")
	}
	select {
	case <-w.hurry:
	default:
		t.Fatal("nothing is polled after an overflow")
	}
	if err := os.MkdirAll(filepath.Join(dir, "a", "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	settled(t, w, d, true)
}

func overflow() []byte {
	var b [unix.SizeofInotifyEvent]byte
	b[0], b[1], b[2], b[3] = 0xff, 0xff, 0xff, 0xff
	b[5] = unix.IN_Q_OVERFLOW >> 8
	return b[:]
}
