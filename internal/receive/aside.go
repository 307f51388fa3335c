package receive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"logforward/internal/broker"
)

// dropCovered removes what begin set aside once it is central: this receiver has committed beyond it, or the record
// names the ranges that hold it, and their writer has learnt that.
func (r *Receiver) dropCovered(ctx context.Context) error {
	paths, err := fs.Glob(os.DirFS(r.config.State), "cut/*/*")
	if err != nil || len(paths) == 0 {
		return err
	}
	records, err := r.openRecords(ctx)
	if err != nil {
		r.logger.Debug("what was set aside isn't looked after now", "error", err)
		return nil
	}
	for _, path := range paths {
		key, c, ok := parseAside(path)
		if !ok {
			continue
		}
		covered, err := r.covered(ctx, records, filepath.Join(r.config.State, path), key, c)
		if err != nil {
			r.logger.Debug("what was set aside isn't looked after now", "error", err)
			return nil
		}
		if covered {
			path := filepath.Join(r.config.State, path)
			if err := dropNote(path); err != nil { // first: nothing else would look for it
				return err
			}
			if err := r.disk.remove(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// aside is a range that was set aside. Where a gap lies in it, it begins earlier than the bytes say; they are what counts.
type aside struct{ epoch, from, to uint64 }

func parseAside(path string) (key string, c aside, ok bool) {
	parts := strings.Split(filepath.Base(path), "@")
	if len(parts) != 3 {
		return "", c, false
	}
	var bytes uint64
	if _, err := fmt.Sscanf(parts[1], "%d-%d", &c.epoch, &c.to); err != nil {
		return "", c, false
	}
	if _, err := fmt.Sscan(parts[2], &bytes); err != nil || bytes > c.to {
		return "", c, false
	}
	c.from = c.to - bytes
	return filepath.Base(filepath.Dir(path)) + "." + parts[0], c, true
}

// covered tells whether all of what was set aside under a path is central: by its note, which knows each run of positions, or by its name, which knows the last.
func (r *Receiver) covered(ctx context.Context, records *broker.Records, path, key string, c aside) (bool, error) {
	runs := []aside{c}
	if n := noteOf(path); n.read() == nil {
		for i := range n.Pieces {
			runs = append(runs, aside{n.Pieces[i].Epoch, n.Pieces[i].From, n.Pieces[i].To})
		}
		if slices.ContainsFunc(n.Back, func(b *putBack) bool { return !b.Done }) {
			return false, nil
		}
		if st, err := os.Stat(path); err == nil && n.whole(st.Size()) {
			runs = runs[1:]
		}
	}
	lo, err := r.state.log(key)
	if err != nil {
		r.logger.Error("state", "error", err)
	}
	if lo == nil {
		lo = new(local)
	}
	// Its own file: where another receiver's range lies behind, the record decides.
	m := &lo.Committed
	if !slices.ContainsFunc(runs, func(c aside) bool {
		return m.File == "" || m.Place.Epoch != c.epoch || max(m.From, m.Behind) > c.from || m.Place.Position < c.to
	}) {
		return true, nil
	}
	value, _, err := records.Get(ctx, key)
	if errors.Is(err, broker.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	rec, err := parseRecord(value)
	if err != nil {
		return false, nil
	}
	var said []span // of this one's files by the record, at most
	for _, x := range rec.Ranges {
		if x.Behind = 0; x.Receiver == r.config.Name {
			said = append(said, x)
		}
	}
	held := func(own []span) bool {
		return !slices.ContainsFunc(runs, func(c aside) bool { return !rec.holds(c, r.config.Name, own) })
	}
	// A ledger is long, and read only where it may matter.
	return held(said) && held(r.committedRanges(lo)), nil
}

// committedRanges are those of a log's positions that this receiver's files hold, by its state and its ledger.
func (r *Receiver) committedRanges(lo *local) (own []span) {
	m := &lo.Committed
	if m.File != "" {
		own = append(own, span{Epoch: m.Place.Epoch, From: m.From, To: m.Place.Position, Behind: m.Behind})
	}
	if lo.LedgerFile == "" {
		return own
	}
	entries, err := unsealed(filepath.Join(r.config.Output, lo.LedgerFile))
	if err != nil {
		r.logger.Debug("what was set aside is kept", "error", err)
		return own
	}
	for _, x := range extents(entries, nil) {
		if x.End < x.Offset || x.Gone && !x.expired {
			continue
		}
		committed := x.expired || x.File == m.File && x.End <= m.Size
		if !committed {
			if committed, err = r.state.isClosed(x.File); err != nil {
				r.logger.Error("state", "error", err)
			}
		}
		if committed {
			own = append(own, span{Epoch: x.Epoch, From: x.From, To: x.From + uint64(x.End-x.Offset)})
		}
	}
	return own
}

// holds tells whether all of a range is learnt to be central, in files that the record names for other receivers than this one, or in own, what this
// one's files hold, and no gap takes the place of its bytes: of a range's gaps only the last is known. What the record says of this
// one's isn't believed: after a wipe and a power failure it may name what was cut and lies nowhere but here.
func (r *record) holds(c aside, receiver string, own []span) bool {
	if r.Learnt == nil || r.Learnt.Epoch < c.epoch || r.Learnt.Epoch == c.epoch && r.Learnt.Position < c.to {
		return false
	}
	ranges := slices.Concat(slices.DeleteFunc(slices.Clone(r.Ranges), func(s span) bool { return s.Receiver == receiver }), own)
	slices.SortFunc(ranges, func(a, b span) int { return cmp.Compare(a.From, b.From) })
	at := c.from
	for _, s := range ranges {
		if s.Epoch == c.epoch && max(s.From, s.Behind) <= at && s.To > at {
			at = s.To
		}
	}
	return at >= c.to
}
