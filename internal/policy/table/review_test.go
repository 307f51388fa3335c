package table

import (
	"fmt"
	"strings"
	"testing"
)

func mustParse(t *testing.T, text string) *Table {
	t.Helper()
	table, err := Parse("t", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// Each finding is about one thing, with its place; a table without faults has none.
func TestReview(t *testing.T) {
	base := "version: 1\nroles:\n  a: {callers: [up=x], actions: [pause], logs: [app-*], for: 4h}\n"
	for _, c := range []struct {
		name, add, want string
		grave           bool
	}{
		{"nothing", "", "", false},
		{"everything to anybody", "  b: {callers: ['*'], actions: ['*']}\n", "roles.b: it allows everything to anybody", true},
		{"everything", "  b: {callers: [up=root], actions: [start, stop, pause, resume, redirect]}\n", "roles.b: it allows everything: any path to any destination", false},
		{"anybody", "  b: {callers: ['*'], actions: [stop], logs: [x]}\n", "roles.b: anybody whom the fleet knows may stop", false},
		{"any path", "  b: {callers: [up=y], actions: [start], logs: [x]}\n", "roles.b: it may start any path", false},
		{"a wide glob", "  b: {callers: [up=y], actions: [start], paths: [/ok, '/**'], for: 1h}\n", "roles.b.paths[1]: /** is so wide that it holds /etc/shadow", false},
		{"a wide glob with parts", "  b: {callers: [up=y], actions: [start], paths: ['/*/shadow'], for: 1h}\n", "holds /etc/shadow", false},
		{"a redirect with an end", "  b: {callers: [up=y], actions: [redirect], for: 1h}\n", "roles.b.actions: a redirect has no end", false},
		{"the whole of some", "  b: {callers: [up=y], actions: [apply], paths: [/var/log/x]}\n", "roles.b.actions: apply and rollback are about all", false},
		{"an end of nothing", "  b: {callers: [up=y], actions: [list], for: 1h}\n", "roles.b.for: nothing that it allows has an end", false},
		{"a rate of nothing", "  b: {callers: [up=y], actions: [stop], rate: 1MiB/s}\n", "roles.b.rate: only a start has a rate", false},
		{"a reason of nothing", "  b: {callers: [up=y], actions: [list], reason: required}\n", "roles.b.reason: nothing", false},
		{"a list of some", "  b: {callers: [up=y], actions: [list], logs: [x]}\n", "roles.b.actions: list and check are about all logs", false},
		{"shadowed", "  b: {callers: [up=x], actions: [pause], logs: [app-web], for: 1h, reason: required}\n", "t:4:3: roles.b: it allows nothing that the role a doesn't allow, too", false},
		{"shadowed by a twin", "  b: {callers: [up=x], actions: [pause], logs: [app-*], for: 4h}\n", "t:4:3: roles.b: it allows nothing that the role a", false},
		{"not shadowed: longer", "  b: {callers: [up=x], actions: [pause], logs: [app-*], for: 5h}\n", "roles.a: it allows nothing that the role b", false},
		{"not shadowed: another caller", "  b: {callers: [up=x, up=y], actions: [pause], logs: [app-web], for: 1h}\n", "", false},
		{"not shadowed: other nodes", "  b: {callers: [up=x], actions: [pause], logs: ['*'], for: 1h, facts: {a: b}}\n", "", false},
		{"unreachable", "deny: {d: {callers: ['up=*'], actions: [pause, stop], logs: ['a*']}}\n", "t:3:3: roles.a: deny.d forbids all that this role allows", true},
		{"reachable by an exception", "deny: {d: {callers: ['up=*'], except: [up=x]}}\n", "", false},
		{"reachable on other nodes", "deny: {d: {facts: {environment: production}}}\n", "", false},
		{"reachable at other times", "deny: {d: {times: [{days: [sat-sun]}]}}\n", "", false},
		{"a group for nobody", "groups: {g: [up=z]}\n", "groups.g: no role and no rule has this group", false},
		{"a certificate", "  b: {callers: [choria=bob], actions: [status]}\n", "roles.b.callers[0]: \"choria=bob\": the certificates of Choria's users are called NAME.mcollective", false},
		{"another issuer", "administrators: [okta=bob]\n", "administrators[0]: \"okta=bob\": neither Choria", false},
		{"a user by number", "  b: {callers: ['local=uid:x'], actions: [status]}\n", "local=uid:NUMBER", false},
		{"a destination", "  b: {callers: [up=y], actions: [redirect], destinations: [central, exetrnal, 'stag*']}\n", "roles.b.destinations[1]: no destination exetrnal is configured; there are central, external, staging", false},
		{"a destination in a rule", "deny: {d: {destinations: [outside]}}\n", "deny.d.destinations[0]: no destination outside", false},
	} {
		list := mustParse(t, base+c.add).Review([]string{"central", "external", "staging"})
		var texts []string
		for _, f := range list {
			texts = append(texts, fmt.Sprintf("%s: %s: %s", f.Where, f.Field, f.Text))
		}
		switch {
		case c.want == "" && len(list) > 0:
			t.Errorf("%s: %s", c.name, strings.Join(texts, "\n"))
		case c.want != "" && (len(list) != 1+strings.Count(c.name, "everything to") || !strings.Contains(texts[len(texts)-1], c.want) || list[len(list)-1].Grave != c.grave):
			t.Errorf("%s: %d findings: %s; want %s", c.name, len(list), strings.Join(texts, "\n"), c.want)
		}
	}
	if list := example(t).Review([]string{"central", "staging", "audit", "external"}); len(list) > 0 {
		t.Errorf("the example: %+v", list)
	}
}

// A role that is called shadowed or unreachable allows no request that the other role, or nothing, allows.
func TestShadowsAreTrue(t *testing.T) {
	n := seed(t)
	shadowed, forbidden := 0, 0
	for i := range 100 {
		r := newRandom(n + uint64(i))
		table := r.table()
		// Often one role is the other with something more.
		if a, b := table.Roles["role-0"], table.Roles["role-1"]; b != nil && r.often(7) {
			*b = *a
			b.For, b.Logs = "1h", []string{"app"}
		}
		if d := table.Deny["deny-0"]; d != nil && r.often(7) {
			d.Scope = table.Roles["role-0"].Scope
			d.Except = nil
			if r.often(5) {
				d.Callers = nil
			}
		}
		parsed := reparse(t, table)
		for _, x := range parsed.roles {
			for _, d := range parsed.denials {
				if !d.forbids(x) {
					continue
				}
				forbidden++
				for range 40 {
					q := newRequest(r.request(parsed), false)
					if len(x.lacking(q)) == 0 && len(d.otherwise(q)) > 0 && !q.pathless && !q.unsaid {
						t.Fatalf("LOGFORWARD_SEED=%d: %s isn't forbidden by %s: %+v", n, x.name, d.name, q)
					}
				}
			}
			for _, y := range parsed.roles {
				if x == y || !y.holds(x) {
					continue
				}
				shadowed++
				for range 40 {
					q := newRequest(r.request(parsed), false)
					if len(x.lacking(q)) == 0 && len(y.lacking(q)) > 0 {
						t.Fatalf("LOGFORWARD_SEED=%d: %s isn't shadowed by %s: %+v, which lacks %v", n, x.name, y.name, q, y.lacking(q))
					}
				}
			}
		}
	}
	if shadowed < 10 || forbidden < 3 {
		t.Errorf("%d shadowed and %d forbidden: that tests little", shadowed, forbidden)
	}
}
