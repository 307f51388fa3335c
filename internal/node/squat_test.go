package node

import (
	"errors"
	"strings"
	"testing"

	"logforward/internal/control"
)

// A redirect is for the path that policy decided on. Who starts and redirects a log of a name that configuration management
// uses later, for another path, doesn't get that log sent elsewhere.
func TestRedirectIsForThePathThatWasDecidedOn(t *testing.T) {
	b := newBench(t)
	b.open()
	ctx := t.Context()
	b.must(b.node.Start(ctx, alice(), control.StartRequest{Log: "nginx", Path: b.logs + "/mine.log", Destination: "central"}))
	b.must(b.node.Redirect(ctx, alice(), control.RedirectRequest{Log: "nginx", Destination: "archive"}))
	b.goes("nginx", "archive")
	b.define("nginx.yaml", nginx)
	b.look()
	b.want("defined since", "nginx access.log end")
	b.goes("nginx", "central")
	if p := b.problems(); !strings.Contains(p, "mine.log") || !strings.Contains(p, "archive") {
		t.Errorf("problems: %s", p)
	}
	if o := b.row("nginx").Override; o != nil && o.Verb == control.VerbRedirect {
		t.Errorf("a redirect that isn't in force: %+v", o)
	}
	b.open()
	b.goes("nginx", "central")
	// One that is said of what is defined now counts.
	b.must(b.node.Redirect(ctx, alice(), control.RedirectRequest{Log: "nginx", Destination: "archive"}))
	b.goes("nginx", "archive")
	if p := b.problems(); strings.Contains(p, "archive") {
		t.Errorf("problems: %s", p)
	}
}

// The same of one of a glob's logs.
func TestRedirectOfAGlobsLogIsForItsPath(t *testing.T) {
	b := newBench(t)
	b.file("mine/x.log")
	b.file("secret/x.log")
	b.define("web.yaml", "log: web\npath: LOGS/mine/*.log\ndestination: central\n")
	b.open()
	b.must(b.node.Redirect(t.Context(), alice(), control.RedirectRequest{Log: "web.x.log", Destination: "archive"}))
	b.goes("web.x.log", "archive")
	b.open()
	b.goes("web.x.log", "archive")
	b.define("web.yaml", "log: web\npath: LOGS/secret/*.log\ndestination: central\n")
	b.look()
	b.goes("web.x.log", "central")
}

// A redirect of one of a glob's logs ends with the glob that an operator started: whoever starts one of that name later gets
// what they ask for, and policy decided on nothing else.
func TestRedirectOfOneLogEndsWithAnOperatorsGlob(t *testing.T) {
	b := newBench(t)
	b.file("a.log")
	b.open()
	ctx := t.Context()
	bob := alice()
	bob.Name = "choria=bob.mcollective"
	start := control.StartRequest{Log: "app", Path: b.logs + "/*.log", Destination: "central"}
	b.must(b.node.Start(ctx, alice(), start))
	b.must(b.node.Redirect(ctx, alice(), control.RedirectRequest{Log: "app.a.log", Destination: "archive"}))
	b.goes("app.a.log", "archive")
	b.must(b.node.Stop(ctx, alice(), control.StopRequest{Log: "app"}))
	b.must(b.node.Start(ctx, bob, start))
	b.goes("app.a.log", "central")
	b.open()
	b.goes("app.a.log", "central")
}

// To start a glob again with its path asks policy about one destination, so it is no way to lift the stop of a log that goes
// to another one.
func TestStartByPathIsNoWayRoundALogsDestination(t *testing.T) {
	b := newBench(t)
	b.file("a.log")
	b.define("web.yaml", "log: web\npath: LOGS/*.log\ndestination: central\n")
	b.open()
	ctx := t.Context()
	b.must(b.node.Redirect(ctx, alice(), control.RedirectRequest{Log: "web.a.log", Destination: "archive"}))
	b.must(b.node.Stop(ctx, alice(), control.StopRequest{Log: "web"}))
	_, err := b.node.Start(ctx, alice(), control.StartRequest{Log: "web", Path: b.logs + "/*.log", Destination: "central"})
	if !errors.Is(err, control.ErrConflict) || !strings.Contains(err.Error(), "web.a.log goes to archive") {
		t.Errorf("%v", err)
	}
	b.want("stopped")
}
