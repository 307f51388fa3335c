package receive

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"logforward/internal/broker"
)

// Somebody else deletes the term's consumer: the term ends, and the next one has another.
func TestDeletedConsumerIsMadeAnew(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.startReceiver()
	n := s.node("web1", "syslog")
	n.send(n.make("before\n"))
	n.waitConfirmed()
	js, err := broker.JetStream(s.nc, "")
	s.must(err)
	old := consumerNames(t, js)
	if len(old) != 1 {
		t.Fatalf("consumers %v, want one", old)
	}
	s.must(js.DeleteConsumer(asking(t), streamName(0), old[0]))
	n.send(n.make("behind\n"))
	n.waitConfirmed()
	n.same()
	if fresh := consumerNames(t, js); len(fresh) != 1 || fresh[0] == old[0] {
		t.Fatalf("consumers %v, then %v: want one, of a new name", old, fresh)
	}
}

// What a source hands on behind its end would be taken for the next term's.
func TestEndedSourceHandsNothingOn(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	n := s.node("web1", "syslog")
	for i := range 50 {
		n.send(n.make(fmt.Sprintf("line %d\n", i)))
	}
	c := s.config
	c.Broker = broker.Options{Server: s.server}
	r := New(c)
	s.must(r.Open(t.Context()))
	defer r.Close()
	r.layout = broker.Layout{ID: "x", Prefix: "logs", Partitions: 1}
	_, err := r.session(t.Context())
	s.must(err)
	for _, before := range []int32{0, 1, 7} {
		source, err := r.newConsumer(t.Context(), 0)
		s.must(err)
		ctx, cancel := context.WithCancel(t.Context())
		var handed atomic.Int32
		var ended atomic.Bool
		err = source.run(ctx, func(ctx context.Context, d *delivery) bool {
			if ended.Load() {
				t.Error("handed on behind the end")
			}
			if handed.Add(1) > before { // the last one waits for room, as in a partition that is full
				cancel()
				<-ctx.Done()
				return false
			}
			return true
		})
		ended.Store(true)
		cancel()
		if err != nil || handed.Load() != before+1 {
			t.Errorf("%d handed on, want %d: %v", handed.Load(), before+1, err)
		}
	}
}
