package tap

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"logforward/internal/broker"
)

// The client library gives up a connection for good after some errors of the broker: whoever follows a log hears that it has ended.
func TestTapEndsWithItsConnection(t *testing.T) {
	t.Parallel()
	connected := make(chan *nats.Conn, 1)
	listening := make(chan struct{})
	tap := &Tap{Broker: broker.Options{URLs: []string{serve(t, &server.Options{})}, OnConnect: func(nc *nats.Conn) { connected <- nc }}, Prefix: "logs", Identity: "*", Log: "*",
		Show: func(*Event) error { return nil }, Listening: func() { close(listening) }}
	ended := make(chan error, 1)
	go func() { ended <- tap.Run(t.Context()) }()
	<-listening
	(<-connected).Close() // as the library does
	select {
	case err := <-ended:
		if err == nil {
			t.Error("it ended as if it had been told to")
		}
		t.Log(err)
	case <-time.After(2 * time.Minute):
		t.Fatal("it goes on")
	}
}
