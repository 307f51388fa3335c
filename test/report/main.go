// Command report measures the whole system and writes what it found as a page: docs/performance.md, its plots, and the raw
// results that both are made of. It runs the project's own benchmarks, one after the other, each in a process of its own, so
// that one which fails leaves the others alone; what failed or is missing says so at the top of the page, and in the exit code.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if err := report(); err != nil {
		fmt.Fprintf(os.Stderr, "report: %v\n", err)
		os.Exit(1)
	}
}

func report() error {
	to := flag.String("to", "docs", "directory of performance.md and performance/")
	match := flag.String("bench", "", "measure only benchmarks whose name matches this regular expression")
	quick := flag.Bool("quick", false, "small loads, once: to see whether it works, not for figures")
	render := flag.Bool("render", false, "measure nothing: make the page anew of the results that are there")
	flag.Parse()

	raw := filepath.Join(*to, "performance", "bench.txt")
	if !*render {
		if err := os.MkdirAll(filepath.Dir(raw), 0o755); err != nil {
			return err
		}
		if err := measureAll(raw, *match, *quick); err != nil {
			return err
		}
	}
	f, err := os.Open(raw)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := read(f, raw)
	if err != nil {
		return err
	}
	p := &page{results: r}
	if p.recovery, err = correctness(filepath.Join("docs", "correctness.json")); err != nil {
		return err
	}
	if err := p.write(*to); err != nil {
		return err
	}
	fmt.Printf("written: %s\n", filepath.Join(*to, "performance.md"))
	if *match != "" {
		return errors.Join(failures(p)...) // the rest is missing because nobody asked for it
	}
	return p.missed()
}

func failures(p *page) (list []error) {
	for _, f := range p.failed() {
		list = append(list, errors.New("failed: "+f))
	}
	return list
}
