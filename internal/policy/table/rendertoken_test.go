package table

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
)

// has tells whether a role of the caller has the action.
func (t *Table) has(caller, action string) bool {
	return slices.ContainsFunc(t.Of(caller).roles, func(x *rule) bool { return slices.Contains(x.actions, action) })
}

// allows is what a document's allow is, and nothing else of it.
func (n newer) allows(t *testing.T, in map[string]any) (bool, error) {
	t.Helper()
	results, err := n.query.Eval(t.Context(), rego.EvalInput(in))
	if err != nil {
		return false, err
	}
	return results[0].Bindings["x"].(map[string]any)["allow"].(bool), nil
}

// For random tables, callers and requests: what the table allows, a token allows, wherever it is decided; what a token allows, some
// role of the caller has; and what isn't the agent's is as default.rego has it. OPA of both generations says the same.
func TestTokensAllowNoLessThanTheTableAndNothingWithoutARole(t *testing.T) {
	tables, requests := 100, 60
	if raced {
		tables = 40
	}
	n := seed(t)
	old := startOlder(t)
	opened := map[string][]string{
		"rpcutil": {"ping", "agent_inventory", "daemon_stats", "collective_info", "get_fact", "get_facts", "inventory"}, "choria_util": {"info", "machine_states", "machine_state"}, "scout": {"checks"},
	}
	allowed, coarser, finer, denied, others := 0, 0, 0, 0, 0
	for i := range tables {
		r := newRandom(n + uint64(i))
		table := reparse(t, r.table())
		caller := ""
		for range 1000 {
			if c, ok := r.request(table)["callerid"].(string); ok && OneCaller(c) == nil && (caller == "" || len(table.Of(c).roles) > 0) {
				if caller = c; len(table.Of(c).roles) > 0 {
					break
				}
			}
		}
		policy, err := table.RenderToken(caller)
		if err != nil {
			t.Fatalf("table %d, %q: %v", i, caller, err)
		}
		if again, err := table.RenderToken(caller); err != nil || string(again) != string(policy) {
			t.Fatalf("table %d renders differently the second time: %v", i, err)
		}
		if carried(string(policy), caller) > TokenRoom {
			t.Fatalf("%d bytes\n%s", carried(string(policy), caller), policy)
		}
		var inputs []map[string]any
		for j := range requests {
			in := r.request(table)
			if j%8 != 7 { // the others are whoever's
				in["callerid"], in["claims"] = caller, map[string]any{"callerid": caller}
			}
			if j%8 == 6 {
				agent := pick(r, []string{"rpcutil", "scout", "choria_util", "discovery", "package", "logforward2"})
				in["agent"], in["action"] = agent, pick(r, append([]string{"", " ", "machine_transition", "pause", "ping checks"}, opened[agent]...))
			}
			if b, err := json.Marshal(in); err != nil {
				t.Fatal(err)
			} else if err := json.Unmarshal(b, &in); err != nil {
				t.Fatal(err)
			}
			inputs = append(inputs, in)
		}
		version := ast.RegoV1
		if i%2 == 1 {
			version = ast.RegoV0 // with the import it is the same language
		}
		old.put(t, "io.choria.aaasvc", policy, inputs)
		now := prepareNewer(t, "io.choria.aaasvc", policy, version)
		usual := prepareNewer(t, "io.choria.mcorpc.authpolicy", mustRenderFor(t, table, ForDefault), version)
		verdicts := make([]bool, len(inputs))
		errs := make([]error, len(inputs))
		for j, in := range inputs {
			verdicts[j], errs[j] = now.allows(t, in)
		}
		before := old.get(t, policy, len(inputs))
		for j, in := range inputs {
			have := verdicts[j]
			fail := func(format string, args ...any) {
				t.Helper()
				b, _ := json.MarshalIndent(in, "", "  ")
				t.Fatalf("LOGFORWARD_SEED=%d, table %d, request %d: %s\n%s\n%s", n, i, j, fmt.Sprintf(format, args...), b, policy)
			}
			if errs[j] != nil || before[j].Error != "" || before[j].Allowed != have {
				fail("OPA of the node: %v %v, OPA of Choria: %+v", have, errs[j], before[j])
			}
			claims, _ := in["claims"].(map[string]any)
			mine := claims["callerid"] == caller
			if agent, ok := in["agent"].(string); !ok || agent != Agent {
				in = maps.Clone(in)
				in["callerid"] = claims["callerid"] // whose the token is
				if want, err := usual.allows(t, in); err != nil || have != (want || in["agent"] == "discovery") && (mine || have) {
					fail("default.rego: %v %v, token: %v", want, err, have)
				}
				others++
				continue
			}
			action, _ := in["action"].(string)
			if have && (!mine || !table.has(caller, action)) {
				fail("allowed to %q, and no role of %q has it", claims["callerid"], caller)
			}
			here, there := table.Decide(in, Node).Allowed, table.Decide(in, AAA).Allowed
			if !have && mine && (there || here && in["callerid"] == caller) {
				fail("denied, and the table allows it")
			}
			switch {
			case have && there:
				allowed++
			case have:
				coarser++
			case mine && table.has(caller, action):
				finer++
			default:
				denied++
			}
		}
	}
	t.Logf("allowed by table and token %d, by the token alone %d; denied by lists or deny rules %d, for no role has it %d; of other agents %d", allowed, coarser, finer, denied, others)
	if total := tables * requests; allowed < total/50 || coarser < total/20 || finer < total/200 || denied < total/20 || others < total/20 {
		t.Errorf("of %d requests that tests little", total)
	}
}

func mustRenderFor(t *testing.T, table *Table, d Document) []byte {
	t.Helper()
	policy, err := table.Render(d)
	if err != nil {
		t.Fatal(err)
	}
	return policy
}

// There is room for all that the example's callers have, and what there is none for is refused with its size.
func TestRoomInTokens(t *testing.T) {
	table := example(t)
	for _, caller := range []string{"up=ann", "up=oncall-eve", "up=ops-bob", "up=audit-sue", "up=trainee-tim", "up=admin"} {
		policy, err := table.RenderToken(caller)
		exact, e := table.Of(caller).token(caller, true)
		if err != nil || e != nil || string(policy) != string(exact) {
			t.Errorf("%s: %v %v, %d bytes\n%s", caller, err, e, carried(string(exact), caller), policy)
		}
	}
	long := "up=ann-" + strings.Repeat("n", 400)
	_, err := table.RenderToken(long)
	if want := fmt.Sprint(TokenRoom); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v", err)
	}
	for _, caller := range []string{"", "ann", "*", "up=*", "up=a?", "group=oncall", "up=a\nallow := true", "up=\x00", "up=\xff", "up=a\u2028b"} {
		if policy, err := table.RenderToken(caller); err == nil {
			t.Errorf("%q is taken:\n%s", caller, policy)
		}
	}
	if _, err := table.Render(ForToken); err == nil {
		t.Error("a token is nobody's")
	}
}

// Lists that are too long for a token are left to the node, which is better than no token.
func TestListsThatATokenHasNoRoomFor(t *testing.T) {
	var logs []string
	for i := range 10 {
		logs = append(logs, fmt.Sprintf("log-%d", i))
	}
	table := func() *Table {
		return reparse(t, &Table{Version: 1, Roles: map[string]*Role{"r": {Scope: Scope{Callers: []string{"up=a"}, Actions: []string{"pause"}, Logs: logs}}}})
	}
	short, err := table().RenderToken("up=a")
	if err != nil || !strings.Contains(string(short), "input.data.log in {") {
		t.Errorf("%v\n%s", err, short)
	}
	for i := range 200 {
		logs = append(logs, fmt.Sprintf("log-%d", 10+i))
	}
	coarse, err := table().RenderToken("up=a")
	if err != nil || strings.Contains(string(coarse), "input.data") || !strings.Contains(string(coarse), `"pause"`) {
		t.Errorf("%v\n%s", err, coarse)
	}
}
