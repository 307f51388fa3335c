package forward

import (
	"errors"
	"fmt"
	"time"

	"logforward/internal/chunk"
	"logforward/internal/tail"
)

// place is what the centre has of this epoch, while the file is still read up to there.
type place struct {
	chunk.Place
	until time.Time // by then the bytes must have been found
	since time.Time // when it was first heard
	final bool      // it can't be gone on with there without this node's state
}

// linkUp is posted at each (re)connect: nothing is published before the centre was asked.
func (f *forwarder) linkUp() {
	t, maxPayload, _ := f.link.conduit()
	if t == nil {
		f.up = false
		return
	}
	f.transport, f.maxPayload, f.up = t, maxPayload, true
	f.synced = false
	f.patience = time.Now().Add(syncPatience)
	if f.next > f.stored {
		f.goBack(f.stored)
	}
	f.notBefore = time.Time{}
	f.ask(0)
}

// ask wants a hello, which says where this log stands now.
func (f *forwarder) ask(after time.Duration) {
	if f.tail == nil {
		return // open asks
	}
	f.show()
	f.link.ask(f.token, after)
}

func (f *forwarder) linkDown() { f.up, f.synced = false, false }

// syncing is how long publishing still waits for the centre's word.
func (f *forwarder) syncing(now time.Time) time.Duration {
	if f.place != nil {
		return f.compare(now)
	}
	if f.synced {
		return 0
	}
	if !f.begun && f.link.destination.Commit != Stored {
		return time.Hour // without state only an answer lets it begin
	}
	if wait := f.patience.Sub(now); wait > 0 {
		return wait
	}
	// No receiver is about. What is in the file is sent all the same: the digest tells
	// the receiver whether it continues what it has.
	f.synced = true
	f.alone()
	return 0
}

// alone makes up for an answer that didn't come, where the broker's acknowledgement is enough.
func (f *forwarder) alone() {
	if f.link.destination.Commit != Stored {
		return
	}
	if f.rec.Layout == nil {
		f.takeLayout(&chunk.Layout{Prefix: f.link.destination.Prefix, Partitions: 1})
	}
	if !f.begun {
		f.begin(0, 0)
	}
}

// onNoAnswer ends the patience: the hello wasn't answered in time, or nobody listens.
func (f *forwarder) onNoAnswer() {
	if f.begun || f.link.destination.Commit == Stored {
		f.patience = time.Time{}
	}
}

// onAnswer takes what the centre says to a hello; was is what this log said in it.
func (f *forwarder) onAnswer(was chunk.HelloLog, layout *chunk.Layout, a chunk.AnswerLog) {
	if f.tail == nil {
		return // it asks when it has begun
	}
	if was.Epoch != f.helloEpoch() {
		f.ask(0) // the answer is about an epoch that is over
		return
	}
	if layout != nil {
		f.offer(layout)
	}
	if a.Error != "" {
		f.centreErr = fmt.Errorf("the centre can't say yet where this log stands: %s", a.Error)
		if f.fork.due {
			f.fork.deadline = time.Now().Add(forkPatience) // it is about to say
			return
		}
		f.onNoAnswer()
		return
	}
	f.centreErr, f.heard = nil, true
	if !f.begun {
		f.welcome(&a)
		return
	}
	f.ending.hear(f, &was, &a)
	if a.Known {
		f.rec.Known = max(f.rec.Known, a.Epoch)
	}
	f.fork.answered, f.fork.place = was.Round >= f.fork.round, nil
	switch {
	case a.Known && a.Epoch > f.rec.Epoch:
		f.forked(a.Epoch, fmt.Sprintf("the centre knows epoch %d, this node is in %d", a.Epoch, f.rec.Epoch))
		f.synced = true
		return
	case a.Known && a.Epoch == f.rec.Epoch && a.Position > f.flight.start:
		now := time.Now()
		next := &place{Place: a.Place, until: now.Add(f.placePatience()), since: now}
		if f.place != nil { // the search is under way
			next.until, next.final = f.place.until, f.place.final
			if f.place.Position >= a.Position {
				next.since = f.place.since
			}
		}
		f.place = next
		f.compare(time.Now())
		if f.tail == nil {
			return
		}
	case a.Known && a.Epoch == f.rec.Epoch && a.Position == f.flight.start && a.Digest != f.flight.digest:
		f.forked(0, fmt.Sprintf("the centre's digest at position %d is %s, this node's is %s", a.Position, a.Digest, f.flight.digest))
		return
	case a.Known && a.Epoch == f.rec.Epoch && a.Position == f.flight.start:
		f.central(a.Position, a.Digest)
		if f.ending.final && f.pass(&a.Place) {
			f.log.Info("the centre has all that an earlier run sent of a file that is gone", "position", a.Position)
		}
	}
	f.synced = true
	if r := a.Resend; r != nil {
		f.onResend(*r)
	}
	if a.Fork && was.Epoch == f.rec.Epoch { // else the comparison has begun a new one
		f.forked(a.Epoch, "the centre has other bytes at positions of this epoch")
	}
}

// placePatience covers the rest of an old generation, which is waited for before
// the next one is read.
func (f *forwarder) placePatience() time.Duration {
	quiet := f.engine.cfg.Limits.Quiet
	if quiet <= 0 {
		quiet = 500 * time.Millisecond
	}
	return 2*quiet + f.engine.cfg.Limits.Poll + time.Second
}

// compare reads the file up to the centre's place and compares digests: equal, and all of that is
// confirmed. Other bytes, or none, are another life of this log: a new epoch.
func (f *forwarder) compare(now time.Time) time.Duration {
	p := f.place
	if p.Position > f.flight.end() && p.Position > f.rec.Reserved {
		f.place = nil
		f.forked(0, fmt.Sprintf("the centre has bytes up to position %d, this node never went beyond %d", p.Position, f.rec.Reserved))
		return f.forking(now)
	}
	missing, err := f.reach(p.Position)
	if f.tail == nil {
		return time.Hour
	}
	if errors.Is(err, errNotFound) {
		return f.skip(now)
	}
	if missing && (err != nil || now.Before(p.until)) {
		if err != nil {
			// The file can't be read for now, which says nothing about its bytes.
			f.fileTrouble(err)
			p.until = now.Add(f.placePatience())
		}
		return lookEvery / 4
	}
	f.place = nil
	if missing {
		f.forked(0, fmt.Sprintf("the centre has bytes up to position %d, the file here ends at %d", p.Position, f.flight.end()))
		return f.forking(now)
	}
	f.fileErr = nil
	d, ok := f.digestAt(p.Position)
	switch {
	case ok && d == p.Digest, f.flight.wasBorder(p.Position, p.Digest):
		f.central(p.Position, p.Digest)
	case ok && p.Position == f.flight.end() && f.flight.gaps == p.Position-f.flight.start:
		// Nothing of it is left here, and the digest behind a gap says nothing of what was before: the centre has what this node sent.
		f.log.Warn("files of an earlier run are gone, and the centre has all that was sent of them: no gap is needed", "from", f.flight.start, "position", p.Position)
		f.central(p.Position, p.Digest)
	case ok:
		f.forked(0, fmt.Sprintf("the centre's digest at position %d is %s, this node's is %s", p.Position, p.Digest, d))
		if f.fork.due {
			f.fork.place = &p.Place
		}
		return f.forking(now)
	}
	// Else the place lies within what is lost here: the gap goes out, and the receiver
	// takes of it what it hasn't got.
	f.synced = true
	return 0
}

// errNotFound: a file of an earlier run isn't there, before the centre's place.
var errNotFound = errors.New(tail.NotFound)

// skip goes on at the centre's place, as a log without state does, where files of an earlier run are gone: the centre had their bytes before this
// node's state said so, and no gap belongs there. If the bytes before the place aren't found either, the gap takes its course, but not before the
// centre has stood still for long enough to have taken what was sent.
func (f *forwarder) skip(now time.Time) time.Duration {
	p := f.place
	passed := f.tail.Copied() && f.pass(&p.Place)
	var err error
	if !passed {
		var fresh *tail.Log
		if fresh, err = f.find(&p.Place); err == nil {
			if err := f.tail.Close(); err != nil {
				f.log.Warn("close", "error", err)
			}
			f.forget()
			f.adopt(fresh, &p.Place)
			passed = true
		}
	}
	switch {
	case passed, f.pass(&p.Place):
		f.log.Warn("files of an earlier run are gone, and the centre has what was in them; the log goes on where it stands", "epoch", p.Epoch, "position", p.Position)
		f.fileErr, f.synced = nil, true
		return 0
	case !errors.Is(err, tail.ErrGone) && !errors.Is(err, errUnproved):
		f.fileTrouble(err)
		p.since = now
	case f.ending.final, now.Sub(p.since) >= f.stillness():
		p.final = true
		return f.compare(now)
	default:
		f.centreErr = errGoneFiles
		f.ask(lookEvery)
	}
	return lookEvery
}

// errGoneFiles is why a log waits before it says that files of an earlier run are lost.
var errGoneFiles = errors.New("files of an earlier run are gone: whether the centre has what was in them is waited for")

// reach reads on until position is in the flight, without publishing: an earlier run has
// done that. missing: the bytes aren't there, or not now.
func (f *forwarder) reach(position uint64) (missing bool, err error) {
	if f.flight.end() >= position {
		return false, nil
	}
	buf := f.engine.bufferOf(f.engine.cfg.Limits.ChunkSize)
	defer f.engine.giveBack(buf)
	for f.flight.end() < position {
		size := min(uint64(f.limit()), position-f.flight.end())
		p, err := f.tail.Peek((*buf)[:size])
		if (p.Unsure || p.Loss != nil && p.Loss.Cause == tail.NotFound) && f.place != nil && !f.place.final {
			return true, errNotFound
		}
		if err != nil {
			return true, err
		}
		if p.Loss != nil {
			f.takeLoss(p.Loss)
			if f.tail == nil {
				return true, nil
			}
			continue
		}
		if len(p.Data) == 0 {
			return true, nil
		}
		c, ok := f.take(&p, len(p.Data))
		if !ok {
			return true, nil
		}
		c.tried = true
		if f.signer != nil {
			f.flight.pass(len(f.flight.chunks)-1, p.Data)
		}
		if p.NewSegment {
			f.fence = f.save(true)
		}
	}
	return false, nil
}

// welcome begins a log without state by what the centre knows of it.
func (f *forwarder) welcome(a *chunk.AnswerLog) {
	if f.rec.Layout == nil {
		return // a centre without layout has no place to send to; it will say more later
	}
	f.synced = true
	if !a.Known {
		f.begin(0, 0)
		return
	}
	f.rec.Known = max(f.rec.Known, a.Epoch)
	if f.rec.Moved {
		// The file's place is known from another destination; only the numbering is new here.
		f.begin(a.Epoch, a.Epoch)
		return
	}
	if err := f.resume(&a.Place); err != nil && f.tail != nil {
		f.broken(err)
	}
}

var errUnproved = errors.New("the bytes at the centre's position were not found")
