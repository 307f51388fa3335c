package broker

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// insistEach is how long one call is given. While a cluster elects a leader nobody answers, and a call with a later deadline
// would wait for an answer that never comes.
const insistEach = 3 * time.Second

// insistPause is between two calls when the first was answered at once.
const insistPause = 200 * time.Millisecond

// unavailable is what a server of a cluster without a leader answers: JSClusterNotAvailErr of nats-server's errors.json.
const unavailable jetstream.ErrorCode = 10008

// Insist repeats a read that gets no answer, or that a cluster can't answer yet, until ctx ends.
func Insist(ctx context.Context, read func(context.Context) error) error {
	for {
		one, cancel := context.WithTimeout(ctx, insistEach)
		err := read(one)
		cancel()
		var api *jetstream.APIError
		switch {
		case err == nil || ctx.Err() != nil:
			return err
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, ErrTimeout):
		case errors.As(err, &api) && api.ErrorCode == unavailable:
			select {
			case <-time.After(insistPause):
			case <-ctx.Done():
				return err
			}
		default:
			return err
		}
	}
}
