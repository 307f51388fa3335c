package forward

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"logforward/internal/broker"
	"logforward/internal/chunk"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
)

// link is one destination: one connection, shared by its logs, and what the centre says.
type link struct {
	name        string
	identity    string
	destination Destination
	limits      *Limits
	state       *State
	now         func() time.Time
	log         *slog.Logger
	instance    string // of the hello; random
	key         string // what receivers authenticate their control messages with; see keyAt
	window      *window
	wake        chan struct{} // of the hello loop
	turned      chan struct{} // the red button was
	pressed     chan<- Pressed
	seed        maphash.Seed  // of fingerprints of answers
	parsed      atomic.Uint64 // answers that were read whole, for tests

	stopping context.CancelFunc
	stopped  sync.WaitGroup

	mu         sync.Mutex
	forwarders map[string]*forwarder // by the log's token
	transport  transport
	conn       *nats.Conn
	publisher  *broker.Publisher
	up         bool
	unmeasured bool  // the connection is a new one
	err        error // why it isn't up, or what is wrong with it
	maxPayload int
	button     *held         // the red button, as last told; nil: never
	obeyed     *chunk.Obeyed // what of it has taken effect
	hinted     time.Time     // until then no further hint is taken
	asking     *time.Timer   // of the last hint; nil: none was taken
	closed     bool          // no hint is taken any more
	due        map[string]time.Time
	seen       time.Time // of the last answer
}

// keyAt is the key of the hellos at a destination's broker. Destinations at one broker share it, for a node has one subject for control messages there;
// others don't, so that who hears hellos at one broker can't steer what goes to another.
func keyAt(secret string, d Destination) string {
	return chunk.MAC(secret, []byte(strings.Join(slices.Sorted(slices.Values(d.Broker.URLs)), " ")))
}

func newLink(e *Engine, name string, d Destination) *link {
	return &link{
		name: name, identity: e.cfg.Identity, destination: d, limits: &e.cfg.Limits, state: e.cfg.State,
		now: e.cfg.Now, log: e.log.With("destination", name), instance: nuid.Next(), key: keyAt(e.key, d),
		window: newWindow(e.cfg.Limits.Window), wake: make(chan struct{}, 1), turned: make(chan struct{}, 1), pressed: e.cfg.Pressed, seed: maphash.MakeSeed(),
		forwarders: make(map[string]*forwarder), due: make(map[string]time.Time),
	}
}

// open starts connecting; the link's goroutines run until close.
func (l *link) open() {
	pause, err := l.state.fleetPause(l.name, l.now())
	if err != nil {
		l.log.Warn("the fleet's pause can't be read from the state; it is asked for again", "error", err)
	}
	l.button = pause
	ctx, cancel := context.WithCancel(context.Background())
	l.stopping = cancel
	l.stopped.Go(func() { l.run(ctx) })
	l.stopped.Go(func() { l.obey(ctx) })
}

// run connects (what is wrong with the options is shown and tried again, for files can
// be mended) and then says hello, until ctx ends. The client library gives a connection up for good
// after some errors, such as of a message that is bigger than the broker takes since a reload: then there is another one.
func (l *link) run(ctx context.Context) {
	wait := backoff{first: time.Second, most: 30 * time.Second}
	for ctx.Err() == nil {
		began := time.Now()
		alive, end := context.WithCancelCause(ctx)
		err := l.connect(ctx, end)
		if err == nil {
			l.greet(alive)
			err = errors.Join(context.Cause(alive), l.hangUp())
		}
		end(nil)
		if time.Since(began) > 2*wait.most {
			wait.reset()
		}
		if ctx.Err() != nil {
			return
		}
		l.log.Error("can't connect; trying again", "error", err)
		l.mu.Lock()
		l.err = err
		l.mu.Unlock()
		if !sleep(ctx, wait.next()) {
			return
		}
	}
}

// connect makes the connection; ended is told why the client library has given it up.
func (l *link) connect(ctx context.Context, ended func(error)) error {
	o := l.destination.Broker
	if o.Identity == nil {
		o.Identity = broker.PlainNATS{Prefix: l.destination.Prefix}
	}
	if o.Name == "" {
		o.Name = "logforward forward " + l.identity
	}
	o.Retry, o.Logger = true, l.log
	o.OnConnect = func(nc *nats.Conn) { l.connected(nc) }
	o.OnReconnect = func(nc *nats.Conn) { l.connected(nc) }
	o.OnDisconnect = func(_ *nats.Conn, err error) { l.disconnected(err) }
	o.OnClosed = func(nc *nats.Conn) {
		ended(fmt.Errorf("the connection ended for good: %w", cmp.Or(nc.LastError(), nats.ErrConnectionClosed)))
	}
	o.OnPermission = func(r broker.Refusal) {
		l.mu.Lock()
		l.err = fmt.Errorf("the broker doesn't permit to %s %s: the node's credentials need it", r.Op, r.Subject)
		l.mu.Unlock()
	}
	nc, err := broker.Connect(ctx, o)
	if err != nil {
		return err
	}
	publisher, err := broker.NewPublisher(nc, broker.PublisherOptions{Timeout: l.limits.AckTimeout, Logger: l.log})
	if err != nil {
		nc.Close()
		return err
	}
	t := &stream{identity: l.identity, publisher: publisher}
	if l.destination.Compression != CompressionNone {
		if t.compressor, err = chunk.NewCompressor(chunk.Encoding(l.destination.Compression)); err != nil {
			_ = publisher.Close()
			nc.Close()
			return err
		}
	}
	subject := o.Identity.ControlSubject(chunk.Token(l.identity))
	if _, err := nc.Subscribe(subject, l.control); err != nil {
		_ = publisher.Close()
		nc.Close()
		return fmt.Errorf("listen on %s: %w", subject, err)
	}
	l.mu.Lock()
	l.conn, l.publisher, l.transport = nc, publisher, t
	l.mu.Unlock()
	if nc.IsConnected() {
		l.connected(nc)
	}
	return nil
}

// hangUp ends the connection, if there is one.
func (l *link) hangUp() error {
	l.mu.Lock()
	nc, publisher := l.conn, l.publisher
	l.conn, l.publisher, l.transport, l.up = nil, nil, nil, false
	l.mu.Unlock()
	if nc == nil {
		return nil
	}
	err := publisher.Close()
	nc.Close()
	return err
}

// connected may come twice for one connection, from the callback and from connect.
func (l *link) connected(nc *nats.Conn) {
	l.mu.Lock()
	if l.transport == nil { // connect isn't through; it calls again
		l.mu.Unlock()
		return
	}
	l.up, l.unmeasured, l.err = true, true, nil
	l.maxPayload = int(nc.MaxPayload())
	for token := range l.forwarders {
		l.due[token] = time.Time{}
	}
	l.mu.Unlock()
	l.each(func(f *forwarder) { f.post(f.linkUp) })
	l.kick()
}

// toMeasure is the connection where it is a new one.
func (l *link) toMeasure() *nats.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.unmeasured || !l.up {
		return nil
	}
	l.unmeasured = false
	return l.conn
}

// measure fits the window to a new connection, by how long the broker takes to answer.
func (l *link) measure(ctx context.Context, nc *nats.Conn) {
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	life := nc.Stats().Reconnects
	least := helloTimeout
	for range 3 { // the first answer may have waited for a busy start
		begin := time.Now()
		// Where none comes it counts as a late one. What is wrong shows elsewhere.
		_ = nc.FlushWithContext(ctx)
		least = min(least, time.Since(begin))
		if ctx.Err() != nil {
			least = helloTimeout
			break
		}
	}
	if context.Cause(ctx) == context.Canceled || nc.IsClosed() || nc.Stats().Reconnects != life {
		return // it is over, or what it was is measured anew
	}
	size := windowAt(l.limits, least)
	l.window.resize(size)
	l.log.Debug("the broker has answered", "after", least, "window", size)
}

func (l *link) disconnected(err error) {
	l.mu.Lock()
	l.up = false
	l.err = fmt.Errorf("disconnected from the broker: %w", err)
	if err == nil {
		l.err = broker.ErrDisconnected
	}
	l.mu.Unlock()
	l.each(func(f *forwarder) { f.post(f.linkDown) })
}

// each calls do for every forwarder, without the lock.
func (l *link) each(do func(*forwarder)) {
	l.mu.Lock()
	all := make([]*forwarder, 0, len(l.forwarders))
	for _, f := range l.forwarders {
		all = append(all, f)
	}
	l.mu.Unlock()
	for _, f := range all {
		do(f)
	}
}

func (l *link) join(f *forwarder) {
	l.mu.Lock()
	l.forwarders[f.token] = f
	l.mu.Unlock()
}

func (l *link) leave(f *forwarder) {
	l.mu.Lock()
	if l.forwarders[f.token] == f {
		delete(l.forwarders, f.token)
		delete(l.due, f.token)
	}
	l.mu.Unlock()
}

// conduit is what a forwarder needs to publish now; nil transport: it can't.
func (l *link) conduit() (t transport, maxPayload int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.up {
		return nil, 0, l.err
	}
	return l.transport, l.maxPayload, l.err
}

// takes is the most bytes that the broker takes now; 0: unknown. It may say so while the connection lasts.
func (l *link) takes() int {
	l.mu.Lock()
	nc := l.conn
	l.mu.Unlock()
	if nc == nil {
		return 0
	}
	return int(nc.MaxPayload()) // without the lock: it waits for whoever writes to the network
}

// control takes a message from a receiver. Whatever it says, each forwarder
// checks it against what it knows.
func (l *link) control(m *nats.Msg) {
	c, err := chunk.ParseControl(m.Data)
	if err != nil {
		l.log.Warn("a control message can't be read", "error", err)
		return
	}
	if !chunk.Genuine(l.key, m.Data, m.Header.Get(chunk.MACHeader)) {
		l.hint(c)
		return
	}
	l.controlled(c)
}

const (
	// hintPause is how long at least a node waits with its hello where somebody speaks of the red button who hasn't heard it yet, and hintSpread how much
	// longer at most. The receivers read the button once a second and then tell all whom they have heard: the others are few.
	hintPause  = 1200 * time.Millisecond
	hintSpread = 1500 * time.Millisecond
	// hintRest is how long no further hint is taken.
	hintRest = 5 * time.Second
)

// hint takes a control message that isn't authenticated: anybody may have sent it. It says nothing, but that it may be worth asking.
// That is done after a random time, for it may have been said to a whole fleet, and not often.
func (l *link) hint(c *chunk.Control) {
	now := time.Now()
	wait := rand.N(hintSpread)
	l.mu.Lock()
	if p := c.Pause; p != nil {
		if l.button != nil && p.Change <= l.button.Change {
			l.mu.Unlock()
			l.turn() // it is known: whoever asks gets notice of what is obeyed
			return
		}
		wait += hintPause
	}
	if now.Before(l.hinted) || l.closed {
		l.mu.Unlock()
		return
	}
	defer l.mu.Unlock()
	l.hinted = now.Add(wait + hintRest)
	l.stopped.Add(1)
	l.asking = time.AfterFunc(wait, func() {
		defer l.stopped.Done()
		l.mu.Lock()
		known := c.Pause != nil && l.button != nil && c.Pause.Change <= l.button.Change
		if known {
			l.hinted = time.Time{} // a receiver has said so meanwhile
		}
		l.mu.Unlock()
		if !known {
			l.helloAll()
		}
	})
}

func (l *link) controlled(c *chunk.Control) {
	if c.Pause != nil {
		l.toldPause(c.Pause)
	}
	for _, x := range c.Confirm {
		if f := l.find(x.Log); f != nil {
			f.post(func() { f.onConfirm(x.Epoch, x.Position, x.Digest) })
		}
	}
	for _, x := range c.Resend {
		if f := l.find(x.Log); f != nil {
			f.post(func() { f.onResend(x) })
		}
	}
	for _, x := range c.Fork {
		if f := l.find(x.Log); f != nil {
			f.post(func() { f.onFork(x) })
		}
	}
	if c.Hello || c.Layout != nil {
		l.helloAll()
	}
}

func (l *link) find(token string) *forwarder {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.forwarders[token]
}

func (l *link) kick() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// close ends the connection after the forwarders are gone.
func (l *link) close() error {
	l.stopping()
	l.mu.Lock()
	if l.closed = true; l.asking != nil && l.asking.Stop() {
		l.asking = nil
		l.stopped.Done() // it doesn't come any more; one that runs is waited for
	}
	l.mu.Unlock()
	err := l.hangUp() // first, so that nothing waits for the network
	l.stopped.Wait()
	return errors.Join(err, l.hangUp())
}

func marshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		// Only strings, numbers and times go in.
		return nil
	}
	return b
}
