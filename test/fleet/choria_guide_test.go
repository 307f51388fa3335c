package fleet

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"logforward/test/fleet/site"
)

// What the guide says about tokens is done, command by command: streams, a receiver, a node and an operator get tokens
// with the rights that they need and no others, and the operator has a log forwarded.
func TestGuideToTokens(t *testing.T) {
	t.Parallel()
	section := "Step by step, with tokens"
	commands, settings := guideTo(t, "choria.md", section, "sh"), guideTo(t, "choria.md", section, "ini")
	if len(commands) != 4 || len(settings) != 1 {
		t.Fatalf("the guide has %d blocks of commands and %d of settings", len(commands), len(settings))
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	dir, err := os.MkdirTemp("", "fleet-")
	if err != nil {
		t.Fatal(err)
	}
	s, err := site.Start(ctx, site.Config{Dir: dir, Security: site.Tokens, Choria: programs.Choria, Logforward: programs.Logforward, DDL: programs.DDL})
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{T: t, Site: s, ctx: ctx}
	t.Cleanup(func() { f.end(dir) })
	// A node whose server's token permits no logs yet, and a receiver that has nothing but its directories.
	n, err := s.AddNode("web1", site.NodeOptions{Subjects: []string{"none"}, Policies: map[string]string{"logforward.rego": "broken"}})
	f.must(err)
	f.nodes = append(f.nodes, n)
	f.receiver, err = s.AddReceiver("r1", nil)
	f.must(err)
	work, etc, logs := f.TempDir(), filepath.Dir(n.ServerConfig()), filepath.Dir(n.LogFile("x"))
	receive := filepath.Dir(f.receiver.Config())
	f.must(os.WriteFile(f.receiver.Config(), fmt.Appendf(nil, "output = %s\nstate = %s/state\ncommit_interval = 100ms\ncompress = none\n", f.receiver.Output(), receive), 0o600))
	f.must(s.Issue(work))
	table := read(t, "../../policies/operators.yaml")
	f.must(os.WriteFile(filepath.Join(work, "operators.yaml"), []byte(strings.ReplaceAll(table, "/var/log/app", logs)), 0o600))
	words := strings.NewReplacer(
		"/etc/choria/server.jwt", filepath.Join(etc, "token.jwt"), "/etc/choria/policies/rego", filepath.Dir(n.Policy()),
		"/etc/choria/client.conf", filepath.Join(work, "client.conf"), "/etc/choria/client", filepath.Join(work, "bob"), "/etc/choria/ca.pem", s.CA(),
		"nats://broker.example.net:4222", s.URL(), "/opt/puppetlabs/mcollective/plugins", filepath.Join(n.Dir, "lib"), "ISSUER-PUBLIC", read(t, filepath.Join(work, "issuer.public")),
		"/etc/logforward", receive, "chown logforward-receive", "chown root", "/var/log/app", logs,
	)
	f.must(os.WriteFile(filepath.Join(work, "client.conf"), []byte(words.Replace(settings[0])), 0o600))
	units := map[string]func() error{
		"enable --now logforward-receive": func() error { return f.receiver.Start(ctx) },
		"enable --now logforward-forward": func() error { return n.StartForwarder(ctx) },
		"restart choria-server":           func() error { return n.StartServer(ctx) },
	}
	bin := filepath.Join(work, "bin")
	f.must(os.MkdirAll(bin, 0o755))
	// do does a block, in which systemctl is what this test starts, with the settings' file of the daemon that it is about.
	do := func(config, block string) (printed string) {
		t.Helper()
		for name, script := range map[string]string{
			"choria":     fmt.Sprintf("[ $1 != req ] || set -- \"$@\" -I %s --config %s\nexec %s \"$@\"", n.Identity, filepath.Join(work, "client.conf"), programs.Choria), // named, it isn't searched for: two seconds each
			"logforward": fmt.Sprintf("[ $1 = policy ] || set -- \"$@\" --config %s\nexec %s \"$@\"", config, programs.Logforward),
		} {
			f.must(os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755))
		}
		for part := range strings.SplitSeq("\n"+words.Replace(block), "\nsystemctl ") {
			unit, rest, _ := strings.Cut(part, "\n")
			if start := units[unit]; start != nil {
				f.must(start())
			} else if unit != "" {
				t.Fatalf("nobody knows systemctl %s", unit)
			}
			cmd := exec.CommandContext(ctx, "sh", "-euc", rest)
			cmd.Dir = work
			cmd.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + work, "USER=root"}
			out, err := cmd.CombinedOutput()
			if printed += string(out); err != nil {
				t.Fatalf("%s%v: %s", rest, err, out)
			}
		}
		return printed
	}

	// Before, the node says what its token lacks, and the very command that gives it.
	public, err := exec.CommandContext(ctx, programs.Choria, "jwt", "keys", "--show-public", filepath.Join(etc, "token.seed")).Output()
	f.must(err)
	f.must(os.WriteFile(filepath.Join(work, "web1.public"), []byte(strings.TrimSpace(strings.TrimPrefix(string(public), "Public Key: "))), 0o600))
	lacks, _ := f.Command(ctx, "validate", "--config", n.Config())
	_, issue, _ := strings.Cut(string(lacks), "grant it with: choria jwt server ")
	first, _, _ := strings.Cut(commands[0], "\n")
	_, rights, named := strings.Cut(first, " --collectives ")
	if !named {
		t.Fatalf("the node's token is for no collective: %s", first)
	}
	for _, said := range strings.Split("collectives "+rights, " --") {
		if !strings.Contains(issue, said) {
			t.Errorf("validate says nothing of %s: %s", said, lacks)
		}
	}

	do("", commands[0])
	if printed := do(f.receiver.Config(), commands[1]); !strings.Contains(printed, "r1        alive  0,1,2,3") {
		t.Errorf("the receiver doesn't work: %s", printed)
	}
	if printed := do(n.Config(), commands[2]); !strings.Contains(printed, "receiver r1 answers; prefix logs, 4 partitions") {
		t.Errorf("the node isn't in order: %s", printed)
	}
	f.must(n.Server.Await(ctx, "Registering new agent logforward "))
	text := lines("web1", 0, 1000)
	f.must(n.Write("app.log", text))
	for line := range strings.Lines(commands[3]) {
		if printed := do("", line); !strings.Contains(printed, "1 / 1 hosts") || strings.Contains(printed, "not authorized") {
			t.Errorf("%s%s", line, printed)
		}
		if strings.Contains(line, " start ") {
			f.must(f.receiver.Wait(ctx, n, "app", text))
		}
	}
}
