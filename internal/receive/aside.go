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
		covered, err := r.covered(ctx, records, key, c)
		if err != nil {
			r.logger.Debug("what was set aside isn't looked after now", "error", err)
			return nil
		}
		if covered {
			if err := r.disk.remove(filepath.Join(r.config.State, path)); err != nil {
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

func (r *Receiver) covered(ctx context.Context, records *broker.Records, key string, c aside) (bool, error) {
	lo, err := r.state.log(key)
	if err != nil {
		r.logger.Error("state", "error", err)
	}
	// Its own file: where another receiver's range lies behind, the record decides.
	if lo != nil && lo.Committed.File != "" && lo.Committed.Place.Epoch == c.epoch && max(lo.Committed.From, lo.Committed.Behind) <= c.from && lo.Committed.Place.Position >= c.to {
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
	if err != nil || rec.Learnt == nil || rec.Learnt.Epoch == c.epoch && rec.Learnt.Position < c.to || rec.Learnt.Epoch < c.epoch {
		return false, nil
	}
	return rec.holds(c), nil
}

// holds tells whether the record's ranges name all of a range, and no gap takes the place of its bytes. Of a range's gaps only the last is known.
func (r *record) holds(c aside) bool {
	ranges := slices.Clone(r.Ranges)
	slices.SortFunc(ranges, func(a, b span) int { return cmp.Compare(a.From, b.From) })
	at := c.from
	for _, s := range ranges {
		if s.Epoch == c.epoch && max(s.From, s.Behind) <= at && s.To > at {
			at = s.To
		}
	}
	return at >= c.to
}
