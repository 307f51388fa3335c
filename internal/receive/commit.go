package receive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

// batch is one commit: a picture of the partition's changed logs, which the loop took and which
// the commit's goroutine owns.
type batch struct {
	items []*item
	// failed is how often the file system's sync had failed when the term began.
	failed uint64
	acks   []string
	bad    []*rawMessage
	began  time.Time
	bytes  int64
}

// item is one log in a commit. The commit's goroutine may not touch the log itself.
type item struct {
	log      *log
	key      string
	identity string
	name     string
	local    local // with Prepared set
	rec      record
	value    []byte // rec
	rev      uint64 // before, and behind the record step the new one
	moved    bool   // the mark differs from the committed one; else only the record changes
	closing  *closing
	lines    []chan error // of housekeeping, that are in the ledger
	files    []*file      // that were appended to; f may be closed meanwhile
	handles  []*os.File   // of files, pinned; nil: closed
	paths    []string
	sizes    []int64
	learnt   atomic.Pointer[chunk.Place] // set once the place is committed, for the loop
}

// outcome is what a commit came to. An error ends the term.
type outcome struct {
	batch *batch
	err   error
	// suspect are the keys of logs whose files can't be trusted: their sync failed, or they were replaced.
	suspect []string
}

// startCommit begins a commit where one is due, and sets the timer for the next.
func (p *partition) startCommit(term context.Context, timer *time.Timer) error {
	if p.running || p.since.IsZero() {
		return nil
	}
	c := &p.r.config
	if wait := p.since.Add(c.CommitInterval).Sub(p.r.now()); wait > 0 && p.pending < c.CommitBytes && len(p.acks) < maxAcks && !p.urgent {
		timer.Reset(wait)
		return nil
	}
	b, err := p.snapshot()
	if err != nil {
		return err
	}
	if b == nil {
		timer.Reset(c.CommitInterval)
		return nil
	}
	p.running = true
	records := p.records
	p.tasks.Go(func() { p.committed <- p.r.commit(term, records, b) })
	return nil
}

// snapshot takes what is to be committed. nil: nothing can be now.
func (p *partition) snapshot() (*batch, error) {
	b := &batch{began: p.r.now(), bytes: p.pending, failed: p.failedSyncs}
	left := false
	for _, l := range p.logs {
		if !l.dirty {
			continue
		}
		if l.naming {
			left = true
			continue
		}
		if l.rotate && l.ledger != nil {
			l.keepSeal(p.r.now()) // so that what is closed can be verified without a broker
		}
		if len(l.notes) > 0 {
			// Its ledger had no room. A commit without the lines would lose them.
			if err := p.flushNotes(l); err != nil {
				return nil, err
			}
		}
		if len(l.notes) > 0 {
			left = true
			continue
		}
		it, err := p.item(l)
		if err != nil {
			return nil, err
		}
		b.items = append(b.items, it)
	}
	if left {
		// An acknowledgement may stand for what such a log took: none is sent. They wait.
		if len(b.items) == 0 {
			return nil, nil
		}
	} else {
		b.acks, p.acks = p.acks, nil
		b.bad, p.bad, p.rubbish = p.bad, nil, 0
	}
	p.pending, p.urgent = 0, false
	p.since = time.Time{}
	if left {
		p.since = p.r.now()
	}
	return b, nil
}

func (p *partition) item(l *log) (*item, error) {
	m := l.mark()
	it := &item{log: l, key: l.key, identity: l.identity, name: l.name, local: l.local, rec: l.rec, rev: l.rev}
	it.moved = m.File != l.local.Committed.File || m.Size != l.local.Committed.Size || m.Ledger != l.local.Committed.Ledger ||
		m.Forked != l.local.Committed.Forked || m.Seal != l.local.Committed.Seal || !same(&m.Place, &l.local.Committed.Place)
	if it.moved {
		m.Revision = l.rev
		m.Base = base{l.rec.Place.Epoch, l.rec.Place.Position, l.rec.Place.Digest}
		it.local.Prepared = &m
	}
	if l.rotate {
		c, err := p.planClose(l, p.r.now())
		if err != nil {
			return nil, err
		}
		it.closing, l.rotate = c, false
	}
	if c := l.local.Closing; c != nil {
		for i := range it.rec.Ranges { // the file has its final name by now
			if s := &it.rec.Ranges[i]; s.Receiver == p.r.config.Name && s.File == c.From && (s.Epoch < c.Epoch || s.Epoch == c.Epoch && s.To <= c.Pos) {
				ranges := append([]span(nil), it.rec.Ranges...)
				ranges[i].File = c.To
				it.rec.Ranges = ranges
			}
		}
	}
	it.rec.Place, it.rec.Forked, it.rec.Seal = m.Place, m.Forked, m.Seal
	if learnt := *l.learnt(); learnt.Epoch != 0 {
		it.rec.Learnt = &learnt
	}
	it.rec.extend(p.r.config.Name, &m, p.r.now())
	it.local.Ranges = it.rec.foreign(p.r.config.Name)
	var err error
	if it.value, err = p.stamp(&it.rec); err != nil {
		return nil, err
	}
	for _, f := range []*file{l.file, l.ledger} {
		if f == nil || !f.dirty {
			continue
		}
		f.dirty = false
		f.pins++
		it.files, it.handles, it.paths = append(it.files, f), append(it.handles, f.f), append(it.paths, f.name)
		it.sizes = append(it.sizes, f.size)
	}
	it.lines, l.lines = l.lines, nil
	l.dirty, l.commit, l.refresh = false, it, false
	return it, nil
}

// stamp makes a record recognisable as this term's, for the case that its update's answer is lost.
func (p *partition) stamp(r *record) ([]byte, error) {
	p.commits++
	r.Writer, r.Commit = p.term, p.commits
	return r.bytes()
}

// commit carries a batch through all steps. It runs beside the loop.
func (r *Receiver) commit(term context.Context, records *broker.Records, b *batch) outcome {
	if err := r.syncBatch(b); err != nil {
		o := outcome{batch: b, err: fmt.Errorf("commit: sync: %w", err)}
		for _, it := range b.items {
			o.suspect = append(o.suspect, it.key)
		}
		return o
	}
	if err := term.Err(); err != nil {
		return outcome{b, err, nil} // the sync took long, and another receiver may work the partition by now
	}
	if key, err := r.checkFiles(b); err != nil {
		return outcome{b, fmt.Errorf("commit: %w", err), []string{key}}
	}
	if err := r.keepQuarantine(b.bad); err != nil {
		return outcome{b, fmt.Errorf("commit: quarantine: %w", err), nil}
	}
	prepared := make(map[string]*local)
	for _, it := range b.items {
		if it.moved {
			prepared[it.key] = &it.local
		}
	}
	if err := r.state.put(opPrepare, prepared, nil); err != nil {
		return outcome{b, fmt.Errorf("commit: prepare: %w", err), nil}
	}
	if err := r.disk.do(opRecord, func() error { return r.updateRecords(term, records, b.items) }); err != nil {
		return outcome{b, fmt.Errorf("commit: records: %w", err), nil}
	}
	committed, done := make(map[string]*local), make(map[string]*closed)
	for _, it := range b.items {
		if it.moved {
			it.local.commit(it.local.Prepared, it.key, done)
		}
		it.local.Closing = firstOf(it.closing, it.local.Closing)
		if it.moved || it.closing != nil {
			committed[it.key] = &it.local
		}
	}
	if err := r.state.put(opCommit, committed, done); err != nil {
		return outcome{b, fmt.Errorf("commit: state: %w", err), nil}
	}
	for _, it := range b.items {
		if it.moved {
			it.learnt.Store(&it.local.Committed.Place)
		}
	}
	if err := r.disk.do(opConfirm, func() error { r.confirm(b.items); return nil }); err != nil {
		return outcome{b, err, nil}
	}
	if err := r.disk.do(opAck, func() error { return r.acknowledge(b) }); err != nil {
		return outcome{b, fmt.Errorf("commit: acknowledge: %w", err), nil}
	}
	if err := r.finishCloses(b.items); err != nil {
		return outcome{b, err, nil}
	}
	r.metrics.commits.Inc()
	r.metrics.commitSeconds.Observe(r.now().Sub(b.began).Seconds())
	return outcome{batch: b}
}

func firstOf(a, b *closing) *closing {
	if a != nil {
		return a
	}
	return b
}

// fewFiles is how many files are synced one by one; more are cheaper by one syncfs,
// which also writes what others left in the page cache.
const fewFiles = 16

// syncBatch makes what was appended durable, and then the names. A failure here is final: the
// kernel may have marked the lost pages clean, so a second sync would succeed and mean nothing.
func (r *Receiver) syncBatch(b *batch) error {
	dirs := make(map[string]bool)
	all := false
	n := 0
	for _, it := range b.items {
		for i, f := range it.files {
			n++
			if it.handles[i] == nil {
				all = true // closed since: only the file system can be asked
			}
			if f.fresh {
				for d := filepath.Dir(it.paths[i]); ; d = filepath.Dir(d) {
					dirs[filepath.Join(r.config.Output, d)] = true
					if d == "." {
						break
					}
				}
			}
		}
	}
	switch {
	case n == 0:
	case (all || n > fewFiles) && r.syncfs != nil && r.syncfs.has(r.config.Output):
		if err := r.syncfs.sync(); err != nil {
			return err
		}
		if r.syncfs.failed() != b.failed {
			return errSyncFailed
		}
		if len(dirs) > 0 {
			// The names were among what was synced. One directory more shows whether the file system still takes anything:
			// before Linux 5.17 syncfs doesn't tell where its journal has failed.
			dirs = map[string]bool{r.config.Output: true}
		}
	default:
		if err := r.syncFiles(b); err != nil {
			return err
		}
	}
	return r.disk.syncDirs(dirs)
}

// errSyncFailed: the kernel told another partition of lost pages, and won't say whose they were.
var errSyncFailed = errors.New("the file system could not write something since this term began")

// checkFiles makes sure that what was synced is what others will find.
func (r *Receiver) checkFiles(b *batch) (key string, err error) {
	defer r.disk.flights.end(r.disk.flights.begin(opLook))
	for _, it := range b.items {
		for i, h := range it.handles {
			if err := checkName(r.config.Output, it.paths[i], h, it.sizes[i]); err != nil {
				return it.key, err
			}
		}
	}
	return "", nil
}

// syncFiles syncs file by file, a few at a time.
func (r *Receiver) syncFiles(b *batch) error {
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		first error
		slots = make(chan struct{}, 4)
	)
	for _, it := range b.items {
		for i, h := range it.handles {
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				err := r.syncOne(h, it.paths[i])
				mu.Lock()
				defer mu.Unlock()
				if err != nil && first == nil {
					first = fmt.Errorf("%s: %w", it.paths[i], err)
				}
			})
		}
	}
	wg.Wait()
	return first
}

func (r *Receiver) syncOne(h *os.File, name string) error {
	if h != nil {
		return r.disk.sync(h)
	}
	h, err := r.disk.open(filepath.Join(r.config.Output, name))
	if err != nil {
		return err
	}
	defer h.Close()
	return r.disk.sync(h)
}

// updateRecords writes all records with compare-and-set, and comes back when each is known to be
// there. An update without an answer may still land: it is asked after, or sent again, until that is known.
func (r *Receiver) updateRecords(term context.Context, records *broker.Records, items []*item) error {
	type answer struct {
		it  *item
		rev uint64
		err error
	}
	left := items
	for try := 0; len(left) > 0; try++ {
		if try > 0 && !sleep(term, min(time.Duration(try)*100*time.Millisecond, 2*time.Second)) {
			return term.Err()
		}
		answers := make(chan answer, len(left))
		for _, it := range left {
			records.Update(it.key, it.value, it.rev, func(rev uint64, err error) { answers <- answer{it, rev, err} })
		}
		var again []*item
		for range left {
			var a answer
			select {
			case a = <-answers:
			case <-term.Done():
				return term.Err()
			}
			if a.err == nil {
				a.it.rev = a.rev
				continue
			}
			landed, err := r.landed(term, records, a.it)
			switch {
			case err != nil:
				r.logger.Warn("outcome of a record's update isn't known yet", "log", a.it.key, "update", a.err, "error", err)
				again = append(again, a.it)
			case landed:
			case errors.Is(a.err, broker.ErrWrongRevision):
				return fmt.Errorf("%s: somebody else wrote the record: %w", a.it.key, a.err)
			case !broker.Retryable(a.err) && !broker.OutcomeUnknown(a.err):
				return fmt.Errorf("%s: %w", a.it.key, a.err)
			default:
				again = append(again, a.it)
			}
		}
		left = again
	}
	return nil
}

// landed reads a record and tells whether it is the one that an update without a good answer wrote.
func (r *Receiver) landed(term context.Context, records *broker.Records, it *item) (bool, error) {
	value, rev, err := records.Get(term, it.key)
	if errors.Is(err, broker.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	rec, err := parseRecord(value)
	if err != nil || rec.Writer != it.rec.Writer || rec.Commit != it.rec.Commit {
		return false, nil
	}
	it.rev = rev
	return true, nil
}

// confirm tells the nodes what they may forget. A lost message costs nothing: the next sync says the same.
func (r *Receiver) confirm(items []*item) {
	type message struct {
		chunk.Control
		size int // of its JSON, at most
	}
	limit := min(chunk.MaxControl, int(r.nc.MaxPayload())) / 2
	nodes := make(map[string]*message)
	for _, it := range items {
		if !it.moved {
			continue
		}
		c := nodes[it.identity]
		if c == nil {
			c = new(message)
			nodes[it.identity] = c
		}
		token, p := chunk.Token(it.name), &it.local.Committed.Place
		c.Confirm = append(c.Confirm, chunk.Confirm{Log: token, Epoch: p.Epoch, Position: p.Position, Digest: p.Digest})
		if c.size += confirmSize + len(token); c.size > limit {
			r.tell(it.identity, &c.Control)
			delete(nodes, it.identity)
		}
	}
	for identity, c := range nodes {
		r.tell(identity, &c.Control)
	}
}

// confirmSize is more than a confirmation takes as JSON, beside the log's token.
const confirmSize = 128

// acknowledge removes what is committed from the streams.
func (r *Receiver) acknowledge(b *batch) error {
	nc := r.nc
	for _, reply := range b.acks {
		if err := nc.Publish(reply, ackAck); err != nil {
			return err // redelivered, and dropped as a duplicate
		}
	}
	for _, raw := range b.bad {
		if err := nc.Publish(raw.reply, ackTerm); err != nil {
			return err
		}
	}
	return nil
}

// Acknowledgements of JetStream (ADR-13).
var (
	ackAck  = []byte("+ACK")
	ackTerm = []byte("+TERM")
	ackNak  = []byte(`-NAK {"delay": 1000000000}`)
)

// afterCommit brings a commit's outcome into the loop.
func (p *partition) afterCommit(o outcome) error {
	p.running = false
	for _, it := range o.batch.items {
		for _, f := range it.files {
			f.pins--
		}
	}
	if o.err != nil {
		p.failedCommit(o)
		return o.err
	}
	if p.ailing {
		p.well()
	}
	p.last = p.r.now()
	p.wants, p.later = append(p.wants, p.later...), nil
	for _, it := range o.batch.items {
		l := it.log
		// Names may not have changed meanwhile: a log in a commit is given none.
		l.local, l.rec, l.rev, l.commit = it.local, it.rec, it.rev, nil
		l.refresh = l.rec.Learnt == nil || !same(l.rec.Learnt, &l.rec.Place)
		for _, f := range it.files {
			f.fresh = false
		}
		for _, kept := range it.lines {
			kept <- nil
		}
		if it.closing != nil {
			p.open.close(l.file)
			l.file, l.from = nil, unplaced
			l.note(it.closing.entry())
			if err := p.flushNotes(l); err != nil {
				return err
			}
			if l.hold == forClose {
				if err := p.release(l); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// failedCommit remembers for the next term whose files can't be trusted.
func (p *partition) failedCommit(o outcome) {
	if o.err == nil {
		return
	}
	p.ailing = true
	p.distrust(o.suspect)
}

// distrust has the next term begin new files for logs.
func (p *partition) distrust(keys []string) {
	if p.suspect == nil && len(keys) > 0 {
		p.suspect = make(map[string]bool)
	}
	for _, key := range keys {
		p.suspect[key] = true
	}
}

// lastCommit commits what is left on a clean shutdown, so that a restart has nothing to cut.
func (p *partition) lastCommit() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for p.running || p.naming {
		select {
		case o := <-p.committed:
			if err := p.afterCommit(o); err != nil {
				return err
			}
		case n := <-p.named:
			if err := p.afterNaming(n); err != nil {
				return err
			}
		case <-ctx.Done():
			return fmt.Errorf("last commit: %w", ctx.Err())
		}
	}
	for !p.since.IsZero() { // once more where it closes files: their ledgers tell of it then
		b, err := p.snapshot()
		if err != nil || b == nil {
			return err
		}
		if err := p.afterCommit(p.r.commit(ctx, p.records, b)); err != nil {
			return err
		}
	}
	return nil
}
