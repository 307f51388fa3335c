package tail

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// What is picked from a listing is what a walk over all names picks.
func TestListingPicksWhatAWalkWould(t *testing.T) {
	dir := t.TempDir()
	inode := map[string]uint64{}
	for _, name := range []string{"app.log", "app.log.1", "app-1.log", "ap", "app", "appendix", "b.log", "zz", ".log", ".log.1", "App.log"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		at, err := statPath(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		inode[name] = at.ino
	}
	l, err := readListing(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		stems  []string
		inodes []string
		want   string
	}{
		{[]string{"app"}, nil, "[app app-1.log app.log app.log.1 appendix]"},
		{[]string{"app", "b"}, []string{"zz", "app.log"}, "[app app-1.log app.log app.log.1 appendix b.log zz]"},
		{[]string{"zzz"}, nil, "[]"},
		{[]string{""}, nil, "[.log .log.1 App.log ap app app-1.log app.log app.log.1 appendix b.log zz]"},
		{nil, []string{"App.log"}, "[App.log]"},
	} {
		inodes := map[uint64]bool{4: true}
		for _, name := range c.inodes {
			inodes[inode[name]] = true
		}
		names := []string{}
		for _, e := range l.pick(c.stems, inodes) {
			if e.ino == inode[e.name] && e.name != "." && e.name != ".." {
				names = append(names, e.name)
			}
		}
		if got := fmt.Sprint(names); got != c.want {
			t.Errorf("%q %q: %s, want %s", c.stems, c.inodes, got, c.want)
		}
	}
}

// A thousand logs that begin together in one directory read it a few times, not once each.
func TestLogsThatBeginTogetherShareAListing(t *testing.T) {
	const n = 1000
	dir := t.TempDir()
	w := newWatcher(t, WatcherConfig{Poll: -1, NoInotify: true})
	path := func(i int) string { return fmt.Sprintf("%s/%04d.log", dir, i) }
	for i := range n {
		for _, name := range []string{path(i) + ".1", path(i)} {
			if err := os.WriteFile(name, []byte(name), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	logs := make([]*Log, n)
	allowed := allow(t, dir+"/*")
	var all sync.WaitGroup
	for i := range logs {
		logs[i] = New(Config{Path: path(i), Start: StartBeginning, Allowed: allowed, Watcher: w})
		all.Go(func() {
			if err := logs[i].Open(State{}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	t.Logf("%d logs read the directory %d times", n, w.read.Load())
	if w.read.Load() > n/4 {
		t.Errorf("%d logs read the directory %d times", n, w.read.Load())
	}
	for i, l := range logs {
		if g := l.live(); g == nil || g.size != int64(len(path(i))) {
			t.Errorf("log %d: %+v", i, l.Status())
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A directory that had been at rest when it was read isn't read again as long as its times stay, and whatever happens to its names is seen by
// whoever asks afterwards.
func TestAListingIsKeptWhileTheDirectoryRests(t *testing.T) {
	parent := t.TempDir()
	if !IsLocal(parent) {
		t.Skip("the temporary directory isn't on a local file system, where no listing is kept")
	}
	dir := filepath.Join(parent, "logs")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(dir, 0o755))
	w := newWatcher(t, WatcherConfig{Poll: -1, NoInotify: true})
	list := func(reads int64, want string) {
		t.Helper()
		before := w.read.Load()
		l, err := w.list(dir)
		must(err)
		var names []string
		for _, e := range l.entries {
			names = append(names, e.name)
		}
		if n, got := w.read.Load()-before, fmt.Sprint(names); n != reads || got != want {
			t.Errorf("%d times read, %s; want %d, %s", n, got, reads, want)
		}
	}
	// rest has the directory look as if nothing had happened to it for a while: its own time of change can't be set.
	rest := func() {
		t.Helper()
		w.mu.Lock()
		defer w.mu.Unlock()
		at, err := statPath(dir)
		must(err)
		l, err := readListing(dir)
		must(err)
		w.kept[dir] = &kept{l, at, time.Now()}
	}
	changed := time.Now()
	must(os.WriteFile(filepath.Join(dir, "a"), nil, 0o644))
	list(1, "[. .. a]")
	if w.mu.Lock(); len(w.kept) > 0 && time.Since(changed) < coarse {
		t.Error("kept, though the directory changed a moment ago and may do so again without its time showing it")
	}
	w.mu.Unlock()
	rest()
	list(0, "[. .. a]")
	must(os.WriteFile(filepath.Join(dir, "a"), []byte("more"), 0o644)) // no change of names
	list(0, "[. .. a]")
	for _, change := range []struct {
		do   func() error
		want string
	}{
		{func() error { return os.WriteFile(filepath.Join(dir, "b"), nil, 0o644) }, "[. .. a b]"},
		{func() error { return os.Rename(filepath.Join(dir, "b"), filepath.Join(dir, "c")) }, "[. .. a c]"},
		{func() error { return os.Remove(filepath.Join(dir, "c")) }, "[. .. a]"},
		{func() error { return os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "d")) }, "[. .. a d]"},
		{func() error {
			if err := os.Rename(dir, dir+".old"); err != nil {
				return err
			}
			return os.Mkdir(dir, 0o755)
		}, "[. ..]"},
	} {
		tick()
		must(change.do())
		list(1, change.want)
		rest()
		list(0, change.want)
	}
	w.mu.Lock()
	w.drop(time.Now().Add(keptFor / 2))
	n := len(w.kept)
	w.drop(time.Now().Add(2 * keptFor))
	if n != 1 || len(w.kept) != 0 {
		t.Errorf("%d listings kept, then %d", n, len(w.kept))
	}
	w.mu.Unlock()
	must(os.RemoveAll(dir))
	if _, err := w.list(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that is gone: %v", err)
	}
}

// A directory is at rest when its times are so old that the next change gives it others: before that nothing is kept of it, then it is.
func TestAListingIsKeptOnceTheDirectoryRests(t *testing.T) {
	dir := t.TempDir()
	if !IsLocal(dir) {
		t.Skip("the temporary directory isn't on a local file system, where no listing is kept")
	}
	w := newWatcher(t, WatcherConfig{Poll: -1, NoInotify: true})
	at, err := statPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		after time.Duration
		reads int64
	}{{-time.Hour, 2}, {0, 2}, {coarse - 1, 2}, {coarse, 1}, {time.Hour, 0}} {
		w.now = func() time.Time { return at.changed.Add(c.after) }
		before := w.read.Load()
		for range 2 {
			if _, err := w.list(dir); err != nil {
				t.Fatal(err)
			}
		}
		if n := w.read.Load() - before; n != c.reads {
			t.Errorf("%v after its change: read %d times, want %d", c.after, n, c.reads)
		}
	}
}

// A restart finds a small file that nobody has written to since without a look at the directory: there may be ten thousand in it.
func TestRestartOfALogThatRestsReadsNoDirectory(t *testing.T) {
	w := newWatcher(t, WatcherConfig{Poll: -1, NoInotify: true})
	r := newRig(t, func(c *Config) { c.Watcher = w }).open()
	r.write("app.log", header)
	r.drain()
	r.release()
	r.save()
	r.crash()
	before := w.read.Load()
	r.open()
	if n := w.read.Load() - before; n != 0 {
		t.Errorf("read %d times", n)
	}
	r.drain()
	r.want(header)
}

// What is asked of the kernel at once is what a walk along the path finds.
func TestResolveIsEvalSymlinks(t *testing.T) {
	dir := t.TempDir()
	long := filepath.Join(append([]string{dir}, slices.Repeat([]string{strings.Repeat("x", 200)}, 5)...)...)
	for _, d := range []string{long, filepath.Join(dir, "real"), filepath.Join(dir, "odd (deleted)")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"link": "real", "loop": "loop", "nowhere": "missing", "up": ".."} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "real", "file"), nil, 0); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, long, dir + "/real/file", dir + "/link", dir + "/link/file", dir + "/odd (deleted)", dir + "/up", dir + "/missing",
		dir + "/nowhere", dir + "/loop", dir + "/real/file/below", "/"} {
		want, wantErr := filepath.EvalSymlinks(path)
		got, err := resolve(path)
		if got != want || (err == nil) != (wantErr == nil) {
			t.Errorf("%s: %q, %v; want %q, %v", path, got, err, want, wantErr)
		}
	}
}
