package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"logforward/internal/control"
	"logforward/internal/wish"
)

// awayNode is a node of which the paths below /nfs don't answer, while they are away.
type awayNode struct {
	control.Node
	away  bool
	tried int
	did   []string
}

func (n *awayNode) Start(_ context.Context, _ control.Caller, r control.StartRequest) (control.Reply, error) {
	if n.away && strings.HasPrefix(r.Path, "/nfs/") {
		n.tried++
		return control.Reply{}, control.Errorf(control.CodeTimeout, "its file system doesn't answer")
	}
	n.did = append(n.did, "start "+r.Log)
	return control.Reply{}, nil
}

func (n *awayNode) Stop(_ context.Context, _ control.Caller, r control.StopRequest) (control.Reply, error) {
	n.did = append(n.did, "stop "+r.Log)
	return control.Reply{}, nil
}

func (n *awayNode) Pause(_ context.Context, _ control.Caller, r control.PauseRequest) (control.Reply, error) {
	if r.All {
		r.Log = "all"
	}
	n.did = append(n.did, "pause "+r.Log)
	return control.Reply{}, nil
}

func (n *awayNode) Resume(_ context.Context, _ control.Caller, _ control.ResumeRequest) (control.Reply, error) {
	n.did = append(n.did, "resume all")
	return control.Reply{}, nil
}

// A wish whose path's file system is away holds up what else was asked of its log, and nothing else.
func TestWishThatHangsHoldsUpItsOwnLogOnly(t *testing.T) {
	dir := t.TempDir() + "/wishes"
	node := &awayNode{away: true}
	server := control.New(control.Config{Socket: "/nowhere", Node: node, Authorize: func(context.Context, control.Caller, control.Request) error { return nil }})
	for _, said := range []struct{ verb, body string }{
		{"start", `{"log":"a","path":"/nfs/a.log"}`},
		{"start", `{"log":"b","path":"/var/log/b.log"}`},
		{"stop", `{"log":"a"}`},
		{"pause", `{"all":true}`},
		{"pause", `{"log":"a.child"}`}, // one of a's, if a is a glob
		{"resume", `{"all":true}`},     // ends a.child's pause
		{"start", `{"log":"c","path":"/nfs/a.log"}`},
		{"start", `{"log":"ab","path":"/var/log/ab.log"}`},
	} {
		if err := wish.Record(dir, wish.Wish{Verb: said.verb, Body: json.RawMessage(said.body), Caller: "choria=alice.mcollective", Time: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	w := &wishes{dir: dir, server: server, log: slog.New(slog.DiscardHandler)}
	want := func(when string, waiting int, did ...string) {
		t.Helper()
		left, problems := wish.Read(dir)
		if !slices.Equal(node.did, did) || len(left) != waiting || len(problems) > 0 {
			t.Errorf("%s: %q was done, want %q; %d wait, want %d; %v", when, node.did, did, len(left), waiting, problems)
		}
		node.did = nil
	}
	w.look(t.Context())
	want("at once", 5, "start b", "pause all", "start ab")
	w.look(t.Context())
	want("a second later", 5)
	if node.tried != 1 {
		t.Errorf("it was tried %d times", node.tried)
	}
	passes := func() {
		for file, d := range w.late {
			d.next = time.Time{}
			w.late[file] = d
		}
	}
	passes()
	w.look(t.Context())
	want("when it is tried again", 5)
	for _, d := range w.late {
		if node.tried != 2 || d.by != 2*firstDelay || len(w.late) != 1 {
			t.Errorf("tried %d times, next after %s, %d of them", node.tried, d.by, len(w.late))
		}
	}
	passes()
	node.away = false
	w.look(t.Context())
	want("when it is back", 0, "start a", "stop a", "pause a.child", "resume all", "start c")
	if w.look(t.Context()); len(w.late) != 0 {
		t.Errorf("%v", w.late)
	}
}
