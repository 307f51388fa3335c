package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"logforward/internal/control"
	"logforward/internal/policy"
	"logforward/internal/tail"
	"logforward/internal/wish"
)

// watching is a watcher, and a directory in which nothing can change unseen.
func watching(t *testing.T) (w *tail.Watcher, dir string) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if !tail.IsLocal(dir) {
		t.Skip("the file system of temporary files isn't local")
	}
	w = tail.NewWatcher(tail.WatcherConfig{Poll: 20 * time.Millisecond})
	if err := w.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w, dir
}

// running has something run until the test ends.
func running(t *testing.T, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func awaited(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not seen: %s", what)
		}
	}
}

// A policy that is looked at once an hour, for it has been left alone, is ready and reported as soon as something happens to it.
func TestPolicyTakesEffectByEvents(t *testing.T) {
	w, dir := watching(t)
	dir = filepath.Join(dir, "etc")
	file := filepath.Join(dir, "logforward.rego")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	good := authpolicy + "rule contains \"all\" if true\n"
	write(t, file, good)
	looked := make(chan struct{}, 100)
	g := &gate{policy: policy.Open(file), watcher: w, rest: time.Hour, log: slog.New(slog.DiscardHandler), looked: func() { looked <- struct{}{} }}
	running(t, g.watch)
	broken := func() string {
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.broken
	}
	replace := func(text string) {
		write(t, file+".new", text)
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		what  string
		do    func()
		works bool
	}{
		{"it is edited in place, and broken", func() { write(t, file, "package nobody\n") }, false},
		{"another one takes its place", func() { replace(good) }, true},
		{"everybody may write to it", func() { _ = os.Chmod(file, 0o666) }, false},
		{"nobody may again", func() { _ = os.Chmod(file, 0o644) }, true},
		{"its directory is replaced", func() {
			if err := os.Rename(dir, dir+".old"); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, file, "package nobody\n")
		}, false},
		{"it is mended", func() { replace(good) }, true},
		{"it is removed", func() { _ = os.Remove(file) }, false},
	} {
		awaited(t, "the policy is left alone, before "+step.what, func() bool {
			for len(looked) > 0 {
				<-looked
			}
			time.Sleep(watchEvery + watchEvery/2)
			return len(looked) == 0
		})
		step.do()
		awaited(t, step.what, func() bool { return (broken() == "") == step.works })
	}
}

// Wishes are taken when they come, though the directory is looked at once an hour where there are none.
func TestWishesAreTakenByEvents(t *testing.T) {
	w, dir := watching(t)
	dir = filepath.Join(dir, "state", "wishes") // which the first wish makes
	if err := os.Mkdir(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	node := &awayNode{}
	server := control.New(control.Config{Socket: "/nowhere", Node: node, Authorize: func(context.Context, control.Caller, control.Request) error { return nil }})
	all := &wishes{dir: dir, server: server, watcher: w, rest: time.Hour, log: slog.New(slog.DiscardHandler)}
	rested := make(chan bool, 100)
	all.looked = func(rest bool) { rested <- rest }
	running(t, all.run)
	for i, log := range []string{"a", "b", "c"} {
		for !<-rested {
		}
		if i == 2 { // another directory of that name
			for _, err := range []error{os.Rename(dir, dir+".old"), os.Mkdir(dir, 0o700)} {
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := wish.Record(dir, wish.Wish{Verb: "start", Body: json.RawMessage(`{"log":"` + log + `","path":"/var/log/x.log"}`), Caller: "choria=alice.mcollective", Time: time.Now()}); err != nil {
			t.Fatal(err)
		}
		awaited(t, "wish "+log, func() bool {
			left, _ := wish.Read(dir)
			return len(left) == 0
		})
	}
	for !<-rested { // nothing else writes to what the node did from here on
	}
	if !slices.Equal(node.did, []string{"start a", "start b", "start c"}) {
		t.Errorf("%q was done", node.did)
	}
}
