package receive

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"logforward/internal/broker"
)

// remembered is what a receiver keeps of the layout, to make it anew after a wipe.
type remembered struct {
	Layout   broker.Layout `json:"layout"`
	MaxBytes int64         `json:"max_bytes,omitempty"` // of each stream
}

// findLayout waits until the broker tells the layout. A broker that has lost one which this
// receiver has worked with was wiped: it is set up again.
func (r *Receiver) findLayout(ctx context.Context) (broker.Layout, error) {
	for wait := 200 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		session, err := r.session(ctx)
		if err != nil {
			return broker.Layout{}, err
		}
		layout, err := r.readLayout(session)
		if err == nil {
			r.setNote(nil)
			return layout, nil
		}
		if session.Err() == nil {
			r.setNote(err)
			r.logger.Error("no layout", "error", err)
		}
		if !sleep(ctx, wait/2+rand.N(wait)) {
			return broker.Layout{}, ctx.Err()
		}
	}
}

func (r *Receiver) setNote(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.note = err
}

func (r *Receiver) readLayout(ctx context.Context) (broker.Layout, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	layout, err := r.askLayout(ctx)
	var old remembered
	known, err2 := r.state.getMeta("layout", &old)
	if err2 != nil {
		r.logger.Error("remembered layout can't be read", "error", err2)
	}
	if known && (errors.Is(err, broker.ErrNotFound) || errors.Is(err, broker.ErrNoStream)) {
		r.logger.Warn("the broker has lost its streams; setting them up again", "prefix", old.Layout.Prefix, "partitions", old.Layout.Partitions)
		wanted := broker.Wanted{Prefix: old.Layout.Prefix, Partitions: old.Layout.Partitions, Replicas: old.Layout.Replicas, MaxBytes: old.MaxBytes}
		if err := broker.Restore(ctx, r.js, wanted, r.lastButton()); err != nil {
			return broker.Layout{}, fmt.Errorf("set up again after a wipe (an administrator can: logforward setup): %w", err)
		}
		layout, err = r.askLayout(ctx)
		if err != nil {
			return broker.Layout{}, err
		}
	} else if err != nil {
		return broker.Layout{}, fmt.Errorf("layout: %w; run logforward setup against this broker", err)
	}
	if layout.Prefix != r.config.Prefix {
		return broker.Layout{}, fmt.Errorf("the broker's layout has the prefix %q, and this receiver %q: set prefix = %s", layout.Prefix, r.config.Prefix, layout.Prefix)
	}
	stream, err := r.js.Stream(ctx, streamName(0))
	if err != nil {
		return broker.Layout{}, r.streamError(streamName(0), err)
	}
	keep := remembered{Layout: layout, MaxBytes: max(0, stream.CachedInfo().Config.MaxBytes)}
	if keep != old {
		if err := r.state.putMeta("layout", keep); err != nil {
			return broker.Layout{}, fmt.Errorf("remember the layout: %w", err)
		}
	}
	return layout, nil
}

func (r *Receiver) askLayout(ctx context.Context) (broker.Layout, error) {
	shared, err := broker.OpenShared(ctx, r.js)
	if err != nil {
		return broker.Layout{}, err
	}
	return shared.Layout(ctx)
}

// leftovers works the streams that an older layout has left over until they are empty.
func (r *Receiver) leftovers(ctx context.Context) error {
	r.waitWorking(ctx)
	for ctx.Err() == nil {
		session, err := r.session(ctx)
		if err != nil {
			return nil
		}
		if err := r.workLeftovers(ctx, session); err != nil && session.Err() == nil {
			r.logger.Error("streams of an older layout", "error", err)
		}
		if !sleep(ctx, 5*time.Second) {
			return nil
		}
	}
	return nil
}

// waitWorking waits until all partitions have begun: what came before would be dropped, and
// come again behind its successors. One that can't begin is waited for only so long.
func (r *Receiver) waitWorking(ctx context.Context) {
	limit := time.NewTimer(10 * time.Second)
	defer limit.Stop()
	for {
		r.mu.Lock()
		all, changed := len(r.working) == len(r.partitions), r.changed
		r.mu.Unlock()
		if all {
			return
		}
		select {
		case <-changed:
		case <-limit.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (r *Receiver) workLeftovers(ctx, session context.Context) error {
	session, cancel := context.WithCancel(session)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	names := r.js.StreamNames(session)
	group, session := errgroup.WithContext(session)
	for name := range names.Name() {
		suffix, ok := strings.CutPrefix(name, broker.Bucket+"_")
		n, err := strconv.Atoi(suffix)
		if !ok || err != nil || n < r.layout.Partitions {
			continue
		}
		group.Go(func() error {
			source, err := r.newConsumer(session, n)
			if err != nil {
				return err
			}
			r.logger.Info("working a stream of an older layout", "stream", name)
			return source.run(session, r.route)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return names.Err()
}

// markComplete notes that a partition has brought its records forward. When all have, the bucket
// knows whatever this receiver knows, and is marked so.
func (r *Receiver) markComplete(ctx context.Context, records *broker.Records, n int) error {
	r.mu.Lock()
	if err := ctx.Err(); err != nil {
		r.mu.Unlock()
		return err // begun over the connection before: what it read says nothing of this broker
	}
	r.begun[n] = true
	all := len(r.begun) == r.layout.Partitions
	r.mu.Unlock()
	if !all {
		return nil
	}
	failed := make(chan error, 1)
	records.Update(completeKey, []byte(strconv.Quote(r.config.Name)), 0, func(_ uint64, err error) { failed <- err })
	select {
	case err := <-failed:
		if err != nil && !errors.Is(err, broker.ErrWrongRevision) {
			return fmt.Errorf("mark the positions as complete: %w", err)
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	r.setComplete(ctx)
	return nil
}

// setComplete lets syncs be answered, unless the connection that said so is over.
func (r *Receiver) setComplete(term context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if term.Err() != nil {
		return
	}
	r.complete = true
	r.broadcast()
}
