package main

import (
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"testing"

	"logforward/test/proc"
)

func TestMain(m *testing.M) { os.Exit(enter(m.Run)) }

// TestChaos is make chaos in short: a few faults that have little in common, once each, always the same. LOGFORWARD_SEED has others.
func TestChaos(t *testing.T) {
	seed := uint64(1)
	if s := os.Getenv("LOGFORWARD_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	binary, err := proc.Program(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	can, all := newAbilities(), faults()
	t.Run("faults", func(t *testing.T) {
		for _, name := range []string{"combination", "power-receiver", "power-node", "truncate", "logrotate-copytruncate", "logrotate-olddir"} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				f := byName(all, name)
				if why := can.lacks(f); why != "" {
					t.Skip(why)
				}
				r := play(f, seed, options{binary: binary})
				if !r.ok() {
					t.Fatal(r.text())
				}
				if r.effects.none() {
					t.Fatalf("%v\n%s", errNoEffect, r.text())
				}
				t.Logf("seed %d: %+v, %+v, back to no lag after %s", seed, r.tally, r.effects, r.recovery)
			})
		}
	})
}

// TestMutantsApply: each way to break the program still finds the text that it breaks, and leaves a Go file.
func TestMutantsApply(t *testing.T) {
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	all, seen := faults(), map[string]bool{}
	for _, m := range mutants() {
		texts, err := m.sources(root)
		if err != nil {
			t.Error(err)
		}
		for file, text := range texts {
			if _, err := parser.ParseFile(token.NewFileSet(), file, text, 0); err != nil {
				t.Errorf("mutant %s: %v", m.name, err)
			}
		}
		if byName(all, m.fault) == nil || seen[m.name] || m.about == "" {
			t.Errorf("mutant %s: fault %q, seen %v", m.name, m.fault, seen[m.name])
		}
		seen[m.name] = true
	}
}

// TestFaults: names are unique, and what isn't promised has a reason.
func TestFaults(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range faults() {
		if seen[f.name] || (f.do == nil) == (f.parts == nil) || f.about == "" || f.rounds < 1 || f.group == "" {
			t.Errorf("%+v", f)
		}
		if (len(f.causes) > 0 || f.doubles) && f.why == "" {
			t.Errorf("%s may lose or double something, and doesn't say why", f.name)
		}
		seen[f.name] = true
	}
}
