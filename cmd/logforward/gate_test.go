package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/choria-io/tokens"

	"logforward/internal/audit"
	"logforward/internal/choria"
	"logforward/internal/control"
	"logforward/internal/policy"
)

const authpolicy = "package io.choria.mcorpc.authpolicy\n\nimport rego.v1\n\ndefault allow := false\n\nallow if count(rule) > 0\n\n"

func newGate(t *testing.T, text string) *gate {
	t.Helper()
	file := filepath.Join(t.TempDir(), "logforward.rego")
	write(t, file, text)
	anybody := func(context.Context, control.Caller, control.Request) error { return nil }
	return &gate{peers: anybody, policy: policy.Open(file), log: slog.New(slog.DiscardHandler)}
}

// Who may change every log may not change the audit log for that: a rule has to be about it.
func TestTheAuditLogIsNamed(t *testing.T) {
	g := newGate(t, authpolicy+`rule contains "all" if input.callerid in {"up=ops", "up=both"}

rule contains "paths" if {
	input.callerid == "up=paths"
	startswith(input.data.path, "/var/log/")
}

rule contains "books" if {
	input.callerid in {"up=auditor", "up=both"}
	input.data.log == "audit.logforward"
	input.action != "redirect"
}

rule contains "globs" if {
	input.callerid == "up=globs"
	glob.match("audit.*", null, input.data.log)
}

rule contains "wide" if {
	input.callerid == "up=wide"
	glob.match("*", null, input.data.log)
}
`)
	about := control.Request{Verb: control.VerbPause, Log: audit.LogName, Path: "/var/log/logforward/audit.log", Destination: "central"}
	for caller, may := range map[string]bool{"up=ops": false, "up=paths": false, "up=wide": false, "up=nobody": false, "up=auditor": true, "up=both": true, "up=globs": true} {
		for _, verb := range []string{control.VerbStop, control.VerbPause, control.VerbResume, control.VerbStart, control.VerbRedirect} {
			r := about
			r.Verb = verb
			want := may && !(verb == control.VerbRedirect && (caller == "up=auditor" || caller == "up=both"))
			if err := g.change(t.Context(), control.Caller{Name: caller}, r); (err == nil) != want {
				t.Errorf("%s %s: %v, want permitted %t", caller, verb, err, want)
			}
		}
		if err := g.ask(t.Context(), control.Caller{Name: caller}, control.Request{Verb: control.VerbStatus, Log: audit.LogName}); (err == nil) != (caller != "up=nobody" && caller != "up=paths") {
			t.Errorf("%s looks: %v", caller, err)
		}
	}
	g.policy = nil
	if err := g.change(t.Context(), control.Caller{Name: "local=root"}, about); !errors.Is(err, control.ErrRefused) {
		t.Errorf("without a policy: %v", err)
	}
	about.Log = "app"
	if err := g.change(t.Context(), control.Caller{Name: "local=root"}, about); err != nil {
		t.Errorf("another log without a policy: %v", err)
	}
}

// The path as it was typed and the one that it leads to must both be permitted; so must the time in all.
func TestBothEndsOfAPath(t *testing.T) {
	g := newGate(t, authpolicy+`rule contains "app" if {
	startswith(input.data.path, "/var/log/app/")
	input.data["for"] in {"4h", "1h"}
}
`)
	for _, c := range []struct {
		path, real string
		lasts, all time.Duration
		allowed    bool
	}{
		{"/var/log/app/a.log", "", time.Hour, 0, true},
		{"/var/log/app/a.log", "/var/log/app/b.log", time.Hour, 0, true},
		{"/var/log/app/a.log", "/etc/shadow", time.Hour, 0, false},
		{"/srv/a.log", "/var/log/app/b.log", time.Hour, 0, false},
		{"/var/log/app/a.log", "", time.Hour, 4 * time.Hour, true},
		{"/var/log/app/a.log", "", time.Hour, 4*time.Hour + time.Millisecond, false},
	} {
		r := control.Request{Verb: control.VerbStart, Log: "a", Path: c.path, Real: c.real, For: c.lasts, Total: c.all}
		if err := g.change(t.Context(), control.Caller{Name: "up=ops"}, r); (err == nil) != c.allowed {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// What a document may ask of the node is what Choria Server would tell it.
func TestWhatThePolicyKnowsOfTheNode(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	write(t, file("facts.json"), `{"environment":"production","n":7}`)
	write(t, file("more.yaml"), "n: 8\nsite: {name: ams}\n")
	write(t, file("classes.txt"), "web\napache worker\nbase\n")
	write(t, file("status.json"), `{"identity":"n1","provisioning_mode":true}`)
	config := "identity = n1.example.net\nplugin.security.provider = choria\nplugin.yaml = " + file("facts.json") + ":" + file("none.yaml") + ":" + file("more.yaml") +
		"\nclassesfile = " + file("classes.txt") + "\n"
	write(t, file("server.conf"), config)
	c, err := choria.Load(file("server.conf"))
	if err != nil {
		t.Fatal(err)
	}
	h := host{config: c}
	look := func(provisioned bool) {
		t.Helper()
		got, err := h.about()
		if err != nil {
			t.Fatal(err)
		}
		var facts map[string]any
		if err := json.Unmarshal(got.facts, &facts); err != nil || facts["environment"] != "production" || facts["n"] != 8.0 || facts["site"].(map[string]any)["name"] != "ams" {
			t.Errorf("facts %s (%v)", got.facts, err)
		}
		if strings.Join(got.classes, ",") != "apache worker,base,web" {
			t.Errorf("classes %q", got.classes)
		}
		if got.provision != provisioned {
			t.Errorf("provisioning %t", got.provision)
		}
	}
	look(false)
	write(t, file("server.conf"), config+"plugin.choria.server.provision = true\n") // takes effect without a restart
	look(true)
	write(t, file("server.conf"), config+"plugin.choria.status_file_path = "+file("status.json")+"\nplugin.choria.server.provision = 0\n")
	look(true)
	write(t, file("status.json"), `{"provisioning_mode":false}`)
	look(false)
	old := time.Now().Add(-10 * time.Minute) // nobody writes it any more
	if err := os.Chtimes(file("status.json"), old, old); err != nil {
		t.Fatal(err)
	}
	write(t, file("server.conf"), config+"plugin.choria.status_file_path = "+file("status.json")+"\nplugin.choria.server.provision = yes\n")
	look(true)
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, byDefault := range []bool{true, false} { // the token of Choria's packages, for what isn't said
		claims, err := tokens.NewProvisioningClaims(true, byDefault, "secret", "", "", []string{"nats://localhost:4222"}, "", "", "", "", "", time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		token, err := tokens.SignToken(claims, key)
		if err != nil {
			t.Fatal(err)
		}
		write(t, file("provisioning.jwt"), token)
		write(t, file("server.conf"), config)
		look(byDefault)
		write(t, file("server.conf"), config+"plugin.choria.server.provision = false\n")
		look(false)
		if err := os.Remove(file("server.conf")); err != nil {
			t.Fatal(err)
		}
		look(true)
	}
	write(t, file("server.conf"), config+"plugin.choria.server.provision = false\n")
	// What can't be read isn't taken for nothing: a document may forbid by it. Reads go on.
	g := newGate(t, authpolicy+"rule contains \"test\" if not input.facts.environment == \"production\"\n")
	g.host = h
	write(t, file("more.yaml"), "n: [\n")
	for verb, want := range map[string]bool{control.VerbStop: false, control.VerbStatus: true} {
		do := g.change
		if verb == control.VerbStatus {
			do = g.ask
		}
		if err := do(t.Context(), control.Caller{Name: "up=ops"}, control.Request{Verb: verb, Log: "app"}); (err == nil) != want {
			t.Errorf("%s: %v", verb, err)
		}
	}
}

// Who is refused again and again gets a few lines at once and one that tells how often; what is permitted has a line each time.
func TestTheGateCountsRepeatedRefusals(t *testing.T) {
	g := newGate(t, authpolicy+`rule contains "alice" if input.callerid == "up=alice"
`)
	file := filepath.Join(t.TempDir(), "audit.log")
	g.audit = audit.New(file, "n1", 0, 0)
	r := control.Request{Verb: control.VerbPause, Log: "app", Path: "/var/log/app.log", Destination: "central"}
	for range 50 {
		if err := g.change(t.Context(), control.Caller{Name: "up=eve"}, r); !errors.Is(err, control.ErrRefused) {
			t.Fatal(err)
		}
		if err := g.change(t.Context(), control.Caller{Name: "up=alice"}, r); err != nil {
			t.Fatal(err)
		}
	}
	// What stops a running log is no repeat of anything.
	for range 2 {
		if runs, err := g.stands(t.Context(), control.Caller{Name: "up=eve"}, r, true); runs || err != nil {
			t.Fatal(runs, err)
		}
	}
	if err := g.audit.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var allowed, running int
	var counts []uint64
	for line := range strings.Lines(string(b)) {
		var e struct{ Data audit.Decision }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		switch {
		case e.Data.Allowed:
			allowed++
		case e.Data.Route == routeRunning:
			running++
		default:
			counts = append(counts, e.Data.Count)
		}
	}
	if allowed != 50 || running != 2 || len(counts) != 7 || counts[0] != 1 || counts[6] != 44 {
		t.Errorf("%d permitted, %d running, refused %v", allowed, running, counts)
	}
}

// A document that can't decide denies a change, and changes nothing of what runs.
func TestWhatCannotBeDecidedStopsNothing(t *testing.T) {
	g := newGate(t, "package io.choria.mcorpc.authpolicy\n\nimport rego.v1\n\nallow if 1 / input.ttl > 0\n")
	r := control.Request{Verb: control.VerbStart, Log: "a", Path: "/var/log/a"}
	if err := g.change(t.Context(), control.Caller{Name: "up=ops"}, r); !errors.Is(err, control.ErrRefused) {
		t.Errorf("a change: %v", err)
	}
	for _, was := range []bool{true, false} {
		if is, err := g.stands(t.Context(), control.Caller{Name: "up=ops"}, r, was); is != was || err == nil {
			t.Errorf("what runs: %t, was %t: %v", is, was, err)
		}
	}
	if is, err := g.stands(t.Context(), control.Caller{Name: "up=ops", TTL: 1}, r, false); !is || err != nil {
		t.Errorf("%t, %v", is, err)
	}
}

// A question that names only a log is decided on with that log's path and destination, as a change is.
func TestQuestionsAreAboutALogsPath(t *testing.T) {
	g := newGate(t, authpolicy+"rule contains \"app\" if startswith(input.data.path, \"/var/log/app/\")\n")
	g.known = func(_ control.Caller, r control.Request) control.Request {
		r.Path = map[string]string{"a": "/var/log/app/a.log", "b": "/var/log/b.log"}[r.Log]
		return r
	}
	for log, may := range map[string]bool{"a": true, "b": false, "c": false, "": false} {
		if err := g.ask(t.Context(), control.Caller{Name: "up=ops"}, control.Request{Verb: control.VerbStatus, Log: log}); (err == nil) != may {
			t.Errorf("status of %q: %v", log, err)
		}
	}
}
