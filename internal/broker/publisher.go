package broker

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const defaultAckTimeout = 5 * time.Second

// PublisherOptions of [NewPublisher]. The zero value works.
type PublisherOptions struct {
	// Timeout is how long an answer is waited for; zero means 5 s. It is
	// checked a few times per Timeout, so the failure may be reported up to a
	// tenth later.
	Timeout time.Duration
	// Logger; nil means none.
	Logger *slog.Logger
}

// Publisher publishes to streams and reports each outcome once. Payloads are
// not retained: the client library's own asynchronous publisher keeps every
// message until it was acknowledged, which for a window of chunks is the window
// once more.
//
// All methods may be called by several goroutines at once. Messages that one
// goroutine publishes reach the broker in that order.
type Publisher struct {
	nc      *nats.Conn
	timeout time.Duration
	log     *slog.Logger
	prefix  string // of the reply subjects, with the last dot
	sub     *nats.Subscription

	wake    chan struct{} // there is something in failed, or the connection changed
	stop    chan struct{}
	stopped sync.WaitGroup

	// deliver is held while a done function runs, so that two never run at once.
	deliver sync.Mutex

	mu      sync.Mutex
	closed  bool
	life    uint64 // the connection's reconnect count that pending belongs to
	token   uint64
	open    int  // published, and done hasn't returned
	resting bool // nothing is open and the watch goroutine isn't woken from time to time: what is published wakes it
	pending map[uint64]pending
	quiet   map[string][]uint64 // tokens of what waits for another message's answer, in order, by subject
	failed  []failure           // ended before anything was sent; reported by the watch goroutine
	denied  error               // why answers can't come, if that is known
}

type pending struct {
	subject string
	bytes   int
	since   time.Time
	quiet   bool // it asked for no answer
	done    func(Ack)
}

type failure struct {
	pending
	sent bool
	err  error
}

// NewPublisher subscribes to a reply inbox of its own (with the connection's
// inbox prefix). The connection must outlive the Publisher, which doesn't close it.
//
// A Publisher hooks itself into the connection's error handler, to learn of
// refused permissions, and stays linked there until the connection goes. So
// make one for a connection, not one for each task.
func NewPublisher(nc *nats.Conn, o PublisherOptions) (*Publisher, error) {
	return newPublisher(nc, o, nc.Subscribe)
}

func newPublisher(nc *nats.Conn, o PublisherOptions, subscribe func(string, nats.MsgHandler) (*nats.Subscription, error)) (*Publisher, error) {
	p := &Publisher{
		nc:      nc,
		timeout: o.Timeout,
		log:     o.Logger,
		prefix:  nc.NewInbox() + ".",
		wake:    make(chan struct{}, 1),
		stop:    make(chan struct{}),
		pending: make(map[uint64]pending),
		quiet:   make(map[string][]uint64),
		life:    nc.Stats().Reconnects,
	}
	if p.timeout <= 0 {
		p.timeout = defaultAckTimeout
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	// Before anything can be refused: what is said once isn't said again.
	previous := nc.ErrorHandler()
	nc.SetErrorHandler(func(nc *nats.Conn, sub *nats.Subscription, err error) {
		p.refused(err)
		if previous != nil {
			previous(nc, sub, err)
		}
	})
	sub, err := subscribe(p.prefix+"*", p.answered)
	if err != nil {
		return nil, fmt.Errorf("subscribe to the reply inbox %s*: %w", p.prefix, err)
	}
	p.sub = sub
	// The library's default drops answers when many wait to be processed; a
	// dropped answer would be a needless timeout. Their number is bounded by
	// what was published.
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return nil, errors.Join(fmt.Errorf("lift the limits of the reply inbox: %w", err), sub.Unsubscribe())
	}
	ended := make(chan struct{})
	sub.SetClosedHandler(func(string) { close(ended) })
	if !sub.IsValid() {
		// Closed before the handler was set: nobody would close ended.
		return nil, fmt.Errorf("subscribe to the reply inbox %s*: %w", p.prefix, ErrDisconnected)
	}
	status := nc.StatusChanged(nats.CONNECTED, nats.RECONNECTING, nats.DISCONNECTED, nats.CLOSED)
	p.stopped.Go(func() { p.watch(status) })
	p.stopped.Go(func() { <-ended })
	return p, nil
}

// Publish sends one message and returns as soon as the client library has
// copied it: subject, header and payload may be used again at once. While the
// network takes nothing Publish blocks, for at most half a minute; then the
// connection counts as broken.
//
// done is called exactly once, whatever happens, and never from within Publish
// (but perhaps before Publish has returned). Calls of done, over all messages of
// this Publisher, follow one another and hold up all other answers, so done must
// not block; it may call Publish. No done is called after Close has returned,
// except for what is published after Close: that fails with ErrClosed.
func (p *Publisher) Publish(subject string, header nats.Header, payload []byte, done func(Ack)) {
	p.publish(pending{subject: subject, bytes: len(payload), since: time.Now(), done: done}, header, payload)
}

// PublishQuietly is Publish without an answer of its own: its outcome is that of the next message that the same goroutine publishes to the same
// subject with Publish, and its Ack has no Sequence. Without such a message it times out. A stream that is full may refuse this one and
// take that one: so it is for who learns of a hole in another way.
//
// Each answer costs both sides a message and a wake-up.
func (p *Publisher) PublishQuietly(subject string, header nats.Header, payload []byte, done func(Ack)) {
	p.publish(pending{subject: subject, bytes: len(payload), since: time.Now(), quiet: true, done: done}, header, payload)
}

func (p *Publisher) publish(m pending, header nats.Header, payload []byte) {
	life := p.nc.Stats().Reconnects

	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		// The watch goroutine may be gone, and from within Publish the caller
		// isn't prepared for it.
		go m.done(Ack{Err: m.fail(ErrClosed, false)})
		return
	}
	p.open++
	if p.resting {
		p.resting = false
		p.kick()
	}
	if life != p.life && p.open > 1 {
		// The connection is a new one, and of what was published on the old one
		// something has not been reported as failed yet. A message sent now
		// would overtake that, and arrive behind a hole.
		p.failed = append(p.failed, failure{m, false, ErrDisconnected})
		p.mu.Unlock()
		p.kick()
		return
	}
	p.life = life
	p.token++
	token := p.token
	p.pending[token] = m
	if m.quiet {
		p.quiet[m.subject] = append(p.quiet[m.subject], token)
	}
	p.mu.Unlock()

	reply := ""
	if !m.quiet {
		var number [20]byte
		reply = p.prefix + string(strconv.AppendUint(number[:0], token, 36))
	}
	// PublishMsg copies all of it into its write buffer before it returns
	// (nats.go natsWriter.appendBufs), or writes it out under its lock.
	err := p.nc.PublishMsg(&nats.Msg{Subject: m.subject, Reply: reply, Header: header, Data: payload})
	if err == nil {
		return
	}
	p.mu.Lock()
	if _, ok := p.pending[token]; !ok {
		p.mu.Unlock() // failed already, by a disconnect or Close
		return
	}
	p.drop(token, m)
	kind, sent := p.publishFailure(err)
	p.failed = append(p.failed, failure{m, sent, kind})
	p.mu.Unlock()
	p.kick()
}

// publishFailure says what an error of the client library means, and whether
// some of the message may have been written.
func (p *Publisher) publishFailure(err error) (error, bool) {
	switch {
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("%w (%d bytes)", ErrPayloadTooBig, p.nc.MaxPayload()), false
	case errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrConnectionClosed),
		errors.Is(err, nats.ErrConnectionDraining), errors.Is(err, nats.ErrConnectionReconnecting):
		return fmt.Errorf("%w: %w", ErrDisconnected, err), false
	case errors.Is(err, nats.ErrBadSubject), errors.Is(err, nats.ErrInvalidMsg), errors.Is(err, nats.ErrBadHeaderMsg),
		errors.Is(err, nats.ErrHeadersNotSupported):
		return fmt.Errorf("%w: %w", errBadMessage, err), false
	}
	return fmt.Errorf("%w: %w", ErrDisconnected, err), true
}

// Pending is the number of messages that have no outcome yet.
func (p *Publisher) Pending() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open
}

// Conn is the connection that it publishes on.
func (p *Publisher) Conn() *nats.Conn { return p.nc }

// Close fails what is pending with ErrClosed and waits until the last done
// function has returned. It must not be called from one.
func (p *Publisher) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		p.stopped.Wait()
		return nil
	}
	p.closed = true
	p.mu.Unlock()

	close(p.stop)
	err := p.sub.Unsubscribe()
	if errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrBadSubscription) {
		err = nil // the connection went first and took the subscription along
	}
	p.stopped.Wait()
	return err
}

// answered runs on the subscription's goroutine for each answer.
func (p *Publisher) answered(m *nats.Msg) {
	token, err := strconv.ParseUint(strings.TrimPrefix(m.Subject, p.prefix), 36, 64)
	if err != nil {
		p.log.Warn("answer to no message", "subject", m.Subject)
		return
	}
	p.mu.Lock()
	waiting, ok := p.pending[token]
	var before []pending
	if ok {
		p.drop(token, waiting)
		before = p.takeQuiet(waiting.subject, token)
	}
	p.mu.Unlock()
	if !ok {
		return // too late, its failure was reported; or a second answer
	}
	ack := decodeAck(m)
	for _, one := range before {
		p.end(one, one.outcome(Ack{Stream: ack.Stream, Err: ack.Err}))
	}
	p.end(waiting, waiting.outcome(ack))
}

// outcome is an answer as it is reported.
func (m pending) outcome(a Ack) Ack {
	if a.Err != nil {
		a.Err = m.fail(a.Err, true)
	}
	return a
}

// drop forgets a pending message. Called with mu.
func (p *Publisher) drop(token uint64, m pending) {
	delete(p.pending, token)
	if !m.quiet {
		return
	}
	tokens := p.quiet[m.subject]
	if i := slices.Index(tokens, token); i >= 0 {
		tokens = slices.Delete(tokens, i, i+1)
	}
	if p.quiet[m.subject] = tokens; len(tokens) == 0 {
		delete(p.quiet, m.subject)
	}
}

// takeQuiet takes out what was published quietly to a subject before a message. Called with mu.
func (p *Publisher) takeQuiet(subject string, token uint64) (list []pending) {
	var left []uint64
	for _, t := range p.quiet[subject] {
		if t > token {
			left = append(left, t)
			continue
		}
		list = append(list, p.pending[t])
		delete(p.pending, t)
	}
	if p.quiet[subject] = left; len(left) == 0 {
		delete(p.quiet, subject)
	}
	return list
}

// watch reports what no answer ends: disconnects, timeouts, failures to send.
func (p *Publisher) watch(status chan nats.Status) {
	every := max(p.timeout/10, time.Millisecond)
	tick := time.NewTicker(every)
	defer tick.Stop()
	defer p.nc.RemoveStatusListener(status)
	ticking := true
	for {
		select {
		case <-p.stop:
			p.report(p.takeAll(ErrClosed))
			return
		case <-p.wake:
			if !ticking {
				tick.Reset(every)
				ticking = true
			}
		case _, ok := <-status:
			if !ok {
				status = nil
			}
		case <-tick.C:
			// Also looks at the connection: the library drops status events
			// when its channel is full.
			if ticking = !p.rest(); !ticking {
				tick.Stop()
			}
		}
		p.reportDropped()
		p.report(p.takeOverdue(time.Now()))
	}
}

// rest tells whether nothing is open; then no time can pass for it, and no connection fall.
func (p *Publisher) rest() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resting = p.open == 0
	return p.resting
}

// reportDropped fails all that was published before the connection fell.
//
// The library sets its status and stops taking messages under one lock, so once
// the fall is seen nothing more can go out on the old connection. And what would
// go out on the next one is refused by Publish until life is raised here, after
// the last failure was reported.
func (p *Publisher) reportDropped() {
	connected, life := p.nc.IsConnected(), p.nc.Stats().Reconnects
	p.mu.Lock()
	same := connected && life == p.life
	p.mu.Unlock()
	if same {
		p.report(p.takeFailed())
		return
	}
	p.report(p.takeAll(ErrDisconnected))
	p.mu.Lock()
	p.life = life
	p.mu.Unlock()
}

func (p *Publisher) takeFailed() []failure {
	p.mu.Lock()
	defer p.mu.Unlock()
	failures := p.failed
	p.failed = nil
	return failures
}

func (p *Publisher) takeAll(why error) []failure {
	p.mu.Lock()
	defer p.mu.Unlock()
	failures := make([]failure, 0, len(p.pending)+len(p.failed))
	for _, token := range inOrder(p.pending, nil) {
		failures = append(failures, failure{p.pending[token], true, why})
	}
	clear(p.pending)
	clear(p.quiet)
	failures = append(failures, p.failed...)
	p.failed = nil
	return failures
}

func (p *Publisher) takeOverdue(now time.Time) []failure {
	p.mu.Lock()
	defer p.mu.Unlock()
	overdue := func(m pending) bool { return now.Sub(m.since) >= p.timeout }
	var failures []failure
	for _, token := range inOrder(p.pending, overdue) {
		why := fmt.Errorf("%w: waited %s", ErrTimeout, p.timeout)
		if p.denied != nil {
			why = fmt.Errorf("%w: %w", why, p.denied)
		}
		failures = append(failures, failure{p.pending[token], true, why})
		p.drop(token, p.pending[token])
	}
	return failures
}

// refused learns from the connection's asynchronous errors. A message whose
// subject the broker doesn't permit is never answered.
func (p *Publisher) refused(err error) {
	refusal, ok := parseRefusal(err)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if refusal.Op == OpSubscribe {
		if refusal.Subject == p.prefix+"*" {
			p.denied = fmt.Errorf("the broker lets this connection not hear its reply inbox %s*: %w", p.prefix, ErrPermission)
		}
		return
	}
	denied := func(m pending) bool { return m.subject == refusal.Subject }
	for _, token := range inOrder(p.pending, denied) {
		why := fmt.Errorf("%w: %w", ErrPermission, err)
		p.failed = append(p.failed, failure{p.pending[token], false, why})
		p.drop(token, p.pending[token])
	}
	if len(p.failed) > 0 {
		p.kick()
	}
}

func (p *Publisher) kick() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *Publisher) report(failures []failure) {
	for _, f := range failures {
		p.end(f.pending, Ack{Err: f.fail(f.err, f.sent)})
	}
}

func (p *Publisher) end(m pending, ack Ack) {
	p.deliver.Lock()
	m.done(ack)
	p.deliver.Unlock()
	p.mu.Lock()
	p.open--
	p.mu.Unlock()
}

func (m pending) fail(err error, sent bool) error {
	return &PublishError{Subject: m.subject, Bytes: m.bytes, Sent: sent, Err: err}
}

// inOrder gives the tokens of what is wanted (all, if that is nil) in the order
// of publishing.
func inOrder(m map[uint64]pending, wanted func(pending) bool) []uint64 {
	var tokens []uint64
	for token, one := range m {
		if wanted == nil || wanted(one) {
			tokens = append(tokens, token)
		}
	}
	slices.Sort(tokens)
	return tokens
}
