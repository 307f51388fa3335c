package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// What is typed wrongly is answered about what was typed, and what is empty has no headings.
func TestHintsAreAboutWhatWasTyped(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, c := range []struct {
		args []string
		code int
		says string
		not  string
	}{
		{[]string{"fleet"}, exitUsage, "Try: logforward fleet --help", ""},
		{[]string{"nonsense"}, exitUsage, "Try: logforward --help", ""},
		{[]string{"ledger", filepath.Base(dir) + "/app@ledger.jsonl", "--output", dir}, exitUsage, "app@ledger.jsonl: no such file", "is that the receivers'"},
		{[]string{"plan", "--staged", dir + "/staged", "--socket", dir + "/s", "--policy", "peers"}, exitOK, "nothing staged", "CHANGE"},
	} {
		code, out, errText := once(t, c.args...)
		if all := out + errText; code != c.code || !strings.Contains(all, c.says) || c.not != "" && strings.Contains(all, c.not) {
			t.Errorf("%q: %d %s", c.args, code, all)
		}
	}
}
