package broker_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"logforward/internal/broker"
)

// TestInsist: while a cluster has no leader it answers nothing, or that it can't answer yet. Every other answer is final.
func TestInsist(t *testing.T) {
	electing := &jetstream.APIError{Code: 503, ErrorCode: 10008, Description: "JetStream system temporarily unavailable"}
	denied := errors.New("denied")
	for _, c := range []struct {
		name    string
		answers []error
		want    error
	}{
		{"answered", []error{nil}, nil},
		{"electing", []error{electing, context.DeadlineExceeded, broker.ErrTimeout, nil}, nil},
		{"denied", []error{electing, denied, nil}, denied},
		{"not enabled", []error{jetstream.ErrJetStreamNotEnabled, nil}, jetstream.ErrJetStreamNotEnabled},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked := 0
			err := broker.Insist(t.Context(), func(context.Context) error {
				asked++
				return c.answers[asked-1]
			})
			if !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := broker.Insist(ctx, func(context.Context) error { return electing }); !errors.Is(err, electing) {
		t.Errorf("at the end of the time: %v, want the last answer", err)
	}
}
