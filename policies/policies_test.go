package policies_test

import (
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"logforward/internal/policy"
	"logforward/internal/policy/suite"
	"logforward/policies"
)

func documents() []string { return []string{"logforward.rego", "default.rego", "aaa.rego"} }

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := policies.Files.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The documents' own tests pass, and reach each line of them.
func TestDocuments(t *testing.T) {
	reports, err := suite.Run(t.Context(), []string{"."})
	if err != nil || len(reports) != len(documents()) {
		t.Fatalf("%d reports, %v", len(reports), err)
	}
	for _, r := range reports {
		if len(r.Tests) < 4 || r.Coverage != 100 || len(r.Missed) > 0 {
			t.Errorf("%s: %d tests reach %.1f %%, not %v", r.Document, len(r.Tests), r.Coverage, r.Missed)
		}
		for _, one := range r.Tests {
			if !one.Passed {
				t.Errorf("%s %s: failed %s", one.Where, one.Name, one.Error)
			}
		}
	}
}

// Each is as both generations of Choria need it, and as opa fmt writes it; so are the tests.
func TestBothGenerations(t *testing.T) {
	for _, name := range documents() {
		for _, i := range policy.Inspect(name, read(t, name)) {
			if i.Err != nil {
				t.Errorf("%s: %s: %v", name, i.What, i.Err)
			}
		}
		test := strings.Replace(name, ".rego", "_test.rego", 1)
		if err := policy.Format(test, read(t, test)); err != nil {
			t.Errorf("%s: %v", test, err)
		}
		// The older generation reads Rego of version 0, where the newer syntax needs the import.
		without := strings.Replace(string(read(t, name)), "import rego.v1", "", 1)
		if _, err := ast.ParseModuleWithOpts(name, without, ast.ParserOptions{RegoVersion: ast.RegoV0}); err == nil {
			t.Errorf("%s is read without the import, too: the check checks nothing", name)
		}
	}
}
