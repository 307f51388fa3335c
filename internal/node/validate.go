package node

import (
	"fmt"
	"os"
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

// Outlook is what would come of a definition on this machine.
type Outlook struct {
	Definition                   // with the destination filled in
	Files      []string          // that are followed now
	Summary    string            // of a glob's files; empty: no glob
	Special    string            // what the path is where it isn't a regular file: a directory, a FIFO; nothing is followed as long as it is
	Refused    []control.Problem // files that match, and are not followed
}

// Preview tells what would come of a definition on this machine: an error where it would be refused.
func Preview(d Definition, allowed tail.Allowed, destinations []string) (Outlook, error) {
	n := &Node{config: Config{Destinations: destinations}}
	if err := n.settle(&d); err != nil {
		return Outlook{Definition: d}, err
	}
	o := Outlook{Definition: d}
	find := finder(allowed)
	if err := permitted(d.Path, allowed, find); err != nil {
		return o, fmt.Errorf("%s: %w; permitted are %s (allowed_paths)", d.Path, err, allowed)
	}
	if !isGlob(d.Path) {
		if info, err := os.Stat(d.Path); err == nil && info.Mode().IsRegular() {
			o.Files = []string{d.Path}
		}
		o.Special = special(d.Path)
		return o, nil
	}
	g := &glob{Pattern: d.Path}
	g.look(d.Log, take(d.Path, find), map[string]bool{d.Log: true}, func(string) bool { return true }, n.started)
	for _, f := range g.Files {
		o.Files = append(o.Files, f.Path)
	}
	o.Summary, o.Refused = g.summary, g.refused
	return o, g.fault
}
