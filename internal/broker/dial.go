package broker

import (
	"context"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// dialer dials for the client library and remembers what it can't tell: which
// addresses failed, and why (the library reduces "connection refused" to "no
// servers").
type dialer struct {
	dial net.Dialer

	mu   sync.Mutex
	ctx  context.Context // of Connect while that runs, then Background
	conn net.Conn        // the latest, while Connect runs
	last map[string]error
}

func newDialer(ctx context.Context) *dialer {
	d := &dialer{ctx: ctx, last: make(map[string]error)}
	d.dial = net.Dialer{
		Timeout: dialTimeout,
		Control: func(_, _ string, raw syscall.RawConn) error {
			var failure error
			err := raw.Control(func(fd uintptr) {
				// Without it the kernel tries for a quarter of an hour to send
				// what a dead peer never acknowledges.
				failure = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT,
					int(writeTimeout/time.Millisecond))
			})
			if err != nil {
				return err
			}
			return failure
		},
	}
	return d
}

// watch lets the context end a handshake that is under way, until the returned
// function is called; from then on the connection belongs to the caller and no
// context ends its reconnects.
func (d *dialer) watch() (release func()) {
	d.mu.Lock()
	ctx := d.ctx
	d.mu.Unlock()
	cancel := context.AfterFunc(ctx, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.conn != nil {
			d.conn.Close()
		}
	})
	return func() {
		cancel()
		d.mu.Lock()
		defer d.mu.Unlock()
		d.ctx, d.conn = context.Background(), nil
	}
}

// Dial implements nats.CustomDialer.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	d.mu.Lock()
	ctx := d.ctx
	d.mu.Unlock()
	conn, err := d.dial.DialContext(ctx, network, address)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.last[address] = err
		return nil, err
	}
	delete(d.last, address)
	if d.ctx != context.Background() {
		if d.ctx.Err() != nil { // it ended between the dial and here
			conn.Close()
			return nil, d.ctx.Err()
		}
		d.conn = conn
	}
	return conn, nil
}

// failures are the addresses that could not be dialled at the last attempt.
func (d *dialer) failures() []error {
	d.mu.Lock()
	defer d.mu.Unlock()
	addresses := make([]string, 0, len(d.last))
	for address := range d.last {
		addresses = append(addresses, address)
	}
	slices.Sort(addresses)
	list := make([]error, len(addresses))
	for i, address := range addresses {
		list[i] = d.last[address]
	}
	return list
}
