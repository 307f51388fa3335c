package node

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"logforward/internal/control"
	"logforward/internal/forward"
)

const web = "log: web\npath: LOGS/web/*.log\ndestination: central\n"

// A pause of a forwarder holds all of its logs, also one that was an exception from an earlier pause.
func TestPauseOfAForwarderEndsExceptions(t *testing.T) {
	b := newBench(t)
	b.file("web/a.log")
	b.file("web/b.log")
	b.define("web.yaml", web)
	b.open()
	ctx := t.Context()
	b.must(b.node.Pause(ctx, alice(), control.PauseRequest{All: true, For: hour}))
	b.must(b.node.Resume(ctx, alice(), control.ResumeRequest{Log: "web.a.log"}))
	b.want("an exception", "web.a.log a.log end", "web.b.log b.log end paused")
	b.now = b.now.Add(2 * time.Hour)
	b.look()
	b.want("when the pause is over", "web.a.log a.log end", "web.b.log b.log end")
	b.must(b.node.Pause(ctx, alice(), control.PauseRequest{Log: "web"}))
	b.want("paused", "web.a.log a.log end paused", "web.b.log b.log end paused")
	b.open()
	b.want("after a restart", "web.a.log a.log end paused", "web.b.log b.log end paused")
	// An exception from this one, and the same pause once more.
	b.must(b.node.Resume(ctx, alice(), control.ResumeRequest{Log: "web.b.log"}))
	b.want("another exception", "web.a.log a.log end paused", "web.b.log b.log end")
	if r := b.must(b.node.Pause(ctx, alice(), control.PauseRequest{Log: "web"})); !r.Changed {
		t.Errorf("%+v", r)
	}
	b.want("paused again", "web.a.log a.log end paused", "web.b.log b.log end paused")
	if r := b.must(b.node.Pause(ctx, alice(), control.PauseRequest{Log: "web"})); r.Changed {
		t.Errorf("and again: %+v", r)
	}
}

// A stop of a forwarder stops a log of it that still drains, and what was stopped isn't begun again by a drain.
func TestDrainStandsBelowAStop(t *testing.T) {
	b := newBench(t)
	b.file("web/a.log")
	b.define("web.yaml", web)
	b.define("nginx.yaml", nginx)
	b.open()
	ctx := t.Context()
	b.wheel.stands("web.a.log", forward.Status{State: "forwarding", Epoch: 1, Confirmed: 100, LagBytes: 50})
	b.must(b.node.Stop(ctx, alice(), control.StopRequest{Log: "web.a.log", Drain: true}))
	b.want("draining", "nginx access.log end", "web.a.log a.log end")
	b.must(b.node.Stop(ctx, alice(), control.StopRequest{Log: "web"}))
	b.want("all of it stopped", "nginx access.log end")
	if h := b.row("web.a.log").History; h[len(h)-1].Ended == "drained" {
		t.Errorf("nothing says that it drained: %+v", h)
	}
	b.must(b.node.Start(ctx, alice(), control.StartRequest{Log: "web"}))
	b.want("started, and draining on", "nginx access.log end", "web.a.log a.log end")
	b.must(b.node.Stop(ctx, alice(), control.StopRequest{Log: "web.a.log"}))
	b.must(b.node.Stop(ctx, alice(), control.StopRequest{Log: "nginx"}))
	b.must(b.node.Stop(ctx, alice(), control.StopRequest{Log: "web"}))
	b.want("stopped")
	b.wheel.stands("nginx", forward.Status{State: "forwarding", Epoch: 1, Confirmed: 100, LagBytes: 50})
	for _, log := range []string{"nginx", "web", "web.a.log"} {
		if r := b.must(b.node.Stop(ctx, alice(), control.StopRequest{Log: log, Drain: true, For: hour})); r.State != "stopped" {
			t.Errorf("%s: %+v", log, r)
		}
		b.want(log + " drained, which was stopped")
	}
}

// Who may hold a log and may not let it go can't do that by a shorter time than somebody else's.
func TestWhoShortensAnothersWordIsAskedForMore(t *testing.T) {
	b := newBench(t)
	b.define("nginx.yaml", nginx)
	bob := control.Caller{Name: "up=bob"}
	var asked []string
	b.auth = func(_ context.Context, c control.Caller, r control.Request) error {
		if c.Name == bob.Name {
			asked = append(asked, r.Verb)
			if r.Verb == control.VerbStart || r.Verb == control.VerbResume {
				return errors.New("bob only holds")
			}
		}
		return nil
	}
	b.open()
	ctx := t.Context()
	second := control.Duration(time.Second)
	b.must(b.node.Pause(ctx, alice(), control.PauseRequest{All: true, Reason: "leak"}))
	b.must(b.node.Pause(ctx, alice(), control.PauseRequest{Log: "nginx", For: 2 * hour}))
	b.must(b.node.Stop(ctx, alice(), control.StopRequest{Log: "nginx"}))
	for name, do := range map[string]func(control.Duration) (control.Reply, error){
		"pause all": func(d control.Duration) (control.Reply, error) {
			return b.node.Pause(ctx, bob, control.PauseRequest{All: true, For: d})
		},
		"pause": func(d control.Duration) (control.Reply, error) {
			return b.node.Pause(ctx, bob, control.PauseRequest{Log: "nginx", For: d})
		},
		"stop": func(d control.Duration) (control.Reply, error) {
			return b.node.Stop(ctx, bob, control.StopRequest{Log: "nginx", For: d})
		},
	} {
		if _, err := do(second); !errors.Is(err, control.ErrRefused) || !strings.Contains(err.Error(), "choria=alice.mcollective") || !strings.Contains(err.Error(), "bob only holds") {
			t.Errorf("%s: %v", name, err)
		}
	}
	b.now = b.now.Add(time.Minute)
	b.look()
	if s, err := b.node.Status(ctx, control.StatusRequest{}); err != nil || s.Pause == nil || s.Pause.By != alice().Name {
		t.Errorf("%+v, %v", s.Pause, err)
	}
	b.want("still stopped")
	// A longer one, and one's own, needs nothing more.
	asked = nil
	b.must(b.node.Pause(ctx, bob, control.PauseRequest{Log: "nginx", For: 3 * hour}))
	b.must(b.node.Pause(ctx, bob, control.PauseRequest{Log: "nginx", For: second}))
	b.must(b.node.Pause(ctx, bob, control.PauseRequest{All: true}))
	if got := strings.Join(asked, " "); got != "pause pause pause" {
		t.Errorf("asked %s", got)
	}
	// Who may let go may shorten.
	b.must(b.node.Stop(ctx, alice(), control.StopRequest{Log: "nginx", For: hour}))
	b.must(b.node.Pause(ctx, alice(), control.PauseRequest{All: true, For: hour}))
}

// An operator's stop is one, though policy has stopped the log before; and policy's isn't ended by one that ends.
func TestStopOfWhatPolicyHasStopped(t *testing.T) {
	b := newBench(t)
	b.open()
	j := &judge{denied: map[string]bool{}}
	b.node.config.Stands = j.stands
	ctx := t.Context()
	b.must(b.node.Start(ctx, alice(), control.StartRequest{Log: "app", Path: b.logs + "/app.log", Destination: "archive"}))
	j.denied["choria=alice.mcollective start"] = true
	b.node.judgeRunning(ctx)
	b.want("stopped by policy")
	for _, drain := range []bool{false, true} {
		if _, err := b.node.Stop(ctx, alice(), control.StopRequest{Log: "app", For: control.Duration(time.Second), Drain: drain}); !errors.Is(err, control.ErrConflict) {
			t.Errorf("for a second, drain %t: %v", drain, err)
		}
		b.now = b.now.Add(time.Minute)
		b.look()
		b.want("a minute later")
	}
	if r := b.must(b.node.Stop(ctx, alice(), control.StopRequest{Log: "app"})); !r.Changed {
		t.Errorf("%+v", r)
	}
	delete(j.denied, "choria=alice.mcollective start")
	b.node.judgeRunning(ctx)
	b.want("permitted again, but an operator has stopped it")
}

// A start of one of a forwarder's logs says that the forwarder is stopped, also where the log was stopped by itself.
func TestStartOfALogOfAStoppedForwarderSaysSo(t *testing.T) {
	b := newBench(t)
	b.file("web/a.log")
	b.define("web.yaml", web)
	b.open()
	ctx := t.Context()
	b.must(b.node.Stop(ctx, alice(), control.StopRequest{Log: "web.a.log"}))
	b.must(b.node.Stop(ctx, alice(), control.StopRequest{Log: "web"}))
	if r, err := b.node.Start(ctx, alice(), control.StartRequest{Log: "web.a.log"}); !errors.Is(err, control.ErrConflict) || !strings.Contains(err.Error(), "start web") {
		t.Errorf("%+v, %v", r, err)
	}
	b.want("stopped")
	b.must(b.node.Start(ctx, alice(), control.StartRequest{Log: "web"}))
	b.must(b.node.Start(ctx, alice(), control.StartRequest{Log: "web.a.log"}))
	b.want("started", "web.a.log a.log end")
	// What a file defines goes by no other path, stopped or not.
	if _, err := b.node.Start(ctx, alice(), control.StartRequest{Log: "web", Path: b.logs + "/x", Destination: "central"}); !errors.Is(err, control.ErrConflict) || strings.Contains(err.Error(), "stop it") {
		t.Errorf("%v", err)
	}
}
