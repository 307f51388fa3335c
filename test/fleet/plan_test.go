package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"logforward/test/fleet/site"
)

// stage has a definition wait on each node.
func (f *fleet) stage(log string) {
	f.Helper()
	f.each(func(n *site.Node) error {
		dir := filepath.Join(n.Staged(), "forwarders.d")
		text := fmt.Sprintf("log: %s\npath: %s\nstart: beginning\n", log, n.LogFile(log+".log"))
		return errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, log+".yaml"), []byte(text), 0o644))
	})
}

// A change of the whole fleet: everybody's plan is seen first, one node has it before the others, the rest in batches;
// and one request takes it back.
func TestPlanOfAFleetIsAppliedWithACanaryAndRolledBack(t *testing.T) {
	t.Parallel()
	for _, security := range []site.Security{site.Tokens, site.Certificates} {
		t.Run(security.String(), func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, security, 4)
			f.wants(f.ask("plan", nil), "state", "nothing staged")
			text := lines("app", 0, 300)
			f.each(func(n *site.Node) error { return n.Write("app.log", text) })
			f.stage("app")
			r := f.ask("plan", nil)
			f.wants(r, "state", "changes")
			f.wants(r, "files", 1.0)
			if r.Summaries["summary"]["1 starts"] != 4 {
				t.Errorf("the fleet's plan: %v", r.Summaries)
			}

			// The canary.
			canary, others := f.nodes[0], f.nodes[1:]
			r, err := f.admin.Req(f.ctx, "apply", nil, canary)
			f.must(err)
			f.must(r.Err())
			f.must(f.receiver.Wait(f.ctx, canary, "app", text))
			r, err = f.admin.Req(f.ctx, "plan", nil, others...)
			f.must(err)
			f.must(r.Err())
			f.wants(r, "state", "changes")

			// The others, two at a time.
			args := []string{"req", "logforward", "apply", "--np", "--json", "--batch", "2", "--batch-sleep", "1"}
			for _, n := range others {
				args = append(args, "-I", n.Identity)
			}
			out, err := f.admin.Choria(f.ctx, args...)
			f.must(err)
			r = new(site.Result)
			f.must(json.Unmarshal(out, r))
			f.must(r.Err())
			if len(r.Replies) != len(others) {
				t.Errorf("%d replies of %d nodes", len(r.Replies), len(others))
			}
			f.each(func(n *site.Node) error { return f.receiver.Wait(f.ctx, n, "app", text) })
			f.wants(f.ask("plan", nil), "state", "nothing staged")

			// Who isn't permitted changes nothing.
			eve, err := f.AddClient("eve", site.ClientOptions{})
			f.must(err)
			r, err = eve.Req(f.ctx, "rollback", nil, f.nodes...)
			f.must(err)
			if r.Err() == nil || r.Stats.OK != 0 {
				t.Errorf("eve may roll back: %+v", r)
			}
			f.wants(f.ask("list", nil), "state", "defined")

			f.wants(f.ask("rollback", nil), "state", "done")
			f.wants(f.ask("plan", nil), "summary", "no logs")
			f.each(func(n *site.Node) error {
				_, err := os.Stat(filepath.Join(n.Definitions(), "app.yaml"))
				if err == nil {
					return fmt.Errorf("%s still defines it", n.Name)
				}
				return nil
			})
		})
	}
}
