package receive

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
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
	var open central
	defer open.close()
	for i := range pieces {
		err := open.copyTo(w, &pieces[i])
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
	for _, of := range byFile(pieces) {
		there := true
		if of[0].file == nil {
			x := of[0].Extent
			f, err := x.open()
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotOurs) {
				if there, err = v.expired(of); err != nil {
					return nil, 0, err
				}
			} else if err == nil { // what can't be read is Cat's to say
				f.Close()
			}
		}
		for i := range of {
			p := &of[i]
			if !there {
				v.part(Damaged, &p.Extent, p.from, p.to, notThere)
			}
			v.cover(p.Epoch, p.from, p.to)
		}
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
	epochs := make(map[uint64]*taken)
	for _, i := range order {
		x := extents[i]
		if x.End < 0 {
			if x.End, err = sizeOf(files[i], x.Offset); err != nil {
				closeFiles(files)
				return nil, missing, err
			}
		}
		used := false
		t := epochs[x.Epoch]
		if t == nil {
			t = new(taken)
			epochs[x.Epoch] = t
		}
		t.add(x.From, x.From+uint64(x.End-x.Offset), func(from, to uint64) {
			all = append(all, piece{Extent: x, from: from, to: to, file: files[i]})
			used = true
		})
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
		files, found := make([]*os.File, len(extents)), make(map[int]string)
		sure := true
		for i, x := range extents {
			if x.End >= 0 || x.Gone {
				continue
			}
			var f *os.File
			err, wait := error(fs.ErrNotExist), !x.renamed
			if wait {
				f, err = openBelow(x.Output, x.File, os.O_RDONLY, 0, 0)
			}
			if errors.Is(err, fs.ErrNotExist) && (!wait || try == maxLooks) {
				f, found[i], err = openUntold(&x, extents)
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errNotOurs) {
				closeFiles(files)
				return nil, nil, err
			}
			files[i], sure = f, sure && (err == nil || !wait)
		}
		again, err := extentsOf(ledgers) // the same ones: another's files are no concern of theirs, and a directory can be large
		if err != nil {
			closeFiles(files)
			return nil, nil, err
		}
		still := make(map[Extent]bool, len(again))
		for _, x := range again {
			still[x] = true
		}
		for i, x := range extents {
			if files[i] != nil && !still[x] {
				sure = false
			}
		}
		if sure || try == maxLooks {
			nameUntold(extents, found)
			return extents, files, nil
		}
		closeFiles(files)
		time.Sleep(lookAgain) // between a rename and its line
	}
}

// openUntold opens the file of an extent under the final name that it was given when it was closed, where its receiver was ended, or cut off from the output,
// before it could tell the ledger. It is known by its name, which no ledger has, and which can be that of no other receiver's file.
func openUntold(x *Extent, told []Extent) (f *os.File, name string, err error) {
	dir, _, err := parentBelow(x.Output, x.File, 0)
	if err != nil {
		return nil, "", err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, "", err
	}
	for _, base := range names {
		path := filepath.Join(filepath.Dir(x.File), base)
		if !closedAs(x.File, path, x.Since) || slices.ContainsFunc(told, func(y Extent) bool { return y.Output == x.Output && y.File == path }) {
			continue
		}
		if name != "" {
			return nil, "", fs.ErrNotExist // nobody can say which
		}
		name = path
	}
	if name == "" {
		return nil, "", fs.ErrNotExist
	}
	f, err = openBelow(x.Output, name, os.O_RDONLY, 0, 0)
	return f, name, err
}

// nameUntold gives extents the name under which their file was found, by the place of its last one. Where another file has the former name, what isn't found is gone.
func nameUntold(extents []Extent, found map[int]string) {
	type former struct {
		ledger int
		file   string
	}
	names := make(map[former]string)
	for i, name := range found {
		if name != "" {
			names[former{extents[i].ledger, extents[i].File}] = name
		}
	}
	for i := range extents {
		x := &extents[i]
		if name := names[former{x.ledger, x.File}]; name != "" {
			x.File = name
		} else if x.renamed && x.End >= 0 {
			x.Gone = true
		}
	}
}

// closedAs tells whether a name is one that [naming.closedName] gives an open file at or behind a time.
func closedAs(open, name string, since time.Time) bool {
	const layout = "20060102T150405Z"
	stem, rest, ok := cutLast(name, "@")
	if !ok || len(rest) < len(layout) || !strings.HasPrefix(open, stem) {
		return false
	}
	at, err := time.Parse(layout, rest[:len(layout)])
	if err != nil || at.Before(since.Truncate(time.Second)) {
		return false
	}
	number, ok := strings.CutSuffix(rest[len(layout):], open[len(stem):])
	if ok && number != "" {
		n, err := strconv.Atoi(strings.TrimPrefix(number, "-"))
		ok = number[0] == '-' && err == nil && n > 1
	}
	return ok
}

// cutLast is strings.Cut around the last separator.
func cutLast(s, separator string) (before, after string, found bool) {
	if i := strings.LastIndex(s, separator); i >= 0 {
		return s[:i], s[i+len(separator):], true
	}
	return s, "", false
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

// central is the central file that was read last: its pieces follow each other, and there may be very many.
type central struct {
	output, name string // as the pieces have it
	f            io.ReadCloser
	at           int64
	err          error // why the one of these names can't be opened
}

func (c *central) close() {
	if c.f != nil {
		c.f.Close()
		c.f = nil
	}
}

// seek goes to an offset of a piece's file.
func (c *central) seek(p *piece, at int64) error {
	if same := c.output == p.Output && c.name == p.File; !same || c.f == nil && c.err == nil || at < c.at {
		c.close()
		*c = central{output: p.Output, name: p.File}
		x := p.Extent
		c.f, c.err = x.open()
	}
	if c.err != nil {
		return c.err
	}
	if s, ok := c.f.(io.Seeker); ok {
		if _, err := s.Seek(at, io.SeekStart); err != nil {
			return err
		}
	} else if _, err := io.CopyN(io.Discard, c.f, at-c.at); err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	c.at = at
	return nil
}

// copyTo copies a piece.
func (c *central) copyTo(w io.Writer, p *piece) error {
	at := p.Offset + int64(p.from-p.From)
	length := int64(p.to - p.from)
	if p.file != nil {
		n, err := io.Copy(w, io.NewSectionReader(p.file, at, length))
		if err == nil && n < length {
			return nil // cut back meanwhile
		}
		return err
	}
	if err := c.seek(p, at); err != nil {
		return err
	}
	n, err := io.CopyN(w, c.f, length)
	c.at += n
	if err != nil {
		c.close()
		return fmt.Errorf("%s ends before %d: %w", p.File, at+length, err)
	}
	return nil
}
