package receive

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// The client library gives a connection up for good after some errors of the broker, such as of a message that is bigger than it takes
// since a reload. A receiver that lived on without one would work nothing, for ever.
func TestReceiverEndsWithItsConnection(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.startReceiver()
	n := s.node("web1", "syslog")
	n.send(n.make("before\n"))
	n.waitConfirmed()
	s.r.nc.Close() // as the library does
	select {
	case err := <-s.done:
		if !errors.Is(err, nats.ErrConnectionClosed) {
			t.Errorf("it ended with %v", err)
		}
		s.done <- nil
	case <-time.After(2 * time.Minute):
		t.Fatal("it goes on")
	}
	s.must(s.stopReceiver())
	s.startReceiver()
	n.send(n.make("behind\n"))
	n.waitConfirmed()
	n.same()
}
