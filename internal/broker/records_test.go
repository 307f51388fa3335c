package broker_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"logforward/internal/broker"
)

func openRecords(t *testing.T, js jetstream.JetStream, o broker.PublisherOptions) *broker.Records {
	t.Helper()
	r, err := broker.OpenRecords(testContext(t), js, newPublisher(t, js.Conn(), o), broker.Positions)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

type updated struct {
	revision uint64
	err      error
}

func update(t *testing.T, r *broker.Records, key, value string, expected uint64) (uint64, error) {
	t.Helper()
	c := make(chan updated, 1)
	r.Update(key, []byte(value), expected, func(revision uint64, err error) { c <- updated{revision, err} })
	u := receive(t, c, "the update")
	return u.revision, u.err
}

func TestRecordsCompareAndSet(t *testing.T) {
	js := newJetStream(t)
	setUp(t, js, broker.Wanted{Partitions: 1})
	r := openRecords(t, js, broker.PublisherOptions{})
	const key = "web1=2Eexample=2Ecom.nginx-access"
	_, rev, err := r.Get(testContext(t), key)
	wantError(t, err, broker.ErrNotFound)
	if rev != 0 {
		t.Errorf("revision of nothing is %d", rev)
	}
	first, err := update(t, r, key, "one", 0)
	if err != nil {
		t.Fatal(err)
	}
	if value, rev, err := r.Get(testContext(t), key); err != nil || string(value) != "one" || rev != first {
		t.Errorf("read %q %d %v, wrote revision %d", value, rev, err, first)
	}
	for _, expected := range []uint64{0, first - 1, first + 1} {
		_, err = update(t, r, key, "wrong", expected)
		wantError(t, err, broker.ErrWrongRevision)
		if broker.OutcomeUnknown(err) || broker.Retryable(err) {
			t.Errorf("outcome is certain and a retry is useless: %v", err)
		}
	}
	second, err := update(t, r, key, "two", first)
	if err != nil || second <= first {
		t.Fatalf("revision %d after %d, %v", second, first, err)
	}
	// Other keys don't disturb.
	if _, err := update(t, r, "other.log", "x", 0); err != nil {
		t.Fatal(err)
	}
	if _, err := update(t, r, key, "three", second); err != nil {
		t.Fatal(err)
	}
	// A deleted key has a revision, and can be written again with it.
	kv, err := js.KeyValue(testContext(t), broker.Positions)
	if err != nil {
		t.Fatal(err)
	}
	if err := kv.Delete(testContext(t), key); err != nil {
		t.Fatal(err)
	}
	_, rev, err = r.Get(testContext(t), key)
	wantError(t, err, broker.ErrNotFound)
	if _, err := update(t, r, key, "four", rev); err != nil || rev == 0 {
		t.Errorf("over the deletion at %d: %v", rev, err)
	}
}

func TestRecordsManyAtOnce(t *testing.T) {
	js := newJetStream(t)
	setUp(t, js, broker.Wanted{Partitions: 1})
	r := openRecords(t, js, broker.PublisherOptions{})
	const n = 1000 // more than the library's watch channel holds
	results := make(chan updated, n)
	for i := range n {
		r.Update(fmt.Sprintf("node%d.log", i), fmt.Appendf(nil, "value %d", i), 0,
			func(revision uint64, err error) { results <- updated{revision, err} })
	}
	for range n {
		if u := receive(t, results, "an update"); u.err != nil {
			t.Fatal(u.err)
		}
	}
	list, err := r.List(testContext(t))
	if err != nil || len(list) != n {
		t.Fatalf("listed %d, %v", len(list), err)
	}
	for i, record := range list {
		if record.Key != fmt.Sprintf("node%d.log", i) || string(record.Value) != fmt.Sprintf("value %d", i) || record.Revision == 0 {
			t.Fatalf("record %d is %+v", i, record)
		}
	}
	ctx, cancel := context.WithCancel(testContext(t))
	cancel()
	if _, err := r.List(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
}

func TestRecordsFailures(t *testing.T) {
	js := newJetStream(t)
	pub := newPublisher(t, js.Conn(), broker.PublisherOptions{})
	_, err := broker.OpenRecords(testContext(t), js, pub, broker.Positions)
	wantError(t, err, broker.ErrNoStream)
	setUp(t, js, broker.Wanted{Partitions: 1})
	r := openRecords(t, js, broker.PublisherOptions{})
	for _, key := range []string{"", "a..b", ".a", "a.", "a.*", "a.>", "a b", "a/b", "ü"} {
		if _, err := update(t, r, key, "x", 0); err == nil || broker.Retryable(err) || broker.OutcomeUnknown(err) {
			t.Errorf("key %q: %v", key, err)
		}
		if _, _, err := r.Get(testContext(t), key); err == nil || errors.Is(err, broker.ErrNotFound) {
			t.Errorf("read of key %q: %v", key, err)
		}
	}
	if list, err := r.List(testContext(t)); err != nil || len(list) != 0 {
		t.Errorf("empty bucket lists %v, %v", list, err)
	}
	if err := js.DeleteStream(testContext(t), "KV_LOGFORWARD_POSITIONS"); err != nil {
		t.Fatal(err)
	}
	_, err = update(t, r, "a.b", "x", 0)
	wantError(t, err, broker.ErrNoStream)
	_, _, err = r.Get(testContext(t), "a.b")
	wantError(t, err, broker.ErrNoStream)
	_, err = r.List(testContext(t))
	wantError(t, err, broker.ErrNoStream)
	if _, err := broker.SubjectPending(testContext(t), js, "KV_LOGFORWARD_POSITIONS", "x"); err == nil {
		t.Error("counted in no stream")
	} else {
		wantError(t, err, broker.ErrNoStream)
	}
}

// The reply is lost: nobody can know, so the error must not say "failed". Here
// it was written.
func TestRecordsLostReply(t *testing.T) {
	url := rawServer(t, &server.Options{Users: []*server.User{
		{Username: "good", Password: "x"},
		{Username: "deaf", Password: "x", Permissions: &server.Permissions{Subscribe: &server.SubjectPermission{Deny: []string{">"}}}},
	}})
	js := streamAPI(t, connect(t, broker.Options{URLs: []string{url}, User: "good", Password: "x"}))
	setUp(t, js, broker.Wanted{Partitions: 1})
	deaf := newPublisher(t, connect(t, broker.Options{URLs: []string{url}, User: "deaf", Password: "x"}),
		broker.PublisherOptions{Timeout: 100 * time.Millisecond})
	r, err := broker.OpenRecords(testContext(t), js, deaf, broker.Positions)
	if err != nil {
		t.Fatal(err)
	}
	_, err = update(t, r, "a.b", "x", 0)
	wantError(t, err, broker.ErrTimeout)
	if !broker.OutcomeUnknown(err) {
		t.Errorf("outcome is called certain: %v", err)
	}
	if value, _, err := r.Get(testContext(t), "a.b"); err != nil || string(value) != "x" {
		t.Errorf("read %q %v", value, err)
	}
}

func TestRecordsWatch(t *testing.T) {
	address := freeAddress(t)
	store := t.TempDir()
	s, err := broker.Serve(testContext(t), broker.ServerOptions{Listen: address, Store: store})
	if err != nil {
		t.Fatal(err)
	}
	reconnected := make(chan struct{}, 10)
	nc := connect(t, broker.Options{URLs: []string{address}, OnReconnect: func(*nats.Conn) { reconnected <- struct{}{} }})
	js := streamAPI(t, nc)
	setUp(t, js, broker.Wanted{Partitions: 1})
	r := openRecords(t, js, broker.PublisherOptions{})
	r.CheckWatchEvery(50 * time.Millisecond)
	if _, err := update(t, r, "a.log", "before", 0); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	events := make(chan string, 1000)
	var watching sync.WaitGroup
	watching.Go(func() {
		r.Watch(ctx, func() { events <- "restarted" },
			func(r broker.Record) {
				if r.Deleted {
					events <- r.Key + " deleted"
				} else {
					events <- r.Key + "=" + string(r.Value)
				}
			},
			func() { events <- "caught up" },
			func(err error) { t.Logf("watch: %v", err) })
	})
	expect := func(want ...string) {
		t.Helper()
		for _, w := range want {
			if got := receive(t, events, w); got != w {
				t.Fatalf("event is %q, want %q", got, w)
			}
		}
	}
	expect("restarted", "a.log=before", "caught up")
	revision, err := update(t, r, "b.log", "live", 0)
	if err != nil {
		t.Fatal(err)
	}
	expect("b.log=live")
	if _, err := update(t, r, "b.log", "live 2", revision); err != nil {
		t.Fatal(err)
	}
	expect("b.log=live 2")
	kv, err := js.KeyValue(testContext(t), broker.Positions)
	if err != nil {
		t.Fatal(err)
	}
	if err := kv.Delete(testContext(t), "b.log"); err != nil {
		t.Fatal(err)
	}
	expect("b.log deleted")

	// The broker comes back wiped, and is set up anew.
	if err := s.Shutdown(); err != nil {
		t.Fatal(err)
	}
	serve(t, broker.ServerOptions{Listen: address})
	receive(t, reconnected, "the reconnect")
	setUp(t, js, broker.Wanted{Partitions: 1})
	if _, err := update(t, r, "a.log", "after", 0); err != nil {
		t.Fatal(err)
	}
	restarted := false
	for event := ""; event != "a.log=after"; {
		event = receive(t, events, "the record after the wipe")
		restarted = restarted || event == "restarted"
	}
	if !restarted {
		t.Error("the watch went on as if nothing had happened")
	}
	// The bucket is made anew under a connection that stays.
	if err := js.DeleteStream(testContext(t), "KV_LOGFORWARD_POSITIONS"); err != nil {
		t.Fatal(err)
	}
	setUp(t, js, broker.Wanted{Partitions: 1})
	if _, err := update(t, r, "a.log", "made anew", 0); err != nil {
		t.Fatal(err)
	}
	for receive(t, events, "the record in the new bucket") != "a.log=made anew" {
	}
	cancel()
	watching.Wait()
}
