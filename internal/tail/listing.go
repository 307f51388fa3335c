package tail

import (
	"context"
	"slices"
	"strings"
)

// listing is a directory's names with their inodes, as they were when it was read. Nobody changes it.
type listing struct {
	entries []entry // by name
	inodes  map[uint64][]int
}

// readListing reads a directory.
func readListing(dir string) (*listing, error) {
	entries, err := listDir(dir, func([]byte, uint64) bool { return true })
	if err != nil {
		return nil, err
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	l := &listing{entries: entries, inodes: make(map[uint64][]int, len(entries))}
	for i, e := range entries {
		l.inodes[e.ino] = append(l.inodes[e.ino], i)
	}
	return l, nil
}

// pick gives the entries whose names begin with one of stems or that have one of the inodes, by name and each once.
func (l *listing) pick(stems []string, inodes map[uint64]bool) []entry {
	var at []int
	for _, stem := range stems {
		from, _ := slices.BinarySearchFunc(l.entries, stem, func(e entry, stem string) int { return strings.Compare(e.name, stem) })
		for i := from; i < len(l.entries) && strings.HasPrefix(l.entries[i].name, stem); i++ {
			at = append(at, i)
		}
	}
	for ino := range inodes {
		at = append(at, l.inodes[ino]...)
	}
	slices.Sort(at)
	at = slices.Compact(at)
	list := make([]entry, len(at))
	for i, n := range at {
		list[i] = l.entries[n]
	}
	return list
}

// listed is what reading a directory gave.
type listed struct {
	*listing
	err error
}

// list reads a directory, or shares a reading that begins after this call with the other logs that want one at this
// moment. So what was in the directory when a log asked is in what it gets, however many logs start, or are rotated, at
// once: ten thousand that each read ten thousand names would take a minute.
func (w *Watcher) list(dir string) (*listing, error) {
	if w == nil {
		return readListing(dir)
	}
	got, err := w.listings.Ask(dir, func() listed {
		w.read.Add(1)
		l, err := readListing(dir)
		return listed{l, err}
	}).Wait(context.Background())
	if err != nil {
		return nil, err
	}
	return got.listing, got.err
}
