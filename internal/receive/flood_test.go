package receive

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"logforward/internal/chunk"
)

// While a commit takes its time rubbish waits at the broker, not in memory.
func TestRubbishWaitsAtTheBrokerWhileACommitHangs(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := newSite(t, func(c *Config) {
		c.CommitBytes = 1 << 20
		c.fault = func(op string, done bool) error {
			if op == opRecord && !done {
				<-release
			}
			return nil
		}
	})
	s.startReceiver()
	end := sync.OnceFunc(func() { close(release) })
	defer end()
	n := s.node("web1", "syslog")
	n.send(n.make("a line\n"))
	const all, size = 300, 128 << 10
	for range all {
		n.raw("logs.0.evil.syslog", nil, bytes.Repeat([]byte("x"), size))
	}
	p := s.r.partitions[0]
	var taken float64
	eventually(t, "take no more", func() (bool, string) {
		before := counted(t, s.r.metrics.quarantined)
		s.r.Status(t.Context())
		pause()
		s.r.Status(t.Context())
		taken = counted(t, s.r.metrics.quarantined)
		return taken == all || taken > 0 && taken == before && len(p.in) > 0, fmt.Sprint(taken)
	})
	if most := float64(2*s.config.CommitBytes/size + maxBurst + 1); taken > most {
		t.Errorf("%v messages are in memory; at most %v", taken, most)
	}
	end()
	n.waitConfirmed()
	n.same()
	eventually(t, "take all", func() (bool, string) { left := s.left(0); return left == 0, fmt.Sprint(left) })
}

// One node's hellos, of which each takes as long as its partition does, leave room for those of others.
func TestHellosOfOneNodeLeaveRoomForOthers(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := newSite(t, func(c *Config) {
		c.fault = func(op string, done bool) error {
			if op == opAppend && !done {
				<-release
			}
			return nil
		}
	})
	s.setup(2)
	s.startReceiver()
	defer s.stopReceiver()
	defer close(release)
	evil, victim := s.node("evil", "syslog"), s.node("web1", "syslog")
	p := chunk.Partition("evil", 2)
	for i := 0; chunk.Partition(victim.identity, 2) == p; i++ {
		victim = s.node(fmt.Sprint("web", i), "syslog")
	}
	victim.place(t, chunk.HelloLog{})
	evil.place(t, chunk.HelloLog{})
	c := evil.make("a line\n")
	evil.raw(chunk.Subject{Prefix: "logs", Partition: p, Identity: "evil", Log: "syslog"}.String(), c.Header(chunk.Plain), c.Data)
	hello, err := json.Marshal(chunk.Hello{Instance: "x", Logs: map[string]chunk.HelloLog{"syslog": {}}})
	s.must(err)
	eventually(t, "the loop stands still", func() (bool, string) {
		_, err := s.nc.Request(chunk.SyncSubject("logs", "evil"), hello, 100*time.Millisecond)
		return err != nil, ""
	})
	for range 2 * maxSyncs {
		s.must(s.nc.PublishRequest(chunk.SyncSubject("logs", "evil"), s.nc.NewInbox(), hello))
	}
	if _, err := s.nc.Request(chunk.SyncSubject("logs", victim.identity), hello, time.Minute); err != nil {
		t.Errorf("the other's hello: %v", err)
	}
}
