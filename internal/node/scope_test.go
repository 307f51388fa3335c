package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"logforward/internal/control"
	"logforward/internal/tail"
)

// below permits paths below a directory, and remembers what it was asked.
func below(dir string, asked *[]control.Request) func(context.Context, control.Caller, control.Request) error {
	return func(_ context.Context, c control.Caller, r control.Request) error {
		*asked = append(*asked, r)
		for _, path := range []string{r.Path, r.Real} {
			if path != "" && !strings.HasPrefix(path, dir+"/") {
				return errors.New(path + " is not permitted for " + c.Name)
			}
		}
		return nil
	}
}

// Policy is asked about the path and about where it leads: a link in a permitted directory opens no other.
func TestPolicyDecidesWhereAPathLeads(t *testing.T) {
	b := newBench(t)
	var asked []control.Request
	b.auth = below(b.logs+"/app", &asked)
	secret := b.file("secret/shadow.log")
	b.file("app/app.log")
	for link, target := range map[string]string{"app/link.log": secret, "app/dir": b.logs + "/secret", "app/dangling.log": b.logs + "/secret/later.log", "app/fine.log": b.logs + "/app/app.log", "way": b.logs + "/app"} {
		if err := os.Symlink(target, filepath.Join(b.logs, link)); err != nil {
			t.Fatal(err)
		}
	}
	b.open()
	for path, ok := range map[string]bool{
		"app/app.log": true, "app/fine.log": true, "app/later.log": true, "app/*.log": true,
		"app/link.log": false, "app/dir/shadow.log": false, "app/dir/none.log": false, "app/dir/*.log": false, "app/dangling.log": false,
		"secret/shadow.log": false, "way/app.log": false, "app/../secret/shadow.log": false,
	} {
		_, err := b.node.Start(t.Context(), alice(), control.StartRequest{Log: strings.NewReplacer("/", "-", "*", "x").Replace(path), Path: b.logs + "/" + path, Destination: "central"})
		if (err == nil) != ok {
			t.Errorf("%s: %v, want permitted %t", path, err, ok)
		}
	}
}

// What a path leads to later is decided on when it is opened, by the real path and for who started it.
func TestAFileThatComesLaterIsDecidedOn(t *testing.T) {
	b := newBench(t)
	var asked []control.Request
	var callers []control.Caller
	b.files = func(ctx context.Context, c control.Caller, r control.Request) error {
		callers = append(callers, c)
		return below(b.logs+"/app", &asked)(ctx, c, r)
	}
	b.file("app/day1")
	link := filepath.Join(b.logs, "app/current.log")
	if err := os.Symlink(b.logs+"/app/day1", link); err != nil {
		t.Fatal(err)
	}
	b.define("nginx.yaml", nginx)
	b.open()
	starter := alice()
	b.must(b.node.Start(t.Context(), starter, control.StartRequest{Log: "app", Path: link, Destination: "archive", For: hour, Reason: "case 7"}))
	b.must(b.node.Start(t.Context(), alice(), control.StartRequest{Log: "web", Path: b.logs + "/app/*.txt", Destination: "archive"}))
	for _, c := range []struct {
		log, real string
		ok        bool
		asked     int // questions so far
	}{
		{"app", "app/day1", true, 0}, {"app", "app/day1.1", true, 0}, {"app", "app/day1-20260102.gz", true, 0}, {"app", "app/current.log.1", true, 0},
		{"app", "app/day2", true, 1}, {"app", "app/day2", true, 1}, {"app", "app/day2.1", true, 1},
		{"app", "secret/shadow", false, 2}, {"app", "secret/shadow", false, 2},
		{"app", "secret/day1", false, 3},
		{"nginx", "secret/shadow", true, 3}, // configuration management's
		{"nobody", "secret/shadow", false, 3},
	} {
		err := b.node.Permit(c.log, b.logs+"/"+c.real)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, tail.ErrNotPermitted) {
			t.Errorf("%s %s: %v, want permitted %t", c.log, c.real, err, c.ok)
		}
		if len(asked) != c.asked {
			t.Errorf("%s %s: %d questions, want %d", c.log, c.real, len(asked), c.asked)
		}
	}
	if r := asked[0]; r.Verb != control.VerbStart || r.Log != "app" || r.Path != b.logs+"/app/day2" || r.Destination != "archive" || r.For != time.Hour || r.Reason != "case 7" ||
		callers[0].Name != starter.Name || callers[0].Collective != starter.Collective || callers[0].TTL != starter.TTL {
		t.Errorf("asked %+v for %+v", asked[0], callers[0])
	}
	b.now = b.now.Add(askAgain)
	if err := b.node.Permit("app", b.logs+"/secret/shadow"); err == nil || len(asked) != 4 {
		t.Errorf("a refusal is for ever: %v, %d questions", err, len(asked))
	}
	// What was permitted stays so, whatever policy says after a restart.
	b.look()
	b.files = func(context.Context, control.Caller, control.Request) error { return errors.New("there is no policy") }
	b.open()
	for _, real := range []string{"app/day1", "app/day2"} {
		if err := b.node.Permit("app", b.logs+"/"+real); err != nil {
			t.Errorf("%s after a restart: %v", real, err)
		}
	}
	if err := b.node.Permit("app", b.logs+"/app/day3"); err == nil {
		t.Error("a new file without a policy")
	}
}

// The directory of a glob may be a link: its files are where that leads.
func TestAGlobBehindALinkedDirectory(t *testing.T) {
	b := newBench(t)
	b.file("data/web/a.log")
	if err := os.Symlink(b.logs+"/data", b.logs+"/srv"); err != nil {
		t.Fatal(err)
	}
	var asked []control.Request
	b.auth = below(b.logs, &asked)
	b.files = below(b.logs+"/data/web", &asked)
	b.open()
	b.must(b.node.Start(t.Context(), alice(), control.StartRequest{Log: "web", Path: b.logs + "/srv/web/*.log", Destination: "archive"}))
	if asked[0].Real != b.logs+"/data/web/*.log" {
		t.Errorf("%+v", asked[0])
	}
	if got := b.wheel.has(); !slices.Equal(got, []string{"web.a.log a.log end"}) {
		t.Fatalf("%q", got)
	}
	for real, ok := range map[string]bool{"data/web/a.log": true, "data/web/a.log.1": true, "data/a.log": false, "data/other/a.log": false} {
		if err := b.node.Permit("web.a.log", b.logs+"/"+real); (err == nil) != ok {
			t.Errorf("%s: %v", real, err)
		}
	}
}

// A log that is stopped, and whose engine still lets go of it, opens nothing more.
func TestALogThatIsStoppedOpensNothing(t *testing.T) {
	b := newBench(t)
	secret := b.file("secret/shadow")
	b.define("nginx.yaml", nginx)
	b.open()
	b.must(b.node.Start(t.Context(), alice(), control.StartRequest{Log: "app", Path: b.logs + "/app.log", Destination: "archive"}))
	b.must(b.node.Stop(t.Context(), alice(), control.StopRequest{Log: "app"}))
	if err := b.node.Permit("app", secret); !errors.Is(err, tail.ErrNotPermitted) {
		t.Errorf("%v", err)
	}
	if err := b.node.Permit("nginx", b.logs+"/access.log"); err != nil {
		t.Error(err)
	}
}

// A file that policy permits to one who has stopped their log meanwhile isn't permitted to the next who starts one of that name.
func TestAFileIsPermittedToWhoStartedTheLog(t *testing.T) {
	b := newBench(t)
	b.file("a.log")
	asked, answer := make(chan string), make(chan error)
	b.files = func(_ context.Context, c control.Caller, _ control.Request) error {
		asked <- c.Name
		return <-answer
	}
	b.open()
	ctx := t.Context()
	bob := func() control.Caller {
		c := alice()
		c.Name = "choria=bob.mcollective"
		return c
	}
	start := control.StartRequest{Log: "app", Path: b.logs + "/*.log", Destination: "archive"}
	permit := func(err error) (who string, got error) {
		done := make(chan error)
		go func() { done <- b.node.Permit("app.a.log", b.logs+"/a.log") }()
		select {
		case who = <-asked:
			b.must(b.node.Stop(ctx, alice(), control.StopRequest{Log: "app"}))
			b.must(b.node.Start(ctx, bob(), start))
			answer <- err
			return who, <-done
		case got = <-done:
			return "", got
		}
	}
	b.must(b.node.Start(ctx, alice(), start))
	if who, _ := permit(nil); who != alice().Name {
		t.Fatalf("%q was asked about", who)
	}
	b.look()
	b.open()
	if who, err := permit(errors.New("not bob's")); who != bob().Name || err == nil {
		t.Errorf("%q was asked about: %v", who, err)
	}
}
