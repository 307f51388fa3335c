package site

import (
	"context"
	"crypto/rand"
	"fmt"

	"logforward/internal/freeport"
)

// Destination is another place that nodes may forward to: logforward's own broker, which has nothing
// to do with Choria, and a receiver. Its name is also the receiver's.
type Destination struct {
	Name     string
	Broker   *Process
	Receiver *Receiver

	credentials keys // of the broker's clients
}

// AddDestination starts broker and receiver.
func (s *Site) AddDestination(ctx context.Context, name string) (*Destination, error) {
	d := &Destination{Name: name}
	if err := d.start(ctx, s); err != nil {
		return nil, fmt.Errorf("destination %s: %w", name, err)
	}
	return d, nil
}

func (d *Destination) start(ctx context.Context, s *Site) error {
	address, err := freeport.Address()
	if err != nil {
		return err
	}
	d.credentials = keys{"url": "nats://" + address, "user": d.Name, "password": rand.Text()}
	if d.Receiver, err = s.makeReceiver(d.Name, d.credentials); err != nil {
		return err
	}
	config := s.path("receivers", d.Name, "broker.cfg")
	err = keys{"listen": address, "user": d.credentials["user"], "password": d.credentials["password"], "store": s.path("receivers", d.Name, "streams")}.write(config)
	if err != nil {
		return err
	}
	if d.Broker, err = s.start(d.Name+" broker", s.path("receivers", d.Name, "broker.log"), nil, s.Logforward, "broker", "--config", config); err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	if err := d.Broker.Await(bounded, `msg="broker is up"`); err != nil {
		return err
	}
	setup := s.path("receivers", d.Name, "setup.cfg")
	if err := d.credentials.with(keys{"partitions": "2"}).write(setup); err != nil {
		return err
	}
	if _, err := s.Command(ctx, "setup", "--config", setup); err != nil {
		return err
	}
	return d.Receiver.Start(ctx)
}

// Settings are what a node's daemon needs to forward there, for [NodeOptions].
func (d *Destination) Settings() map[string]string {
	all := make(map[string]string)
	for key, value := range d.credentials {
		all["destination."+d.Name+"."+key] = value
	}
	return all
}
