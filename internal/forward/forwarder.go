package forward

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"logforward/internal/chunk"
	"logforward/internal/tail"

	"golang.org/x/time/rate"
)

const (
	// lookEvery bounds how often a forwarder that may not send looks at its file: it must see
	// rotations, to hold what is rotated away, and need not see each write.
	lookEvery = 200 * time.Millisecond
	// syncPatience is how long a log with state waits for its first answer.
	syncPatience = 2 * time.Second
	// troubleEvery is the pause after an error of the file.
	troubleEvery = time.Second
)

// forwarder sends one log to one destination. All fields below mail belong to
// the goroutine in run.
type forwarder struct {
	engine *Engine
	link   *link
	token  string
	log    *slog.Logger
	stats  *counters

	cancel context.CancelFunc
	done   chan struct{}
	mail   mailbox
	view   view
	shown  string // state that view has

	want     Log
	asked    Log // as Set said; belongs to the engine, like retiring
	retiring bool
	dropped  bool // not wanted any more
	paused   bool // by Pause
	draining bool // nothing new is read: the log moves to another destination

	rec      record
	begun    bool // there is an epoch; else the centre must be asked first
	tail     *tail.Log
	restored uint64 // reserved at the start: positions below it may have been used before
	former   uint64 // up to here an earlier run may have sent what is in the file
	flight   flight
	signer   *signer // nil: this destination's logs aren't sealed
	sealed   Sealed
	stored   uint64
	next     uint64 // of the chunk to publish next; the flight's end: read a new one
	life     uint64 // changes at each going back, so that old acknowledgements are known
	waiting  int    // chunks published in this life whose outcome isn't known
	asking   int    // of these, such as the broker was asked for
	askedAt  time.Time
	steady   int // chunks that followed one another closely
	layout   *chunk.Layout
	bare     time.Time // since when the old layout's subject has no stream, or isn't permitted

	saveSeq  uint64
	savedSeq uint64
	fence    uint64 // nothing is published before this save is on disk
	opening  uint64 // the save that says where it begins: before it is on disk, a crash might have it begin elsewhere
	safe     uint64 // reserved, on disk
	dirty    bool
	lastSave time.Time

	up         bool
	synced     bool
	heard      bool      // the centre has answered since the log was opened
	patience   time.Time // up to then the first answer is waited for
	place      *place    // what the centre has, still to be compared with the file
	ending     ending
	fork       fork
	backoff    backoff
	notBefore  time.Time // after a failure
	turn       *turn     // in the window's queue
	granted    int64     // bytes of the window in hand
	limiter    *rate.Limiter
	rateUntil  time.Time
	lastSent   time.Time
	lingers    time.Time // until when it lingered last
	rush       bool      // there was more than a chunk: no lingering
	partial    partial
	lookAt     time.Time // don't look at the file before
	reopenAt   time.Time
	reopen     backoff
	behind     time.Time // since when there are bytes that aren't read
	meter      meter
	sendErr    error // why publishing fails
	fileErr    error // what is wrong with the file
	centreErr  error // what the centre says is wrong
	maxPayload int
	transport  transport
}

// partial is an unfinished line at the end of what there is.
type partial struct {
	end   uint64 // position behind it; 0: none
	since time.Time
	first time.Time
}

// mailbox is how others talk to a forwarder; none of it blocks.
type mailbox struct {
	mu     sync.Mutex
	acks   []ack
	notes  []func()
	asked  []*inquiry // who wants to know how it stands
	begun  bool       // it answers; before, there is nothing that it could tell
	closed bool       // it has ended and answers no more
	rest   rest       // what it stands at while it sleeps; zero: it doesn't, or wants to hear every answer
	said   uint64     // fingerprint of the answer that last left it asleep, while it has been since; 0: none has
	wake   chan struct{}
}

// inquiry is one question to many forwarders.
type inquiry struct {
	left atomic.Int64 // that haven't answered
	all  chan struct{}
}

func (q *inquiry) answered() {
	if q.left.Add(-1) == 0 {
		close(q.all)
	}
}

// ack is the outcome of one publish.
type ack struct {
	life  uint64
	end   uint64
	quiet bool
	err   error
}

func (m *mailbox) put(a *ack, note func()) {
	m.mu.Lock()
	first := m.none()
	if a != nil {
		m.acks = append(m.acks, *a)
	}
	if note != nil {
		m.notes = append(m.notes, note)
	}
	m.mu.Unlock()
	if first {
		m.signal()
	}
}

func (m *mailbox) signal() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// ask has a forwarder bring up to date what others may see, and then answer.
func (m *mailbox) ask(q *inquiry) {
	m.mu.Lock()
	if !m.begun || m.closed {
		m.mu.Unlock()
		q.answered()
		return
	}
	first := m.none()
	m.asked = append(m.asked, q)
	m.mu.Unlock()
	if first {
		m.signal()
	}
}

func (m *mailbox) begin() {
	m.mu.Lock()
	m.begun = true
	m.mu.Unlock()
}

// close answers who still asks; who asks later is answered at once.
func (m *mailbox) close() {
	m.mu.Lock()
	asked := m.asked
	m.asked, m.closed = nil, true
	m.mu.Unlock()
	for _, q := range asked {
		q.answered()
	}
}

func (m *mailbox) none() bool { return len(m.acks) == 0 && len(m.notes) == 0 && len(m.asked) == 0 }

func (m *mailbox) empty() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.none()
}

// sleep tells whether there is nothing to read. Then r holds until the mail is read again: nothing of the forwarder changes before.
func (m *mailbox) sleep(r rest) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.none() {
		return false
	}
	m.rest = r
	return true
}

// disturb tells whether an answer is anything to a forwarder that sleeps. Where it is awake, or has mail, the answer goes by the mail. One that
// leaves it asleep is remembered by its fingerprint, until it wakes.
func (m *mailbox) disturb(was *chunk.HelloLog, layout *chunk.Layout, a *chunk.AnswerLog, said uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.none() || m.rest.disturbedBy(was, layout, a) {
		return true
	}
	m.said = said
	return false
}

// sleepsSince tells whether an answer with a fingerprint left the forwarder asleep, and nothing has woken it since; 0: any answer.
func (m *mailbox) sleepsSince(said uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.none() && m.said != 0 && (said == 0 || said == m.said)
}

// post has note called on the forwarder's goroutine, if it still runs.
func (f *forwarder) post(note func()) { f.mail.put(nil, note) }

func newForwarder(e *Engine, l *link, want Log, paused bool) *forwarder {
	f := &forwarder{
		engine: e, link: l, token: chunk.Token(want.Name), want: want, asked: want, paused: paused,
		log: l.log.With("log", want.Name), stats: new(counters),
		done: make(chan struct{}), mail: mailbox{wake: make(chan struct{}, 1)},
		backoff: backoff{first: 50 * time.Millisecond, most: 5 * time.Second},
		reopen:  backoff{first: time.Second, most: 30 * time.Second},
		fork:    fork{wait: backoff{first: time.Second, most: time.Minute}},
	}
	if l.destination.Seal {
		f.signer = e.signer
	}
	f.setRate(want.Rate)
	f.view.set(Status{Log: want.Name, Path: want.Path, Destination: want.Destination, State: Starting, Since: e.cfg.Now()}, chunk.HelloLog{}, "")
	return f
}

// run forwards until ctx ends.
func (f *forwarder) run(ctx context.Context) {
	defer close(f.done)
	defer f.mail.close()
	f.link.join(f)
	f.linkUp()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		f.readMail()
		wait, listen := f.work(ctx)
		f.show()
		if !f.mail.sleep(f.rest()) {
			continue
		}
		var news <-chan struct{}
		if f.tail != nil && listen {
			news = f.tail.Wake()
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
		case <-f.mail.wake:
		case <-news:
		case <-timer.C:
		}
	}
	f.link.leave(f)
	f.shut()
}

// shut lets go of everything and leaves the last checkpoint to the saver.
func (f *forwarder) shut() {
	f.readMail()
	if f.turn != nil {
		f.link.window.cancel(f.turn)
	}
	f.returnGrant()
	f.life++
	if f.tail == nil {
		return
	}
	if f.rec.Layout != nil || f.begun || f.dirty {
		if f.begun {
			// Nothing was published beyond: a gap for what gets lost until the next start ends here.
			f.rec.Reserved = max(f.flight.end(), f.restored)
		}
		f.rec.Drained = f.drained()
		f.save(false)
	}
	if err := f.tail.Close(); err != nil {
		f.log.Warn("close", "error", err)
	}
	f.tail = nil
}

// readMail takes what others left: acknowledgements first, for notes may judge by them.
func (f *forwarder) readMail() {
	f.mail.mu.Lock()
	acks, notes, asked := f.mail.acks, f.mail.notes, f.mail.asked
	f.mail.acks, f.mail.notes, f.mail.asked = nil, nil, nil
	f.mail.rest, f.mail.said = rest{}, 0
	f.mail.mu.Unlock()
	for i := range acks {
		f.onAck(acks[i])
	}
	for _, note := range notes {
		note()
	}
	if len(asked) == 0 {
		return
	}
	f.refresh() // once for all who ask
	for _, q := range asked {
		q.answered()
	}
}

// work does all that can be done now. It returns how long there is nothing to do
// unless something happens, and whether a change of the file is such a thing.
func (f *forwarder) work(ctx context.Context) (wait time.Duration, listen bool) {
	now := time.Now()
	if f.tail == nil {
		if now.Before(f.reopenAt) {
			return f.reopenAt.Sub(now), false
		}
		done, ok := f.engine.mayOpen(ctx)
		if !ok {
			return 0, false
		}
		f.mail.begin()
		err := f.open()
		done()
		if err != nil {
			f.fileErr = err
			f.reopenAt = now.Add(f.reopen.next())
			f.log.Error("can't begin; trying again", "error", err)
			return f.reopenAt.Sub(now), false
		}
		f.reopen.reset()
		f.refresh() // who asked for this log wants to know what is there
	}
	for ctx.Err() == nil && f.tail != nil {
		if !f.mail.empty() {
			return 0, false
		}
		now = time.Now()
		f.settle(now)
		wait, listen, more := f.step(now)
		if !more {
			return min(wait, f.checkpoint(now)), listen
		}
	}
	return 0, false
}

// step sends one chunk, if it may and there is one. more: try again at once.
func (f *forwarder) step(now time.Time) (wait time.Duration, listen, more bool) {
	if wait := f.gate(now); wait > 0 {
		f.returnGrant()
		if now.Before(f.lookAt) {
			return min(wait, f.lookAt.Sub(now)), false, false
		}
		f.look(now)
		return wait, true, false
	}
	again := f.next < f.flight.end()
	if !again {
		if (f.draining || f.layout != nil) && f.flight.end() >= f.former {
			return f.hold(now)
		}
		if f.linger(now) {
			return time.Hour, false, false
		}
	}
	size := f.chunkSize()
	if !f.takeWindow(size) {
		return time.Hour, false, false
	}
	if again {
		return f.sendAgain(now, size)
	}
	return f.sendNew(now, size)
}

// hold is the wait of a log that may read nothing new.
func (f *forwarder) hold(now time.Time) (time.Duration, bool, bool) {
	f.returnGrant()
	if now.Before(f.lookAt) {
		return f.lookAt.Sub(now), false, false
	}
	f.look(now)
	return time.Second, true, false
}

// look lets tail see what happened to the file while nothing may be read.
func (f *forwarder) look(now time.Time) {
	f.lookAt = now.Add(lookEvery)
	if err := f.tail.Look(); err != nil {
		f.followTrouble(err)
	} else {
		f.fileErr = nil
	}
}

// gate is how long nothing may be published, unless something happens.
func (f *forwarder) gate(now time.Time) time.Duration {
	const event = time.Hour // until there is mail
	if f.paused {
		return event
	}
	if p, ends := f.link.paused(); p != nil {
		if ends.IsZero() {
			return event
		}
		return max(ends.Sub(f.engine.cfg.Now()), time.Millisecond)
	}
	if !f.up {
		return event
	}
	if wait := f.forking(now); wait > 0 {
		return wait
	}
	if wait := f.syncing(now); wait > 0 {
		return wait
	}
	if f.rec.Layout == nil || f.fence > f.savedSeq {
		return event
	}
	if wait := f.notBefore.Sub(now); wait > 0 {
		return wait
	}
	return f.rateUntil.Sub(now)
}

// linger tells whether a busy log waits for a chunk to fill. It is woken when it has waited long enough.
func (f *forwarder) linger(now time.Time) bool {
	if f.rush {
		return false
	}
	due := f.engine.beat.Near(f.lastSent.Add(f.engine.cfg.Limits.Linger))
	if !now.Before(due) || f.lastSent.IsZero() {
		return false
	}
	if !due.Equal(f.lingers) {
		f.lingers = due
		f.engine.beat.Wake(due, f.mail.signal)
	}
	return true
}

// chunkSize is the most bytes of a chunk now.
func (f *forwarder) chunkSize() int {
	size := f.limit()
	for _, l := range []*rate.Limiter{f.limiter, f.engine.limiter} {
		if l != nil {
			size = min(size, max(l.Burst(), minChunk))
		}
	}
	return int(min(int64(size), f.link.limits.Window))
}

// limit is the most bytes that the broker takes.
func (f *forwarder) limit() int {
	size := f.engine.cfg.Limits.ChunkSize
	if f.maxPayload > 0 {
		size = min(size, max(f.maxPayload-chunk.HeaderRoom, minChunk))
	}
	return size
}

// takeWindow has n bytes of the window in hand, or waits for its turn.
func (f *forwarder) takeWindow(n int) bool {
	if f.granted > 0 {
		return true
	}
	if f.turn != nil {
		return false
	}
	ok, t := f.link.window.take(int64(n), func() { f.post(f.onTurn) })
	if ok {
		f.granted = int64(n)
		return true
	}
	f.turn = t
	return false
}

// onTurn may come late, when the turn was given up.
func (f *forwarder) onTurn() {
	if f.turn != nil && f.link.window.isGiven(f.turn) {
		f.granted, f.turn = f.turn.n, nil
	}
}

func (f *forwarder) returnGrant() {
	if f.granted > 0 {
		f.link.window.give(f.granted)
		f.granted = 0
	}
	if f.turn != nil {
		f.link.window.cancel(f.turn)
		f.turn = nil
	}
}

func (f *forwarder) setRate(r int64) {
	if r == 0 {
		r = f.engine.cfg.Limits.Rate
	}
	f.want.Rate = r
	if r <= 0 {
		f.limiter, f.rateUntil = nil, time.Time{}
		return
	}
	// Small chunks at a small rate: an eighth of a second's worth in one.
	burst := int(min(max(r/8, 1<<10), int64(f.engine.cfg.Limits.ChunkSize)))
	if f.limiter == nil {
		f.limiter = rate.NewLimiter(rate.Limit(r), burst)
		return
	}
	f.limiter.SetLimit(rate.Limit(r))
	f.limiter.SetBurst(burst)
	f.rateUntil = time.Time{}
}

// charge counts n sent bytes; what is too much delays the next chunk.
func (f *forwarder) charge(now time.Time, n int) {
	for _, l := range []*rate.Limiter{f.limiter, f.engine.limiter} {
		if l == nil {
			continue
		}
		for left := n; left > 0; {
			part := min(left, max(l.Burst(), 1))
			if r := l.ReserveN(now, part); r.OK() {
				if until := now.Add(r.DelayFrom(now)); until.After(f.rateUntil) {
					f.rateUntil = until
				}
			}
			left -= part
		}
	}
}
