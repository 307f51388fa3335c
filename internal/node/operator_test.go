package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"logforward/internal/control"
	"logforward/internal/forward"
)

const hour = control.Duration(time.Hour)

func TestOperatorsStartSurvivesRestartAndEnds(t *testing.T) {
	b := newBench(t)
	b.open()
	rate := control.Rate(1 << 20)
	r := b.must(b.node.Start(t.Context(), alice(), control.StartRequest{Log: "app", Path: b.logs + "/app.log", Destination: "archive", Start: "beginning", Rate: &rate, For: hour, Reason: "ticket 12"}))
	if !r.Changed || !r.Until.Equal(b.now.Add(time.Hour)) {
		t.Errorf("%+v", r)
	}
	b.want("started", "app app.log beginning")
	if b.wheel.logs[0].Rate != 1<<20 || b.wheel.logs[0].Destination != "archive" {
		t.Errorf("%+v", b.wheel.logs[0])
	}
	if r := b.must(b.node.Start(t.Context(), alice(), control.StartRequest{Log: "app", Path: b.logs + "/app.log", Destination: "archive", Start: "beginning", Rate: &rate, For: hour})); r.Changed {
		t.Errorf("the same again: %+v", r)
	}
	b.now = b.now.Add(30 * time.Minute)
	b.open()
	b.want("after a restart", "app app.log beginning")
	row := b.row("app")
	if o := row.Override; o == nil || o.By != "choria=alice.mcollective" || !strings.HasPrefix(o.RequestID, "0f3a") || o.Reason != "ticket 12" || o.UID != 1000 {
		t.Errorf("%+v", row.Override)
	}
	b.now = b.now.Add(30 * time.Minute)
	b.look()
	b.want("when its time is over")
	b.open()
	b.want("and after another restart")
}

func TestOverrideThatEndedWhileDownIsOver(t *testing.T) {
	b := newBench(t)
	b.define("nginx.yaml", nginx)
	b.open()
	b.must(b.node.Stop(t.Context(), alice(), control.StopRequest{Log: "nginx", For: hour}))
	b.want("stopped")
	b.now = b.now.Add(2 * time.Hour)
	b.open()
	b.want("two hours later", "nginx access.log end")
	h := b.row("nginx").History
	if len(h) != 2 || h[1].Ended != "expired" {
		t.Errorf("history: %+v", h)
	}
}

func TestStopOfAManagedLog(t *testing.T) {
	b := newBench(t)
	b.define("nginx.yaml", nginx)
	b.open()
	if r := b.must(b.node.Stop(t.Context(), alice(), control.StopRequest{Log: "nginx", Reason: "disk"})); !r.Changed || r.State != "stopped" {
		t.Errorf("%+v", r)
	}
	b.want("stopped")
	if r := b.must(b.node.Stop(t.Context(), alice(), control.StopRequest{Log: "nginx"})); r.Changed {
		t.Errorf("stopped again: %+v", r)
	}
	// Configuration management changing the file doesn't lift an operator's word.
	b.define("nginx.yaml", strings.ReplaceAll(nginx, "access", "other"))
	b.open()
	b.want("after a restart and a changed file")
	if r := b.row("nginx"); r.State != "stopped" || r.Override == nil || r.Override.Reason != "disk" {
		t.Errorf("%+v", r)
	}
	b.must(b.node.Start(t.Context(), alice(), control.StartRequest{Log: "nginx"}))
	b.want("started", "nginx other.log end")
	if r := b.must(b.node.Start(t.Context(), alice(), control.StartRequest{Log: "nginx"})); r.Changed {
		t.Errorf("started again: %+v", r)
	}
}

func TestStopOfAnOperatorsLogForgetsIt(t *testing.T) {
	b := newBench(t)
	b.open()
	start := control.StartRequest{Log: "app", Path: b.logs + "/app.log", Destination: "central"}
	b.must(b.node.Start(t.Context(), alice(), start))
	b.must(b.node.Stop(t.Context(), alice(), control.StopRequest{Log: "app", For: hour}))
	b.want("stopped for an hour")
	b.now = b.now.Add(time.Hour)
	b.look()
	b.want("an hour later", "app app.log end")
	if r := b.must(b.node.Stop(t.Context(), alice(), control.StopRequest{Log: "app"})); !strings.Contains(r.Message, "a start with its path, "+start.Path) {
		t.Errorf("how it would go on: %s", r.Message)
	}
	if _, err := b.node.Start(t.Context(), alice(), control.StartRequest{Log: "app"}); !errors.Is(err, control.ErrUnknownLog) {
		t.Errorf("start without a path: %v", err)
	}
	start.Path = b.logs + "/elsewhere.log"
	b.must(b.node.Start(t.Context(), alice(), start))
	b.want("started elsewhere", "app elsewhere.log end")
}

func TestDrainSendsWhatIsThereAndThenStops(t *testing.T) {
	b := newBench(t)
	b.define("nginx.yaml", nginx)
	b.open()
	b.wheel.stands("nginx", forward.Status{State: "forwarding", Epoch: 1, Confirmed: 100, LagBytes: 50})
	if r := b.must(b.node.Stop(t.Context(), alice(), control.StopRequest{Log: "nginx", Drain: true})); r.State != "draining" {
		t.Errorf("%+v", r)
	}
	b.want("draining", "nginx access.log end")
	if r := b.row("nginx"); r.State != "draining" {
		t.Errorf("%+v", r)
	}
	b.open() // a restart doesn't forget it
	b.wheel.stands("nginx", forward.Status{State: "starting"})
	b.look()
	b.want("when the engine has just begun", "nginx access.log end")
	b.wheel.stands("nginx", forward.Status{State: "forwarding", Epoch: 1, Confirmed: 100, LagBytes: 50})
	b.look()
	b.wheel.stands("nginx", forward.Status{State: "forwarding", Epoch: 1, Confirmed: 149, LagBytes: 400})
	b.look()
	b.want("one byte before", "nginx access.log end")
	// The file grows faster than it drains; what was there when it was asked is what counts.
	b.wheel.stands("nginx", forward.Status{State: "forwarding", Epoch: 1, Confirmed: 150, LagBytes: 400})
	b.look()
	b.want("drained")
	if r := b.row("nginx"); r.State != "stopped" {
		t.Errorf("%+v", r)
	}
}

func TestPauseAndResume(t *testing.T) {
	b := newBench(t)
	b.define("nginx.yaml", nginx)
	b.define("syslog.yaml", syslog)
	b.open()
	ctx := t.Context()
	b.must(b.node.Pause(ctx, alice(), control.PauseRequest{Log: "nginx", For: hour}))
	b.want("one paused", "nginx access.log end paused", "syslog syslog beginning")
	b.open()
	b.want("after a restart", "nginx access.log end paused", "syslog syslog beginning")
	b.must(b.node.Pause(ctx, alice(), control.PauseRequest{All: true, Reason: "storm"}))
	b.want("all paused", "nginx access.log end paused", "syslog syslog beginning paused")
	b.define("later.yaml", "log: later\npath: LOGS/later\ndestination: central\n")
	b.look()
	b.want("one that comes later", "later later end paused", "nginx access.log end paused", "syslog syslog beginning paused")
	b.must(b.node.Resume(ctx, alice(), control.ResumeRequest{Log: "syslog", For: hour}))
	b.want("an exception", "later later end paused", "nginx access.log end paused", "syslog syslog beginning")
	b.now = b.now.Add(time.Hour)
	b.open()
	b.want("an hour later the exception is over", "later later end paused", "nginx access.log end paused", "syslog syslog beginning paused")
	if s, err := b.node.Status(ctx, control.StatusRequest{}); err != nil || s.Pause == nil || s.Pause.Reason != "storm" {
		t.Errorf("%+v, %v", s.Pause, err)
	}
	b.must(b.node.Resume(ctx, alice(), control.ResumeRequest{All: true}))
	b.want("all resumed", "later later end", "nginx access.log end", "syslog syslog beginning")
	b.open()
	b.want("after a restart", "later later end", "nginx access.log end", "syslog syslog beginning")
	if r := b.must(b.node.Resume(ctx, alice(), control.ResumeRequest{Log: "nginx"})); r.Changed {
		t.Errorf("resumed again: %+v", r)
	}
}

func TestOverridesOfAGlob(t *testing.T) {
	b := newBench(t)
	b.file("web/a.log")
	b.file("web/b.log")
	b.define("web.yaml", "log: web\npath: LOGS/web/*.log\ndestination: central\n")
	b.open()
	ctx := t.Context()
	b.must(b.node.Stop(ctx, alice(), control.StopRequest{Log: "web.a.log"}))
	b.want("one stopped", "web.b.log b.log end")
	if r := b.must(b.node.Stop(ctx, alice(), control.StopRequest{Log: "web"})); len(r.Logs) != 2 {
		t.Errorf("%+v", r)
	}
	b.want("all stopped")
	if _, err := b.node.Start(ctx, alice(), control.StartRequest{Log: "web.b.log"}); !errors.Is(err, control.ErrConflict) {
		t.Errorf("one of a stopped glob: %v", err)
	}
	b.must(b.node.Start(ctx, alice(), control.StartRequest{Log: "web"}))
	b.want("started, but for its own stop", "web.b.log b.log end")
	b.must(b.node.Pause(ctx, alice(), control.PauseRequest{Log: "web"}))
	b.must(b.node.Start(ctx, alice(), control.StartRequest{Log: "web.a.log"}))
	b.must(b.node.Resume(ctx, alice(), control.ResumeRequest{Log: "web.b.log"}))
	b.want("paused with an exception", "web.a.log a.log end paused", "web.b.log b.log end")
}

func TestStartIsRefused(t *testing.T) {
	b := newBench(t)
	b.define("web.yaml", "log: web\npath: LOGS/web/*.log\ndestination: central\n")
	b.file("web/a.log")
	b.open()
	if err := os.Symlink("/etc/passwd", filepath.Join(b.logs, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", filepath.Join(b.logs, "dir")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/not-there-yet", filepath.Join(b.logs, "dangling")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(b.logs, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("fifo", filepath.Join(b.logs, "to-fifo")); err != nil {
		t.Fatal(err)
	}
	socket, err := net.Listen("unix", filepath.Join(b.logs, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	for _, c := range []struct {
		name string
		r    control.StartRequest
		kind error
		says string
	}{
		{"outside", control.StartRequest{Log: "a", Path: "/etc/passwd", Destination: "central"}, control.ErrRefused, "allowed_paths"},
		{"link to outside", control.StartRequest{Log: "a", Path: b.logs + "/link", Destination: "central"}, control.ErrRefused, `"/etc/passwd"`},
		{"through a linked directory", control.StartRequest{Log: "a", Path: b.logs + "/dir/passwd", Destination: "central"}, control.ErrRefused, `"/etc/passwd"`},
		{"dangling link to outside", control.StartRequest{Log: "a", Path: b.logs + "/dangling", Destination: "central"}, control.ErrRefused, `"/etc/not-there-yet"`},
		{"not there yet, outside", control.StartRequest{Log: "a", Path: "/etc/none/at/all", Destination: "central"}, control.ErrRefused, "not permitted"},
		{"glob outside", control.StartRequest{Log: "a", Path: "/etc/pass*", Destination: "central"}, control.ErrRefused, "may be forwarded"},
		{"glob outside without matches", control.StartRequest{Log: "a", Path: "/etc/none*/x", Destination: "central"}, control.ErrRefused, "not permitted"},
		{"a directory", control.StartRequest{Log: "a", Path: b.logs + "/web", Destination: "central"}, control.ErrInvalid, "/web/*.log"},
		{"a FIFO", control.StartRequest{Log: "a", Path: b.logs + "/fifo", Destination: "central"}, control.ErrInvalid, "it is a FIFO"},
		{"a socket", control.StartRequest{Log: "a", Path: b.logs + "/socket", Destination: "central"}, control.ErrInvalid, "it is a socket"},
		{"a link to a FIFO", control.StartRequest{Log: "a", Path: b.logs + "/to-fifo", Destination: "central"}, control.ErrInvalid, "only regular files are forwarded"},
		{"unknown destination", control.StartRequest{Log: "a", Path: b.logs + "/a", Destination: "moon"}, control.ErrRefused, "known: archive, central"},
		{"no destination with two", control.StartRequest{Log: "a", Path: b.logs + "/a"}, control.ErrRefused, "archive, central"},
		{"unknown log", control.StartRequest{Log: "a"}, control.ErrUnknownLog, "known: web"},
		{"a glob's log", control.StartRequest{Log: "web.a.log", Path: b.logs + "/x", Destination: "central"}, control.ErrConflict, "choose another name"},
		{"another path", control.StartRequest{Log: "web", Path: b.logs + "/x", Destination: "central"}, control.ErrConflict, "web.yaml"},
		{"another destination", control.StartRequest{Log: "web", Path: b.logs + "/web/*.log", Destination: "archive"}, control.ErrConflict, "central"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := b.node.Start(t.Context(), alice(), c.r)
			if !errors.Is(err, c.kind) || !strings.Contains(fmt.Sprint(err), c.says) {
				t.Errorf("%v; want %v with %q", err, c.kind, c.says)
			}
		})
	}
	// No device lies where something is allowed.
	if got := special("/dev/null"); got != "a device" {
		t.Errorf("/dev/null is %q", got)
	}
	b.want("after all that", "web.a.log a.log end")
	// What is permitted is, also where it doesn't exist yet.
	for i, p := range []string{"/x/y/none.log", "/none*", "/{p,q}/[ab]?.log"} {
		b.must(b.node.Start(t.Context(), alice(), control.StartRequest{Log: fmt.Sprint("ok", i), Path: b.logs + p, Destination: "central"}))
	}
}

func TestPolicyIsAskedWithPathAndDestination(t *testing.T) {
	b := newBench(t)
	b.define("nginx.yaml", nginx)
	var asked []control.Request
	b.auth = func(_ context.Context, c control.Caller, r control.Request) error {
		asked = append(asked, r)
		return errors.New("operators.yaml: rule 3")
	}
	b.open()
	ctx := t.Context()
	_, err1 := b.node.Stop(ctx, alice(), control.StopRequest{Log: "nginx"})
	_, err2 := b.node.Start(ctx, alice(), control.StartRequest{Log: "nginx"})
	_, err3 := b.node.Pause(ctx, alice(), control.PauseRequest{All: true})
	_, err4 := b.node.Resume(ctx, alice(), control.ResumeRequest{Log: "nginx"})
	for _, err := range []error{err1, err2, err3, err4} {
		if !errors.Is(err, control.ErrRefused) || !strings.Contains(err.Error(), "rule 3") {
			t.Errorf("%v", err)
		}
	}
	if want := (control.Request{Verb: "stop", Log: "nginx", Path: b.logs + "/access.log", Destination: "central"}); len(asked) != 4 || asked[0] != want {
		t.Errorf("asked %+v", asked)
	}
	b.want("nothing was changed", "nginx access.log end")
}

func TestHistoryKeepsTheLastFifty(t *testing.T) {
	b := newBench(t)
	b.define("nginx.yaml", nginx)
	b.open()
	for i := range 40 {
		b.now = b.now.Add(time.Minute)
		b.must(b.node.Pause(t.Context(), alice(), control.PauseRequest{Log: "nginx", Reason: fmt.Sprint(i)}))
		b.must(b.node.Resume(t.Context(), alice(), control.ResumeRequest{Log: "nginx", Reason: fmt.Sprint(i)}))
	}
	b.open()
	h := b.row("nginx").History
	if len(h) != maxHistory || h[len(h)-1].Verb != "resume" || h[len(h)-1].Reason != "39" {
		t.Errorf("%d entries, the last %+v", len(h), h[len(h)-1])
	}
}

func TestRecordThatCannotBeReadCostsOnlyItself(t *testing.T) {
	b := newBench(t)
	b.define("nginx.yaml", nginx)
	b.define("syslog.yaml", syslog)
	b.open()
	b.must(b.node.Stop(t.Context(), alice(), control.StopRequest{Log: "syslog"}))
	for key, value := range map[string]string{"nginx": "{", "evil": `{"wish":{"log":"evil","path":"../../etc"}}`} {
		if err := b.store.Put(bucketOperators, key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.store.Put(bucketGlobs, "web", []byte(`{"files":[null]}`)); err != nil {
		t.Fatal(err)
	}
	b.open()
	b.want("with damage", "nginx access.log end")
	if p := b.problems(); !strings.Contains(p, "nginx") || !strings.Contains(p, "evil") || !strings.Contains(p, "web") {
		t.Errorf("problems: %s", p)
	}
}

func TestWishThatCannotBeKeptDoesNotCount(t *testing.T) {
	b := newBench(t)
	b.define("nginx.yaml", nginx)
	b.open()
	if err := b.store.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.node.Stop(t.Context(), alice(), control.StopRequest{Log: "nginx"}); !errors.Is(err, control.ErrInternal) || !strings.Contains(err.Error(), "nothing was changed") {
		t.Errorf("%v", err)
	}
	b.want("after that", "nginx access.log end")
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name, status, says string
		s                  forward.Status
		do                 func(*bench)
	}{
		{"all well", control.OK, "1 log,", forward.Status{State: "idle"}, nil},
		{"a little behind", control.OK, "30.0 s", forward.Status{State: "forwarding", LagSeconds: 30, LagBytes: 1 << 20}, nil},
		{"behind by time", control.Warning, "lag", forward.Status{State: "forwarding", LagSeconds: 61}, nil},
		{"behind by bytes", control.Warning, "1.0 GiB", forward.Status{State: "forwarding", LagBytes: 1 << 30}, nil},
		{"far behind", control.Critical, "lag", forward.Status{State: "forwarding", LagSeconds: 601}, nil},
		{"failed", control.Critical, "no such file", forward.Status{State: "failed", LastError: "no such file"}, nil},
		{"paused", control.Warning, "paused by choria=alice", forward.Status{State: "idle"}, func(b *bench) {
			b.must(b.node.Pause(b.t.Context(), alice(), control.PauseRequest{All: true}))
		}},
		{"stopped", control.OK, "1 log,", forward.Status{State: "idle"}, func(b *bench) {
			b.must(b.node.Stop(b.t.Context(), alice(), control.StopRequest{Log: "nginx"}))
		}},
		{"broken file", control.Warning, "x.yaml", forward.Status{State: "idle"}, func(b *bench) {
			b.define("x.yaml", "log")
			b.look()
		}},
		{"nothing", control.Unknown, "nothing", forward.Status{}, func(b *bench) {
			if err := os.Remove(filepath.Join(b.dir, "nginx.yaml")); err != nil {
				b.t.Fatal(err)
			}
			b.look()
		}},
		{"engine not running", control.Critical, "not running", forward.Status{State: "idle"}, func(b *bench) { b.node.setRunning(false) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			b.define("nginx.yaml", nginx)
			b.open()
			b.node.setRunning(true)
			b.wheel.stands("nginx", c.s)
			if c.do != nil {
				c.do(b)
			}
			r, err := b.node.Check(t.Context())
			if err != nil || r.Status != c.status || !strings.Contains(r.Text, c.says) {
				t.Errorf("%+v, %v; want %s with %q", r, err, c.status, c.says)
			}
		})
	}
}

// A new pause of all means all, whatever was excepted from an earlier one.
func TestPauseOfAllEndsExceptions(t *testing.T) {
	b := newBench(t)
	b.define("nginx.yaml", nginx)
	b.open()
	b.must(b.node.Pause(t.Context(), alice(), control.PauseRequest{All: true}))
	b.must(b.node.Resume(t.Context(), alice(), control.ResumeRequest{Log: "nginx"}))
	b.want("the exception", "nginx access.log end")
	if r := b.must(b.node.Pause(t.Context(), alice(), control.PauseRequest{All: true})); !r.Changed {
		t.Errorf("%+v", r)
	}
	b.want("paused again", "nginx access.log end paused")
	if r := b.must(b.node.Pause(t.Context(), alice(), control.PauseRequest{All: true})); r.Changed {
		t.Errorf("and again: %+v", r)
	}
}

// Who has waited for too long has been told so: what they asked for mustn't be done behind their back.
func TestChangeWhoseTimeIsOverIsNotDone(t *testing.T) {
	b := newBench(t)
	b.define("nginx.yaml", nginx)
	b.open()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r, err := b.node.Pause(ctx, alice(), control.PauseRequest{All: true}); !errors.Is(err, control.ErrTimeout) {
		t.Errorf("%+v, %v", r, err)
	}
	if s, err := b.node.Status(t.Context(), control.StatusRequest{}); err != nil || s.Pause != nil {
		t.Errorf("%+v, %v", s.Pause, err)
	}
}

// The times of all records are looked at each second: with thousands that costs next to nothing.
func TestLookingForWhatHasEndedCopiesNothing(t *testing.T) {
	b := newBench(t)
	b.open()
	for i := range 1000 {
		r := &record{Stop: &control.Override{Verb: control.VerbStop}, History: make([]control.Change, maxHistory)}
		b.node.operators.records[fmt.Sprint(i)] = r
	}
	if n := testing.AllocsPerRun(10, func() {
		if err := b.node.expire(b.node.config.Now()); err != nil {
			t.Fatal(err)
		}
	}); n > 10 {
		t.Errorf("%.0f allocations", n)
	}
}

// An engine that takes its time to say how ten thousand logs stand keeps nobody else waiting.
func TestStatusKeepsNobodyElseWaiting(t *testing.T) {
	b := newBench(t)
	b.define("nginx.yaml", nginx)
	b.open()
	b.wheel.hang = make(chan struct{})
	asked, listed := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := b.node.Status(t.Context(), control.StatusRequest{})
		asked <- err
	}()
	<-b.wheel.hang
	go func() {
		_, err := b.node.List(t.Context())
		listed <- err
	}()
	select {
	case err := <-listed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Error("list waits for status")
	}
	<-b.wheel.hang
	if err := <-asked; err != nil {
		t.Error(err)
	}
}
