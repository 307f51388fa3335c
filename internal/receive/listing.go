package receive

import (
	"context"
	"sync"

	"logforward/internal/broker"
)

// listing reads the positions bucket for all partitions that begin at about the same time: once, for the broker can't tell which keys are a
// partition's. Only what one of them asked for is kept.
type listing struct {
	turn chan struct{} // held by who reads
	mu   sync.Mutex
	next *reading // one that hasn't begun, and may be joined; nil: none
}

// reading is one reading of the bucket.
type reading struct {
	wants map[int]func(key string) bool // by partition; nil: all of its keys. Guarded by the listing's mu until it begins

	// There when done is closed.
	done     chan struct{}
	err      error
	complete bool // the bucket is marked so
	lists    map[int][]broker.Record
}

// list reads the records of a partition's logs as they are after it was called: those whose keys are wanted, nil: all.
// complete: the bucket is marked so.
func (r *Receiver) list(ctx context.Context, records *broker.Records, n int, wanted func(key string) bool) (list []broker.Record, complete bool, err error) {
	for {
		x := r.listing.join(n, wanted)
		select {
		case <-x.done:
		case r.listing.turn <- struct{}{}:
			mine := r.listing.begin(x)
			if mine {
				x.read(ctx, r, records)
			}
			<-r.listing.turn
			if mine {
				return x.lists[n], x.complete, x.err
			}
		case <-ctx.Done():
			return nil, false, ctx.Err()
		}
		if x.err == nil {
			return x.lists[n], x.complete, nil
		}
		if err := ctx.Err(); err != nil {
			return nil, false, err
		}
		// Somebody else's reading failed; it may only be their term that is over.
	}
}

// join has the next reading bring a partition's records.
func (l *listing) join(n int, wanted func(key string) bool) *reading {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next == nil {
		l.next = &reading{wants: make(map[int]func(string) bool), done: make(chan struct{}), lists: make(map[int][]broker.Record)}
	}
	l.next.wants[n] = wanted
	return l.next
}

// begin closes a reading to others. false: somebody else has read it meanwhile.
func (l *listing) begin(x *reading) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next != x {
		return false
	}
	l.next = nil
	return true
}

// read reads the bucket and gives each partition what it wants.
func (x *reading) read(ctx context.Context, r *Receiver, records *broker.Records) {
	defer close(x.done)
	of := func(key string) (n int, wanted bool) {
		identity, _, err := splitKey(key)
		if err != nil {
			return 0, false
		}
		n = r.partitionOf(identity)
		which, asked := x.wants[n]
		return n, asked && (which == nil || which(key))
	}
	var list []broker.Record
	list, x.err = records.ListOf(ctx, func(key string) bool {
		_, wanted := of(key)
		return wanted || key == completeKey
	})
	for _, rec := range list {
		if rec.Key == completeKey {
			x.complete = true
		} else if n, wanted := of(rec.Key); wanted {
			x.lists[n] = append(x.lists[n], rec)
		}
	}
}
