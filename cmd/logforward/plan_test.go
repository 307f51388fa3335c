package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"logforward/internal/audit"
)

// staging has a site's staged and former sets below its directory.
func staging(t *testing.T) *site {
	t.Helper()
	s := newSite(t)
	s.set("staged = " + s.dir + "/staged")
	s.set("former = " + s.dir + "/former")
	s.append("a.log", "a\n")
	s.append("b.log", "b\n")
	s.define("a", "log: a\npath: LOGS/a.log\nstart: beginning\n")
	s.define("b", "log: b\npath: LOGS/b.log\nstart: beginning\n")
	return s
}

func (s *site) stage(name, text string) {
	s.t.Helper()
	write(s.t, s.dir+"/staged/"+name, strings.ReplaceAll(text, "LOGS", s.logs))
}

func (s *site) plan() (r planned) {
	s.t.Helper()
	_, out, errText := once(s.t, "plan", "--json", "--config", s.config)
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		s.t.Fatalf("%v in %s %s", err, out, errText)
	}
	return r
}

// told is each log and what becomes of it.
func (r planned) told() string {
	var all []string
	for _, l := range r.Logs {
		all = append(all, l.Log+" "+l.Change)
	}
	return strings.Join(all, ", ")
}

func TestPlanTellsWhatWouldBeAndApplyDoesItAndRollbackUndoesIt(t *testing.T) {
	t.Parallel()
	s := staging(t)
	s.startAll()
	s.arrives("a", "a\n")
	s.arrives("b", "b\n")
	if r := s.plan(); r.State != planNothing || r.told() != "a stays, b stays" || r.Files != 2 {
		t.Errorf("%+v", r)
	}
	if code, _, errText := once(t, "apply", "--config", s.config); code == 0 || !strings.Contains(errText, "nothing is staged") {
		t.Errorf("%d %s", code, errText)
	}
	s.stage("forwarders.d/a.yaml", "log: a\npath: LOGS/a.log\nstart: beginning\nrate: 1MiB/s\n")
	s.stage("forwarders.d/c.yaml", "log: c\npath: LOGS/c/*.log\nstart: beginning\n")
	s.append("c/1.log", "one\n")
	s.append("c/2.log", "two\n")
	// A file that grows meanwhile shows how fast.
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				s.append("c/2.log", strings.Repeat("more\n", 10))
			}
		}
	}()
	r := s.plan()
	close(stop)
	<-stopped
	if r.State != planChanges || r.told() != "a changes, b stops, c starts" || r.Summary != "1 starts, 1 stops, 1 changes" || r.Restart || r.Files != 3 {
		t.Errorf("%+v", r)
	}
	if l := r.Logs[2]; l.Files != 2 || l.Rate < 1000 || l.Destination != "central" || r.Rate < 1000 {
		t.Errorf("%+v", l)
	}
	if !strings.Contains(r.Logs[0].Note, "rate was (none)") {
		t.Errorf("%+v", r.Logs[0])
	}
	if _, err := os.Stat(s.dir + "/forwarders.d/c.yaml"); err == nil {
		t.Error("a plan changed what is in force")
	}

	code, out, errText := once(t, "plan", "--apply", "--config", s.config)
	if code != 0 || !strings.Contains(out, "logforward rollback") {
		t.Fatalf("%d %s %s", code, out, errText)
	}
	s.arrives("c.1.log", "one\n")
	eventually(t, "b is stopped", func() bool {
		var l struct{ Forwarders []struct{ Log string } }
		s.ask(&l, "list")
		return len(l.Forwarders) == 2
	})
	if r := s.plan(); r.State != planNothing || r.told() != "a stays, c stays" {
		t.Errorf("%+v", r)
	}
	s.append("b.log", "while it was stopped\n")
	if code, out, errText := once(t, "rollback", "--config", s.config); code != 0 {
		t.Fatalf("%d %s %s", code, out, errText)
	}
	s.arrives("b", "b\nwhile it was stopped\n")
	if r := s.plan(); r.told() != "a stays, b stays" {
		t.Errorf("%+v", r)
	}
}

func TestPlanTellsOfSettingsAndPolicy(t *testing.T) {
	t.Parallel()
	s := staging(t)
	s.set("policy = " + s.dir + "/p.rego")
	document := func(action string) string {
		return "package io.choria.mcorpc.authpolicy\nimport rego.v1\ndefault allow := false\nallow if {\n\tinput.action == \"" + action + "\"\n\tinput.data.log == \"c\"\n}\nallow if input.action == \"apply\"\n"
	}
	write(t, s.dir+"/p.rego", document("stop"))
	s.stage("logforward.cfg", strings.ReplaceAll(read(t, s.config), "destination.central.url", "rate = 5MiB/s\ndestination.central.user = n1\ndestination.central.password = hunter2\ndestination.central.url"))
	s.stage("forwarders.d/c.yaml", "log: c\npath: LOGS/c.log\n")
	s.stage("forwarders.d/d.yaml", "log: d\npath: LOGS/d.log\n")
	s.stage("logforward.rego", document("start"))
	r := s.plan()
	if r.State != planChanges || !r.Restart || r.Policy != planChanges || len(r.Settings) != 3 || r.told() != "a stops, b stops, c starts, d starts" {
		t.Errorf("%+v", r)
	}
	if b, _ := json.Marshal(r); strings.Contains(string(b), "hunter2") {
		t.Errorf("a secret is shown: %s", b)
	}
	if r.Logs[2].Verdict != "allows allow" || r.Logs[3].Verdict != "denies" {
		t.Errorf("%+v", r.Logs)
	}
	if code, out, _ := once(t, "plan", "--config", s.config); code != 0 || !strings.Contains(out, "setting rate: 0 → 5MiB/s") || !strings.Contains(out, "restarted") {
		t.Errorf("%d %s", code, out)
	}
	// For somebody else, policy decides on the change itself, and it is in the audit log either way.
	if code, _, errText := once(t, "rollback", "--config", s.config, "--caller", "choria=eve.mcollective"); code != exitRefused || !strings.Contains(errText, "not permitted for choria=eve.mcollective") {
		t.Errorf("%d %s", code, errText)
	}
	if code, _, errText := once(t, "apply", "--config", s.config, "--caller", "choria=alice.mcollective"); code != 0 {
		t.Errorf("%d %s", code, errText)
	}
	if book := read(t, s.dir+"/audit.log"); !strings.Contains(book, `"action":"rollback","allowed":false`) || !strings.Contains(book, `"action":"apply","allowed":true`) {
		t.Errorf("%s", book)
	}
	if !strings.Contains(read(t, s.config), "5MiB/s") || !strings.Contains(read(t, s.dir+"/p.rego"), "start") {
		t.Error("not all of it is in force")
	}
	if code, _, errText := once(t, "rollback", "--config", s.config); code != 0 {
		t.Errorf("%d %s", code, errText)
	}
	if strings.Contains(read(t, s.config), "5MiB/s") || strings.Contains(read(t, s.dir+"/p.rego"), "start") {
		t.Error("not all of it is as before")
	}
}

// A change of the whole set that somebody asked for by Choria is decided on as on any other route: with its time to live, by
// a caller whom only Choria can have named, and once.
func TestAnOperatorsPlanIsDecidedOn(t *testing.T) {
	t.Parallel()
	s := staging(t)
	s.set("policy = " + s.dir + "/p.rego")
	write(t, s.dir+"/p.rego", "package io.choria.mcorpc.authpolicy\nimport rego.v1\ndefault allow := false\nallow if {\n\tinput.callerid in {\"up=ops\", \"local=root\"}\n\tinput.ttl > 0\n\tinput.ttl <= 60\n}\n")
	s.stage("forwarders.d/c.yaml", "log: c\npath: LOGS/c.log\n")
	by := func(verb, caller, id, ttl string) (int, string) {
		code, _, errText := once(t, verb, "--config", s.config, "--caller", caller, "--request", id, "--ttl", ttl)
		return code, errText
	}
	for _, c := range []struct {
		verb, caller, id, ttl string
		code                  int
		says                  string
	}{
		{"plan", "up=eve", "1", "60", exitRefused, "not permitted for up=eve"},
		{"plan", "up=ops", "2", "60", 0, ""},
		{"apply", "up=ops", "3", "61", exitRefused, "not permitted for up=ops"},
		{"apply", "local=root", "4", "60", exitRefused, "only the kernel names"},
		{"rollback", "up=ops\u202e", "5", "60", exitRefused, "can't be printed"},
		{"apply", "up=ops", "6", "60", 0, ""},
		{"apply", "up=ops", "6", "60", exitRefused, "took effect"},
		{"rollback", "up=ops", "7", "60", 0, ""},
		{"rollback", "up=ops", "7", "60", exitRefused, "took effect"},
		{"rollback", "up=ops", "6", "60", exitRefused, "took effect"},
		{"rollback", "up=ops", "8", "60", 0, ""},
	} {
		if code, errText := by(c.verb, c.caller, c.id, c.ttl); code != c.code || !strings.Contains(errText, c.says) {
			t.Errorf("%+v: %d %s", c, code, errText)
		}
	}
	write(t, s.dir+"/p.rego", "package x")
	if code, errText := by("plan", "up=ops", "9", "60"); code != exitConfig {
		t.Errorf("a node with a broken policy doesn't say how it stands: %d %s", code, errText)
	}
	var refused []string
	for line := range strings.Lines(read(t, s.dir+"/audit.log")) {
		var l struct{ Data audit.Decision }
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		if d := l.Data; !d.Allowed {
			refused = append(refused, d.Request)
			if d.Reason == "" {
				t.Errorf("%+v", d)
			}
		}
	}
	if strings.Join(refused, " ") != "1 3 4 5 6 7 6" {
		t.Errorf("refused are %q", refused)
	}
}

// What has a fault is told, and can't be applied.
func TestFaultyPlanIsNotApplied(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ file, text, says string }{
		"setting":          {"logforward.cfg", "chunk_size = banana\n", "chunk_size"},
		"definition":       {"forwarders.d/x.yaml", "log: x\nurl: y\n", "x.yaml"},
		"path not allowed": {"forwarders.d/x.yaml", "log: x\npath: /etc/shadow\n", "/etc/shadow"},
		"no destination":   {"forwarders.d/x.yaml", "log: x\npath: LOGS/x.log\ndestination: moon\n", "moon"},
		"policy":           {"logforward.rego", "package x\nallow {", "broken"},
		"none at all":      {"logforward.cfg", "identity = n1\n", "no destination is configured"},
		"scheme":           {"logforward.cfg", "destination.central.url = http://x\n", "none of nats"},
		"no seed":          {"logforward.cfg", "destination.central.url = nats://x\ndestination.central.nkey = /nowhere/seed\n", "/nowhere/seed"},
		"moved former":     {"logforward.cfg", "destination.central.url = nats://x\nstaged = LOGS/staged\n", "staged changes from"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := staging(t)
			s.set("policy = " + s.dir + "/p.rego")
			s.stage(c.file, c.text)
			code, out, _ := once(t, "plan", "--config", s.config)
			if code != exitConfig || !strings.Contains(out, planFaulty) || !strings.Contains(out, c.says) {
				t.Errorf("%d %s", code, out)
			}
			before := read(t, s.config)
			if code, _, errText := once(t, "apply", "--config", s.config); code != exitConfig || !strings.Contains(errText, c.says) {
				t.Errorf("%d %s", code, errText)
			}
			if _, err := os.Stat(s.dir + "/former"); err == nil || read(t, s.config) != before {
				t.Error("something was changed")
			}
		})
	}
}

// What lies in a set goes where the daemon looks for it, or nowhere.
func TestSetThatMovesItsOwnPlaceIsNotApplied(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ setting, file, text string }{
		"definitions": {"forwarders", "forwarders.d/c.yaml", "log: c\npath: LOGS/c.log\n"},
		"policy":      {"policy", "logforward.rego", "package io.choria.mcorpc.authpolicy\nimport rego.v1\ndefault allow := true\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := staging(t)
			s.stage("logforward.cfg", read(t, s.config)+c.setting+" = "+s.dir+"/elsewhere\n")
			if r := s.plan(); r.State != planChanges {
				t.Errorf("alone it may: %+v", r)
			}
			s.stage(c.file, c.text)
			before := read(t, s.config)
			if code, _, errText := once(t, "apply", "--config", s.config); code != exitConfig || !strings.Contains(errText, c.setting+" changes from ") || !strings.Contains(errText, "by itself") {
				t.Errorf("%d %s", code, errText)
			}
			if read(t, s.config) != before {
				t.Error("something was changed")
			}
		})
	}
}

// A rollback says when what it leads to can't be started with, and is done all the same.
func TestRollbackToWhatTheProgramNoLongerTakes(t *testing.T) {
	t.Parallel()
	s := staging(t)
	s.stage("logforward.cfg", read(t, s.config)+"rate = 5MiB/s\n")
	if code, out, errText := once(t, "apply", "--config", s.config); code != 0 {
		t.Fatalf("%d %s %s", code, out, errText)
	}
	old := read(t, s.dir+"/former/logforward.cfg") + "setting_of_another_version = 1\n"
	write(t, s.dir+"/former/logforward.cfg", old)
	code, out, errText := once(t, "rollback", "--config", s.config)
	if code != 0 || !strings.Contains(out, "wouldn't start again") || !strings.Contains(out, "setting_of_another_version") {
		t.Errorf("%d %s %s", code, out, errText)
	}
	if read(t, s.config) != old {
		t.Error("it isn't in force")
	}
	// And from settings that can't be read one gets back, with what says where everything is.
	if code, out, errText = once(t, "rollback", "--config", s.config, "--former", s.dir+"/former"); code != 0 || strings.Contains(out, "wouldn't start") {
		t.Errorf("%d %s %s", code, out, errText)
	}
	if !strings.Contains(read(t, s.config), "5MiB/s") {
		t.Error("it isn't back")
	}
	s.plan()
}

// An apply that was interrupted is taken back by a rollback, or finished by another apply, and each says so.
func TestInterruptedApplyIsToldOf(t *testing.T) {
	t.Parallel()
	interrupt := func(s *site, placed bool) {
		// As a process that was killed leaves it: the copy of what was in force is whole, and the policy's name has changed.
		write(t, s.dir+"/former.new/logforward.cfg", read(t, s.config))
		write(t, s.dir+"/former.new/forwarders.d/a.yaml", read(t, s.dir+"/forwarders.d/a.yaml"))
		write(t, s.dir+"/former.new/forwarders.d/b.yaml", read(t, s.dir+"/forwarders.d/b.yaml"))
		write(t, s.dir+"/former.new/absent", "logforward.rego\n")
		write(t, s.dir+"/former.new/complete", `{"kind":"apply","from":"`+s.dir+`/staged","settings":"`+s.config+`","definitions":"`+s.dir+`/forwarders.d"}`)
		write(t, s.config, read(t, s.config)+"rate = 5MiB/s\n")
		if placed {
			write(t, s.dir+"/former.new/placed", "")
			return
		}
		s.stage("logforward.cfg", read(t, s.config))
	}
	s := staging(t)
	before := read(t, s.config)
	interrupt(s, false)
	if code, out, errText := once(t, "rollback", "--config", s.config); code != 0 || !strings.Contains(out, "taken back; its set is still staged") {
		t.Errorf("%d %s %s", code, out, errText)
	}
	if read(t, s.config) != before {
		t.Error("it isn't taken back")
	}
	if r := s.plan(); r.State != planChanges {
		t.Errorf("%+v", r)
	}
	s = staging(t)
	interrupt(s, true)
	if code, out, errText := once(t, "apply", "--config", s.config); code != 0 || !strings.Contains(out, "interrupted is finished") {
		t.Errorf("%d %s %s", code, out, errText)
	}
	if code, out, errText := once(t, "rollback", "--config", s.config); code != 0 || strings.Contains(read(t, s.config), "5MiB/s") {
		t.Errorf("%d %s %s", code, out, errText)
	}
}
