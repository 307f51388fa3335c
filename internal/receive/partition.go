package receive

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/nats-io/nuid"
	"golang.org/x/sync/semaphore"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

// partition is one partition's loop. Its fields belong to the goroutine that runs the current
// term, but for the channels.
type partition struct {
	r *Receiver
	n int

	in      chan *delivery      // from this partition's stream
	room    *semaphore.Weighted // bytes in it
	asks    chan ask
	lines   chan line // for ledgers, from housekeeping
	looks   chan chan []LogStatus
	rereads chan reread

	settled context.Context // session in which state, bucket and files were brought together, and no term has failed since
	ailing  bool            // the last commit failed: what it said stands until one succeeds
	suspect map[string]bool // logs whose files the term before could not trust

	// The current term.
	term    string
	records *broker.Records
	known   map[string]broker.Record // records of logs that this receiver has no state of
	logs    map[string]*log
	perNode map[string]int // logs of each identity
	open    openFiles
	acks    []string      // of messages that are dealt with, to be sent behind the next commit
	bad     []*rawMessage // to be quarantined by the next commit
	rubbish int64         // bytes of these
	pending int64         // bytes appended since the last commit was begun
	since   time.Time     // of the first change since then; zero: nothing to commit
	urgent  bool          // commit now
	queued  int           // bytes that wait in logs on hold
	wants   []*log        // that need names for their files
	later   []*log        // of these, such as are in the commit that is under way
	naming  bool          // names are being written to the state
	commits uint64
	// failedSyncs is how often the file system's sync had failed before this term's first write.
	failedSyncs uint64
	last        time.Time // when a commit last succeeded
	running     bool      // a commit is under way
	stalled     []*log
	retry       <-chan time.Time

	ctx       context.Context // of the term
	named     chan named
	committed chan outcome
	failed    chan error
	tasks     sync.WaitGroup
}

// ask is a node's hello, as far as this partition answers it.
type ask struct {
	identity string
	hello    *chunk.Hello
	pending  map[string]uint64 // messages of each log still in the stream, read before
	reply    chan map[string]chunk.AnswerLog
}

type line struct {
	key   string
	entry Entry
	kept  chan error // nil when the line is committed; takes one without waiting
}

// maxBurst is how many messages are handled before the loop looks at anything else.
const maxBurst = 64

// inRoom is how many bytes may wait for the loop beside what is queued. A chunk that is larger takes all of it.
const inRoom = 4 << 20

// maxAcks is how many messages may wait for a commit: below MaxAckPending, or the broker would
// stop delivering until the interval is over.
const maxAcks = maxAckPending / 4

func newPartition(r *Receiver, n int) *partition {
	return &partition{r: r, n: n, in: make(chan *delivery, 64), room: semaphore.NewWeighted(inRoom), asks: make(chan ask), lines: make(chan line), looks: make(chan chan []LogStatus), rereads: make(chan reread)}
}

// run works the partition whenever it is this receiver's turn, until ctx ends. Each failure ends a term: what was not
// committed is dropped, and the next term begins as on a takeover.
func (p *partition) run(ctx context.Context) error {
	wait := 50 * time.Millisecond
	for ctx.Err() == nil {
		session, err := p.r.session(ctx)
		if err != nil {
			return nil // ctx is over
		}
		began := time.Now()
		err = p.turn(ctx, session)
		p.r.setTerm(p.n, err)
		if errors.Is(err, errStopped) {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		if err == nil { // the partition was handed over
			continue
		}
		if time.Since(began) > 10*time.Second {
			wait = 50 * time.Millisecond
		}
		if session.Err() == nil {
			p.r.logger.Error("partition begins anew", "partition", p.n, "error", err)
		}
		if !sleep(ctx, wait/2+rand.N(wait)) {
			return nil
		}
		wait = min(2*wait, 5*time.Second)
	}
	return nil
}

// turn waits for this receiver's turn, and works the partition for one term.
func (p *partition) turn(ctx, session context.Context) error {
	idle := func(waiting context.Context) error { return p.idle(waiting, session) }
	return p.r.hold(ctx, session, p.n, idle, func(clean, term context.Context) error {
		p.settled = nil
		err := p.runTerm(clean, term)
		if err == nil && term.Err() == nil && p.since.IsZero() {
			p.settled = session // all is committed, and nothing else is in the files
		}
		return err
	})
}

// errStopped ends a receiver as a crash would; only tests make it.
var errStopped = errors.New("stopped")

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// reset begins with nothing in hand.
func (p *partition) reset() {
	p.term = p.r.config.Name + "/" + nuid.Next()
	p.known, p.logs, p.perNode = map[string]broker.Record{}, map[string]*log{}, map[string]int{}
	p.open = openFiles{output: p.r.config.Output, disk: &p.r.disk, limit: p.r.fileLimit()}
	p.acks, p.bad, p.rubbish, p.pending, p.since, p.urgent, p.queued = nil, nil, 0, 0, time.Time{}, false, 0
	p.wants, p.later, p.naming, p.running, p.stalled, p.retry = nil, nil, false, false, nil, nil
	p.failedSyncs = p.r.syncfs.failed()
	p.named, p.committed, p.failed = make(chan named, 1), make(chan outcome, 1), make(chan error, 1)
}

// runTerm is one ownership of the partition over one connection. held ends with the connection, and
// when somebody else has taken over; ctx asks for an end in order.
func (p *partition) runTerm(ctx, held context.Context) error {
	term, cancel := context.WithCancel(held)
	p.reset()
	p.ctx = term
	defer func() {
		p.r.setWorking(p.n, false)
		cancel()
		p.tasks.Wait()
		select { // a commit that the term's end overtook
		case o := <-p.committed:
			p.failedCommit(o)
		default:
		}
		select {
		case n := <-p.named:
			n.close()
		default:
		}
		p.acks = nil
		p.open.closeAll()
	}()
	for drained := false; !drained; { // left from the term before; the broker delivers it again
		select {
		case d := <-p.in:
			p.room.Release(d.weight())
		default:
			drained = true
		}
	}
	source, err := p.r.newConsumer(term, p.n)
	if err != nil {
		return err
	}
	if err := p.begin(term); err != nil {
		return err
	}
	if !p.ailing {
		p.r.setTerm(p.n, nil)
	}
	p.r.setStall(p.n, nil) // of the term before, whose stalled logs are forgotten
	p.r.setWorking(p.n, true)
	p.tasks.Go(func() {
		if err := source.run(term, p.accepts); err != nil {
			select {
			case p.failed <- err:
			case <-term.Done():
			}
		}
	})
	err = p.loop(ctx, term)
	if err == nil && ctx.Err() != nil && term.Err() == nil {
		p.r.setWorking(p.n, false) // it answers nobody any more
		err = p.lastCommit()
	}
	return err
}

// accepts takes a message from the partition's own stream: into the loop, or into the stream where it belongs.
func (p *partition) accepts(ctx context.Context, d *delivery) bool {
	if d.chunk != nil && p.r.partitionOf(d.subject.Identity) != p.n {
		return p.r.move(ctx, d)
	}
	if p.room.Acquire(ctx, d.weight()) != nil {
		return false
	}
	select {
	case p.in <- d:
		return true
	case <-ctx.Done():
		p.room.Release(d.weight())
		return false
	}
}

// loop handles messages until the term ends: nil where one of the contexts ended it, else why.
func (p *partition) loop(ctx, term context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		p.startNaming()
		if err := p.startCommit(term, timer); err != nil {
			return err
		}
		in := p.in
		if len(p.stalled) > 0 || p.queued > p.r.config.FetchBytes || p.rubbish > p.r.config.CommitBytes {
			in = nil // the broker keeps the rest
		}
		select {
		case <-ctx.Done():
			return nil
		case <-term.Done():
			return nil
		case err := <-p.failed:
			return err
		case d := <-in:
			if err := p.burst(d); err != nil {
				return err
			}
		case o := <-p.committed:
			if err := p.afterCommit(o); err != nil {
				return err
			}
		case n := <-p.named:
			if err := p.afterNaming(n); err != nil {
				return err
			}
		case a := <-p.asks:
			a.reply <- p.answerHello(a)
		case x := <-p.rereads:
			if err := p.afterReread(x); err != nil {
				return err
			}
		case l := <-p.lines:
			if err := p.takeLine(l); err != nil {
				return err
			}
		case c := <-p.looks:
			c <- p.look()
		case <-p.retry:
			p.retry = nil
			if err := p.resume(); err != nil {
				return err
			}
		case <-timer.C:
		case <-tick.C:
			p.tick()
		}
	}
}

// burst handles a message and those that wait behind it.
func (p *partition) burst(d *delivery) error {
	for i := 0; ; i++ {
		p.room.Release(d.weight())
		if err := p.handle(d); err != nil {
			return err
		}
		if i == maxBurst || len(p.stalled) > 0 || p.pending >= p.r.config.CommitBytes {
			return nil
		}
		select {
		case d = <-p.in:
		default:
			return nil
		}
	}
}

func (p *partition) handle(d *delivery) error {
	if d.chunk == nil {
		p.quarantine(d)
		return nil
	}
	l, err := p.log(d.subject.Identity, d.subject.Log)
	if err != nil {
		d.err = err
		p.quarantine(d)
		return nil
	}
	if l.hold != free_ {
		l.queue = append(l.queue, d)
		p.queued += d.bytes
		return nil
	}
	return p.offer(l, d)
}

// offer gives a log a chunk. One that can't be taken now is first in the log's queue.
func (p *partition) offer(l *log, d *delivery) error {
	err := p.accept(l, d)
	if errors.Is(err, errUnreadable) {
		p.distrust([]string{l.key})
		return err
	}
	if errors.Is(err, errStopped) || errors.Is(err, errDamagedFile) {
		return err
	}
	if err != nil {
		p.stall(l, err)
	}
	if l.hold != free_ {
		// Also where it was taken but the ledger has no room: it will be a duplicate then.
		l.queue = append([]*delivery{d}, l.queue...)
		p.queued += d.bytes
		return nil
	}
	p.acks = append(p.acks, d.reply)
	p.touchAcks()
	return nil
}

// release lets a log go on with what has queued.
func (p *partition) release(l *log) error {
	l.hold = free_
	for len(l.queue) > 0 && l.hold == free_ {
		d := l.queue[0]
		l.queue = l.queue[1:]
		p.queued -= d.bytes
		if err := p.offer(l, d); err != nil {
			return err
		}
	}
	return nil
}

// log finds a log, or makes one that was never seen. The error says why it can't be one.
func (p *partition) log(identity, name string) (*log, error) {
	k := key(identity, name)
	if l, ok := p.logs[k]; ok {
		return l, nil
	}
	if p.perNode[identity] >= p.r.config.MaxLogs {
		return nil, fmt.Errorf("identity %q has %d logs already, which is the limit (max_logs_per_identity)", identity, p.r.config.MaxLogs)
	}
	if err := p.r.naming.fits(identity, name); err != nil {
		return nil, err
	}
	return p.add(&log{key: k, identity: identity, name: name, from: unplaced}), nil
}

func (p *partition) add(l *log) *log {
	l.changed = p.r.now()
	p.logs[l.key] = l
	p.perNode[l.identity]++
	return l
}

// touch marks a log as to be committed.
func (p *partition) touch(l *log) {
	l.dirty = true
	l.changed = p.r.now()
	p.touchAcks()
}

func (p *partition) touchAcks() {
	if p.since.IsZero() {
		p.since = p.r.now()
	}
}

// stallRetry is how often a write that failed is tried again.
const stallRetry = time.Second

// stall stops receiving because a log's file takes no writes: what is in memory stays there,
// unacknowledged.
func (p *partition) stall(l *log, err error) {
	if l.hold != forRoom {
		l.hold = forRoom
		p.stalled = append(p.stalled, l)
		p.r.setStall(p.n, err)
		p.r.logger.Error("can't write; receiving waits until it can", "partition", p.n, "identity", l.identity, "log", l.name, "error", err)
	}
	if p.retry == nil {
		p.retry = time.After(stallRetry)
	}
}

// resume tries again what could not be written.
func (p *partition) resume() error {
	stalled := p.stalled
	p.stalled = nil
	for _, l := range stalled {
		l.hold = free_
		if err := p.flushNotes(l); err != nil {
			return err
		}
		if l.hold != free_ {
			continue
		}
		if err := p.release(l); err != nil {
			return err
		}
	}
	if len(p.stalled) == 0 {
		p.r.setStall(p.n, nil)
		p.r.logger.Info("writes succeed again", "partition", p.n)
	}
	return nil
}

// well takes back what a failed commit reported.
func (p *partition) well() {
	p.ailing = false
	p.r.setTerm(p.n, nil)
}

// learntAfter is how long a log must be quiet before its record is brought up to what was learnt.
const learntAfter = 5 * time.Second

// tick looks after quiet logs: files whose period is over, records whose Learnt lags behind.
func (p *partition) tick() {
	now := p.r.now()
	p.r.setWorkload(p.n, workload{p.pending, p.since, p.last})
	if p.ailing && p.since.IsZero() && !p.running {
		p.well() // nothing is left that could show it
	}
	for _, l := range p.logs {
		if l.hold != free_ || l.commit != nil {
			continue
		}
		if p.mustRotate(l, now) {
			p.holdForClose(l)
		}
		if l.refresh && !l.dirty && now.Sub(l.changed) > learntAfter {
			l.refresh = false
			p.touch(l)
		}
	}
}

// answerHello takes a node's word where it knows more, and says what is learnt.
func (p *partition) answerHello(a ask) map[string]chunk.AnswerLog {
	answers := make(map[string]chunk.AnswerLog, len(a.hello.Logs))
	for token, h := range a.hello.Logs {
		name, err := chunk.ParseToken(token)
		if err != nil {
			continue // ParseHello has checked it
		}
		l := p.logs[key(a.identity, name)]
		if l == nil && h.Epoch > 0 && h.Confirmed > 0 {
			if l, err = p.log(a.identity, name); err != nil {
				p.r.logger.Warn("a node's word isn't taken", "identity", a.identity, "log", name, "error", err)
			}
		}
		if l != nil {
			p.witness(l, h)
		}
		n, counted := a.pending[token]
		answers[token] = p.answer(l, h, counted && n == 0)
	}
	return answers
}

// takeLine writes a line of housekeeping's to a log's ledger.
func (p *partition) takeLine(n line) error {
	l := p.logs[n.key]
	if l == nil {
		n.kept <- nil // nothing is known of the log: it has no ledger
		return nil
	}
	l.note(n.entry)
	l.lines = append(l.lines, n.kept)
	if l.hold != free_ {
		return nil // they are flushed with its next change
	}
	return p.flushNotes(l)
}

func (p *partition) look() []LogStatus {
	all := make([]LogStatus, 0, len(p.logs))
	for _, l := range p.logs {
		s := LogStatus{Identity: l.identity, Log: l.name, Partition: p.n, Epoch: l.cur.Epoch, Position: l.cur.Position,
			Committed: l.learnt().Position, Bytes: l.bytes, Duplicates: l.duplicates, Holes: l.holes, Gaps: l.gaps, Forked: l.cur.forked, Changed: l.changed}
		if l.learnt().Epoch != l.cur.Epoch {
			s.Committed = 0
		}
		if l.file != nil {
			s.File, s.Size = l.file.name, l.file.size
		}
		all = append(all, s)
	}
	return all
}
