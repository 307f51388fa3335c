package forward

import (
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// rawServer is a server that a test may configure and reload as an operator does.
type rawServer struct {
	*server.Server
	t       testing.TB
	options *server.Options
}

// raw has the centre's broker be a plain NATS server.
func (c *centre) raw(change func(*server.Options)) *rawServer {
	c.t.Helper()
	c.halt()
	host, port, err := net.SplitHostPort(c.listen)
	if err != nil {
		c.t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		c.t.Fatal(err)
	}
	o := &server.Options{Host: host, Port: number, NoSigs: true, NoLog: true, JetStream: true, StoreDir: c.t.TempDir()}
	change(o)
	ns, err := server.NewServer(o.Clone())
	if err != nil {
		c.t.Fatal(err)
	}
	go ns.Start()
	c.t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(patience) {
		c.t.Fatal("the broker doesn't start")
	}
	var login []nats.Option
	if len(o.Users) > 0 { // the first one may do everything
		login = append(login, nats.UserInfo(o.Users[0].Username, o.Users[0].Password))
	}
	c.nc, err = nats.Connect(ns.ClientURL(), append(login, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))...)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(c.halt) // before the server goes
	c.setup()
	c.receive()
	return &rawServer{ns, c.t, o}
}

func (s *rawServer) reload(change func(*server.Options)) {
	s.t.Helper()
	change(s.options)
	if err := s.ReloadOptions(s.options.Clone()); err != nil {
		s.t.Fatal(err)
	}
}
