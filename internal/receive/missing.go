package receive

import (
	"context"
	"encoding/json"
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

// What was set aside says, in a note beside it, which positions it has: so it can be told later which of them nobody else has, and what
// proves it.

// asidePiece is a run of positions in what was set aside, a byte for each.
type asidePiece struct {
	Epoch  uint64       `json:"epoch"`
	From   uint64       `json:"from"`
	To     uint64       `json:"to"`
	Offset int64        `json:"offset"` // of From in what was set aside
	Before chunk.Digest `json:"before"` // running digest before From
	After  chunk.Digest `json:"after"`  // and before To
}

// asideNote is what is known of bytes that were set aside: <state>/aside/<identity>/<their name>.json.
type asideNote struct {
	Pieces []asidePiece `json:"pieces"`
	Gaps   []Entry      `json:"gaps,omitempty"` // between them: their lines were cut, too
	Back   []*putBack   `json:"back,omitempty"` // parts of them on their way into a central file

	path  string // of the note
	bytes string // path of what was set aside
	key   string
}

// piecesOf finds out which positions lie in a file between two offsets, of which nothing is committed: from what is committed before them, and the lines
// that the ledger got since. What has no digest at its end is left out.
func (p *partition) piecesOf(l *log, name string, from, to int64) (all []asidePiece, gaps []Entry) {
	c, m := &l.local.Committed, l.local.Prepared
	var entries []Entry
	if c.File == name && c.Size == from && c.From != c.Place.Position {
		entries = append(entries, Entry{Event: EventRange, Epoch: c.Place.Epoch, From: c.Place.Position, File: name, Offset: from, Digest: &c.Place.Digest})
	}
	if l.local.LedgerFile != "" && m.Ledger > c.Ledger {
		f, err := openBelow(p.r.config.Output, l.local.LedgerFile, os.O_RDONLY, 0, 0)
		if err == nil {
			var lines []Entry
			lines, err = readLedger(io.NewSectionReader(f, c.Ledger, m.Ledger-c.Ledger), f.Name())
			entries = append(entries, lines...)
			f.Close()
		}
		if err != nil {
			p.r.logger.Error("the ledger doesn't say what is set aside", "file", name, "error", err)
			return nil, nil
		}
	}
	for _, x := range extents(entries, nil) {
		if x.File != name {
			continue
		}
		if x.End < 0 {
			x.End = to
			if x.endsAt(m.Place.Epoch, m.Place.Position, m.Size) {
				x.after = proof{m.Place.Digest, true}
			}
		}
		if x.Offset < from || x.End > to || x.End <= x.Offset || !x.before.known || !x.after.known {
			continue
		}
		all = append(all, asidePiece{x.Epoch, x.From, x.From + uint64(x.End-x.Offset), x.Offset - from, x.before.digest, x.after.digest})
	}
	for i := range entries {
		if entries[i].Event == EventGap {
			gaps = append(gaps, entries[i])
		}
	}
	if len(all)+len(gaps) > maxPieces {
		return nil, nil
	}
	return all, gaps
}

// noteAside writes down what is about to be set aside.
func (r *Receiver) noteAside(path string, pieces []asidePiece, gaps []Entry) error {
	n := noteOf(path)
	old := *n
	if err := old.read(); err == nil && slices.Equal(old.Pieces, pieces) {
		return nil // set aside before a crash; it may be on its way back
	}
	n.Pieces, n.Gaps = pieces, gaps
	for _, d := range []string{filepath.Dir(filepath.Dir(n.path)), filepath.Dir(n.path)} {
		if err := makeDir(d); err != nil {
			return err
		}
	}
	return n.write()
}

// noteOf is the note of the bytes that were set aside under a path; it isn't read.
func noteOf(path string) *asideNote {
	dir, name := filepath.Split(path) // <state>/cut/<identity>/<name>
	token, _, _ := strings.Cut(name, "@")
	identity := filepath.Base(dir)
	state := filepath.Dir(filepath.Dir(filepath.Clean(dir)))
	return &asideNote{path: filepath.Join(state, "aside", identity, name+".json"), bytes: path, key: identity + "." + token}
}

func (n *asideNote) read() error {
	b, err := os.ReadFile(n.path)
	if err == nil {
		err = json.Unmarshal(b, n)
	}
	if err != nil {
		return fmt.Errorf("note of what was set aside: %w", err)
	}
	return nil
}

// whole tells whether the pieces are all of so many bytes.
func (n *asideNote) whole(size int64) bool {
	for i := range n.Pieces {
		size -= int64(n.Pieces[i].To - n.Pieces[i].From)
	}
	return size == 0
}

// write replaces the note, which is on disk when it returns.
func (n *asideNote) write() error {
	b, err := json.Marshal(n)
	if err != nil {
		return err
	}
	dir := filepath.Dir(n.path)
	f, err := os.CreateTemp(dir, "new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), n.path)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("note of what was set aside: %w", err)
	}
	return syncDir(dir)
}

// dropNote removes the note of what isn't set aside any more.
func dropNote(path string) error {
	if err := os.Remove(noteOf(path).path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// errUndecided: a proof may still come, once the record is put together or a commit has an outcome.
var errUndecided = errors.New("nobody can tell yet whether it is the only copy")

// missing gives the parts of what was set aside that lie nowhere else and are proved to be the log's. With [errUndecided] there may be more later.
func (r *Receiver) missing(ctx context.Context, records *broker.Records, n *asideNote) (parts []asidePiece, err error) {
	lo, err := r.state.log(n.key)
	if err != nil || lo == nil || lo.LedgerFile == "" {
		return nil, err
	}
	value, _, err := records.Get(ctx, n.key)
	if errors.Is(err, broker.ErrNotFound) {
		return nil, errUndecided // lost: it is put together first
	}
	if err != nil {
		return nil, err
	}
	rec, err := parseRecord(value)
	if err != nil {
		return nil, nil // who works the log says so
	}
	identity, name, err := splitKey(n.key)
	if err != nil {
		return nil, err
	}
	own := r.committedRanges(lo)
	proofs := rec.proofs()
	known, err := Extents([]string{r.config.Output}, identity, name) // of all receivers that write to the same directory
	if err != nil && !errors.Is(err, ErrNoLedger) {
		return nil, err
	}
	for _, x := range known {
		if x.before.known {
			proofs = append(proofs, Proof{x.Epoch, x.From, x.before.digest})
		}
		if x.End > x.Offset && !x.Gone {
			own = append(own, span{Epoch: x.Epoch, From: x.From, To: x.From + uint64(x.End-x.Offset)})
		}
	}
	var undecided error
	for i := range n.Pieces {
		p := &n.Pieces[i]
		if m := lo.Prepared; m != nil && m.Place.Epoch == p.Epoch && m.From < p.To && m.Place.Position > p.From {
			undecided = errUndecided
			continue
		}
		if !rec.leftBehind(p, r.config.Name, own) { // else nothing need be read
			continue
		}
		digests, err := n.digests(p, proofs)
		if err != nil {
			r.logger.Error("what was set aside can't be put back", "file", n.bytes, "error", err)
			continue
		}
		for _, part := range rec.lacks(p, r.config.Name, own, proofs, digests) {
			parts = append(parts, asidePiece{p.Epoch, part[0], part[1], p.Offset + int64(part[0]-p.From), digests[part[0]], digests[part[1]]})
		}
	}
	return parts, undecided
}

// digests reads a piece and gives the running digest at its borders and all positions within where another is known. The error says that they
// aren't the bytes that were set aside.
func (n *asideNote) digests(p *asidePiece, proofs []Proof) (map[uint64]chunk.Digest, error) {
	f, err := os.Open(n.bytes)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var stops []uint64
	for _, x := range proofs {
		if x.Epoch == p.Epoch && x.Position > p.From && x.Position < p.To {
			stops = append(stops, x.Position)
		}
	}
	slices.Sort(stops)
	r := &countingReader{r: io.NewSectionReader(f, p.Offset, int64(p.To-p.From)), ctx: context.Background()}
	all, digest, at := map[uint64]chunk.Digest{p.From: p.Before}, p.Before, p.From
	for _, stop := range append(slices.Compact(stops), p.To) {
		s, err := r.sum(stop - at)
		if err != nil {
			return nil, err
		}
		digest, at = digest.Extend(s.digest, s.length), stop
		all[at] = digest
	}
	if digest != p.After {
		return nil, fmt.Errorf("other bytes than were received: digest %s at position %d, not %s", digest, p.To, p.After)
	}
	return all, nil
}

// proofs are the running digests that a record knows of those who have gone on.
func (r *record) proofs() (all []Proof) {
	for _, p := range []*chunk.Place{&r.Place, r.Learnt} {
		if p != nil {
			all = append(all, Proof{p.Epoch, p.Position, p.Digest}, Proof{p.Epoch, p.Tail.From, p.Tail.Digest})
		}
	}
	for _, s := range r.Ranges {
		if s.Digest != nil {
			all = append(all, Proof{s.Epoch, s.From, *s.Digest})
		}
	}
	return all
}

// leftBehind tells whether the log has gone on behind a piece, and not all of it is in some range.
func (r *record) leftBehind(p *asidePiece, receiver string, own []span) bool {
	return len(r.open(p, receiver, own)) > 0
}

// open are the parts of a piece that no range has, up to where the log is learnt to have come in the piece's epoch.
func (r *record) open(p *asidePiece, receiver string, own []span) [][2]uint64 {
	var end uint64
	switch {
	case r.Learnt == nil || r.Learnt.Epoch < p.Epoch:
		return nil
	case r.Learnt.Epoch == p.Epoch:
		end = r.Learnt.Position
	}
	var held []covered
	for _, s := range r.Ranges {
		if s.Epoch != p.Epoch {
			continue
		}
		if r.Learnt.Epoch > p.Epoch {
			end = max(end, s.To) // what came in it is over, and so much was committed
		}
		if s.Receiver != receiver || s.Back { // its own by the record it may have cut
			held = append(held, covered{s.Epoch, s.From, s.To})
		}
	}
	for _, s := range own {
		held = append(held, covered{s.Epoch, max(s.From, s.Behind), s.To})
	}
	var parts [][2]uint64
	for _, left := range newCoverage(held).without(p.Epoch, p.From, min(p.To, end)) {
		parts = append(parts, [2]uint64{left.from, left.to})
	}
	return parts
}

// lacks gives the parts of a piece that are to be put back: nobody has them, and a digest that is known of the log at their end or further on in the
// piece is the piece's own there. Then all before it are the same bytes, and there is no gap. Where another digest is known the piece is of another
// life of the log, and nothing of it belongs there. digests are the piece's own.
func (r *record) lacks(p *asidePiece, receiver string, own []span, proofs []Proof, digests map[uint64]chunk.Digest) (parts [][2]uint64) {
	proved := p.From
	for _, x := range proofs {
		if x.Epoch != p.Epoch || x.Position <= p.From || x.Position > p.To {
			continue
		}
		switch digest, known := digests[x.Position]; {
		case !known || x.Digest == chunk.AfterGap(x.Position): // says nothing of what was before
		case digest != x.Digest:
			return nil
		default:
			proved = max(proved, x.Position)
		}
	}
	for _, part := range r.open(p, receiver, own) {
		if part[1] = min(part[1], proved); part[0] < part[1] {
			if _, known := digests[part[0]]; !known {
				continue
			}
			parts = append(parts, part)
		}
	}
	return parts
}
