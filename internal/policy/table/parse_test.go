package table

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"logforward/policies"
)

const minimal = "version: 1\nroles:\n  r:\n    callers: [up=x]\n    actions: [pause]\n"

// Each fault is named with its line, column and field, and says what to do.
func TestFaultsHavePlaces(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "t: the file is empty"},
		{"only comments", "# nothing\n", "t: the file is empty"},
		{"no fields", "- a\n", `t:1:1: the table: want "field: value" lines`},
		{"a text", "hello\n", `t:1:1: the table: want "field: value" lines`},
		{"syntax", "version: 1\nroles: [\n", "t:2:8: "},
		{"NUL", "version: 1\x00", "NUL at byte 10"},
		{"two documents", minimal + "---\nversion: 1\n", "t:7:8: a second document"},
		{"no version", "roles:\n  r: {callers: [up=x], actions: [pause]}\n", "version is missing"},
		{"another version", strings.Replace(minimal, "1", "2", 1), `t:1:1: version: "2" isn't 1`},
		{"no roles", "version: 1\n", "roles is missing"},
		{"an unknown field", minimal + "    four: 1\n", "t:6:5: roles.r.four: unknown field; known: about, callers"},
		{"a field twice", minimal + "    actions: [start]\n", `t:6:5: mapping key "actions" already defined at [5:5]`},
		{"a field twice, quoted", minimal + "    \"actions\": [start]\n", "t:6:5: "},
		{"a role twice", minimal + "  r: {callers: [up=x], actions: [start]}\n", `t:6:3: mapping key "r" already defined`},
		{"no value", minimal + "    logs:\n", "t:6:5: roles.r.logs: has no value"},
		{"an anchor", minimal + "    logs: &l [a]\n    paths: *l\n", "a table has no anchor"},
		{"a tag", minimal + "    logs: !!binary aGk=\n", "a table has no tag"},
		{"a wrong type", minimal + "    for: [1h]\n", "t:6:5: roles.r.for: want a text, found a list"},
		{"no list", minimal + "    logs: app\n", "t:6:5: roles.r.logs: want a list, found a text"},
		{"an empty list", minimal + "    logs: []\n", "t:6:5: roles.r.logs: "},
		{"a fraction", minimal + "    facts: {a: 1.5}\n", `"1.5" is no whole number`},
		{"octal", minimal + "    facts: {a: 010}\n", `"010" is no plain whole number`},
		{"an action", minimal + "  s: {callers: [up=x], actions: [explode]}\n", `t:6:34: roles.s.actions[0]: "explode" is none of status, list`},
		{"a caller", minimal + "  s: {callers: [alice], actions: [stop]}\n", `t:6:17: roles.s.callers[0]: "alice" is no caller: up=NAME`},
		{"a caller of any form", minimal + "  s: {callers: ['*=alice'], actions: [stop]}\n", "is no caller"},
		{"a direction", minimal + "  s: {callers: [\"up=a\\u202eb\"], actions: [stop]}\n", "U+202E"},
		{"a zero width", minimal + "  s: {callers: [\"up=a\u200bb\"], actions: [stop]}\n", "U+200B"},
		{"a new line", minimal + "  s: {callers: [\"up=a\\nb\"], actions: [stop]}\n", "U+000A"},
		{"a space", minimal + "  s: {callers: ['up=a '], actions: [stop]}\n", "begins or ends with a space"},
		{"a group that isn't there", minimal + "  s: {callers: [group=x], actions: [stop]}\n", `roles.s.callers[0]: there is no group "x"`},
		{"a group in a group", "groups: {a: [up=x], b: [group=a]}\n" + minimal, "t:1:25: groups.b[0]: a group holds callers, no groups"},
		{"a name", minimal + "  'a b': {callers: [up=x], actions: [stop]}\n", `t:6:3: roles.a b: "a b" is no name`},
		{"a name with code", minimal + "  \"r\\\": {}}\\nallow := true #\": {callers: [up=x], actions: [stop]}\n", "is no name"},
		{"a fact's name", minimal + "    facts: {'a b': c}\n", `"a b" is no name: a fact's name`},
		{"a relative path", minimal + "    paths: [var/log/x]\n", "t:6:13: roles.r.paths[0]: \"var/log/x\" is not absolute"},
		{"a path that climbs", minimal + "    paths: [/var/log/../x]\n", `do you mean "/var/x"?`},
		{"braces", minimal + "    paths: ['/var/{a,b}']\n", "one line for each alternative"},
		{"classes", minimal + "    paths: ['/var/[ab]']\n", "one line for each alternative"},
		{"half a tree", minimal + "    paths: [/var/**.log]\n", "** stands for whole directories"},
		{"two trees", minimal + "    paths: [/var/**/**/x]\n", "one ** is enough"},
		{"the root", minimal + "    paths: [/]\n", "do you mean /**?"},
		{"a URL", minimal + "    destinations: ['nats://x']\n", "is no destination"},
		{"a path as log", minimal + "    logs: [/var/log/x]\n", "is it a path?"},
		{"a length", minimal + "    for: 4 hours\n", `roles.r.for: "4 hours" is no duration`},
		{"no length", minimal + "    for: 0s\n", "is no duration"},
		{"no end", minimal + "    for: 11w999d999999h\n", "is no duration"},
		{"a rate", minimal + "    rate: unlimited\n", "is no rate"},
		{"part of a byte", minimal + "    rate: 0.5\n", "no whole number"},
		{"a time to live", minimal + "    ttl: 500ms\n", "in whole seconds"},
		{"a reason", minimal + "    reason: maybe\n", `"maybe" is none of required, optional`},
		{"a day", minimal + "    times: [{days: [monday]}]\n", `t:6:21: roles.r.times[0].days[0]: "monday" is none of mon`},
		{"hours", minimal + "    times: [{hours: 8-18}]\n", `roles.r.times[0].hours: "8" is no time of day`},
		{"no hours", minimal + "    times: [{hours: '08:00-08:00'}]\n", "have no length"},
		{"hours after midnight", minimal + "    times: [{hours: '24:00-08:00'}]\n", "have no length"},
		{"a zone", "zone: Europe/Nowhere\n" + minimal, `t:1:1: zone: "Europe/Nowhere" is no time zone`},
		{"each machine's zone", "zone: Local\n" + minimal, "is no time zone"},
		{"a zone that climbs", "zone: ../../etc/passwd\n" + minimal, "is no time zone"},
		{"a rule about nothing", minimal + "deny: {d: {}}\n", "t:6:8: deny.d: "},
		{"what only roles have", minimal + "deny: {d: {for: 1h}}\n", "t:6:12: deny.d.for: unknown field"},
		{"depth", minimal + "    about: " + strings.Repeat("[", 5000) + "\n", "within each other"},
		{"depth without brackets", deep(200), "too deep"},
	} {
		_, err := Parse("t", []byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "t:") {
			t.Errorf("%s: %v; want %s", c.name, err, c.want)
		}
	}
}

func deep(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String() + strings.Repeat(" ", n) + "x\n"
}

// All faults are told at once, in the order of the file.
func TestFaultsAreToldTogether(t *testing.T) {
	_, err := Parse("t", []byte(minimal+"    for: x\n    rate: y\n    paths: [a, /b/, /ok]\n"))
	if err == nil {
		t.Fatal("taken")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 4 || !slices.IsSortedFunc(lines, strings.Compare) {
		t.Errorf("%s", err)
	}
}

// The schema describes the fields of the Go types, and no others.
func TestSchemaDescribesTheTypes(t *testing.T) {
	text, err := policies.Files.ReadFile(SchemaFile)
	if err != nil {
		t.Fatal(err)
	}
	type object struct {
		Properties           map[string]map[string]any
		AdditionalProperties any
		Required             []string
	}
	var schema struct {
		object
		Defs map[string]json.RawMessage `json:"$defs"`
	}
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	part := func(raw json.RawMessage) (o object) {
		if err := json.Unmarshal(raw, &o); err != nil {
			t.Fatal(err)
		}
		return o
	}
	var times struct{ Items json.RawMessage }
	if err := json.Unmarshal(schema.Defs["times"], &times); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		o object
		v any
	}{
		"table": {schema.object, Table{}}, "role": {part(schema.Defs["role"]), Role{}}, "denyRule": {part(schema.Defs["denyRule"]), DenyRule{}}, "window": {part(times.Items), Window{}},
	} {
		want := jsonFields(c.v)
		have := sortedKeys(c.o.Properties)
		slices.Sort(want)
		if !slices.Equal(have, want) || c.o.AdditionalProperties != false {
			t.Errorf("%s: the schema has %v, the type %v", name, have, want)
		}
		for field, p := range c.o.Properties {
			ref, _ := p["$ref"].(string)
			definition := map[string]any{}
			if raw, ok := schema.Defs[strings.TrimPrefix(ref, "#/$defs/")]; ok {
				if err := json.Unmarshal(raw, &definition); err != nil {
					t.Fatal(err)
				}
			} else if ref != "" {
				t.Errorf("%s.%s: there is no %s", name, field, ref)
			}
			if p["description"] == nil && definition["description"] == nil && ref != "#/$defs/callers" && ref != "#/$defs/actions" {
				t.Errorf("%s.%s isn't described", name, field)
			}
		}
	}
}

// A table with every field is taken by the schema and comes through the types unchanged.
func TestEveryFieldIsRead(t *testing.T) {
	scope := Scope{
		Callers: []string{"up=a", "group=g"}, Actions: []string{"start"}, Logs: []string{"a*"}, Paths: []string{"/a/**"}, Destinations: []string{"c"}, Collectives: []string{"m"},
		Facts: map[string]Values{"os.family": {"Debian", "true", "4"}}, Classes: []string{"c"}, Times: []Window{{Days: []string{"mon-fri"}, Hours: "08:00-18:00", Zone: "UTC"}}, Provisioning: "never",
	}
	want := &Table{
		Version: 1, Zone: "Europe/Berlin", Groups: map[string][]string{"g": {"up=b"}}, Administrators: []string{"up=admin"},
		Roles: map[string]*Role{"r": {About: "x", Scope: scope, For: "1h", Rate: "1MiB/s", Reason: "required", TTL: "60s"}},
		Deny:  map[string]*DenyRule{"d": {About: "y", Scope: scope, Except: []string{"up=c"}}},
	}
	for _, v := range []any{*want, *want.Roles["r"], *want.Deny["d"], scope, scope.Times[0]} {
		for i := range reflect.TypeOf(v).NumField() {
			if f := reflect.ValueOf(v).Field(i); f.IsZero() && reflect.TypeOf(v).Field(i).IsExported() {
				t.Errorf("the test forgets %s", reflect.TypeOf(v).Field(i).Name)
			}
		}
	}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	have, err := Parse("t", text)
	if err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(have)
	if err != nil || string(again) != string(text) {
		t.Errorf("%v\n%s\n%s", err, text, again)
	}
}

// FuzzParse: whatever is read either is an error with a place, or a table whose documents both generations of OPA compile.
func FuzzParse(f *testing.F) {
	text, err := policies.Files.ReadFile("operators.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text))
	f.Add(minimal)
	for i := range 10 {
		random, err := json.Marshal(newRandom(uint64(i)).table())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(random))
	}
	f.Fuzz(func(t *testing.T, text string) {
		table, err := Parse("t", []byte(text))
		if err != nil {
			if !strings.HasPrefix(err.Error(), "t:") {
				t.Errorf("no place: %v", err)
			}
			return
		}
		for _, d := range Documents() {
			policy, err := table.Render(d)
			if err != nil {
				t.Fatal(err)
			}
			for _, version := range []ast.RegoVersion{ast.RegoV0, ast.RegoV1} {
				m, err := ast.ParseModuleWithOpts("x", string(policy), ast.ParserOptions{RegoVersion: version, ProcessAnnotation: true})
				if err != nil {
					t.Fatalf("%v\n%s", err, policy)
				}
				c := ast.NewCompiler().WithStrict(true)
				if c.Compile(map[string]*ast.Module{"x": m}); c.Failed() {
					t.Fatalf("%v\n%s", c.Errors, policy)
				}
			}
		}
		table.Review(nil)
	})
}
