package policy

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"logforward/policies"
)

const head = "package io.choria.mcorpc.authpolicy\n\nimport rego.v1\n\n"

func put(t testing.TB, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func alice(action string) Input {
	return Input{
		Agent: "logforward", Action: action, CallerID: "choria=alice.mcollective", Collective: "mcollective", Time: time.Now(),
		Data: map[string]any{"log": "app"}, Facts: json.RawMessage(`{"environment":"test"}`), Classes: []string{"web"},
	}
}

func TestDecide(t *testing.T) {
	file := filepath.Join(t.TempDir(), "logforward.rego")
	p := Open(file)
	for _, c := range []struct {
		name, text, action string
		allowed            bool
		says               string // the rule, or why not
	}{
		{"allow alone", "allow if input.action == \"pause\"", "pause", true, "allow"},
		{"denied", "default allow := false\n\nallow if input.action == \"pause\"", "stop", false, "doesn't let choria=alice.mcollective stop"},
		{"undefined", "allow if input.action == \"pause\"", "stop", false, "neither true nor false"},
		{"no boolean", "allow := \"yes\"", "stop", false, "neither true nor false"},
		{"empty", "", "stop", false, "neither true nor false"},
		{"a rule", "allow := true\n\nrule := \"oncall\"", "stop", true, "oncall"},
		{"rules", "allow := true\n\nrule contains n if some n in [\"b\", \"a\"]", "stop", true, "a, b"},
		{"a rule of another type", "allow := true\n\nrule := 7", "stop", true, "allow"},
		{"a rule that breaks", "allow := true\n\nrule := 1 / 0", "stop", true, "allow"},
		{"all of the input", "allow if {\n input.agent == \"logforward\"\n input.data.log == \"app\"\n input.facts.environment == \"test\"\n \"web\" in input.classes\n input.collective == \"mcollective\"\n time.parse_rfc3339_ns(input.time) > 0\n}", "stop", true, "allow"},
		{"syntax", "allow if {", "stop", false, "broken"},
		{"division by zero", "allow if 1 / (input.ttl - input.ttl) > 0", "stop", false, "divide"},
		{"reaching out", "allow if http.send({\"method\": \"get\", \"url\": \"http://127.0.0.1:1\"}).status_code == 200", "stop", false, "http.send"},
		{"environment", "allow if opa.runtime().env.HOME", "stop", false, "opa.runtime"},
		{"conflict", "allow := true if input.action\n\nallow := false if input.action", "stop", false, "can't decide"},
	} {
		put(t, file, head+c.text)
		d := p.Decide(t.Context(), alice(c.action))
		if d.Allowed != c.allowed || !strings.Contains(d.Rule+d.Reason, c.says) || len(d.Digest) != 64 {
			t.Errorf("%s: %+v", c.name, d)
		}
	}
	put(t, file, "package other\n\nallow := true\n")
	if d := p.Decide(t.Context(), alice("stop")); d.Allowed || !strings.Contains(d.Reason, "its package is other") {
		t.Errorf("%+v", d)
	}
}

// Each change of the file counts at once, and so does its end.
func TestChanges(t *testing.T) {
	file := filepath.Join(t.TempDir(), "logforward.rego")
	p := Open(file)
	if d := p.Decide(t.Context(), alice("stop")); d.Allowed || !strings.Contains(d.Reason, "there is no policy") || d.Digest != "" {
		t.Errorf("%+v", d)
	}
	put(t, file, head+"allow := true")
	first := p.Decide(t.Context(), alice("stop"))
	if !first.Allowed {
		t.Errorf("%+v", first)
	}
	other := file + ".new" // of the same size
	put(t, other, head+"allow := nope")
	if err := os.Rename(other, file); err != nil {
		t.Fatal(err)
	}
	if d := p.Decide(t.Context(), alice("stop")); d.Allowed || d.Digest == first.Digest {
		t.Errorf("%+v", d)
	}
	put(t, file, head+"allow := true")
	if d := p.Decide(t.Context(), alice("stop")); !d.Allowed || d.Digest != first.Digest {
		t.Errorf("%+v", d)
	}
	if err := os.Chmod(file, 0o666); err != nil {
		t.Fatal(err)
	}
	if d := p.Decide(t.Context(), alice("stop")); d.Allowed || !strings.Contains(d.Reason, "written by others") {
		t.Errorf("%+v", d)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if p.Err(t.Context()) == nil {
		t.Error("allowed without a policy")
	}
	if err := os.Mkdir(file, 0o700); err != nil {
		t.Fatal(err)
	}
	if d := p.Decide(t.Context(), alice("stop")); d.Allowed {
		t.Errorf("%+v", d)
	}
}

// Two writes within one tick of the file system's clock, of the same size: the last one counts.
func TestChangesWithinATick(t *testing.T) {
	file := filepath.Join(t.TempDir(), "logforward.rego")
	p := Open(file)
	for i := range 50 {
		for text, allowed := range map[string]bool{"allow := true ": true, "allow := false": false} {
			put(t, file, head+text)
			if d := p.Decide(t.Context(), alice("stop")); d.Allowed != allowed {
				t.Fatalf("round %d: %q gives %+v", i, text, d)
			}
		}
	}
}

// A document that doesn't end is a denial, and soon.
func TestEndless(t *testing.T) {
	file := filepath.Join(t.TempDir(), "logforward.rego")
	put(t, file, head+"allow if count([1 | some a in numbers.range(1, 100000); some b in numbers.range(1, 100000); a * b == 7]) > 0")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	if d := Open(file).Decide(ctx, alice("stop")); d.Allowed || time.Since(began) > time.Minute {
		t.Errorf("%+v after %s", d, time.Since(began))
	}
}

// The one that comes with logforward is one that this package takes.
func TestShipped(t *testing.T) {
	b, err := policies.Files.ReadFile("logforward.rego")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "logforward.rego")
	put(t, file, string(b))
	in := alice("status")
	if d := Open(file).Decide(t.Context(), in); !d.Allowed || d.Rule != "reader" {
		t.Errorf("%+v", d)
	}
	in.Action = "start"
	if d := Open(file).Decide(t.Context(), in); d.Allowed {
		t.Errorf("%+v", d)
	}
}

func callers(n int) string {
	var b strings.Builder
	b.WriteString(head + "callers := {\n")
	for i := range n {
		fmt.Fprintf(&b, "\t\"up=caller%d\",\n", i)
	}
	b.WriteString("}\n\nallow if input.callerid in callers\n")
	return b.String()
}

func BenchmarkDecide(b *testing.B) {
	file := filepath.Join(b.TempDir(), "logforward.rego")
	put(b, file, callers(10000))
	p := Open(file)
	in := alice("pause")
	in.CallerID = "up=caller9999"
	for b.Loop() {
		if d := p.Decide(b.Context(), in); !d.Allowed {
			b.Fatal(d)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	text, err := policies.Files.ReadFile("logforward.rego")
	if err != nil {
		b.Fatal(err)
	}
	file := filepath.Join(b.TempDir(), "logforward.rego")
	put(b, file, string(text))
	for b.Loop() {
		if err := Open(file).Err(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
