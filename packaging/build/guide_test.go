package main

import (
	"context"
	"os"
	"regexp"
	"strings"
	"testing"
)

// guide gives the blocks of a language in a section of docs/rollout.md.
func guide(t *testing.T, section, language string) (blocks []string) {
	t.Helper()
	b, err := os.ReadFile("../../docs/rollout.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(b), "\n## "+section+"\n")
	if !found {
		t.Fatalf("no section %q", section)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	for _, m := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(text, -1) {
		blocks = append(blocks, m[1])
	}
	if len(blocks) == 0 {
		t.Fatalf("no %s in %q", language, section)
	}
	return blocks
}

// What the guide says about packages is done, command by command, and a node forwards.
func TestGuideToPackages(t *testing.T) {
	file := deb(t, newer)
	r := newRoot(t)
	r.bring(file, "/tmp/logforward_1.0.0_amd64.deb")
	r.put("/usr/bin/systemctl", strings.Replace(systemctl, "disable) [", "enable) [ \"$1\" = --now ]; shift; for u; do start $u.service; done ;;\ndisable) [", 1), 0o755)
	r.put("/var/log/dpkg.log", "what was installed\n", 0o600)
	url := "nats://127.0.0.1:" + freePort(t)
	r.sh("dpkg-deb -x /tmp/logforward_1.0.0_amd64.deb /tmp/x && cp /tmp/x/usr/bin/logforward /tmp/broker-program")
	broker := r.command(context.Background(), "/tmp/broker-program", "broker", "--listen", strings.TrimPrefix(url, "nats://"), "--store", "/tmp/broker")
	if err := broker.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = broker.Process.Kill()
		_ = broker.Wait()
	})
	for _, block := range guide(t, "By package", "sh") {
		r.sh("cd /tmp\n" + strings.ReplaceAll(strings.ReplaceAll(block, "nats://broker.example.net:4222", url), "logforward status\n", "until logforward status; do sleep 0.2; done\n"))
	}
	central := ""
	r.eventually("the log to arrive", func() bool {
		central, _ = r.try("sh", "-c", "cat /var/lib/logforward/received/*/dpkg.log")
		return strings.HasPrefix(central, "what was installed\n")
	})
	if out := r.must("readlink", "-e", "/etc/choria/machine/logforward/machine.yaml"); out != "/usr/share/logforward/machine/logforward/machine.yaml\n" {
		t.Errorf("the machine: %s", out)
	}
}

// What the guide has in Hiera is a node and a receiver.
func TestGuideToPuppet(t *testing.T) {
	s := newSite(t, "")
	blocks := guide(t, "By Puppet", "yaml")
	if len(blocks) != 2 {
		t.Fatalf("%d blocks", len(blocks))
	}
	text := strings.Join(blocks, "")
	s.data("common", strings.ReplaceAll(text, "nats://broker.example.net:4222", s.url)+`
mcollective_agent_logforward::install::provider: dpkg
mcollective_agent_logforward::install::source: /tmp/logforward.deb
mcollective_agent_logforward::manage_service: false
mcollective_agent_logforward::receiver::manage_service: false
`)
	s.put("/var/log/dpkg.log", "what was installed\n", 0o600)
	s.put("/etc/puppet/test/site.pp", "include mcollective\ninclude mcollective_agent_logforward::receiver\n", 0o644)
	s.apply(2)
	s.apply(0)
	s.must("systemctl", "start", "logforward-receive.service", "logforward-forward.service")
	s.eventually("the log to arrive", func() bool {
		out, _ := s.try("sh", "-c", "cat /var/lib/logforward/received/*/dpkg.log")
		return strings.HasPrefix(out, "what was installed\n")
	})
	if out, code := s.try("logforward", "pause", "--all"); code != 3 {
		t.Errorf("the guide's policy lets root pause all: %d %s", code, out)
	}
}
