package tail

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"
)

// listing is a directory's names with their inodes, as they were when it was read. Nobody changes it.
type listing struct {
	entries []entry // by name
	// byInode are places in entries, by inode. Few ask for it.
	byInode func() []int32
}

// readListing reads a directory.
func readListing(dir string) (*listing, error) {
	entries, err := listDir(dir)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return &listing{entries, sync.OnceValue(func() []int32 {
		order := make([]int32, len(entries))
		for i := range order {
			order[i] = int32(i)
		}
		slices.SortFunc(order, func(a, b int32) int { return cmp.Compare(entries[a].ino, entries[b].ino) })
		return order
	})}, nil
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
		order := l.byInode()
		from, _ := slices.BinarySearchFunc(order, ino, func(i int32, ino uint64) int { return cmp.Compare(l.entries[i].ino, ino) })
		for ; from < len(order) && l.entries[order[from]].ino == ino; from++ {
			at = append(at, int(order[from]))
		}
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

const (
	// coarse is more than the steps in which file systems count time (the oldest ones: whole seconds): a directory that changed longer ago
	// than that shows its next change.
	coarse = 2 * time.Second
	// keptFor is how long a listing is kept that nobody asks for.
	keptFor = 5 * time.Second
)

// kept is a listing of a directory that had been at rest when it was read.
type kept struct {
	*listing
	at    info // of the directory, from before it was read
	asked time.Time
}

// list reads a directory, or shares a reading that begins after this call with the other logs that want one at this
// moment. So what was in the directory when a log asked is in what it gets, however many logs start, or are rotated, at
// once: ten thousand that each read ten thousand names would take a minute.
func (w *Watcher) list(dir string) (*listing, error) {
	if w == nil {
		return readListing(dir)
	}
	got, err := w.listings.Ask(dir, func() listed {
		l, err := w.listNow(dir)
		return listed{l, err}
	}).Wait(context.Background())
	if err != nil {
		return nil, err
	}
	return got.listing, got.err
}

// listNow reads a directory, or gives what was read of it where it hasn't changed since. Names and inodes come and go only with a change of the
// directory's own times, and those are only believed where this kernel sets them, and once they are so old that the next change must give it others.
func (w *Watcher) listNow(dir string) (*listing, error) {
	now := w.now()
	at, err := statPath(dir)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	k := w.kept[dir]
	if k != nil && k.at == at {
		k.asked = now
		w.mu.Unlock()
		return k.listing, nil
	}
	delete(w.kept, dir)
	w.mu.Unlock()
	w.read.Add(1)
	l, err := readListing(dir)
	if err != nil {
		return nil, err
	}
	if newest := later(at.mtime, at.changed); now.Sub(newest) >= coarse && IsLocal(dir) {
		w.mu.Lock()
		w.kept[dir] = &kept{l, at, now}
		w.mu.Unlock()
	}
	return l, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// drop lets go of listings that nobody asks for any more. Called with w.mu.
func (w *Watcher) drop(now time.Time) {
	for dir, k := range w.kept {
		if now.Sub(k.asked) >= keptFor {
			delete(w.kept, dir)
		}
	}
}
