package receive

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"logforward/internal/chunk"
)

// Extent is a run of a log's positions in one central file, a byte for each.
type Extent struct {
	Epoch  uint64
	From   uint64 // position of the byte at Offset
	Output string // directory that File lies below
	File   string // as it is named now
	Offset int64
	End    int64 // offset behind the run; -1: the file's end
	Gone   bool  // the file isn't there any more: retention deleted it, or somebody else
	Since  time.Time

	of      ledger // that tells of it
	closed  bool   // File is its last name
	expired bool   // retention deleted it
	renamed bool   // another file has the name File by now, and no ledger tells of this one's
	ledger  int    // of those that were read

	before, after proof // running digests at From, and behind the run
}

// proof is a running digest of a log's ledger, if it has one there.
type proof struct {
	digest chunk.Digest
	known  bool
}

func proofOf(d *chunk.Digest) proof {
	if d == nil {
		return proof{}
	}
	return proof{*d, true}
}

// endsAt tells whether the run ends at an offset that stands for a position.
func (x *Extent) endsAt(epoch, position uint64, offset int64) bool {
	return x.Epoch == epoch && offset >= x.Offset && x.From+uint64(offset-x.Offset) == position
}

// Extents puts the files of a log together in the order of its bytes, from the ledgers of all receivers that wrote below the
// outputs. Runs of different receivers may overlap where one of them was stopped before it could know that the other
// had gone on; they have the same bytes.
func Extents(outputs []string, identity, log string) ([]Extent, error) {
	ledgers, err := findLedgers(outputs, identity, log)
	if err != nil {
		return nil, err
	}
	return extentsOf(ledgers)
}

// ledger is where a log's ledger is: below an output.
type ledger struct{ output, name, identity, log string }

// findLedgers gives a log's ledgers below all outputs, each output once.
func findLedgers(outputs []string, identity, log string) (all []ledger, err error) {
	seen := make(map[string]bool)
	for _, output := range outputs {
		if real, err := filepath.EvalSymlinks(output); err == nil {
			if seen[real] {
				continue
			}
			seen[real] = true
		}
		names, err := Ledgers(output, identity, log)
		if errors.Is(err, ErrNoLedger) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			all = append(all, ledger{output, name, identity, log})
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w of %s/%s below %s", ErrNoLedger, identity, log, strings.Join(outputs, ", "))
	}
	return all, nil
}

// extentsOf reads ledgers.
func extentsOf(ledgers []ledger) (all []Extent, err error) {
	read := make([][]Entry, len(ledgers))
	for i, l := range ledgers {
		if read[i], err = unsealed(filepath.Join(l.output, l.name)); err != nil {
			return nil, err
		}
	}
	for i, l := range ledgers {
		var others []Entry
		for j, o := range ledgers {
			if i != j && o.output == l.output {
				others = append(others, read[j]...)
			}
		}
		for _, x := range extents(read[i], others) {
			x.ledger = i
			x.of = l
			if x.Output = l.output; x.Offset >= 0 && (x.End < 0 || x.End >= x.Offset) { // else somebody wrote nonsense
				all = append(all, x)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b Extent) int {
		return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.From, b.From))
	})
	return all, nil
}

// open opens the extent's file, under the name that it was given since its ledger was read, where that is so. The ledger tells of that a moment later,
// or never, where its receiver was ended in between.
func (x *Extent) open() (io.ReadCloser, error) {
	for try := 0; ; try++ {
		f, err := OpenCentral(x.Output, x.File)
		if x.closed || !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
		now, err2 := Extents([]string{x.Output}, x.of.identity, x.of.log)
		if err2 != nil {
			return nil, err2
		}
		i := slices.IndexFunc(now, func(y Extent) bool {
			return y.closed && y.of == x.of && y.Epoch == x.Epoch && y.From == x.From && y.Offset == x.Offset && y.Since.Equal(x.Since)
		})
		switch {
		case i >= 0:
			x.File, x.closed = now[i].File, true
		case try == maxLooks:
			untold, name, err2 := openUntold(x, now)
			if err2 != nil {
				return nil, err
			}
			x.File = name
			return untold, nil
		default:
			time.Sleep(lookAgain)
		}
	}
}

// extents follows one ledger: a range ends where the next in the same file begins. others are the lines of the log's other ledgers below the same output:
// a receiver that was away from it goes on there in a new ledger, which tells what became of files of the old one.
func extents(entries, others []Entry) []Extent {
	var all []Extent
	open := make(map[string][]int) // extents of the file that has this name now
	past := make(map[string][]int) // of a file that nothing more goes into: it was closed under this name, or is damaged
	for i := range entries {
		switch e := &entries[i]; e.Event {
		case EventRange:
			if list := open[e.File]; len(list) > 0 {
				last := &all[list[len(list)-1]]
				if last.Epoch == e.Epoch && last.From == e.From && last.Offset == e.Offset {
					continue // said again, because the ledger had been damaged
				}
				if last.End < 0 { // else its end was said
					last.End = e.Offset
				}
			}
			for _, j := range past[e.File] { // the name is another file's now
				all[j].Gone = true
			}
			delete(past, e.File)
			open[e.File] = append(open[e.File], len(all))
			all = append(all, Extent{Epoch: e.Epoch, From: e.From, File: e.File, Offset: e.Offset, End: -1, Since: e.Time.UTC(), before: proofOf(e.Digest)})
		case EventEnd:
			if list := open[e.File]; len(list) > 0 && all[list[len(list)-1]].endsAt(e.Epoch, e.To, e.Offset) {
				all[list[len(list)-1]].End, all[list[len(list)-1]].after = e.Offset, proofOf(e.Digest)
			}
		case EventGap, EventAnew: // a gap takes positions, and no bytes
			if list := open[e.File]; len(list) > 0 && all[list[len(list)-1]].Epoch == e.Epoch {
				last, behind := &all[list[len(list)-1]], max(e.From, e.To)
				last.End = e.Offset
				if last.endsAt(e.Epoch, e.From, e.Offset) {
					last.after = proofOf(e.Digest)
				}
				open[e.File] = append(list, len(all))
				all = append(all, Extent{Epoch: e.Epoch, From: behind, File: e.File, Offset: e.Offset, End: -1, Since: e.Time.UTC(), before: proof{chunk.AfterGap(behind), true}})
			}
		case EventClose:
			closeExtents(all, open, past, e)
		case EventBack:
			if len(past[e.File]) > 0 {
				continue // said again, because of a crash
			}
			past[e.File] = append(past[e.File], len(all))
			all = append(all, Extent{Epoch: e.Epoch, From: e.From, File: e.File, End: e.Size, Since: e.Time.UTC(), closed: true, before: proofOf(e.Digest), after: proofOf(e.After)})
		case EventDamage: // nothing more goes into it; what is left of it can be read
			for _, j := range open[e.File] {
				all[j].closed = true
			}
			past[e.File] = append(past[e.File], open[e.File]...)
			delete(open, e.File)
		case EventExpire:
			for _, j := range past[e.File] {
				all[j].Gone, all[j].expired = true, true
			}
		}
	}
	for i := range others {
		e := &others[i]
		list := open[e.File]
		var since time.Time
		if len(list) > 0 {
			since = all[list[len(list)-1]].Since
		}
		switch {
		case e.Event == EventClose && len(list) > 0 && !e.Time.Before(since):
			closeExtents(all, open, past, e)
		case e.Event == EventRange && len(list) > 0 && e.Time.After(since): // the name is another file's now
			for _, j := range list {
				all[j].renamed = true
			}
			delete(open, e.File)
		case e.Event == EventExpire: // names of closed files are never given again
			for _, j := range past[e.File] {
				all[j].Gone, all[j].expired = true, true
			}
		}
	}
	return all
}

// closeExtents takes a line that a file is closed.
func closeExtents(all []Extent, open, past map[string][]int, e *Entry) {
	list := open[e.File]
	delete(open, e.File)
	past[e.Name] = append(past[e.Name], list...)
	for n, j := range list {
		all[j].File, all[j].closed = e.Name, true
		if n == len(list)-1 {
			all[j].End = e.Size
			if all[j].endsAt(e.Epoch, e.To, e.Size) {
				all[j].after = proofOf(e.Digest)
			}
		}
	}
}
