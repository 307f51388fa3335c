package receive

import (
	"errors"
	"fmt"
	"time"

	"logforward/internal/chunk"
)

// log is one log as the partition's loop knows it. Nothing else touches it.
type log struct {
	key, identity, name string

	cur    cursor        // everything appended
	file   *file         // nil: begun at the next byte
	from   uint64        // first position of cur's epoch in file
	offset int64         // of from in file
	behind uint64        // position behind the last gap since from; 0: there is none
	before *chunk.Digest // running digest before from; nil: not known
	ledger *file         // nil: begun with the file

	local local       // as it is in the state
	heard chunk.Place // what another receiver learnt, where that is further
	seal  *sealed     // the last one; nil: the log has none
	rec   record
	rev   uint64

	dirty   bool  // differs from what was committed last
	commit  *item // in the commit that is under way; nil: it isn't in one
	naming  bool  // its files' names are being written to the state, beside commits
	refresh bool  // only the record's Learnt lags behind
	changed time.Time

	// hold: the log waits for a name, a commit and rotation, or room on the disk. What arrives
	// meanwhile queues.
	hold   holding
	queue  []*delivery
	notes  []Entry      // ledger lines that wait for the ledger to be open
	lines  []chan error // of housekeeping, to be told when they are committed
	rotate bool         // the next commit closes the file

	askedRound uint64 // of the last resend that was asked for
	asked      time.Time
	told       time.Time // of a fork

	bytes, duplicates, holes, gaps uint64
}

type holding int

const (
	free_    holding = iota
	forName          // until the state knows the files' names
	forClose         // until all is committed, and the file has its final name
	forRoom          // until the disk takes writes again
)

// learnt is the place that is committed and known to be: all that a node is ever told. It isn't behind a confirmation, which is
// sent while the loop doesn't know yet how the commit ended.
func (l *log) learnt() *chunk.Place {
	place := &l.local.Committed.Place
	if l.commit != nil {
		if p := l.commit.learnt.Load(); p != nil {
			place = p
		}
	}
	if further(&l.heard, place) {
		place = &l.heard
	}
	return place
}

// mark is where the log stands now, on disk after the next sync.
func (l *log) mark() mark {
	m := mark{Place: l.cur.Place, Forked: l.cur.forked, Seal: l.seal}
	if l.file != nil {
		m.File, m.Size, m.From, m.Offset, m.Behind, m.Before, m.Opened = l.file.name, l.file.size, l.from, l.offset, l.behind, l.before, l.file.opened
		if l.from == unplaced {
			m.From, m.Offset, m.Behind, m.Before = m.Place.Position, m.Size, 0, nil
		}
	}
	if l.ledger != nil {
		m.Ledger = l.ledger.size
	}
	return m
}

// end is the ledger's line for a range that ends at a mark.
func (m *mark) end(now time.Time) Entry {
	digest := m.Place.Digest
	return Entry{Time: now, Event: EventEnd, Epoch: m.Place.Epoch, To: m.Place.Position, File: m.File, Offset: m.Size, Digest: &digest}
}

// delivery is one message on its way through the loop.
type delivery struct {
	subject chunk.Subject
	chunk   *chunk.Chunk // nil: err says why, and raw is the message
	err     error
	raw     *rawMessage
	reply   string // where the acknowledgement goes
	bytes   int    // of the payload, uncompressed
	from    int    // number of its stream
}

// weight is what a message takes of a channel's room.
func (d *delivery) weight() int64 { return min(int64(d.bytes), inRoom) }

// accept does with a chunk what judge says. An error leaves log and chunk as they were:
// the same call can be repeated.
func (p *partition) accept(l *log, d *delivery) error {
	ch := d.chunk
	v, skip := l.cur.judge(ch)
	if v == take {
		if err := p.take(l, ch, skip); err != nil {
			return err
		}
		return nil
	}
	p.refuse(l, ch, v)
	if v == duplicate && ch.Seal != nil && ch.Gap == nil && ch.End() == l.cur.Position && l.takeSeal(ch, p.r.now()) {
		p.touch(l) // its bytes have stood here all the time
		return p.flushNotes(l)
	}
	return nil
}

// take appends a chunk's new bytes, or notes its gap. Where the log has no open file or its file
// must be closed first, the log is put on hold and nothing is taken.
func (p *partition) take(l *log, ch *chunk.Chunk, skip uint64) error {
	now := p.r.now()
	if l.file == nil || l.ledger == nil {
		p.wantFiles(l)
		return nil
	}
	if p.mustRotate(l, now) {
		p.holdForClose(l)
		return nil
	}
	newEpoch := ch.Epoch != l.cur.Epoch
	var data []byte
	if ch.Gap == nil {
		data = ch.Data[skip:]
		if err := p.open.append(l.file, data); err != nil {
			return err
		}
	}
	// From here on nothing fails: the ledger's lines are kept until its file takes them.
	start := l.file.size - int64(len(data))
	ended, before := l.cur.Digest, l.cur.Digest
	if newEpoch {
		before = 0
		switch end := (Entry{Time: now, Event: EventEnd, Epoch: l.cur.Epoch, To: l.cur.Position, Digest: &ended}); {
		case l.from != unplaced:
			end.File, end.Offset = l.file.name, start
			l.note(end)
		case l.cur.Position > 0: // in another's file, and nobody else may say so
			l.note(end)
		}
		l.note(Entry{Time: now, Event: EventEpoch, Epoch: ch.Epoch, Predecessor: ch.Predecessor})
	}
	if newEpoch || l.from == unplaced {
		l.from, l.offset, l.behind, l.before = l.cur.Position, start, 0, &before
		if newEpoch {
			l.from = 0
		}
		l.note(Entry{Time: now, Event: EventRange, Epoch: ch.Epoch, From: l.from, File: l.file.name, Offset: start, Digest: &before})
	}
	switch g := ch.Gap; {
	case g != nil && skip >= ch.Length:
		l.note(Entry{Time: now, Event: EventAnew, Epoch: ch.Epoch, From: ch.End(), File: l.file.name, Offset: start, Cause: g.Cause, Digest: &before})
	case g != nil:
		from := ch.Position + skip
		lost, exact := gapBehind(g, ch.Length, skip)
		l.note(Entry{Time: now, Event: EventGap, Epoch: ch.Epoch, From: from, To: ch.End(), File: l.file.name, Offset: start,
			Cause: g.Cause, Bytes: &lost, Exact: exact, Found: &g.Time, Path: g.Path, Digest: &before})
		l.behind = ch.End()
		l.gaps++
		p.r.metrics.gaps.Inc()
		p.r.metrics.gapPositions.Add(float64(ch.Length - skip))
		p.r.logger.Warn("bytes are lost", "identity", l.identity, "log", l.name, "from", from, "to", ch.End(), "cause", g.Cause, "bytes", lost)
	}
	l.cur.advance(ch, skip)
	if ch.Seal != nil {
		l.takeSeal(ch, now)
	}
	l.bytes += uint64(len(data))
	p.r.metrics.bytes.Add(float64(len(data)))
	p.touch(l)
	p.pending += int64(len(data))
	return p.flushNotes(l)
}

// gapBehind is how much of a gap is lost behind its first skip positions, whose bytes are here: as many
// less where each position stands for a byte, else nobody knows exactly.
func gapBehind(g *chunk.Gap, length, skip uint64) (lost int64, exact bool) {
	switch {
	case skip == 0:
		return g.Bytes, g.Exact
	case g.Bytes >= 0 && uint64(g.Bytes) == length:
		return g.Bytes - int64(skip), g.Exact
	}
	return -1, false
}

// unplaced: no range of the current epoch has begun in the open file.
const unplaced = ^uint64(0)

// note queues a line for the ledger.
func (l *log) note(e Entry) { l.notes = append(l.notes, e) }

// flushNotes appends the queued lines. What doesn't fit on a full disk stays queued, and
// keeps the log from being committed.
func (p *partition) flushNotes(l *log) error {
	for len(l.notes) > 0 {
		if l.ledger == nil {
			p.wantFiles(l)
			return nil
		}
		line, err := l.notes[0].line()
		if err != nil {
			return err
		}
		if err := p.open.append(l.ledger, line); errors.Is(err, errStopped) || errors.Is(err, errDamagedFile) {
			return err
		} else if err != nil {
			if l.hold == free_ {
				p.stall(l, err)
			}
			return nil
		}
		l.notes = l.notes[1:]
		p.touch(l)
		p.open.rest(l.ledger)
	}
	l.notes = nil
	return nil
}

// refuse counts a chunk that isn't taken and tells its node what to do.
func (p *partition) refuse(l *log, ch *chunk.Chunk, v verdict) {
	switch v {
	case duplicate:
		l.duplicates++
		p.r.metrics.duplicates.Inc()
	case hole:
		l.holes++
		p.r.metrics.holes.Inc()
		p.askResend(l, ch)
	case fork, stale:
		p.r.metrics.forks.Inc()
		p.tellFork(l, ch, v)
	}
}

// repeatAfter is how long a control message is given before it is repeated.
const repeatAfter = time.Second

// askResend asks once in a round: the chunks behind a hole are many, the hole is one.
func (p *partition) askResend(l *log, ch *chunk.Chunk) {
	now := p.r.now()
	if l.askedRound == ch.Round && now.Sub(l.asked) < repeatAfter {
		return
	}
	l.askedRound, l.asked = ch.Round, now
	ask := chunk.Resend{Log: chunk.Token(l.name), Epoch: ch.Epoch, From: l.cur.Position, Round: ch.Round}
	if ch.Epoch != l.cur.Epoch {
		ask.From = 0
	}
	p.r.logger.Info("chunk without its predecessor", "identity", l.identity, "log", l.name,
		"epoch", ch.Epoch, "position", ch.Position, "want", ask.From, "round", ch.Round)
	p.reread(l.key, &ask)
}

func (p *partition) tellFork(l *log, ch *chunk.Chunk, v verdict) {
	now := p.r.now()
	if v == fork && ch.Epoch == l.cur.Epoch && !l.cur.forked {
		l.cur.forked = true
		l.note(Entry{Time: now, Event: EventFork, Epoch: ch.Epoch, From: ch.Position, To: ch.End(),
			Cause: fmt.Sprintf("digest %s doesn't continue what stands before position %d", ch.Digest, l.cur.Position)})
		p.r.logger.Error("fork: other bytes have these positions; nothing was overwritten, and the node must begin a new epoch. Two nodes with one identity, or a restored one?",
			"identity", l.identity, "log", l.name, "epoch", ch.Epoch, "position", ch.Position)
		p.touch(l) // a term that begins anew must know, or a late chunk that fits would be taken
		if err := p.flushNotes(l); err != nil {
			p.r.logger.Error("ledger", "identity", l.identity, "log", l.name, "error", err)
		}
	}
	if now.Sub(l.told) < repeatAfter {
		return
	}
	l.told = now
	p.r.tell(l.identity, &chunk.Control{Fork: []chunk.Fork{{Log: chunk.Token(l.name), Epoch: ch.Epoch, Known: l.cur.Epoch}}})
}

// answer says what the centre has learnt of a log, for a node's hello.
// gone says that the broker holds none of its chunks that nobody has committed.
func (p *partition) answer(l *log, h chunk.HelloLog, gone bool) chunk.AnswerLog {
	var place chunk.Place
	forked := false
	if l != nil {
		place, forked = *l.learnt(), l.cur.forked
	}
	if forked && h.Epoch == l.cur.Epoch && !same(&l.cur.Place, &place) {
		// The node numbers anew what isn't confirmed. What was taken before the fork would come twice.
		return chunk.AnswerLog{Error: "a fork: what was taken before it is still to be committed"}
	}
	a := chunk.AnswerLog{Known: place.Epoch != 0, Place: place}
	// Never below what the node was told to forget: it couldn't obey.
	from := h.Confirmed
	if h.Epoch == place.Epoch {
		from = max(from, place.Position)
	}
	switch {
	case h.Epoch == 0 || h.Epoch < place.Epoch:
	case h.Epoch == place.Epoch && (forked || h.Confirmed == place.Position && h.Digest != place.Digest):
		a.Fork = true
	case gone && h.Stored > from:
		// The broker stored it, nobody committed it, and it isn't there any more. The stream was
		// asked before the record, so it can't have been committed in between.
		a.Resend = &chunk.Resend{Epoch: h.Epoch, From: from, Round: h.Round}
	}
	return a
}

// witness takes a node's word that it was told to forget more than is known here: the bucket and
// this receiver's state lost it. A liar only skips bytes of its own log.
func (p *partition) witness(l *log, h chunk.HelloLog) {
	told := chunk.Place{Epoch: h.Epoch, Predecessor: h.Predecessor, Position: h.Confirmed, Digest: h.Digest,
		Tail: chunk.Tail{From: h.Confirmed, Digest: h.Digest}}
	if h.Epoch == 0 || h.Confirmed == 0 || l.hold != free_ && l.hold != forName || !further(&told, &l.cur.Place) {
		return
	}
	p.r.logger.Warn("node was told that more is central than is known here; taking its word", "identity", l.identity, "log", l.name,
		"epoch", h.Epoch, "confirmed", h.Confirmed, "known epoch", l.cur.Epoch, "known", l.cur.Position)
	from := l.cur.Position
	if h.Epoch != l.cur.Epoch {
		from = 0
	}
	l.note(Entry{Time: p.r.now(), Event: EventRepair, Epoch: h.Epoch, Predecessor: h.Predecessor, From: from, To: h.Confirmed,
		Cause: "the node was told that these are central; record and local state had lost it"})
	if digest := l.cur.Digest; l.from != unplaced {
		l.note(Entry{Time: p.r.now(), Event: EventEnd, Epoch: l.cur.Epoch, To: l.cur.Position, File: l.file.name, Offset: l.file.size, Digest: &digest})
	}
	l.cur = newCursor(told)
	l.from = unplaced
	p.touch(l)
	if err := p.flushNotes(l); err != nil {
		p.r.logger.Error("ledger", "identity", l.identity, "log", l.name, "error", err)
	}
}
