package receive

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

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
	var layout broker.Layout
	err := broker.Insist(ctx, func(ctx context.Context) (err error) { // a request that comes while a cluster has no leader is never answered
		layout, err = r.askLayout(ctx)
		return err
	})
	var old remembered
	known, err2 := r.state.getMeta("layout", &old)
	if err2 != nil {
		r.logger.Error("remembered layout can't be read", "error", err2)
	}
	if known && (errors.Is(err, broker.ErrNotFound) || errors.Is(err, broker.ErrNoStream)) {
		r.logger.Warn("the broker has lost its streams; setting them up again", "prefix", old.Layout.Prefix, "partitions", old.Layout.Partitions)
		if err := r.restore(ctx, &old); err != nil {
			return broker.Layout{}, err
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
	return layout, r.rememberLayout(ctx, layout)
}

// rememberLayout keeps the layout, with what the streams are made by, where that isn't known yet.
func (r *Receiver) rememberLayout(ctx context.Context, layout broker.Layout) error {
	stream, err := r.js.Stream(ctx, streamName(0))
	if err != nil {
		return r.streamError(streamName(0), err)
	}
	keep := remembered{Layout: layout, MaxBytes: max(0, stream.CachedInfo().Config.MaxBytes)}
	var old remembered
	if known, err := r.state.getMeta("layout", &old); err == nil && known && keep == old {
		return nil
	}
	if err := r.state.putMeta("layout", keep); err != nil {
		return fmt.Errorf("remember the layout: %w", err)
	}
	return nil
}

func (r *Receiver) askLayout(ctx context.Context) (broker.Layout, error) {
	shared, err := broker.OpenShared(ctx, r.js)
	if err != nil {
		return broker.Layout{}, err
	}
	return shared.Layout(ctx)
}

// restore makes what is missing of the streams and buckets, as they were known.
func (r *Receiver) restore(ctx context.Context, old *remembered) error {
	wanted := broker.Wanted{Prefix: old.Layout.Prefix, Partitions: old.Layout.Partitions, Replicas: old.Layout.Replicas, MaxBytes: old.MaxBytes}
	if err := broker.Restore(ctx, r.js, wanted, r.lastButton()); err != nil {
		return fmt.Errorf("set up again after a wipe (an administrator can: logforward setup): %w", err)
	}
	return nil
}

// restoreStream makes a partition's stream that is missing, or takes no chunks, while the layout is there: it was deleted by hand, or as an older
// layout's leftover in the moment in which setup took it into use again.
func (r *Receiver) restoreStream(ctx context.Context, name string) error {
	var old remembered
	if known, err := r.state.getMeta("layout", &old); err != nil || !known || old.Layout.ID != r.layout.ID {
		return errors.Join(err, errors.New("run logforward setup against this broker"))
	}
	r.logger.Warn("the broker has lost a stream, or its subjects; setting it up again", "stream", name)
	return r.restore(ctx, &old)
}
