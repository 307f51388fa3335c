package receive

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"logforward/internal/broker"
)

// A cluster without a leader answers nothing, not even later. A receiver that asks for the layout then asks again soon, for until it has that it works no partition, and what
// it hadn't committed stays in its files.
func TestLayoutIsAskedForAgainWhereNoAnswerComes(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	c := s.config
	c.Broker = broker.Options{Server: s.server}
	r := New(c)
	s.must(r.Open(t.Context()))
	defer r.Close()
	var asked atomic.Int32
	_, err := s.nc.Subscribe("RELAY.>", func(m *nats.Msg) {
		if asked.Add(1) > 1 {
			if err := s.nc.PublishRequest("$JS.API."+strings.TrimPrefix(m.Subject, "RELAY."), m.Reply, m.Data); err != nil {
				t.Error(err)
			}
		}
	})
	s.must(err)
	s.must(s.nc.Flush())
	r.js, err = jetstream.NewWithAPIPrefix(r.nc, "RELAY")
	s.must(err)
	layout, err := r.readLayout(t.Context())
	if err != nil || layout.Partitions != 1 || asked.Load() < 2 {
		t.Errorf("%+v, %v, asked %d times", layout, err, asked.Load())
	}
}
