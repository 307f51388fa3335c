package broker

import (
	"context"
	"fmt"
	"time"
)

// Clock is the broker's time. Whoever presses the red button may sit at any machine, with any clock; when a pause
// ends must not depend on that. A broker too old to say has the time of this machine.
func (s *Shared) Clock(ctx context.Context) (time.Time, error) {
	asked := time.Now()
	stream, err := s.js.Stream(ctx, "KV_"+Bucket)
	if err != nil {
		return time.Time{}, fmt.Errorf("ask for the time: %w", apiError(err))
	}
	said := stream.CachedInfo().TimeStamp
	if said.IsZero() {
		return time.Now(), nil
	}
	return said.Add(time.Since(asked) / 2), nil
}
