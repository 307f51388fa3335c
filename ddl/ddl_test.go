package ddl

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/choria-io/go-choria/providers/agent/mcorpc/ddl/agent"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

var update = flag.Bool("update", false, "write logforward.ddl anew")

func TestRubyIsMadeFromJSON(t *testing.T) {
	d, err := agent.NewFromBytes(JSON)
	if err != nil {
		t.Fatal(err)
	}
	want, err := d.ToRuby()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("logforward.ddl", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("logforward.ddl")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("logforward.ddl differs from what logforward.json gives; write it with: make docs")
	}
}

// Choria's own schema is in its module.
func TestSchema(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/choria-io/go-choria").Output()
	if err != nil {
		t.Fatal(err)
	}
	schema, err := jsonschema.NewCompiler().Compile(filepath.Join(strings.TrimSpace(string(out)), "internal/fs/schemas/mcorpc/ddl/v1/agent.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(decoded(t, JSON)); err != nil {
		t.Errorf("%#v", err)
	}
	if schema.Validate(decoded(t, []byte(strings.Replace(string(JSON), `"display": "always"`, `"display": "sometimes"`, 1)))) == nil {
		t.Error("the schema takes anything")
	}
}

// What Choria leaves unchecked, and what makes its output hard to read.
func TestConventions(t *testing.T) {
	a, err := Parse()
	if err != nil {
		t.Fatal(err)
	}
	for _, action := range a.Actions {
		reads := action.Name == "status" || action.Name == "list" || action.Name == "check" || action.Name == "plan"
		if want := map[bool]string{true: "always", false: "failed"}[reads]; action.Display != want {
			t.Errorf("%s: display %s, want %s", action.Name, action.Display, want)
		}
		if len(action.Outputs) > 7 {
			t.Errorf("%s: %d outputs are too many for a screen", action.Name, len(action.Outputs))
		}
		if o, ok := action.Outputs["state"]; !ok || o.Default != "unknown" {
			t.Errorf("%s: no state that is unknown by default", action.Name)
		}
		for name, input := range action.Inputs {
			if input.Type != "string" {
				continue
			}
			// Without a length Choria skips the pattern, and one without ^ and $ matches a part.
			if input.MaxLength <= 0 || !strings.HasPrefix(input.Pattern, "^") || !strings.HasSuffix(input.Pattern, "$") {
				t.Errorf("%s: input %s: pattern %s and length %d check nothing", action.Name, name, input.Pattern, input.MaxLength)
			}
			for _, bad := range []string{"a\nb", "/a\nb", "1h\n", "\x00", "/a\x1b[2J"} {
				if input.Check(bad) == nil {
					t.Errorf("%s: input %s takes %q", action.Name, name, bad)
				}
			}
		}
	}
}

// The agent's own check says the same as Choria's of each input.
func TestCheckAgreesWithChoria(t *testing.T) {
	d, err := agent.NewFromBytes(JSON)
	if err != nil {
		t.Fatal(err)
	}
	a, err := Parse()
	if err != nil {
		t.Fatal(err)
	}
	values := []any{
		"app", "/var/log/app.log", "central", "end", "beginning", "5MiB/s", "unlimited", "90m", "1h30m", "1d", "0", "", "a/b", "a b", "../x",
		"/x\n", "x\ty", "\x7f", "soon", "fast", "5 furlongs", strings.Repeat("x", 5000), strings.Repeat("é", 200), "/" + strings.Repeat("é", 300), true, false, 1.5, nil,
		[]any{"x"}, map[string]any{}, "$(id)", "`id`", "; rm -rf /", "ＡＰＰ", "a\u202eb",
	}
	for _, action := range a.Actions {
		theirs, err := d.ActionInterface(action.Name)
		if err != nil {
			t.Fatal(err)
		}
		for name, input := range action.Inputs {
			for _, v := range values {
				_, theirErr := theirs.ValidateInputValue(name, v)
				if ours := input.Check(v); (ours == nil) != (theirErr == nil) {
					t.Errorf("%s %s=%#.40v: %v here, %v at Choria", action.Name, name, v, ours, theirErr)
				}
			}
		}
	}
}

func decoded(t *testing.T, b []byte) (v any) {
	t.Helper()
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// The Puppet module brings the same description as the program.
func TestPuppetModuleHasTheSame(t *testing.T) {
	for _, name := range []string{"logforward.json", "logforward.ddl"} {
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join("../puppet/files/mcollective/agent", name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("puppet/files/mcollective/agent/%s isn't that of ddl/: run make docs", name)
		}
	}
}
