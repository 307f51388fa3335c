package fleet

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"logforward/test/fleet/site"
)

// typed runs one line of a guide as it is typed on a node, whose files logforward takes, by somebody whose configuration
// choria takes.
func (f *fleet) typed(n *site.Node, config, line string) (string, error) {
	bin := filepath.Join(f.TempDir(), "bin")
	for name, script := range map[string]string{
		"choria":     fmt.Sprintf("#!/bin/sh\na=$1 b=$2; shift 2; exec %s $a $b --config %s \"$@\"\n", programs.Choria, config),
		"logforward": fmt.Sprintf("#!/bin/sh\nexec %s \"$@\" --config %s\n", programs.Logforward, n.Config()),
	} {
		if err := errors.Join(os.MkdirAll(bin, 0o755), os.WriteFile(filepath.Join(bin, name), []byte(script), 0o755)); err != nil {
			return "", err
		}
	}
	cmd := exec.CommandContext(f.ctx, "sh", "-euc", line)
	cmd.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + n.Dir, "USER=root", "MCOLLECTIVE_CERTNAME=" + f.admin.Name + ".mcollective"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", line, err, out)
	}
	return string(out), err
}

// What the guide says about changing a fleet is done, line by line: what waits is seen, a canary has it first, then the
// rest; another change goes by a governor; and one command takes it back.
func TestGuideToChangingAFleet(t *testing.T) {
	t.Parallel()
	blocks := guide(t, "Changing a fleet", "sh")
	if len(blocks) != 4 {
		t.Fatalf("the guide has %d blocks of commands", len(blocks))
	}
	f := newFleet(t, site.Certificates, 3)
	canary := f.nodes[0]
	// A fleet of three is changed one by one and without long pauses; its one broker keeps no copies.
	words := strings.NewReplacer("canary1.example.net", canary.Identity, "--batch 50 --batch-sleep 60", "--batch 1 --batch-sleep 1",
		"LOGFORWARD 10 5m 3", "LOGFORWARD 10 5m 1")
	steps := func(block int, wants ...string) [][2]string {
		t.Helper()
		typed := strings.Split(strings.TrimSpace(blocks[block]), "\n")
		if len(typed) != len(wants) {
			t.Fatalf("the block has %d lines, not %d: %q", len(typed), len(wants), typed)
		}
		all := make([][2]string, len(typed))
		for i := range typed {
			all[i] = [2]string{words.Replace(typed[i]), wants[i]}
		}
		return all
	}
	do := func(step [2]string) {
		t.Helper()
		out, err := f.typed(canary, f.admin.Config(), step[0])
		if f.must(err); !strings.Contains(out, step[1]) {
			t.Errorf("%s says nothing of %q:\n%s", step[0], step[1], out)
		}
	}
	has := func(n *site.Node, log string) bool {
		_, err := os.Stat(filepath.Join(n.Definitions(), log+".yaml"))
		return err == nil
	}
	all := func(log string, want bool) {
		t.Helper()
		for _, n := range f.nodes {
			if has(n, log) != want {
				t.Errorf("%s defines %s: %v", n.Name, log, !want)
			}
		}
	}
	text := lines("app", 0, 100)
	f.each(func(n *site.Node) error { return errors.Join(n.Write("app.log", text), n.Write("web.log", text)) })

	f.stage("app")
	for _, s := range steps(0, "1 starts", "1 starts: 3") {
		do(s)
	}
	apply := steps(1, "1 / 1 hosts", "1 / 1 hosts", "3 / 3 hosts")
	do(apply[0])
	f.must(f.receiver.Wait(f.ctx, canary, "app", text))
	if has(f.nodes[1], "app") || has(f.nodes[2], "app") {
		t.Error("the canary isn't alone")
	}
	do(apply[1])
	do(apply[2])
	all("app", true)
	f.each(func(n *site.Node) error { return f.receiver.Wait(f.ctx, n, "app", text) })

	f.stage("web")
	governed := steps(2, "", "")
	do(governed[0])
	f.each(func(n *site.Node) error {
		_, err := f.typed(n, n.ServerConfig(), governed[1][0])
		return err
	})
	all("web", true)
	f.each(func(n *site.Node) error { return f.receiver.Wait(f.ctx, n, "web", text) })

	do(steps(3, "done: 3")[0])
	all("web", false)
	all("app", true)
}
