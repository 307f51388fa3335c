package receive

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"logforward/internal/chunk"
)

// byFile puts the pieces of a file together, in the order in which they lie there.
func byFile(pieces []piece) [][]piece {
	slices.SortStableFunc(pieces, func(a, b piece) int {
		return cmp.Or(strings.Compare(a.Output, b.Output), strings.Compare(a.File, b.File), cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.from, b.from))
	})
	var all [][]piece
	for i := 0; i < len(pieces); {
		n := i + 1
		for n < len(pieces) && pieces[n].Output == pieces[i].Output && pieces[n].File == pieces[i].File {
			n++
		}
		all = append(all, pieces[i:n])
		i = n
	}
	return all
}

// file verifies what one file has of the log.
func (v *verifier) file(ctx context.Context, pieces []piece) error {
	first, last := &pieces[0], &pieces[len(pieces)-1]
	var from io.Reader
	if open := last.file; open != nil {
		from = io.NewSectionReader(open, 0, 1<<62)
	} else {
		x := first.Extent
		f, err := x.open()
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotOurs) {
			if gone, err := v.expired(pieces); gone || err != nil {
				return err
			}
			v.rest(pieces, Damaged, notThere)
			return nil
		}
		if errors.Is(err, fs.ErrPermission) { // says nothing of the bytes
			return err
		}
		if err != nil {
			return v.unread(err, pieces)
		}
		defer f.Close()
		from = f
	}
	r := &countingReader{r: bufio.NewReaderSize(from, 1<<20), ctx: ctx}
	for i := 0; i < len(pieces); {
		n := i + 1 // pieces of one extent
		for n < len(pieces) && pieces[n].Offset == pieces[i].Offset && pieces[n].From == pieces[i].From && pieces[n].Epoch == pieces[i].Epoch {
			n++
		}
		if err := r.skipTo(pieces[i].Offset); err != nil {
			return v.unread(err, pieces[i:])
		}
		if err := v.extent(r, pieces[i:n]); err != nil {
			return v.unread(err, pieces[i:])
		}
		i = n
	}
	if end := uint64(last.End); last.file == nil && end == v.ends[last.Output+"/"+last.File] && last.to == last.From+end-uint64(last.Offset) {
		if more, err := r.drain(); err != nil {
			return v.unread(err, []piece{{Extent: last.Extent, from: last.to, to: last.to}})
		} else if more > 0 {
			v.part(Damaged, &last.Extent, last.to, last.to, fmt.Sprintf("%d bytes more than were received", more))
		}
	}
	return nil
}

// expired tells whether retention has deleted a file since the ledgers were read.
func (v *verifier) expired(pieces []piece) (bool, error) {
	if gone, err := v.expiredNow(&pieces[0]); !gone || err != nil {
		return false, err
	}
	for i := range pieces {
		p := &pieces[i]
		v.Expired += int64(p.to - p.from)
		v.deleted = append(v.deleted, covered{p.Epoch, p.from, p.to})
		v.cover(p.Epoch, p.from, p.to)
	}
	v.files++
	return true, nil
}

// expiredNow reads the ledgers for it.
func (v *verifier) expiredNow(p *piece) (bool, error) {
	extents, err := Extents([]string{p.Output}, v.Identity, v.Log)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(extents, func(x Extent) bool { return x.expired && x.File == p.File && x.Epoch == p.Epoch && x.From == p.From }), nil
}

// unread says that what can't be read is damaged: a short file, a bad sector, a broken compression. An interruption stays one.
func (v *verifier) unread(err error, pieces []piece) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	verdict, why := Damaged, fmt.Sprintf("it can't be read: %v", err)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		why = "the file is shorter than what was received"
		if pieces[len(pieces)-1].file != nil { // its size was asked a moment ago
			verdict, why = Unproved, "the file is being cut back"
		}
	}
	v.rest(pieces, verdict, why)
	return nil
}

// rest gives pieces a verdict where nothing was said of them yet.
func (v *verifier) rest(pieces []piece, verdict, why string) {
	said := newCoverage(slices.Clone(v.covered))
	for i := range pieces {
		p := &pieces[i]
		from := max(p.from, said.end(p.Epoch, p.from))
		if from < p.to || p.from == p.to {
			v.part(verdict, &p.Extent, from, max(from, p.to), why)
			v.cover(p.Epoch, from, p.to)
		}
	}
}

// extent reads one extent up to the end of its last piece. What isn't of a piece is of a better extent.
func (v *verifier) extent(r *countingReader, pieces []piece) error {
	x, to := &pieces[0].Extent, pieces[len(pieces)-1].to
	end := x.From + uint64(x.End-x.Offset)
	digest, sure := x.before.digest, x.before.known
	if all := v.known[place{x.Epoch, x.From}]; !sure && len(all) == 1 {
		digest, sure = all[0], true
	}
	at := x.From // up to here all is said
	for _, stop := range v.stops(x, to) {
		sum, err := r.sum(stop - r.position(x))
		if err != nil {
			return err
		}
		all, now := v.known[place{x.Epoch, stop}], digest.Extend(sum.digest, sum.length)
		if stop == end && x.after.known {
			all = []chunk.Digest{x.after.digest}
		}
		switch {
		case len(all) == 0:
		case sure && slices.Contains(all, now):
			v.say(Intact, pieces, at, stop, "")
			at = stop
		case sure:
			v.say(Damaged, pieces, at, stop, fmt.Sprintf("other bytes than the node sent: digest %s, not %s", now, all[0]))
			at, now = stop, all[0]
		default:
			v.say(Unproved, pieces, at, stop, "the ledger doesn't say what comes before")
			at, now, sure = stop, all[0], true
		}
		digest = now
	}
	if at < to {
		why := "no digest behind it yet"
		if x.End >= 0 && pieces[0].file == nil {
			why = "the ledger has no digest of it"
		}
		v.say(Unproved, pieces, at, to, why)
	}
	return nil
}

// stops are the positions of an extent up to which a digest is known, and the end of what is read.
func (v *verifier) stops(x *Extent, to uint64) []uint64 {
	list := v.positions[x.Epoch]
	first, here := slices.BinarySearch(list, x.From)
	if here {
		first++
	}
	behind, _ := slices.BinarySearch(list, to)
	return append(slices.Clone(list[first:max(first, behind)]), to)
}

// say gives the pieces' parts of a range a verdict.
func (v *verifier) say(verdict string, pieces []piece, from, to uint64, why string) {
	for i := range pieces {
		p := &pieces[i]
		from, to := max(from, p.from), min(to, p.to)
		if from >= to {
			continue
		}
		v.cover(p.Epoch, from, to)
		if verdict == Intact {
			v.Verification.Intact += int64(to - from)
			continue
		}
		v.part(verdict, &p.Extent, from, to, why)
	}
}

// countingReader reads a file from its beginning and knows where it is.
type countingReader struct {
	r   io.Reader
	ctx context.Context
	at  int64
	b   []byte
}

type summed struct {
	digest chunk.Digest
	length uint64
}

// position is that of the next byte, as an extent counts.
func (c *countingReader) position(x *Extent) uint64 { return x.From + uint64(c.at-x.Offset) }

// sum reads n bytes. io.ErrUnexpectedEOF: there are fewer.
func (c *countingReader) sum(n uint64) (s summed, err error) {
	if c.b == nil {
		c.b = make([]byte, 256<<10)
	}
	for s.length < n {
		if err := c.ctx.Err(); err != nil {
			return s, err
		}
		b := c.b[:min(uint64(len(c.b)), n-s.length)]
		m, err := io.ReadFull(c.r, b)
		c.at += int64(m)
		s.digest, s.length = s.digest.Update(b[:m]), s.length+uint64(m)
		if err != nil {
			return s, err
		}
	}
	return s, nil
}

func (c *countingReader) skipTo(offset int64) error {
	if offset < c.at {
		return fmt.Errorf("the ledger has offset %d twice", offset)
	}
	_, err := c.sum(uint64(offset - c.at))
	return err
}

// drain counts what is left.
func (c *countingReader) drain() (n uint64, err error) {
	s, err := c.sum(1 << 62)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return s.length, err
}
