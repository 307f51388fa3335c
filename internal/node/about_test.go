package node

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"logforward/internal/control"
)

// Policy learns where a log that is to be redirected goes now, and which start only ends a stop; a request can't say so.
func TestPolicyLearnsWhatOnlyTheNodeKnows(t *testing.T) {
	b := newBench(t)
	b.define("nginx.yaml", nginx)
	var asked []control.Request
	b.auth = func(_ context.Context, _ control.Caller, r control.Request) error {
		asked = append(asked, r)
		return nil
	}
	b.open()
	b.must(b.node.Redirect(t.Context(), alice(), control.RedirectRequest{Log: "nginx", Destination: "archive"}))
	b.must(b.node.Redirect(t.Context(), alice(), control.RedirectRequest{Log: "nginx", Destination: "central"}))
	b.must(b.node.Stop(t.Context(), alice(), control.StopRequest{Log: "nginx"}))
	b.must(b.node.Start(t.Context(), alice(), control.StartRequest{Log: "nginx"}))
	for i, want := range []struct {
		current, destination string
		lifts                bool
	}{{"central", "archive", false}, {"archive", "central", false}, {"", "central", false}, {"", "central", true}} {
		if i >= len(asked) || asked[i].Current != want.current || asked[i].Destination != want.destination || asked[i].Lifts != want.lifts || asked[i].Path == "" {
			t.Errorf("request %d: %+v", i, asked)
		}
	}
}

// A question about one log is decided on with its path and destination, without a look at its disk.
func TestPolicyLearnsWhatAQuestionIsAbout(t *testing.T) {
	b := newBench(t)
	b.define("nginx.yaml", nginx)
	b.file("real.log")
	if err := os.Symlink(b.logs+"/real.log", b.logs+"/access.log"); err != nil {
		t.Fatal(err)
	}
	b.open()
	r := b.node.Known(alice(), control.Request{Verb: control.VerbStatus, Log: "nginx"})
	if r.Path != b.logs+"/access.log" || r.Destination != "central" || r.Real != "" {
		t.Errorf("%+v", r)
	}
	if r := b.node.Known(alice(), control.Request{Verb: control.VerbStatus, Log: "none"}); r.Path != "" {
		t.Errorf("%+v", r)
	}
}

// What policy decided on is what is done: a link that is swapped while it decides, or a definition that is, undoes the change.
func TestWhatPolicyDecidedOnIsWhatIsDone(t *testing.T) {
	b := newBench(t)
	b.define("nginx.yaml", nginx)
	b.file("access.log")
	b.file("one.log")
	b.file("two.log")
	link := b.logs + "/link.log"
	to := func(name string) {
		t.Helper()
		if err := os.Remove(link); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if err := os.Symlink(b.logs+"/"+name, link); err != nil {
			t.Fatal(err)
		}
	}
	var meanwhile func()
	b.auth = func(context.Context, control.Caller, control.Request) error { meanwhile(); return nil }
	b.open()
	start := control.StartRequest{Log: "app", Path: link, Destination: "central"}
	to("one.log")
	meanwhile = func() { to("two.log") }
	if _, err := b.node.Start(t.Context(), alice(), start); !errors.Is(err, control.ErrConflict) {
		t.Errorf("a link that was swapped: %v", err)
	}
	meanwhile = func() {
		b.define("nginx.yaml", strings.Replace(nginx, "access.log", "one.log", 1))
		b.look()
	}
	if _, err := b.node.Pause(t.Context(), alice(), control.PauseRequest{Log: "nginx"}); !errors.Is(err, control.ErrConflict) {
		t.Errorf("a definition that was replaced: %v", err)
	}
	meanwhile = func() {}
	b.must(b.node.Pause(t.Context(), alice(), control.PauseRequest{Log: "nginx"}))
	b.must(b.node.Start(t.Context(), alice(), start))
}
