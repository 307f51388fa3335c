package fleet

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"logforward/internal/control"
	"logforward/test/fleet/site"
)

// Quiet hours of twenty seconds, at the next minute: they begin, and end by themselves, and nothing is lost.
func TestMachineQuietHours(t *testing.T) {
	generations(t, quietHours)
}

func quietHours(t *testing.T, choria string) {
	s := supervise(t, site.Tokens, 1, choria, quick)
	n := s.nodes[0]
	s.define(n, "app")
	s.must(n.InstallMachine(filepath.Join(programs.Machines, "logforward_quiet"), func(text string) string {
		return strings.NewReplacer("duration: 8h", "duration: 20s", "--for 8h", "--for 20s", "0 22 * * *", "* * * * *").Replace(text)
	}))
	w := s.write("app")
	s.up()
	first := s.daemon(n)
	mark := s.events.count(n, "logforward")
	s.events.reach(n, "logforward_quiet", 0, "quiet")
	for _, state := range s.events.reach(n, "logforward", mark, "paused") {
		if state != "paused" && state != "forwarding" { // the hours may have begun right before the mark; then these are the next ones
			t.Errorf("the machine went %s", state)
		}
	}
	s.reason(n, "paused by local=root until", "quiet hours")
	// In the middle of them Choria Server goes away: the pause ends all the same.
	s.must(n.Server.Stop())
	had, err := s.receiver.Received(n, "app")
	s.must(err)
	s.must(s.receiver.WaitLonger(s.ctx, n, "app", len(had)))
	s.must(n.StartServer(s.ctx))
	w.finish("app")
	if s.daemon(n) != first {
		t.Error("the daemon was replaced")
	}
}

// A node that may read the button obeys it though no receiver is left; one that may not is left in peace otherwise.
func TestMachineButton(t *testing.T) {
	generations(t, obeysTheButton)
}

func obeysTheButton(t *testing.T, choria string) {
	edit := strings.NewReplacer("interval: 30s", "interval: 1s", "interval: 1m", "interval: 1s", "--for 3m", "--for 10s")
	for _, security := range []site.Security{site.Certificates, site.Tokens} {
		t.Run(security.String(), func(t *testing.T) {
			t.Parallel()
			s := supervise(t, security, 2, choria, quick)
			s.each(func(n *site.Node) error {
				s.define(n, "app")
				return n.InstallMachine(filepath.Join(programs.Machines, "logforward_button"), edit.Replace)
			})
			w := s.write("app")
			s.up()
			s.must(s.receiver.Process.Stop())
			_, err := s.Command(s.ctx, "fleet", "pause", "--choria", filepath.Join(s.Dir, "clients", "streams", "client.conf"), "--match", "n1.*", "--reason", "switch upgrade", "--wait", "1s")
			t.Logf("fleet pause: %v", err) // nobody confirms
			n := s.nodes[0]
			if security == site.Certificates {
				s.await(func() error {
					status, err := n.Status(s.ctx)
					if err == nil && (status.Pause == nil || status.Pause.By != "local=root" || !strings.Contains(status.Pause.Reason, "the red button: switch upgrade")) {
						err = fmt.Errorf("%s: pause %+v", n.Name, status.Pause)
					}
					return err
				})
				if status, err := s.nodes[1].Status(s.ctx); err != nil || status.Pause != nil {
					t.Errorf("n2 has the pause %+v (%v), which isn't meant for it", status.Pause, err)
				}
			} else {
				// What a watcher without the right does: a refusal in the broker's log at each look, and nothing else.
				refusals := func() int {
					b, err := os.ReadFile(filepath.Join(s.Dir, "broker", "broker.log"))
					s.must(err)
					return strings.Count(string(b), "KV_LOGFORWARD")
				}
				before, began := refusals(), time.Now()
				s.await(func() error {
					if now := refusals(); now < before+5 {
						return fmt.Errorf("%d refusals", now)
					}
					return nil
				})
				t.Logf("5 refusals of 2 nodes in %s", time.Since(began).Round(time.Second))
				if state := s.state(n, "logforward_button"); state != "released" {
					t.Errorf("the machine is %s", state)
				}
			}
			if _, err := s.Command(s.ctx, "fleet", "resume", "--choria", filepath.Join(s.Dir, "clients", "streams", "client.conf"), "--match", "n1.*", "--wait", "1s"); err != nil {
				t.Logf("fleet resume: %v", err)
			}
			s.must(s.receiver.Start(s.ctx))
			s.each(func(n *site.Node) error {
				return n.Await(s.ctx, 1, func(l control.LogStatus) bool { return l.State == "forwarding" || l.State == "idle" })
			})
			w.finish("app")
		})
	}
}
