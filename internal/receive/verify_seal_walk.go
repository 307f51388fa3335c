package receive

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"slices"

	"logforward/internal/chunk"
)

// expectation is what became of [SealOptions.Expect].
type expectation uint8

const (
	expectNothing    expectation = iota // no seal reaches it
	expectUnprovable                    // one does, and not all of its bytes can be read
	expectOther                         // one does, and is of other bytes
	expectMet
)

// open is a group of seals whose bytes are being read.
type openSeals struct {
	rows []sealRow // of one beginning, in the order of their ends
	next int
	hash hash.Hash
	also uint64 // an end beside those of rows; 0: none, or done
}

// end is where the hash is asked next.
func (o *openSeals) end() uint64 {
	end := uint64(chunk.MaxPosition) + 1
	if o.next < len(o.rows) {
		end = o.rows[o.next].to
	}
	if o.also > 0 {
		end = min(end, o.also)
	}
	return end
}

func (o *openSeals) done() bool { return o.next == len(o.rows) && o.also == 0 }

// walk sorts the pieces in the order of positions, reads all bytes that are under seals, once, and compares the sums. absent are ranges that couldn't be read.
func (s *sealer) walk(ctx context.Context, v *verifier, pieces []piece) (absent []covered, err error) {
	var (
		open   []*openSeals
		file   central
		buffer = make([]byte, 256<<10)
		left   []sealRow // that haven't begun
		at     covered   // epoch, and in to the position that is read next
	)
	defer file.close()
	s.order()
	left = s.rows
	slices.SortStableFunc(pieces, func(a, b piece) int {
		return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.from, b.from))
	})
	group := func() []sealRow {
		n := 1
		for n < len(left) && left[n].epoch == left[0].epoch && left[n].from == left[0].from {
			n++
		}
		rows := left[:n]
		left = left[n:]
		return rows
	}
	lose := func() {
		for _, o := range open {
			s.lose(o)
		}
		open = open[:0]
	}
	for i := range pieces {
		p := &pieces[i]
		if p.Epoch != at.epoch || p.from != at.to {
			lose()
			at.epoch, at.to = p.Epoch, p.from
		}
		for at.to < p.to {
			for len(left) > 0 && (left[0].epoch < at.epoch || left[0].epoch == at.epoch && left[0].from < at.to) {
				s.lose(s.begin(group()))
			}
			stop := p.to
			if len(left) > 0 && left[0].epoch == at.epoch && left[0].from == at.to {
				if o := s.begin(group()); len(open) < maxOverlapped {
					open = append(open, o)
				} else {
					s.lose(o)
					for i := range o.rows {
						o.rows[i].state = sealCrowded
					}
				}
			}
			if len(left) > 0 && left[0].epoch == at.epoch {
				stop = min(stop, left[0].from)
			}
			for _, o := range open {
				stop = min(stop, o.end())
			}
			if len(open) == 0 {
				at.to = stop
				continue
			}
			err := file.read(ctx, p, at.to, stop, buffer, func(b []byte) {
				for _, o := range open {
					o.hash.Write(b)
				}
			})
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err != nil {
				if errors.Is(err, fs.ErrPermission) { // says nothing of the bytes
					return nil, err
				}
				if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotOurs) { // unless retention has deleted it since
					if gone, err := v.expiredNow(p); err != nil {
						return nil, err
					} else if gone {
						v.deleted = append(v.deleted, covered{p.Epoch, p.from, p.to})
					}
				}
				lose()
				absent = append(absent, covered{p.Epoch, at.to, p.to})
				at.to = p.to
				continue
			}
			at.to = stop
			for _, o := range open {
				s.compare(o, at.to)
			}
			open = slices.DeleteFunc(open, (*openSeals).done)
		}
	}
	lose()
	for len(left) > 0 {
		s.lose(s.begin(group()))
	}
	return absent, nil
}

func (s *sealer) begin(rows []sealRow) *openSeals {
	o := &openSeals{rows: rows, hash: sha256.New()}
	if e := s.Expect; e != nil && e.Epoch == rows[0].epoch && rows[0].from < e.Position && e.Position <= rows[len(rows)-1].to {
		o.also = e.Position
	}
	return o
}

// compare looks at the seals that end at a position up to which all was read.
func (s *sealer) compare(o *openSeals, at uint64) {
	if o.end() != at {
		return
	}
	var sum chunk.Hash
	o.hash.Sum(sum[:0])
	for ; o.next < len(o.rows) && o.rows[o.next].to == at; o.next++ {
		r := &o.rows[o.next]
		if r.state = sealOther; r.sum == sum {
			r.state = sealFits
		}
	}
	if o.also != at {
		return
	}
	o.also = 0
	s.met = max(s.met, expectOther)
	for i := range o.rows {
		part := chunk.Seal{From: o.rows[i].from, To: at, Prev: o.rows[i].prev, Sum: sum}
		if part.ID(chunk.SealOf{Identity: s.identity, Log: s.log, Epoch: o.rows[i].epoch}) == s.Expect.ID {
			s.met = expectMet
		}
		if i > 0 && i == maxOverlapped { // they are of one block, and name the same one before
			break
		}
	}
}

// lose has seals whose bytes aren't all there.
func (s *sealer) lose(o *openSeals) {
	for i := o.next; i < len(o.rows); i++ {
		o.rows[i].state = sealMissing
	}
	if o.also == 0 {
		return
	}
	s.met = max(s.met, expectUnprovable)
	for i := range o.rows {
		if o.rows[i].to == s.Expect.Position && o.rows[i].id == s.Expect.ID { // the node's own signature is under it
			s.met = expectMet
		}
	}
}

// read calls each for the bytes of positions of a piece, in order.
func (c *central) read(ctx context.Context, p *piece, from, to uint64, b []byte, each func([]byte)) error {
	at := p.Offset + int64(from-p.From)
	var r io.Reader
	if p.file != nil {
		r = io.NewSectionReader(p.file, at, int64(to-from))
	} else {
		if err := c.seek(p, at); err != nil {
			c.close()
			return err
		}
		r = c.f
	}
	for from < to {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(r, b[:min(uint64(len(b)), to-from)])
		each(b[:n])
		from += uint64(n)
		if p.file == nil {
			c.at += int64(n)
		}
		if err != nil {
			c.close()
			return fmt.Errorf("%s ends before %d: %w", p.File, p.Offset+int64(to-p.From), err)
		}
	}
	return nil
}
