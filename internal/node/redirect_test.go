package node

import (
	"context"
	"errors"
	"strings"
	"testing"

	"logforward/internal/control"
)

// goes checks where the engine sends a log.
func (b *bench) goes(log, want string) {
	b.t.Helper()
	for _, l := range b.wheel.logs {
		if l.Name == log {
			if l.Destination != want {
				b.t.Errorf("%s goes to %q, want %q", log, l.Destination, want)
			}
			return
		}
	}
	b.t.Errorf("the engine doesn't work %s", log)
}

func TestRedirectStandsAboveTheDefinition(t *testing.T) {
	b := newBench(t)
	b.define("nginx.yaml", nginx)
	b.open()
	b.goes("nginx", "central")
	r := b.must(b.node.Redirect(t.Context(), alice(), control.RedirectRequest{Log: "nginx", Destination: "archive", Reason: "move"}))
	if !r.Changed || r.State != "redirecting" {
		t.Errorf("%+v", r)
	}
	b.goes("nginx", "archive")
	b.open()
	b.goes("nginx", "archive")
	row := b.row("nginx")
	if o := row.Override; o == nil || o.Verb != control.VerbRedirect || o.By != alice().Name || o.Reason != "move" {
		t.Errorf("override %+v", o)
	}
	if h := row.History; len(h) != 1 || h[0].Inputs["destination"] != "archive" || h[0].Inputs["from"] != "central" || !strings.HasPrefix(h[0].RequestID, "0f3a") {
		t.Errorf("history %+v", row.History)
	}
	if r := b.must(b.node.Redirect(t.Context(), alice(), control.RedirectRequest{Log: "nginx", Destination: "archive"})); r.Changed {
		t.Errorf("the same again: %+v", r)
	}
	if _, err := b.node.Redirect(t.Context(), alice(), control.RedirectRequest{Log: "nginx", Destination: "elsewhere"}); !errors.Is(err, control.ErrRefused) {
		t.Errorf("a destination that isn't configured: %v", err)
	}
	if _, err := b.node.Redirect(t.Context(), alice(), control.RedirectRequest{Log: "none", Destination: "archive"}); !errors.Is(err, control.ErrUnknownLog) {
		t.Errorf("a log that isn't known: %v", err)
	}
	b.must(b.node.Redirect(t.Context(), alice(), control.RedirectRequest{Log: "nginx", Destination: "central"}))
	b.goes("nginx", "central")
	if o := b.row("nginx").Override; o != nil {
		t.Errorf("what the definition says is no override: %+v", o)
	}
}

// A definition that names none of several destinations goes nowhere: nothing has to be confirmed before it goes elsewhere.
func TestRedirectOfWhatGoesNowhere(t *testing.T) {
	b := newBench(t)
	b.define("nginx.yaml", strings.Replace(nginx, "destination: central\n", "", 1))
	b.open()
	if r := b.must(b.node.Redirect(t.Context(), alice(), control.RedirectRequest{Log: "nginx", Destination: "archive"})); r.Message != "nginx goes to archive" {
		t.Errorf("%+v", r)
	}
	b.goes("nginx", "archive")
}

func TestRedirectOfOneOfAGlobsLogs(t *testing.T) {
	b := newBench(t)
	b.file("a.log")
	b.file("b.log")
	b.define("all.yaml", "log: all\npath: LOGS/*.log\ndestination: central\n")
	b.open()
	b.must(b.node.Redirect(t.Context(), alice(), control.RedirectRequest{Log: "all.a.log", Destination: "archive"}))
	b.goes("all.a.log", "archive")
	b.goes("all.b.log", "central")
	b.open()
	b.goes("all.a.log", "archive")
	if row := b.row("all.a.log"); row.Destination != "archive" {
		t.Errorf("%+v", row)
	}
	// All means all, also the one that was sent elsewhere before.
	b.must(b.node.Redirect(t.Context(), alice(), control.RedirectRequest{Log: "all", Destination: "central"}))
	b.goes("all.a.log", "central")
	b.must(b.node.Redirect(t.Context(), alice(), control.RedirectRequest{Log: "all", Destination: "archive"}))
	b.goes("all.a.log", "archive")
	b.goes("all.b.log", "archive")
}

func TestRedirectOfAnOperatorsLogEndsWithIt(t *testing.T) {
	b := newBench(t)
	b.file("app.log")
	b.open()
	start := control.StartRequest{Log: "app", Path: b.logs + "/app.log", Destination: "central"}
	b.must(b.node.Start(t.Context(), alice(), start))
	b.must(b.node.Redirect(t.Context(), alice(), control.RedirectRequest{Log: "app", Destination: "archive"}))
	b.goes("app", "archive")
	// To start it again with a destination is no way around redirect.
	if _, err := b.node.Start(t.Context(), alice(), start); !errors.Is(err, control.ErrConflict) {
		t.Errorf("%v", err)
	}
	b.goes("app", "archive")
	b.must(b.node.Stop(t.Context(), alice(), control.StopRequest{Log: "app"}))
	b.must(b.node.Start(t.Context(), alice(), start))
	b.goes("app", "central")
}

// Who is asked about a glob's logs is asked about each place where one of them goes: who may not take a log away from
// the archive doesn't get it with the others.
func TestPolicyLearnsWhereEachOfAGlobsLogsGoes(t *testing.T) {
	b := newBench(t)
	b.dest = append(b.dest, "staging")
	b.file("a.log")
	b.file("b.log")
	b.define("all.yaml", "log: all\npath: LOGS/*.log\ndestination: central\n")
	b.auth = func(_ context.Context, c control.Caller, r control.Request) error {
		if c.Name == "up=bob" && (r.Destination == "archive" || r.Current == "archive") {
			return errors.New("the archive isn't bob's")
		}
		return nil
	}
	b.open()
	ctx, bob := t.Context(), control.Caller{Name: "up=bob"}
	b.must(b.node.Redirect(ctx, bob, control.RedirectRequest{Log: "all", Destination: "staging"}))
	b.must(b.node.Redirect(ctx, alice(), control.RedirectRequest{Log: "all.a.log", Destination: "archive"}))
	for verb, do := range map[string]func() (control.Reply, error){
		"redirect": func() (control.Reply, error) {
			return b.node.Redirect(ctx, bob, control.RedirectRequest{Log: "all", Destination: "central"})
		},
		"stop":  func() (control.Reply, error) { return b.node.Stop(ctx, bob, control.StopRequest{Log: "all"}) },
		"pause": func() (control.Reply, error) { return b.node.Pause(ctx, bob, control.PauseRequest{Log: "all"}) },
		"start": func() (control.Reply, error) { return b.node.Start(ctx, bob, control.StartRequest{Log: "all"}) },
	} {
		if _, err := do(); !errors.Is(err, control.ErrRefused) {
			t.Errorf("%s: %v", verb, err)
		}
	}
	b.goes("all.a.log", "archive")
	b.must(b.node.Redirect(ctx, bob, control.RedirectRequest{Log: "all.b.log", Destination: "central"}))
	b.goes("all.b.log", "central")
}
