// Package tap looks at logs on their way from the nodes to the receivers. It hears what nodes publish, as
// it is published, and puts each log's bytes in order. It takes nothing from a stream, and acknowledges
// nothing: receivers don't notice it.
//
// It is a view, not a record. What was published while nobody was listening isn't seen, and where chunks
// don't come within a while, it goes on behind them and says so. The central files have them.
package tap

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

const (
	// patience is how long a hole is waited for: the node goes back to it when it misses the
	// broker's acknowledgement, or when a receiver asks it to.
	patience = 5 * time.Second
	answer   = 10 * time.Second // within which the broker has to answer
	// maxLogs bounds how many logs are told apart; whoever may publish may invent them.
	maxLogs = 10_000
	// room is how many bytes and messages may wait for whoever reads.
	room, roomMessages = 64 << 20, 100_000
)

// Event is what is seen next of one log.
type Event struct {
	Identity string     `json:"identity"`          // of the node
	Log      string     `json:"log"`               // its name
	Epoch    uint64     `json:"epoch"`             // of the positions
	Position uint64     `json:"position"`          // of the first byte, or of what isn't there
	Data     []byte     `json:"data,omitempty"`    // the log's bytes
	Missing  uint64     `json:"missing,omitempty"` // positions that didn't come in time
	Gap      *chunk.Gap `json:"gap,omitempty"`     // what is lost for good
	Fork     bool       `json:"fork,omitempty"`    // the node's numbering has split: what follows isn't the continuation
}

// Tap follows logs. Identity and Log are names; "*" means all.
type Tap struct {
	Broker        broker.Options
	Prefix        string // of subjects
	Identity, Log string
	// Show is called with one event after the other. Data is the callee's until it returns.
	Show func(*Event) error
	// Listening is called once all is heard; nil: nobody is told.
	Listening func()
	// For is how long after that it ends by itself; 0: never.
	For time.Duration

	now  func() time.Time
	logs map[chunk.Subject]*view
}

// errOver ends a tap whose time is over.
var errOver = errors.New("its time is over")

// view is what is known of a log.
type view struct {
	epoch, next uint64
	digest      chunk.Digest
	hole        time.Time // since when something before what comes is missing; zero: nothing is
}

// Subject is where the logs' chunks are published.
func (t *Tap) Subject() string {
	token := func(name string) string {
		if name == "*" {
			return name
		}
		return chunk.Token(name)
	}
	return fmt.Sprintf("%s.*.%s.%s", t.Prefix, token(t.Identity), token(t.Log))
}

// Run shows what comes until ctx ends, which is no error. A broker that goes away is waited for.
func (t *Tap) Run(ctx context.Context) error {
	for _, name := range []string{t.Identity, t.Log} {
		if err := chunk.CheckName(name); err != nil && name != "*" {
			return err
		}
	}
	t.logs = map[chunk.Subject]*view{}
	if t.now == nil {
		t.now = time.Now
	}
	listening, end := context.WithCancelCause(ctx)
	defer end(nil)
	o := t.Broker
	refused := fmt.Errorf("the broker doesn't permit to listen to %s: whoever taps logs needs that right, such as by choria jwt client … --subscribe '%s.>'", t.Subject(), t.Prefix)
	o.OnPermission = func(broker.Refusal) { end(refused) }
	nc, err := broker.Connect(ctx, o)
	if err != nil {
		return err
	}
	defer nc.Close()
	decompressor, err := chunk.NewDecompressor()
	if err != nil {
		return err
	}
	defer decompressor.Close()
	sub, err := nc.SubscribeSync(t.Subject())
	if err == nil {
		err = sub.SetPendingLimits(roomMessages, room)
	}
	if err == nil {
		err = nc.FlushTimeout(answer)
	}
	if err != nil {
		return fmt.Errorf("listen to %s: %w", t.Subject(), err)
	}
	if t.Listening != nil {
		t.Listening()
	}
	if t.For > 0 {
		defer time.AfterFunc(t.For, func() { end(errOver) }).Stop()
	}
	for {
		m, err := sub.NextMsgWithContext(listening)
		switch {
		case ctx.Err() != nil, context.Cause(listening) == errOver:
			return nil
		case listening.Err() != nil:
			return context.Cause(listening)
		case errors.Is(err, nats.ErrSlowConsumer):
			continue // what wasn't kept shows as missing
		case errors.Is(err, nats.ErrPermissionViolation):
			return refused
		case err != nil:
			return fmt.Errorf("listen to %s: %w", t.Subject(), err)
		}
		if err := t.hear(decompressor, m); err != nil {
			return err
		}
	}
}

// hear shows what is new in a message. What is no chunk, such as a hello, is none of its business: receivers
// keep what they don't understand, and tell.
func (t *Tap) hear(d *chunk.Decompressor, m *nats.Msg) error {
	s, err := chunk.ParseSubject(t.Prefix, m.Subject)
	if err != nil {
		return nil
	}
	c, err := d.Decode(m.Header, m.Data)
	if err != nil {
		return nil
	}
	s.Partition = 0 // the log is the same after a change of layout
	return t.take(s, c)
}

// take shows what is new in a chunk.
func (t *Tap) take(s chunk.Subject, c *chunk.Chunk) error {
	v := t.logs[s]
	e := &Event{Identity: s.Identity, Log: s.Log, Epoch: c.Epoch, Position: c.Position}
	switch {
	case v == nil && len(t.logs) >= maxLogs:
		return fmt.Errorf("there are more than %d logs at %s; tap fewer", maxLogs, t.Subject())
	case v == nil:
		v = &view{epoch: c.Epoch, next: c.Position, digest: c.Digest}
		t.logs[s] = v
	case c.Epoch < v.epoch:
		return nil
	case c.Epoch > v.epoch:
		*v = view{epoch: c.Epoch, next: c.Position, digest: c.Digest}
	}
	switch {
	case c.End() <= v.next:
		return nil
	case c.Position > v.next && v.hole.IsZero():
		v.hole = t.now()
		return nil
	case c.Position > v.next && t.now().Sub(v.hole) < patience:
		return nil
	case c.Position > v.next:
		missing := *e
		missing.Position, missing.Missing = v.next, c.Position-v.next
		if err := t.Show(&missing); err != nil {
			return err
		}
	case c.Position == v.next && c.Digest != v.digest:
		e.Fork = true
	}
	data := c.Data
	if c.Gap == nil && c.Position < v.next {
		data, e.Position = data[v.next-c.Position:], v.next
	}
	v.next, v.digest, v.hole = c.End(), c.DigestAfter(), time.Time{}
	e.Data, e.Gap = data, c.Gap
	return t.Show(e)
}
