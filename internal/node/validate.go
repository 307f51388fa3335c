package node

import (
	"fmt"
	"slices"
	"strings"

	"logforward/internal/control"
	"logforward/internal/tail"
)

// Definitions reads a definitions directory as a starting node would: those that would be in
// force, sorted by log, and what is wrong. A directory that doesn't exist defines nothing.
func Definitions(dir string) ([]Definition, []control.Problem) {
	d := newDirectory(dir)
	d.look(true)
	found, problems := d.definitions()
	list := make([]Definition, 0, len(found))
	for _, m := range found {
		list = append(list, m.Definition)
	}
	slices.SortFunc(list, func(a, b Definition) int { return strings.Compare(a.Log, b.Log) })
	return list, problems
}

// Preview tells what would come of a definition on this machine: an error where it would be refused,
// otherwise what is followed, as text, and what of it isn't.
func Preview(d Definition, allowed tail.Allowed, destinations []string) (string, []control.Problem, error) {
	n := &Node{config: Config{Destinations: destinations}}
	if err := n.settle(&d); err != nil {
		return "", nil, err
	}
	find := func(pattern string) ([]string, []control.Problem, error) { return expand(pattern, allowed) }
	if err := permitted(d.Path, allowed, find); err != nil {
		return "", nil, fmt.Errorf("%s: %w; permitted are %s (allowed_paths)", d.Path, err, allowed)
	}
	if !isGlob(d.Path) {
		return d.Path + " to " + d.Destination, nil, nil
	}
	g := &glob{Pattern: d.Path}
	g.look(d.Log, find, map[string]bool{d.Log: true}, func(string) bool { return true }, n.started)
	return fmt.Sprintf("%s to %s: %s", d.Path, d.Destination, g.summary), g.refused, g.fault
}
