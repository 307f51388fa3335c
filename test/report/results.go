package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/perf/benchfmt"
)

// results are what one run measured, and the facts that it noted about the machine and itself.
type results struct {
	order  []string                        // benchmarks, without "Benchmark" and GOMAXPROCS, as they first came
	values map[string]map[string][]float64 // by benchmark and unit, one for each repetition
	facts  map[string]string
}

// factLine is a configuration line of the benchmark format.
var factLine = regexp.MustCompile(`(?m)^([a-z][a-z0-9-]*): (.*)$`)

// read takes the output of benchmarks with configuration lines among it.
func read(r io.Reader, name string) (*results, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	x := &results{values: map[string]map[string][]float64{}, facts: map[string]string{}}
	for _, m := range factLine.FindAllStringSubmatch(string(text), -1) {
		x.facts[m[1]] = m[2]
	}
	reader := benchfmt.NewReader(bytes.NewReader(text), name)
	var bad error
	for reader.Scan() {
		switch record := reader.Result().(type) {
		case *benchfmt.Result:
			x.add(record)
		case *benchfmt.SyntaxError:
			bad = errors.Join(bad, record)
		}
	}
	if err := errors.Join(reader.Err(), bad); err != nil {
		return nil, err
	}
	if len(x.order) == 0 {
		return nil, fmt.Errorf("%s: no benchmark's result", name)
	}
	return x, nil
}

func (x *results) add(r *benchfmt.Result) {
	base, parts := r.Name.Parts()
	name := string(base)
	for _, p := range parts {
		if p[0] == '/' {
			name += string(p)
		}
	}
	if x.values[name] == nil {
		x.values[name] = map[string][]float64{}
		x.order = append(x.order, name)
	}
	for _, v := range r.Values {
		value, unit := v.Value, v.Unit
		if v.OrigUnit != "" { // as the benchmark said it, not in base units
			value, unit = v.OrigValue, v.OrigUnit
		}
		x.values[name][unit] = append(x.values[name][unit], value)
	}
}

// value is the median of a benchmark's repetitions.
func (x *results) value(name, unit string) (float64, bool) {
	v := slices.Sorted(slices.Values(x.values[name][unit]))
	if len(v) == 0 {
		return 0, false
	}
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2, true
}

// below are the variants of a benchmark, as they came.
func (x *results) below(name string) (list []string) {
	for _, o := range x.order {
		if rest, ok := strings.CutPrefix(o, name+"/"); ok {
			list = append(list, rest)
		}
	}
	return list
}

// failed are the benchmarks whose program ended with an error, and that error.
func (x *results) failed() (list []string) {
	for key, value := range x.facts {
		if name, ok := strings.CutPrefix(key, failedFact); ok {
			list = append(list, name+": "+value)
		}
	}
	slices.Sort(list)
	return list
}
