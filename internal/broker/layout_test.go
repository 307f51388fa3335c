package broker_test

import (
	"context"
	"reflect"
	"sync"
	"testing"
	"time"

	"logforward/internal/broker"
)

func TestPause(t *testing.T) {
	js := newJetStream(t)
	setUp(t, js, broker.Wanted{Partitions: 1})
	shared, err := broker.OpenShared(testContext(t), js)
	if err != nil {
		t.Fatal(err)
	}
	_, err = shared.Pause(testContext(t))
	wantError(t, err, broker.ErrNotFound)
	if err := shared.ClearPause(testContext(t)); err != nil {
		t.Errorf("clearing nothing: %v", err)
	}
	for _, want := range []broker.Pause{
		{Since: time.Now().UTC().Truncate(time.Second), Reason: "upgrade", By: "choria=bob", Match: "web*"},
		{Since: time.Now().UTC().Truncate(time.Second), Until: time.Now().UTC().Add(time.Hour).Truncate(time.Second)},
	} {
		if err := shared.SetPause(testContext(t), want); err != nil {
			t.Fatal(err)
		}
		got, err := shared.Pause(testContext(t))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("pause is %+v, %v; want %+v", got, err, want)
		}
	}
	if err := shared.SetPause(testContext(t), broker.Pause{Until: time.Now().Add(-time.Second)}); err != nil {
		t.Fatal(err)
	}
	_, err = shared.Pause(testContext(t))
	wantError(t, err, broker.ErrNotFound)
	if err := shared.SetPause(testContext(t), broker.Pause{}); err != nil {
		t.Fatal(err)
	}
	if err := shared.ClearPause(testContext(t)); err != nil {
		t.Fatal(err)
	}
	_, err = shared.Pause(testContext(t))
	wantError(t, err, broker.ErrNotFound)
}

func TestWatchSharedState(t *testing.T) {
	js := newJetStream(t)
	setUp(t, js, broker.Wanted{Partitions: 1})
	shared, err := broker.OpenShared(testContext(t), js)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(testContext(t))
	var last *broker.State
	states, failures := make(chan broker.State, 10), make(chan error, 1000)
	var watching sync.WaitGroup
	watching.Go(func() {
		shared.Watch(ctx, time.Millisecond, func(s broker.State) {
			if last != nil && reflect.DeepEqual(s, *last) {
				t.Errorf("state %+v is reported twice", s)
			}
			last = &s
			states <- s
		}, func(err error) { failures <- err })
	})
	s := receive(t, states, "the first state")
	if s.Layout == nil || s.Layout.Partitions != 1 || s.Pause != nil {
		t.Errorf("first state is %+v", s)
	}
	if err := shared.SetPause(testContext(t), broker.Pause{Reason: "now"}); err != nil {
		t.Fatal(err)
	}
	// Several looks of the watch, which see nothing new.
	for begin := time.Now(); time.Since(begin) < 20*time.Millisecond; {
		if _, err := shared.Layout(testContext(t)); err != nil {
			t.Fatal(err)
		}
	}
	if s = receive(t, states, "the pause"); s.Pause == nil || s.Pause.Reason != "now" {
		t.Errorf("second state is %+v", s)
	}
	// A wiped bucket is an error and doesn't resume anybody.
	if err := js.DeleteStream(testContext(t), "KV_LOGFORWARD"); err != nil {
		t.Fatal(err)
	}
	receive(t, failures, "the failure")
	setUp(t, js, broker.Wanted{Partitions: 2})
	for s.Layout == nil || s.Layout.Partitions != 2 {
		s = receive(t, states, "the new layout")
	}
	if s.Pause != nil {
		t.Errorf("state is %+v", s)
	}
	cancel()
	watching.Wait()
}

func TestLayoutCheck(t *testing.T) {
	good := broker.Layout{ID: "x", Prefix: "logs", Partitions: 1}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for name, l := range map[string]broker.Layout{
		"no id":         {Prefix: "logs", Partitions: 1},
		"no partitions": {ID: "x", Prefix: "logs"},
		"too many":      {ID: "x", Prefix: "logs", Partitions: 1 << 40},
		"prefix":        {ID: "x", Prefix: ">", Partitions: 1},
	} {
		if l.Check() == nil {
			t.Errorf("%s passes", name)
		}
	}
}
