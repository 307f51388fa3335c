package table

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

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
