package receive

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"logforward/internal/broker"
)

// leftoverEvery is how often it is looked for streams that an older layout has left over.
const leftoverEvery = 5 * time.Second

// leftovers moves what lies in the streams of an older layout to where it belongs now, and deletes each when
// it has been empty for so long that no node can still mean to use it. One receiver works each, as it does a partition.
func (r *Receiver) leftovers(ctx context.Context) error {
	for ctx.Err() == nil {
		session, err := r.session(ctx)
		if err != nil {
			return nil
		}
		if err := r.workLeftovers(ctx, session); err != nil && session.Err() == nil && ctx.Err() == nil {
			r.logger.Error("streams of an older layout", "error", err)
		}
		if !sleep(ctx, leftoverEvery) {
			return nil
		}
	}
	return nil
}

func (r *Receiver) workLeftovers(ctx, session context.Context) error {
	list, err := r.leftoverStreams(session)
	if err != nil || len(list) == 0 {
		return err
	}
	group, gctx := errgroup.WithContext(ctx)
	for _, n := range list {
		group.Go(func() error {
			return r.hold(gctx, session, n, nil, func(clean, term context.Context) error { return r.workLeftover(clean, term, n) })
		})
	}
	return group.Wait()
}

// leftoverStreams are the numbers of streams beyond the layout's partitions.
func (r *Receiver) leftoverStreams(ctx context.Context) (list []int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	names := r.js.StreamNames(ctx)
	for name := range names.Name() {
		suffix, ok := strings.CutPrefix(name, broker.Bucket+"_")
		if n, err := strconv.Atoi(suffix); ok && err == nil && n >= r.layout.Partitions {
			list = append(list, n)
		}
	}
	return list, names.Err()
}

// workLeftover is one term over one such stream.
func (r *Receiver) workLeftover(clean, term context.Context, n int) error {
	term, cancel := context.WithCancel(term)
	defer cancel()
	defer context.AfterFunc(clean, cancel)()
	name := streamName(n)
	source, err := r.newConsumer(term, n)
	if errors.Is(err, broker.ErrNoStream) {
		return nil // deleted meanwhile
	}
	if err != nil {
		return err
	}
	r.logger.Info("moving what an older layout has left over", "stream", name)
	group, gctx := errgroup.WithContext(term)
	group.Go(func() error { return source.run(gctx, r.moveOrKeep) })
	group.Go(func() error {
		defer cancel()
		if err := r.retire(gctx, name, n); err != nil && gctx.Err() == nil {
			r.logger.Error("stream of an older layout", "error", err)
		}
		return nil
	})
	if err := group.Wait(); term.Err() == nil {
		return err
	}
	return nil
}

// moveOrKeep takes a message of an older layout's stream.
func (r *Receiver) moveOrKeep(ctx context.Context, d *delivery) bool {
	if d.chunk != nil {
		return r.move(ctx, d)
	}
	r.logger.Error("message can't be used and goes into quarantine", "subject", d.raw.subject, "bytes", len(d.raw.payload), "error", d.raw.err)
	r.metrics.quarantined.Inc()
	if err := r.keepQuarantine([]*rawMessage{d.raw}); err != nil {
		r.logger.Error("quarantine", "error", err)
		return true // it comes again
	}
	_ = r.nc.Publish(d.reply, ackTerm) // if it is lost the message comes again
	return true
}

// retire waits until a stream has been empty and unused for the grace, and deletes it. Before that it takes its subjects away, so
// that nothing can be stored between the last look and the deletion. A receiver that is stopped here, and goes on when the stream is in use again, by a
// newer layout, finds its term over. Should its request be on the wire already, the stream's owner makes it anew ([Receiver.lookAtStreams]), and asks for
// what it held, as for all that a broker loses.
func (r *Receiver) retire(ctx context.Context, name string, n int) error {
	var last uint64
	since := time.Now()
	for {
		stream, err := r.js.Stream(ctx, name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("look at stream %s: %w", name, err)
		}
		info := stream.CachedInfo()
		if info.State.Msgs > 0 || info.State.LastSeq != last {
			last, since = info.State.LastSeq, time.Now()
		}
		if info.State.Msgs == 0 && time.Since(since) >= r.config.LeftoverGrace {
			if layout, err := r.askLayout(ctx); err != nil || layout.ID != r.layout.ID {
				return err // it may be in use again
			}
			// Of the kind that setup knows as ours, should it be asked to make the partition again.
			aside := "retired." + broker.PartitionSubjects(r.layout.Prefix, n)
			if len(info.Config.Subjects) != 1 || info.Config.Subjects[0] != aside {
				config := info.Config
				config.Subjects = []string{aside}
				if err := r.disk.do(opRetire, func() error { _, err := r.js.UpdateStream(ctx, config); return err }); err != nil {
					return fmt.Errorf("take the subjects of the empty stream %s away (an administrator can delete it): %w", name, err)
				}
				continue // look again whether it is still empty
			}
			if err := r.js.DeleteStream(ctx, name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
				return fmt.Errorf("delete the empty stream %s (an administrator can): %w", name, err)
			}
			r.logger.Info("the empty stream of an older layout is deleted", "stream", name)
			return nil
		}
		if !sleep(ctx, min(leftoverEvery, max(r.config.LeftoverGrace/4, 10*time.Millisecond))) {
			return nil
		}
	}
}
