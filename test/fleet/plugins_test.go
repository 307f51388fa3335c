package fleet

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/choria-io/tokens"

	"logforward/test/fleet/site"
)

// defaultMatch is the expression that make dist has nodes fulfil where nothing else is asked for.
func defaultMatch(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(filepath.Dir(programs.Machines), "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^DIST_MATCH +\?= (.+)$`).FindSubmatch(b)
	if found == nil {
		t.Fatal("the Makefile has no DIST_MATCH")
	}
	return string(found[1])
}

// published is a bucket with what is to be installed, and the archives that it speaks of.
type published struct {
	*fleet
	dir, key, public string
	url              string
	streams          *site.Client
}

// publish serves a directory; who may make the bucket does that later.
func (f *fleet) publish() *published {
	f.Helper()
	p := &published{fleet: f, dir: filepath.Join(f.Dir, "dist"), key: filepath.Join(f.Dir, "dist.seed")}
	f.must(os.Mkdir(p.dir, 0o755))
	server := httptest.NewServer(http.FileServer(http.Dir(p.dir)))
	f.Cleanup(server.Close)
	p.url = server.URL
	var err error
	p.streams, err = f.AddClient("publisher", site.ClientOptions{NoFleet: true, Rights: tokens.ClientPermissions{StreamsAdmin: true, StreamsUser: true}})
	f.must(err)
	return p
}

// release makes what make dist makes, and puts the specification into the bucket.
func (p *published) release(version string, args ...string) {
	p.Helper()
	program := filepath.Join(p.Dir, "logforward-"+version)
	out, err := exec.CommandContext(p.ctx, "go", "build", "-ldflags", "-X main.release="+version, "-o", program, "logforward/cmd/logforward").CombinedOutput()
	if err != nil {
		p.Fatalf("build: %v: %s", err, out)
	}
	all := append([]string{"run", "logforward/machine/dist", "--root", filepath.Dir(programs.Machines), "--out", p.dir, "--key", p.key, "--program", program, "--release", version, "--url", p.url}, args...)
	if out, err = exec.CommandContext(p.ctx, "go", all...).CombinedOutput(); err != nil {
		p.Fatalf("dist: %v: %s", err, out)
	}
	p.public = strings.Fields(string(out)[strings.LastIndex(string(out), "public key is "):])[3]
	p.put("plugins.spec")
}

// put puts a file's content into the bucket, as an operator does.
func (p *published) put(file string) {
	p.Helper()
	spec, err := os.ReadFile(filepath.Join(p.dir, file))
	p.must(err)
	_, err = p.streams.Choria(p.ctx, "kv", "put", "PLUGINS", "logforward", string(spec))
	p.must(err)
}

// adminTable lets the administrator do everything, and the node's own root what the machine does.
const adminTable = `version: 1
roles:
  administrator: {about: does everything, callers: [choria=admin.mcollective], actions: ['*']}
  machine: {about: the node's own machine, callers: [local=root], actions: [status, list, check, pause, resume]}
`

// Program, agent, machine and policy come to a node through a bucket, are upgraded and removed there, but for the policy,
// which stays. Only a machine that reads the bucket was there before.
func TestPluginsThroughABucket(t *testing.T) {
	generations(t, func(t *testing.T, choria string) {
		f := newFleetOf(t, site.Certificates, 2, options{idle: true, time: 4 * patience, site: func(c *site.Config) { c.DDL = "" }, node: site.NodeOptions{
			Choria: choria, Policies: map[string]string{"logforward.rego": machinePolicy}, Settings: map[string]string{"ensure_steady": "2s"},
		}})
		events := f.listen()
		p := f.publish()
		_, err := p.streams.Choria(f.ctx, "kv", "add", "PLUGINS", "--replicas", "1")
		f.must(err)
		names := []string{"logforward", "logforward_check", "logforward_policy", "lf_logforward", "lf_logforward_check", "lf_logforward_policy"}
		args := []string{"--match", `identity("^n1\\.") && ` + defaultMatch(t)}
		if choria == programs.Choria { // the next one can't remove a metric watcher
			names, args = append(names, "logforward_metrics", "lf_logforward_metrics"), append(args, "--metrics")
		}
		table := filepath.Join(f.Dir, "operators.yaml")
		f.must(os.WriteFile(table, []byte(adminTable), 0o644))
		args = append(args, "--policy", table)
		decides := func(when string) {
			t.Helper()
			want, err := f.Command(f.ctx, "policy", "render", table)
			f.must(err)
			f.await(func() error {
				if b, err := os.ReadFile(f.nodes[0].Policy()); err != nil || string(b) != string(want) {
					return fmt.Errorf("%s the policy isn't what the table gives: %.200s (%v)", when, b, err)
				}
				return nil
			})
		}
		p.release("1.0.0", args...)
		if _, err := f.admin.Choria(f.ctx, "machine", "plugins", "verify", filepath.Join(p.dir, "plugins.spec"), p.public); err != nil {
			t.Fatalf("choria doesn't verify the specification: %v", err)
		}
		f.must(f.admin.InstallDDL(programs.DDL))
		f.each(func(n *site.Node) error {
			f.define(n, "app")
			return errors.Join(
				n.Write("app.log", lines(n.Name, 0, 1000)),
				n.OwnEtc(),
				n.SetServer("plugin.choria.agent_provider.mcorpc.libdir", filepath.Join(n.MachineStore(), "logforward", "lib")),
				n.InstallMachine(filepath.Join(p.dir, "logforward_plugins"), quickPlugins),
				os.Remove(n.Command()), // what isn't on the PATH of such a node
			)
		})
		n, other := f.nodes[0], f.nodes[1]
		f.each(func(n *site.Node) error { return n.StartServer(f.ctx) })
		f.must(n.Server.Await(f.ctx, "Registering new agent logforward "))
		f.must(f.receiver.Wait(f.ctx, n, "app", lines(n.Name, 0, 1000)))
		if v := f.runs(n); v != "1.0.0" {
			t.Errorf("%s runs %s", n.Name, v)
		}
		events.reach(n, "logforward", 0, "forwarding")
		f.await(func() error { // the node hears of the confirmation behind the commit
			r, err := f.admin.Req(f.ctx, "status", nil, n)
			if err != nil {
				return err
			}
			if err := r.Err(); err != nil {
				return err
			}
			if state := r.Replies[0].Data["state"]; state != "idle" {
				return fmt.Errorf("state is %v, want idle, for there is nothing new in its log: %v", state, r.Replies[0].Data)
			}
			return nil
		})

		decides("installed,")

		f.must(os.WriteFile(table, []byte(adminTable+"  guest: {about: looks, callers: ['choria=guest.mcollective'], actions: [status]}\n"), 0o644))
		first := f.daemon(n)
		more := lines(n.Name, 1000, 1000)
		p.release("1.0.1", args...)
		f.await(func() error {
			if v := f.runs(n); v != "1.0.1" {
				return fmt.Errorf("%s still runs %q", n.Name, v)
			}
			return nil
		})
		if f.daemon(n) == first {
			t.Error("the upgrade has left the daemon alone")
		}
		f.must(n.Write("app.log", more))
		f.must(f.receiver.Wait(f.ctx, n, "app", lines(n.Name, 0, 2000)))

		decides("upgraded,")

		p.forged()
		f.must(n.Server.Await(f.ctx, "did not verify using configured public key"))
		if v := f.runs(n); v != "1.0.1" {
			t.Errorf("after a specification that somebody else has signed %s runs %q", n.Name, v)
		}
		if files, err := filepath.Glob(filepath.Join(other.MachineStore(), "*logforward")); err != nil || len(files) != 0 {
			t.Errorf("%s got %v, which wasn't meant for it (%v)", other.Name, files, err)
		}

		p.release("1.0.1", "--remove")
		f.must(n.Server.Await(f.ctx, "Removing agent logforward after the DDL"))
		// The host of machines answers, which it doesn't where it hangs, and has none of them any more.
		f.await(func() error {
			r, err := f.admin.Request(f.ctx, "choria_util", "machine_states", nil, n)
			if err != nil {
				return err
			}
			reply, ok := r.From(n)
			if left := fmt.Sprint(reply.Data["machine_names"]); !ok || left != "[logforward_plugins 1.0.0]" {
				return fmt.Errorf("machines left: %s; %+v", left, r)
			}
			return nil
		})
		for _, name := range names {
			if _, err := os.Stat(filepath.Join(n.MachineStore(), name)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is left after the removal (%v)", name, err)
			}
		}
		decides("after the removal")
		// Who removes the machine doesn't stop forwarding: that is done by stopping the logs or the daemon.
		f.must(n.Write("app.log", lines(n.Name, 2000, 10)))
		f.must(f.receiver.Wait(f.ctx, n, "app", lines(n.Name, 0, 2010)))
	})
}

// A table that is at fault becomes no archive.
func TestPluginsOfABrokenTable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"nobody": "version: 1\nroles: {a: {about: x, actions: [status]}}\n", "unknown": "version: 1\nrole: {}\n", "yaml": "version: [\n"} {
		table := filepath.Join(dir, name+".yaml")
		if err := os.WriteFile(table, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		out := filepath.Join(dir, name)
		said, err := exec.CommandContext(t.Context(), "go", "run", "logforward/machine/dist", "--root", filepath.Dir(programs.Machines), "--out", out, "--key", filepath.Join(dir, "seed"), "--program", programs.Logforward, "--policy", table).CombinedOutput()
		if _, e := os.Stat(filepath.Join(out, "plugins.spec")); err == nil || e == nil || !strings.Contains(string(said), name+".yaml") {
			t.Errorf("%s: %v, %v: %s", name, err, e, said)
		}
	}
}

// forged signs the specification with another key.
func (p *published) forged() {
	p.Helper()
	out, err := exec.CommandContext(p.ctx, "go", "run", "logforward/machine/dist", "--root", filepath.Dir(programs.Machines), "--out", filepath.Join(p.dir, "forged"), "--key", p.key+".forged", "--remove").CombinedOutput()
	if err != nil {
		p.Fatalf("dist: %v: %s", err, out)
	}
	p.put(filepath.Join("forged", "plugins.spec"))
}

// daemon is the only daemon of a node.
func (f *fleet) daemon(n *site.Node) int {
	f.Helper()
	pids, err := n.Daemons()
	f.must(err)
	if len(pids) != 1 {
		f.Fatalf("%s: daemons %v, want one", n.Name, pids)
	}
	return pids[0]
}

// runs is the version of a node's daemon, as the agent tells; empty: there is none.
func (f *fleet) runs(n *site.Node) string {
	f.Helper()
	s, err := n.Status(f.ctx)
	if err != nil {
		return ""
	}
	return s.Version
}
