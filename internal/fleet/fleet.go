package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"logforward/internal/broker"
	"logforward/internal/chunk"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// pace is how often it is looked who is to be told, and progress shown.
	pace = 100 * time.Millisecond
	// rereadEvery is how often the button is read during a call, for somebody else may press it too.
	rereadEvery = time.Second
	// settle is the least time of a call: receivers read the button every second, and then tell the nodes that nobody
	// has a record of yet.
	settle = 1500 * time.Millisecond
	// readTime bounds one read or write.
	readTime = 5 * time.Second
)

// Config of a [Fleet]. The connection needs a receiver's rights: to hear <prefix>.sync.*.hello, to publish to the nodes' control
// subjects, and the buckets.
type Config struct {
	Broker broker.Options
	Prefix string // of subjects; where the layout has another, that counts
	// StreamAPI is the prefix of the streams' API; empty: the default.
	StreamAPI string
	Logger    *slog.Logger // nil: none
}

// Fleet is a connection to the centre with the nodes' words heard since it was opened.
type Fleet struct {
	config  Config
	nc      *nats.Conn
	js      jetstream.JetStream
	shared  *broker.Shared
	ahead   time.Duration // the broker's clock before this machine's
	refused chan broker.Refusal
	roll    roll
}

// Open connects, and listens from then on. ErrNoStream says that the streams are not set up.
func Open(ctx context.Context, c Config) (_ *Fleet, err error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	f := &Fleet{config: c, refused: make(chan broker.Refusal, 1), roll: roll{nodes: make(map[string]*entry)}}
	if f.config.Broker.Identity == nil {
		f.config.Broker.Identity = broker.PlainNATS{}
	}
	f.config.Broker.OnPermission = func(r broker.Refusal) {
		select {
		case f.refused <- r:
		default:
		}
	}
	if f.nc, err = broker.Connect(ctx, f.config.Broker); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.nc.Close()
		}
	}()
	if f.js, err = broker.JetStream(f.nc, c.StreamAPI); err != nil {
		return nil, err
	}
	within, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	if f.shared, err = broker.OpenShared(within, f.js); err != nil {
		return nil, fmt.Errorf("%w; are the streams set up (logforward setup), and may these credentials read them?", err)
	}
	now, err := f.shared.Clock(within)
	if err != nil {
		return nil, err
	}
	f.ahead = time.Until(now)
	if layout, err := f.shared.Layout(within); err == nil {
		f.config.Prefix = layout.Prefix
	} else if !errors.Is(err, broker.ErrNotFound) {
		return nil, err
	}
	if plain, ok := f.config.Broker.Identity.(broker.PlainNATS); ok {
		plain.Prefix = f.config.Prefix
		f.config.Broker.Identity = plain
	}
	// No queue group: beside the receivers, not instead of one.
	if _, err = f.nc.Subscribe(chunk.SyncSubject(f.config.Prefix, "*"), f.hear); err != nil {
		return nil, fmt.Errorf("listen to the nodes: %w", err)
	}
	if err = f.nc.FlushWithContext(within); err != nil {
		return nil, fmt.Errorf("listen to the nodes: %w", err)
	}
	return f, nil
}

// Close ends the connection.
func (f *Fleet) Close() { f.nc.Close() }

// Now is the broker's time.
func (f *Fleet) Now() time.Time { return time.Now().Add(f.ahead) }

// hear takes what a node says about itself.
func (f *Fleet) hear(m *nats.Msg) {
	identity, err := chunk.ParseSyncSubject(f.config.Prefix, m.Subject)
	if err != nil {
		f.config.Logger.Debug("a hello of nobody", "subject", m.Subject, "error", err)
		return
	}
	h, err := chunk.ParseHello(m.Data)
	if err != nil {
		f.config.Logger.Debug("a hello that is none", "identity", identity, "error", err)
		return
	}
	f.roll.heard(identity, h.Key, h.Pause, f.Now())
}

// Press sets a pause. Since is now by the broker's clock, and lasts is how long it holds; 0: until it is lifted.
func (f *Fleet) Press(ctx context.Context, p broker.Pause, lasts time.Duration) (broker.Button, error) {
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	p.Since = f.Now().UTC().Truncate(time.Millisecond)
	if lasts > 0 {
		p.Until = p.Since.Add(lasts)
	}
	return f.shared.Press(ctx, p)
}

// Release lifts the pause with exactly that glob, or all.
func (f *Fleet) Release(ctx context.Context, match string, all bool) (broker.Button, []broker.Pause, error) {
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	return f.shared.Release(ctx, match, all)
}

// Button reads the red button; the zero Button says that it was never touched.
func (f *Fleet) Button(ctx context.Context) (broker.Button, error) {
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	b, _, err := f.shared.Button(ctx)
	if errors.Is(err, broker.ErrNotFound) {
		err = nil
	}
	return b, err
}

// Call tells the nodes that concerned is true for of the button, and gathers who obeys, until all have confirmed or ctx ends,
// which is no error. progress gets a summary ten times a second. The last one is returned, with the nodes that are missing.
func (f *Fleet) Call(ctx context.Context, b broker.Button, concerned func(identity string) bool, progress func(Summary)) (Summary, error) {
	began, least := f.Now(), time.NewTimer(settle)
	defer least.Stop()
	listing, cancel := context.WithCancel(ctx)
	listed := make(chan error, 1)
	go func() { listed <- f.list(listing) }()
	defer func() {
		cancel()
		for listed != nil {
			<-listed
			listed = nil
		}
	}()
	tick, reread := time.NewTicker(pace), time.NewTicker(rereadEvery)
	defer tick.Stop()
	defer reread.Stop()
	settled := false
	end := func(err error) (Summary, error) {
		return f.roll.summary(&b, concerned, began, f.Now(), true), err
	}
	for {
		for _, identity := range f.roll.due(&b, concerned, f.Now()) {
			f.tell(&b, identity)
		}
		s := f.roll.summary(&b, concerned, began, f.Now(), false)
		progress(s)
		if settled && s.Complete() {
			return end(nil)
		}
		select {
		case <-ctx.Done():
			return end(nil)
		case r := <-f.refused:
			return end(fmt.Errorf("%w: to %s %s; the command needs the rights of a receiver", broker.ErrPermission, r.Op, r.Subject))
		case err := <-listed:
			listed = nil
			if err != nil && ctx.Err() == nil {
				return end(fmt.Errorf("list the nodes: %w", err))
			}
		case <-least.C:
			settled = true
		case <-reread.C:
			now, err := f.Button(ctx)
			if err == nil && now.Change > b.Change {
				b = now
				f.roll.again()
			}
		case <-tick.C:
		}
	}
}

// list enters the nodes of which something was ever committed.
func (f *Fleet) list(ctx context.Context) error {
	err := broker.Keys(ctx, f.js, broker.Positions, func(key string, written time.Time) {
		token, _, ofLog := strings.Cut(key, ".") // <identity>.<log>; other keys aren't about nodes
		if identity, err := chunk.ParseToken(token); ofLog && err == nil {
			f.roll.known(identity, written)
		}
	})
	if err == nil {
		f.roll.mu.Lock()
		f.roll.listed = true
		f.roll.mu.Unlock()
	}
	return err
}

// tell publishes to a node what the button says of it. A lost message costs nothing: it is told again. A node whose hello wasn't heard yet takes it for
// a hint, and says hello, unless a receiver has told it meanwhile.
func (f *Fleet) tell(b *broker.Button, identity string) {
	message, err := json.Marshal(&chunk.Control{Pause: Tell(b, identity, f.Now())})
	if err == nil {
		m := &nats.Msg{Subject: f.config.Broker.Identity.ControlSubject(chunk.Token(identity)), Data: message}
		if key := f.roll.keyOf(identity); key != "" {
			m.Header = nats.Header{chunk.MACHeader: {chunk.MAC(key, message)}}
		}
		err = f.nc.PublishMsg(m)
	}
	if err != nil {
		f.config.Logger.Debug("node not told", "identity", identity, "error", err)
	}
}
