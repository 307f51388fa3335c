package pipe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"logforward/internal/broker"
	"logforward/internal/freeport"
	"logforward/internal/receive"
)

const patience = 90 * time.Second

// rig is a broker, a receiver and nodes in this process, on directories that outlive each of them.
type rig struct {
	t      testing.TB
	dir    string
	port   int // of the broker, also after its restart
	wanted broker.Wanted
	log    *slog.Logger
	pace   time.Duration // of looking whether something has happened

	server *broker.Server
	serve  broker.ServerOptions

	hears     *link // between receiver and broker
	receiving receive.Config
	receiver  *receive.Receiver
	cancel    context.CancelFunc
	received  chan error

	node *node // the first one
}

// newRig starts all but the nodes; change may adapt the receiver.
func newRig(t testing.TB, change ...func(*rig)) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), port: freePort(t), log: testLog(t), pace: 5 * time.Millisecond, wanted: broker.Wanted{Partitions: 2}}
	r.serve = broker.ServerOptions{Listen: fmt.Sprintf("127.0.0.1:%d", r.port), Store: r.path("store")}
	r.receiving = receive.Config{
		Name: "r1", Output: r.path("received"), State: r.path("centre"), Logger: r.log.With("at", "receiver"),
		RotateSize: 64 << 10, Compress: "zstd", CommitInterval: 20 * time.Millisecond, Sweep: 50 * time.Millisecond,
	}
	for _, c := range change {
		c(r)
	}
	t.Cleanup(r.stopBroker)
	r.startBroker()
	r.setup(r.wanted)
	r.hears = newLink(t, r.serve.Listen)
	t.Cleanup(r.stopReceiver)
	r.node = r.newNode(identity)
	r.startReceiver()
	return r
}

func freePort(t testing.TB) int {
	t.Helper()
	port, err := freeport.Port()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// eventually repeats a check until it succeeds; its last error is shown when time is up.
func (r *rig) eventually(what string, check func() error) {
	r.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			r.show()
			r.t.Fatalf("%s: not within %s: %v", what, patience, err)
		}
		time.Sleep(r.pace) // of looking; it isn't what is waited for
	}
}

// --- broker

func (r *rig) startBroker() {
	r.t.Helper()
	server, err := broker.Serve(r.t.Context(), r.serve)
	r.must(err)
	r.server = server
}

func (r *rig) stopBroker() {
	if r.server == nil {
		return
	}
	if err := r.server.Shutdown(); err != nil {
		r.t.Errorf("broker: %v", err)
	}
	r.server = nil
}

// administer calls do with a connection that may do everything.
func (r *rig) administer(do func(ctx context.Context, nc *nats.Conn, js jetstream.JetStream) error) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	nc, err := broker.Connect(ctx, broker.Options{URLs: []string{r.serve.Listen}})
	r.must(err)
	defer nc.Close()
	js, err := broker.JetStream(nc, "")
	r.must(err)
	r.must(do(ctx, nc, js))
}

func (r *rig) setup(w broker.Wanted) {
	r.t.Helper()
	r.administer(func(ctx context.Context, _ *nats.Conn, js jetstream.JetStream) error {
		_, err := broker.Setup(ctx, js, w)
		return err
	})
}

// wipeStore deletes what the stopped broker kept, and starts it as a new one.
func (r *rig) wipeStore() {
	r.t.Helper()
	r.must(os.RemoveAll(r.serve.Store))
	r.startBroker()
	r.setup(r.wanted)
}

// wipeStreams deletes all streams and buckets of the running broker and makes them again.
func (r *rig) wipeStreams() {
	r.t.Helper()
	r.administer(func(ctx context.Context, _ *nats.Conn, js jetstream.JetStream) error {
		var all []string
		names := js.StreamNames(ctx)
		for name := range names.Name() {
			all = append(all, name)
		}
		err := names.Err()
		for _, name := range all {
			err = errors.Join(err, js.DeleteStream(ctx, name))
		}
		return err
	})
	r.setup(r.wanted)
}

// --- receiver

func (r *rig) startReceiver() {
	r.t.Helper()
	c := r.receiving
	c.Broker = broker.Options{URLs: []string{r.hears.address}}
	r.receiver = receive.New(c)
	r.must(r.receiver.Open(r.t.Context()))
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel, r.received = cancel, make(chan error, 1)
	x, received := r.receiver, r.received
	go func() { received <- x.Run(ctx) }()
}

// stopReceiver ends in order.
func (r *rig) stopReceiver() {
	r.t.Helper()
	if r.receiver == nil {
		return
	}
	if err := r.endReceiver(); err != nil {
		r.t.Errorf("receiver: %v", err)
	}
}

func (r *rig) endReceiver() error {
	r.cancel()
	err := <-r.received
	if cerr := r.receiver.Close(); cerr != nil {
		err = errors.Join(err, fmt.Errorf("close: %w", cerr))
	}
	r.receiver = nil
	return err
}

// crashReceiver ends it without a last commit: the connection goes first, and what was appended
// since the last commit is cut back by the next start.
func (r *rig) crashReceiver() {
	r.t.Helper()
	if r.receiver == nil {
		return
	}
	r.hears.set(true)
	r.eventually("the receiver to lose its connection", func() error {
		if r.receiver.Status(r.t.Context()).Connected {
			return errors.New("connected")
		}
		return nil
	})
	if err := r.endReceiver(); err != nil {
		r.t.Logf("crashed receiver: %v", err) // nobody hears what a crashed one says
	}
	r.hears.set(false)
}

func (r *rig) restartReceiver() {
	r.t.Helper()
	r.stopReceiver()
	r.startReceiver()
}

// relieve has another receiver, which writes to the same directory and knows nothing by itself, take over from the one that is
// there, if one is.
func (r *rig) relieve() {
	r.t.Helper()
	r.stopReceiver()
	r.receiving.Name += "x"
	r.receiving.State = r.path("centre-" + r.receiving.Name)
	r.startReceiver()
}

// --- what is seen of all that

// testLog sends log lines to the test's output while that still runs.
func testLog(t testing.TB) *slog.Logger {
	level := slog.LevelInfo
	if os.Getenv("LOGFORWARD_TEST_DEBUG") != "" {
		level = slog.LevelDebug
	}
	w := &testOutput{t: t}
	t.Cleanup(func() { w.mu.Lock(); w.t = nil; w.mu.Unlock() })
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

type testOutput struct {
	mu sync.Mutex
	t  testing.TB
}

func (w *testOutput) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.t != nil {
		w.t.Log(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

// show prints what lies about, for a test that has failed.
func (r *rig) show() {
	if r.node.engine != nil {
		for _, s := range r.node.engine.Status() {
			r.t.Logf("node: %+v", s)
		}
		r.t.Logf("destinations: %+v", r.node.engine.Destinations())
	}
	if r.receiver != nil {
		r.t.Logf("receiver: %+v", r.receiver.Status(r.t.Context()))
	}
	for _, dir := range []string{r.path("received"), r.path("nodes")} {
		_ = filepath.Walk(dir, func(p string, i os.FileInfo, err error) error {
			if err != nil || i.IsDir() {
				return nil
			}
			text := ""
			if filepath.Ext(p) == ".jsonl" {
				b, _ := os.ReadFile(p)
				text = "\n" + string(b[max(0, len(b)-6000):])
			}
			r.t.Logf("%9d %s%s", i.Size(), strings.TrimPrefix(p, r.dir), text)
			return nil
		})
	}
}
