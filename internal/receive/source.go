package receive

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

// maxAckPending is how many messages the broker delivers before the first is acknowledged. The
// default of 1,000 would be the most that a partition takes in a commit interval.
const maxAckPending = 200_000

// source is one term's consumer of one stream.
type source struct {
	r        *Receiver
	stream   string
	n        int // of the stream
	consumer jetstream.Consumer
}

func streamName(partition int) string { return fmt.Sprintf("%s_%d", broker.Bucket, partition) }

// newConsumer makes a consumer of a name that was never used, after deleting all others:
// an acknowledgement names only stream, consumer and sequence, so one that is
// late, from an earlier consumer of the same name, could delete a message that nobody has read.
func (r *Receiver) newConsumer(ctx context.Context, partition int) (*source, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	name := streamName(partition)
	stream, err := r.js.Stream(ctx, name)
	if errors.Is(err, jetstream.ErrStreamNotFound) && partition < r.layout.Partitions {
		if err := r.restoreStream(ctx, name); err != nil {
			return nil, fmt.Errorf("stream %s: %w: %w", name, broker.ErrNoStream, err)
		}
		stream, err = r.js.Stream(ctx, name)
	}
	if err != nil {
		return nil, r.streamError(name, err)
	}
	if partition < r.layout.Partitions && !r.hears(partition, stream) {
		if err := r.restoreStream(ctx, name); err != nil {
			return nil, fmt.Errorf("stream %s has lost its subjects: %w", name, err)
		}
	}
	names := stream.ConsumerNames(ctx)
	for old := range names.Name() {
		if err := stream.DeleteConsumer(ctx, old); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return nil, fmt.Errorf("delete consumer %s of stream %s: %w", old, name, err)
		}
	}
	if err := names.Err(); err != nil {
		return nil, fmt.Errorf("list consumers of stream %s: %w", name, err)
	}
	consumer, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		Name:              "receiver-" + nuid.Next(),
		Description:       "term of receiver " + r.config.Name,
		DeliverPolicy:     jetstream.DeliverAllPolicy,
		AckPolicy:         jetstream.AckExplicitPolicy,
		AckWait:           max(time.Minute, 10*r.config.CommitInterval),
		MaxAckPending:     maxAckPending,
		MaxDeliver:        -1,
		MemoryStorage:     true, // a term's consumer is worth nothing to the next
		InactiveThreshold: time.Hour,
	})
	if err != nil {
		return nil, fmt.Errorf("make a consumer of stream %s: %w", name, err)
	}
	return &source{r, name, partition, consumer}, nil
}

// hears tells whether a stream takes the chunks of a partition.
func (r *Receiver) hears(partition int, stream jetstream.Stream) bool {
	return slices.Contains(stream.CachedInfo().Config.Subjects, broker.PartitionSubjects(r.layout.Prefix, partition))
}

// lookAtStreams makes sure that the streams of the partitions that this receiver works still take their chunks: a receiver of an older layout
// that was stopped for long may have taken one for unused. One that is gone ends its term anyway.
func (r *Receiver) lookAtStreams(session context.Context) error {
	ctx, cancel := context.WithTimeout(session, 10*time.Second)
	defer cancel()
	r.mu.Lock()
	working := slices.Sorted(maps.Keys(r.working))
	r.mu.Unlock()
	for _, n := range working {
		stream, err := r.js.Stream(ctx, streamName(n))
		if err == nil && !r.hears(n, stream) {
			err = r.restoreStream(ctx, streamName(n))
		}
		if err != nil {
			return fmt.Errorf("stream %s: %w", streamName(n), err)
		}
	}
	return nil
}

// fetchTotal is what all partitions of a receiver fetch ahead together: a server ends a connection for which more than its max_pending
// (64 MiB by default) waits to be written.
const fetchTotal = 40 << 20

// fetchBytes is how much a partition fetches ahead: as it is set, or its part of the whole, but never less than two messages: one that is larger than
// what is asked for would never come.
func (r *Receiver) fetchBytes() int {
	r.mu.Lock()
	mine := 0
	for n := range r.layout.Partitions {
		if r.planned(n) == r.config.Name {
			mine++
		}
	}
	r.mu.Unlock()
	return max(min(r.config.FetchBytes, fetchTotal/max(1, mine)), 2<<20, 2*int(r.nc.MaxPayload()))
}

// streamError says what to do about a stream that isn't there.
func (r *Receiver) streamError(name string, err error) error {
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("stream %s: %w: run logforward setup against this broker: %w", name, broker.ErrNoStream, err)
	}
	return fmt.Errorf("stream %s: %w", name, err)
}

// run decodes messages and hands them on until ctx ends, or the consumer can't be trusted any more. Nothing is handed on once it has returned.
func (s *source) run(ctx context.Context, hand func(context.Context, *delivery) bool) error {
	var (
		mu    sync.Mutex // held while a message is handed on
		ended bool
		fatal = make(chan error, 1)
	)
	defer func() {
		mu.Lock()
		ended = true
		mu.Unlock()
	}()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // before mu is waited for: who hands on gives up
	// Not by Messages: a limit of bytes alone lets that make a channel for a million messages, of which each collection looks at all.
	consuming, err := s.consumer.Consume(func(m jetstream.Msg) {
		mu.Lock()
		defer mu.Unlock()
		if !ended && ctx.Err() == nil {
			ended = !hand(ctx, s.r.decode(s.stream, s.n, m))
		}
	}, jetstream.PullMaxBytes(s.r.fetchBytes()), jetstream.PullExpiry(30*time.Second), jetstream.PullHeartbeat(5*time.Second),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
			if endsConsumer(err) {
				select {
				case fatal <- err:
				default:
				}
			}
		}))
	if err == nil {
		defer consuming.Stop()
		select {
		case <-ctx.Done():
			return nil
		case err = <-fatal:
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("fetch from stream %s: %w", s.stream, err)
}

// endsConsumer tells which of the errors in fetching are not mended by the next request for messages.
func endsConsumer(err error) bool {
	for _, fatal := range []error{jetstream.ErrNoHeartbeat, jetstream.ErrConsumerDeleted, jetstream.ErrBadRequest, jetstream.ErrConnectionClosed} {
		if errors.Is(err, fatal) {
			return true
		}
	}
	return false
}

// rawMessage is a message that can't be understood, as it goes into quarantine.
type rawMessage struct {
	stream  string
	subject string
	header  map[string][]string
	payload []byte
	reply   string
	err     error
}

// decode takes a message apart, off the loop: checksums and decompression are most of its work.
func (r *Receiver) decode(stream string, n int, m jetstream.Msg) *delivery {
	d := &delivery{reply: m.Reply(), from: n, bytes: len(m.Data())}
	d.subject, d.err = chunk.ParseSubject(r.config.Prefix, m.Subject())
	if d.err == nil {
		d.chunk, d.err = r.decompressor.Decode(m.Headers(), m.Data())
	}
	if d.err != nil || r.partitionOf(d.subject.Identity) != n {
		d.raw = &rawMessage{stream: stream, subject: m.Subject(), header: m.Headers(), payload: m.Data(), reply: m.Reply(), err: d.err}
	}
	if d.chunk != nil {
		d.bytes = max(d.bytes, len(d.chunk.Data)) // a few hundred bytes can be megabytes of zeros
	}
	return d
}

// move puts a chunk that lies in the wrong stream (its node published by an older layout, or chose the wrong one) into that
// of its identity's partition, and out of this one when it is stored there. The node hears nothing of it: it goes on
// waiting for the commit. What can't be moved is delivered again after a moment.
func (r *Receiver) move(ctx context.Context, d *delivery) bool {
	weight := d.weight()
	if r.moves.Acquire(ctx, weight) != nil {
		return false
	}
	subject := d.subject
	subject.Partition = r.partitionOf(subject.Identity)
	header := make(nats.Header)
	for name, values := range d.raw.header {
		if strings.HasPrefix(name, "Lf-") { // others may mean something to the broker
			header[name] = values
		}
	}
	r.pub.Publish(subject.String(), header, d.raw.payload, func(a broker.Ack) {
		defer r.moves.Release(weight)
		answer := ackAck
		if a.Err != nil {
			r.logger.Debug("a chunk can't be moved to its partition now", "subject", subject, "error", a.Err)
			answer = ackNak
		} else {
			r.metrics.moved.Inc()
		}
		// If it is lost the message comes again, and is a duplicate.
		_ = r.nc.Publish(d.reply, answer)
	})
	return true
}
