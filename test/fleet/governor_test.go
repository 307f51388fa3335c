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

// Nodes that all want to apply a change at once do it one after another where a governor of Choria's says so.
func TestGovernorLetsOneNodeAfterAnotherApply(t *testing.T) {
	t.Parallel()
	f := newFleet(t, site.Certificates, 3)
	_, err := f.admin.Choria(f.ctx, "governor", "add", "LOGFORWARD", "1", "5m", "1")
	f.must(err)
	text := lines("governed", 0, 200)
	f.each(func(n *site.Node) error { return n.Write("app.log", text) })
	f.stage("app")
	// Each notes when it begins and ends; the look at whether it went well keeps it a moment.
	book := filepath.Join(t.TempDir(), "book")
	script := filepath.Join(t.TempDir(), "apply")
	f.must(os.WriteFile(script, fmt.Appendf(nil, "#!/bin/sh\nset -e\necho begin $1 >> %[1]s\n%[2]s apply --config $1 > /dev/null\n%[2]s plan --config $1 > /dev/null\necho end $1 >> %[1]s\n", book, programs.Logforward), 0o755))
	f.each(func(n *site.Node) error {
		cmd := exec.CommandContext(f.ctx, programs.Choria, "governor", "run", "LOGFORWARD", "--interval", "1s", "--max-wait", "50s", "--config", n.ServerConfig(), script, n.Config())
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + n.Dir, "USER=root"}
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	entries := strings.Split(strings.TrimSpace(read(t, book)), "\n")
	if len(entries) != 6 {
		t.Fatalf("%q", entries)
	}
	for i := 0; i < len(entries); i += 2 {
		begin, end := strings.Fields(entries[i]), strings.Fields(entries[i+1])
		if begin[0] != "begin" || end[0] != "end" || begin[1] != end[1] {
			t.Errorf("two at once: %q", entries)
		}
	}
	f.each(func(n *site.Node) error {
		if _, err := os.Stat(n.Staged()); !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%s hasn't applied it", n.Name)
		}
		return f.receiver.Wait(f.ctx, n, "app", text)
	})
}
