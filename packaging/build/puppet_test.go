package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// check runs what is installed for modules; what isn't there fails.
func check(t *testing.T, env []string, dir, name string, args ...string) string {
	t.Helper()
	c := exec.Command("env", append([]string{name}, args...)...) // env finds it in the PATH that it gets
	c.Dir, c.Env = dir, env
	out, err := c.CombinedOutput()
	if err != nil {
		t.Errorf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// puppets are this machine's, and the one that test/puppet/install gets: by the version, the package that it comes from, or nothing.
func puppets(t *testing.T) map[string]string {
	t.Helper()
	out, err := exec.Command("puppet", "--version").Output()
	if err != nil {
		t.Fatalf("there is no puppet: test/prepare puppet installs it: %v", err)
	}
	own, _, _ := strings.Cut(strings.TrimSpace(string(out)), ".")
	all := map[string]string{own: ""}
	if own == "7" {
		if all["8"], err = filepath.Abs("../../bin/puppet8.deb"); err == nil {
			_, err = os.Stat(all["8"])
		}
		if err != nil {
			t.Fatalf("no Puppet 8 to test with: test/prepare puppet gets it: %v", err)
		}
	}
	return all
}

// library is where Ruby finds a Puppet that isn't installed, and what makes a program use it.
func library(t *testing.T, file string) []string {
	t.Helper()
	if file == "" {
		return os.Environ()
	}
	dir := t.TempDir()
	if out, err := exec.Command("dpkg-deb", "-x", file, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	return append(os.Environ(), "RUBYLIB="+dir+rubyLibrary, "PATH="+dir+"/usr/bin:"+os.Getenv("PATH"))
}

const rubyLibrary = "/usr/lib/ruby/vendor_ruby"

// The module is what Puppet's own tools take for right, and its catalogues are what its specification says, with each Puppet.
func TestPuppetModuleIsInOrder(t *testing.T) {
	for version, file := range puppets(t) {
		t.Run(version, func(t *testing.T) { inOrder(t, version, library(t, file)) })
	}
}

func inOrder(t *testing.T, version string, env []string) {
	out := check(t, env, ".", "ruby", "-e", `require "puppet"; print Puppet.version`)
	if !strings.HasPrefix(out, version+".") {
		t.Fatalf("this is Puppet %s", out)
	}
	module, err := filepath.Abs("../../puppet")
	if err != nil {
		t.Fatal(err)
	}
	// Lint asks that the directory has the module's name.
	named := filepath.Join(t.TempDir(), "mcollective_agent_logforward")
	if err := os.Symlink(module, named); err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, pattern := range []string{"manifests/*.pp", "functions/*.pp", "types/*.pp"} {
		found, err := filepath.Glob(filepath.Join(named, pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		files = append(files, found...)
	}
	check(t, env, named, "puppet", append([]string{"parser", "validate", "--color", "false"}, files...)...)
	check(t, env, named, "puppet-lint", append([]string{"--fail-on-warnings", "--no-140chars-check"}, files...)...)
	check(t, env, named, "metadata-json-lint", "metadata.json")
	if out := check(t, env, module, "rspec", "--no-color", "spec/classes"); !strings.Contains(out, " 0 failures") || strings.Contains(out, "\n0 examples") {
		t.Errorf("rspec: %s", out)
	}
	documented(t, files)
	for _, name := range []string{"logforward.json", "logforward.ddl"} {
		a, err := os.ReadFile(filepath.Join(module, "files/mcollective/agent", name))
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join("../../ddl", name))
		if err != nil {
			t.Fatal(err)
		}
		if string(a) != string(b) {
			t.Errorf("the module's %s isn't the agent's: run make docs", name)
		}
	}
}

var (
	puppetParameter = regexp.MustCompile(`(?m)^  [A-Z][^=\n]*?\s\$(\w+)\s*(=|,|$)`)
	puppetDocument  = regexp.MustCompile(`(?m)^# @param (\w+) +\S`)
)

// documented: each parameter has a type, and says what it is for.
func documented(t *testing.T, files []string) {
	t.Helper()
	all := 0
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		if !strings.HasPrefix(text, "# @summary ") && !strings.Contains(text, "\n# @summary ") && !strings.Contains(file, "/functions/") {
			t.Errorf("%s has no summary", file)
		}
		head, _, _ := strings.Cut(text, "\n) {")
		_, list, found := strings.Cut(head, " (\n")
		if !found {
			continue
		}
		said := map[string]bool{}
		for _, m := range puppetDocument.FindAllStringSubmatch(text, -1) {
			said[m[1]] = true
		}
		for line := range strings.Lines(list) {
			m := puppetParameter.FindStringSubmatch(line)
			if m == nil {
				t.Errorf("%s: a parameter without a type: %s", file, line)
				continue
			}
			all++
			if !said[m[1]] {
				t.Errorf("%s: nothing says what %s is for", file, m[1])
			}
			delete(said, m[1])
		}
		for name := range said {
			t.Errorf("%s: there is no parameter %s", file, name)
		}
	}
	if all < 50 {
		t.Errorf("%d parameters were looked at", all)
	}
}

// site is a machine that Puppet manages.
type site struct {
	*root
	url    string
	puppet []string // the command
}

// newSite has Puppet as it is installed, or as a package has it.
func newSite(t *testing.T, puppet string) *site {
	t.Helper()
	file := deb(t, newer)
	r := newRoot(t)
	command := []string{"puppet"}
	if puppet != "" {
		r.bring(puppet, "/tmp/puppet.deb")
		r.sh("dpkg-deb -x /tmp/puppet.deb /tmp/puppet-next")
		command = []string{"env", "RUBYLIB=/tmp/puppet-next" + rubyLibrary, "/tmp/puppet-next/usr/bin/puppet"}
	}
	r.bring(file, "/tmp/logforward.deb")
	modules := "/etc/puppet/test/modules"
	r.tree("../../puppet", modules+"/mcollective_agent_logforward")
	r.tree("../../puppet/spec/fixtures/stubs/mcollective", modules+"/mcollective")
	r.tree("../../puppet/spec/fixtures/stubs/choria", modules+"/choria")
	r.put("/usr/bin/systemctl", systemctl, 0o755)
	// A node has other plugins, too; their directories aren't empty without ours.
	for _, file := range []string{"/etc/choria/plugin.d/package.cfg", "/etc/choria/policies/rego/default.rego", "/etc/choria/machine/other/machine.yaml", "/opt/puppetlabs/mcollective/plugins/mcollective/agent/package.ddl"} {
		r.put(file, "another's\n", 0o644)
	}
	// The broker is there before anything is installed.
	s := &site{root: r, puppet: command, url: "nats://127.0.0.1:" + freePort(t)}
	r.sh("dpkg-deb -x /tmp/logforward.deb /tmp/x && cp /tmp/x/usr/bin/logforward /tmp/broker-program")
	broker := r.command(context.Background(), "/tmp/broker-program", "broker", "--listen", strings.TrimPrefix(s.url, "nats://"), "--store", "/tmp/broker")
	if err := broker.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = broker.Process.Kill()
		_ = broker.Wait()
	})
	r.put("/etc/puppet/test/hiera.yaml", "---\nversion: 5\ndefaults: {datadir: /etc/puppet/test/data, data_hash: yaml_data}\nhierarchy:\n  - {name: node, path: node.yaml}\n  - {name: role, path: role.yaml}\n  - {name: common, path: common.yaml}\n", 0o644)
	r.put("/etc/puppet/test/site.pp", "include mcollective\ninclude mcollective_agent_logforward\ninclude mcollective_agent_logforward::receiver\n", 0o644)
	return s
}

// tree copies a directory in.
func (r *root) tree(from, to string) {
	r.Helper()
	err := filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !e.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err == nil {
			r.bring(path, filepath.Join(to, rel))
		}
		return err
	})
	if err != nil {
		r.Fatal(err)
	}
}

// data is a level of Hiera.
func (s *site) data(level, text string) {
	s.Helper()
	s.put("/etc/puppet/test/data/"+level+".yaml", strings.ReplaceAll(text, "URL", s.url), 0o644)
}

// apply runs Puppet, and wants its exit code: 0 nothing to do, 2 changed, 4 or 6 failures.
func (s *site) apply(want int, flags ...string) string {
	s.Helper()
	args := append(append(s.puppet, "apply"), flags...)
	out, code := s.try(append(args, "--modulepath", "/etc/puppet/test/modules", "--hiera_config", "/etc/puppet/test/hiera.yaml", "--confdir", "/etc/puppet/test/conf",
		"--vardir", "/tmp/puppet", "--color", "false", "--strict_variables", "--detailed-exitcodes", "/etc/puppet/test/site.pp")...)
	if code != want {
		s.Fatalf("puppet apply: exit code %d, want %d\n%s", code, want, out)
	}
	return out
}

const (
	common = `mcollective_agent_logforward::install::provider: dpkg
mcollective_agent_logforward::install::source: /tmp/logforward.deb
mcollective_agent_logforward::manage_service: false
mcollective_agent_logforward::receiver::manage_service: false
mcollective_agent_logforward::receiver::manage_setup: true
mcollective_agent_logforward::receiver::settings: {url: URL, commit_interval: 100ms, rotate_every: '0'}
mcollective_agent_logforward::receiver::setup: {partitions: 2}
mcollective_agent_logforward::operators:
  version: 1
  roles:
    reader: {about: everybody looks, callers: ['*'], actions: [status, list, check, plan]}
mcollective_agent_logforward::settings: {rate: 50MiB/s}
mcollective_agent_logforward::destinations:
  central: {url: URL}
mcollective_agent_logforward::forwarders:
  app: {path: /var/log/app.log, start: beginning}
`
	role = `mcollective_agent_logforward::settings: {identity: n1.example.net}
mcollective_agent_logforward::destinations:
  central: {compression: zstd}
`
)

func TestPuppetAppliedTwiceIsANodeThatForwards(t *testing.T) {
	for version, file := range puppets(t) {
		t.Run(version, func(t *testing.T) { appliedTwice(newSite(t, file), t, version) })
	}
}

func appliedTwice(s *site, t *testing.T, version string) {
	if out := s.must(append(s.puppet, "--version")...); !strings.HasPrefix(out, version+".") {
		t.Fatalf("this is Puppet %s", out)
	}
	s.data("common", common)
	s.data("role", role)
	s.put("/var/log/app.log", "from before\n", 0o600)
	// What an administrator has added to a unit, and what Puppet laid ready before it was told to do things at once.
	const mine = "/etc/systemd/system/logforward-receive.service.d/mine.conf"
	s.put(mine, "[Service]\nNice=5\n", 0o644)
	s.put("/etc/choria/logforward/staged/logforward.cfg", "# Managed by Puppet.\nrate = 1\n", 0o644)
	// On an empty machine a dry run tells what it would do, and fails at nothing that isn't there yet.
	out := strings.ReplaceAll(s.apply(0, "--noop"), "Error: Facter: ", "") // what this root doesn't show of the machine, such as /sys
	if strings.Contains(out, "Error") || s.exists("/etc/logforward/receive.cfg") {
		t.Errorf("--noop: %s", out)
	}
	s.apply(2)
	s.apply(0)
	if !s.exists(mine) || s.exists("/etc/choria/logforward/staged") {
		t.Errorf("the administrator's addition: %v; what is older than what is in force waits to be applied: %v", s.exists(mine), s.exists("/etc/choria/logforward/staged"))
	}

	// What is deep-merged from all levels is there.
	if got, want := s.get("/etc/choria/plugin.d/logforward.cfg"), fmt.Sprintf("# Managed by Puppet.\ndestination.central.compression = zstd\ndestination.central.url = %s\nidentity = n1.example.net\nrate = 50MiB/s\n", s.url); got != want {
		t.Errorf("settings: %s", got)
	}
	if out := s.sh("stat -c '%U:%G %a' /etc/choria/plugin.d/logforward.cfg /etc/logforward/receive.cfg /etc/choria/policies/rego/logforward.rego; readlink /opt/puppetlabs/mcollective/plugins/mcollective/agent/logforward"); out != "root:root 644\nroot:logforward-receive 640\nroot:root 644\n/usr/bin/logforward\n" {
		t.Error(out)
	}
	if out, code := s.try("logforward", "setup", "--check"); code != 0 {
		t.Errorf("the streams aren't as Puppet was told: %s", out)
	}

	// The real programs, as the units run them, with what Puppet wrote.
	s.must("systemctl", "start", "logforward-receive.service", "logforward-forward.service")
	arrived := func(log, text string) {
		t.Helper()
		s.eventually(log+" to arrive", func() bool {
			b, err := os.ReadFile(s.path + "/var/lib/logforward/received/n1.example.net/" + log + ".log")
			return err == nil && string(b) == text
		})
	}
	arrived("app", "from before\n")
	if out, code := s.try("logforward", "validate"); code != 0 {
		t.Errorf("validate: %d %s", code, out)
	}
	pid := s.get("/run/unit/logforward-forward.service")

	// One more definition at one more level: nothing is restarted, and what isn't Puppet's is taken away.
	s.put("/var/log/web/access.log", "a request\n", 0o600)
	s.put("/etc/choria/logforward/forwarders.d/stray.yaml", "log: stray\npath: /var/log/stray.log\n", 0o644)
	s.data("node", "mcollective_agent_logforward::forwarders:\n  web: {path: '/var/log/web/*.log', start: beginning, rate: 1MiB/s}\n")
	if out := s.apply(2); !strings.Contains(out, "web.yaml") || !strings.Contains(out, "stray.yaml") || strings.Contains(out, "plugin.d") {
		t.Errorf("more or less was changed: %s", out)
	}
	s.apply(0)
	arrived("web.access.log", "a request\n")
	s.sh("echo later >> /var/log/app.log")
	arrived("app", "from before\nlater\n")
	if _, code := s.try("kill", "-0", strings.TrimSpace(pid)); code != 0 || s.get("/run/unit/logforward-forward.service") != pid {
		t.Error("the daemon was restarted for a definition")
	}

	// What the daemon would refuse doesn't take the place of what it runs with.
	before := s.get("/etc/choria/plugin.d/logforward.cfg")
	s.data("node", "mcollective_agent_logforward::config: {chunk_size: banana}\n")
	if out := s.apply(6); !strings.Contains(out, "chunk_size") || strings.Count(out, "\n") > 100 {
		t.Errorf("%s", out)
	}
	if s.get("/etc/choria/plugin.d/logforward.cfg") != before {
		t.Error("settings with a fault are in force")
	}

	// The policy that Puppet laid is the one that the daemon decides by.
	if out, code := s.try("logforward", "pause", "--all"); code != 3 {
		t.Errorf("a change that the policy doesn't permit: %d %s", code, out)
	}

	// What others stage is theirs; a receiver writes where it is told to, whatever that is called.
	s.put("/etc/choria/logforward/staged/logforward.cfg", "rate = 1\n", 0o644)
	s.data("node", "mcollective_agent_logforward::receiver::settings: {output: \"/srv/it's 100% full\"}\nmcollective_agent_logforward::receiver::unit_dir: /tmp/units\n")
	s.sh("mkdir /tmp/units")
	s.apply(2)
	s.apply(0)
	if out := s.sh("stat -c '%U %a' \"/srv/it's 100% full\"; cat /tmp/units/*/paths.conf /etc/choria/logforward/staged/logforward.cfg; rm -r /etc/choria/logforward/staged"); out != "logforward-receive 750\n# Managed by Puppet.\n[Service]\nReadWritePaths=\"/srv/it's 100%% full\"\nrate = 1\n" {
		t.Error(out)
	}

	// What the program refuses to render leaves the policy of before in force.
	policy := s.get("/etc/choria/policies/rego/logforward.rego")
	s.data("node", "mcollective_agent_logforward::operators:\n  roles:\n    reader: {actions: [explode]}\n")
	if out := s.apply(6); !strings.Contains(out, "explode") {
		t.Errorf("%s", out)
	}
	if s.get("/etc/choria/policies/rego/logforward.rego") != policy {
		t.Error("a policy with a fault is in force")
	}
	// Another operators' table is another policy, without a restart.
	s.data("node", "mcollective_agent_logforward::operators:\n  roles:\n    oncall: {about: root may pause, callers: [local=root], actions: [pause, resume]}\n")
	s.apply(2)
	s.apply(0)
	s.eventually("the new policy", func() bool { _, code := s.try("logforward", "pause", "--all"); return code == 0 })
	s.must("logforward", "resume", "--all")

	// A password is shown nowhere and nobody else's to read.
	s.data("node", "mcollective_agent_logforward::destinations:\n  second: {url: nats://127.0.0.1:1, user: n1, password: hunter2}\n")
	if out := s.apply(2); strings.Contains(out, "hunter2") {
		t.Errorf("the password is shown: %s", out)
	}
	if out := s.sh("stat -c %a /etc/choria/plugin.d/logforward.cfg"); out != "640\n" {
		t.Errorf("mode %s", out)
	}

	// Absent: what it put is gone; what was received, and what the node has confirmed, stays.
	s.must("systemctl", "stop", "logforward-forward.service", "logforward-receive.service")
	s.data("node", "mcollective_agent_logforward::ensure: absent\nmcollective_agent_logforward::receiver::ensure: absent\n")
	s.apply(2)
	s.apply(0)
	for _, path := range []string{"/etc/choria/plugin.d/logforward.cfg", "/etc/choria/logforward", "/etc/logforward/receive.cfg", "/etc/choria/policies/rego/logforward.rego", "/etc/choria/machine/logforward",
		"/opt/puppetlabs/mcollective/plugins/mcollective/agent/logforward", "/opt/puppetlabs/mcollective/plugins/mcollective/agent/logforward.json", "/usr/bin/logforward"} {
		if s.exists(path) {
			t.Errorf("%s is still there", path)
		}
	}
	arrived("app", "from before\nlater\n")
	if !s.exists("/var/lib/logforward/forward/forward.db") {
		t.Error("the checkpoints are gone")
	}
}
