package broker

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A server of a cluster that dies with a call in hand never answers it. Whoever waits without a deadline of its own, as a commit does,
// must get an error and ask again, or a partition stands still for ever.
func TestCallWithoutDeadlineEnds(t *testing.T) {
	s, err := Serve(t.Context(), ServerOptions{Listen: "127.0.0.1:0", Store: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown()
	nc, err := nats.Connect(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := nc.SubscribeSync("SILENT.>"); err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.NewWithAPIPrefix(nc, "SILENT", jetstream.WithDefaultTimeout(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, _, err := readKey(context.Background(), js, Positions, "key")
		ended <- err
	}()
	select {
	case err := <-ended:
		if !errors.Is(err, ErrTimeout) {
			t.Errorf("%v, want %v", err, ErrTimeout)
		}
	case <-time.After(time.Minute):
		t.Fatal("it still waits")
	}
}
