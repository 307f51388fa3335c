package receive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"logforward/internal/broker"
)

// leaseRetry is waited after a lease that somebody else was faster to take.
const leaseRetry = 20 * time.Millisecond

// hold waits until it is this receiver's turn to work n, takes the lease and lets work do it. work gets two contexts: when
// the first ends it shall come to an end in order, when the second does (it ends with the session, too) n isn't this
// receiver's any more, or may not be. Where work ended in order because somebody else is to go on, the lease is
// given back at once. Where it has to wait, idle runs meanwhile, if it isn't nil; its error ends the waiting.
func (r *Receiver) hold(ctx, session context.Context, n int, idle func(context.Context) error, work func(clean, term context.Context) error) error {
	lease, revision, err := r.take(ctx, session, n, idle)
	if err != nil {
		return err
	}
	clean, stop := context.WithCancel(ctx)
	defer stop()
	term, lose := context.WithCancel(session)
	defer lose()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for {
			r.mu.Lock()
			changed := r.changed
			var now held
			var planned string
			known := r.sharing.table != nil
			if known {
				now, planned = r.sharing.table.leases[n], r.planned(n)
			}
			r.mu.Unlock()
			switch {
			case known && now.revision > revision && (now.Owner != r.config.Name || now.Instance != lease.Instance):
				r.logger.Warn("another receiver has taken over", "partition", n, "receiver", now.Owner)
				lose()
			case known && planned != "" && planned != r.config.Name:
				stop()
			}
			select {
			case <-changed:
			case <-term.Done():
				return
			}
		}
	}()
	err = work(clean, term)
	inOrder := err == nil && term.Err() == nil
	lose()
	<-watched
	if inOrder {
		r.giveUp(n, lease, revision)
	}
	return err
}

// take waits for this receiver's turn and takes the lease of n, for a new term.
func (r *Receiver) take(ctx, session context.Context, n int, idle func(context.Context) error) (Lease, uint64, error) {
	var ended chan error // of idle; nil: it doesn't run
	waiting, taken := context.WithCancel(session)
	defer func() {
		taken()
		if ended != nil {
			<-ended
		}
	}()
	for {
		r.mu.Lock()
		s, changed := &r.sharing, r.changed
		var lease held
		turn := s.table != nil && s.own > 0 && r.planned(n) == r.config.Name && s.table.free(n, r.layout.ID)
		records := s.records
		stale := false
		if s.table != nil && s.own > 0 {
			lease = s.table.leases[n]
			// Left from a term that failed, or from before a restart, and somebody else is to go on.
			planned := r.planned(n)
			stale = lease.Owner == r.config.Name && planned != "" && planned != r.config.Name
		}
		r.mu.Unlock()
		if stale {
			r.giveUp(n, lease.Lease, lease.revision)
		}
		if turn {
			next := Lease{Owner: r.config.Name, Instance: s.instance, Term: lease.Term + 1, Layout: r.layout.ID, Since: r.now().UTC()}
			revision, err := r.takeNow(session, records, n, next, lease.revision)
			if err == nil {
				return next, revision, nil
			}
			if !errors.Is(err, broker.ErrWrongRevision) {
				return Lease{}, 0, fmt.Errorf("take the lease: %w", err)
			}
			if !sleep(session, leaseRetry) {
				return Lease{}, 0, session.Err()
			}
			continue
		}
		if idle != nil && ended == nil {
			ended = make(chan error, 1)
			go func() { ended <- idle(waiting) }()
		}
		select {
		case <-changed:
		case err := <-ended:
			ended = nil
			if err == nil {
				err = session.Err() // nothing else ends it
			}
			return Lease{}, 0, err
		case <-ctx.Done():
			return Lease{}, 0, ctx.Err()
		case <-session.Done():
			return Lease{}, 0, session.Err()
		}
	}
}

// takeNow writes a lease. Where somebody was faster it reads what it is now: the watch may be late.
func (r *Receiver) takeNow(session context.Context, records *broker.Records, n int, next Lease, expected uint64) (uint64, error) {
	value, err := json.Marshal(next)
	if err != nil {
		return 0, err
	}
	key := leaseKey(n)
	revision, err := r.write(session, records, key, value, expected)
	if err == nil {
		r.saw(broker.Record{Key: key, Value: value, Revision: revision})
		return revision, nil
	}
	if errors.Is(err, broker.ErrWrongRevision) {
		value, revision, err2 := records.Get(session, key)
		if err2 == nil || errors.Is(err2, broker.ErrNotFound) {
			r.saw(broker.Record{Key: key, Value: value, Revision: revision, Deleted: err2 != nil})
		}
	}
	return 0, err
}

// saw takes a record over that was written or read here, ahead of the watch.
func (r *Receiver) saw(rec broker.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sharing.table != nil && r.sharing.table.observe(rec) {
		r.replan()
	}
}

// giveUp gives a lease back, so that its next owner needn't wait for anything.
func (r *Receiver) giveUp(n int, lease Lease, revision uint64) {
	r.mu.Lock()
	records := r.sharing.records
	r.mu.Unlock()
	if records == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	value, err := json.Marshal(Lease{Term: lease.Term, Layout: lease.Layout, Since: r.now().UTC()})
	if err == nil {
		revision, err = r.write(ctx, records, leaseKey(n), value, revision)
	}
	if err != nil {
		r.logger.Info("a lease isn't given back; the others notice when this receiver has ended", "partition", n, "error", err)
		return
	}
	r.saw(broker.Record{Key: leaseKey(n), Value: value, Revision: revision})
}
