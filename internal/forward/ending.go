package forward

import (
	"errors"
	"time"

	"logforward/internal/chunk"
	"logforward/internal/tail"
)

// A file that its writer went on with after it was copied and removed is gone when the process that held it open is killed. The state that is left may be
// older than what that had sent: only the centre knows how far it got, when it has taken what the stream has.

// ending is what is known of where an earlier run ended.
type ending struct {
	asks  bool      // the hello says how far it may have got, so that the centre says whether more of it may come
	final bool      // no more of it comes
	start uint64    // confirmed, when the centre was last seen to go on
	since time.Time // when that was
}

var errEnding = errors.New("an earlier run may have sent more of a file than its copy has: what the centre has of it is waited for")

// hear takes an answer: where nothing waits in the stream of what an earlier run may have sent, the centre asks for it.
func (e *ending) hear(f *forwarder, was *chunk.HelloLog, a *chunk.AnswerLog) {
	if e.asks && was.Stored >= f.restored && was.Confirmed == f.flight.end() && (a.Resend != nil || a.Known && a.Epoch == f.rec.Epoch && a.Position >= f.restored) {
		e.final = true
	}
}

// sure lets go of the copy of a file that an earlier run was sending last, once it is known how far that got; else an idle log would hold it, unpacked, for good.
func (f *forwarder) sure(p *tail.Piece) {
	if p.Unsure && p.Loss == nil && f.place == nil && (f.ending.final || f.flight.end() >= f.restored) {
		f.tail.Sure()
	}
}

// waitsForEnd is how long a piece waits that comes behind all that can be read of what an earlier run was sending last. Before it may come what only the
// centre has.
func (f *forwarder) waitsForEnd(p *tail.Piece, now time.Time) time.Duration {
	e := &f.ending
	lost := p.Loss != nil && p.Loss.Cause == tail.NotFound
	e.asks = (lost || p.Unsure) && !e.final && f.link.destination.Commit != Stored && (p.Loss != nil || f.flight.end() < f.restored)
	if !e.asks || p.Loss == nil && len(p.Data) == 0 {
		return 0
	}
	if e.since.IsZero() || e.start != f.flight.start {
		e.start, e.since = f.flight.start, now
	}
	switch still := now.Sub(e.since); {
	case (f.heard || p.Loss == nil) && still >= max(f.stillness(), forkPatience):
		e.final = true // nothing more came of it for long enough
		if errors.Is(f.centreErr, errEnding) || errors.Is(f.centreErr, errGoneFiles) {
			f.centreErr = nil // it isn't waited for any more, though nobody has answered
		}
		return 0
	case p.Loss != nil && f.centreErr == nil:
		f.centreErr = errGoneFiles
	case f.centreErr == nil:
		f.centreErr = errEnding
	}
	f.ask(lookEvery)
	return lookEvery
}

// stillness is how long the centre must have stood still to have taken all that was sent.
func (f *forwarder) stillness() time.Duration {
	return f.placePatience() + f.engine.cfg.Limits.SyncInterval
}

// pass goes on at the centre's place without the bytes before it, where that is how an earlier run went on in what can't be read any more: the place is in
// the same file, as far behind the last offset that the state has as behind its position. As far as there are bytes up to where the place's tail
// begins, its digest must fit, too; and the tail's own bytes, where the file, or a copy, has them.
func (f *forwarder) pass(p *chunk.Place) bool {
	n := len(p.Sources)
	if n == 0 || p.Position > max(f.restored, f.flight.end()) {
		return false
	}
	if from := p.Tail.From; from >= f.flight.start && from <= f.flight.end() && f.flight.gaps == 0 {
		if d, ok := f.digestAt(from); !ok || d != p.Tail.Digest {
			return false
		}
	}
	last := tail.Source{ID: p.Sources[n-1].File, Offset: p.Sources[n-1].Offset}
	err := f.tail.Pass(p.Position, last, func(readAt func([]byte, int64) (int, error)) bool {
		return p.Tail.From == p.Position || proves(p, readAt) // of none nothing can be said
	})
	if err != nil {
		f.log.Debug("the centre's place can't be taken", "error", err)
		return false
	}
	f.forget()
	f.rec.Confirmed, f.rec.Digest, f.rec.Weak = p.Position, p.Digest, false
	f.rec.Round++
	f.flight.reset(p.Position, p.Digest)
	f.stored, f.next = p.Position, p.Position
	f.reserve(p.Position)
	f.fence = f.save(true)
	return true
}
