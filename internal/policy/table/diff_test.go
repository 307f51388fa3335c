package table

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func reparse(t *testing.T, table *Table) *Table {
	t.Helper()
	text, err := json.Marshal(table)
	if err != nil {
		t.Fatal(err)
	}
	return mustParse(t, string(text))
}

// What each change of the example gives and takes is found, and put in words.
func TestDiff(t *testing.T) {
	source := func() string {
		text, err := json.Marshal(example(t))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}()
	for i, c := range []struct {
		name, from, to string
		want           []string // substrings of one difference each
	}{
		{"longer", `"for":"4h"`, `"for":"8h"`, []string{"gains [oncall] [pause resume] for=8h by up=oncall-*", "gains [oncall] [pause resume] for=4h0m1s"}},
		{"a caller fewer", `,"local=root"]`, `]`, []string{"loses [oncall] [resume]  by local=root", "loses [oncall] [pause] for=4h by local=root"}},
		{"a wider path", `"/var/log/app/*.log"],"destinations":["central"`, `"/var/log/app/*"],"destinations":["central"`, []string{"gains [operator] [pause redirect resume start stop] destination=central path=/var/log/app/x ", "path=/var/log/app/* "}},
		{"a destination fewer", `["central","staging"]`, `["central"]`, []string{"loses [operator] [pause redirect resume start stop] destination=staging path=/var/log/nginx/x by"}},
		{"no reason", `"for":"4h","reason":"required"`, `"for":"4h"`, []string{"gains [oncall] [pause] for=4h reason=(none)", "gains [oncall] [resume] reason=(none)"}},
		{"another environment", `{"environment":["production"]}`, `{"environment":["production","staging"]}`, nil}, // no role allows it there
		{"longer days", `08:00-18:00`, `08:00-20:00`, []string{"gains [trainee] [start stop] ", "time="}},
		{"on nodes", `"provisioning":"never"`, `"provisioning":"only"`, []string{"loses [trainee] [start stop] "}},
		{"a rate", `1MiB/s`, `2MiB/s`, []string{"gains [trainee] [start stop] ", "rate=2097152"}},
		{"a rule fewer", `"audit-log":{"about":"the audit log is the audit team's alone","actions":["start","redirect"],"paths":["/var/log/audit/**"],"except":["group=audit"]},`, ``, nil}, // roles don't allow it either
		{"a rule more", `"deny":{`, `"deny":{"nobody":{"callers":["up=ops-*"],"actions":["stop"]},`, []string{"loses [operator] [stop] destination=central path=/var/log/nginx/x by up=ops-* (nobody)"}},
		{"a role more", `"roles":{`, `"roles":{"boss":{"callers":["up=boss"],"actions":["redirect"]},`, []string{"gains [boss] [redirect]  by up=boss"}},
		{"a class", `role::app*`, `role::web`, []string{"loses [trainee]", "gains [trainee]"}},
		{"a longer name", `"up=trainee-*"`, `"up=trainee-?"`, []string{"loses [trainee] [start stop]", "up=trainee-*"}},
		{"any end", `"training-*"`, `"training-?"`, []string{"loses [trainee] [start stop]", "log=training-"}},
		{"an administrator", `"administrators":["up=admin"`, `"administrators":["up=adm*"`, []string{"gains [administrators] [*] agent=other by up=adm*"}},
		{"a collective", `["mcollective","choria"]`, `["mcollective"]`, []string{"collective=choria"}},
	} {
		if raced && i%3 > 0 {
			continue
		}
		changed := strings.Replace(source, c.from, c.to, 1)
		if changed == source {
			t.Errorf("%s: the example has no %s", c.name, c.from)
			continue
		}
		got := Diff(mustParse(t, source), mustParse(t, changed))
		var lines []string
		for _, d := range got.Differences {
			word := map[bool]string{true: "gains", false: "loses"}[d.Gains]
			request := make([]string, 0, len(d.Request))
			for _, name := range sortedKeys(d.Request) {
				request = append(request, name+"="+d.Request[name])
			}
			line := fmt.Sprintf("%s %v %v %s by %s", word, d.Roles, d.Actions, strings.Join(request, " "), strings.Join(d.Callers, " "))
			if len(d.Deny) > 0 {
				line += fmt.Sprintf(" (%s)", strings.Join(d.Deny, " "))
			}
			lines = append(lines, line)
		}
		if len(c.want) == 0 && len(lines) > 0 {
			t.Errorf("%s: %s", c.name, strings.Join(lines, "\n"))
		}
		for _, want := range c.want {
			if !slices.ContainsFunc(lines, func(l string) bool { return containsParts(l, want) }) {
				t.Errorf("%s: no %q in:\n%s", c.name, want, strings.Join(lines, "\n"))
			}
		}
		if c.name != "a rate" && c.name != "a role more" {
			continue
		}
		if back := Diff(mustParse(t, changed), mustParse(t, source)); len(back.Differences) != len(got.Differences) {
			t.Errorf("%s: %d differences there, %d back", c.name, len(got.Differences), len(back.Differences))
		}
	}
	if d := Diff(example(t), example(t)); len(d.Differences) > 0 || d.Requests < 1000 {
		t.Errorf("%+v", d)
	}
}

// What is about the whole node names no log, path or destination, has no end and gives no reason: a role that wants one allows
// none of it, and no comparison says that it does.
func TestTheWholeIsWithinNoLimit(t *testing.T) {
	for limit, may := range map[string]bool{"": true, "rate: 1MiB/s": true, "logs: ['*']": false, "paths: [/**]": false, "destinations: ['*']": false, "for: 4h": false, "reason: required": false} {
		old := mustParse(t, "version: 1\nroles:\n  a:\n    callers: [up=a]\n    actions: [status]\n")
		table := mustParse(t, "version: 1\nroles:\n  a:\n    callers: [up=a]\n    actions: ['*']\n    "+limit+"\n")
		for _, action := range []string{"apply", "rollback"} {
			in := map[string]any{"agent": Agent, "action": action, "callerid": "up=a", "data": map[string]any{}}
			if v := table.Decide(in, Node); v.Allowed != may {
				t.Errorf("%q: %s is allowed: %t", limit, action, v.Allowed)
			}
			gains := slices.ContainsFunc(Diff(old, table).Differences, func(d Difference) bool { return slices.Contains(d.Actions, action) })
			if gains != may {
				t.Errorf("%q: the comparison says %t of %s", limit, gains, action)
			}
		}
	}
}

// A comparison that was given up says so.
func TestDiffThatIsGivenUpSaysSo(t *testing.T) {
	c := diff(example(t), example(t), 1000)
	if !c.Cut || c.Requests > 1010 {
		t.Errorf("%+v", c)
	}
	if c := Diff(example(t), example(t)); c.Cut {
		t.Errorf("%+v", c)
	}
}

// containsParts finds the words of want in their order.
func containsParts(text, want string) bool {
	for _, part := range strings.Fields(want) {
		i := strings.Index(text, part)
		if i < 0 {
			return false
		}
		text = text[i+len(part):]
	}
	return true
}

// What is found is true: where a role is taken away, only losses are, and they are of that role.
func TestDiffIsTrue(t *testing.T) {
	n := seed(t)
	found := 0
	tables := 15
	if raced {
		tables = 4
	}
	for i := 0; i < tables || found < tables/4 && i < 20*tables; i++ { // a role may be one that others make needless
		r := newRandom(n + uint64(i))
		old := reparse(t, r.table())
		changed := reparse(t, old)
		delete(changed.Roles, "role-0")
		if len(changed.Roles) == 0 {
			continue
		}
		less := reparse(t, changed)
		c := Diff(old, less)
		for _, d := range c.Differences {
			found++
			if d.Gains || !slices.Contains(d.Roles, "role-0") {
				t.Fatalf("LOGFORWARD_SEED=%d: without a role: %+v", n, d)
			}
		}
	}
	if found < tables/4 {
		t.Errorf("%d differences: that tests little", found)
	}
}
