package receive

import (
	"context"
	"errors"
	"fmt"
	"time"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

// positions is the positions bucket as a begin uses it; [broker.Records] says what its methods promise. The model that goes through
// thousands of schedules has one of its own.
type positions interface {
	Get(ctx context.Context, key string) (value []byte, revision uint64, err error)
	Update(key string, value []byte, expected uint64, done func(revision uint64, err error))
}

// reconcile decides, for a log of this receiver's state, what is committed. whole: what is prepared is still on disk.
func (p *partition) reconcile(term context.Context, bucket positions, l *log, whole bool, done map[string]*closed, owner bool) error {
	lo := &l.local
	for first := true; ; first = false {
		known, found := p.known[l.key]
		if !first || !found {
			value, rev, err := bucket.Get(term, l.key)
			if err != nil && !errors.Is(err, broker.ErrNotFound) {
				return err
			}
			known, found = broker.Record{Key: l.key, Value: value, Revision: rev}, err == nil
		}
		rec := new(record)
		if found {
			var err error
			if rec, err = parseRecord(known.Value); err != nil {
				p.r.logger.Error("record can't be read; the local state goes on", "key", l.key, "error", err)
				rec = new(record)
			}
		}
		changed := rec.bringForward(p.r.config.Name, lo, whole, p.r.now())
		l.rec, l.rev = *rec, known.Revision
		if !changed && (lo.Prepared == nil || !owner && decided(rec, known.Revision, p.r.config.Name, lo.Prepared)) {
			break
		}
		// Raise the revision before believing what was read: an update of an earlier term may
		// still be on its way, and it would land after its range was cut back.
		value, err := p.stamp(&l.rec)
		if err != nil {
			return err
		}
		rev, err := update(term, bucket, l.key, value, l.rev)
		if errors.Is(err, broker.ErrWrongRevision) {
			continue
		}
		if err != nil {
			return err
		}
		l.rev = rev
		break
	}
	if m := lo.Prepared; m != nil {
		if l.rec.covers(p.r.config.Name, m) {
			lo.commit(m, l.key, done)
		}
		// Otherwise Prepared stays until reopen has set its bytes aside.
	}
	l.takeOverSeal(p.r.now())
	l.cur = newCursor(lo.Committed.Place)
	l.cur.forked = lo.Committed.Forked || l.rec.Forked && same(&l.rec.Place, &lo.Committed.Place)
	if further(&l.rec.Place, &lo.Committed.Place) {
		if l.rec.Learnt != nil {
			l.heard = *l.rec.Learnt
		}
		l.cur = newCursor(l.rec.Place)
		l.cur.forked = l.rec.Forked
		l.dirty = true // so that what the record says is learnt, and told
		p.touchAcks()
	}
	return nil
}

// bringForward changes a record that knows less than a receiver's state does: a power failure or a wipe took it back, or
// a commit ended between state and record. whole: what is prepared is still on disk.
func (rec *record) bringForward(name string, lo *local, whole bool, now time.Time) bool {
	m := lo.Prepared
	switch {
	case m != nil && rec.covers(name, m):
		return false
	case m != nil && rec.before(&m.Base) && whole:
		// The range is on disk, and what the record says is what it continues, or less. So the commit is
		// carried through: to cut it back would lose it if the record had it, and was lost.
		rec.merge(lo.Ranges)
		rec.Place, rec.Forked, rec.Seal = m.Place, m.Forked, laterSeal(rec.Seal, m.Seal)
		if further(&lo.Committed.Place, firstPlace(rec.Learnt)) {
			place := lo.Committed.Place
			rec.Learnt = &place
		}
		rec.extend(name, m, now)
		return true
	case further(&lo.Committed.Place, &rec.Place):
		place := lo.Committed.Place // what is committed here wins
		rec.merge(lo.Ranges)
		rec.Place, rec.Learnt, rec.Forked, rec.Seal = place, &place, lo.Committed.Forked, laterSeal(rec.Seal, lo.Committed.Seal)
		rec.extend(name, &lo.Committed, now)
		return true
	}
	return false
}

func firstPlace(p *chunk.Place) *chunk.Place {
	if p == nil {
		return new(chunk.Place)
	}
	return p
}

// before tells whether the record hasn't gone beyond a base.
func (r *record) before(b *base) bool {
	p := &r.Place
	if p.Epoch == b.Epoch && p.Position == b.Position {
		return p.Digest == b.Digest
	}
	return p.Epoch < b.Epoch || p.Epoch == b.Epoch && p.Position < b.Position
}

// whole tells whether the files still have what was prepared in them.
func (p *partition) whole(m *mark) bool {
	return m == nil || m.File == "" || checkName(p.r.config.Output, m.File, nil, m.Size) == nil
}

// decided tells whether what became of a prepared mark is plain without raising the record's revision, which would
// disturb the partition's owner: its update has landed, or can't any more.
func decided(rec *record, revision uint64, receiver string, m *mark) bool {
	return rec.covers(receiver, m) || m.Revision > 0 && revision > m.Revision
}

// commit moves a log's state to a mark that its record covers. A file whose closing that mark's
// ledger tells of is done.
func (lo *local) commit(m *mark, key string, done map[string]*closed) {
	lo.Committed, lo.Prepared = *m, nil
	if lo.Opening == m.File {
		lo.Opening = ""
	}
	lo.closed(key, done)
}

// closed ends a file's closing: the ledger tells of it.
func (lo *local) closed(key string, done map[string]*closed) {
	if c := lo.Closing; c != nil {
		done[c.To] = &closed{Key: key, Size: c.Size, Time: c.Time, Epoch: c.Epoch, To: c.Pos, Output: lo.Output}
		lo.Closing = nil
	}
}

// update writes one record and waits for the outcome.
func update(ctx context.Context, bucket positions, key string, value []byte, expected uint64) (uint64, error) {
	type result struct {
		rev uint64
		err error
	}
	done := make(chan result, 1)
	bucket.Update(key, value, expected, func(rev uint64, err error) { done <- result{rev, err} })
	select {
	case r := <-done:
		if broker.OutcomeUnknown(r.err) {
			return 0, fmt.Errorf("%w (%w)", broker.ErrWrongRevision, r.err) // read it again
		}
		return r.rev, r.err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}
