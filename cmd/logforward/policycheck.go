package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/choria-io/fisk"

	"logforward/internal/policy"
	"logforward/internal/policy/suite"
	operators "logforward/internal/policy/table"
)

func (p *program) policyCheck(parent *fisk.CmdClause) {
	var files []string
	var config string
	c := p.subcommand(parent, "check", "Look for mistakes in tables and documents", `
Of a table: syntax and schema, with line, column and field of each fault; roles that can't allow anything, that allow
nothing of their own, or everything; globs that are wider than they look; callers, and with --config destinations, that don't exist.
Of a document, and of what a table is rendered into: syntax, package, strict compilation for OPA 1 (Choria 0.30), and language and
functions of OPA 0.68 (Choria 0.29), which the newer compiles for by OPA's own list of what that version had.

    logforward policy check operators.yaml
    logforward policy check operators.yaml --config /etc/choria/plugin.d/logforward.cfg
    logforward policy check logforward.rego default.rego

Exit codes: 0 usable (there may be warnings), 1 a check failed, 78 a file is broken.
`, func(ctx context.Context) error {
		destinations, err := p.destinationsOf(config)
		if err != nil {
			return err
		}
		v := &validation{program: p}
		for _, file := range files {
			if err := v.policy(file, destinations); err != nil {
				return err
			}
		}
		if err := v.result(); err != nil {
			return &exitError{exitFailure, errors.Unwrap(err)}
		}
		return nil
	})
	c.Arg("files", "Tables and Rego documents (*.rego)").Required().StringsVar(&files)
	c.Flag("config", "A node's settings, to compare destinations with").PlaceHolder("FILE").StringVar(&config)
}

func (v *validation) policy(file string, destinations []string) error {
	text, err := readPolicy(file)
	if err != nil {
		return err
	}
	if !isTable(file) {
		v.document(file, text)
		return nil
	}
	t, err := operators.Parse(file, text)
	if err != nil {
		return misconfigured(err)
	}
	v.ok(file, "syntax and schema: %d roles, %d deny rules", len(t.Roles), len(t.Deny))
	for _, f := range t.Review(destinations) {
		if f.Grave {
			v.fail(f.Where, fmt.Errorf("%s: %s", f.Field, f.Text), "")
		} else {
			v.warn(f.Where, f.Field+": "+f.Text, "")
		}
	}
	for _, d := range operators.Documents() {
		rendered, err := t.Render(d)
		if err != nil {
			v.fail(file, err, "")
			continue
		}
		v.document(fmt.Sprintf("%s (--for %s)", file, d), rendered)
	}
	return nil
}

func (v *validation) document(name string, text []byte) {
	faults := 0
	for _, i := range policy.Inspect(name, text) {
		switch {
		case i.Err == nil:
		case i.Mild:
			v.warn(name, fmt.Sprintf("%s: %v", i.What, i.Err), "")
		default:
			v.fail(name, fmt.Errorf("%s: %s", i.What, strings.ReplaceAll(i.Err.Error(), "\n", "; ")), "")
			faults++
		}
	}
	if faults == 0 {
		v.ok(name, "compiles strictly for OPA 1 (Choria 0.30), and for the language and functions of OPA 0.68 (Choria 0.29)")
	}
}

func (p *program) policyTest(parent *fisk.CmdClause) {
	var paths []string
	var least float64
	var verbose bool
	c := p.subcommand(parent, "test", "Run the tests of documents, with coverage", `
Runs tests written in Rego, rules that begin with test_ in files that end in _test.rego, with OPA's own runner. A table is rendered first,
so its tests are those of data.io.choria.mcorpc.authpolicy. Of several documents each has the tests that are called as it is.

    logforward policy test operators.yaml logforward_test.rego
    logforward policy test /etc/choria/policies/rego --coverage 100

Exit codes: 0 all passed, 1 a test failed, or a document has none or too little coverage, 78 a file is broken.
`, func(ctx context.Context) error {
		reports, err := suite.Run(ctx, paths)
		if err != nil {
			return misconfigured(err)
		}
		return p.reports(reports, least, verbose)
	})
	c.Arg("paths", "Documents, tables and tests, or directories of them").Required().StringsVar(&paths)
	c.Flag("coverage", "Fail below this share of a document's lines, in percent").Default("0").Float64Var(&least)
	c.Flag("verbose", "Name each test, and each line that none reaches").UnNegatableBoolVar(&verbose)
}

func (p *program) reports(reports []suite.Report, least float64, verbose bool) error {
	var faults []string
	for _, r := range reports {
		if len(r.Tests) == 0 {
			faults = append(faults, r.Document+" has no tests")
		}
		if n := r.Failed(); n > 0 {
			faults = append(faults, fmt.Sprintf("%d of %d tests of %s failed", n, len(r.Tests), r.Document))
		}
		if r.Coverage < least {
			faults = append(faults, fmt.Sprintf("tests reach %.1f %% of %s; wanted are %.1f %%", r.Coverage, r.Document, least))
		}
		if p.json {
			continue
		}
		for _, t := range r.Tests {
			switch {
			case !t.Passed:
				fmt.Fprintf(p.out, "failed   %s  %s  %s\n", harmless(t.Where), harmless(t.Name), harmless(t.Error))
			case verbose:
				fmt.Fprintf(p.out, "passed   %s  %s\n", harmless(t.Where), harmless(t.Name))
			}
		}
		fmt.Fprintf(p.out, "%s: %d of %d tests passed, %.1f %% of its lines are reached\n", harmless(r.Document), len(r.Tests)-r.Failed(), len(r.Tests), r.Coverage)
		if verbose || least > 0 && r.Coverage < least {
			for _, line := range r.Missed {
				fmt.Fprintf(p.out, "  not reached: %s\n", harmless(line))
			}
		}
	}
	if p.json {
		if err := p.print(reports); err != nil {
			return err
		}
	}
	if len(faults) > 0 {
		return &exitError{exitFailure, errors.New(strings.Join(faults, "; "))}
	}
	return nil
}

func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
