package agent

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
)

// A plan of thousands of logs fits a reply, and shows what changes before what stays.
func TestPlanOfThousandsOfLogsFits(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.must(os.MkdirAll(h.path("staged/forwarders.d"), 0o755))
	for n := range 3000 {
		text := fmt.Appendf(nil, "log: app-%04d\npath: %s\ndestination: central\n", n, h.path(fmt.Sprintf("log/%04d.log", n)))
		h.must(os.WriteFile(h.path(fmt.Sprintf("staged/forwarders.d/app-%04d.yaml", n)), text, 0o644))
		if n < 2990 { // the last ones are new
			h.must(os.WriteFile(h.path(fmt.Sprintf("forwarders/app-%04d.yaml", n)), text, 0o644))
		}
	}
	r := h.ask("plan", nil)
	h.says(r, codeOK, "changes", "10 starts, 2990 stays", "aren't shown")
	logs, _ := r.Data["logs"].(map[string]any)
	if _, there := logs["app-2999"]; !there || len(logs) >= 3000 {
		t.Errorf("%d logs, without the last one", len(logs))
	}
	if b, err := json.Marshal(r); err != nil || len(b) > 400<<10 {
		t.Errorf("a reply of %d bytes, %v", len(b), err)
	}
}

// Whoever asks by Choria is the one that policy decides on, and a fault is told before anything is done.
func TestPlanIsAppliedForWhomPolicyLets(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	config, err := os.ReadFile(h.path("logforward.cfg"))
	h.must(err)
	h.must(os.WriteFile(h.path("logforward.cfg"), []byte(strings.ReplaceAll(string(config), "policy = peers", "policy = "+h.path("p.rego"))), 0o644))
	document := "package io.choria.mcorpc.authpolicy\nimport rego.v1\ndefault allow := false\nallow if {\n\tinput.callerid == \"%s\"\n\tinput.collective == \"mcollective\"\n}\n"
	h.must(os.WriteFile(h.path("p.rego"), fmt.Appendf(nil, document, "choria=bob.mcollective"), 0o644))
	h.says(h.ask("plan", nil), codeAborted, "", "not permitted for choria=alice.mcollective")
	h.says(h.as("choria=bob.mcollective", "plan", nil), codeOK, "nothing staged")
	h.says(h.ask("apply", nil), codeAborted, "", "not permitted for choria=alice.mcollective")
	h.must(os.WriteFile(h.path("p.rego"), fmt.Appendf(nil, document, "choria=alice.mcollective"), 0o644))
	h.says(h.ask("apply", nil), codeOther, "", "nothing is staged")
	h.says(h.ask("rollback", nil), codeOther, "", "nothing was applied here yet")
	h.stage("log: staged\npath: /etc/shadow\ndestination: central\n")
	h.says(h.ask("plan", nil), codeOK, "faulty", "/etc/shadow")
	h.says(h.ask("apply", nil), codeAborted, "", "/etc/shadow")
	h.stage("log: staged\npath: " + h.path("log/staged.log") + "\ndestination: central\n")
	h.says(h.ask("plan", nil), codeOK, "changes", "1 starts", "policy allows")
	h.says(h.ask("apply", nil), codeOK, "done")
	if _, err := os.Stat(h.path("forwarders/staged.yaml")); err != nil {
		t.Error(err)
	}
	h.says(h.ask("rollback", nil), codeOK, "done")
	if _, err := os.Stat(h.path("forwarders/staged.yaml")); err == nil {
		t.Error("what was staged is still in force")
	}
	book, err := os.ReadFile(h.path("audit.log"))
	h.must(err)
	for _, want := range []string{`"action":"apply","allowed":false`, `"action":"apply","allowed":true`, `"action":"rollback","allowed":true`, `"collective":"mcollective"`} {
		if !strings.Contains(string(book), want) {
			t.Errorf("no %s in %s", want, book)
		}
	}
}
