package agent

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"logforward/internal/audit"
	"logforward/policies"
)

// as is a request by another caller.
func (h *host) as(caller, action string, data inputs) reply {
	h.Helper()
	e := h.envelope(action, data)
	e["callerid"] = caller
	b, err := json.Marshal(e)
	h.must(err)
	return h.send(b)
}

// decisions are the lines of the audit log.
func (h *host) decisions() (all []audit.Decision) {
	h.Helper()
	b, err := os.ReadFile(h.path("audit.log"))
	h.must(err)
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		var line struct{ Data audit.Decision }
		h.must(json.Unmarshal(s.Bytes(), &line))
		all = append(all, line.Data)
	}
	return all
}

// The daemon decides by the policy itself, with what it knows of a log: whoever asks, and whichever way.
func TestPolicy(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	config, err := os.ReadFile(h.path("logforward.cfg"))
	h.must(err)
	h.must(os.WriteFile(h.path("logforward.cfg"), bytes.Replace(config, []byte("policy = peers"), []byte("policy = "+h.path("logforward.rego")), 1), 0o644))
	h.must(os.WriteFile(h.path("log/app.log"), nil, 0o644))
	h.must(os.WriteFile(h.path("forwarders/app.yaml"), []byte("log: app\npath: "+h.path("log/app.log")+"\ndestination: central\n"), 0o644))
	h.start()
	pause := inputs{"log": "app", "for": "1h", "reason": "disk"}

	h.says(h.as("up=oncall-eve", "pause", pause), codeAborted, "", "there is no policy", "peers")
	if r := h.as("up=oncall-eve", "status", nil); r.Code != codeOK {
		t.Errorf("a node without a policy doesn't say how it stands: %+v", r)
	}
	h.must(os.WriteFile(h.path("logforward.rego"), []byte("package io.choria.mcorpc.authpolicy\n\nallow if {"), 0o600))
	h.says(h.as("up=oncall-eve", "pause", pause), codeAborted, "", "broken")
	h.says(h.ask("list", nil), codeOK, "defined", "active")

	text, err := policies.Files.ReadFile("logforward.rego")
	h.must(err)
	h.must(os.WriteFile(h.path("logforward.rego"), bytes.ReplaceAll(text, []byte("/var/log/"), []byte(h.path("log/"))), 0o600))
	h.says(h.as("up=oncall-eve", "pause", inputs{"log": "app", "for": "5h", "reason": "disk"}), codeAborted, "", "up=oncall-eve pause")
	h.says(h.as("up=oncall-eve", "pause", inputs{"log": "app", "for": "1h"}), codeAborted, "")
	h.says(h.as("up=oncall-eve", "pause", pause), codeOK, "paused")
	// What the request doesn't say, the node fills in: this log's path is not one of operators'.
	h.says(h.as("up=ops-bob", "stop", inputs{"log": "app"}), codeAborted, "", "up=ops-bob stop")
	h.says(h.as("up=ops-bob", "redirect", inputs{"log": "app", "destination": "central"}), codeAborted, "")
	// Root of this machine is a caller that policy limits, too, and nobody else is it.
	if out, err := h.command("stop", "app").CombinedOutput(); err == nil || !strings.Contains(string(out), "local=root") {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := h.command("resume", "app", "--reason", "done").CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	h.says(h.as("local=root", "pause", pause), codeAborted, "", "local=root")
	h.says(h.as("local=alice", "pause", pause), codeAborted, "", "only the kernel names")

	last := h.decisions()
	allowed, refused := 0, 0
	for _, d := range last {
		switch {
		case d.Allowed && (d.Rule != "oncall" || len(d.Policy) != 64 || d.Inputs["path"] != h.path("log/app.log") || d.Inputs["destination"] != "central"):
			t.Errorf("%+v", d)
		case d.Allowed:
			allowed++
		case d.Reason == "":
			t.Errorf("%+v", d)
		default:
			refused++
		}
	}
	if allowed != 2 || refused < 7 {
		t.Errorf("%d allowed and %d refused in the audit log", allowed, refused)
	}
	// A wish is decided like any other request.
	h.stop()
	h.says(h.as("up=ops-bob", "stop", inputs{"log": "app"}), codeOK, recorded)
	h.says(h.as("up=oncall-eve", "pause", pause), codeOK, recorded)
	h.start()
	h.eventually("the wishes to be decided on", func() error {
		if names, err := os.ReadDir(h.path("wishes")); err != nil || len(names) > 0 {
			return os.ErrExist
		}
		return nil
	})
	h.eventually("the pause to be seen", func() error {
		if r := h.as("up=anybody", "status", nil); r.Data["state"] != "paused" || !strings.Contains(fmt.Sprint(r.Data["logs"]), "pause by up=oncall-eve") {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	for _, d := range h.decisions()[len(last):] {
		if d.Route != "wish" || d.Allowed != (d.Caller == "up=oncall-eve") {
			t.Errorf("%+v", d)
		}
	}
}
