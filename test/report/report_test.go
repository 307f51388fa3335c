package main

import (
	"bytes"
	"encoding/xml"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what is to be expected")

func sample(t *testing.T) *results {
	t.Helper()
	f, err := os.Open("testdata/bench.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := read(f, f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestPage makes the page of a fixed run.
func TestPage(t *testing.T) {
	recovery, err := correctness("testdata/correctness.json")
	if err != nil {
		t.Fatal(err)
	}
	p := &page{results: sample(t), recovery: recovery}
	dir := t.TempDir()
	if err := p.write(dir); err != nil {
		t.Fatal(err)
	}
	if err := p.missed(); err != nil {
		t.Error(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "performance.md"))
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("testdata/performance.md", got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the page differs from testdata/performance.md; -update writes it anew:\n%s", got)
	}
	for name := range plots {
		if !bytes.Contains(got, []byte("performance/"+name+".svg")) {
			t.Errorf("%s isn't shown", name)
		}
		b, err := os.ReadFile(filepath.Join(dir, "performance", name+".svg"))
		if err != nil {
			t.Fatal(err)
		}
		d := xml.NewDecoder(bytes.NewReader(b))
		for err == nil {
			_, err = d.Token()
		}
		if err != io.EOF || !bytes.Contains(b, []byte("<path")) {
			t.Errorf("%s: %v, %d bytes", name, err, len(b))
		}
	}
}

// TestMissing: what wasn't measured, or failed, is at the top of the page and in the error.
func TestMissing(t *testing.T) {
	r := sample(t)
	r.order = slices.DeleteFunc(r.order, func(name string) bool {
		return strings.HasPrefix(name, "Latency") || strings.HasPrefix(name, "Recovery/")
	})
	delete(r.values, "Latency")
	delete(r.values["Idle"], "forward-resident-MB")
	r.facts[failedFact+"latency"] = "exit status 1"
	p := &page{results: r}
	text, err := p.text()
	if err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(string(text), "## Targets")
	for _, want := range []string{"FAILED in this run: latency: exit status 1", "MISSING in this run:", "Latency p50-ms", "Recovery", "Idle forward-resident-MB"} {
		if !strings.Contains(head, want) {
			t.Errorf("nothing of %q in\n%s", want, head)
		}
	}
	if err := p.missed(); err == nil || !strings.Contains(err.Error(), "Latency p99-ms") || !strings.Contains(err.Error(), "exit status 1") {
		t.Error(err)
	}
	for _, row := range p.targets() {
		if strings.Contains(row.Measured, "missing") != (row.Met == "**not measured**") {
			t.Errorf("%+v", row)
		}
	}
	if n := strings.Count(string(text), "**not measured**"); n != 4 {
		t.Errorf("%d targets not measured", n)
	}
	for _, draw := range plots {
		if _, err := draw(r); err != nil {
			t.Error(err)
		}
	}
}

// TestWithoutPeers: a machine needn't have the others.
func TestWithoutPeers(t *testing.T) {
	r := sample(t)
	r.order = slices.DeleteFunc(r.order, func(name string) bool { return strings.Contains(name, "syslog") })
	p := &page{results: r}
	text, err := p.text()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.missed(); err != nil {
		t.Error(err)
	}
	if !bytes.Contains(text, []byte("make bench-peers")) || !bytes.Contains(text, []byte("| rsyslog-tcp | not measured |")) {
		t.Errorf("%s", text)
	}
}

// TestTargets: on the limit is met, beyond it isn't.
func TestTargets(t *testing.T) {
	for _, tc := range []struct {
		unit, value, met string
	}{
		{"of-cp", "0.15", "yes"}, {"of-cp", "0.149", "**no**, 0.993 times the target"}, {"of-cp", "0.075", "**no**, 0.500 times the target"},
		{"CPU-s/GiB", "5", "yes"}, {"CPU-s/GiB", "6", "**no**, 1.20 times the target"},
	} {
		r, err := read(strings.NewReader("BenchmarkThroughput/files=1-2 1 "+tc.value+" "+tc.unit+"\n"), "test")
		if err != nil {
			t.Fatal(err)
		}
		for i, row := range (&page{results: r}).targets() {
			if wanted[i].name == "Throughput/files=1" && wanted[i].unit == tc.unit && row.Met != tc.met {
				t.Errorf("%s %s: %+v", tc.value, tc.unit, row)
			}
		}
	}
}

// TestRead: repetitions are kept, the median counts, names lose GOMAXPROCS and units stay as they were said.
func TestRead(t *testing.T) {
	r, err := read(strings.NewReader(`cores: 2
BenchmarkA/kill-9-x-2 1 5 ns/op 3 MB/s
BenchmarkA/kill-9-x-2 1 5 ns/op 9 MB/s
some output: of a program
BenchmarkA/kill-9-x-2 1 5 ns/op 4 MB/s
failed-b: exit status 2
`), "test")
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := r.value("A/kill-9-x", "MB/s"); !ok || v != 4 {
		t.Error(v, ok, r.values)
	}
	if v, ok := r.value("A/kill-9-x", "ns/op"); !ok || v != 5 {
		t.Error(v, ok)
	}
	if p := (&page{results: r}); p.span("A/kill-9-x", "MB/s") != "4 (3–9)" || p.fact("cores") != "2" {
		t.Error(p.span("A/kill-9-x", "MB/s"), r.facts)
	}
	if f := r.failed(); len(f) != 1 || f[0] != "b: exit status 2" {
		t.Error(f)
	}
	if _, err := read(strings.NewReader("PASS\n"), "test"); err == nil {
		t.Error("nothing measured, and no error")
	}
	if _, err := correctness("testdata/bench.txt"); err == nil {
		t.Error("no JSON, and no error")
	}
}
