package receive

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

// site is a broker with a receiver, on directories that survive the restart of either.
type site struct {
	payload int // of the broker; 0: its default
	t       testing.TB
	dir     string
	server  *broker.Server
	config  Config
	r       *Receiver
	cancel  context.CancelFunc
	done    chan error
	nc      *nats.Conn
	pub     *broker.Publisher
	others  []*site // further receivers, made by beside

	partitions int
	sealing    int // nodes seal, in blocks of so many positions; 0: they don't
}

// beside is a further receiver of the site, on a disk of its own or in the same directory. It isn't started.
func (s *site) beside(name string, shared bool) *site {
	x := &site{t: s.t, dir: s.dir, server: s.server, nc: s.nc, pub: s.pub, config: s.config}
	x.config.Name, x.config.State = name, filepath.Join(s.dir, "state-"+name)
	if !shared {
		x.config.Output = filepath.Join(s.dir, "out-"+name)
	}
	x.config.Logger = s.config.Logger.With("receiver", name)
	s.t.Cleanup(func() { x.stopReceiver() })
	s.others = append(s.others, x)
	return x
}

// outputs are the directories of all receivers.
func (s *site) outputs() []string {
	list := []string{s.config.Output}
	for _, x := range s.others {
		list = append(list, x.config.Output)
	}
	return list
}

func newSite(t testing.TB, change func(*Config)) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir()}
	s.config = Config{Name: "r1", Output: filepath.Join(s.dir, "out"), State: filepath.Join(s.dir, "state"),
		CommitInterval: 20 * time.Millisecond, Sweep: 20 * time.Millisecond,
		LeaseInterval: 50 * time.Millisecond, LeaseTimeout: 500 * time.Millisecond, LeftoverGrace: 200 * time.Millisecond, Logger: testLogger(t)}
	if change != nil {
		change(&s.config)
	}
	t.Cleanup(func() {
		s.stopReceiver()
		s.stopBroker()
	})
	s.startBroker()
	s.setup(1)
	return s
}

func testLogger(t testing.TB) *slog.Logger {
	if testing.Verbose() {
		return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.DiscardHandler)
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// asking is a context for questions to the broker: on a busy machine it takes longer to answer than the client library waits where a context
// has no deadline.
func asking(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func (s *site) startBroker() {
	s.t.Helper()
	server, err := broker.Serve(s.t.Context(), broker.ServerOptions{Listen: "127.0.0.1:0", InProcess: true, Store: filepath.Join(s.dir, "store"), MaxPayload: s.payload})
	s.must(err)
	s.server = server
	s.nc, err = broker.Connect(s.t.Context(), broker.Options{Server: server})
	s.must(err)
	s.pub, err = broker.NewPublisher(s.nc, broker.PublisherOptions{Timeout: time.Minute})
	s.must(err)
}

func (s *site) stopBroker() {
	if s.server != nil {
		s.pub.Close()
		s.nc.Close()
		if err := s.server.Shutdown(); err != nil {
			s.t.Error(err)
		}
		s.server = nil
	}
}

func (s *site) setup(partitions int) {
	s.t.Helper()
	js, err := broker.JetStream(s.nc, "")
	s.must(err)
	_, err = broker.Setup(asking(s.t), js, broker.Wanted{Partitions: partitions})
	s.must(err)
	s.partitions = partitions
}

func (s *site) startReceiver() {
	s.t.Helper()
	c := s.config
	c.Broker = broker.Options{Server: s.server}
	s.r = New(c)
	s.must(s.r.Open(s.t.Context()))
	s.run()
}

func (s *site) run() {
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel, s.done = cancel, make(chan error, 1)
	r, done := s.r, s.done
	go func() { done <- r.Run(ctx) }()
}

// stopReceiver ends the receiver cleanly, or what is left of it after a fault, and returns Run's error.
func (s *site) stopReceiver() error {
	if s.r == nil {
		return nil
	}
	s.cancel()
	err := <-s.done
	if err2 := s.r.Close(); err2 != nil && err == nil {
		err = err2
	}
	s.r = nil
	return err
}

// eventually waits for a condition; what it says while it isn't met is shown when time is up.
func eventually(t testing.TB, what string, ok func() (bool, string)) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		good, last := ok()
		if good {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not in time; last: %s", what, last)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// node publishes a log's chunks as a forwarder does, but in whatever order a test wants.
type node struct {
	s        *site
	identity string
	log      string
	epoch    uint64
	prev     uint64
	position uint64
	digest   chunk.Digest
	round    uint64
	file     string
	offset   int64
	written  []byte // of all epochs
	sealer   *nodeSeals

	mu        sync.Mutex
	confirmed chunk.Confirm
	resends   []chunk.Resend
	forks     []chunk.Fork
	sub       *nats.Subscription
}

func (s *site) node(identity, log string) *node {
	s.t.Helper()
	n := &node{s: s, identity: identity, log: log, epoch: 1, file: "1:2:3:4"}
	if s.sealing > 0 {
		n.sealer = newNodeSeals(identity, log, uint64(s.sealing))
	}
	n.listen()
	return n
}

func (n *node) listen() {
	n.s.t.Helper()
	var err error
	n.sub, err = n.s.nc.Subscribe(chunk.ControlSubject("logs", n.identity), func(m *nats.Msg) {
		c, err := chunk.ParseControl(m.Data)
		if err != nil {
			n.s.t.Error(err)
			return
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		for _, x := range c.Confirm {
			if x.Log == chunk.Token(n.log) {
				n.confirmed = x
			}
		}
		n.resends = append(n.resends, c.Resend...)
		n.forks = append(n.forks, c.Fork...)
	})
	n.s.must(err)
	n.s.must(n.s.nc.Flush())
}

// make is the next chunk with these bytes; the node's position moves behind it.
func (n *node) make(data string) *chunk.Chunk {
	c := &chunk.Chunk{Epoch: n.epoch, Predecessor: n.prev, Position: n.position, Length: uint64(len(data)), Checksum: chunk.Sum([]byte(data)),
		Digest: n.digest, Round: n.round, File: n.file, Offset: n.offset, Data: []byte(data)}
	n.position, n.digest, n.offset = c.End(), c.DigestAfter(), n.offset+int64(len(data))
	n.written = append(n.written, data...)
	n.sealer.sign(c)
	return c
}

func (n *node) gap(length uint64) *chunk.Chunk {
	c := &chunk.Chunk{Epoch: n.epoch, Predecessor: n.prev, Position: n.position, Length: length, Digest: n.digest, Round: n.round, File: n.file, Offset: n.offset,
		Gap: &chunk.Gap{Cause: "truncated", Bytes: -1, Time: time.Now()}}
	n.position, n.digest = c.End(), c.DigestAfter()
	n.sealer.sign(c)
	return c
}

// send publishes chunks and waits until the broker has stored them.
func (n *node) send(chunks ...*chunk.Chunk) {
	n.s.t.Helper()
	for _, c := range chunks {
		n.raw(chunk.Subject{Prefix: "logs", Identity: n.identity, Log: n.log}.String(), c.Header(chunk.Plain), c.Data)
	}
}

func (n *node) raw(subject string, header map[string][]string, data []byte) {
	n.s.t.Helper()
	done := make(chan broker.Ack, 1)
	n.s.pub.Publish(subject, header, data, func(a broker.Ack) { done <- a })
	if a := <-done; a.Err != nil {
		n.s.t.Fatal(a.Err)
	}
}

func (n *node) hello(t testing.TB, h chunk.HelloLog) (*chunk.Answer, error) {
	t.Helper()
	b, err := json.Marshal(chunk.Hello{Instance: "x", Logs: map[string]chunk.HelloLog{chunk.Token(n.log): h}})
	n.s.must(err)
	m, err := n.s.request(n.identity, b)
	if err != nil {
		return nil, err
	}
	return chunk.ParseAnswer(m.Data)
}

// request asks again where no answer comes, as a node does: a receiver may be busy with much else.
func (s *site) request(identity string, hello []byte) (m *nats.Msg, err error) {
	for range 10 {
		if m, err = s.nc.Request(chunk.SyncSubject("logs", identity), hello, 2*time.Second); !errors.Is(err, nats.ErrTimeout) {
			break
		}
	}
	return m, err
}

// place asks until a receiver is ready to answer.
func (n *node) place(t testing.TB, h chunk.HelloLog) chunk.AnswerLog {
	t.Helper()
	var got chunk.AnswerLog
	eventually(t, "sync answer", func() (bool, string) {
		a, err := n.hello(t, h)
		if err != nil {
			return false, err.Error()
		}
		got = a.Logs[chunk.Token(n.log)]
		return a.Ready, "not yet"
	})
	return got
}

func (n *node) here() chunk.HelloLog {
	return chunk.HelloLog{Epoch: n.epoch, Predecessor: n.prev, Stored: n.position, Round: n.round}
}

// waitConfirmed waits until the node was told that everything it made is committed.
func (n *node) waitConfirmed() {
	n.s.t.Helper()
	eventually(n.s.t, "confirm", func() (bool, string) {
		n.mu.Lock()
		c := n.confirmed
		n.mu.Unlock()
		if c.Epoch == n.epoch && c.Position == n.position {
			if c.Digest != n.digest {
				n.s.t.Fatalf("confirmed digest %s, want %s", c.Digest, n.digest)
			}
			return true, ""
		}
		if a, err := n.hello(n.s.t, chunk.HelloLog{}); err == nil { // the message may have been lost
			if l := a.Logs[chunk.Token(n.log)]; l.Epoch == n.epoch && l.Position == n.position && l.Digest == n.digest {
				return true, ""
			}
		}
		return false, fmt.Sprintf("%+v, want epoch %d position %d", c, n.epoch, n.position)
	})
}

// central is what lies in the log's files, in order.
func (n *node) central() ([]byte, error) {
	var b bytes.Buffer
	_, err := Cat(&b, n.s.outputs(), n.identity, n.log)
	if errors.Is(err, ErrNoLedger) {
		err = nil
	}
	return b.Bytes(), err
}

// same fails unless the central files hold exactly what was written.
func (n *node) same() {
	n.s.t.Helper()
	got, err := n.central()
	n.s.must(err)
	if !bytes.Equal(got, n.written) {
		n.s.t.Fatalf("central files of %s/%s: %d bytes, want %d; first difference at %d\n%s", n.identity, n.log, len(got), len(n.written), differ(got, n.written), tree(n.s.dir))
	}
	n.verify(Intact, Unproved)
	if n.sealer != nil && n.s.server != nil {
		n.sealed()
	}
}

// verify computes the digests of the central files once more.
func (n *node) verify(want ...string) *Verification {
	n.s.t.Helper()
	v, err := Verify(n.s.t.Context(), n.s.outputs(), n.identity, n.log, n.proofs())
	n.s.must(err)
	if !slices.Contains(want, v.Verdict) {
		n.s.t.Fatalf("%s/%s is %s: %+v\n%s", n.identity, n.log, v.Verdict, v, tree(n.s.dir))
	}
	return v
}

// proofs are what the record has, as far as the broker can be asked.
func (n *node) proofs() []Proof {
	if n.s.server == nil {
		return nil
	}
	js, err := broker.JetStream(n.s.nc, "")
	n.s.must(err)
	var all []Proof
	// A connection that a busy machine lets fall behind is begun anew by the server, and the answer is lost with the old one.
	n.s.must(broker.Insist(asking(n.s.t), func(ctx context.Context) error {
		positions, err := broker.OpenRecords(ctx, js, n.s.pub, broker.Positions)
		if errors.Is(err, broker.ErrNoStream) {
			return nil
		}
		if err == nil {
			all, _, err = Proofs(ctx, positions, n.identity, n.log)
		}
		return err
	}))
	return all
}

// nodeSeals is how a node seals a log: each chunk has a seal up to its end. A nil one doesn't.
type nodeSeals struct {
	of    chunk.SealOf
	key   ed25519.PrivateKey
	block uint64 // positions behind which one ends
	from  uint64
	sum   hash.Hash
	prev  chunk.Hash // of the block before
	last  *chunk.Seal
	made  int // blocks that are complete
}

func newNodeSeals(identity, log string, block uint64) *nodeSeals {
	seed := sha256.Sum256([]byte(identity))
	return &nodeSeals{of: chunk.SealOf{Identity: identity, Log: log}, key: ed25519.NewKeyFromSeed(seed[:]), block: block, sum: sha256.New()}
}

// keys vouch for the node's key.
func (x *nodeSeals) keys() SealKeys {
	return SealKeys{x.of.Identity: {x.key.Public().(ed25519.PublicKey)}}
}

func (x *nodeSeals) sign(c *chunk.Chunk) {
	if x == nil {
		return
	}
	if c.Epoch != x.of.Epoch {
		x.end(0)
		x.of.Epoch = c.Epoch
	}
	if c.Gap != nil {
		if x.from < c.Position {
			c.Seal = x.last
		}
		x.end(c.End())
		return
	}
	x.sum.Write(c.Data)
	s := &chunk.Seal{From: x.from, To: c.End(), Prev: x.prev}
	x.sum.Sum(s.Sum[:0])
	s.Sign(x.of, x.key, time.Unix(1e9, 0))
	c.Seal, x.last = s, s
	if s.To-s.From >= x.block {
		x.end(s.To)
	}
}

// end has the next block begin at a position.
func (x *nodeSeals) end(at uint64) {
	if x.last != nil {
		x.prev, x.last = x.last.ID(x.of), nil
		x.made++
	}
	x.from = at
	x.sum.Reset()
}

// sealed looks at the seals: all that was confirmed must be under them, and their chain be whole.
func (n *node) sealed() *Verification {
	n.s.t.Helper()
	v := n.askSeals(n.recorded(SealOptions{Keys: n.sealer.keys(), All: true}))
	if v.Verdict != Intact && v.Verdict != Unproved || !v.Seals.Unbroken || v.Seals.Broken != 0 || v.Seals.Unsealed != 0 {
		n.s.t.Fatalf("%s/%s is %s: %+v, %+v\n%s", n.identity, n.log, v.Verdict, v, v.Seals, tree(n.s.dir))
	}
	return v
}

// recorded adds the record's seal to what is asked.
func (n *node) recorded(o SealOptions) SealOptions {
	n.s.t.Helper()
	_, seal, err := Proofs(n.s.t.Context(), n.s.records(), n.identity, n.log)
	n.s.must(err)
	o.Recorded = seal
	return o
}

func (n *node) askSeals(o SealOptions) *Verification {
	n.s.t.Helper()
	v, err := VerifySealed(n.s.t.Context(), n.s.outputs(), n.identity, n.log, n.proofs(), o)
	n.s.must(err)
	return v
}

func differ(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

func tree(dir string) string {
	var b bytes.Buffer
	filepath.Walk(dir, func(p string, i os.FileInfo, err error) error {
		if err == nil && !i.IsDir() {
			fmt.Fprintf(&b, "%8d %s\n", i.Size(), p)
			if filepath.Ext(p) == ".jsonl" {
				text, _ := os.ReadFile(p)
				b.Write(text)
			}
		}
		return nil
	})
	return b.String()
}

func (s *site) stream(partition int) *jetstream.StreamInfo {
	s.t.Helper()
	js, err := broker.JetStream(s.nc, "")
	s.must(err)
	stream, err := js.Stream(asking(s.t), streamName(partition))
	s.must(err)
	return stream.CachedInfo()
}

func pause() { time.Sleep(5 * time.Millisecond) }
