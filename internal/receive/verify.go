package receive

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

// Verdicts about a log or a part of it, from good to bad.
const (
	Intact   = "intact"   // the bytes are those that the node read, by its own digest
	Unproved = "unproved" // nothing says that they aren't, and no digest that they are
	Damaged  = "damaged"  // they are others, or fewer, or not there
)

// Verification says whether a log's central bytes are those that its node sent.
type Verification struct {
	Identity string `json:"identity"`
	Log      string `json:"log"`
	Verdict  string `json:"verdict"`
	Intact   int64  `json:"intact"`   // bytes
	Unproved int64  `json:"unproved"` // bytes; most are behind the last digest of a file that is still written to
	Damaged  int64  `json:"damaged"`  // bytes that lie between two digests that don't fit, or are missing
	Expired  int64  `json:"expired"`  // bytes that retention deleted
	Gaps     int    `json:"gaps"`     // that the node told of
	Lost     int64  `json:"lost"`     // bytes in them, as far as known
	// Parts are what isn't intact, in the order of positions.
	Parts []Part `json:"parts,omitempty"`
}

// Part is a range of positions with one verdict.
type Part struct {
	Verdict string `json:"verdict"`
	Epoch   uint64 `json:"epoch"`
	From    uint64 `json:"from"`
	To      uint64 `json:"to"`
	Output  string `json:"output,omitempty"`
	File    string `json:"file,omitempty"` // below Output
	Why     string `json:"why"`
}

// Proof is a running digest that is known otherwise than by a ledger.
type Proof struct {
	Epoch, Position uint64
	Digest          chunk.Digest
}

// Proofs are what the broker's record of a log proves: it knows the digest of what lies in files that are still written to. None where there is no record.
func Proofs(ctx context.Context, positions *broker.Records, identity, log string) ([]Proof, error) {
	value, _, err := positions.Get(ctx, key(identity, log))
	if errors.Is(err, broker.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	rec, err := parseRecord(value)
	if err != nil {
		return nil, err
	}
	var all []Proof
	for _, p := range []*chunk.Place{&rec.Place, rec.Learnt} {
		if p != nil {
			all = append(all, Proof{p.Epoch, p.Position, p.Digest}, Proof{p.Epoch, p.Tail.From, p.Tail.Digest})
		}
	}
	return all, nil
}

// Verify reads all central bytes of a log below the outputs, computes the running digest once more, and compares it with what the node said it
// is wherever a ledger or one of the proofs has it. It finds what bad disks, truncation and editors did to central files, and files that are missing; not
// a forger, who could write another digest into the ledger. It may run while receivers write, and then should have been given proofs that were read before.
func Verify(ctx context.Context, outputs []string, identity, log string, proofs []Proof) (*Verification, error) {
	v := &verifier{Verification: Verification{Identity: identity, Log: log}, known: make(map[place][]chunk.Digest), positions: make(map[uint64][]uint64), ends: make(map[string]uint64)}
	if err := v.readGaps(outputs); err != nil {
		return nil, err
	}
	extents, files, err := lookAt(outputs, identity, log)
	if err != nil {
		return nil, err
	}
	for _, p := range proofs {
		v.know(p.Epoch, p.Position, proof{p.Digest, true})
		v.cover(p.Epoch, p.Position, p.Position) // so that what is missing before it is seen
	}
	for i := range extents {
		x := &extents[i]
		v.ends[x.Output+"/"+x.File] = max(v.ends[x.Output+"/"+x.File], uint64(x.End)) // of one without end: the greatest
		v.know(x.Epoch, x.From, x.before)
		if x.End >= 0 {
			v.know(x.Epoch, x.From+uint64(x.End-x.Offset), x.after)
		}
		if length := x.End - x.Offset; x.Gone && length > 0 {
			v.Expired += length
			v.cover(x.Epoch, x.From, x.From+uint64(length))
		}
	}
	pieces, _, err := choose(slices.Clone(extents), files)
	if err != nil {
		return nil, err
	}
	defer closePieces(pieces)
	for at := range v.known {
		v.positions[at.epoch] = append(v.positions[at.epoch], at.position)
	}
	for _, list := range v.positions {
		slices.Sort(list)
	}
	for _, of := range byFile(pieces) {
		if err := v.file(ctx, of); err != nil {
			return nil, fmt.Errorf("%s/%s: %w", identity, log, err)
		}
	}
	v.holes()
	return v.verdict(), nil
}

// place is a position of an epoch.
type place struct{ epoch, position uint64 }

type verifier struct {
	Verification
	known     map[place][]chunk.Digest
	positions map[uint64][]uint64 // of known, by epoch, in order
	covered   []covered
	repairs   []covered         // positions that are somewhere, by a node's word
	ends      map[string]uint64 // greatest offset of a file, by its path
}

// covered is a range of positions that something is known of.
type covered struct{ epoch, from, to uint64 }

// know takes a digest, if it is of the bytes before the position: behind a gap it isn't, and a receiver that was stopped may have bytes there.
func (v *verifier) know(epoch, position uint64, p proof) {
	at := place{epoch, position}
	if p.known && p.digest != chunk.AfterGap(position) && !slices.Contains(v.known[at], p.digest) {
		v.known[at] = append(v.known[at], p.digest)
	}
}

func (v *verifier) cover(epoch, from, to uint64) {
	v.covered = append(v.covered, covered{epoch, from, to})
}

func (v *verifier) part(verdict string, x *Extent, from, to uint64, why string) {
	bytes := int64(to - from)
	switch verdict {
	case Damaged:
		v.Verification.Damaged += bytes
	case Unproved:
		v.Verification.Unproved += bytes
	}
	v.Parts = append(v.Parts, Part{Verdict: verdict, Epoch: x.Epoch, From: from, To: to, Output: x.Output, File: x.File, Why: why})
}

// readGaps counts the ranges that the ledgers call lost. Those of several receivers may tell of one gap.
func (v *verifier) readGaps(outputs []string) error {
	seen := make(map[covered]bool)
	for _, output := range outputs {
		names, err := Ledgers(output, v.Identity, v.Log)
		if errors.Is(err, ErrNoLedger) {
			continue
		}
		if err != nil {
			return err
		}
		for _, name := range names {
			entries, err := Ledger(filepath.Join(output, name))
			if err != nil {
				return err
			}
			for i := range entries {
				e := &entries[i]
				c := covered{e.Epoch, e.From, e.To}
				if e.Event != EventGap && e.Event != EventRepair || e.To <= e.From || seen[c] {
					continue
				}
				seen[c] = true
				if e.Event == EventRepair {
					v.repairs = append(v.repairs, c)
					continue
				}
				v.cover(e.Epoch, e.From, e.To)
				if v.Gaps++; e.Bytes != nil && *e.Bytes > 0 {
					v.Lost += *e.Bytes
				}
			}
		}
	}
	return nil
}

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
		f, err := OpenCentral(first.Output, first.File)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotOurs) {
			if gone, err := v.expired(pieces); gone || err != nil {
				return err
			}
			v.rest(pieces, Damaged, "the file isn't there, and retention didn't delete it")
			return nil
		}
		if err != nil {
			return err
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
	p := &pieces[0]
	extents, err := Extents([]string{p.Output}, v.Identity, v.Log)
	if err != nil {
		return false, err
	}
	if !slices.ContainsFunc(extents, func(x Extent) bool { return x.Gone && x.File == p.File && x.Epoch == p.Epoch && x.From == p.From }) {
		return false, nil
	}
	for i := range pieces {
		p := &pieces[i]
		v.Expired += int64(p.to - p.from)
		v.cover(p.Epoch, p.from, p.to)
	}
	return true, nil
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
	for i := range pieces {
		p := &pieces[i]
		from := p.from
		for _, c := range v.covered {
			if c.epoch == p.Epoch && c.from <= from && from < c.to {
				from = c.to
			}
		}
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

// holes finds positions that no file, gap or expired file has: a receiver's directory or a ledger is missing.
func (v *verifier) holes() {
	for _, c := range v.repairs {
		for _, left := range v.uncovered(c) {
			v.part(Unproved, &Extent{Epoch: c.epoch}, left.from, left.to, "the node was told that they are central, and then both record and receiver lost it")
			v.cover(c.epoch, left.from, left.to)
		}
	}
	slices.SortFunc(v.covered, func(a, b covered) int {
		return cmp.Or(cmp.Compare(a.epoch, b.epoch), cmp.Compare(a.from, b.from))
	})
	var epoch, at uint64
	for _, c := range v.covered {
		if c.epoch != epoch {
			epoch, at = c.epoch, 0
		}
		if c.from > at {
			v.part(Damaged, &Extent{Epoch: epoch}, at, c.from, "no file below these directories has them: is another receiver's missing?")
		}
		at = max(at, c.to)
	}
}

// uncovered are the parts of a range that nothing is known of.
func (v *verifier) uncovered(c covered) (left []covered) {
	var all []piece
	for _, x := range v.covered {
		all = append(all, piece{Extent: Extent{Epoch: x.epoch}, from: x.from, to: x.to})
	}
	for _, l := range uncovered(all, c.epoch, c.from, c.to) {
		left = append(left, covered{c.epoch, l[0], l[1]})
	}
	return left
}

func (v *verifier) verdict() *Verification {
	slices.SortStableFunc(v.Parts, func(a, b Part) int {
		return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.From, b.From))
	})
	v.Verdict = Intact
	for _, p := range v.Parts {
		if p.Verdict == Damaged {
			v.Verdict = Damaged
		}
	}
	if v.Verdict == Intact && v.Verification.Unproved > 0 {
		v.Verdict = Unproved
	}
	return &v.Verification
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

// Logs lists the logs that have a ledger below the outputs, in order.
func Logs(outputs []string) ([][2]string, error) {
	seen := make(map[[2]string]bool)
	for _, output := range outputs {
		identities, err := os.ReadDir(output)
		if err != nil {
			return nil, err
		}
		for _, dir := range identities {
			identity, err := parsePathName(dir.Name())
			if err != nil || !dir.IsDir() {
				continue // not a node's
			}
			files, err := os.ReadDir(filepath.Join(output, dir.Name()))
			if err != nil {
				return nil, err
			}
			for _, f := range files {
				name, _, found := strings.Cut(f.Name(), "@ledger")
				if log, err := parsePathName(name); found && err == nil && strings.HasSuffix(f.Name(), ".jsonl") {
					seen[[2]string{identity, log}] = true
				}
			}
		}
	}
	all := make([][2]string, 0, len(seen))
	for l := range seen {
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b [2]string) int { return cmp.Or(strings.Compare(a[0], b[0]), strings.Compare(a[1], b[1])) })
	return all, nil
}

// parsePathName takes what pathName writes.
func parsePathName(s string) (string, error) {
	return chunk.ParseToken(strings.ReplaceAll(s, ".", "=2E"))
}
