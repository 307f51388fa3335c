package forward

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"logforward/internal/chunk"
	"logforward/internal/tail"
)

// errChanged: the file is there, but not with the bytes that were sent.
var errChanged = errors.New("changed since it was read")

// sendNew reads what comes next and publishes it, or leaves it in the flight for
// sendAgain, where something must be on disk first.
func (f *forwarder) sendNew(now time.Time, size int) (wait time.Duration, listen, more bool) {
	size = int(min(int64(size), f.granted))
	if !f.rush {
		size = min(size, smallRead)
	}
	buf := f.engine.bufferOf(size)
	defer f.engine.giveBack(buf)
	p, err := f.tail.Peek((*buf)[:size])
	f.sure(&p)
	if err != nil {
		f.returnGrant()
		f.rush = false
		f.followTrouble(err)
		return troubleEvery, true, false
	}
	f.fileErr = nil
	if wait := f.waitsForEnd(&p, now); wait > 0 {
		f.returnGrant()
		f.rush = false
		f.note(now, true)
		return wait, true, false
	}
	if p.Loss != nil {
		f.takeLoss(p.Loss)
		return 0, false, true
	}
	n, wait := f.cut(&p, size, now)
	if n == 0 {
		f.returnGrant()
		f.rush = false
		if len(p.Data) == 0 {
			f.behind = time.Time{}
			f.former = min(f.former, f.flight.end()) // there is no more of it
		}
		return wait, true, false
	}
	f.rush = p.More || n == size
	f.note(now, len(p.Data) > n || p.More)
	c, ok := f.take(&p, n)
	if !ok {
		return 0, false, true
	}
	if p.NewSegment {
		f.reserve(c.end())
		f.fence = f.save(true)
		return 0, false, true
	}
	if c.end() > f.safe {
		return 0, false, true // sendAgain reserves
	}
	f.publish(now, f.flight.at(c.position), p.Data[:n])
	return 0, false, true
}

// note keeps since when there is something unread.
func (f *forwarder) note(now time.Time, left bool) {
	if !left {
		f.behind = time.Time{}
	} else if f.behind.IsZero() {
		f.behind = now
	}
}

// headKept is how much of a file's beginning the state keeps a checksum of.
const headKept = 1 << 10

// take moves n bytes of a piece into the flight.
func (f *forwarder) take(p *tail.Piece, n int) (*sent, bool) {
	if p.Position != f.flight.end() {
		f.broken(fmt.Errorf("the file's positions are at %d, ours at %d", p.Position, f.flight.end()))
		return nil, false
	}
	if err := f.tail.Advance(uint64(n)); err != nil {
		f.broken(err)
		return nil, false
	}
	f.partial = partial{}
	// With so little of a file in the state it couldn't be told from others that begin alike: that needn't wait for a confirmation.
	f.dirty = f.dirty || p.Offset < headKept
	f.stats.read(uint64(n))
	return f.flight.add(sent{
		length: uint64(n), checksum: chunk.Sum(p.Data[:n]), file: p.Generation, offset: p.Offset, last: !p.More, at: time.Now(),
	}), true
}

// cut is how many bytes of a piece make a chunk: up to the last line's end, all of it
// where no more fits or none comes. 0: wait for more, for that long.
func (f *forwarder) cut(p *tail.Piece, size int, now time.Time) (n int, wait time.Duration) {
	data := p.Data
	if i := bytes.LastIndexByte(data, '\n'); i >= 0 {
		return i + 1, 0
	}
	switch {
	case len(data) == 0:
		return 0, time.Hour
	case len(data) == size || p.More:
		return len(data), 0
	}
	end := p.Position + uint64(len(data))
	if f.partial.end == 0 {
		f.partial.first = now
	}
	if f.partial.end != end {
		f.partial.end, f.partial.since = end, now
	}
	patience := f.engine.cfg.Limits.PartialWait
	// A line that grows byte by byte for ever is sent too.
	wait = min(f.partial.since.Add(patience).Sub(now), f.partial.first.Add(8*patience).Sub(now))
	if wait <= 0 {
		return len(data), 0
	}
	return 0, wait
}

// takeLoss moves a loss into the flight, as a gap. After a crash it must reach as far as
// positions may have been used: they may have meant other bytes than what comes next.
func (f *forwarder) takeLoss(l *tail.Loss) {
	if err := f.tail.Advance(l.Length); err != nil {
		f.broken(err)
		return
	}
	gap := &chunk.Gap{Cause: l.Cause, Bytes: max(l.Bytes, -1), Exact: l.Exact, Time: f.engine.cfg.Now().UTC(), Path: l.File}
	if gap.Cause == "" {
		gap.Cause = "lost"
	}
	length := l.Length
	if end := f.flight.end() + length; end < f.restored {
		// It fails where other segments, known to the state, follow: then the loss ends there.
		if err := f.tail.AdvanceTo(f.restored); err == nil {
			length = f.restored - f.flight.end()
			gap.Bytes, gap.Exact = -1, false
		}
	}
	c := f.flight.add(sent{length: length, gap: gap, at: time.Now()})
	f.stats.readGap(length, 1)
	f.log.Error("bytes are lost; a gap takes their place", "cause", gap.Cause, "bytes", gap.Bytes, "exact", gap.Exact,
		"position", c.position, "length", length, "path", gap.Path)
	f.reserve(c.end())
	f.fence = f.save(true)
}

// sendAgain publishes the next chunk of the flight, from the file.
func (f *forwarder) sendAgain(now time.Time, size int) (wait time.Duration, listen, more bool) {
	i := f.flight.at(f.next)
	c := &f.flight.chunks[i]
	if c.end() > f.safe {
		if c.end() > f.rec.Reserved || f.saveSeq == f.savedSeq {
			f.reserve(c.end())
			f.save(true)
		}
		f.returnGrant()
		return time.Hour, false, false
	}
	if c.gap != nil {
		f.publish(now, i, nil)
		return 0, false, true
	}
	buf := f.engine.bufferOf(int(c.length))
	defer f.engine.giveBack(buf)
	data, err := f.readAgain(c, *buf)
	switch {
	case errors.Is(err, tail.ErrGone) || errors.Is(err, errChanged):
		f.lose(i, err)
		return 0, false, true
	case err != nil:
		f.returnGrant()
		f.fileTrouble(err)
		return troubleEvery, true, false
	}
	if len(data) > f.limit() {
		// Another broker, with smaller messages.
		half := f.limit()
		f.flight.split(i, c.position+uint64(half), chunk.Sum(data[:half]), chunk.Sum(data[half:]))
		data = data[:half]
	}
	f.publish(now, i, data)
	return 0, false, true
}

// readAgain reads a chunk's bytes once more and compares them with what was read first.
func (f *forwarder) readAgain(c *sent, buf []byte) ([]byte, error) {
	data := buf[:c.length]
	for n := 0; n < len(data); {
		p, err := f.tail.Reread(c.position+uint64(n), data[n:])
		if err != nil {
			return nil, err
		}
		if p.Loss != nil || len(p.Data) == 0 {
			return nil, tail.ErrGone
		}
		n += len(p.Data)
	}
	if chunk.Sum(data) != c.checksum {
		return nil, errChanged
	}
	return data, nil
}

// lose makes a gap of chunk i and of those behind it that can't be read either.
func (f *forwarder) lose(i int, why error) {
	j := i + 1
	for ; j < len(f.flight.chunks); j++ {
		c := &f.flight.chunks[j]
		if c.gap != nil {
			break
		}
		buf := f.engine.bufferOf(int(c.length))
		_, err := f.readAgain(c, *buf)
		f.engine.giveBack(buf)
		if !errors.Is(err, tail.ErrGone) && !errors.Is(err, errChanged) {
			break
		}
	}
	from, to := f.flight.chunks[i].position, f.flight.chunks[j-1].end()
	cause := "can't be read again"
	if errors.Is(why, errChanged) {
		cause = errChanged.Error()
	}
	loss := f.tail.Lose(from, to, cause)
	gap := &chunk.Gap{Cause: cause, Bytes: int64(to - from), Exact: true, Time: f.engine.cfg.Now().UTC(), Path: loss.File}
	if gap.Path == "" {
		gap.Path = f.want.Path
	}
	bytes := f.flight.lose(i, j, gap)
	f.stats.becameGap(bytes)
	f.log.Error("bytes that were sent and aren't confirmed can't be read again; a gap takes their place",
		"cause", cause, "bytes", to-from, "position", from, "path", gap.Path, "error", why)
	f.fence = f.save(true)
}

// publish sends chunk i with its data.
func (f *forwarder) publish(now time.Time, i int, data []byte) {
	c := &f.flight.chunks[i]
	n := min(max(int64(len(data)), 1), f.granted)
	if rest := f.granted - n; rest > 0 {
		f.link.window.give(rest)
	}
	f.granted = 0
	again := c.tried
	c.tried, c.acked = true, false
	quiet := f.quiet(now) && !again && c.gap == nil
	if !quiet {
		f.askedAt, f.asking = now, f.asking+1
	}
	end, life, w, mail := c.end(), f.life, f.link.window, &f.mail
	f.next = end
	f.waiting++
	out := chunk.Chunk{
		Epoch: f.rec.Epoch, Predecessor: f.rec.Predecessor, Position: c.position, Length: c.length,
		Checksum: c.checksum, Digest: c.before, Round: f.rec.Round, File: c.file, Offset: c.offset, Gap: c.gap, Data: data,
	}
	if f.signer != nil {
		out.Seal = f.seal(i, data)
	}
	f.transport.publish(f.rec.Layout, f.want.Name, &out, quiet, func(err error) {
		w.give(n)
		mail.put(&ack{life: life, end: end, quiet: quiet, err: err}, nil)
	})
	f.lastSent = now
	f.meter.add(now, len(data))
	f.stats.published(uint64(len(data)), again)
	f.charge(now, len(data))
	if end+f.engine.cfg.Limits.ReserveStep/2 > f.rec.Reserved {
		// Ahead of need, so that a busy log doesn't wait for the disk.
		f.reserve(end + f.engine.cfg.Limits.ReserveStep/2)
		f.save(true)
	}
}

// steadyAfter is how many chunks must have followed one another closely before a log counts as one that will go on.
const steadyAfter = 16

// quiet tells whether a new chunk goes out without asking the broker for an answer: where a busy log lingers and the last answer is young. The next chunk that
// asks tells of those before it. Where none comes, because the log falls silent, the receiver's confirmation tells, or they time out and are sent again. One
// that the broker didn't take is a hole for the receiver, like one that it lost.
func (f *forwarder) quiet(now time.Time) bool {
	every := f.engine.cfg.Limits.AckEvery
	if f.rush || now.Sub(f.lastSent) > every {
		f.steady = 0
	} else {
		f.steady++
	}
	return f.steady > steadyAfter && f.asking == 0 && now.Sub(f.askedAt) < every && f.sendErr == nil && f.link.destination.Commit != Stored
}

// reserve raises what positions may be used once it is saved: by whole steps beyond end.
func (f *forwarder) reserve(end uint64) {
	if end+f.engine.cfg.Limits.ReserveStep/2 > f.rec.Reserved {
		f.rec.Reserved = min(end+f.engine.cfg.Limits.ReserveStep, chunk.MaxPosition)
	}
}

// followTrouble is [forwarder.fileTrouble], but where one file of a glob is gone: it was removed, which is no fault. What it had and isn't confirmed is
// still held open.
func (f *forwarder) followTrouble(err error) {
	if f.want.OfGlob && errors.Is(err, tail.ErrNoFile) {
		f.fileErr = nil
		return
	}
	f.fileTrouble(err)
}

func (f *forwarder) fileTrouble(err error) {
	if f.fileErr == nil || f.fileErr.Error() != err.Error() {
		f.log.Warn("the file can't be read; trying again", "error", err)
	}
	f.fileErr = err
}

// broken begins anew from the checkpoint: tail and we disagree, and going on could
// give a position two meanings.
func (f *forwarder) broken(err error) {
	f.log.Error("begin again from the checkpoint", "error", err)
	f.fileErr = err
	f.returnGrant()
	if cerr := f.tail.Close(); cerr != nil {
		f.log.Warn("close", "error", cerr)
	}
	f.tail = nil
	f.forget()
	f.reopenAt = time.Now().Add(f.reopen.next())
}
