package node

import (
	"context"
	"os"
	"testing"
	"time"

	"logforward/internal/control"
)

// A node at rest makes nothing anew each second, and misses nothing by that: neither a definition, nor a glob's file, nor what an operator says.
func TestANodeAtRestKeepsItsPlan(t *testing.T) {
	b := newBench(t)
	b.file("a.log")
	b.define("a.yaml", "log: a\npath: "+b.file("a.log")+"\ndestination: central\n")
	b.define("g.yaml", "log: g\npath: "+b.logs+"/g*.log\ndestination: central\n")
	n := b.open()
	b.look()
	same := func(what string, want bool) {
		t.Helper()
		plan := func() *plan {
			n.mu.Lock()
			defer n.mu.Unlock()
			return n.plan
		}
		before := plan()
		n.update(false, 0)
		if got := plan() == before; got != want {
			t.Fatalf("%s: the plan is kept: %t, want %t", what, got, want)
		}
	}
	same("at rest", true)
	b.define("c.yaml", "log: c\npath: "+b.file("c.log")+"\ndestination: central\n")
	if err := os.Chtimes(b.dir+"/c.yaml", time.Time{}, time.Now().Add(-settle)); err != nil {
		t.Fatal(err)
	}
	same("a new definition", false)
	same("at rest again", true)

	b.file("g1.log")
	n.survey.mu.Lock()
	n.survey.known[b.logs+"/g*.log"].forced = true
	n.survey.mu.Unlock()
	b.look()
	b.want("a glob's new file", "a a.log end", "c c.log end", "g.g1.log g1.log beginning")
	same("at rest with a new file", true)

	b.must(n.Pause(context.Background(), alice(), control.PauseRequest{All: true, Reason: "test"}))
	same("paused", false)
	b.must(n.Resume(context.Background(), alice(), control.ResumeRequest{All: true}))
	b.want("after a resume of all", "a a.log end", "c c.log end", "g.g1.log g1.log beginning")
	same("at rest after a pause", true)

	if err := os.Remove(b.dir + "/c.yaml"); err != nil {
		t.Fatal(err)
	}
	same("a definition is gone", false)
	b.want("without it", "a a.log end", "g.g1.log g1.log beginning")
}
