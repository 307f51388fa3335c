package fleet

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"logforward/test/fleet/site"
)

// What Puppet laid on a node is one that a real Choria Server loads, that operators inspect and steer, and that forwards.
func TestPuppetMakesANodeOfARealFleet(t *testing.T) {
	t.Parallel()
	puppet, err := exec.LookPath("puppet")
	if err != nil {
		t.Skip("no puppet here: make test-puppet installs it")
	}
	f := newFleet(t, site.Certificates, 0)
	n, err := f.AddNode("n1", site.NodeOptions{})
	f.must(err)
	agents := filepath.Join(n.Dir, "lib", "mcollective", "agent")
	f.must(errors.Join(os.RemoveAll(agents), os.MkdirAll(agents, 0o755), os.Remove(n.Config())))

	// The module, what stands in for those that it needs, and a site's data: this node's own paths.
	dir := t.TempDir()
	modules := filepath.Join(dir, "modules")
	for name, from := range map[string]string{"mcollective_agent_logforward": "../../puppet", "mcollective": "../../puppet/spec/fixtures/stubs/mcollective", "choria": "../../puppet/spec/fixtures/stubs/choria"} {
		f.must(os.CopyFS(filepath.Join(modules, name), os.DirFS(from)))
	}
	etc := filepath.Join(n.Dir, "etc")
	f.must(os.MkdirAll(filepath.Join(modules, "site", "files"), 0o755))
	f.must(os.WriteFile(filepath.Join(modules, "site/files/logforward.rego"), []byte("package io.choria.mcorpc.authpolicy\nimport rego.v1\ndefault allow := false\nallow if input.callerid == \"choria=admin.mcollective\"\n"), 0o644))
	f.must(os.MkdirAll(filepath.Join(dir, "data"), 0o755))
	f.must(os.WriteFile(filepath.Join(dir, "hiera.yaml"), fmt.Appendf(nil, "---\nversion: 5\ndefaults: {datadir: %s/data, data_hash: yaml_data}\nhierarchy:\n  - {name: common, path: common.yaml}\n", dir), 0o644))
	f.must(os.WriteFile(filepath.Join(dir, "data/common.yaml"), fmt.Appendf(nil, `mcollective::libdir: %[1]s/lib
mcollective::configdir: %[1]s/etc
mcollective_agent_logforward::install::manage: false
mcollective_agent_logforward::manage_service: false
mcollective_agent_logforward::machine: false
mcollective_agent_logforward::program: %[2]s
mcollective_agent_logforward::config_dir: %[1]s/etc/logforward
mcollective_agent_logforward::rego_policy_source: puppet:///modules/site/logforward.rego
mcollective_agent_logforward::settings:
  socket: %[3]s
  state: %[1]s/state
  wishes: %[1]s/wishes
  audit_log: %[4]s
  policy: %[1]s/etc/policies/rego/logforward.rego
  forwarders: %[1]s/etc/logforward/forwarders.d
  allowed_paths: [%[1]s/log/**]
  sync_interval: 1s
mcollective_agent_logforward::destinations:
  central: {choria: %[5]s}
mcollective_agent_logforward::forwarders:
  app: {path: %[1]s/log/app.log, start: beginning}
`, n.Dir, programs.Logforward, n.Socket(), n.Decisions(), n.ServerConfig()), 0o644))
	f.must(os.WriteFile(filepath.Join(dir, "site.pp"), []byte("include mcollective\ninclude mcollective_agent_logforward\n"), 0o644))
	apply := func(want int) {
		t.Helper()
		cmd := exec.CommandContext(f.ctx, puppet, "apply", "--modulepath", modules, "--hiera_config", filepath.Join(dir, "hiera.yaml"), "--confdir", filepath.Join(dir, "conf"), "--vardir", filepath.Join(dir, "var"),
			"--color", "false", "--detailed-exitcodes", filepath.Join(dir, "site.pp"))
		if out, _ := cmd.CombinedOutput(); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != want {
			t.Fatalf("puppet apply: %v, want %d\n%s", cmd.ProcessState, want, out)
		}
	}
	apply(2)
	apply(0)
	if n.Config() != filepath.Join(etc, "plugin.d/logforward.cfg") || !strings.Contains(read(t, n.Config()), "destination.central.choria") {
		t.Fatalf("no settings in %s", n.Config())
	}
	// Choria Server takes what is younger than some seconds for half written.
	old := time.Now().Add(-time.Hour)
	f.must(os.Chtimes(filepath.Join(agents, "logforward.json"), old, old))

	text := lines("puppet", 0, 300)
	f.must(n.Write("app.log", text))
	f.nodes = append(f.nodes, n)
	f.must(errors.Join(n.StartServer(f.ctx), n.StartForwarder(f.ctx)))
	f.must(f.receiver.Wait(f.ctx, n, "app", text))
	f.wants(f.ask("list", nil), "state", "defined")
	f.wants(f.ask("pause", site.Inputs{"log": "app"}), "state", "paused")
	f.wants(f.ask("plan", nil), "summary", "1 stays")
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
