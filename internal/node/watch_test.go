package node

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"logforward/internal/control"
	"logforward/internal/tail"
)

// watchedBench is one below whose directories nothing can change unseen.
func watchedBench(t *testing.T, c tail.WatcherConfig) *bench {
	t.Helper()
	b := newBench(t)
	if real, err := filepath.EvalSymlinks(b.dir); err != nil || real != b.dir || !tail.IsLocal(b.dir) {
		t.Skip("the file system of temporary files isn't local, or its path has links")
	}
	b.watch = tail.NewWatcher(c)
	if err := b.watch.Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.watch.Close() })
	return b
}

// run has the node watch until the test ends.
func (b *bench) run() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- b.node.Run(ctx) }()
	b.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			b.t.Error(err)
		}
	})
}

func (b *bench) eventually(what string, logs ...string) {
	b.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if slices.Equal(b.wheel.has(), logs) {
			return
		}
		if time.Now().After(deadline) {
			b.want(what, logs...)
			b.t.FailNow()
		}
	}
}

// old has a file or directory look as if nobody had touched it for a while.
func old(t *testing.T, path string) {
	t.Helper()
	past := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, past, past); err != nil {
		t.Fatal(err)
	}
}

// Where the poll comes once an hour: definitions come by events, and what an operator said ends by a timer.
func TestNodeNeedsNoPollForDefinitionsAndTimes(t *testing.T) {
	b := watchedBench(t, tail.WatcherConfig{Poll: -1})
	b.poll, b.clock = time.Hour, time.Now
	b.define("a.yaml", "log: a\npath: "+b.file("a.log")+"\ndestination: central\n")
	b.open()
	b.run()
	b.eventually("at the start", "a a.log end")
	b.define("b.yaml", "log: b\npath: "+b.file("b.log")+"\ndestination: central\n")
	b.eventually("a new definition", "a a.log end", "b b.log end")
	b.define("a.yaml", "log: a\npath: "+b.file("c.log")+"\ndestination: central\n")
	b.eventually("a definition that is edited in place", "a c.log end", "b b.log end")
	if err := os.Remove(filepath.Join(b.dir, "b.yaml")); err != nil {
		t.Fatal(err)
	}
	b.eventually("a definition that is removed", "a c.log end")

	b.must(b.node.Pause(t.Context(), alice(), control.PauseRequest{Log: "a", For: control.Duration(300 * time.Millisecond), Reason: "test"}))
	b.eventually("a pause's end", "a c.log end")
	b.must(b.node.Pause(t.Context(), alice(), control.PauseRequest{All: true, For: control.Duration(300 * time.Millisecond), Reason: "test"}))
	b.eventually("the end of a pause of all", "a c.log end")
}

// What the node looks at rests where events tell of it, and is looked at each second everywhere else.
func TestNodeRestsOnlyWhereEventsCome(t *testing.T) {
	t.Parallel()
	b := watchedBench(t, tail.WatcherConfig{Poll: -1})
	b.clock = time.Now
	b.file("g1.log")
	b.define("g.yaml", "log: g\npath: LOGS/g*.log\ndestination: central\n")
	n := b.open()
	definitions := n.definitions()
	defer definitions.Close()
	settle := func() {
		t.Helper()
		old(t, b.logs)
		n.mu.Lock()
		n.dir.at = signature{}
		n.mu.Unlock()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			n.Reload() // reads the directory of definitions until it is old enough, and the glob's
			n.update(false, lookWithin)
			n.mu.Lock()
			known := n.dir.at != signature{} || n.dir.links
			n.mu.Unlock()
			if known {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal("the directory of definitions doesn't settle")
			}
		}
	}
	rests := func(what string, want bool) {
		t.Helper()
		if got, _ := n.rests(definitions); got != want {
			t.Fatalf("%s: rests %t", what, got)
		}
	}
	settle()
	rests("nothing happens", true)

	told := func(c <-chan struct{}, what string) {
		t.Helper()
		select {
		case <-c:
		case <-time.After(time.Minute):
			t.Fatalf("not told: %s", what)
		}
	}
	emptied(n.survey.stirred)
	b.file("g2.log")
	told(n.survey.stirred, "a glob's new file")
	rests("a glob's new file", false)
	for deadline := time.Now().Add(time.Minute); len(b.wheel.has()) < 2 && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		n.update(false, lookWithin) // as soon as another look isn't too dear
	}
	b.want("a glob's new file", "g.g1.log g1.log end", "g.g2.log g2.log beginning")
	rests("there may be another one of the same moment", false)
	settle()
	rests("after that", true)

	emptied(n.edited)
	b.define("b.yaml", "log: b\npath: "+b.file("b.log")+"\ndestination: central\n")
	told(n.edited, "a new definition")
	n.Reload()
	rests("a definition that changed just now", false)
	settle()
	rests("some seconds later", true)

	// Files that lie, or are written to, elsewhere.
	if err := os.Link(filepath.Join(b.dir, "b.yaml"), filepath.Join(b.logs, "other")); err != nil {
		t.Fatal(err)
	}
	settle()
	rests("a definition with another name", false)
	if err := os.Remove(filepath.Join(b.logs, "other")); err != nil {
		t.Fatal(err)
	}
	settle()
	rests("with one name again", true)
	if err := os.Symlink(filepath.Join(b.logs, "target"), filepath.Join(b.dir, "c.yaml")); err != nil {
		t.Fatal(err)
	}
	settle()
	rests("a definition that is a link", false)
	if err := os.Remove(filepath.Join(b.dir, "c.yaml")); err != nil {
		t.Fatal(err)
	}
	settle()
	rests("without it", true)
	b.define("d.yaml", "log: d\npath: LOGS/**/d.log\ndestination: central\n")
	settle()
	rests("a glob of many directories", false)
	if err := os.Remove(filepath.Join(b.dir, "d.yaml")); err != nil {
		t.Fatal(err)
	}
	settle()
	rests("without it", true)

	b.must(n.Pause(t.Context(), alice(), control.PauseRequest{Log: "b", For: control.Duration(time.Hour), Reason: "test"}))
	rest, until := n.rests(definitions)
	if left := time.Until(until); !rest || left < 59*time.Minute || left > time.Hour {
		t.Fatalf("a pause for an hour: rests %t, until %s", rest, until)
	}
	select {
	case <-n.nudged:
	default:
		t.Fatal("who watches isn't told of a pause")
	}
	_ = b.watch.Close()
	rests("without inotify", false)
}

// A node at rest, which looks once an hour, hears of each change all the same: of definitions, of globs' files, of the directories that both lie in, also when those
// come, go or are replaced, and of what operators say.
func TestNodeAtRestHearsOfEachChange(t *testing.T) {
	b := watchedBench(t, tail.WatcherConfig{Poll: 20 * time.Millisecond})
	b.rest, b.clock = time.Hour, time.Now
	sub := filepath.Join(b.logs, "sub")
	one := func(name string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(sub, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	one("g1.log")
	b.define("g.yaml", "log: g\npath: LOGS/sub/g*.log\ndestination: central\n")
	n := b.open()
	b.run()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	definitions := n.definitions()
	defer definitions.Close()
	atRest := func() {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			if rest, _ := n.rests(definitions); rest && len(n.edited)+len(n.survey.fresh)+len(n.survey.stirred) == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the node doesn't rest")
			}
		}
		time.Sleep(100 * time.Millisecond) // its last poll
	}
	for _, step := range []struct {
		what string
		do   func()
		want []string
	}{
		{"a glob's new file", func() { one("g2.log") }, []string{"g.g1.log g1.log end", "g.g2.log g2.log beginning"}},
		{"a glob's directory is replaced", func() {
			must(os.Rename(sub, sub+".old"))
			must(os.Mkdir(sub, 0o755))
			one("g1.log")
			one("g2.log")
			one("g3.log")
		}, []string{"g.g1.log g1.log end", "g.g2.log g2.log beginning", "g.g3.log g3.log beginning"}},
		{"a new definition", func() { b.define("b.yaml", "log: b\npath: "+b.file("b.log")+"\ndestination: central\n") }, []string{"b b.log end", "g.g1.log g1.log end", "g.g2.log g2.log beginning", "g.g3.log g3.log beginning"}},
		{"a definition that another takes the place of", func() {
			b.define("b.new", "log: b\npath: "+b.file("c.log")+"\ndestination: central\n")
			must(os.Rename(filepath.Join(b.dir, "b.new"), filepath.Join(b.dir, "b.yaml")))
		}, []string{"b c.log end", "g.g1.log g1.log end", "g.g2.log g2.log beginning", "g.g3.log g3.log beginning"}},
		{"an operator's stop", func() { b.must(n.Stop(t.Context(), alice(), control.StopRequest{Log: "b", Reason: "test"})) }, []string{"g.g1.log g1.log end", "g.g2.log g2.log beginning", "g.g3.log g3.log beginning"}},
		{"another directory of definitions", func() {
			must(os.Rename(b.dir, b.dir+".old"))
			must(os.Mkdir(b.dir, 0o755))
			b.define("d.yaml", "log: d\npath: "+b.file("d.log")+"\ndestination: central\n")
		}, []string{"d d.log end"}},
	} {
		atRest()
		step.do()
		b.eventually(step.what, step.want...)
	}
}

// Without inotify, and without anybody who watches, each poll looks.
func TestNodeDoesNotRestWithoutInotify(t *testing.T) {
	for name, watcher := range map[string]*tail.Watcher{"no inotify": tail.NewWatcher(tail.WatcherConfig{Poll: -1, NoInotify: true}), "no watcher": nil} {
		b := newBench(t)
		b.watch, b.clock = watcher, time.Now
		b.define("a.yaml", "log: a\npath: "+b.file("a.log")+"\ndestination: central\n")
		n := b.open()
		definitions := n.definitions()
		if rest, _ := n.rests(definitions); rest {
			t.Errorf("%s: it rests", name)
		}
		definitions.Close()
		b.run()
		b.define("b.yaml", "log: b\npath: "+b.file("b.log")+"\ndestination: central\n")
		b.eventually(name, "a a.log end", "b b.log end")
	}
}

// A glob whose files' modes nobody touched is looked at rarely; one with links as often as before.
func TestGlobIsLookedAtRarelyWhereEventsCome(t *testing.T) {
	b := watchedBench(t, tail.WatcherConfig{Poll: -1})
	b.clock = time.Now
	b.file("g1.log")
	old(t, b.logs)
	b.define("g.yaml", "log: g\npath: LOGS/g*.log\ndestination: central\n")
	n := b.open()
	pattern := filepath.Join(b.logs, "g*.log")
	k := n.survey.known[pattern]
	looked := func(after time.Duration) bool {
		t.Helper()
		n.survey.mu.Lock()
		before := k.last
		k.glance.at, k.glance.cost = time.Now().Add(-after), 0
		n.survey.mu.Unlock()
		f, err := n.survey.ask(pattern, false).Wait(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return f != before
	}
	quiet := func() {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); looked(time.Second) || looked(everyLook); time.Sleep(20 * time.Millisecond) {
			old(t, b.logs)
			if time.Now().After(deadline) {
				t.Fatal("a glob at rest is looked at as often as ever")
			}
		}
	}
	quiet()
	if !looked(rareLook) {
		t.Error("never looked at again")
	}
	if err := os.Chmod(filepath.Join(b.logs, "g1.log"), 0o600); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); !k.touched.Load(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a file's new mode isn't told")
		}
	}
	if !looked(everyLook) {
		t.Error("not looked at after a change of a file's mode")
	}
	quiet()
	if err := os.Symlink("g1.log", filepath.Join(b.logs, "g2.log")); err != nil {
		t.Fatal(err)
	}
	old(t, b.logs)
	_, _ = n.survey.ask(pattern, true).Wait(t.Context())
	for k.touched.Swap(false) { // its events have come
		time.Sleep(20 * time.Millisecond)
	}
	if !looked(everyLook) {
		t.Error("not looked at though a file is a link")
	}
}

func emptied(c <-chan struct{}) {
	for len(c) > 0 {
		<-c
	}
}
