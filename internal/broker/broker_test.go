package broker_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"logforward/internal/broker"
)

// within is how long a test waits for what must happen.
const within = time.Minute

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func testLogger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// serve starts a server on a temporary store and a free port of loopback.
func serve(t testing.TB, o broker.ServerOptions) *broker.Server {
	t.Helper()
	if o.Store == "" {
		o.Store = t.TempDir()
	}
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.Logger == nil {
		o.Logger = testLogger(t)
	}
	s, err := broker.Serve(testContext(t), o)
	if err != nil {
		t.Fatalf("serve: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Shutdown(); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	return s
}

func connect(t testing.TB, o broker.Options) *nats.Conn {
	t.Helper()
	if o.Logger == nil {
		o.Logger = testLogger(t)
	}
	nc, err := broker.Connect(testContext(t), o)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func streamAPI(t testing.TB, nc *nats.Conn) jetstream.JetStream {
	t.Helper()
	js, err := broker.JetStream(nc, "")
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// setUp makes streams and buckets.
func setUp(t testing.TB, js jetstream.JetStream, w broker.Wanted) {
	t.Helper()
	if _, err := broker.Setup(testContext(t), js, w); err != nil {
		t.Fatalf("setup: %v", err)
	}
}

func newPublisher(t testing.TB, nc *nats.Conn, o broker.PublisherOptions) *broker.Publisher {
	t.Helper()
	p, err := broker.NewPublisher(nc, o)
	if err != nil {
		t.Fatalf("publisher: %v", err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("close the publisher: %v", err)
		}
	})
	return p
}

// publish publishes and waits for the outcome.
func publish(t testing.TB, p *broker.Publisher, subject, payload string) broker.Ack {
	t.Helper()
	acks := make(chan broker.Ack, 1)
	p.Publish(subject, nil, []byte(payload), func(a broker.Ack) { acks <- a })
	return receive(t, acks, "the outcome of a publish")
}

func receive[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(within):
		t.Fatalf("waited %s for %s", within, what)
		panic("unreachable")
	}
}

// eventually waits for a condition that nothing announces.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for %s", within, what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func wantError(t testing.TB, err error, kinds ...error) {
	t.Helper()
	for _, kind := range kinds {
		if !errors.Is(err, kind) {
			t.Errorf("error is %v (%T), want one that is %v", err, err, kind)
		}
	}
}
