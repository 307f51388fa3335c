package broker

import (
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// The refusal of its inbox reaches a publisher, also where it comes before its subscription has returned.
func TestPublisherHearsAtOnceThatItsInboxIsRefused(t *testing.T) {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true, Users: []*server.User{
		{Username: "deaf", Password: "secret", Permissions: &server.Permissions{Subscribe: &server.SubjectPermission{Deny: []string{">"}}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	defer s.Shutdown()
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("the server doesn't start")
	}
	refused := make(chan error, 1)
	nc, err := nats.Connect(s.ClientURL(), nats.UserInfo("deaf", "secret"), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err }))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	p, err := newPublisher(nc, PublisherOptions{Timeout: 10 * time.Millisecond}, func(subject string, answered nats.MsgHandler) (*nats.Subscription, error) {
		sub, err := nc.Subscribe(subject, answered)
		select {
		case <-refused:
		case <-time.After(time.Minute):
			t.Error("the subscription isn't refused")
		}
		return sub, err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	acks := make(chan Ack, 1)
	p.Publish("nobody.hears", nil, nil, func(a Ack) { acks <- a })
	if a := <-acks; !errors.Is(a.Err, ErrPermission) {
		t.Errorf("the outcome is %v, and says nothing of the right that is missing", a.Err)
	}
}
