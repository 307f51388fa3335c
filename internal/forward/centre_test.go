package forward

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"logforward/internal/broker"
	"logforward/internal/chunk"
	"logforward/internal/freeport"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// centre is a broker with one stream for each partition, and a receiver that follows the
// protocol with its state in memory, so that it outlives the broker's store.
type centre struct {
	t       testing.TB
	log     *slog.Logger
	store   string
	listen  string
	server  *broker.Server
	nc      *nats.Conn
	layout  chunk.Layout
	key     atomic.Value           // string: the node's, of its last hello
	options jetstream.StreamConfig // what tests change of the streams

	mu     sync.Mutex
	logs   map[string]*got         // by token
	silent bool                    // says nothing: neither answers nor confirms
	idle   bool                    // answers, but takes no chunks
	busy   int                     // fetches under way
	blind  bool                    // knows nothing of any log yet: "not ready"
	pause  *chunk.Pause            // nil: it hasn't read the red button
	until  time.Time               // of the pause
	heard  []chunk.Obeyed          // notices
	obeys  *chunk.Obeyed           // as the last hello said
	lose   func(*chunk.Chunk) bool // a chunk that the broker "lost"
	hellos int
	met    map[string]chunk.HelloLog // what was last said of each log
	bytes  uint64                    // payload bytes that arrived, duplicates too
	chunks int
	stop   []context.CancelFunc
	record bool // what comes is kept for the seals to be checked
	// For benchmarks.
	discard bool // bytes are counted, not kept
	loops   sync.WaitGroup
}

// got is what the centre has of one log.
type got struct {
	chunk.Place
	data   []byte // over all epochs
	begin  []int  // where in data each epoch begins
	learnt chunk.Place
	next   chunk.Tail // a later start for the tail, as receivers keep one
	gaps   []chunk.Chunk
	forks  int
	epochs []uint64
	asked  uint64 // resend demanded in this round
	dups   int
	resend *chunk.Resend // repeated in answers: control messages may be lost
	fork   bool
	subj   map[string]int
	sealed map[uint64]*sealedEpoch
}

func newCentre(t testing.TB) *centre {
	t.Helper()
	c := &centre{
		t: t, log: testLog(t), store: filepath.Join(t.TempDir(), "store"), listen: freeAddress(t),
		layout: chunk.Layout{ID: "layout-1", Prefix: "logs", Partitions: 1},
		logs:   make(map[string]*got), met: make(map[string]chunk.HelloLog),
	}
	c.start()
	t.Cleanup(c.end)
	return c
}

func freeAddress(t testing.TB) string {
	t.Helper()
	address, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

func (c *centre) start() {
	c.t.Helper()
	s, err := broker.Serve(context.Background(), broker.ServerOptions{Listen: c.listen, Store: c.store, MaxStore: 4 << 30})
	if err != nil {
		c.t.Fatal(err)
	}
	c.server = s
	nc, err := nats.Connect(s.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	if err != nil {
		c.t.Fatal(err)
	}
	c.nc = nc
	c.setup()
	c.receive()
}

// setup makes the streams of the layout.
func (c *centre) setup() {
	js, err := jetstream.New(c.nc)
	if err != nil {
		c.t.Fatal(err)
	}
	for p := range c.layout.Partitions {
		config := c.options
		config.Name = fmt.Sprintf("LF_%s_%d", c.layout.Prefix, p)
		config.Subjects = []string{fmt.Sprintf("%s.%d.>", c.layout.Prefix, p)}
		config.Retention, config.Discard = jetstream.WorkQueuePolicy, jetstream.DiscardNew
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		_, err := js.CreateOrUpdateStream(ctx, config)
		cancel()
		if err != nil {
			c.t.Fatal(err)
		}
	}
}

// receive starts the receiver's loops on all streams of the layout.
func (c *centre) receive() {
	if _, err := c.nc.Subscribe(chunk.SyncSubject("logs", "*"), c.answer); err != nil {
		c.t.Fatal(err)
	}
	for p := range c.layout.Partitions {
		c.work(p)
	}
}

func (c *centre) work(p int) {
	ctx, cancel := context.WithCancel(context.Background())
	c.stop = append(c.stop, cancel)
	name := fmt.Sprintf("LF_%s_%d", c.layout.Prefix, p)
	prefix := c.layout.Prefix
	nc := c.nc
	c.loops.Go(func() {
		d, err := chunk.NewDecompressor()
		if err != nil {
			return
		}
		defer d.Close()
		js, _ := jetstream.New(nc)
		for ctx.Err() == nil {
			cons, err := js.CreateOrUpdateConsumer(ctx, name, jetstream.ConsumerConfig{
				Durable: "test", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 100000,
			})
			if err != nil {
				sleep(ctx, 20*time.Millisecond)
				continue
			}
			for ctx.Err() == nil {
				c.mu.Lock()
				silent := c.silent || c.idle
				if !silent {
					c.busy++
				}
				c.mu.Unlock()
				if silent {
					sleep(ctx, 5*time.Millisecond)
					continue
				}
				batch, err := cons.Fetch(500, jetstream.FetchMaxWait(50*time.Millisecond))
				var all []jetstream.Msg
				if err == nil {
					for m := range batch.Messages() {
						all = append(all, m)
					}
					c.takeAll(d, prefix, all)
				}
				c.with(func() { c.busy-- })
				if err != nil {
					break
				}
				if err := batch.Error(); err != nil && !errors.Is(err, nats.ErrTimeout) {
					break
				}
			}
		}
	})
}

func (c *centre) takeAll(d *chunk.Decompressor, prefix string, all []jetstream.Msg) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var control chunk.Control
	touched := map[string]*got{}
	for _, m := range all {
		s, err := chunk.ParseSubject(prefix, m.Subject())
		if err != nil {
			c.t.Errorf("subject: %v", err)
			continue
		}
		ch, err := d.Decode(m.Headers(), m.Data())
		if err != nil {
			c.t.Errorf("decode: %v", err)
			continue
		}
		if s.Identity != identity {
			c.t.Errorf("identity %q", s.Identity)
		}
		if len(m.Headers()[chunk.HeaderSeal]) > 0 && ch.Seal == nil {
			c.t.Errorf("%s at %d to %d: the seal isn't one of it: %s", s.Log, ch.Position, ch.End(), m.Headers().Get(chunk.HeaderSeal))
		}
		if c.record {
			c.log1(chunk.Token(s.Log)).keep(ch)
		}
		if c.lose != nil && c.lose(ch) {
			_ = m.Ack()
			continue
		}
		c.bytes += uint64(len(ch.Data))
		c.chunks++
		token := chunk.Token(s.Log)
		g := c.log1(token)
		g.subj[m.Subject()]++
		touched[token] = g
		was := g.Place
		c.judge(token, g, ch, &control)
		if c.record {
			g.took(was, ch)
		}
		_ = m.Ack()
	}
	if c.silent {
		return
	}
	for token, g := range touched {
		g.learnt = g.Place
		control.Confirm = append(control.Confirm, chunk.Confirm{Log: token, Epoch: g.Epoch, Position: g.Position, Digest: g.Digest})
	}
	if len(control.Confirm) > 0 {
		c.tell(control)
	}
}

func (c *centre) log1(token string) *got {
	g := c.logs[token]
	if g == nil {
		g = &got{subj: map[string]int{}}
		c.logs[token] = g
	}
	return g
}

// judge is the receiver's rule for one chunk.
func (c *centre) judge(token string, g *got, ch *chunk.Chunk, control *chunk.Control) {
	hole := func(from uint64) {
		r := chunk.Resend{Log: token, Epoch: ch.Epoch, From: from, Round: ch.Round}
		g.resend = &r
		if g.asked != ch.Round {
			g.asked = ch.Round
			control.Resend = append(control.Resend, r)
		}
	}
	fork := func() {
		g.forks++
		g.fork = true
		control.Fork = append(control.Fork, chunk.Fork{Log: token, Epoch: ch.Epoch, Known: g.Epoch})
	}
	if ch.Epoch < g.Epoch {
		fork()
		return
	}
	if ch.Epoch > g.Epoch {
		if ch.Position > 0 {
			hole(0)
			return
		}
		g.Place, g.next = chunk.Place{Epoch: ch.Epoch, Predecessor: ch.Predecessor, Sources: g.Sources}, chunk.Tail{}
		g.fork, g.resend = false, nil
		g.epochs = append(g.epochs, ch.Epoch)
		g.begin = append(g.begin, len(g.data))
	}
	if g.fork {
		return
	}
	skip := uint64(0)
	switch {
	case ch.Position > g.Position:
		hole(g.Position)
		return
	case ch.Position == g.Position:
		if ch.Digest != g.Digest {
			fork()
			return
		}
	case ch.End() > g.Position:
		skip = g.Position - ch.Position
		if ch.Gap == nil && ch.Digest.Update(ch.Data[:skip]) != g.Digest {
			fork()
			return
		}
	case ch.End() == g.Position && ch.DigestAfter() != g.Digest:
		if ch.Gap == nil {
			fork()
			return
		}
		skip = ch.Length
	default:
		g.dups++
		return
	}
	g.resend = nil
	if ch.Gap != nil {
		if skip < ch.Length {
			g.gaps = append(g.gaps, *ch)
		}
		g.Position, g.Digest = ch.End(), chunk.AfterGap(ch.End())
		g.Tail = chunk.Tail{From: g.Position, Digest: g.Digest}
		g.next = g.Tail
		return
	}
	if n := len(g.Sources); n == 0 || g.Sources[n-1].File != ch.File || g.Sources[n-1].Offset != ch.Offset+int64(skip) {
		g.Tail = chunk.Tail{From: g.Position, Digest: g.Digest}
		g.next = g.Tail
	}
	var sources []chunk.Source
	for _, s := range g.Sources {
		if s.File != ch.File {
			sources = append(sources, s)
		}
	}
	g.Sources = append(sources, chunk.Source{File: ch.File, Offset: ch.Offset + int64(ch.Length)})
	if !c.discard {
		g.data = append(g.data, ch.Data[skip:]...)
	}
	g.Position, g.Digest = ch.End(), ch.DigestAfter()
	if g.Position-g.next.From >= 64<<10 {
		g.Tail, g.next = g.next, chunk.Tail{From: g.Position, Digest: g.Digest}
	}
}

func (c *centre) tell(control chunk.Control) {
	b, err := json.Marshal(control)
	if err != nil {
		c.t.Error(err)
	}
	key, _ := c.key.Load().(string)
	_ = c.nc.PublishMsg(&nats.Msg{Subject: chunk.ControlSubject("logs", identity), Data: b, Header: nats.Header{chunk.MACHeader: {chunk.MAC(key, b)}}})
}

func (c *centre) answer(m *nats.Msg) {
	h, err := chunk.ParseHello(m.Data)
	if err != nil {
		c.t.Errorf("hello: %v", err)
		return
	}
	c.key.Store(h.Key)
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.Reply == "" {
		if h.Pause == nil || len(h.Logs) > 0 {
			c.t.Errorf("a notice says %s", m.Data)
			return
		}
		c.heard = append(c.heard, *h.Pause)
		return
	}
	c.hellos++
	c.obeys = h.Pause
	maps.Copy(c.met, h.Logs)
	if c.silent {
		return
	}
	layout := c.layout
	a := chunk.Answer{Ready: !c.blind, Receiver: "test", Layout: &layout, Pause: c.left(), Logs: map[string]chunk.AnswerLog{}}
	for token, l := range h.Logs {
		g := c.logs[token]
		one := chunk.AnswerLog{}
		if g != nil {
			g.learnt = g.Place
		}
		if g != nil && g.learnt.Epoch > 0 {
			one.Known, one.Place, one.Resend, one.Fork = true, g.learnt, g.resend, g.fork
			if l.Epoch == g.Epoch && l.Stored > g.Position && g.resend == nil && !c.pending(l.Partition, token) {
				one.Resend = &chunk.Resend{Log: token, Epoch: l.Epoch, From: g.Position, Round: l.Round}
			}
		} else if l.Epoch > 0 && l.Stored > 0 && !c.pending(l.Partition, token) {
			one.Resend = &chunk.Resend{Log: token, Epoch: l.Epoch, From: l.Confirmed, Round: l.Round}
		}
		a.Logs[token] = one
	}
	b, err := json.Marshal(a)
	if err != nil {
		c.t.Error(err)
	}
	_ = m.Respond(b)
}

// press gives the red button another state, and returns what control messages say of it.
func (c *centre) press(p chunk.Pause, lasts time.Duration) (said chunk.Pause) {
	c.with(func() {
		p.Change = 1
		if c.pause != nil {
			p.Change = c.pause.Change + 1
		}
		c.pause, c.until = &p, time.Time{}
		if lasts > 0 {
			c.until = time.Now().Add(lasts)
		}
		said = *c.left()
	})
	return said
}

// left is the pause with what is left of it. mu is held.
func (c *centre) left() *chunk.Pause {
	if c.pause == nil {
		return nil
	}
	p := *c.pause
	if !c.until.IsZero() {
		if p.Left = time.Until(c.until).Milliseconds(); p.Left <= 0 {
			return &chunk.Pause{Change: p.Change}
		}
	}
	return &p
}

// obeyed waits until the node has given notice of what it obeys.
func (c *centre) obeyed(what string, ok func(chunk.Obeyed) bool) (o chunk.Obeyed) {
	c.t.Helper()
	eventually(c.t, what, func() (found bool) {
		c.with(func() {
			if n := len(c.heard); n > 0 {
				o = c.heard[n-1]
				found = ok(o)
			}
		})
		return found
	})
	return o
}

func (c *centre) lastPause() (o *chunk.Obeyed) {
	c.with(func() { o = c.obeys })
	return o
}

// pending tells whether the stream that a node last published to still has messages of a
// log. What it hasn't was judged: messages are acknowledged after that, under the same lock.
func (c *centre) pending(p int, token string) bool {
	js, _ := jetstream.New(c.nc)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	s, err := js.Stream(ctx, fmt.Sprintf("LF_%s_%d", c.layout.Prefix, p))
	if err != nil {
		return true
	}
	subject := fmt.Sprintf("%s.%d.%s.%s", c.layout.Prefix, p, chunk.Token(identity), token)
	info, err := s.Info(ctx, jetstream.WithSubjectFilter(subject))
	return err != nil || len(info.State.Subjects) > 0
}

// halt stops receiver and broker; the store stays.
func (c *centre) halt() {
	for _, stop := range c.stop {
		stop()
	}
	c.stop = nil
	c.loops.Wait()
	if c.nc != nil {
		c.nc.Close()
		c.nc = nil
	}
	if c.server != nil {
		if err := c.server.Shutdown(); err != nil {
			c.t.Error(err)
		}
		c.server = nil
	}
}

func (c *centre) restart() { c.halt(); c.start() }

// wipe is a broker that lost its store.
func (c *centre) wipe() {
	c.halt()
	if err := os.RemoveAll(c.store); err != nil {
		c.t.Fatal(err)
	}
	c.start()
}

func (c *centre) end() { c.halt() }

// rest lets the receiver answer and take no chunks, or work again. No fetch is
// under way when it returns, so none takes what is sent from now on.
func (c *centre) rest(on bool) {
	c.with(func() { c.idle = on })
	eventually(c.t, "the receiver rests", func() bool { ok := false; c.with(func() { ok = !on || c.busy == 0 }); return ok })
}

// mute lets the receiver neither answer nor take anything, or speak again.
func (c *centre) mute(on bool) {
	c.with(func() { c.silent = on })
	eventually(c.t, "the receiver is silent", func() bool { ok := false; c.with(func() { ok = !on || c.busy == 0 }); return ok })
}

func (c *centre) with(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

func (c *centre) data(log string) (b []byte) {
	c.with(func() {
		if g := c.logs[chunk.Token(log)]; g != nil {
			b = bytes.Clone(g.data)
		}
	})
	return b
}

// look gives a copy of what the centre has of a log.
func (c *centre) look(log string) (g got) {
	c.with(func() {
		if p := c.logs[chunk.Token(log)]; p != nil {
			g = *p
			g.data, g.gaps = bytes.Clone(p.data), append([]chunk.Chunk(nil), p.gaps...)
			g.epochs, g.subj, g.sealed = append([]uint64(nil), p.epochs...), maps.Clone(p.subj), nil
		}
	})
	return g
}
