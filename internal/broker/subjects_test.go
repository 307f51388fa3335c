package broker_test

import (
	"fmt"
	"maps"
	"testing"

	"logforward/internal/broker"
)

func TestSubjectsPending(t *testing.T) {
	t.Parallel()
	nc := connect(t, broker.Options{Server: serve(t, broker.ServerOptions{InProcess: true})})
	js := streamAPI(t, nc)
	setUp(t, js, broker.Wanted{Partitions: 1})
	p := newPublisher(t, nc, broker.PublisherOptions{})
	for _, subject := range []string{"logs.0.a.x", "logs.0.a.x", "logs.0.a.y", "logs.0.b.x"} {
		if a := publish(t, p, subject, "x"); a.Err != nil {
			t.Fatal(a.Err)
		}
	}
	for filter, want := range map[string]map[string]uint64{
		"logs.0.a.*": {"logs.0.a.x": 2, "logs.0.a.y": 1},
		"logs.0.b.x": {"logs.0.b.x": 1},
		"logs.0.c.*": nil,
		"other.>":    nil,
	} {
		got, err := broker.SubjectsPending(testContext(t), js, "LOGFORWARD_0", filter)
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("%s: %v, %v; want %v", filter, got, err, want)
		}
	}
	_, err := broker.SubjectsPending(testContext(t), js, "LOGFORWARD_7", "logs.7.>")
	wantError(t, err, broker.ErrNoStream)

	// More than a server lists in one answer.
	for i := range 100_001 {
		if err := nc.Publish(fmt.Sprintf("logs.0.many.%d", i), nil); err != nil {
			t.Fatal(err)
		}
	}
	if a := publish(t, p, "logs.0.many.last", "x"); a.Err != nil { // behind them all
		t.Fatal(a.Err)
	}
	_, err = broker.SubjectsPending(testContext(t), js, "LOGFORWARD_0", "logs.0.many.*")
	wantError(t, err, broker.ErrTooMany)
	if n, err := broker.SubjectPending(testContext(t), js, "LOGFORWARD_0", "logs.0.many.last"); err != nil || n != 1 {
		t.Errorf("one of many: %d, %v", n, err)
	}
}

func TestExistingKeys(t *testing.T) {
	t.Parallel()
	nc := connect(t, broker.Options{Server: serve(t, broker.ServerOptions{InProcess: true})})
	js := streamAPI(t, nc)
	setUp(t, js, broker.Wanted{Partitions: 1})
	r, err := broker.OpenRecords(testContext(t), js, newPublisher(t, nc, broker.PublisherOptions{}), broker.Positions)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"a.x", "a.y", "b.x"} {
		done := make(chan error, 1)
		r.Update(key, []byte("1"), 0, func(_ uint64, err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	got, err := r.Existing(testContext(t), "a")
	if want := map[string]bool{"a.x": true, "a.y": true}; err != nil || !maps.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	if _, err := r.Existing(testContext(t), "a.*"); err == nil {
		t.Error("a wildcard is taken")
	}
}
