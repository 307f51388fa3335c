package receive

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"logforward/internal/broker"
)

// A receiver that lacks a right to the leases works nothing, and says at once which right that is and what to do, though the broker leaves
// a request that it refuses without an answer. The others aren't disturbed, and with the right it takes part.
func TestReceiverWithoutRightsToTheLeases(t *testing.T) {
	t.Parallel()
	bucket := "KV_" + broker.Leases
	tests := map[string]struct {
		denied []string
		said   string // in its health
	}{
		"write":   {[]string{"$KV." + broker.Leases + ".>"}, "publish to $KV." + broker.Leases + ".receiver.write"},
		"look":    {[]string{"$JS.API.STREAM.INFO." + bucket}, "publish to $JS.API.STREAM.INFO." + bucket},
		"watch":   {[]string{"$JS.API.CONSUMER.CREATE." + bucket + ".>"}, "publish to $JS.API.CONSUMER.CREATE." + bucket},
		"read":    {[]string{"$JS.API.STREAM.MSG.GET." + bucket}, "publish to $JS.API.STREAM.MSG.GET." + bucket},
		"nothing": {[]string{"$KV." + broker.Leases + ".>", "$JS.API.*.*." + bucket, "$JS.API.*.*." + bucket + ".>"}, "publish to $JS.API.STREAM.INFO." + bucket},
	}
	s := newSite(t, nil)
	s.stopBroker()
	options := &server.Options{Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true, JetStream: true, StoreDir: filepath.Join(s.dir, "store-of-users"),
		Users: []*server.User{{Username: "all", Password: "x"}}}
	for name, test := range tests {
		options.Users = append(options.Users, &server.User{Username: name, Password: "x",
			Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: test.denied}}})
	}
	ns, err := server.NewServer(options)
	s.must(err)
	go ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(time.Minute) {
		t.Fatal("the broker doesn't start")
	}
	as := func(user string) broker.Options {
		return broker.Options{URLs: []string{ns.ClientURL()}, User: user, Password: "x"}
	}
	s.nc, err = broker.Connect(t.Context(), as("all"))
	s.must(err)
	t.Cleanup(s.nc.Close)
	s.pub, err = broker.NewPublisher(s.nc, broker.PublisherOptions{})
	s.must(err)
	t.Cleanup(func() { s.pub.Close() })
	s.setup(2)
	start := func(x *site, user string) {
		t.Helper()
		c := x.config
		c.Broker = as(user)
		x.r = New(c)
		s.must(x.r.Open(t.Context()))
		x.run()
	}
	t.Cleanup(func() { s.stopReceiver() })
	start(s, "all")
	divided(t, 2, s)
	n := s.node("web1", "syslog")
	for name, test := range tests {
		x := s.beside(name, false)
		start(x, name)
		eventually(t, name, func() (bool, string) {
			said := strings.Join(x.r.Health(), "\n")
			return strings.Contains(said, test.said) && strings.Contains(said, "grant it that right"), said
		})
		n.sendTo(2, n.make(name+"\n"))
		n.waitConfirmed()
		if len(x.works()) > 0 || len(s.works()) != 2 {
			t.Errorf("%s works %v, and the first one %v", name, x.works(), s.works())
		}
		s.must(x.stopReceiver())
		if name == "write" {
			start(x, "all")
			divided(t, 2, s, x)
			s.must(x.stopReceiver())
			divided(t, 2, s)
		}
	}
	n.same()
}

// A term that ended with its connection says so, and not how a context calls it.
func TestHealthSaysThatTheConnectionWasLost(t *testing.T) {
	r := New(Config{})
	r.partitions, r.terms = make([]*partition, 3), make(map[int]error)
	r.setTerm(2, fmt.Errorf("begin: %w", context.Canceled))
	got := strings.Join(r.Health(), "; ")
	if strings.Contains(got, "canceled") || !strings.Contains(got, "partition 2: its connection to the broker was lost") {
		t.Error(got)
	}
}
