package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/choria-io/tokens"

	"logforward/test/fleet/site"
)

// guide gives the blocks of a language in a section of docs/rollout.md.
func guide(t *testing.T, section, language string) (blocks []string) {
	t.Helper()
	return guideTo(t, "rollout.md", section, language)
}

// guideTo gives those of a section of any page of docs/.
func guideTo(t *testing.T, page, section, language string) (blocks []string) {
	t.Helper()
	_, text, found := strings.Cut(read(t, "../../docs/"+page), "\n## "+section+"\n")
	if !found {
		t.Fatalf("no section %q", section)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	for _, m := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(text, -1) {
		blocks = append(blocks, m[1])
	}
	return blocks
}

// What the guide says about the bucket is done, command by command, with a node that has nothing but the token for
// provisioning and what the guide has in its image: it becomes one of the fleet. While it is being provisioned, at first
// and later again, nobody changes anything there.
func TestGuideToPlugins(t *testing.T) {
	slow(t)
	t.Parallel()
	f := newFleetOf(t, site.Tokens, 1, options{idle: true, time: 4 * patience, site: func(c *site.Config) { c.DDL = "" }, node: site.NodeOptions{Settings: map[string]string{"ensure_steady": "2s"}}})
	n := f.nodes[0]
	section := "By the bucket: nodes that nobody manages"
	commands, settings := guide(t, section, "sh"), guide(t, section, "ini")
	if len(commands) != 4 || len(settings) != 1 {
		t.Fatalf("the guide has %d blocks of commands and %d of settings", len(commands), len(settings))
	}
	p := f.publish()
	work, err := filepath.Abs("../..")
	f.must(err)
	dist := filepath.Join(f.Dir, "made")
	words := strings.NewReplacer(
		"https://pkg.example.net/logforward", p.url, "/srv/www/logforward", p.dir, "web1.example.net", n.Identity,
		"policies/operators.yaml", filepath.Join(work, "policies", "operators.yaml"), "/etc/choria/machine", n.MachineStore(), "--replicas 3", "--replicas 1",
		"make dist", "make -C "+work+" dist", "DIST_KEY=", "DIST_KEY="+f.Dir+"/", "DIST_POLICY=", "DIST_POLICY="+f.Dir+"/", "--policy-default", "'--policy-default --out "+dist+"'", "dist/", dist+"/", "/var/log/app", filepath.Join(n.Dir, "log"),
	)
	as := func(c *site.Client, block string) {
		t.Helper()
		wrapper := filepath.Join(f.Dir, "bin-"+c.Name)
		f.must(os.MkdirAll(wrapper, 0o755))
		f.must(os.WriteFile(filepath.Join(wrapper, "choria"), fmt.Appendf(nil, "#!/bin/sh\nexec %s \"$@\" --config %s\n", programs.Choria, c.Config()), 0o755))
		cmd := exec.CommandContext(f.ctx, "sh", "-euc", words.Replace(block))
		cmd.Dir = f.Dir
		cmd.Env = append(os.Environ(), "PATH="+wrapper+":"+os.Getenv("PATH"), "USER=root", "MCOLLECTIVE_CERTNAME="+c.Name+".mcollective")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s%v: %s", words.Replace(block), err, out)
		}
	}

	as(p.streams, commands[0])
	table := filepath.Join(f.Dir, "operators.yaml")
	f.must(os.WriteFile(table, []byte(strings.NewReplacer("/var/log/app", filepath.Join(n.Dir, "log"), "operators: [", "operators: [up=provisioner, local=root, ").Replace(read(t, table))), 0o644))
	as(p.streams, commands[1])

	libdir := ""
	for line := range strings.Lines(words.Replace(settings[0])) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " = ")
		if f.must(n.SetServer(key, value)); strings.HasSuffix(key, ".libdir") {
			libdir = value
		}
	}
	if libdir == "" {
		t.Fatal("the guide doesn't say where the agent is")
	}
	f.must(n.Factory())
	as(p.streams, commands[2])
	f.define(n, "boot") // something that the image has forwarded
	text := lines(n.Name, 0, 1000)
	f.must(errors.Join(
		n.Write("boot.log", text), n.Write("app.log", []byte("before\n")),
		n.SetDaemon("policy", n.PolicyFile("logforward.rego")),
		n.EditMachine("logforward_plugins", quickPlugins),
		os.Remove(n.Command()),
	))
	client := func(name string) *site.Client {
		c, err := f.AddClient(name, site.ClientOptions{DDL: programs.DDL})
		f.must(err)
		return c
	}
	operator, guest := client("ops-bob"), client("guest")
	provisioner, err := f.AddProvisioner()
	f.must(errors.Join(err, provisioner.InstallDDL(programs.DDL), f.admin.InstallDDL(programs.DDL)))
	start := site.Inputs{"log": "more", "path": n.LogFile("app.log"), "destination": "central"}

	// As it comes: in provisioning mode Choria Server runs no machine, and has its own agents alone.
	f.must(n.StartServer(f.ctx))
	f.must(n.Server.Await(f.ctx, "Entering provision mode"))
	for _, c := range []*site.Client{provisioner, operator} {
		if r, err := c.Req(f.ctx, "start", start, n); err != nil || len(r.Replies) != 0 {
			t.Errorf("before it is provisioned the node answers %s with %+v (%v)", c.Name, r, err)
		}
	}
	if files, err := filepath.Glob(filepath.Join(n.MachineStore(), "*")); err != nil || len(files) != 1 {
		t.Errorf("before it is provisioned its store has %v (%v)", files, err)
	}

	f.must(provisioner.Provision(f.ctx, n, tokens.ServerPermissions{Streams: true}, "logs.*."+n.Token()+".>"))
	f.must(n.Server.Await(f.ctx, "Registering new agent logforward "))
	f.must(f.receiver.Wait(f.ctx, n, "boot", text))
	for name, file := range map[string]string{"choria": "logforward.rego", "default": "default.rego"} {
		rendered, err := f.Command(f.ctx, "policy", "render", table, "--for", name)
		f.must(err)
		f.await(func() error {
			if b, err := os.ReadFile(n.PolicyFile(file)); err != nil || !bytes.Equal(b, rendered) {
				return fmt.Errorf("%s isn't what the table gives: %.200s (%v)", file, b, err)
			}
			return nil
		})
		info, err := os.Lstat(n.PolicyFile(file))
		f.must(err)
		if !info.Mode().IsRegular() || info.Mode().Perm() != 0o644 {
			t.Errorf("%s is %s", file, info.Mode())
		}
	}
	r, err := guest.Req(f.ctx, "start", start, n)
	f.must(err)
	if reply, ok := r.From(n); !ok || reply.Code == 0 || !strings.Contains(reply.Message, "not authorized") {
		t.Errorf("who isn't allowed to start a log gets %+v", r)
	}
	as(operator, commands[3])
	f.await(func() error { // it starts at the end of its log
		s, err := n.Status(f.ctx)
		if err == nil && len(s.Logs) != 2 {
			err = fmt.Errorf("%s has logs %+v", n.Name, s.Logs)
		}
		return err
	})
	f.must(n.Write("app.log", lines("app", 0, 10)))
	f.must(f.receiver.Wait(f.ctx, n, "app", lines("app", 0, 10)))

	// A table that changes needs no release, and one that is edited on the node is put right.
	f.must(os.WriteFile(table, []byte(strings.Replace(read(t, table), "up=ops-*", "up=ops-*, up=guest", 1)), 0o644))
	as(p.streams, commands[1])
	f.await(func() error {
		r, err := guest.Req(f.ctx, "pause", site.Inputs{"log": "app", "for": "1h"}, n)
		if err != nil {
			return err
		}
		return r.Err()
	})
	f.must(n.Server.Stop())

	// It is to be provisioned again, and its agent is still there: Choria Server asks no policy then, the daemon does.
	f.must(errors.Join(n.ProvisionByDefault(false), n.EditServer(func(text string) string {
		return strings.Replace(text, "plugin.choria.server.provision=false", "plugin.choria.server.provision=true", 1)
	}), n.StartServer(f.ctx)))
	f.must(n.Server.Await(f.ctx, "Registering new agent logforward "))
	r, err = provisioner.Req(f.ctx, "resume", site.Inputs{"log": "app"}, n)
	f.must(err)
	if reply, ok := r.From(n); !ok || reply.Code == 0 || !strings.Contains(reply.Message, "(provisioning)") {
		t.Errorf("while it is being provisioned an order by Choria gets %+v", r)
	}
	if out, err := f.Command(context.WithoutCancel(f.ctx), "resume", "app", "--socket", n.Socket()); err == nil || !strings.Contains(err.Error(), "(provisioning)") {
		t.Errorf("while it is being provisioned an order on the node gets %s (%v)", out, err)
	}
	f.must(n.Write("boot.log", lines(n.Name, 1000, 10)))
	f.must(f.receiver.Wait(f.ctx, n, "boot", lines(n.Name, 0, 1010)))
}

// quickPlugins makes the looks into the bucket frequent.
func quickPlugins(text string) string {
	return strings.NewReplacer("interval: 5m", "interval: 2s", "interval: 1m", "interval: 1s").Replace(text)
}
