package forward

import (
	"errors"
	"fmt"
	"time"

	"logforward/internal/chunk"
	"logforward/internal/tail"
)

// fork is a new epoch that is due: what is sent doesn't continue what the centre has.
type fork struct {
	due      bool
	why      string
	round    uint64       // since then: an answer to an earlier hello doesn't tell what was taken before the fork
	answered bool         // the centre has said where it stands since
	place    *chunk.Place // where it stands by its last answer, with other bytes before it than this node's at these positions; nil: not there
	deadline time.Time    // not waited for longer
	after    time.Time    // the next one may begin: two clones could else outbid one another for ever
	last     time.Time
	wait     backoff
}

// forkPatience is how long a new epoch waits for the centre's word of how far it got: a receiver was
// there a moment ago, and one that takes over may first have to begin. What the stream
// still holds would come twice.
const forkPatience = 30 * time.Second

// forked wants a new epoch, because of what the centre has; known is its epoch, 0: unknown.
// First the centre is asked how far it got: what it has needs no second sending.
func (f *forwarder) forked(known uint64, why string) {
	f.rec.Known = max(f.rec.Known, known)
	if f.fork.due || !f.begun {
		return
	}
	now := time.Now()
	if now.Sub(f.fork.last) > 10*f.fork.wait.most {
		f.fork.wait.reset()
	}
	f.fork.due, f.fork.why = true, why
	f.rec.Round++
	f.fork.round, f.fork.answered, f.dirty = f.rec.Round, false, true
	f.fork.deadline = now.Add(forkPatience)
	f.place = nil
	f.returnGrant()
	f.log.Error("this log forked: another node uses this identity, or this node's or the centre's state was restored; a new epoch begins",
		"epoch", f.rec.Epoch, "confirmed", f.flight.start, "reason", why)
	f.stats.fork()
	f.ask(0)
}

// epochAhead is how far beyond its own clock a node believes an unasked message about an epoch: a hundred years, in µs.
const epochAhead = 100 * 366 * 24 * 3600 * 1e6

// onFork obeys a receiver that demands a new epoch.
func (f *forwarder) onFork(x chunk.Fork) {
	if !f.begun || f.tail == nil || x.Epoch != f.rec.Epoch || x.Known > chunk.MaxPosition {
		return
	}
	if x.Known > max(f.rec.Epoch, uint64(max(f.engine.cfg.Now().UnixMicro(), 0)))+epochAhead {
		x.Known = 0 // behind that there would soon be no epoch left; the answer to the hello tells what the centre knows
	}
	f.forked(x.Known, "a receiver has other bytes at positions of this epoch")
}

// forking is how long publishing waits for a new epoch that is due; it begins it in time.
func (f *forwarder) forking(now time.Time) time.Duration {
	if !f.fork.due {
		return 0
	}
	if wait := f.fork.after.Sub(now); wait > 0 {
		return wait
	}
	if wait := f.fork.deadline.Sub(now); wait > 0 && !f.fork.answered {
		return wait
	}
	if err := f.newEpoch(); err != nil {
		f.broken(err)
		return time.Second
	}
	f.fork.due, f.fork.last = false, now
	f.fork.after = now.Add(f.fork.wait.next())
	f.synced = true
	return 0
}

// epochAfter is greater than known, whatever the clock says.
func (f *forwarder) epochAfter(known uint64) uint64 {
	return min(max(uint64(max(f.engine.cfg.Now().UnixMicro(), 1)), known+1), chunk.MaxPosition)
}

// newEpoch numbers anew what isn't confirmed, or what comes behind the centre's place.
func (f *forwarder) newEpoch() error {
	at := f.flight.start
	if err := f.tail.Seek(at); err != nil {
		return err
	}
	fresh, err := f.reordered()
	if err != nil {
		return err
	}
	if fresh != nil {
		if err := f.tail.Close(); err != nil {
			f.log.Warn("close", "error", err)
		}
		f.tail, at = fresh, f.fork.place.Position
		f.log.Warn("the centre has the same bytes in another order; the new epoch begins behind them", "position", at)
	}
	if err := f.tail.Rebase(at); err != nil {
		return err
	}
	f.fork.place = nil
	f.forget()
	pred := max(f.rec.Epoch, f.rec.Known)
	f.rec.Epoch, f.rec.Predecessor = f.epochAfter(pred), pred
	f.rec.Known = f.rec.Epoch
	f.number()
	f.log.Info("new epoch", "epoch", f.rec.Epoch, "predecessor", pred, "former position", at)
	return nil
}

// begin starts the first epoch, greater than known, from where tail stands.
func (f *forwarder) begin(known, predecessor uint64) {
	f.rec.Epoch, f.rec.Predecessor = f.epochAfter(known), predecessor
	f.begun = true
	f.number()
}

// number starts the numbering of the record's epoch at 0. Nothing of it is published before
// that is on disk.
func (f *forwarder) number() {
	f.rec.Confirmed, f.rec.Digest, f.rec.Reserved, f.rec.Weak = 0, 0, 0, false
	f.rec.Round++
	f.flight.reset(0, 0)
	f.stored, f.next, f.restored, f.former, f.safe = 0, 0, 0, 0, 0
	f.reserve(0)
	f.fence = f.save(true)
	f.life++
	f.waiting, f.asking = 0, 0
}

// forget takes back what was handed out and isn't confirmed: it will be read again.
func (f *forwarder) forget() {
	bytes, gap := f.flight.unconfirmed()
	f.stats.unread(bytes, gap, f.flight.counted())
	f.life++
	f.waiting, f.asking = 0, 0
	f.place, f.partial, f.rush = nil, partial{}, false
	f.flight.reset(f.flight.start, f.flight.digest)
}

// resume continues a log whose state was lost where the centre stands, if the bytes before
// that are found. If they aren't, the live file is sent from its beginning in a new epoch, behind a
// gap that says so.
func (f *forwarder) resume(p *chunk.Place) error {
	if err := f.tail.Close(); err != nil {
		f.log.Warn("close", "error", err)
	}
	f.tail = nil
	fresh, err := f.find(p)
	if err == nil {
		f.adopt(fresh, p)
		f.log.Warn("the state of this log was lost; it goes on where the centre stands", "epoch", p.Epoch, "position", p.Position)
		return nil
	}
	if !errors.Is(err, tail.ErrGone) && !errors.Is(err, errUnproved) {
		f.reopenAt = time.Now().Add(troubleEvery)
		f.fileErr = err
		return nil
	}
	fresh = tail.New(f.tailConfig())
	loss := &tail.Loss{Cause: "node state lost; " + errUnproved.Error(), Length: 1, Bytes: -1, File: f.want.Path}
	if err := fresh.Begin(0, loss); err != nil {
		_ = fresh.Close()
		return err
	}
	f.tail = fresh
	f.log.Error("the state of this log was lost and "+errUnproved.Error()+"; the file is sent from its beginning in a new epoch",
		"epoch", p.Epoch, "position", p.Position, "error", err)
	f.begin(p.Epoch, p.Epoch)
	return nil
}

// find opens the log at a place, by the bytes before it alone. An error wraps [tail.ErrGone] or errUnproved where they aren't there; any other is
// temporary.
func (f *forwarder) find(p *chunk.Place) (*tail.Log, error) {
	err := errUnproved
	fresh := tail.New(f.tailConfig())
	if n := len(p.Sources); n > 0 && p.Tail.From < p.Position {
		others := make([]tail.Source, 0, n-1)
		for _, s := range p.Sources[:n-1] {
			others = append(others, tail.Source{ID: s.File, Offset: s.Offset})
		}
		last := tail.Source{ID: p.Sources[n-1].File, Offset: p.Sources[n-1].Offset}
		err = fresh.Resume(p.Position, last, others, func(readAt func([]byte, int64) (int, error)) bool {
			return proves(p, readAt)
		})
	}
	if err != nil {
		_ = fresh.Close()
		return nil, fmt.Errorf("find the bytes at the centre's position %d: %w", p.Position, err)
	}
	return fresh, nil
}

// adopt goes on at a place that was found.
func (f *forwarder) adopt(fresh *tail.Log, p *chunk.Place) {
	f.tail = fresh
	f.begun = true
	f.rec.Epoch, f.rec.Predecessor = p.Epoch, p.Predecessor
	f.rec.Confirmed, f.rec.Digest, f.rec.Reserved, f.rec.Weak = p.Position, p.Digest, p.Position, false
	f.rec.Round++
	f.flight.reset(p.Position, p.Digest)
	f.stored, f.next, f.restored, f.former, f.safe = p.Position, p.Position, 0, 0, 0
	f.reserve(p.Position)
	f.fence = f.save(true)
}

// proves compares the file's bytes before a place with the place's digest.
func proves(p *chunk.Place, readAt func([]byte, int64) (int, error)) bool {
	n := p.Position - p.Tail.From
	end := p.Sources[len(p.Sources)-1].Offset
	if n == 0 || n > chunk.MaxLength*4 || uint64(end) < n {
		return false
	}
	d := p.Tail.Digest
	buf := make([]byte, min(n, 256<<10))
	for off := end - int64(n); off < end; {
		part := buf[:min(int64(len(buf)), end-off)]
		// With fewer bytes than asked for, readAt has an error.
		if k, err := readAt(part, off); k < len(part) && err != nil || k == 0 {
			return false
		} else {
			part = part[:k]
		}
		d = d.Update(part)
		off += int64(len(part))
	}
	return d == p.Digest
}
