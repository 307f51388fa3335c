package forward

import (
	"errors"
	"fmt"
	"time"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

// onAck takes the outcome of one publish.
func (f *forwarder) onAck(a ack) {
	if a.life != f.life {
		return // of what was gone back behind since
	}
	f.waiting--
	if !a.quiet {
		f.asking--
	}
	confirmed := a.end <= f.flight.start
	if a.err != nil {
		if !confirmed {
			f.failed(a.err)
		}
		return
	}
	f.sendErr, f.bare = nil, time.Time{}
	f.backoff.reset()
	if confirmed {
		return
	}
	i := f.flight.at(a.end - 1)
	if i == len(f.flight.chunks) || f.flight.chunks[i].end() != a.end {
		return
	}
	f.flight.chunks[i].acked = true
	for i := f.flight.at(f.stored); i < len(f.flight.chunks) && f.flight.chunks[i].acked; i++ {
		c := &f.flight.chunks[i]
		f.stored = c.end()
		if c.gap == nil {
			f.stats.stored(c.length)
		}
	}
	if f.link.destination.Commit == Stored {
		if d, ok := f.flight.border(f.stored); ok && f.stored > f.flight.start {
			f.rec.Weak = true // also where a receiver's word is waited for again later
			f.confirm(f.stored, d)
		}
		return
	}
	f.flight.compact(f.stored, uint64(f.limit()))
}

// failed goes back after a publish that failed or got no answer.
func (f *forwarder) failed(err error) {
	if errors.Is(err, broker.ErrClosed) {
		return // the end
	}
	f.sendErr = err
	if nowhere(err) {
		if f.bare.IsZero() {
			f.bare = time.Now()
		}
	} else {
		f.bare = time.Time{}
	}
	wait := f.backoff.next()
	if !broker.Retryable(err) && !f.shrink(err) {
		wait = max(wait, f.backoff.most/2)
	}
	f.log.Debug("going back", "to", f.stored, "after", wait, "error", err)
	f.goBack(f.stored)
	f.notBefore = time.Now().Add(wait)
}

// shrink makes chunks smaller where one was too big, and tells whether they are. What the broker takes may have changed while the connection lasts; what a
// stream takes nobody says, so that is found by halves.
func (f *forwarder) shrink(err error) bool {
	if !errors.Is(err, broker.ErrPayloadTooBig) {
		return false
	}
	was := f.limit()
	if answer := new(broker.AnswerError); errors.As(err, &answer) {
		f.maxPayload = was/2 + chunk.HeaderRoom
	} else {
		f.maxPayload = f.link.takes()
	}
	return f.limit() < was
}

// nowhere tells that a chunk is certainly not stored, and won't be by this layout: no stream takes its subject, or the node may not publish to it.
func nowhere(err error) bool {
	return errors.Is(err, broker.ErrNoStream) || errors.Is(err, broker.ErrPermission) && !broker.OutcomeUnknown(err)
}

// goBack continues from position, which is a border of the flight and not below confirmed:
// what was stored behind it doesn't count any more, what is under way neither.
func (f *forwarder) goBack(position uint64) {
	f.life++
	f.waiting, f.asking = 0, 0
	f.rec.Round++
	f.dirty = true
	f.stored, f.next = position, position
	for i := f.flight.at(position); i < len(f.flight.chunks); i++ {
		f.flight.chunks[i].acked = false
	}
	f.stats.round()
}

// onResend obeys a receiver that misses something, once in each round.
func (f *forwarder) onResend(r chunk.Resend) {
	if !f.begun || f.tail == nil || r.Epoch != f.rec.Epoch || r.Round != f.rec.Round {
		return
	}
	if r.From < f.flight.start {
		// It may have lost its records: what is confirmed here is a witness.
		f.ask(0)
		return
	}
	i := f.flight.at(r.From)
	if i == len(f.flight.chunks) || f.flight.chunks[i].position >= f.next {
		return // nothing from there on was sent in this round
	}
	f.log.Info("sending again", "from", f.flight.chunks[i].position, "asked", r.From, "round", r.Round)
	f.goBack(f.flight.chunks[i].position)
	f.stats.resend()
}

// onConfirm believes a receiver if it has the same bytes as we do up to position.
func (f *forwarder) onConfirm(epoch, position uint64, digest chunk.Digest) {
	if !f.begun || f.tail == nil || epoch != f.rec.Epoch || position < f.flight.start {
		return
	}
	if f.place != nil {
		f.ask(0) // the comparison under way comes first
		return
	}
	if position > f.flight.end() || position > f.flight.start && !f.flight.chunks[f.flight.at(position-1)].tried {
		f.ask(0) // never sent, or by an earlier run: the answer tells
		return
	}
	ours, ok := f.digestAt(position)
	if !ok && !f.flight.wasBorder(position, digest) {
		f.ask(time.Second)
		return
	}
	if (!ok || ours != digest) && !f.flight.wasBorder(position, digest) {
		f.forked(0, fmt.Sprintf("the centre's digest at position %d is %s, this node's is %s", position, digest, ours))
		return
	}
	f.central(position, digest)
}

// central takes a receiver's word.
func (f *forwarder) central(position uint64, digest chunk.Digest) {
	f.dirty = f.dirty || f.rec.Weak
	f.rec.Weak = false
	f.confirm(position, digest)
}

// digestAt is the running digest at position, which is made a border if it is none.
// false: the bytes that would tell can't be read.
func (f *forwarder) digestAt(position uint64) (chunk.Digest, bool) {
	if d, ok := f.flight.border(position); ok {
		return d, true
	}
	i := f.flight.at(position)
	c := &f.flight.chunks[i]
	if c.gap != nil {
		return 0, false
	}
	buf := f.engine.bufferOf(int(c.length))
	defer f.engine.giveBack(buf)
	data, err := f.readAgain(c, *buf)
	if err != nil {
		return 0, false
	}
	n := position - c.position
	f.flight.split(i, position, chunk.Sum(data[:n]), chunk.Sum(data[n:]))
	if f.signer != nil {
		f.flight.pass(i, data[:n]) // it may be confirmed up to here, without going out again
	}
	return f.flight.border(position)
}

// confirm moves confirmed to position, where the running digest is digest.
func (f *forwarder) confirm(position uint64, digest chunk.Digest) {
	if position == f.flight.start {
		return
	}
	if _, ok := f.flight.border(position); !ok {
		// A former border, inside what is a gap now.
		f.flight.split(f.flight.at(position), position, 0, 0)
	}
	if d, _ := f.flight.border(position); d != digest {
		f.stats.wereCentral(f.flight.untaken(position))
	}
	if f.signer != nil {
		if to, id := f.flight.lastSealed(position); to > 0 {
			f.sealed = Sealed{f.rec.Epoch, to, id}
		}
	}
	bytes, _ := f.flight.drop(position, digest)
	f.rec.Confirmed, f.rec.Digest = position, digest
	f.stored, f.next = max(f.stored, position), max(f.next, position)
	f.stats.confirmed(bytes)
	if position == f.flight.end() {
		f.sendErr, f.bare = nil, time.Time{} // nothing is left whose answer could show that it is over
	}
	if err := f.tail.Release(position); err != nil {
		f.broken(err)
		return
	}
	f.centreErr = nil
	f.dirty = true
}
