package receive

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"
)

// piece is a part of an extent: bytes of a file that stand for positions which no better extent has.
type piece struct {
	Extent
	from, to uint64   // positions
	file     *os.File // of an extent without end; else it is opened when it is its turn
}

// Cat writes a log's central bytes in order, over all files of all receivers below the outputs, rotated and compressed ones
// too. It may run while receivers write. Runs whose file isn't there any more are left out and counted in missing.
func Cat(w io.Writer, outputs []string, identity, log string) (missing int, err error) {
	pieces, missing, err := pieces(outputs, identity, log)
	if err != nil {
		return missing, err
	}
	defer closePieces(pieces)
	for _, p := range pieces {
		err := p.copyTo(w)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotOurs) {
			missing++
			continue
		}
		if err != nil {
			return missing, fmt.Errorf("%s/%s: %w", identity, log, err)
		}
	}
	return missing, nil
}

// Holes finds what Cat can't write though the ledgers know of it, or of what lies behind it, and that no gap explains: files that somebody deleted,
// and what is in another receiver's directory. A part without bytes is a file that isn't there and of which nobody has said how long it was.
// expired counts the files that retention deleted. It may run while receivers write.
func Holes(outputs []string, identity, log string) (holes []Part, expired int, err error) {
	v := newVerifier(identity, log)
	extents, files, err := lookAt(outputs, identity, log)
	if err != nil {
		return nil, 0, err
	}
	if err := v.readGaps(outputs); err != nil {
		closeFiles(files)
		return nil, 0, err
	}
	v.readExtents(extents)
	absent := absent(extents, files)
	pieces, _, err := choose(extents, files)
	if err != nil {
		return nil, 0, err
	}
	defer closePieces(pieces)
	for i := range pieces {
		p := &pieces[i]
		if p.file == nil {
			f, err := OpenCentral(p.Output, p.File)
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotOurs) {
				gone, err := v.expired(pieces[i : i+1])
				if err != nil {
					return nil, 0, err
				}
				if !gone {
					v.part(Damaged, &p.Extent, p.from, p.to, notThere)
				}
			} else if err == nil { // what can't be read is Cat's to say
				f.Close()
			}
		}
		v.cover(p.Epoch, p.from, p.to)
	}
	v.absent(absent)
	v.holes()
	return v.verdict().Parts, v.files, nil
}

// absent are the extents that have no end, and whose file isn't there.
func absent(extents []Extent, files []*os.File) (all []Extent) {
	for i, x := range extents {
		if x.End < 0 && !x.Gone && files[i] == nil {
			all = append(all, x)
		}
	}
	return all
}

// A file that isn't there is looked for again: its new name may not be in the ledger yet.
const (
	maxLooks  = 10
	lookAgain = 20 * time.Millisecond
)

// pieces decides which extent each position is taken from. What is known to be committed, because its file was ended or
// another run began behind it, stands before what may be the uncommitted tail of a receiver that was stopped; of two such tails
// the one that began later is of the receiver that has gone on.
func pieces(outputs []string, identity, log string) (all []piece, missing int, err error) {
	extents, files, err := lookAt(outputs, identity, log)
	if err != nil {
		return nil, 0, err
	}
	return choose(extents, files)
}

// choose takes over the files. Those of the chosen pieces are the caller's to close.
func choose(extents []Extent, files []*os.File) (all []piece, missing int, err error) {
	order := make([]int, 0, len(extents))
	for i, x := range extents {
		if x.Gone || x.End < 0 && files[i] == nil {
			missing++
			continue
		}
		order = append(order, i)
	}
	slices.SortStableFunc(order, func(a, b int) int {
		x, y := &extents[a], &extents[b]
		if c := cmp.Compare(max(y.End, -1)>>63, max(x.End, -1)>>63); c != 0 { // 0: has an end; -1: none
			return c
		}
		return cmp.Or(cmp.Compare(y.Epoch, x.Epoch), cmp.Compare(y.From, x.From))
	})
	for _, i := range order {
		x := extents[i]
		if x.End < 0 {
			if x.End, err = sizeOf(files[i], x.Offset); err != nil {
				closeFiles(files)
				return nil, missing, err
			}
		}
		used := false
		for _, free := range uncovered(all, x.Epoch, x.From, x.From+uint64(x.End-x.Offset)) {
			all = append(all, piece{Extent: x, from: free[0], to: free[1], file: files[i]})
			used = true
		}
		if !used && files[i] != nil {
			files[i].Close()
		}
	}
	slices.SortStableFunc(all, func(a, b piece) int {
		return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.from, b.from))
	})
	return all, missing, nil
}

func sizeOf(f *os.File, atLeast int64) (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return max(st.Size(), atLeast), nil
}

// uncovered are the parts of a range that no piece has.
func uncovered(all []piece, epoch, from, to uint64) [][2]uint64 {
	left := [][2]uint64{{from, to}}
	for _, p := range all {
		if p.Epoch != epoch {
			continue
		}
		var rest [][2]uint64
		for _, l := range left {
			if p.to <= l[0] || p.from >= l[1] {
				rest = append(rest, l)
				continue
			}
			if l[0] < p.from {
				rest = append(rest, [2]uint64{l[0], p.from})
			}
			if p.to < l[1] {
				rest = append(rest, [2]uint64{p.to, l[1]})
			}
		}
		left = rest
	}
	return slices.DeleteFunc(left, func(l [2]uint64) bool { return l[0] >= l[1] })
}

// lookAt reads the ledgers, and opens the files of the extents that have no end. A receiver may close such a file meanwhile, and
// its name may be another's: the line that says so is there before the name is used again. So it looks again.
func lookAt(outputs []string, identity, log string) ([]Extent, []*os.File, error) {
	for try := 0; ; try++ {
		ledgers, err := findLedgers(outputs, identity, log)
		if err != nil {
			return nil, nil, err
		}
		extents, err := extentsOf(ledgers)
		if err != nil {
			return nil, nil, err
		}
		files := make([]*os.File, len(extents))
		sure := true
		for i, x := range extents {
			if x.End >= 0 || x.Gone {
				continue
			}
			f, err := openBelow(x.Output, x.File, os.O_RDONLY, 0, 0)
			if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errNotOurs) {
				closeFiles(files)
				return nil, nil, err
			}
			files[i], sure = f, sure && err == nil
		}
		again, err := extentsOf(ledgers) // the same ones: another's files are no concern of theirs, and a directory can be large
		if err != nil {
			closeFiles(files)
			return nil, nil, err
		}
		for i, x := range extents {
			if files[i] != nil && !slices.Contains(again, x) {
				sure = false
			}
		}
		if sure || try == maxLooks {
			return extents, files, nil
		}
		closeFiles(files)
		time.Sleep(lookAgain) // between a rename and its line
	}
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}

func closePieces(pieces []piece) {
	for _, p := range pieces {
		if p.file != nil {
			p.file.Close() // perhaps more than once: pieces share it
		}
	}
}

func (p *piece) copyTo(w io.Writer) error {
	at := p.Offset + int64(p.from-p.From)
	length := int64(p.to - p.from)
	if p.file != nil {
		n, err := io.Copy(w, io.NewSectionReader(p.file, at, length))
		if err == nil && n < length {
			return nil // cut back meanwhile
		}
		return err
	}
	f, err := OpenCentral(p.Output, p.File)
	if err != nil {
		return err
	}
	defer f.Close()
	if s, ok := f.(io.Seeker); ok {
		if _, err := s.Seek(at, io.SeekStart); err != nil {
			return err
		}
	} else if _, err := io.CopyN(io.Discard, f, at); err != nil {
		return fmt.Errorf("%s: %w", p.File, err)
	}
	if _, err := io.CopyN(w, f, length); err != nil {
		return fmt.Errorf("%s ends before %d: %w", p.File, at+length, err)
	}
	return nil
}
