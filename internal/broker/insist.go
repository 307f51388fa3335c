package broker

import (
	"context"
	"errors"
	"time"
)

// insistEach is how long one call is given. While a cluster elects a leader nobody answers, and a call with a later deadline
// would wait for an answer that never comes.
const insistEach = 3 * time.Second

// Insist repeats a read that gets no answer, until ctx ends.
func Insist(ctx context.Context, read func(context.Context) error) error {
	for {
		one, cancel := context.WithTimeout(ctx, insistEach)
		err := read(one)
		cancel()
		if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrTimeout) {
			return err
		}
	}
}
