package node

import (
	"fmt"
	"testing"
	"time"

	"logforward/internal/control"
)

// A daemon that dies in the middle of a change has done all of it or nothing. What it was asked then can be asked again: a
// wish, whose request counts as done once any of it is on disk, would otherwise be half done for ever.
func TestAChangeIsDoneWhollyOrNotAtAll(t *testing.T) {
	for _, c := range []struct {
		name          string
		before, after string
		prepare       func(*bench)
		do            func(*bench, control.Caller) (control.Reply, error)
	}{
		{"pause all", "[web.a.log a.log end web.b.log b.log end web.c.log c.log end paused]", "[web.a.log a.log end paused web.b.log b.log end paused web.c.log c.log end paused]",
			func(b *bench) {
				b.must(b.node.Pause(b.t.Context(), alice(), control.PauseRequest{All: true}))
				b.must(b.node.Resume(b.t.Context(), alice(), control.ResumeRequest{Log: "web.a.log"}))
				b.must(b.node.Resume(b.t.Context(), alice(), control.ResumeRequest{Log: "web.b.log"}))
			},
			func(b *bench, c control.Caller) (control.Reply, error) {
				return b.node.Pause(b.t.Context(), c, control.PauseRequest{All: true, For: hour})
			}},
		{"resume all", "[web.a.log a.log end paused web.b.log b.log end paused web.c.log c.log end paused]", "[web.a.log a.log end web.b.log b.log end web.c.log c.log end]",
			func(b *bench) {
				b.must(b.node.Pause(b.t.Context(), alice(), control.PauseRequest{Log: "web.a.log"}))
				b.must(b.node.Pause(b.t.Context(), alice(), control.PauseRequest{Log: "web.b.log"}))
				b.must(b.node.Pause(b.t.Context(), alice(), control.PauseRequest{All: true}))
			},
			func(b *bench, c control.Caller) (control.Reply, error) {
				return b.node.Resume(b.t.Context(), c, control.ResumeRequest{All: true})
			}},
		{"redirect a glob", "[web.a.log archive web.b.log archive web.c.log central]", "[web.a.log staging web.b.log staging web.c.log staging]",
			func(b *bench) {
				b.must(b.node.Redirect(b.t.Context(), alice(), control.RedirectRequest{Log: "web.a.log", Destination: "archive"}))
				b.must(b.node.Redirect(b.t.Context(), alice(), control.RedirectRequest{Log: "web.b.log", Destination: "archive"}))
			},
			func(b *bench, c control.Caller) (control.Reply, error) {
				return b.node.Redirect(b.t.Context(), c, control.RedirectRequest{Log: "web", Destination: "staging"})
			}},
	} {
		for at := 1; at <= 3; at++ { // dies when it is about to write for the at-th time, or to note the at-th thing that it writes
			t.Run(fmt.Sprint(c.name, " ", at), func(t *testing.T) {
				b := newBench(t)
				b.dest = append(b.dest, "staging")
				b.file("web/a.log")
				b.file("web/b.log")
				b.file("web/c.log")
				b.define("web.yaml", web)
				b.open()
				c.prepare(b)
				is := func() string {
					if c.name != "redirect a glob" {
						return fmt.Sprint(b.wheel.has())
					}
					var all []string
					for _, l := range b.wheel.logs {
						all = append(all, l.Name+" "+l.Destination)
					}
					return fmt.Sprint(all)
				}
				if got := is(); got != c.before {
					t.Fatalf("it is %s; want %s", got, c.before)
				}
				n := 0
				b.node.operators.now = func() time.Time {
					if n++; n == at {
						if err := b.store.Close(); err != nil {
							t.Error(err)
						}
					}
					return b.now
				}
				caller := alice()
				caller.Route = control.RouteWish
				_, err := c.do(b, caller)
				b.open()
				want := c.after
				if err != nil {
					want = c.before
				}
				if got := is(); got != want {
					t.Errorf("%v, and after the restart it is %s; want %s", err, got, want)
				}
				if _, again := c.do(b, caller); (again == nil) == (err == nil) {
					t.Errorf("it was %v, and then %v", err, again)
				}
				if got := is(); got != c.after {
					t.Errorf("in the end it is %s; want %s", got, c.after)
				}
			})
		}
	}
}
