package node

import (
	"context"
	"os"
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
