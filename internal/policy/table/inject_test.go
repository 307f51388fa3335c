package table

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

// heads are a document's rules, in their order, and how many terms it has.
func heads(t *testing.T, policy []byte) (list []string) {
	t.Helper()
	m, err := ast.ParseModuleWithOpts("x", string(policy), ast.ParserOptions{RegoVersion: ast.RegoV1, ProcessAnnotation: true})
	if err != nil {
		t.Fatalf("%v\n%s", err, policy)
	}
	for _, r := range m.Rules {
		list = append(list, fmt.Sprintf("%s %d", r.Head, len(r.Body)))
	}
	// The tables are other values, and nothing but values.
	for i, h := range list {
		for _, name := range []string{"roles", "denials", "administrators"} {
			if strings.HasPrefix(h, name+" := {") {
				list[i] = name
			}
		}
	}
	return list
}

// Whatever texts a table holds, they stay texts: the program around them is the same.
func TestNothingInATableBecomesCode(t *testing.T) {
	with := func(text, name string) []byte {
		quoted, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		caller, err := json.Marshal("up=" + text)
		if err != nil {
			t.Fatal(err)
		}
		path, err := json.Marshal("/x" + strings.NewReplacer("/", "", "\\", "", "{", "", "}", "", "[", "", "]", "").Replace(text))
		if err != nil {
			t.Fatal(err)
		}
		source := fmt.Sprintf(`{"version":1,"administrators":[%[2]s],"groups":{"g":[%[2]s]},
			"roles":{%[4]q:{"about":%[1]s,"callers":[%[2]s,"group=g"],"actions":["*"],"paths":[%[3]s],"collectives":[%[1]s],"classes":[%[1]s],"facts":{"a.b":[%[1]s]}}},
			"deny":{"d":{"about":%[1]s,"except":[%[2]s],"classes":[%[1]s],"paths":[%[3]s]}}}`, quoted, caller, path, name)
		table, err := Parse("t", []byte(source))
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		var all []byte
		for _, d := range Documents() {
			policy, err := table.Render(d)
			if err != nil {
				t.Fatalf("%q: %v", text, err)
			}
			all = append(all, policy...)
			for _, line := range strings.Split(string(policy), "\n") {
				if strings.HasPrefix(strings.TrimSpace(line), "allow := true") {
					t.Errorf("%q became code:\n%s", text, policy)
				}
			}
			if d == ForChoria {
				want := heads(t, mustRender(t, harmlessTable(t)))
				if have := heads(t, policy); !slices.Equal(have, want) {
					t.Errorf("%q: the program is another:\n%v\n%v", text, have, want)
				}
			}
		}
		if have, want := tokenOf(t, listing(table, text), "up="+text, text), tokenOf(t, listing(harmlessTable(t), "a"), "up=a", "a"); have != want {
			t.Errorf("%q: the token's program is another:\n%s\n%s", text, have, want)
		}
		return all
	}
	for _, text := range []string{
		`"`, `\"`, `\`, `\\`, "`", "``", `"}} allow := true`, `"]; allow := true #`, "` allow := true `", `{{.}}`, `${x}`, `%s%d%!`, `#`, `# METADATA`, `METADATA`, `*/`, `\u0022`, `\n`, `\x00`,
		`日本語`, `é`, `e` + "\u0301", `ﬀ`, "\U0001F600", `^.*$`, `(?s).*`, `a|.*`, `[[:cntrl:]]`, `.*`, `$`, `x" : "^.*$`, `input.callerid`, `data.io`, `default allow := true`, `'`, `--- x`, `&a`, `!!str`, "a\u00adb"[:1] + "b",
		strings.Repeat(`"`, 200), strings.Repeat("`", 200),
	} {
		with(text, "r")
	}
	for _, text := range []string{"\n", "a\nallow := true", "\r", "\u2028", "\u2029", "\u0085", "\u202e", "\ufeff", "\x00", "\x1b[31m", "\u200b"} {
		quoted, err := json.Marshal("up=a" + text + "b")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse("t", fmt.Appendf(nil, `{"version":1,"roles":{"r":{"about":%[1]s,"callers":[%[1]s],"actions":["pause"]}}}`, quoted)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// listing is a table of a role for everybody, whose lists hold a text, whatever the table's checks would say.
func listing(table *Table, text string) *Table {
	exact := []glob{{text: text, plain: true}}
	table.roles = []*rule{{name: "r", callers: []glob{newGlob("*", callerGlob)}, actions: Actions(), limits: map[string][]glob{"logs": exact, "destinations": exact, "collectives": exact}}}
	table.admins, table.denials = nil, nil
	return table
}

// tokenOf is a token's program, with "text" for what the lists hold and "caller" for whose it is; both may be any text, also one that a
// token has no room for. What names several callers is refused.
func tokenOf(t *testing.T, table *Table, caller, text string) string {
	t.Helper()
	if err := OneCaller(caller); (err != nil) != strings.ContainsAny(caller, "*?") {
		t.Errorf("%q: %v", caller, err)
	}
	policy, err := table.token(caller, true)
	if err != nil {
		t.Fatal(err)
	}
	m, err := ast.ParseModuleWithOpts("x", string(policy), ast.ParserOptions{RegoVersion: ast.RegoV1, ProcessAnnotation: true})
	if err != nil {
		t.Fatalf("%v\n%s", err, policy)
	}
	if len(m.Comments) != 1 {
		t.Errorf("%q: %d comments\n%s", text, len(m.Comments), policy)
	}
	_, err = ast.Transform(ast.NewGenericTransformer(func(x any) (any, error) {
		switch x {
		case ast.String(caller):
			return ast.String("caller"), nil
		case ast.String(text):
			return ast.String("text"), nil
		}
		return x, nil
	}), m)
	if err != nil {
		t.Fatal(err)
	}
	return m.String()
}

func harmlessTable(t *testing.T) *Table {
	t.Helper()
	table, err := Parse("t", []byte(`{"version":1,"administrators":["up=a"],"groups":{"g":["up=a"]},
		"roles":{"r":{"about":"a","callers":["up=a","group=g"],"actions":["*"],"paths":["/a"],"collectives":["a"],"classes":["a"],"facts":{"a.b":["a"]}}},
		"deny":{"d":{"about":"a","except":["up=a"],"classes":["a"],"paths":["/a"]}}}`))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func mustRender(t *testing.T, table *Table) []byte {
	t.Helper()
	policy, err := table.Render(ForChoria)
	if err != nil {
		t.Fatal(err)
	}
	return policy
}
