package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"logforward/policies"
)

// files puts the policies that come with logforward, and what else is given, into a directory.
func files(t *testing.T, more map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range []string{"operators.yaml", "logforward.rego", "logforward_test.rego", "default.rego", "default_test.rego"} {
		text, err := policies.Files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), string(text))
	}
	for name, text := range more {
		write(t, filepath.Join(dir, name), text)
	}
	return dir
}

func TestPolicyExplain(t *testing.T) {
	t.Parallel()
	dir := files(t, map[string]string{
		"hand.rego":   "package io.choria.mcorpc.authpolicy\n\nimport rego.v1\n\nallow if {\n\tinput.callerid == \"up=eve\"\n\tinput.action == \"pause\"\n\tinput.data.reason\n}\n\nrule := \"by hand\"\n",
		"broken.rego": "package io.choria.mcorpc.authpolicy\n\nallow if {",
		"broken.yaml": "version: 1\nroles:\n  r: {callers: [eve], actions: [pause]}\n",
		"facts.yaml":  "environment: production\nos: {family: Debian}\n",
	})
	table, facts := filepath.Join(dir, "operators.yaml"), filepath.Join(dir, "facts.yaml")
	for _, c := range []struct {
		name string
		args []string
		code int
		says []string
	}{
		{"allowed", []string{"--policy", table, "--caller", "up=oncall-eve", "--action", "pause", "log=app", "for=1h", "reason=the disk"}, 0, []string{`allowed  up=oncall-eve pause for=1h log=app reason="the disk"`, "role oncall (whoever is on call"}},
		{"too long", []string{"--policy", table, "--caller", "up=oncall-eve", "--action", "pause", "log=app", "for=6h", "reason=disk"}, 3, []string{"denied ", "no role allows it", "- oncall", "for           must be given, and at most 4h"}},
		{"from elsewhere", []string{"--policy", table, "--caller", "up=ops-bob", "--action", "redirect", "log=a", "destination=central", "current=audit"}, 3, []string{"where the log goes now must be one of central, staging"}},
		{"a wide glob", []string{"--policy", table, "--caller", "up=ops-bob", "--action", "start", "log=a", "path=/var/log/app/**", "destination=central"}, 3, []string{"with all that it can match"}},
		{"another caller", []string{"--policy", table, "--caller", "up=mallory", "--action", "pause", "log=app"}, 3, []string{"- reader", "actions       must be one of status, list, check"}},
		{"a deny rule", []string{"--policy", table, "--caller", "up=oncall-eve", "--action", "pause", "log=app", "for=1h", "reason=x", "--provision"}, 3, []string{"role oncall", "denied by provisioning (nobody changes"}},
		{"facts of a file", []string{"--policy", table, "--caller", "up=ops-bob", "--action", "redirect", "log=app", "destination=external", "--facts", facts}, 3, []string{"denied by external-in-production"}},
		{"facts above the file's", []string{"--policy", table, "--caller", "up=ops-bob", "--action", "redirect", "log=app", "destination=external", "--facts", facts, "--fact", "environment=test"}, 3, []string{"destinations  must be one of central, staging"}},
		{"in office hours", []string{"--policy", table, "--caller", "up=trainee-tim", "--action", "stop", "log=training-1", "for=5m", "reason=x", "--fact", "environment=test", "--class", "role::app", "--at", "2026-11-25T09:00:00Z"}, 0, []string{"role trainee"}},
		{"at night", []string{"--policy", table, "--caller", "up=trainee-tim", "--action", "stop", "log=training-1", "for=5m", "reason=x", "--fact", "environment=test", "--class", "role::app", "--at", "2026-11-25T23:00:00+01:00"}, 3, []string{"times         must be within mon-fri 08:00-18:00"}},
		{"for tokens", []string{"--policy", table, "--caller", "up=ops-bob", "--action", "start", "log=a", "path=/var/log/nginx/a", "destination=central", "--for", "aaa", "--provision"}, 0, []string{"role operator"}},
		{"the document", []string{"--policy", filepath.Join(dir, "logforward.rego"), "--caller", "up=oncall-eve", "--action", "pause", "all=true", "for=1h", "reason=x"}, 0, []string{"rule oncall"}},
		{"by hand, what would do", []string{"--policy", filepath.Join(dir, "hand.rego"), "--caller", "up=eve", "--action", "pause", "log=app"}, 3, []string{"it would be allowed with any one of these", "- reason=some reason"}},
		{"by hand, nothing", []string{"--policy", filepath.Join(dir, "hand.rego"), "--caller", "up=mallory", "--action", "pause", "log=app"}, 3, []string{"nothing that was tried"}},
		{"by hand", []string{"--policy", filepath.Join(dir, "hand.rego"), "--caller", "up=eve", "--action", "pause", "log=app", "reason=x"}, 0, []string{"rule by hand"}},
		{"broken", []string{"--policy", filepath.Join(dir, "broken.rego"), "--caller", "up=eve", "--action", "pause"}, 78, []string{"broken"}},
		{"a broken table", []string{"--policy", filepath.Join(dir, "broken.yaml"), "--caller", "up=eve", "--action", "pause"}, 78, []string{`broken.yaml:3:17: roles.r.callers[0]: "eve" is no caller`}},
		{"no table", []string{"--policy", filepath.Join(dir, "none.yaml"), "--caller", "up=eve", "--action", "pause"}, 78, []string{"no such file"}},
		{"an action", []string{"--policy", table, "--caller", "up=eve", "--action", "explode"}, 2, []string{"explode"}},
		{"an input", []string{"--policy", table, "--caller", "up=eve", "--action", "pause", "lug=app"}, 2, []string{`"lug" is no input; there are log`}},
		{"no value", []string{"--policy", table, "--caller", "up=eve", "--action", "pause", "log"}, 2, []string{"is no input like log=nginx"}},
		{"a time", []string{"--policy", table, "--caller", "up=eve", "--action", "pause", "--at", "noon"}, 2, []string{"is no time like"}},
		{"a truth value", []string{"--policy", table, "--caller", "up=eve", "--action", "pause", "all=perhaps"}, 2, []string{"neither true nor false"}},
	} {
		code, out, errText := once(t, append([]string{"policy", "explain"}, c.args...)...)
		if code != c.code {
			t.Errorf("%s: exit %d, want %d\n%s%s", c.name, code, c.code, out, errText)
		}
		for _, want := range c.says {
			if !strings.Contains(out+errText, want) {
				t.Errorf("%s: no %q in\n%s%s", c.name, want, out, errText)
			}
		}
		if c.code == 0 && errText != "" || c.code == 3 && errText != "" {
			t.Errorf("%s: %s", c.name, errText)
		}
	}
	code, out, _ := once(t, "--json", "policy", "explain", "--policy", table, "--caller", "up=oncall-eve", "--action", "pause", "log=app", "for=6h", "reason=x")
	var e explanation
	if err := json.Unmarshal([]byte(out), &e); err != nil || code != 3 || e.Allowed || len(e.Nearest) != 1 || e.Nearest[0].Role != "oncall" || len(e.Nearest[0].Missing) != 1 || e.Nearest[0].Missing[0].Field != "for" {
		t.Errorf("%v %d %+v", err, code, e)
	}
}

func TestPolicyRender(t *testing.T) {
	t.Parallel()
	dir := files(t, nil)
	table := filepath.Join(dir, "operators.yaml")
	want, err := policies.Files.ReadFile("logforward.rego")
	if err != nil {
		t.Fatal(err)
	}
	if code, out, errText := once(t, "policy", "render", table); code != 0 || out != string(want) {
		t.Errorf("%d %s", code, errText)
	}
	target := filepath.Join(dir, "out.rego")
	if code, out, errText := once(t, "policy", "render", table, "--for", "default", "--output", target); code != 0 || !strings.Contains(out, "is written") {
		t.Errorf("%d %s", code, errText)
	}
	want, err = policies.Files.ReadFile("default.rego")
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(target)
	if have, e := os.ReadFile(target); e != nil || err != nil || string(have) != string(want) || info.Mode().Perm() != 0o644 {
		t.Errorf("%v %v %v", e, err, info)
	}
	// A token's document is one caller's, and what check lets through.
	mine := filepath.Join(dir, "bob.rego")
	if code, _, errText := once(t, "policy", "render", table, "--for", "token", "--caller", "up=ops-bob", "--output", mine); code != 0 {
		t.Errorf("%d %s", code, errText)
	}
	if code, out, errText := once(t, "policy", "check", mine); code != 0 || strings.Contains(out+errText, "opa fmt") {
		t.Errorf("%d %s %s", code, out, errText)
	}
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{2, "--caller is missing", []string{"--for", "token"}},
		{2, "is no one caller", []string{"--for", "token", "--caller", "up=*"}},
		{2, "is no one caller", []string{"--for", "token", "--caller", "bob"}},
		{2, "one caller's", []string{"--caller", "up=bob"}},
		{78, "bytes", []string{"--for", "token", "--caller", "up=" + strings.Repeat("b", 500)}},
	} {
		if code, out, errText := once(t, append([]string{"policy", "render", table}, c.args...)...); code != c.code || out != "" || !strings.Contains(errText, c.want) {
			t.Errorf("%v: %d %s %s", c.args, code, out, errText)
		}
	}
	// A broken table leaves what is there.
	write(t, table, "version: 1\nroles: {}\n")
	if code, _, errText := once(t, "policy", "render", table, "--output", target); code != 78 || !strings.Contains(errText, "operators.yaml:2:1: roles: ") {
		t.Errorf("%d %s", code, errText)
	}
	if have, err := os.ReadFile(target); err != nil || string(have) != string(want) {
		t.Error("the old document is gone")
	}
	if code, _, _ := once(t, "policy", "render", filepath.Join(dir, "logforward.rego"), "--output", filepath.Join(dir, "no/such/x.rego")); code == 0 {
		t.Error("a document is no table")
	}
	left, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("%v %v", left, err)
	}
}

func TestPolicyCheck(t *testing.T) {
	t.Parallel()
	const head = "package io.choria.mcorpc.authpolicy\n\nimport rego.v1\n\n"
	dir := files(t, map[string]string{
		"wide.yaml":    "version: 1\nroles:\n  all: {callers: ['*'], actions: ['*']}\n",
		"warned.yaml":  "version: 1\nroles:\n  a: {callers: [up=a], actions: [start], paths: ['/**'], destinations: [nowhere]}\n",
		"broken.yaml":  "version: 1\nroles:\n  a: {callers: [up=a], actions: [start], fore: 1h}\n",
		"node.cfg":     "identity = n1\ndestination.central.url = nats://127.0.0.1:1\n",
		"old.rego":     "package io.choria.mcorpc.authpolicy\n\nallow { true }\n",
		"new.rego":     "package io.choria.mcorpc.authpolicy\n\nallow if true\n",
		"later.rego":   head + "allow if array.flatten([1]) == [1]\n",
		"net.rego":     head + "allow if http.send({\"method\": \"get\", \"url\": \"http://x\"}).status_code == 200\n",
		"other.rego":   "package x\n\nimport rego.v1\n\nallow if true\n",
		"silent.rego":  head + "deny if true\n",
		"ends.rego":    "package io.choria.aaasvc\n\nimport rego.v1\n\nallow if requires_filter()\n",
		"unused.rego":  head + "allow if {\n\tx := 1\n\tinput.action == \"status\"\n}\n",
		"spaces.rego":  head + "allow   if   true\n",
		"nothing.rego": "",
	})
	for _, c := range []struct {
		file string
		more []string
		code int
		says string
	}{
		{"operators.yaml", nil, 0, "6 roles, 3 deny rules"},
		{"logforward.rego", nil, 0, "compiles strictly for OPA 1 (Choria 0.30), and for the language and functions of OPA 0.68"},
		{"wide.yaml", nil, 1, "wide.yaml:3:3: roles.all: it allows everything to anybody"},
		{"warned.yaml", nil, 0, "warning"},
		{"warned.yaml", []string{"--config", filepath.Join(dir, "node.cfg")}, 0, "no destination nowhere is configured; there are central"},
		{"broken.yaml", nil, 78, "broken.yaml:3:42: roles.a.fore: unknown field"},
		{"old.rego", nil, 1, "syntax for OPA 1 (Choria 0.30)"},
		{"new.rego", nil, 1, `does it lack "import rego.v1"?`},
		{"later.rego", nil, 1, "array.flatten"},
		{"net.rego", nil, 1, "http.send"},
		{"other.rego", nil, 1, "its package is x"},
		{"silent.rego", nil, 1, "it has no rule allow"},
		{"ends.rego", nil, 1, "requires_filter() ends Choria Server"},
		{"unused.rego", nil, 1, "assigned var x unused"},
		{"spaces.rego", nil, 0, "opa fmt would write it otherwise"},
		{"nothing.rego", nil, 1, "empty module"},
	} {
		code, out, errText := once(t, append([]string{"policy", "check", filepath.Join(dir, c.file)}, c.more...)...)
		if code != c.code || !strings.Contains(out+errText, c.says) {
			t.Errorf("%s: exit %d, want %d and %q\n%s%s", c.file, code, c.code, c.says, out, errText)
		}
	}
	code, out, _ := once(t, "--json", "policy", "check", filepath.Join(dir, "wide.yaml"))
	var findings []finding
	if err := json.Unmarshal([]byte(out), &findings); err != nil || code != 1 || len(findings) < 3 {
		t.Errorf("%d %v %s", code, err, out)
	}
}

func TestPolicyTest(t *testing.T) {
	t.Parallel()
	dir := files(t, map[string]string{
		"few/a.rego":      "package io.choria.mcorpc.authpolicy\n\nimport rego.v1\n\nallow if input.action == \"status\"\n\nallow if input.action == \"list\"\n",
		"few/a_test.rego": "package io.choria.mcorpc.authpolicy_test\n\nimport rego.v1\n\nimport data.io.choria.mcorpc.authpolicy\n\ntest_status if authpolicy.allow with input as {\"action\": \"status\"}\n\ntest_wrong if authpolicy.allow with input as {\"action\": \"stop\"}\n",
		"none/b.rego":     "package io.choria.mcorpc.authpolicy\n\nimport rego.v1\n\nallow if true\n",
	})
	for _, c := range []struct {
		args []string
		code int
		says []string
	}{
		{[]string{dir + "/logforward.rego", dir + "/logforward_test.rego", dir + "/default.rego", dir + "/default_test.rego", "--coverage", "100"}, 0, []string{"100.0 % of its lines", "default.rego: 4 of 4 tests passed"}},
		{[]string{dir + "/operators.yaml", dir + "/logforward_test.rego", "--verbose"}, 0, []string{"(rendered): ", "passed   ", "test_callers_are_whole"}},
		{[]string{dir + "/few"}, 1, []string{"failed   ", "a_test.rego:9  test_wrong", "1 of 2 tests of"}},
		{[]string{dir + "/few", "--coverage", "90"}, 1, []string{"not reached: ", "a.rego:7", "wanted are 90.0 %"}},
		{[]string{dir + "/none"}, 1, []string{"b.rego has no tests"}},
		{[]string{dir + "/few/a_test.rego"}, 78, []string{"no document among"}},
		{[]string{dir + "/nowhere"}, 78, []string{"no such file"}},
	} {
		code, out, errText := once(t, append([]string{"policy", "test"}, c.args...)...)
		if code != c.code {
			t.Errorf("%v: exit %d, want %d\n%s%s", c.args, code, c.code, out, errText)
		}
		for _, want := range c.says {
			if !strings.Contains(out+errText, want) {
				t.Errorf("%v: no %q in\n%s%s", c.args, want, out, errText)
			}
		}
	}
}

func TestPolicyDiff(t *testing.T) {
	t.Parallel()
	dir := files(t, nil)
	old, changed := filepath.Join(dir, "operators.yaml"), filepath.Join(dir, "new.yaml")
	text, err := os.ReadFile(old)
	if err != nil {
		t.Fatal(err)
	}
	write(t, changed, strings.Replace(string(text), "for: 4h", "for: 8h", 1))
	code, out, errText := once(t, "policy", "diff", old, changed)
	if code != 1 || !strings.Contains(out, "gains  oncall  pause,resume  for=8h") || strings.Contains(out, "loses") || errText != "" {
		t.Errorf("%d\n%s%s", code, out, errText)
	}
	if code, out, _ = once(t, "policy", "diff", old, old); code != 0 || !strings.Contains(out, "no difference among") {
		t.Errorf("%d %s", code, out)
	}
	if code, out, _ = once(t, "--json", "policy", "diff", changed, old); code != 1 || !strings.Contains(out, `"gains": false`) {
		t.Errorf("%d %s", code, out)
	}
}
