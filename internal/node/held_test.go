package node

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"logforward/internal/control"
)

// limited permits what holds for no more than so long in all.
func limited(most time.Duration) func(context.Context, control.Caller, control.Request) error {
	return func(_ context.Context, _ control.Caller, r control.Request) error {
		if r.Verb != control.VerbResume && (r.For <= 0 || max(r.For, r.Total) > most) {
			return errors.New("too long")
		}
		return nil
	}
}

// Whichever way somebody asks again, the limit is that of one request.
func TestNobodyExtendsTheirOwnTime(t *testing.T) {
	bob := func() control.Caller { c := alice(); c.Name = "choria=bob.mcollective"; return c }
	type step struct {
		after time.Duration
		do    func(*bench) error
		ok    bool
	}
	pause := func(log string, hours float64) func(*bench) error {
		return func(b *bench) error {
			_, err := b.node.Pause(b.t.Context(), alice(), control.PauseRequest{Log: log, All: log == "", For: control.Duration(hours * float64(time.Hour))})
			return err
		}
	}
	stop := func(log string, hours float64) func(*bench) error {
		return func(b *bench) error {
			_, err := b.node.Stop(b.t.Context(), alice(), control.StopRequest{Log: log, For: control.Duration(hours * float64(time.Hour))})
			return err
		}
	}
	resume := func(log string) func(*bench) error {
		return func(b *bench) error {
			_, err := b.node.Resume(b.t.Context(), alice(), control.ResumeRequest{Log: log, All: log == ""})
			return err
		}
	}
	start := func(log, file string, hours float64) func(*bench) error {
		return func(b *bench) error {
			_, err := b.node.Start(b.t.Context(), alice(), control.StartRequest{Log: log, Path: b.logs + "/" + file, Destination: "central", For: control.Duration(hours * float64(time.Hour))})
			return err
		}
	}
	other := func(b *bench) error {
		_, err := b.node.Pause(b.t.Context(), bob(), control.PauseRequest{Log: "nginx", For: 4 * hour})
		return err
	}
	restart := func(b *bench) error { b.open(); return nil }
	const h = time.Hour
	for name, steps := range map[string][]step{
		"once":                         {{0, pause("nginx", 4), true}},
		"too long":                     {{0, pause("nginx", 4.01), false}},
		"again before its end":         {{0, pause("nginx", 4), true}, {3 * h, pause("nginx", 4), false}, {0, pause("nginx", 1), true}, {h / 2, pause("nginx", 1), false}},
		"right after its end":          {{0, pause("nginx", 4), true}, {4 * h, pause("nginx", 1), false}},
		"after a resume":               {{0, pause("nginx", 4), true}, {3 * h, resume("nginx"), true}, {h / 2, pause("nginx", 2), false}, {0, pause("nginx", 1), true}},
		"free for as long":             {{0, pause("nginx", 4), true}, {8 * h, pause("nginx", 4), true}},
		"a moment and then long":       {{0, pause("nginx", 1), true}, {h / 2, resume("nginx"), true}, {h / 2, pause("nginx", 4), true}},
		"in small pieces":              {{0, pause("nginx", 1), true}, {h, pause("nginx", 1), true}, {h, pause("nginx", 1), true}, {h, pause("nginx", 1), true}, {h, pause("nginx", 1), false}},
		"stop, then pause":             {{0, stop("nginx", 4), true}, {4 * h, pause("nginx", 2), false}},
		"both at once":                 {{0, stop("nginx", 4), true}, {0, pause("nginx", 0.1), true}, {4 * h, stop("nginx", 1), false}},
		"all, then one":                {{0, pause("", 4), true}, {4 * h, pause("nginx", 1), false}},
		"one, then all":                {{0, pause("nginx", 4), true}, {4 * h, pause("", 1), false}, {0, pause("syslog", 1), true}},
		"a glob, then one of it":       {{0, pause("web", 4), true}, {4 * h, pause("web.a.log", 1), false}},
		"one of a glob, then the glob": {{0, pause("web.a.log", 4), true}, {4 * h, pause("web", 1), false}},
		"over a restart":               {{0, pause("nginx", 4), true}, {3 * h, restart, true}, {0, pause("nginx", 4), false}, {h, restart, true}, {0, pause("nginx", 1), false}},
		"another's in between":         {{0, pause("nginx", 4), true}, {3 * h, other, true}, {0, pause("nginx", 2), false}},
		"another has a time of his":    {{0, pause("nginx", 4), true}, {4 * h, other, true}},
		"a start again":                {{0, start("app", "app.log", 4), true}, {3 * h, start("app", "app.log", 4), false}},
		"a start under another name":   {{0, start("app", "app.log", 4), true}, {3 * h, start("new", "app.log", 4), false}, {0, start("new", "new.log", 4), true}},
		"a start by a link":            {{0, start("app", "app.log", 4), true}, {3 * h, start("new", "link.log", 4), false}},
		"a start without that link":    {{0, start("app", "link.log", 4), true}, {3 * h, start("new", "app.log", 4), false}},
		"a start by a glob":            {{0, start("app", "app.log", 4), true}, {4 * h, start("new", "a*.log", 1), false}, {0, start("new", "a*.txt", 4), true}},
		"a start by another glob":      {{0, start("app", "a*.log", 4), true}, {4 * h, start("new", "ap[p].log", 1), false}, {0, start("new", "{x,app}.log", 1), false}, {0, start("new", "**/*pp.log", 1), false}, {0, start("new", "b*.log", 4), true}},
		"a start without that glob":    {{0, start("app", "ap[p].lo[g]", 4), true}, {4 * h, start("new", "app.log", 1), false}, {0, start("new", "web/a.log", 4), true}},
		"a start after its end":        {{0, start("app", "app.log", 4), true}, {4 * h, start("app", "app.log", 1), false}, {4 * h, start("app", "app.log", 4), true}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.auth = limited(4 * h)
			b.file("web/a.log")
			b.file("app.log")
			if err := os.Symlink(b.logs+"/app.log", b.logs+"/link.log"); err != nil {
				t.Fatal(err)
			}
			b.define("nginx.yaml", nginx)
			b.define("syslog.yaml", syslog)
			b.define("web.yaml", "log: web\npath: LOGS/web/*.log\ndestination: central\n")
			b.open()
			for i, s := range steps {
				b.now = b.now.Add(s.after)
				b.look()
				if err := s.do(b); (err == nil) != s.ok {
					t.Fatalf("step %d: %v, want permitted %t", i+1, err, s.ok)
				}
			}
		})
	}
}

// What is remembered has a bound, and what a caller could gain by filling it hasn't.
func TestHeldTimesAreBounded(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	h := &held{known: map[string][]span{}, dirty: map[string]bool{}}
	h.begin("long", now.Add(-3*time.Hour), now.Add(time.Hour))
	for range 1000 { // pauses and resumes in turns
		h.begin("often", now, now.Add(time.Hour))
		now = now.Add(time.Minute)
		h.end("often", now)
		now = now.Add(time.Second)
	}
	if n := len(h.known["often"]); n > maxSpans {
		t.Errorf("%d spans", n)
	}
	if got := heldFor(h.known["often"], now); got < 1000*time.Minute {
		t.Errorf("%s are left of 1000 minutes", got)
	}
	now = now.Add(-1000 * time.Minute) // the clock was set back
	if got := heldFor(h.known["often"], now); got < 0 {
		t.Errorf("%s", got)
	}
	now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i := range maxHeld + 10 {
		h.begin(heldKey(control.VerbPause, "log", string(rune('0'+i))), now, now.Add(time.Second))
	}
	if n := len(h.known); n > maxHeld {
		t.Errorf("%d callers", n)
	}
	if heldFor(h.known["long"], now) < 3*time.Hour {
		t.Error("the longest was forgotten")
	}
}

// A glob that leads to a file by a link finds what the file's own time is.
func TestNobodyExtendsTheirOwnTimeByALink(t *testing.T) {
	b := newBench(t)
	b.auth, b.files = limited(4*time.Hour), limited(4*time.Hour)
	real := b.file("day1/app.log")
	b.file("web/other.log")
	for _, link := range []string{"current", "latest"} {
		if err := os.Symlink(real, b.logs+"/web/"+link+".log"); err != nil {
			t.Fatal(err)
		}
	}
	b.open()
	permit := func(log string) error {
		t.Helper()
		has := b.wheel.has()
		i := slices.IndexFunc(has, func(s string) bool { return strings.HasPrefix(s, log+".") })
		if i < 0 {
			t.Fatalf("%s isn't in %q", log, has)
		}
		name, _, _ := strings.Cut(has[i], " ")
		return b.node.Permit(name, real)
	}
	start := func(log, path string, hours control.Duration) (control.Reply, error) {
		return b.node.Start(t.Context(), alice(), control.StartRequest{Log: log, Path: b.logs + "/" + path, Destination: "central", For: hours * hour})
	}
	b.must(start("one", "w*/cur*.log", 4))
	if err := permit("one"); err != nil {
		t.Fatal(err)
	}
	b.look() // writes down what was found
	b.now = b.now.Add(4 * time.Hour)
	b.look()
	if _, err := start("two", "day1/app.log", 1); err == nil {
		t.Error("the file that the glob led to is started once more by its name")
	}
	b.must(start("three", "w*/late*.log", 4))
	if err := permit("three"); err == nil {
		t.Error("the file that the glob led to is opened once more by another glob")
	}
	b.open()
	if err := permit("three"); err == nil {
		t.Error("and it is after a restart")
	}
}
