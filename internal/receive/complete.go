package receive

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

// A positions bucket that is new, perhaps because the broker was wiped, knows nothing, and a node that is told so begins a
// new epoch, or leaves a gap. So it is marked complete when each receiver that was ever seen has given it
// what its state knows, and before that nobody without state is answered. A receiver that is down may hold the only copy: it is
// waited for, until it comes back or an operator says that it won't (logforward receivers --forget).

// completeKey marks a positions bucket that knows all that the receivers know.
const completeKey = "complete"

// givenKey says that a receiver has given the bucket all that it knows. Without a dot it is no log's key.
func givenKey(name string) string { return "given=" + chunk.Token(name) }

// completeRetry is how often it is looked whether the bucket is complete.
const completeRetry = 250 * time.Millisecond

// markCheck is how often it is looked whether the mark is still there.
const markCheck = 5 * time.Second

// errPositionsLost ends what goes on over a connection under which the broker has lost the positions.
var errPositionsLost = errors.New("the broker has lost the positions")

// contributed notes that a partition's state has gone into the bucket. complete: it is marked so already.
func (r *Receiver) contributed(term context.Context, n int, complete bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := term.Err(); err != nil {
		return err // begun over the connection before: what it read says nothing of this broker
	}
	r.begun[n] = true
	r.complete = r.complete || complete
	r.broadcast()
	return nil
}

// completeBucket looks after the mark, over each connection anew, until ctx ends.
func (r *Receiver) completeBucket(ctx context.Context) {
	for ctx.Err() == nil {
		session, err := r.session(ctx)
		if err != nil {
			return
		}
		session, cancel := context.WithCancel(session)
		stop := context.AfterFunc(ctx, cancel)
		since := time.Now()
		for r.incomplete(session) && session.Err() == nil {
			if err := r.tryComplete(session, since); err != nil && session.Err() == nil {
				r.logger.Warn("positions can't be marked as complete now", "error", err)
			}
			sleep(session, completeRetry)
		}
		for sleep(session, markCheck) {
			if err := r.lookForMark(session); err != nil && session.Err() == nil {
				r.logger.Debug("can't see whether the positions are complete", "error", err)
			}
			if err := r.lookAtStreams(session); err != nil && session.Err() == nil {
				r.logger.Warn("streams", "error", err)
			}
		}
		stop()
		cancel()
	}
}

// incomplete waits until all partitions have contributed, and tells whether the mark is still missing.
func (r *Receiver) incomplete(session context.Context) bool {
	for {
		r.mu.Lock()
		complete, all, changed := r.complete, len(r.begun) == r.layout.Partitions, r.changed
		r.mu.Unlock()
		if complete {
			return false
		}
		if all {
			return true
		}
		select {
		case <-changed:
		case <-session.Done():
			return false
		}
	}
}

// lookForMark makes sure that the mark which this session has seen is still there. Where it isn't, the bucket was lost under
// a connection that stands, and each receiver gives what it knows as over a new one.
func (r *Receiver) lookForMark(session context.Context) error {
	r.mu.Lock()
	l, complete := r.link, r.complete
	r.mu.Unlock()
	if l == nil || !complete {
		return nil
	}
	ctx, cancel := context.WithTimeout(session, 10*time.Second)
	defer cancel()
	records, err := r.openRecords(ctx)
	if err != nil {
		return err
	}
	if _, _, err := records.Get(ctx, completeKey); !errors.Is(err, broker.ErrNotFound) {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.link == l && session.Err() == nil {
		r.logger.Warn("the broker has lost the positions; the receivers put together what they know")
		r.relink()
	}
	return errPositionsLost
}

// tryComplete says that this receiver has given what it knows, and marks the bucket if it was the last.
func (r *Receiver) tryComplete(session context.Context, since time.Time) error {
	ctx, cancel := context.WithTimeout(session, 10*time.Second)
	defer cancel()
	records, err := r.openRecords(ctx)
	if err != nil {
		return err
	}
	_, _, err = records.Get(ctx, completeKey)
	if err == nil {
		r.setComplete(session)
		return nil
	}
	if !errors.Is(err, broker.ErrNotFound) {
		return err
	}
	name := []byte(strconv.Quote(r.config.Name))
	if _, err := r.write(ctx, records, givenKey(r.config.Name), name, 0); err != nil && !errors.Is(err, broker.ErrWrongRevision) {
		return err
	}
	var missing []string
	for _, peer := range r.seenPeers() {
		if _, _, err := records.Get(ctx, givenKey(peer)); errors.Is(err, broker.ErrNotFound) {
			missing = append(missing, peer)
		} else if err != nil {
			return err
		}
	}
	if len(missing) > 0 {
		r.lack(since, fmt.Errorf("the broker had lost the positions, and these receivers may hold the only copy of some: %s; nodes that have lost their state, and logs that are new, wait until they are started, or given up with logforward receivers --forget NAME", strings.Join(missing, ", ")))
		return nil
	}
	if _, err := r.write(ctx, records, completeKey, name, 0); err != nil && !errors.Is(err, broker.ErrWrongRevision) {
		return err
	}
	r.setComplete(session)
	return nil
}

// lack says so, unless it is so for a moment only.
func (r *Receiver) lack(since time.Time, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(since) < r.config.LeaseTimeout {
		return
	}
	if r.lacking == nil {
		r.logger.Warn(err.Error())
	}
	r.lacking = err
}

// setComplete lets nodes without state be answered, unless the connection that said so is over.
func (r *Receiver) setComplete(session context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if session.Err() != nil {
		return
	}
	r.complete, r.lacking = true, nil
	r.broadcast()
}
