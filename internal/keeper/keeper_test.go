package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"logforward/internal/control"
)

func TestADaemonThatWorksIsLeftAlone(t *testing.T) {
	s := newSite(t, "quiet")
	if o := s.ensure(nil); o.State != Idle || o.Action != "started" || o.Attempts != 1 {
		t.Fatalf("%+v", o)
	}
	first := s.pid()
	for range 3 {
		s.later(5 * time.Second)
		if o := s.ensure(nil); o.State != Idle || o.Action != "" || o.PID != first {
			t.Errorf("%+v, want the daemon %d left alone", o, first)
		}
	}
	s.later(time.Minute)
	if o := s.ensure(nil); o.Attempts != 0 {
		t.Errorf("%+v: a daemon that stays is no attempt any more", o)
	}
	if sid, err := unix.Getsid(first); err != nil || sid == unix.Getpid() {
		t.Errorf("session %d (%v), want one of its own", sid, err)
	}
	if own, err := unix.Getsid(0); err != nil {
		t.Error(err)
	} else if sid, _ := unix.Getsid(first); sid == own {
		t.Error("the daemon is in this process's session")
	}
}

func TestRunsAtOnceStartOneDaemon(t *testing.T) {
	s := newSite(t, "quiet")
	results := make(chan error, 4)
	for range cap(results) {
		go func() {
			_, err := New(s.c).Ensure(t.Context(), nil)
			results <- err
		}()
	}
	for range cap(results) {
		if err := <-results; err != nil && !errors.Is(err, ErrBusy) {
			t.Error(err)
		}
	}
	b, err := os.ReadFile(filepath.Join(s.c.Dir, daemonLog))
	if err != nil || len(b) != 0 {
		t.Errorf("a daemon that ended says %q (%v)", b, err)
	}
	if s.pid() == 0 {
		t.Error("no daemon runs")
	}
}

func TestASilentDaemonIsReplacedAfterSeveralLooks(t *testing.T) {
	for _, c := range []struct{ name, how string }{{"stopped", "quiet"}, {"socket deleted", "quiet"}, {"stubborn", "stubborn"}} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, c.how)
			s.c.Grace = time.Millisecond
			s.ensure(nil)
			first := s.pid()
			if c.name == "stopped" {
				if err := syscall.Kill(first, syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
				if !until(t.Context(), func() bool { state, _, _, err := stat(first); return err == nil && state == 'T' }) {
					t.Fatal("the daemon doesn't stop")
				}
			} else if err := os.Remove(s.c.Socket); err != nil {
				t.Fatal(err)
			}
			for look := 1; look < 3; look++ {
				s.later(5 * time.Second)
				o := s.ensure(nil)
				if o.State != Degraded || !strings.Contains(o.Reason, fmt.Sprintf("look %d of 3", look)) || s.pid() != first {
					t.Fatalf("look %d: %+v, pid %d", look, o, s.pid())
				}
			}
			s.later(5 * time.Second)
			o := s.ensure(nil)
			if o.State != Degraded || o.Action != "replaced" || o.PID == first || !strings.Contains(o.Reason, "looks in a row, and was replaced") {
				t.Errorf("%+v, want another than %d, and why", o, first)
			}
			s.later(time.Minute)
			if o = s.ensure(nil); o.State != Idle || o.Reason != "" {
				t.Errorf("%+v: it stays by now", o)
			}
			how := map[string]string{"stopped": "status 143", "socket deleted": "status 143", "stubborn": "status 137"}[c.name] // SIGTERM, or SIGKILL
			var words []byte
			var err error
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if !until(ctx, func() bool { // its waiter says so a moment after its end
				words, err = os.ReadFile(filepath.Join(s.c.Dir, daemonLog))
				return strings.Contains(string(words), how)
			}) {
				t.Errorf("the daemon ended so: %s (%v), want %s", words, err, how)
			}
		})
	}
}

// A daemon that died and is back is told of until it has stayed, or an operator has seen it; one that was asked to end isn't.
func TestADaemonThatDiedIsToldOf(t *testing.T) {
	s := newSite(t, "quiet")
	s.ensure(nil)
	if err := os.WriteFile(filepath.Join(s.c.Dir, daemonLog), []byte(strings.Repeat("it said much. ", 200)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.end()
	for range 2 {
		if o := s.ensure(nil); o.State != Degraded || !strings.Contains(o.Reason, "ended, and was started again: ") || !strings.Contains(o.Reason, "status 137") {
			t.Errorf("%+v, want it to tell of the daemon that was killed", o)
		}
		s.later(20 * time.Second)
	}
	s.later(time.Minute)
	if o := s.ensure(nil); o.State != Idle || o.Reason != "" {
		t.Errorf("%+v: it stays by now", o)
	}
	s.end()
	if o := s.ensure(nil); o.State != Degraded {
		t.Errorf("%+v", o)
	}
	if o := s.ensure(&Order{Verb: OrderRetry}); o.State != Idle {
		t.Errorf("%+v: somebody has seen it", o)
	}
	if o := s.ensure(&Order{Verb: OrderRestart}); o.State != Idle || o.Action != "started" {
		t.Errorf("%+v: that was wanted", o)
	}
}

// A daemon that somebody else has ended in order is started again without a word.
func TestADaemonThatEndedInOrderIsNotToldOf(t *testing.T) {
	s := newSite(t, "obedient")
	s.ensure(nil)
	p, err := holder(filepath.Join(s.dir, lockName))
	if err != nil || p == nil {
		t.Fatalf("no daemon (%v)", err)
	}
	if err := p.signal(syscall.SIGTERM); err != nil || !p.gone(t.Context(), time.Minute) {
		t.Fatalf("the daemon doesn't end (%v)", err)
	}
	log := filepath.Join(s.c.Dir, daemonLog)
	if !until(t.Context(), func() bool { b, _ := os.ReadFile(log); return strings.Contains(string(b), "status 0") }) {
		t.Fatal("nobody says how it ended")
	}
	if o := s.ensure(nil); o.State != Idle || o.Action != "started" || o.Reason != "" {
		t.Errorf("%+v", o)
	}
}

// A daemon that works hard and doesn't come to answering is waited for longer.
func TestABusyDaemonIsWaitedFor(t *testing.T) {
	p := &process{pid: os.Getpid()}
	_, start, used, err := stat(p.pid)
	if err != nil {
		t.Fatal(err)
	}
	p.start = start
	now := time.Now()
	s := silence{PID: p.pid, Start: start, Count: 1, Used: used - ticks, At: now.Add(-5 * time.Second)}
	if got := s.look(p, now); !got.Busy || got.Count != 2 {
		t.Errorf("%+v: a second of processor time in five is work", got)
	}
	idle := silence{PID: p.pid, Start: start, Count: 1, Used: used, At: now.Add(-time.Hour)}
	if got := idle.look(p, now); got.Busy {
		t.Errorf("%+v: next to nothing in an hour isn't", got)
	}
	other := silence{PID: p.pid, Start: start + 1, Count: 2, At: now}
	if got := other.look(p, now); got.Count != 1 {
		t.Errorf("%+v: another process is looked at for the first time", got)
	}
}

func TestACrashLoopBacksOffAndEnds(t *testing.T) {
	s := newSite(t, "crash")
	s.c.Again = time.Hour
	began := s.now
	var starts []time.Duration
	var o Observation
	for o.State != Failed {
		if o = s.ensure(nil); o.Action == "tried" {
			starts = append(starts, s.now.Sub(began))
		}
		if s.later(time.Second); s.now.Sub(began) > 5*time.Minute {
			t.Fatalf("it never ends: %+v", o)
		}
	}
	want := []time.Duration{0, 1 * time.Second, 6 * time.Second, 16 * time.Second, 36 * time.Second}
	if fmt.Sprint(starts) != fmt.Sprint(want) {
		t.Errorf("starts at %v, want %v", starts, want)
	}
	for _, text := range []string{"5 starts in a row", "status 78", "destination"} {
		if !strings.Contains(o.Reason, text) {
			t.Errorf("reason %q, want %q in it", o.Reason, text)
		}
	}
	if strings.ContainsAny(o.Reason, "\x1b\x07\n") {
		t.Errorf("reason %q can play with a terminal", o.Reason)
	}
	if why := Why(s.c.Dir); why != o.Reason {
		t.Errorf("Why tells %q", why)
	}
	s.later(time.Minute)
	if o = s.ensure(nil); o.State != Failed || o.Action != "" {
		t.Errorf("%+v: nothing has changed", o)
	}
	for what, change := range map[string]func() Observation{
		"definition": func() Observation {
			if err := os.MkdirAll(s.dir+"/defs", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(s.dir+"/defs/a.yaml", []byte(strconv.Itoa(s.now.Nanosecond())), 0o600); err != nil {
				t.Fatal(err)
			}
			return s.ensure(nil)
		},
		"order": func() Observation { return s.ensure(&Order{Verb: OrderRetry}) },
		"time":  func() Observation { s.later(time.Hour); return s.ensure(nil) },
	} {
		if o = change(); o.Action != "tried" || o.Attempts != 1 {
			t.Errorf("%s: %+v, want a first attempt", what, o)
		}
		for o.State != Failed {
			s.later(10 * time.Second)
			o = s.ensure(nil)
		}
	}
	t.Setenv(beDaemon, "quiet")
	if o = s.ensure(&Order{Verb: OrderRetry}); o.State != Idle {
		t.Errorf("%+v, want it to run now", o)
	}
}

// A clock that is set back makes nobody wait for a year.
func TestAClockThatIsSetBack(t *testing.T) {
	s := newSite(t, "crash")
	for range 3 {
		s.ensure(nil)
		s.later(10 * time.Second)
	}
	s.later(-365 * 24 * time.Hour)
	if o := s.ensure(nil); o.Action != "tried" {
		t.Errorf("%+v, want another attempt", o)
	}
}

func TestAReplacedProgramIsRestartedOnto(t *testing.T) {
	s := newSite(t, "quiet")
	s.c.Program = s.dir + "/program"
	replace := func(with string) {
		t.Helper()
		if out, err := exec.Command("cp", with, s.c.Program+".new").CombinedOutput(); err != nil {
			t.Fatalf("%s", out)
		}
		if err := os.Rename(s.c.Program+".new", s.c.Program); err != nil {
			t.Fatal(err)
		}
	}
	replace(os.Args[0])
	s.ensure(nil)
	first := s.pid()
	replace("/bin/false")
	o := s.ensure(nil)
	if o.State != Degraded || o.PID != first || !strings.Contains(o.Reason, "can't be run") {
		t.Errorf("%+v: a program that can't be run replaces nothing", o)
	}
	replace(os.Args[0])
	if o = s.ensure(nil); o.Action != "replaced" || o.PID == first {
		t.Errorf("%+v, want another than %d", o, first)
	}
	if err := os.Remove(s.c.Program); err != nil {
		t.Fatal(err)
	}
	if now := s.ensure(nil); now.State != Idle || now.PID != o.PID {
		t.Errorf("%+v: one that is gone replaces nothing", now)
	}
}

// What was remembered and can't be read is forgotten; the log of the daemon doesn't grow without end.
func TestBrokenRecordAndLargeLog(t *testing.T) {
	s := newSite(t, "quiet")
	if err := errors.Join(os.Mkdir(s.c.Dir, 0o700), os.WriteFile(filepath.Join(s.c.Dir, recordFile), []byte(`{"attempts": "many"`), 0o600)); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(s.c.Dir, daemonLog)
	if err := os.WriteFile(log, []byte(strings.Repeat("x", maxLog+10)), 0o600); err != nil {
		t.Fatal(err)
	}
	if o := s.ensure(nil); o.State != Idle {
		t.Errorf("%+v", o)
	}
	now, err := os.Stat(log)
	if err != nil || now.Size() > 4096 {
		t.Errorf("the log has %d bytes (%v)", now.Size(), err)
	}
	if old, err := os.Stat(log + ".1"); err != nil || old.Size() != maxLog/2 {
		t.Errorf("what was kept of it: %v (%v)", old, err)
	}
}

func TestJudge(t *testing.T) {
	log := func(name, state string) control.LogStatus { return control.LogStatus{Log: name, State: state} }
	problem := func(where, text string) control.Problem { return control.Problem{Where: where, Problem: text} }
	until := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		name          string
		status        control.StatusReply
		check         control.CheckReply
		state, reason string
	}{
		{"nothing", control.StatusReply{}, control.CheckReply{Status: control.Unknown}, Idle, ""},
		{"all stopped", control.StatusReply{Logs: []control.LogStatus{log("a", "stopped")}}, control.CheckReply{Status: control.OK}, Idle, ""},
		{"forwarding", control.StatusReply{Logs: []control.LogStatus{log("a", "idle"), log("b", "forwarding")}}, control.CheckReply{Status: control.OK}, Forwarding, ""},
		{"one paused, which lags", control.StatusReply{Logs: []control.LogStatus{log("a", "paused"), log("b", "idle")}},
			control.CheckReply{Status: control.Critical, Problems: []control.Problem{problem("a", "paused by x"), problem("a", "lag 1 GiB, 700 s")}}, Forwarding, "1 of 2 logs are paused"},
		{"one paused, another wrong", control.StatusReply{Logs: []control.LogStatus{log("a", "paused"), log("b", "failed")}},
			control.CheckReply{Status: control.Critical, Problems: []control.Problem{problem("a", "paused by x"), problem("b", "no such file")}}, Degraded, "b: no such file"},
		{"all paused by an operator", control.StatusReply{Logs: []control.LogStatus{log("a", "paused")}, Pause: &control.Override{Verb: "pause", By: "up=ann", Until: until, Reason: "upgrade"}},
			control.CheckReply{Status: control.Warning, Problems: []control.Problem{problem("a", "paused by up=ann")}}, Paused, "paused by up=ann until 2030-01-02T03:04:05Z: upgrade"},
		{"by the fleet", control.StatusReply{Logs: []control.LogStatus{log("a", "paused")}}, control.CheckReply{Status: control.Warning, Problems: []control.Problem{problem("a", "paused by the fleet")}}, Paused, "paused by the fleet"},
		{"nothing there, and paused", control.StatusReply{Pause: &control.Override{Verb: "pause", By: "x"}}, control.CheckReply{Status: control.Unknown}, Paused, "paused by x"},
		{"a definition at fault", control.StatusReply{Logs: []control.LogStatus{log("a", "idle")}, Problems: []control.Problem{problem("/d/b.yaml", "broken")}},
			control.CheckReply{Status: control.Warning, Problems: []control.Problem{problem("/d/b.yaml", "broken"), problem("x", "y")}}, Degraded, "/d/b.yaml: broken (and 1 more)"},
		{"the engine has ended", control.StatusReply{}, control.CheckReply{Status: control.Critical, Text: "forwarding is not running"}, Degraded, "forwarding is not running"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if state, reason := judge(c.status, c.check); state != c.state || reason != c.reason {
				t.Errorf("%s, %q; want %s, %q", state, reason, c.state, c.reason)
			}
		})
	}
}

func TestDataIsTextsAlone(t *testing.T) {
	b, err := json.Marshal(Observation{State: Failed, Reason: "x", PID: 7, Time: time.Unix(0, 0).UTC()}.Data())
	if err != nil {
		t.Fatal(err)
	}
	if into := map[string]string{}; json.Unmarshal(b, &into) != nil || into["pid"] != "7" || into["observed"] != "1970-01-01T00:00:00Z" {
		t.Errorf("%s", b)
	}
}
