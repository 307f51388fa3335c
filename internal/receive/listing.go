package receive

import (
	"context"
	"time"

	"logforward/internal/broker"
)

// listing is one reading of the whole positions bucket for all partitions that begin at about the same time.
type listing struct {
	turn  chan struct{} // held by who reads
	began time.Time
	list  []broker.Record
	drop  *time.Timer
}

// keepListing is how long a list is kept for others that have waited for it.
const keepListing = time.Second

// list reads all records, or takes what somebody else has read since list was called.
func (r *Receiver) list(ctx context.Context, records *broker.Records) ([]broker.Record, error) {
	asked := time.Now()
	l := &r.listing
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if l.list != nil && l.began.After(asked) {
		return l.list, nil
	}
	began := time.Now()
	list, err := records.List(ctx)
	if err != nil {
		return nil, err
	}
	l.began, l.list = began, list
	if l.drop != nil {
		l.drop.Stop()
	}
	l.drop = time.AfterFunc(keepListing, func() {
		l.turn <- struct{}{}
		defer func() { <-l.turn }()
		if l.began.Equal(began) {
			l.list = nil
		}
	})
	return list, nil
}
