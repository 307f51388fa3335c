package receive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"logforward/internal/broker"
)

// Forget says that a receiver won't come back: its partitions are taken over at once, and a bucket that was
// lost doesn't wait for what it knew. If it does come back it is as before.
func Forget(ctx context.Context, records *broker.Records, name string) error {
	return change(ctx, records, beatKey(name), func(value []byte) (any, error) {
		var b Beat
		if value == nil || json.Unmarshal(value, &b) != nil {
			b = Beat{Name: name}
		}
		b.Forgotten = true
		return b, nil
	})
}

// SetDrain takes all partitions away from a receiver, or lets it take some again.
func SetDrain(ctx context.Context, records *broker.Records, name, by string, on bool) error {
	return change(ctx, records, drainKey(name), func([]byte) (any, error) {
		if !on {
			return Drain{By: by}, nil
		}
		return Drain{By: by, Since: time.Now().UTC()}, nil
	})
}

// change writes what a key's value becomes, against whoever else writes it.
func change(ctx context.Context, records *broker.Records, key string, to func([]byte) (any, error)) error {
	for {
		value, revision, err := records.Get(ctx, key)
		if err != nil && !errors.Is(err, broker.ErrNotFound) {
			return err
		}
		next, err := to(value)
		if err != nil {
			return err
		}
		b, err := json.Marshal(next)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		done := make(chan error, 1)
		records.Update(key, b, revision, func(_ uint64, err error) { done <- err })
		select {
		case err = <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if !errors.Is(err, broker.ErrWrongRevision) {
			return err
		}
	}
}
