package tail

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
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
