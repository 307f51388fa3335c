package policies

import (
	"context"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/tester"
)

func modules(t *testing.T, names ...string) map[string]*ast.Module {
	t.Helper()
	all := map[string]*ast.Module{}
	for _, name := range names {
		b, err := Files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if all[name], err = ast.ParseModuleWithOpts(name, string(b), ast.ParserOptions{RegoVersion: ast.RegoV1}); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// The documents' own tests pass, and reach each line of them.
func TestDocuments(t *testing.T) {
	for _, name := range []string{"logforward", "default", "aaa"} {
		t.Run(name, func(t *testing.T) {
			all := modules(t, name+".rego", name+"_test.rego")
			tracer := cover.New()
			results, err := tester.NewRunner().SetCompiler(ast.NewCompiler().WithStrict(true)).SetCoverageQueryTracer(tracer).SetModules(all).RunTests(context.Background(), nil)
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for r := range results {
				n++
				if !r.Pass() {
					t.Errorf("%s: failed, %v", r.Name, r.Error)
				}
			}
			if n == 0 {
				t.Error("there are no tests")
			}
			report := tracer.Report(all).Files[name+".rego"]
			for _, missed := range report.NotCovered {
				t.Errorf("%s.rego:%d-%d: no test gets here", name, missed.Start.Row, missed.End.Row)
			}
		})
	}
}

// The older generation of Choria reads Rego of version 0, where the newer syntax needs the import.
func TestOlderGeneration(t *testing.T) {
	for _, name := range []string{"logforward.rego", "default.rego", "aaa.rego"} {
		b, err := Files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		m, err := ast.ParseModuleWithOpts(name, string(b), ast.ParserOptions{RegoVersion: ast.RegoV0})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		c := ast.NewCompiler()
		if c.Compile(map[string]*ast.Module{name: m}); c.Failed() {
			t.Errorf("%s: %v", name, c.Errors)
		}
		if _, err := ast.ParseModuleWithOpts(name, strings.Replace(string(b), "import rego.v1", "", 1), ast.ParserOptions{RegoVersion: ast.RegoV0}); err == nil {
			t.Errorf("%s is read without the import, too: the check checks nothing", name)
		}
	}
}
