package node

import (
	"context"
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
