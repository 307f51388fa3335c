package table

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"

	"logforward/policies"
)

var update = flag.Bool("update", false, "write the rendered example to policies/")

// Example is the table that comes with logforward.
func example(t testing.TB) *Table {
	t.Helper()
	text, err := policies.Files.ReadFile("operators.yaml")
	if err != nil {
		t.Fatal(err)
	}
	table, err := Parse("operators.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// The documents in policies/ are what the example renders to now.
func TestRenderedExampleIsUpToDate(t *testing.T) {
	table := example(t)
	for d, name := range map[Document]string{ForChoria: "logforward.rego", ForDefault: "default.rego", ForAAA: "aaa.rego"} {
		want, err := table.Render(d)
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile(filepath.Join("../../../policies", name), want, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		have, err := policies.Files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(have, want) {
			t.Errorf("policies/%s isn't what policies/operators.yaml renders to: go test ./internal/policy/table -run UpToDate -update", name)
		}
	}
}

// A caller's own document says to that caller what the whole one says, and is smaller.
func TestOneCallersDocument(t *testing.T) {
	n := seed(t)
	for i := range 20 {
		r := newRandom(n + uint64(i))
		table := reparse(t, r.table())
		whole, err := table.Render(ForAAA)
		if err != nil {
			t.Fatal(err)
		}
		in := r.request(table)
		caller, ok := in["callerid"].(string)
		if !ok {
			continue
		}
		own, err := table.Of(caller).Render(ForAAA)
		if err != nil || len(own) > len(whole) {
			t.Fatalf("%v: %d bytes of %d", err, len(own), len(whole))
		}
		all, mine := prepareNewer(t, "io.choria.aaasvc", whole, ast.RegoV1), prepareNewer(t, "io.choria.aaasvc", own, ast.RegoV1)
		for range 30 {
			in := r.request(table)
			in["claims"] = map[string]any{"callerid": caller}
			a, err := all.decide(t, in)
			if err != nil {
				t.Fatal(err)
			}
			b, err := mine.decide(t, in)
			if err != nil || a.Allowed != b.Allowed {
				t.Fatalf("LOGFORWARD_SEED=%d, table %d: %+v for %+v, %+v in their own (%v)", n, i, a, in, b, err)
			}
		}
	}
}
