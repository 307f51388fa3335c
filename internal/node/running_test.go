package node

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"logforward/internal/control"
)

// judge is a policy that can be changed.
type judge struct {
	denied map[string]bool // "caller verb"
	broken bool
	asked  []control.Request
}

func (j *judge) stands(_ context.Context, c control.Caller, r control.Request, was bool) (bool, error) {
	j.asked = append(j.asked, r)
	if j.broken {
		return was, errors.New("there is no policy")
	}
	return !j.denied[c.Name+" "+r.Verb], nil
}

// What runs is stopped when its starter may not start it any more, and goes on when they may again.
func TestPolicyStopsWhatRuns(t *testing.T) {
	b := newBench(t)
	b.define("nginx.yaml", nginx)
	b.open()
	j := &judge{denied: map[string]bool{}}
	look := func() {
		b.node.config.Stands = j.stands
		b.node.judgeRunning(t.Context())
	}
	ctx := t.Context()
	b.must(b.node.Start(ctx, alice(), control.StartRequest{Log: "app", Path: b.logs + "/app.log", Destination: "archive", For: 4 * hour, Reason: "case 7"}))
	b.must(b.node.Redirect(ctx, alice(), control.RedirectRequest{Log: "nginx", Destination: "archive"}))
	look()
	b.want("permitted", "app app.log end", "nginx access.log end")
	for _, r := range j.asked {
		if r.Verb == control.VerbStart && (r.Path != b.logs+"/app.log" || r.Destination != "archive" || r.For != 4*time.Hour || r.Reason != "case 7") ||
			r.Verb == control.VerbRedirect && (r.Path != b.logs+"/access.log" || r.Destination != "archive" || r.Current != "central") {
			t.Errorf("asked %+v", r)
		}
	}
	j.denied["choria=alice.mcollective start"] = true
	j.broken = true
	look()
	b.want("while there is no policy", "app app.log end", "nginx access.log end")
	j.broken = false
	look()
	b.want("not permitted any more", "nginx access.log end")
	row := b.row("app")
	if o := row.Override; row.State != "stopped" || o.By != "policy" || !strings.Contains(o.Reason, "choria=alice.mcollective") {
		t.Errorf("%+v", row.Override)
	}
	b.open()
	look()
	b.want("after a restart", "nginx access.log end")
	j.broken = true
	look()
	b.want("while there is no policy again", "nginx access.log end")
	j.broken = false
	delete(j.denied, "choria=alice.mcollective start")
	look()
	b.want("permitted again", "app app.log end", "nginx access.log end")

	j.denied["choria=alice.mcollective redirect"] = true
	b.goes("nginx", "archive")
	look()
	b.goes("nginx", "central")
	if h := b.row("nginx").History; h[len(h)-1].Ended != "policy" {
		t.Errorf("history %+v", h)
	}
}

// An operator's own stop is left alone, and who may start it takes it over.
func TestOperatorsBesidePolicy(t *testing.T) {
	b := newBench(t)
	b.open()
	j := &judge{denied: map[string]bool{}}
	b.node.config.Stands = j.stands
	ctx := t.Context()
	bob := alice()
	bob.Name = "choria=bob.mcollective"
	b.must(b.node.Start(ctx, alice(), control.StartRequest{Log: "app", Path: b.logs + "/app.log", Destination: "archive", For: 4 * hour}))
	j.denied["choria=alice.mcollective start"] = true
	b.node.judgeRunning(ctx)
	b.want("stopped by policy")
	b.must(b.node.Start(ctx, bob, control.StartRequest{Log: "app"}))
	b.node.judgeRunning(ctx)
	b.want("bob's now", "app app.log end")
	if o := b.row("app").Override; o.By != bob.Name || !o.Until.Equal(b.now.Add(4*time.Hour)) {
		t.Errorf("%+v", o)
	}
	b.must(b.node.Stop(ctx, alice(), control.StopRequest{Log: "app", For: hour}))
	j.denied["choria=bob.mcollective start"] = true
	b.node.judgeRunning(ctx)
	if o := b.row("app").Override; o.By != "choria=alice.mcollective" {
		t.Errorf("policy took an operator's stop: %+v", o)
	}
	b.now = b.now.Add(time.Hour)
	b.look()
	b.node.judgeRunning(ctx)
	b.want("when that ended")
}

// What an operator started and configuration management defines since is no operator's any more: policy stops it no more, and
// a stop of policy's ends.
func TestPolicyLeavesAloneWhatIsDefinedSince(t *testing.T) {
	b := newBench(t)
	b.open()
	j := &judge{denied: map[string]bool{}}
	b.node.config.Stands = j.stands
	b.must(b.node.Start(t.Context(), alice(), control.StartRequest{Log: "app", Path: b.logs + "/app.log", Destination: "archive"}))
	b.must(b.node.Start(t.Context(), alice(), control.StartRequest{Log: "web", Path: b.logs + "/web.log", Destination: "archive"}))
	b.define("app.yaml", "log: app\npath: LOGS/app.log\ndestination: central\n")
	b.node.Reload()
	j.denied["choria=alice.mcollective start"] = true
	b.node.judgeRunning(t.Context())
	b.want("denied", "app app.log end")
	b.define("web.yaml", "log: web\npath: LOGS/web.log\ndestination: central\n")
	b.node.Reload()
	b.node.judgeRunning(t.Context())
	b.want("defined since", "app app.log end", "web web.log end")
}

// Who takes a glob over from somebody else doesn't get the files that policy permitted to that one alone.
func TestWhoTakesOverIsAskedAboutEachFile(t *testing.T) {
	b := newBench(t)
	b.file("a.log")
	asked := ""
	b.files = func(_ context.Context, c control.Caller, _ control.Request) error {
		asked = c.Name
		return nil
	}
	b.open()
	j := &judge{denied: map[string]bool{}}
	b.node.config.Stands = j.stands
	ctx, bob := t.Context(), alice()
	bob.Name = "choria=bob.mcollective"
	b.must(b.node.Start(ctx, alice(), control.StartRequest{Log: "app", Path: b.logs + "/*.log", Destination: "archive"}))
	if err := b.node.Permit("app.a.log", b.logs+"/a.log"); err != nil || asked != alice().Name {
		t.Fatalf("%q %v", asked, err)
	}
	b.look()
	j.denied["choria=alice.mcollective start"] = true
	b.node.judgeRunning(ctx)
	b.must(b.node.Start(ctx, bob, control.StartRequest{Log: "app"}))
	if err := b.node.Permit("app.a.log", b.logs+"/a.log"); err != nil || asked != bob.Name {
		t.Errorf("%q was asked about: %v", asked, err)
	}
}

// The node's own log is forwarded whatever operators pause, and no file takes its name.
func TestOwnLog(t *testing.T) {
	b := newBench(t)
	b.own = []Own{{Definition{Log: "audit.logforward", Path: "/elsewhere/audit.log", Destination: "archive", Start: "beginning"}, "the setting audit_destination"}}
	b.define("nginx.yaml", nginx)
	b.define("audit.yaml", "log: audit.logforward\npath: LOGS/other\ndestination: central\n")
	b.file("audit/logforward")
	b.define("glob.yaml", "log: audit\npath: LOGS/audit/*\ndestination: central\n")
	b.open()
	b.want("at start", "audit.logforward audit.log beginning", "nginx access.log end")
	if text := b.problems(); !strings.Contains(text, "is the node's own") || !strings.Contains(text, "audit.yaml") {
		t.Errorf("problems %s", text)
	}
	b.must(b.node.Pause(t.Context(), alice(), control.PauseRequest{All: true}))
	b.want("all paused", "audit.logforward audit.log beginning", "nginx access.log end paused")
	if r := b.row("audit.logforward"); r.Managed != "the setting audit_destination" || r.State != "idle" {
		t.Errorf("%+v", r)
	}
	b.must(b.node.Pause(t.Context(), alice(), control.PauseRequest{Log: "audit.logforward", For: hour}))
	b.want("it itself paused", "audit.logforward audit.log beginning paused", "nginx access.log end paused")
	if err := b.node.Permit("audit.logforward", "/elsewhere/audit.log"); err != nil {
		t.Error(err)
	}
	if err := b.node.Permit("nginx", "/elsewhere/audit.log"); err == nil {
		t.Error("another log may read the audit log's file")
	}
	for _, r := range []control.StartRequest{{Log: "audit.logforward", Path: b.logs + "/app.log", Destination: "central"}, {Log: "x", Path: "/elsewhere/audit.log", Destination: "central"}} {
		if _, err := b.node.Start(t.Context(), alice(), r); err == nil {
			t.Errorf("%+v was taken", r)
		}
	}
}
