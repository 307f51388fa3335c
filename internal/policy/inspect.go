package policy

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"
)

// Packages that Choria asks, by what asks.
const (
	// AAAPackage is the one of policies in callers' tokens.
	AAAPackage = "io.choria.aaasvc"
	// oldest is the OPA of Choria 0.29.
	oldest = "v0.68.0"
)

// Inspection is one thing that was looked at in a document.
type Inspection struct {
	What string
	Err  error // nil: it is as it should be
	Mild bool  // it works nevertheless
}

// Inspect looks at a document as both generations of Choria Server would read it: 0.29 with OPA 0.68, 0.30 with OPA 1. The
// older one isn't there: its language and functions are compiled for by the newer, by the list that OPA keeps of each version.
func Inspect(name string, text []byte) []Inspection {
	var list []Inspection
	add := func(what string, err error) { list = append(list, Inspection{What: what, Err: err}) }
	mild := func(what string, err error) { list = append(list, Inspection{What: what, Err: err, Mild: true}) }

	newer, err := ast.ParseModuleWithOpts(name, string(text), ast.ParserOptions{RegoVersion: ast.RegoV1})
	if err != nil {
		add("syntax for OPA 1 (Choria 0.30)", err)
	} else {
		add("syntax for OPA 1 (Choria 0.30)", nil)
		add("package and rule", asks(newer))
		add("functions that Choria Server survives", harmful(newer))
		add("strict for OPA 1 (Choria 0.30)", strict(name, newer, able(), true))
	}
	older, err := ast.ParseModuleWithOpts(name, string(text), ast.ParserOptions{RegoVersion: ast.RegoV0})
	if err == nil {
		var then *ast.Capabilities
		if then, err = ast.LoadCapabilitiesVersion(oldest); err == nil {
			err = strict(name, older, then, false)
		}
	}
	if err != nil && !bytes.Contains(text, []byte("import rego.v1")) {
		err = fmt.Errorf("%w; does it lack \"import rego.v1\"?", err)
	}
	add("language and functions of OPA 0.68 (Choria 0.29)", err)
	if newer != nil {
		mild("format", Format(name, text))
	}
	return list
}

// Format tells whether a document is as opa fmt writes it.
func Format(name string, text []byte) error {
	formatted, err := format.SourceWithOpts(name, text, format.Opts{RegoVersion: ast.RegoV1})
	if err == nil && !bytes.Equal(formatted, text) {
		err = errors.New("opa fmt would write it otherwise")
	}
	return err
}

// asks tells whether a document answers what Choria asks.
func asks(m *ast.Module) error {
	pkg := strings.TrimPrefix(m.Package.Path.String(), "data.")
	if pkg != Package && pkg != AAAPackage {
		return fmt.Errorf("its package is %s; Choria asks %s, and for tokens %s", pkg, Package, AAAPackage)
	}
	if !slices.ContainsFunc(m.Rules, func(r *ast.Rule) bool { return r.Head.Ref().String() == "allow" }) {
		return errors.New("it has no rule allow, so all is denied")
	}
	return nil
}

// harmful finds functions that Choria Server adds for tokens' policies, and that end it or deny everything.
func harmful(m *ast.Module) (err error) {
	ast.WalkTerms(m, func(t *ast.Term) bool {
		name := t.Value.String()
		if _, isRef := t.Value.(ast.Ref); isRef && strings.HasPrefix(name, "requires_") && strings.HasSuffix(name, "filter") {
			err = fmt.Errorf("%s: %s: requires_filter() ends Choria Server 0.29.4 and 0.30.2 with a panic, and the others deny what is sent to one node; leave them out", t.Location, name)
		}
		return err != nil
	})
	return err
}

func strict(name string, m *ast.Module, able *ast.Capabilities, strict bool) error {
	c := ast.NewCompiler().WithCapabilities(able).WithStrict(strict)
	if c.Compile(map[string]*ast.Module{name: m}); c.Failed() {
		return c.Errors
	}
	return nil
}
