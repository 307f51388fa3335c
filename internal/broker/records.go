package broker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// expectRevision is the header of a compare-and-set: the last sequence of this
// subject in the stream, 0 for none.
const expectRevision = "Nats-Expected-Last-Subject-Sequence"

// Record is one key of a bucket.
type Record struct {
	Key      string
	Value    []byte
	Revision uint64
	// Deleted says that this is the mark of a deletion; only Watch reports it.
	Deleted bool
}

// Records is a bucket whose values are only written with compare-and-set.
type Records struct {
	js     jetstream.JetStream
	kv     jetstream.KeyValue
	pub    *Publisher
	bucket string
	prefix string // of the subjects
	check  time.Duration
}

// OpenRecords opens a bucket ([Positions] or [Leases]); ErrNoStream says that
// setup hasn't made it. Updates go through the publisher, which stays the caller's.
func OpenRecords(ctx context.Context, js jetstream.JetStream, pub *Publisher, bucket string) (*Records, error) {
	kv, err := openBucket(ctx, js, bucket)
	if err != nil {
		return nil, err
	}
	prefix := "$KV." + bucket + "."
	if o := js.Options(); o.APIPrefix != "" || o.Domain != "" {
		// As the client library's own writes do under another API prefix.
		prefix = apiSubject(js, prefix)
	}
	return &Records{js: js, kv: kv, pub: pub, bucket: bucket, prefix: prefix, check: watchCheck}, nil
}

// Get reads a key from the stream's leader. ErrNotFound says that it has no
// value; the revision is then 0, or that of a deletion, and what Update expects.
func (r *Records) Get(ctx context.Context, key string) ([]byte, uint64, error) {
	if err := checkKey(key); err != nil {
		return nil, 0, fmt.Errorf("read from bucket %s: %w", r.bucket, err)
	}
	return readKey(ctx, r.js, r.bucket, key)
}

// Existing tells which keys below a first token have a value, or the mark of a deletion, by the stream's leader's word, in one answer; the errors are those
// of [SubjectsPending].
func (r *Records) Existing(ctx context.Context, token string) (map[string]bool, error) {
	if err := checkKey(token); err != nil {
		return nil, fmt.Errorf("list bucket %s: %w", r.bucket, err)
	}
	prefix := "$KV." + r.bucket + "."
	subjects, err := SubjectsPending(ctx, r.js, "KV_"+r.bucket, prefix+token+".>")
	if err != nil {
		return nil, err
	}
	keys := make(map[string]bool, len(subjects))
	for s := range subjects {
		keys[strings.TrimPrefix(s, prefix)] = true
	}
	return keys, nil
}

// Update writes value if the key's revision is still the expected one (0: the
// key doesn't exist), without waiting. Many may be under way at once, over
// different keys. The rules for done are those of [Publisher.Publish].
//
// Its error is nil and the revision the new one, or it wraps:
//   - ErrWrongRevision: someone wrote since; nothing was written now;
//   - something that [OutcomeUnknown] says true to, such as ErrTimeout or
//     ErrDisconnected: it may be written, now or still later;
//   - something else: nothing was written.
func (r *Records) Update(key string, value []byte, expected uint64, done func(revision uint64, err error)) {
	header := nats.Header{expectRevision: {strconv.FormatUint(expected, 10)}}
	subject := r.prefix + key
	if err := checkKey(key); err != nil {
		// An empty subject is refused by the publisher, which then reports this
		// from its own goroutine, as promised.
		subject = ""
	}
	r.pub.Publish(subject, header, value, func(a Ack) {
		if a.Err != nil {
			done(0, fmt.Errorf("update %s of bucket %s at revision %d: %w", key, r.bucket, expected, a.Err))
			return
		}
		done(a.Sequence, nil)
	})
}

// listSilence is how long a list may bring nothing until it is begun again: its consumer may be on a server that has
// just gone. listTries bounds how often.
const (
	listSilence = 3 * time.Second
	listTries   = 10
)

// List reads all keys that have values, sorted by their revisions.
func (r *Records) List(ctx context.Context) ([]Record, error) {
	return r.ListOf(ctx, func(string) bool { return true })
}

// ListOf is List of the keys that are wanted; nothing else is kept. It may ask for a key several times.
func (r *Records) ListOf(ctx context.Context, wanted func(key string) bool) ([]Record, error) {
	for try := 1; ; try++ {
		list, err := r.listOnce(ctx, wanted)
		if !errors.Is(err, ErrTimeout) || ctx.Err() != nil || try == listTries {
			return list, err
		}
	}
}

func (r *Records) listOnce(ctx context.Context, wanted func(key string) bool) ([]Record, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silence := time.AfterFunc(listSilence, cancel)
	defer silence.Stop()
	quiet := func(n int, err error) error {
		if !silence.Stop() && errors.Is(err, context.Canceled) {
			err = fmt.Errorf("%w for %s", ErrTimeout, listSilence)
		}
		return fmt.Errorf("list bucket %s: %w after %d keys", r.bucket, apiError(err), n)
	}
	w, err := r.kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return nil, quiet(0, err)
	}
	defer stopWatch(w)
	var list []Record
	for {
		silence.Reset(listSilence)
		select {
		case entry, ok := <-w.Updates():
			if !ok {
				return nil, quiet(len(list), fmt.Errorf("%w: the watch ended", ErrDisconnected))
			}
			if entry == nil {
				return list, nil
			}
			if wanted(entry.Key()) {
				list = append(list, Record{Key: entry.Key(), Value: entry.Value(), Revision: entry.Revision()})
			}
		case <-ctx.Done():
			return nil, quiet(len(list), ctx.Err())
		}
	}
}

// watchCheck is how often Watch compares what it has seen with the stream.
const watchCheck = 2 * time.Second

// staleMost is how many rounds in a row may end before all records have come, until that is an error.
const staleMost = 3

// errStale ends one round of a watch.
var errStale = errors.New("watch fell behind the bucket")

// Watch calls changed for each key's latest record and then for each change,
// deletions too, until ctx ends. When it has fallen behind the bucket, because the
// connection was lost or the bucket made anew, it begins again with all records,
// so the same one may come twice; restarted is called before that (also at the
// very start), and what is not reported until caughtUp is gone. Errors go to
// failed. It blocks.
func (r *Records) Watch(ctx context.Context, restarted func(), changed func(Record), caughtUp func(), failed func(error)) {
	stale := 0
	for round := 1; ctx.Err() == nil; round++ {
		restarted()
		stale++
		err := r.watchOnce(ctx, changed, func() { stale = 0; caughtUp() })
		if ctx.Err() != nil {
			return
		}
		if !errors.Is(err, errStale) || stale >= staleMost {
			failed(err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(backoff(min(round, 5))):
			}
		}
	}
}

func (r *Records) watchOnce(ctx context.Context, changed func(Record), caughtUp func()) error {
	w, err := r.kv.WatchAll(ctx)
	if err != nil {
		return fmt.Errorf("watch bucket %s: %w", r.bucket, apiError(err))
	}
	defer stopWatch(w)
	tick := time.NewTicker(r.check)
	defer tick.Stop()
	var seen, at uint64
	var behind bool // at the last look, having seen no more than at
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case entry, ok := <-w.Updates():
			if !ok {
				return errStale
			}
			if entry == nil {
				caughtUp()
				continue
			}
			seen = entry.Revision()
			changed(Record{Key: entry.Key(), Value: entry.Value(), Revision: entry.Revision(),
				Deleted: entry.Operation() != jetstream.KeyValuePut})
		case <-tick.C:
			// The subscription behind the watch can survive its consumer: after a
			// reconnect or a wipe it just says nothing more. So compare.
			last, err := r.lastRevision(ctx)
			if err != nil {
				return err
			}
			// Behind twice in a row without having moved: not merely in flight.
			if last < seen || (last > seen && behind && at == seen) {
				return fmt.Errorf("%w %s: it counts records up to revision %d, and delivers none behind %d; if that stays so its store is damaged, and what it knows has to be checked by starting it again without the index.db of that bucket", errStale, r.bucket, last, seen)
			}
			behind, at = last > seen, seen
		}
	}
}

// lastRevision is the revision of the bucket's newest record that still exists.
func (r *Records) lastRevision(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	s, err := r.js.Stream(ctx, "KV_"+r.bucket)
	if err != nil {
		return 0, fmt.Errorf("look at bucket %s: %w", r.bucket, apiError(err))
	}
	state := s.CachedInfo().State
	if state.Msgs == 0 {
		return 0, nil
	}
	return state.LastSeq, nil
}

// stopWatch ends a watch and waits for its goroutine. That one sends on a channel
// of limited size while it holds the lock which ending needs, so the channel is
// emptied until it is closed.
func stopWatch(w jetstream.KeyWatcher) {
	// Its only error is that the subscription has gone already.
	_ = w.Stop()
	// The library doesn't close the channel if the context ended while it was
	// setting the watch up.
	limit := time.NewTimer(time.Second)
	defer limit.Stop()
	for {
		select {
		case _, ok := <-w.Updates():
			if !ok {
				return
			}
		case <-limit.C:
			return
		}
	}
}

// checkKey allows what a key of tokens can hold: A-Z a-z 0-9 _ - = and dots
// between the tokens.
func checkKey(key string) error {
	for token := range strings.SplitSeq(key, ".") {
		if token == "" {
			return fmt.Errorf("%w: key %q has an empty token", errBadMessage, key)
		}
	}
	for _, c := range []byte(key) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-', c == '=', c == '.':
		default:
			return fmt.Errorf("%w: key %q holds %q", errBadMessage, key, string(rune(c)))
		}
	}
	return nil
}
