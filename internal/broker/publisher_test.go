package broker_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"logforward/internal/broker"
	"logforward/internal/freeport"
)

func TestPublishReportsWhereItWasStored(t *testing.T) {
	nc := connect(t, broker.Options{Server: serve(t, broker.ServerOptions{InProcess: true})})
	js := streamAPI(t, nc)
	setUp(t, js, broker.Wanted{Partitions: 1})
	p := newPublisher(t, nc, broker.PublisherOptions{})

	const n = 2000
	acks := make(chan broker.Ack, n)
	for i := range n {
		p.Publish("logs.0.node.log", nats.Header{"Lf-Position": {fmt.Sprint(i)}}, fmt.Appendf(nil, "chunk %d", i),
			func(a broker.Ack) { acks <- a })
	}
	var first uint64
	for i := range n {
		a := receive(t, acks, "an acknowledgement")
		if a.Err != nil || a.Stream != "LOGFORWARD_0" {
			t.Fatalf("acknowledgement %d: %+v", i, a)
		}
		if i == 0 {
			first = a.Sequence
		}
		if a.Sequence != first+uint64(i) {
			t.Fatalf("acknowledgement %d has sequence %d, want %d", i, a.Sequence, first+uint64(i))
		}
	}
	eventually(t, "no message under way", func() bool { return p.Pending() == 0 })
	// The stream holds what was published, in order, headers too.
	stream, err := js.Stream(testContext(t), "LOGFORWARD_0")
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{0, 1, n - 1} {
		m, err := stream.GetMsg(testContext(t), first+uint64(i))
		if err != nil {
			t.Fatal(err)
		}
		if string(m.Data) != fmt.Sprintf("chunk %d", i) || m.Header.Get("Lf-Position") != fmt.Sprint(i) {
			t.Errorf("message %d holds %q %v", i, m.Data, m.Header)
		}
	}
	// Microseconds, and not from 1.
	if age := time.Since(time.UnixMicro(int64(first))); age < 0 || age > time.Minute {
		t.Errorf("first sequence %d is no recent time in microseconds", first)
	}
}

func TestPublishLetsThePayloadBeReused(t *testing.T) {
	nc := connect(t, broker.Options{Server: serve(t, broker.ServerOptions{InProcess: true})})
	js := streamAPI(t, nc)
	setUp(t, js, broker.Wanted{Partitions: 1})
	p := newPublisher(t, nc, broker.PublisherOptions{})
	const n = 300
	acks := make(chan broker.Ack, n)
	payload := make([]byte, 5000)
	for i := range n {
		for j := range payload {
			payload[j] = byte(i)
		}
		p.Publish("logs.0.node.log", nil, payload, func(a broker.Ack) { acks <- a })
		clear(payload) // ours again
	}
	stream, err := js.Stream(testContext(t), "LOGFORWARD_0")
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		a := receive(t, acks, "an acknowledgement")
		if a.Err != nil {
			t.Fatal(a.Err)
		}
		m, err := stream.GetMsg(testContext(t), a.Sequence)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(m.Data, bytes.Repeat([]byte{byte(i)}, 5000)) {
			t.Fatalf("message %d was changed after it was published", i)
		}
	}
}

func TestPublishFailures(t *testing.T) {
	s := serve(t, broker.ServerOptions{MaxPayload: 4096})
	nc := connect(t, broker.Options{URLs: []string{s.URL()}})
	js := streamAPI(t, nc)
	setUp(t, js, broker.Wanted{Partitions: 1})
	for _, config := range []jetstream.StreamConfig{
		{Name: "COUNT", Subjects: []string{"count"}, MaxMsgs: 1, Discard: jetstream.DiscardNew},
		{Name: "BYTES", Subjects: []string{"bytes"}, MaxBytes: 200, Discard: jetstream.DiscardNew},
		{Name: "SUBJECT", Subjects: []string{"subject"}, MaxMsgsPerSubject: 1, Discard: jetstream.DiscardNew, DiscardNewPerSubject: true},
		{Name: "SMALL", Subjects: []string{"small"}, MaxMsgSize: 10},
		{Name: "SEALED", Subjects: []string{"sealed"}},
	} {
		config.Retention = jetstream.LimitsPolicy
		if _, err := js.CreateStream(testContext(t), config); err != nil {
			t.Fatal(err)
		}
		if config.Name == "SEALED" {
			config.Sealed = true
			if _, err := js.UpdateStream(testContext(t), config); err != nil {
				t.Fatal(err)
			}
		}
	}
	p := newPublisher(t, nc, broker.PublisherOptions{})
	for _, c := range []struct {
		name, subject, payload string
		header                 nats.Header
		first                  bool // a first message is taken
		kind                   error
		retryable              bool
	}{
		{name: "no stream", subject: "nobody.listens", kind: broker.ErrNoStream, retryable: true},
		{name: "messages", subject: "count", first: true, kind: broker.ErrStreamFull, retryable: true},
		{name: "bytes", subject: "bytes", first: true, payload: strings.Repeat("x", 100), kind: broker.ErrStreamFull, retryable: true},
		{name: "messages of a subject", subject: "subject", first: true, kind: broker.ErrStreamFull, retryable: true},
		{name: "bigger than the stream takes", subject: "small", payload: strings.Repeat("x", 100), kind: broker.ErrPayloadTooBig},
		{name: "bigger than the server takes", subject: "logs.0.a.b", payload: strings.Repeat("x", 5000), kind: broker.ErrPayloadTooBig},
		{name: "headers count", subject: "logs.0.a.b", payload: strings.Repeat("x", 4000), header: nats.Header{"Lf-File": {strings.Repeat("x", 200)}}, kind: broker.ErrPayloadTooBig},
		{name: "wrong revision", subject: "logs.0.a.b", header: nats.Header{"Nats-Expected-Last-Subject-Sequence": {"7"}}, kind: broker.ErrWrongRevision},
		{name: "sealed", subject: "sealed"},
		{name: "malformed subject", subject: "a b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.first {
				if a := publish(t, p, c.subject, c.payload); a.Err != nil {
					t.Fatalf("first: %v", a.Err)
				}
			}
			acks := make(chan broker.Ack, 1)
			p.Publish(c.subject, c.header, []byte(c.payload), func(a broker.Ack) { acks <- a })
			a := receive(t, acks, "the outcome")
			if a.Err == nil {
				t.Fatalf("stored: %+v", a)
			}
			if c.kind != nil {
				wantError(t, a.Err, c.kind)
			}
			if broker.Retryable(a.Err) != c.retryable {
				t.Errorf("retryable is %v: %v", !c.retryable, a.Err)
			}
			if broker.OutcomeUnknown(a.Err) {
				t.Errorf("outcome is called unknown: %v", a.Err)
			}
			if !strings.Contains(a.Err.Error(), fmt.Sprintf("publish %d bytes to %s: ", len(c.payload), c.subject)) {
				t.Errorf("message doesn't say what and where: %v", a.Err)
			}
		})
	}
}

func TestPublishStreamDeletedMeanwhile(t *testing.T) {
	nc := connect(t, broker.Options{Server: serve(t, broker.ServerOptions{InProcess: true})})
	js := streamAPI(t, nc)
	setUp(t, js, broker.Wanted{Partitions: 1})
	p := newPublisher(t, nc, broker.PublisherOptions{Timeout: time.Second})
	const n = 500
	acks := make(chan broker.Ack, n)
	for i := range n {
		if i == n/2 {
			if err := js.DeleteStream(testContext(t), "LOGFORWARD_0"); err != nil {
				t.Fatal(err)
			}
		}
		p.Publish("logs.0.node.log", nil, []byte("x"), func(a broker.Ack) { acks <- a })
	}
	var stored, missing, silent int
	for range n {
		a := receive(t, acks, "an outcome")
		switch {
		case a.Err == nil:
			stored++
		case broker.OutcomeUnknown(a.Err):
			silent++ // taken into the stream's queue and dropped with it
		default:
			wantError(t, a.Err, broker.ErrNoStream)
			missing++
		}
	}
	if stored+silent < n/2 || missing == 0 {
		t.Errorf("%d stored, %d without answer, %d without stream", stored, silent, missing)
	}
}

// A subject that someone listens to and nobody answers on.
func TestPublishTimesOut(t *testing.T) {
	nc := connect(t, broker.Options{Server: serve(t, broker.ServerOptions{InProcess: true})})
	heard := make(chan *nats.Msg, 1)
	if _, err := nc.ChanSubscribe("silent", heard); err != nil {
		t.Fatal(err)
	}
	p := newPublisher(t, nc, broker.PublisherOptions{Timeout: 50 * time.Millisecond})
	var calls atomic.Int32
	acks := make(chan broker.Ack, 10)
	begin := time.Now()
	p.Publish("silent", nil, []byte("x"), func(a broker.Ack) { calls.Add(1); acks <- a })
	a := receive(t, acks, "the timeout")
	wantError(t, a.Err, broker.ErrTimeout)
	// One that was at rest, with nothing to wait for, begins to look at the time again.
	for !p.Resting() {
		time.Sleep(time.Millisecond) // of looking
	}
	<-heard
	p.Publish("silent", nil, []byte("x"), func(a broker.Ack) { acks <- a })
	a = receive(t, acks, "the timeout after a rest")
	wantError(t, a.Err, broker.ErrTimeout)
	if took := time.Since(begin); took < 50*time.Millisecond {
		t.Errorf("timed out after %s", took)
	}
	if !broker.OutcomeUnknown(a.Err) || !broker.Retryable(a.Err) {
		t.Errorf("outcome must be unknown and worth a retry: %v", a.Err)
	}
	// An answer that comes too late is no second outcome.
	m := receive(t, heard, "the message")
	if err := m.Respond([]byte(`{"stream":"S","seq":1}`)); err != nil {
		t.Fatal(err)
	}
	// The same subscription hears a later answer after that one.
	p.Publish("silent", nil, []byte("y"), func(a broker.Ack) { acks <- a })
	m = receive(t, heard, "the second message")
	if err := m.Respond([]byte(`{"stream":"S","seq":2,"duplicate":true}`)); err != nil {
		t.Fatal(err)
	}
	if a := receive(t, acks, "the second outcome"); a.Err != nil || a.Sequence != 2 || !a.Duplicate {
		t.Errorf("second outcome: %+v", a)
	}
	if n := calls.Load(); n != 1 {
		t.Errorf("done was called %d times", n)
	}
}

func TestPublishUnintelligibleAnswer(t *testing.T) {
	nc := connect(t, broker.Options{Server: serve(t, broker.ServerOptions{InProcess: true})})
	for _, text := range []string{"", "what?", "{}", `{"stream":"S"}`, `{"stream":"S","seq":0}`, `{"stream":"S","seq":-1}`} {
		t.Run(text, func(t *testing.T) {
			sub, err := nc.Subscribe("odd", func(m *nats.Msg) { _ = m.Respond([]byte(text)) })
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = sub.Unsubscribe() }()
			p := newPublisher(t, nc, broker.PublisherOptions{})
			a := publish(t, p, "odd", "x")
			if a.Err == nil || !broker.OutcomeUnknown(a.Err) {
				t.Errorf("outcome: %+v", a)
			}
		})
	}
}

// The server goes away with messages under way; each ends once, and afterwards
// publishing works again on the new connection.
func TestPublishOverServerRestart(t *testing.T) {
	store, address := t.TempDir(), freeAddress(t)
	s, err := broker.Serve(testContext(t), broker.ServerOptions{Listen: address, Store: store})
	if err != nil {
		t.Fatal(err)
	}
	reconnected := make(chan struct{}, 10)
	nc := connect(t, broker.Options{URLs: []string{"nats://" + address},
		OnReconnect: func(*nats.Conn) { reconnected <- struct{}{} }})
	js := streamAPI(t, nc)
	setUp(t, js, broker.Wanted{Partitions: 1})
	silent, err := nc.SubscribeSync("silent")
	if err != nil {
		t.Fatal(err)
	}
	p := newPublisher(t, nc, broker.PublisherOptions{Timeout: time.Hour}) // only the disconnect ends them

	var mu sync.Mutex
	outcomes := make(map[int]int)
	failures := make(chan error, 100)
	for i := range 100 {
		p.Publish("silent", nil, []byte("x"), func(a broker.Ack) {
			mu.Lock()
			outcomes[i]++
			mu.Unlock()
			failures <- a.Err
		})
	}
	// All have reached the server.
	for range 100 {
		if _, err := silent.NextMsg(within); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Shutdown(); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		err := receive(t, failures, "a failure after the disconnect")
		wantError(t, err, broker.ErrDisconnected)
		if !broker.OutcomeUnknown(err) {
			t.Errorf("outcome must be unknown: %v", err)
		}
	}
	// While there is no server a publish fails at once, and surely sent nothing.
	a := publish(t, p, "logs.0.node.log", "while down")
	wantError(t, a.Err, broker.ErrDisconnected)
	if broker.OutcomeUnknown(a.Err) {
		t.Errorf("nothing can have been stored: %v", a.Err)
	}

	s, err = broker.Serve(testContext(t), broker.ServerOptions{Listen: address, Store: store})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Shutdown() })
	receive(t, reconnected, "the reconnect")
	if a := publish(t, p, "logs.0.node.log", "after"); a.Err != nil {
		t.Fatalf("after the reconnect: %v", a.Err)
	}
	// Nothing that was published while down arrived later.
	if n, err := broker.SubjectPending(testContext(t), js, "LOGFORWARD_0", "logs.0.node.log"); err != nil || n != 1 {
		t.Errorf("stream holds %d messages, %v; want 1", n, err)
	}
	mu.Lock()
	defer mu.Unlock()
	for i, n := range outcomes {
		if n != 1 {
			t.Errorf("message %d has %d outcomes", i, n)
		}
	}
}

// After a reconnect, nothing is sent before the failures from before it have
// been reported: it would lie behind a hole.
func TestPublishNeverOvertakesFailures(t *testing.T) {
	store, address := t.TempDir(), freeAddress(t)
	s, err := broker.Serve(testContext(t), broker.ServerOptions{Listen: address, Store: store})
	if err != nil {
		t.Fatal(err)
	}
	reconnected := make(chan struct{}, 10)
	nc := connect(t, broker.Options{URLs: []string{"nats://" + address},
		OnReconnect: func(*nats.Conn) { reconnected <- struct{}{} }})
	js := streamAPI(t, nc)
	setUp(t, js, broker.Wanted{Partitions: 1})
	silent, err := nc.SubscribeSync("silent")
	if err != nil {
		t.Fatal(err)
	}
	p := newPublisher(t, nc, broker.PublisherOptions{Timeout: time.Hour})
	entered, leave := make(chan struct{}), make(chan struct{})
	outcomes := make(chan error, 3)
	p.Publish("silent", nil, nil, func(a broker.Ack) {
		close(entered)
		<-leave // the failure is known here and nowhere else
		outcomes <- a.Err
	})
	if _, err := silent.NextMsg(within); err != nil {
		t.Fatal(err)
	}
	if err := s.Shutdown(); err != nil {
		t.Fatal(err)
	}
	if s, err = broker.Serve(testContext(t), broker.ServerOptions{Listen: address, Store: store}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Shutdown() })
	receive(t, entered, "the failure")
	receive(t, reconnected, "the reconnect")
	p.Publish("logs.0.node.log", nil, []byte("overtaking"), func(a broker.Ack) { outcomes <- a.Err })
	close(leave)
	wantError(t, receive(t, outcomes, "the first outcome"), broker.ErrDisconnected)
	second := receive(t, outcomes, "the second outcome")
	wantError(t, second, broker.ErrDisconnected)
	if broker.OutcomeUnknown(second) {
		t.Errorf("it was sent: %v", second)
	}
	eventually(t, "publishing to work again", func() bool {
		return publish(t, p, "logs.0.node.log", "again").Err == nil
	})
}

// The broker comes back with an empty store.
func TestPublishServerWiped(t *testing.T) {
	address := freeAddress(t)
	s, err := broker.Serve(testContext(t), broker.ServerOptions{Listen: address, Store: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	reconnected := make(chan struct{}, 10)
	nc := connect(t, broker.Options{URLs: []string{"nats://" + address},
		OnReconnect: func(*nats.Conn) { reconnected <- struct{}{} }})
	js := streamAPI(t, nc)
	setUp(t, js, broker.Wanted{Partitions: 1})
	p := newPublisher(t, nc, broker.PublisherOptions{})
	before := publish(t, p, "logs.0.node.log", "before")
	if before.Err != nil {
		t.Fatal(before.Err)
	}
	if err := s.Shutdown(); err != nil {
		t.Fatal(err)
	}
	if s, err = broker.Serve(testContext(t), broker.ServerOptions{Listen: address, Store: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Shutdown() })
	receive(t, reconnected, "the reconnect")
	wantError(t, publish(t, p, "logs.0.node.log", "no stream yet").Err, broker.ErrNoStream)
	setUp(t, js, broker.Wanted{Partitions: 1})
	after := publish(t, p, "logs.0.node.log", "after")
	if after.Err != nil {
		t.Fatal(after.Err)
	}
	if after.Sequence <= before.Sequence {
		t.Errorf("sequence %d came back after the wipe, it was at %d", after.Sequence, before.Sequence)
	}
}

func TestPublishNotPermitted(t *testing.T) {
	url := rawServer(t, &server.Options{Users: []*server.User{
		{Username: "node", Password: "secret", Permissions: &server.Permissions{
			Publish:   &server.SubjectPermission{Allow: []string{"logs.*.n1.>"}},
			Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.>"}},
		}},
		{Username: "deaf", Password: "secret", Permissions: &server.Permissions{
			Subscribe: &server.SubjectPermission{Deny: []string{">"}},
		}},
		{Username: "admin", Password: "secret"},
	}})
	admin := connect(t, broker.Options{URLs: []string{url}, User: "admin", Password: "secret"})
	setUp(t, streamAPI(t, admin), broker.Wanted{Partitions: 1})

	t.Run("subject", func(t *testing.T) {
		refusals := make(chan broker.Refusal, 10)
		nc := connect(t, broker.Options{URLs: []string{url}, User: "node", Password: "secret",
			OnPermission: func(r broker.Refusal) { refusals <- r }})
		p := newPublisher(t, nc, broker.PublisherOptions{Timeout: time.Hour}) // only the refusal ends it
		if a := publish(t, p, "logs.0.n1.log", "mine"); a.Err != nil {
			t.Fatal(a.Err)
		}
		a := publish(t, p, "logs.0.n2.log", "another's")
		wantError(t, a.Err, broker.ErrPermission)
		if broker.Retryable(a.Err) || broker.OutcomeUnknown(a.Err) {
			t.Errorf("must be permanent and certain: %v", a.Err)
		}
		if r := receive(t, refusals, "the refusal"); r != (broker.Refusal{Op: broker.OpPublish, Subject: "logs.0.n2.log"}) {
			t.Errorf("refusal is %+v", r)
		}
	})
	t.Run("inbox", func(t *testing.T) {
		refusals := make(chan broker.Refusal, 10)
		nc := connect(t, broker.Options{URLs: []string{url}, User: "deaf", Password: "secret",
			OnPermission: func(r broker.Refusal) { refusals <- r }})
		p := newPublisher(t, nc, broker.PublisherOptions{Timeout: 200 * time.Millisecond})
		if r := receive(t, refusals, "the refusal"); r.Op != broker.OpSubscribe || !strings.HasPrefix(r.Subject, "_INBOX.") {
			t.Errorf("refusal is %+v", r)
		}
		a := publish(t, p, "logs.0.n1.log", "x")
		wantError(t, a.Err, broker.ErrTimeout, broker.ErrPermission)
		if !broker.OutcomeUnknown(a.Err) {
			t.Errorf("it may be stored: %v", a.Err)
		}
	})
}

func TestPublisherClose(t *testing.T) {
	nc := connect(t, broker.Options{Server: serve(t, broker.ServerOptions{InProcess: true})})
	if _, err := nc.SubscribeSync("silent"); err != nil {
		t.Fatal(err)
	}
	p, err := broker.NewPublisher(nc, broker.PublisherOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var ended atomic.Int32
	for range 10 {
		p.Publish("silent", nil, nil, func(a broker.Ack) {
			wantError(t, a.Err, broker.ErrClosed)
			ended.Add(1)
		})
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if n := ended.Load(); n != 10 {
		t.Errorf("%d of 10 have ended when Close returns", n)
	}
	if err := p.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	wantError(t, publish(t, p, "silent", "").Err, broker.ErrClosed)
	// The connection is the caller's.
	if !nc.IsConnected() {
		t.Error("the connection was closed")
	}
}

// The connection is closed under the publisher.
func TestPublisherConnectionClosed(t *testing.T) {
	nc := connect(t, broker.Options{Server: serve(t, broker.ServerOptions{InProcess: true})})
	if _, err := nc.SubscribeSync("silent"); err != nil {
		t.Fatal(err)
	}
	p := newPublisher(t, nc, broker.PublisherOptions{Timeout: time.Hour})
	acks := make(chan broker.Ack, 1)
	p.Publish("silent", nil, nil, func(a broker.Ack) { acks <- a })
	nc.Close()
	wantError(t, receive(t, acks, "the failure").Err, broker.ErrDisconnected)
	wantError(t, publish(t, p, "silent", "").Err, broker.ErrDisconnected)
}

// done may publish; that is how a window goes on.
func TestPublishFromDone(t *testing.T) {
	nc := connect(t, broker.Options{Server: serve(t, broker.ServerOptions{InProcess: true})})
	setUp(t, streamAPI(t, nc), broker.Wanted{Partitions: 1})
	p := newPublisher(t, nc, broker.PublisherOptions{})
	finished := make(chan struct{})
	left := 100
	var next func(broker.Ack)
	next = func(a broker.Ack) {
		if a.Err != nil {
			t.Error(a.Err)
		}
		if left--; left == 0 {
			close(finished)
			return
		}
		p.Publish("logs.0.node.log", nil, nil, next)
	}
	p.Publish("logs.0.node.log", nil, nil, next)
	receive(t, finished, "the chain of publishes")
}

func freeAddress(t testing.TB) string {
	t.Helper()
	address, err := freeport.Address()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// rawServer starts a server with options that Serve doesn't have.
func rawServer(t testing.TB, o *server.Options) string {
	t.Helper()
	o.JetStream, o.StoreDir = true, t.TempDir()
	return startRaw(t, o)
}

// plainServer is one without JetStream.
func plainServer(t testing.TB) string { return startRaw(t, &server.Options{}) }

func startRaw(t testing.TB, o *server.Options) string {
	t.Helper()
	o.Host, o.Port, o.NoSigs, o.NoLog = "127.0.0.1", -1, true, true
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(within) {
		t.Fatal("server doesn't start")
	}
	return s.ClientURL()
}
