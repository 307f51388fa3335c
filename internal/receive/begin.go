package receive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"logforward/internal/chunk"
)

// begin brings state, records and files of the partition's logs together, as on a takeover: it
// is the one way back from a crash, a lost connection, a failed sync and a wiped broker.
func (p *partition) begin(term context.Context) error {
	complete, err := p.gather(term, nil)
	if err != nil {
		return err
	}
	if err := p.bringTogether(term, true); err != nil {
		return err
	}
	for k := range p.known {
		if p.logs[k] == nil {
			if err := p.adoptRecord(k); err != nil {
				p.r.logger.Error("record can't be used; the log begins as if it were new", "key", k, "error", err)
			}
		}
	}
	p.known = nil
	return p.r.contributed(term, p.n, complete)
}

// settle does the same for a partition that isn't this receiver's, and takes nothing over: the bucket gets what only this
// receiver knows, and what was not committed leaves its files.
func (p *partition) settle(session context.Context) error {
	p.reset()
	defer p.open.closeAll()
	own, err := p.r.state.keys(p.has)
	if err != nil {
		return fmt.Errorf("read the state: %w", err)
	}
	complete, err := p.gather(session, func(key string) bool { return own[key] })
	if err != nil {
		return err
	}
	if err := p.bringTogether(session, false); err != nil {
		return err
	}
	if err := p.keepLedgers(); err != nil {
		return err
	}
	p.known, p.logs, p.wants = nil, nil, nil
	return p.r.contributed(session, p.n, complete)
}

// gather reads the records of the partition's logs, those that are wanted (nil: all). complete: the bucket is marked so.
func (p *partition) gather(term context.Context, wanted func(key string) bool) (complete bool, err error) {
	records, err := p.r.openRecords(term)
	if err != nil {
		return false, err
	}
	p.records = records
	list, complete, err := p.r.list(term, records, p.n, wanted)
	if err != nil {
		return false, fmt.Errorf("read the records: %w", err)
	}
	for _, rec := range list {
		p.known[rec.Key] = rec
	}
	if !complete {
		if err := p.r.lookForMark(term); err != nil {
			return false, err
		}
	}
	return complete, nil
}

// bringTogether decides what of this receiver's state is committed, and cuts its files back to that.
// owner: it is about to work the partition.
func (p *partition) bringTogether(term context.Context, owner bool) error {
	locals, bad, err := p.r.state.logs(p.has) // a receiver of many partitions reads this for each
	if err != nil {
		return fmt.Errorf("read the state: %w", err)
	}
	for _, err := range bad {
		p.r.logger.Error("entry of the state can't be read; the log goes on from its record, in a new file", "error", err)
	}
	output, err := p.r.nameOutput()
	if err != nil {
		return err
	}
	changed, done, displaced := make(map[string]*local), make(map[string]*closed), 0
	for k, lo := range locals {
		identity, name, err := splitKey(k)
		if err != nil {
			continue // it was split before
		}
		l := p.add(&log{key: k, identity: identity, name: name, from: unplaced, local: *lo})
		if err := p.reconcile(term, p.records, l, p.whole(lo.Prepared), done, owner); err != nil {
			return fmt.Errorf("%s/%s: %w", identity, name, err)
		}
		if l.rec.beyond(p.r.config.Name, &l.local) {
			// The state is older than what this receiver has written: it came out of a backup. To cut
			// files back to it would cut what is confirmed, so they are left as they are.
			p.r.logger.Error("local state is older than the record; its files stay as they are, and the log goes on in new ones", "identity", identity, "log", name)
			l.local = local{}
			changed[k] = &l.local
			continue
		}
		if l.local.elsewhere(output) {
			if !owner { // who begins the partition next says what isn't here
				delete(p.logs, k)
				continue
			}
			p.displaced(l, output, done)
			displaced++
			changed[k] = &l.local
			continue
		}
		if l.local.Output == "" {
			l.local.Output = output
			changed[k] = &l.local
		}
		if p.suspect[k] {
			if err := p.retire(l); err != nil {
				return err
			}
		}
		if lo.Prepared != nil || lo.Opening != "" || l.local.Closing != nil {
			changed[k] = &l.local
		}
	}
	if displaced > 0 {
		p.r.logger.Error("files of logs aren't below the output directory any more; they go on in new ones", "partition", p.n, "logs", displaced, "error", errOtherOutput)
	}
	// What the records decided goes to the state before any file is cut: a crash in between only
	// repeats this.
	if err := p.r.state.put(opBegin, changed, done); err != nil {
		return fmt.Errorf("write the state: %w", err)
	}
	for _, l := range p.logs {
		if err := p.reopen(l, owner); err != nil {
			return fmt.Errorf("%s/%s: %w", l.identity, l.name, err)
		}
	}
	if err := p.r.state.put(opBegin, changed, nil); err != nil {
		return fmt.Errorf("write the state: %w", err)
	}
	p.suspect = nil
	return nil
}

// keepLedgers makes the lines durable that a settling has written. Ledgers are this receiver's own: no record
// takes part.
func (p *partition) keepLedgers() error {
	changed, done := make(map[string]*local), make(map[string]*closed)
	for k, l := range p.logs {
		f := l.ledger
		if f == nil || !f.dirty || len(l.notes) > 0 {
			continue // what a full disk didn't take is noted again
		}
		h, err := p.open.use(f)
		if err == nil {
			err = p.r.disk.sync(h)
		}
		if err != nil {
			return fmt.Errorf("sync ledger %s: %w", f.name, err)
		}
		l.local.Committed.Ledger = f.size
		l.local.closed(k, done)
		changed[k] = &l.local
	}
	return p.r.state.put(opBegin, changed, done)
}

// retire closes the file of a log after a failed sync: what was appended can't be trusted, and the
// kernel won't say so twice. It is cut back, and the log goes on in a new one.
func (p *partition) retire(l *log) error {
	m := &l.local.Committed
	if m.File == "" || l.local.Closing != nil {
		return nil
	}
	now := p.r.now()
	to, err := p.r.free(func(i int) string { return p.r.naming.closedName(m.File, now, i) })
	if err != nil {
		return fmt.Errorf("name for closed file %s: %w", m.File, err)
	}
	l.local.Closing = &closing{From: m.File, To: to, Epoch: m.Place.Epoch, Pos: m.Place.Position, Size: m.Size, Time: now}
	if digest := m.Place.Digest; m.From != m.Place.Position {
		l.local.Closing.Digest = &digest
	}
	return nil
}

// reopen cuts a log's files back to what is committed and goes on with them. owner: the partition is about to be worked, and the log with it committed.
func (p *partition) reopen(l *log, owner bool) error {
	lo := &l.local
	m := &lo.Committed
	if c := lo.Closing; c != nil {
		if m.File == c.From {
			if err := p.finishClosing(l, c); err != nil {
				return err
			}
			m.File = ""
		}
		l.note(c.entry()) // the ledger is cut back to before this line
	}
	if err := p.forgetOthersNames(l); err != nil {
		return err
	}
	if lo.Opening != "" && lo.Opening != m.File {
		if err := p.dropUncommitted(l, lo.Opening); err != nil {
			return err
		}
	}
	lo.Opening = ""
	if m.File != "" {
		f := &file{name: m.File, size: m.Size, opened: m.Opened, base: p.r.naming.base(l.identity, l.name, m.Opened), unread: true}
		switch err := p.cut(l, f); {
		case errors.Is(err, errDamagedFile), errors.Is(err, errUnreadable):
			p.damaged(l, m.File, m.From, m.Size, err)
			m.File = ""
		case err != nil:
			return err
		default:
			l.file, l.from, l.offset, l.behind, l.before = f, m.From, m.Offset, m.Behind, m.Before
			if !same(&l.cur.Place, &m.Place) || m.From == m.Place.Position { // the ledger doesn't tell of the range yet
				l.from = unplaced
				if owner && m.From != m.Place.Position { // others have gone on, perhaps from somewhere else: the digest here is to be known
					l.note(m.end(p.r.now()))
				}
			}
		}
	}
	if lo.LedgerFile != "" {
		if err := p.reopenLedger(l); err != nil {
			return err
		}
	}
	if l.ledger == nil {
		l.unkeepSeal()
	}
	lo.Prepared = nil
	return p.flushNotes(l)
}

// forgetOthersNames drops names that were chosen, and that nothing was committed to, where they are another receiver's to give by
// now: the file that tells whose plain names are was lost, say. What lies there may be the other's.
func (p *partition) forgetOthersNames(l *log) error {
	lo, r := &l.local, p.r
	chosen := lo.Opening != "" && lo.Opening != lo.Committed.File
	begun := lo.LedgerFile != "" && lo.Committed.Ledger == 0
	if !chosen && !begun {
		return nil
	}
	if err := r.claimPlainNames(); err != nil {
		return err
	}
	if chosen && r.naming.others(lo.Opening) {
		r.logger.Warn("plain names are another receiver's now; the file stays as it is", "identity", l.identity, "log", l.name, "file", lo.Opening)
		lo.Opening = ""
	}
	if begun && r.naming.others(lo.LedgerFile) {
		lo.LedgerFile = ""
	}
	return nil
}

// finishClosing gives a file that was being closed its final name. One that somebody took away meanwhile
// stops nobody.
func (p *partition) finishClosing(l *log, c *closing) error {
	if !exists(filepath.Join(p.r.config.Output, c.To)) || c.From == c.To {
		err := p.cut(l, &file{name: c.From, size: c.Size})
		if errors.Is(err, errDamagedFile) {
			p.damaged(l, c.From, l.local.Committed.From, c.Size, err)
			if !exists(filepath.Join(p.r.config.Output, c.From)) {
				return nil
			}
		} else if err != nil {
			return err
		}
	}
	return p.r.finishClose(c)
}

// damaged writes down that a central file isn't what it was.
func (p *partition) damaged(l *log, name string, from uint64, size int64, why error) {
	m := &l.local.Committed
	p.r.logger.Error("central file is damaged; going on in a new one", "identity", l.identity, "log", l.name, "file", name, "error", why)
	l.note(Entry{Time: p.r.now(), Event: EventDamage, Epoch: m.Place.Epoch, From: from, To: m.Place.Position, File: name, Size: size, Cause: why.Error()})
}

// reopenLedger goes on with a log's ledger. Of one that somebody shortened what is left of it is continued,
// and one that is gone begun anew, for a second ledger would leave the first one's open ends open for ever.
func (p *partition) reopenLedger(l *log) error {
	m := &l.local.Committed
	f := &file{name: l.local.LedgerFile, size: m.Ledger}
	err := p.cut(l, f)
	if err == nil {
		l.ledger = f
		return nil
	}
	if !errors.Is(err, errDamagedFile) {
		return err
	}
	l.unkeepSeal() // its line may be gone
	size := m.Ledger
	m.Ledger = 0
	h, err2 := p.r.disk.open(filepath.Join(p.r.config.Output, f.name))
	if err2 == nil {
		f.size, err2 = wholeLines(h)
		h.Close()
		if err2 != nil {
			return err2
		}
		if err := p.cut(l, f); err != nil {
			return err
		}
		l.ledger, m.Ledger = f, f.size
	} else if !errors.Is(err2, fs.ErrNotExist) {
		l.local.LedgerFile = "" // somebody else's now
	}
	if size == 0 {
		return nil // its name was chosen, and no line committed
	}
	p.damaged(l, f.name, 0, size, err)
	if l.file != nil { // the line of its range may be among those that are gone
		l.note(Entry{Time: p.r.now(), Event: EventRange, Epoch: m.Place.Epoch, From: m.From, File: m.File, Offset: m.Offset, Digest: m.Before})
		if offset := m.Size - int64(m.Place.Position-m.Behind); m.Behind > 0 { // else what lies behind the gap had positions that were lost
			unknown := int64(-1)
			l.note(Entry{Time: p.r.now(), Event: EventGap, Epoch: m.Place.Epoch, From: m.From + uint64(offset-m.Offset), To: m.Behind, File: m.File, Offset: offset,
				Cause: "the ledger that told of it is damaged", Bytes: &unknown})
		}
	}
	return nil
}

// wholeLines is the size of a file up to its last line's end.
func wholeLines(f *os.File) (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	b := make([]byte, 4096)
	for end := st.Size(); end > 0; {
		n := min(end, int64(len(b)))
		if _, err := f.ReadAt(b[:n], end-n); err != nil {
			return 0, fmt.Errorf("read %s: %w", f.Name(), err)
		}
		if i := bytes.LastIndexByte(b[:n], '\n'); i >= 0 {
			return end - n + int64(i) + 1, nil
		}
		end -= n
	}
	return 0, nil
}

// dropUncommitted removes a file that nothing was ever committed to. What was prepared in it is set aside.
func (p *partition) dropUncommitted(l *log, name string) error {
	path := filepath.Join(p.r.config.Output, name)
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if m := l.local.Prepared; m != nil && m.File == name && st.Size() > 0 {
		if err := p.setAside(l, name, 0, min(m.Size, st.Size())); err != nil {
			return err
		}
	}
	return p.r.disk.remove(path)
}

// cut takes a file back to the size that is committed.
func (p *partition) cut(l *log, f *file) error {
	path := filepath.Join(p.r.config.Output, f.name)
	if err := checkName(p.r.config.Output, f.name, nil, f.size); err != nil {
		return err
	}
	st, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if st.Size() > f.size {
		if m := l.local.Prepared; m != nil && m.File == f.name && m.Size > f.size {
			if err := p.setAside(l, f.name, f.size, min(m.Size, st.Size())); err != nil {
				return err
			}
		}
		h, err := p.open.use(f)
		if err != nil {
			return err
		}
		if err := p.r.disk.truncate(h, f.size); err != nil {
			return fmt.Errorf("cut %s back to %d bytes: %w", f.name, f.size, err)
		}
		p.r.logger.Info("file cut back to what is committed", "file", f.name, "from", st.Size(), "to", f.size)
	}
	return nil
}

// setAside keeps bytes that were on disk with an outcome that nobody knows: should every other
// copy be lost, they are here.
func (p *partition) setAside(l *log, name string, from, to int64) error {
	return p.r.disk.do(opSetAside, func() (err error) {
		// A directory for each identity: both tokens in one name could be too long.
		identity, token, _ := strings.Cut(l.key, ".")
		dir := filepath.Join(p.r.config.State, "cut", identity)
		for _, d := range []string{filepath.Dir(dir), dir} {
			if err := makeDir(d); err != nil {
				return fmt.Errorf("set aside: %w", err)
			}
		}
		src, err := openBelow(p.r.config.Output, name, os.O_RDONLY, 0, 0)
		if err != nil {
			return fmt.Errorf("set aside: %w", err)
		}
		defer src.Close()
		path := filepath.Join(dir, fmt.Sprintf("%s@%d-%d@%d", token, l.local.Prepared.Place.Epoch, l.local.Prepared.Place.Position, to-from))
		pieces, gaps := p.piecesOf(l, name, from, to)
		if err := p.r.noteAside(path, pieces, gaps); err != nil {
			return fmt.Errorf("set aside: %w", err)
		}
		dst, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return fmt.Errorf("set aside: %w", err)
		}
		_, err = io.Copy(dst, io.NewSectionReader(src, from, to-from))
		if err == nil {
			err = dst.Sync()
		}
		if err2 := dst.Close(); err == nil {
			err = err2
		}
		if err == nil {
			err = syncDir(dir)
		}
		if err != nil {
			os.Remove(path)
			return fmt.Errorf("set aside %d bytes of %s: %w", to-from, name, err)
		}
		p.r.logger.Warn("bytes whose commit has no known outcome are set aside", "identity", l.identity, "log", l.name, "file", path, "bytes", to-from)
		return nil
	})
}

// adoptRecord takes over a log that other receivers, or this one before it lost its state, wrote.
func (p *partition) adoptRecord(k string) error {
	identity, name, err := splitKey(k)
	if err != nil {
		return err
	}
	known := p.known[k]
	rec, err := parseRecord(known.Value)
	l := p.add(&log{key: k, identity: identity, name: name, from: unplaced, rev: known.Revision})
	if err != nil {
		return err
	}
	l.rec, l.cur, l.seal = *rec, newCursor(rec.Place), rec.Seal.elsewhere()
	l.cur.forked = rec.Forked
	// What its writer has learnt may be told at once; the rest when this receiver has
	// written a record of its own on top, behind which the writer can't cut back.
	if rec.Learnt != nil {
		l.heard = *rec.Learnt
	}
	if !same(&rec.Place, l.learnt()) {
		l.dirty = true
		p.touchAcks()
	}
	return nil
}

// has tells whether a log is of this partition.
func (p *partition) has(key string) bool {
	identity, _, err := splitKey(key)
	return err == nil && p.r.partitionOf(identity) == p.n
}

// partitionOf is the partition of an identity in the current layout.
func (r *Receiver) partitionOf(identity string) int {
	return chunk.Partition(identity, max(1, r.layout.Partitions))
}
