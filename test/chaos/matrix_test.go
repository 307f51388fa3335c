package main

import (
	"errors"
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write what is made as what is wanted")

// The page's cells are short, the numbers and what was said stand below, and no path of the machine that ran it is in it.
func TestMatrixPage(t *testing.T) {
	all := faults()
	kill, power, rewritten, skipped := byName(all, "kill-node"), byName(all, "power-node"), byName(all, "rewrite"), byName(all, "choria-kill")
	combined := byName(all, "combination")
	results := []*result{
		{fault: kill, seed: 1, tally: tally{Bytes: 5 << 20}, recovery: time.Second, effects: effects{Took: 4, Of: 4, Seen: "the process is gone, by signal 9"}},
		{fault: kill, seed: 2, tally: tally{Bytes: 3 << 20}, recovery: 2 * time.Second, effects: effects{Took: 3, Of: 4, Seen: "the process is gone, by signal 9", Unseen: "kill-node"}},
		{fault: power, seed: 1, tally: tally{Bytes: 1 << 20, Gaps: 2, Lost: 300, Unsized: 1, Causes: map[string]int{"truncated": 1, "changed since it was read": 1}}, effects: effects{Of: 3, Unseen: "power-node"}},
		{fault: power, seed: 2, err: broken(checkOnce, "verify calls it damaged: /tmp/chaos-123/receiver1/received/web1/app1.log | a pipe"), effects: effects{Of: 3, Unseen: "power-node"}},
		{fault: rewritten, seed: 1, tally: tally{Bytes: 1 << 20, Unseen: 77, Doubled: 99}, effects: effects{Took: 1, Of: 1, Seen: "9 bytes of the file are other ones"}},
		{fault: combined, seed: 1, tally: tally{Bytes: 1 << 20}, effects: effects{Took: 5, Of: 6, Seen: "the process is in state T", Unseen: "wipe-receiver"}},
		{fault: byName(all, "stop-node"), seed: 1, machine: errors.New("no room")},
	}
	p := &published{Made: "2026-01-02", Machine: "a machine", Means: []string{"By a proxy"}, Mutants: []mutantRow{
		{Mutant: "forget-hole", File: "cursor.go", About: "a hole", Fault: "kill-node", Check: checkOnce, Said: "ledger /tmp/chaos-123/receiver1/x line 3", Seed: 1, Tried: 1},
		{Mutant: "other", File: "x.go", About: "else", Fault: "kill-node", Said: "nothing", Tried: 12}}}
	p.replace(rows(results, []skip{{skipped, "there is no Choria"}}), 12)
	got := p.markdown()
	const file = "testdata/correctness.md"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the page isn't %s; with -update it is written:\n%s", file, got)
	}
	if path := regexp.MustCompile(`/tmp/\S*`).FindString(got); path != "" {
		t.Errorf("a path of the machine is in it: %s", path)
	}
	for line := range strings.Lines(got) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		for i, c := range strings.Split(line, " | ")[1:] {
			if len(c) > 40 {
				t.Errorf("cell %d is %d wide: %s", i+1, len(c), c)
			}
		}
	}
}

// A fault that takes effect in none of all rounds fails; one that doesn't in some may be chance.
func TestFaultWithoutEffectFails(t *testing.T) {
	dud, good := &fault{name: "dud"}, &fault{name: "good"}
	results := []*result{
		{fault: dud, effects: effects{Of: 3}}, {fault: good, effects: effects{Of: 3}},
		{fault: dud, effects: effects{Of: 3}}, {fault: good, effects: effects{Took: 1, Of: 3, Seen: "something"}},
	}
	if got := withoutEffect(results); len(got) != 1 || got[0] != "dud" {
		t.Errorf("%q", got)
	}
	if w := newRow(results[:1]); len(w.Failed) != 1 || w.Effects.column() != "**none** of 3" {
		t.Errorf("%+v", w)
	}
}

// Several effects together are seen only if each is.
func TestEffects(t *testing.T) {
	for _, c := range []struct {
		list []effect
		want string
	}{
		{[]effect{seen("a"), seen("b"), seen("a")}, "a; b"},
		{[]effect{seen("a"), nothing}, ""},
		{nil, ""},
	} {
		if got := together(c.list...)(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	if numbered("%d", 0) != "" || numbered("%d", int64(-1)) != "" || numbered("%d bytes", 3) != "3 bytes" {
		t.Error("a number that is 0 is nothing")
	}
}
