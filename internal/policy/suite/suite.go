// Package suite runs the tests of Rego documents with OPA's own runner, and tells which lines no test reaches.
package suite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/tester"

	"logforward/internal/policy/table"
)

// maxTime bounds one test.
const maxTime = 10 * time.Second

// Test is one test's result.
type Test struct {
	Name   string `json:"name"`            // of the rule
	Where  string `json:"where"`           // file:line
	Passed bool   `json:"passed"`          // the verdict
	Error  string `json:"error,omitempty"` // why it failed
}

// Report is what came of one document's tests.
type Report struct {
	Document string   `json:"document"` // its file, or what a table is rendered into
	Tests    []Test   `json:"tests"`
	Coverage float64  `json:"coverage"` // share of the document's lines that tests reach, in percent
	Missed   []string `json:"missed"`   // lines that none reaches: file:line, or file:line-line
}

// Failed tells how many tests did.
func (r Report) Failed() (n int) {
	for _, t := range r.Tests {
		if !t.Passed {
			n++
		}
	}
	return n
}

// document is one with its tests, by file.
type document struct {
	name  string
	text  []byte
	tests map[string][]byte
}

// Run runs the tests of documents. Paths are files or directories of Rego documents, tables, and tests, which end in
// _test.rego. A table is rendered first. Of several documents each has the tests that are called as it is.
func Run(ctx context.Context, paths []string) ([]Report, error) {
	documents, err := find(paths)
	if err != nil {
		return nil, err
	}
	var reports []Report
	for _, d := range documents {
		r, err := d.run(ctx)
		if err != nil {
			return reports, err
		}
		reports = append(reports, r)
	}
	return reports, nil
}

const testSuffix = "_test.rego"

func find(paths []string) ([]*document, error) {
	var files []string
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			files = append(files, p)
			continue
		}
		err = filepath.WalkDir(p, func(file string, e fs.DirEntry, err error) error {
			if err == nil && e.Type().IsRegular() && filepath.Ext(file) == ".rego" {
				files = append(files, file)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	var documents []*document
	tests := map[string][]byte{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		switch {
		case err != nil:
			return nil, err
		case strings.HasSuffix(file, testSuffix):
			tests[file] = text
		case filepath.Ext(file) == ".rego":
			documents = append(documents, &document{name: file, text: text})
		default:
			t, err := table.Parse(file, text)
			if err != nil {
				return nil, err
			}
			rendered, err := t.Render(table.ForChoria)
			if err != nil {
				return nil, err
			}
			documents = append(documents, &document{name: file + " (rendered)", text: rendered})
		}
	}
	if len(documents) == 0 {
		return nil, fmt.Errorf("no document among %s; give the policy with its tests", strings.Join(paths, " "))
	}
	for _, d := range documents {
		d.tests = tests
		if len(documents) == 1 {
			break
		}
		d.tests = map[string][]byte{}
		for file, text := range tests {
			if own := strings.TrimSuffix(file, testSuffix); own == strings.TrimSuffix(d.name, ".rego") {
				d.tests[file] = text
			}
		}
	}
	return documents, nil
}

func (d *document) run(ctx context.Context) (Report, error) {
	r := Report{Document: d.name, Tests: []Test{}, Missed: []string{}}
	modules := map[string]*ast.Module{}
	for name, text := range d.tests {
		m, err := ast.ParseModuleWithOpts(name, string(text), ast.ParserOptions{RegoVersion: ast.RegoV1})
		if err != nil {
			return r, err
		}
		modules[name] = m
	}
	m, err := ast.ParseModuleWithOpts(d.name, string(d.text), ast.ParserOptions{RegoVersion: ast.RegoV1})
	if err != nil {
		return r, err
	}
	modules[d.name] = m
	tracer := cover.New()
	results, err := tester.NewRunner().SetCompiler(ast.NewCompiler()).SetTimeout(maxTime).SetCoverageQueryTracer(tracer).SetModules(modules).RunTests(ctx, nil)
	if err != nil {
		return r, fmt.Errorf("the tests of %s: %w", d.name, err)
	}
	for one := range results {
		t := Test{Name: one.Name, Passed: one.Pass()}
		if one.Location != nil {
			t.Where = fmt.Sprintf("%s:%d", one.Location.File, one.Location.Row)
		}
		if one.Error != nil {
			t.Error = one.Error.Error()
		}
		r.Tests = append(r.Tests, t)
	}
	if err := ctx.Err(); err != nil {
		return r, errors.Join(err, fmt.Errorf("the tests of %s were given up", d.name))
	}
	slices.SortStableFunc(r.Tests, func(a, b Test) int { return strings.Compare(a.Where, b.Where) })
	if file := tracer.Report(modules).Files[d.name]; file != nil {
		r.Coverage = file.Coverage
		for _, missed := range file.NotCovered {
			where := fmt.Sprintf("%s:%d", d.name, missed.Start.Row)
			if missed.End.Row != missed.Start.Row {
				where += fmt.Sprintf("-%d", missed.End.Row)
			}
			r.Missed = append(r.Missed, where)
		}
	}
	return r, nil
}
