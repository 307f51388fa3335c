package receive

import (
	"path/filepath"
	"slices"
)

// Extent is a run of a log's positions in one central file.
type Extent struct {
	Epoch  uint64
	From   uint64 // position of the byte at Offset
	File   string // below the output, as it is named now
	Offset int64
	End    int64 // offset behind the run; -1: the file's end
	Gone   bool  // the file isn't there any more: retention deleted it, or somebody else
}

// Extents puts the files of a log together in the order of its bytes, from all of its ledgers.
func Extents(output, identity, log string) ([]Extent, error) {
	ledgers, err := Ledgers(output, identity, log)
	if err != nil {
		return nil, err
	}
	var all []Extent
	for _, name := range ledgers {
		entries, err := Ledger(filepath.Join(output, name))
		if err != nil {
			return nil, err
		}
		all = append(all, extents(entries)...)
	}
	slices.SortStableFunc(all, func(a, b Extent) int {
		switch {
		case a.Epoch != b.Epoch && a.Epoch < b.Epoch, a.Epoch == b.Epoch && a.From < b.From:
			return -1
		case a.Epoch == b.Epoch && a.From == b.From:
			return 0
		}
		return 1
	})
	return all, nil
}

// extents follows one ledger: a range ends where the next in the same file begins.
func extents(entries []Entry) []Extent {
	var all []Extent
	open := make(map[string][]int) // extents of the file that has this name now
	damaged := make(map[string][]int)
	for i := range entries {
		switch e := &entries[i]; e.Event {
		case EventRange:
			if list := open[e.File]; len(list) > 0 {
				last := &all[list[len(list)-1]]
				if last.Epoch == e.Epoch && last.From == e.From && last.Offset == e.Offset {
					continue // said again, because the ledger had been damaged
				}
				last.End = e.Offset
			}
			for _, j := range damaged[e.File] { // the name is another file's now
				all[j].Gone = true
			}
			delete(damaged, e.File)
			open[e.File] = append(open[e.File], len(all))
			all = append(all, Extent{Epoch: e.Epoch, From: e.From, File: e.File, Offset: e.Offset, End: -1})
		case EventClose:
			list := open[e.File]
			delete(open, e.File)
			open[e.Name] = list
			for n, j := range list {
				all[j].File = e.Name
				if n == len(list)-1 {
					all[j].End = e.Size
				}
			}
		case EventDamage: // nothing more goes into it; what is left of it can be read
			damaged[e.File] = append(damaged[e.File], open[e.File]...)
			delete(open, e.File)
		case EventExpire:
			for _, j := range open[e.File] {
				all[j].Gone = true
			}
		}
	}
	return all
}
