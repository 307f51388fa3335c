package receive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

// reread is a record that was read again during a term, because something looked as if another receiver had written it:
// one that has come back and brought the bucket forward, or that didn't know that it had lost the partition.
type reread struct {
	key   string
	rec   broker.Record
	found bool
	ask   *chunk.Resend // what the node is told if nobody has
}

// errBehind ends a term whose record another receiver has brought forward.
var errBehind = errors.New("another receiver has brought the record forward")

// reread reads a log's record beside the loop.
func (p *partition) reread(key string, ask *chunk.Resend) {
	term, records, out := p.ctx, p.records, p.rereads
	p.tasks.Go(func() {
		value, revision, err := records.Get(term, key)
		if err != nil && !errors.Is(err, broker.ErrNotFound) {
			p.r.logger.Info("record can't be read again now", "key", key, "error", err)
		}
		select {
		case out <- reread{key, broker.Record{Key: key, Value: value, Revision: revision}, err == nil, ask}:
		case <-term.Done():
		}
	})
}

// afterReread begins the partition anew where its record is further, and takes over a log that it had not heard of. Else it
// asks the node for what is missing.
func (p *partition) afterReread(x reread) error {
	l := p.logs[x.key]
	switch {
	case !x.found:
	case l == nil:
		p.known = map[string]broker.Record{x.key: x.rec}
		defer func() { p.known = nil }()
		if err := p.adoptRecord(x.key); err != nil {
			p.r.logger.Error("record can't be used; the log begins as if it were new", "key", x.key, "error", err)
		}
		return nil
	case x.rec.Revision > l.rev && l.commit == nil:
		if rec, err := parseRecord(x.rec.Value); err == nil && further(&rec.Place, &l.cur.Place) {
			return fmt.Errorf("%s: %w: to %d, this one has %d", x.key, errBehind, rec.Place.Position, l.cur.Position)
		}
	}
	if x.ask != nil && l != nil && (x.ask.Epoch != l.cur.Epoch || x.ask.From == l.cur.Position) {
		p.r.tell(l.identity, &chunk.Control{Resend: []chunk.Resend{*x.ask}})
	}
	return nil
}

// unknown gives those of an identity's logs of which nothing is known, by what the bucket says now: this receiver may have lost the
// partition, or the broker its store, without having noticed. The error says why others are left out, where it isn't that they are known.
func (p *partition) unknown(ctx context.Context, identity string, names []string) (map[string]bool, error) {
	if len(names) == 0 {
		return nil, nil
	}
	records, err := p.r.openRecords(ctx)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	missing := make(map[string]bool)
	if len(names) > counts { // most are new to all, of a node that has just been installed: one answer tells of these
		existing, err := records.Existing(ctx, chunk.Token(identity))
		switch {
		case err == nil:
			names = slices.DeleteFunc(names, func(name string) bool {
				missing[name] = !existing[key(identity, name)]
				return missing[name]
			})
		case !errors.Is(err, broker.ErrTooMany):
			return nil, err
		}
	}
	var group errgroup.Group
	group.SetLimit(counts)
	for _, name := range names {
		group.Go(func() error {
			k := key(identity, name)
			value, revision, err := records.Get(ctx, k)
			if err == nil {
				select {
				case p.rereads <- reread{key: k, rec: broker.Record{Key: k, Value: value, Revision: revision}, found: true}:
				case <-ctx.Done():
				}
				return nil
			}
			if !errors.Is(err, broker.ErrNotFound) {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			missing[name] = true
			return nil
		})
	}
	failed := group.Wait()
	// Behind them all: a bucket that was wiped while they were read isn't complete any more.
	_, _, err = records.Get(ctx, completeKey)
	if errors.Is(err, broker.ErrNotFound) {
		return nil, failed
	}
	if err != nil {
		return nil, err
	}
	return missing, failed
}
