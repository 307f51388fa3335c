package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"logforward/internal/control"
	"logforward/internal/forward"
	"logforward/internal/tail"
)

// away is a file system that doesn't answer: looks at patterns below nfs/ hang until it is back.
type away struct{ begun, back chan struct{} }

func newAway(n *Node) *away {
	a := &away{make(chan struct{}, 100), make(chan struct{})}
	find := n.survey.find
	n.survey.find = func(pattern string) ([]string, []control.Problem, error) {
		if strings.Contains(pattern, "/nfs/") {
			a.begun <- struct{}{}
			<-a.back
		}
		return find(pattern)
	}
	return a
}

// soon is well before a look is given up, for a machine that has much else to do.
const soon = lookWithin - 500*time.Millisecond

// A glob on a file system that is away holds up neither questions nor changes about other logs; its own start says that
// it can't be looked at. When it is back its files are followed.
func TestAFileSystemThatIsAwayHoldsUpNobodyElse(t *testing.T) {
	b := newBench(t)
	b.dest = []string{"central"}
	b.define("nginx.yaml", nginx)
	b.file("nfs/a.log")
	b.file("web/b.log")
	n := b.open()
	a := newAway(n)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- n.Run(ctx) }()
	b.define("nfs.yaml", "log: nfs\npath: LOGS/nfs/*.log\ndestination: central\n")
	<-a.begun
	for what, ask := range map[string]func() error{
		"status": func() error { _, err := n.Status(ctx, control.StatusRequest{}); return err },
		"list":   func() error { _, err := n.List(ctx); return err },
		"check":  func() error { _, err := n.Check(ctx); return err },
		"pause": func() error {
			_, err := n.Pause(ctx, alice(), control.PauseRequest{Log: "nginx"})
			return err
		},
		"start": func() error {
			_, err := n.Start(ctx, alice(), control.StartRequest{Log: "web", Path: b.logs + "/web/*.log"})
			return err
		},
		"stop": func() error { _, err := n.Stop(ctx, alice(), control.StopRequest{Log: "nfs"}); return err },
	} {
		began := time.Now()
		if err := ask(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if took := time.Since(began); took > soon {
			t.Errorf("%s took %v", what, took)
		}
	}
	late, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	defer stop()
	if _, err := n.Start(late, alice(), control.StartRequest{Log: "more", Path: b.logs + "/nfs/more/*.log"}); !errors.Is(err, control.ErrTimeout) {
		t.Errorf("its own start: %v", err)
	}
	if _, err := n.Start(ctx, alice(), control.StartRequest{Log: "nfs"}); err != nil {
		t.Errorf("it is to go on: %v", err)
	}
	close(a.back)
	want := []string{"nfs.a.log a.log end", "nginx access.log end paused", "web.b.log b.log end"}
	for end := time.Now().Add(time.Minute); !slices.Equal(b.wheel.has(), want); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the engine works %q; want %q", b.wheel.has(), want)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A node comes up though a glob's file system is away, and goes on with the files that it knew.
func TestANodeComesUpWhileAFileSystemIsAway(t *testing.T) {
	b := newBench(t)
	b.define("nfs.yaml", "log: nfs\npath: LOGS/nfs/*.log\ndestination: central\n")
	b.file("nfs/a.log")
	b.open()
	b.want("before", "nfs.a.log a.log end")
	b.close()
	var err error
	if b.store, err = forward.OpenState(b.state, nil); err != nil {
		t.Fatal(err)
	}
	allowed, err := tail.ParseAllowed([]string{b.logs + "/**"})
	if err != nil {
		t.Fatal(err)
	}
	b.wheel = newWheel()
	b.node = New(Config{Identity: "n1", Definitions: b.dir, Allowed: allowed, Destinations: b.dest, Engine: b.wheel, State: b.store})
	a := newAway(b.node)
	b.file("nfs/b.log")
	began := time.Now()
	if err := b.node.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > lookWithin+soon {
		t.Errorf("it took %v", took)
	}
	b.want("while it is away", "nfs.a.log a.log end")
	close(a.back)
	b.look()
	b.want("when it is back", "nfs.a.log a.log end", "nfs.b.log b.log beginning")
}

// What is found is applied only to the pattern that it was found for, and a look never takes an older one's place.
func TestAFindingIsItsPatternsOwn(t *testing.T) {
	b := newBench(t)
	b.dest = []string{"central"}
	b.file("one/a.log")
	b.file("two/b.log")
	b.define("app.yaml", "log: app\npath: LOGS/one/*.log\n")
	b.open()
	b.want("before", "app.a.log a.log end")
	b.define("app.yaml", "log: app\npath: LOGS/two/*.log\n")
	b.node.mu.Lock()
	b.node.refresh(true) // the definition is read, nothing was looked at yet
	b.node.mu.Unlock()
	if got := b.wheel.has(); slices.Contains(got, "app.a.log a.log end") {
		t.Errorf("the old pattern's files are followed: %q", got)
	}
	b.look()
	b.want("after", "app.b.log b.log end")
	if n := len(b.node.survey.known); n != 1 {
		t.Errorf("%d patterns are remembered", n)
	}
}

// Ten thousand files that policy was asked about, one by one, take no look at each other.
func TestManyPermittedFilesOfOneForwarder(t *testing.T) {
	b := newBench(t)
	b.dest = []string{"central"}
	asked := 0
	b.files = func(context.Context, control.Caller, control.Request) error { asked++; return nil }
	n := b.open()
	const files = 3000
	for i := range files {
		b.file(fmt.Sprintf("web/%04d.log", i))
	}
	b.must(n.Start(t.Context(), alice(), control.StartRequest{Log: "web", Path: b.logs + "/web/*.log"}))
	began := time.Now()
	path := func(i int) string { return filepath.Join(b.logs, "web", fmt.Sprintf("%04d.log", i)) }
	for i := range files {
		if err := n.Permit(fmt.Sprintf("web.%04d.log", i), path(i)); err != nil {
			t.Fatal(err)
		}
	}
	if asked != files {
		t.Errorf("policy was asked %d times", asked)
	}
	b.look() // they are written down
	b.look()
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("it took %v", took)
	}
	for i := range files { // each, and its rotated forms
		for _, suffix := range []string{"", ".1", "-20260102.gz"} {
			if err := n.Permit(fmt.Sprintf("web.%04d.log", i), path(i)+suffix); err != nil {
				t.Fatal(err)
			}
		}
	}
	if asked != files {
		t.Errorf("policy was asked again: %d times", asked)
	}
	if err := os.WriteFile(filepath.Join(b.logs, "web", "other"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _ = n.Permit("web.0000.log", filepath.Join(b.logs, "web", "other")); asked != files+1 {
		t.Errorf("a file of another name needs no decision")
	}
}
