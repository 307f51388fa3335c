package forward

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"logforward/internal/broker"
	"logforward/internal/tail"
)

const (
	identity = "web1.example.net"
	patience = 60 * time.Second
)

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
		time.Sleep(time.Millisecond) // the pace of looking, not what is waited for
	}
}

// testLog sends log lines to the test's output while that still runs.
func testLog(t testing.TB) *slog.Logger {
	level := slog.LevelWarn
	if testing.Verbose() {
		level = slog.LevelDebug
	}
	w := &testWriter{t: t}
	t.Cleanup(func() { w.mu.Lock(); w.t = nil; w.mu.Unlock() })
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: level}))
}

type testWriter struct {
	mu sync.Mutex
	t  testing.TB
}

func (w *testWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.t != nil {
		w.t.Log(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

// node is one node: a directory of log files and one of state.
type node struct {
	t      testing.TB
	c      *centre
	dir    string // of log files
	state  string
	change func(*Config)
	engine *Engine
	st     *State
	cancel context.CancelFunc
	ended  chan error
	logs   []Log
}

func newNode(t testing.TB, c *centre) *node {
	t.Helper()
	n := &node{t: t, c: c, dir: t.TempDir(), state: filepath.Join(t.TempDir(), "state")}
	t.Cleanup(n.crash)
	return n
}

func (n *node) path(log string) string { return filepath.Join(n.dir, log+".log") }

func (n *node) log(name string) Log {
	return Log{Name: name, Path: n.path(name), Destination: "central", Start: tail.StartBeginning}
}

func (n *node) config() Config {
	allowed, err := tail.ParseAllowed([]string{n.dir + "/**"})
	if err != nil {
		n.t.Fatal(err)
	}
	cfg := Config{
		Identity: identity, Allowed: allowed, State: n.st, Logger: n.c.log,
		Destinations: map[string]Destination{"central": {Broker: broker.Options{URLs: []string{n.c.listen}}}},
		Limits: Limits{
			Poll: 50 * time.Millisecond, Quiet: 20 * time.Millisecond, SyncInterval: 300 * time.Millisecond,
			Checkpoint: 50 * time.Millisecond, AckTimeout: time.Second, PartialWait: 30 * time.Millisecond,
		},
	}
	if *sealAll {
		n.seal(&cfg)
	}
	if n.change != nil {
		n.change(&cfg)
	}
	return cfg
}

func (n *node) start(logs ...Log) {
	n.t.Helper()
	st, err := OpenState(n.state, n.c.log)
	if err != nil {
		n.t.Fatal(err)
	}
	n.st = st
	n.engine = New(n.config())
	if err := n.engine.Open(context.Background()); err != nil {
		n.t.Fatal(err)
	}
	if logs != nil {
		n.logs = logs
	}
	n.engine.Set(n.logs)
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel, n.ended = cancel, make(chan error, 1)
	e, ended := n.engine, n.ended
	go func() { ended <- e.Run(ctx) }()
}

// stop ends in order.
func (n *node) stop() {
	n.t.Helper()
	if n.engine == nil {
		return
	}
	n.cancel()
	if err := <-n.ended; err != nil {
		n.t.Errorf("run: %v", err)
	}
	n.close()
}

// crash ends without a last checkpoint: what isn't on disk by now is lost.
func (n *node) crash() {
	if n.engine == nil {
		return
	}
	if err := n.st.Close(); err != nil { // from here on nothing reaches the disk
		n.t.Errorf("close state: %v", err)
	}
	n.cancel()
	<-n.ended
	n.close()
}

func (n *node) close() {
	if err := n.engine.Close(); err != nil {
		n.t.Errorf("close: %v", err)
	}
	if err := n.st.Close(); err != nil {
		n.t.Errorf("close state: %v", err)
	}
	n.engine, n.st = nil, nil
}

func (n *node) forget() {
	if err := os.RemoveAll(n.state); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) append(log string, b []byte) {
	n.t.Helper()
	f, err := os.OpenFile(n.path(log), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		n.t.Fatal(err)
	}
	if _, err := f.Write(b); err != nil {
		n.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		n.t.Fatal(err)
	}
}

// status is a log's, with its books checked.
func (n *node) status(log string) Status {
	n.t.Helper()
	for _, s := range n.engine.Status() {
		if s.HandedOut != s.Acknowledged+s.Unconfirmed+s.Gap {
			n.t.Fatalf("%s: %d positions handed out, but %d confirmed, %d unconfirmed, %d gap", s.Log, s.HandedOut, s.Acknowledged, s.Unconfirmed, s.Gap)
		}
		if s.Log == log {
			return s
		}
	}
	return Status{}
}

// delivered waits until the centre has exactly want, and the node knows it.
func (n *node) delivered(log string, want []byte) {
	n.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		have := n.c.data(log)
		s := n.status(log)
		if bytes.Equal(have, want) && s.State == Idle && s.Unconfirmed == 0 && s.LagBytes == 0 {
			return
		}
		if time.Now().After(deadline) {
			g := n.c.look(log)
			n.t.Fatalf("%s: the centre has %d bytes, want %d (equal up to %d); place %d/%d, gaps %d, forks %d, epochs %v; node: %+v",
				log, len(have), len(want), same(have, want), g.Epoch, g.Position, len(g.gaps), g.forks, g.epochs, s)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func same(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// lines makes numbered lines of random lengths.
func lines(r *rand.Rand, n int) []byte {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, "%06d %x %s\n", i, r.Uint64(), strings.Repeat("x", r.IntN(150)))
	}
	return b.Bytes()
}

func seeded(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}
