package broker

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Keys calls each for all keys of a bucket that have values, with the time at which each was last written, by the
// broker's clock. It reads no values, so that large buckets can be looked through.
func Keys(ctx context.Context, js jetstream.JetStream, bucket string, each func(key string, written time.Time)) error {
	kv, err := openBucket(ctx, js, bucket)
	if err != nil {
		return err
	}
	w, err := kv.WatchAll(ctx, jetstream.IgnoreDeletes(), jetstream.MetaOnly())
	if err != nil {
		return fmt.Errorf("list keys of bucket %s: %w", bucket, apiError(err))
	}
	defer stopWatch(w)
	for n := 0; ; n++ {
		select {
		case entry, ok := <-w.Updates():
			if !ok {
				return fmt.Errorf("list keys of bucket %s: %w after %d keys", bucket, ErrDisconnected, n)
			}
			if entry == nil {
				return nil
			}
			each(entry.Key(), entry.Created())
		case <-ctx.Done():
			return fmt.Errorf("list keys of bucket %s: %w after %d keys", bucket, ctx.Err(), n)
		}
	}
}
