package receive

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

// sender is one log of a small node that obeys resend, fork and confirm. It keeps everything it ever made.
type sender struct {
	mu        sync.Mutex
	identity  string
	log       string
	epoch     uint64
	chunks    []*chunk.Chunk // of the epoch
	next      int            // chunk to be sent
	round     uint64
	confirmed uint64
	stored    uint64
	digests   map[uint64]chunk.Digest
	central   []byte // bytes of earlier epochs, as far as they were confirmed
	sealer    *nodeSeals
	wrong     error
}

func (x *sender) end() uint64 {
	if n := len(x.chunks); n > 0 {
		return x.chunks[n-1].End()
	}
	return 0
}

// grow makes the next chunk: bytes, or now and then a gap.
func (x *sender) grow(rng *rand.Rand) {
	c := &chunk.Chunk{Epoch: x.epoch, Predecessor: x.epoch - 1, Position: x.end(), File: "f", Digest: x.digests[x.end()]}
	if rng.IntN(40) == 0 {
		c.Length, c.Gap = 1+rng.Uint64N(100), &chunk.Gap{Cause: "test", Bytes: -1}
	} else {
		c.Data = fmt.Appendf(nil, "%s %d %s", x.log, c.Position, strings.Repeat("x", rng.IntN(300)))
		if rng.IntN(3) > 0 {
			c.Data = append(c.Data, '\n')
		}
		c.Length, c.Checksum, c.Offset = uint64(len(c.Data)), chunk.Sum(c.Data), int64(c.Position)
	}
	x.sealer.sign(c)
	x.chunks = append(x.chunks, c)
	x.digests[c.End()] = c.DigestAfter()
}

// back goes back to a position, for a resend that is of this round.
func (x *sender) back(r chunk.Resend) {
	if r.Epoch != x.epoch || r.Round != x.round {
		return
	}
	x.round++
	for i, c := range x.chunks {
		if c.End() > r.From {
			x.next = i
			return
		}
	}
}

func (x *sender) confirm(epoch, position uint64, digest chunk.Digest) {
	if epoch != x.epoch {
		return
	}
	if d, ok := x.digests[position]; !ok || d != digest {
		x.wrong = fmt.Errorf("%s: confirmed %d with digest %s, which is %s", x.log, position, digest, d)
		return
	}
	x.confirmed = max(x.confirmed, position)
}

// written is what must be central in the end, and the positions that are gaps.
func (x *sender) written() []byte {
	b := bytes.Clone(x.central)
	for _, c := range x.chunks {
		b = append(b, c.Data...)
	}
	return b
}

// crasher stops the world at a random operation.
type crasher struct {
	mu   sync.Mutex
	rng  *rand.Rand
	left int
	dead chan struct{}
	over bool
}

func (c *crasher) check(op string, done bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return errStopped
	}
	if c.left--; c.left > 0 {
		return nil
	}
	c.over = true
	close(c.dead)
	return errStopped
}

// TestRandomFaultsLoseNothing kills the receiver at random operations, over and over, while a node sends with
// losses, duplicates and repetitions. In the end the central bytes are the node's.
func TestRandomFaultsLoseNothing(t *testing.T) {
	seed := testSeed(t)
	rng := rand.New(rand.NewPCG(seed, 1))
	s := newSite(t, func(c *Config) {
		c.RotateSize, c.Compress, c.CommitInterval, c.MaxOpenFiles = 3000, "gzip", 10*time.Millisecond, 8
	})
	var logs []*sender
	for i := range 10 {
		x := &sender{identity: "web1", log: fmt.Sprintf("log.%d", i), epoch: 1, digests: map[uint64]chunk.Digest{0: 0}}
		if i%2 == 0 {
			x.sealer = newNodeSeals(x.identity, x.log, 1000)
		}
		logs = append(logs, x)
	}
	s.listenFor("web1", logs)
	finish := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		nodeLoop(s, logs, rand.New(rand.NewPCG(seed, 2)), finish)
	}()
	end := time.Now().Add(4 * time.Second)
	crashes := 0
	for time.Now().Before(end) {
		c := &crasher{rng: rng, left: 1 + rng.IntN(1<<(3+rng.IntN(9))), dead: make(chan struct{})}
		s.config.fault = c.check
		s.startReceiverOrCrash()
		if s.r != nil {
			select {
			case <-c.dead:
			case <-time.After(time.Duration(rng.IntN(500)) * time.Millisecond):
			}
			// A crash that comes before all of it has begun is an error of what begins.
			if err := s.stopReceiver(); err != nil && !errors.Is(err, errStopped) && !errors.Is(err, nats.ErrConnectionClosed) {
				t.Fatal(err)
			}
		}
		crashes++
	}
	s.config.fault = nil
	s.startReceiver()
	close(finish)
	<-stopped
	t.Logf("%d lives", crashes)
	for _, x := range logs {
		x.mu.Lock()
		if x.wrong != nil {
			t.Error(x.wrong)
		}
		if x.confirmed != x.end() {
			t.Errorf("%s: confirmed %d of %d", x.log, x.confirmed, x.end())
		}
		want := x.written()
		x.mu.Unlock()
		var got bytes.Buffer
		if _, err := Cat(&got, []string{s.config.Output}, "web1", x.log); err != nil {
			t.Error(err)
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%s: %d bytes, want %d, differ at %d", x.log, got.Len(), len(want), differ(got.Bytes(), want))
		}
		n := &node{s: s, identity: "web1", log: x.log, sealer: x.sealer}
		n.verify(Intact)
		if x.sealer != nil {
			if v := n.sealed(); v.Seals.Sealed != int64(len(want)) {
				t.Errorf("%s: %+v", x.log, v.Seals)
			}
		}
		checkLedger(t, x, n.ledger())
	}
}

func testSeed(t *testing.T) uint64 {
	seed := uint64(time.Now().UnixNano())
	if v := os.Getenv("LOGFORWARD_SEED"); v != "" {
		var err error
		if seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("LOGFORWARD_SEED=%d repeats the choices, though not their timing", seed)
	return seed
}

// listenFor has the senders of an identity obey what receivers say.
func (s *site) listenFor(identity string, logs []*sender) {
	s.t.Helper()
	_, err := s.nc.Subscribe(chunk.ControlSubject("logs", identity), func(m *nats.Msg) {
		c, err := chunk.ParseControl(m.Data)
		if err != nil {
			s.t.Error(err)
			return
		}
		for _, x := range logs {
			if x.identity == identity {
				x.obey(c)
			}
		}
	})
	s.must(err)
}

func (x *sender) obey(c *chunk.Control) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, y := range c.Confirm {
		if y.Log == chunk.Token(x.log) {
			x.confirm(y.Epoch, y.Position, y.Digest)
		}
	}
	for _, y := range c.Resend {
		if y.Log == chunk.Token(x.log) {
			x.back(y)
		}
	}
	for _, y := range c.Fork {
		if y.Log == chunk.Token(x.log) && y.Epoch >= x.epoch {
			x.wrong = fmt.Errorf("%s: a fork that isn't one: %+v, in epoch %d", x.log, y, x.epoch)
		}
	}
}

func (s *site) startReceiverOrCrash() {
	c := s.config
	c.Broker = broker.Options{Server: s.server}
	s.r = New(c)
	if err := s.r.Open(s.t.Context()); errors.Is(err, errStopped) {
		s.r = nil
		return
	} else if err != nil {
		s.t.Fatal(err)
	}
	s.run()
}

// nodeLoop sends until all is confirmed after finish is closed.
func nodeLoop(s *site, logs []*sender, rng *rand.Rand, finish chan struct{}) {
	publish := func(x *sender, c *chunk.Chunk) {
		copied := *c
		copied.Round = x.round
		s.pub.Publish(chunk.Subject{Prefix: "logs", Partition: chunk.Partition(x.identity, s.partitions), Identity: x.identity, Log: x.log}.String(), copied.Header(chunk.Plain), c.Data, func(broker.Ack) {})
	}
	finishing := false
	deadline := time.Time{}
	for turn := 0; ; turn++ {
		select {
		case <-finish:
			if !finishing {
				finishing, deadline = true, time.Now().Add(60*time.Second)
			}
		default:
		}
		done := true
		for _, x := range logs {
			x.mu.Lock()
			if !finishing && rng.IntN(3) == 0 {
				x.grow(rng)
			}
			for range 4 {
				if x.next >= len(x.chunks) {
					break
				}
				c := x.chunks[x.next]
				x.next++
				x.stored = max(x.stored, c.End())
				if !finishing && rng.IntN(50) == 0 {
					continue // lost
				}
				publish(x, c)
				if rng.IntN(20) == 0 {
					publish(x, c)
				}
				if rng.IntN(50) == 0 {
					publish(x, x.chunks[rng.IntN(x.next)])
				}
			}
			done = done && x.confirmed == x.end() && x.next == len(x.chunks)
			x.mu.Unlock()
		}
		if finishing && (done || time.Now().After(deadline)) {
			return
		}
		if turn%40 == 39 {
			hello(s, logs)
		}
		time.Sleep(time.Millisecond) // a node's pace
	}
}

// hello asks where all logs stand, an identity at a time.
func hello(s *site, logs []*sender) {
	byIdentity := make(map[string][]*sender)
	for _, x := range logs {
		byIdentity[x.identity] = append(byIdentity[x.identity], x)
	}
	for identity, logs := range byIdentity {
		helloOf(s, identity, logs)
	}
}

func helloOf(s *site, identity string, logs []*sender) {
	h := chunk.Hello{Instance: "x", Logs: map[string]chunk.HelloLog{}}
	for _, x := range logs {
		x.mu.Lock()
		h.Logs[chunk.Token(x.log)] = chunk.HelloLog{Epoch: x.epoch, Predecessor: x.epoch - 1, Stored: x.stored, Confirmed: x.confirmed, Digest: x.digests[x.confirmed], Round: x.round}
		x.mu.Unlock()
	}
	b, err := json.Marshal(h)
	if err != nil {
		return
	}
	m, err := s.nc.Request(chunk.SyncSubject("logs", identity), b, 300*time.Millisecond)
	if err != nil {
		return // nobody is there
	}
	a, err := chunk.ParseAnswer(m.Data)
	if err != nil || !a.Ready {
		return
	}
	for _, x := range logs {
		l := a.Logs[chunk.Token(x.log)]
		if l.Error != "" {
			continue
		}
		x.mu.Lock()
		if l.Fork {
			x.wrong = fmt.Errorf("%s: told of a fork: %+v", x.log, l)
		}
		if l.Known {
			x.confirm(l.Epoch, l.Position, l.Digest)
		}
		if l.Resend != nil {
			x.back(*l.Resend)
		}
		x.mu.Unlock()
	}
}

// checkLedger looks that the ledger tells each gap once, and that ranges, gaps and files add up to the log.
func checkLedger(t *testing.T, x *sender, entries []Entry) {
	t.Helper()
	var want, got []string
	for _, c := range x.chunks {
		if c.Gap != nil {
			want = append(want, fmt.Sprint(c.Position, c.End()))
		}
	}
	for _, e := range entries {
		switch e.Event {
		case EventGap:
			got = append(got, fmt.Sprint(e.From, e.To))
		case EventDamage, EventFork, EventRepair:
			t.Errorf("%s: %+v", x.log, e)
		}
	}
	if fmt.Sprint(want) != fmt.Sprint(got) {
		t.Errorf("%s: gaps %v, the ledger says %v", x.log, want, got)
	}
}
