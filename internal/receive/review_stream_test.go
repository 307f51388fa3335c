package receive

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

// A late acknowledgement of an earlier term counts for nothing.
func TestLateAckOfAnEarlierTermDeletesNothing(t *testing.T) {
	s := newSite(t, nil)
	f := s.crashAt(opAck, false)
	s.startReceiver()
	n := s.node("web1", "syslog")
	n.send(n.make("one\n"))
	s.crashed(f)
	js, err := broker.JetStream(s.nc, "")
	s.must(err)
	old := consumerNames(t, js)

	s.config.CommitInterval = time.Hour // the second term has the message in hand and hasn't committed it
	s.startReceiver()
	n.place(t, n.here())
	fresh := consumerNames(t, js)
	if len(old) != 1 || len(fresh) != 1 || old[0] == fresh[0] {
		t.Fatalf("consumers %v, then %v: want one, of a new name", old, fresh)
	}
	stream, err := js.Stream(asking(t), "LOGFORWARD_0")
	s.must(err)
	first := stream.CachedInfo().State.FirstSeq
	s.must(s.nc.Publish(fmt.Sprintf("$JS.ACK.LOGFORWARD_0.%s.1.%d.1.%d.0", old[0], first, time.Now().UnixNano()), []byte("+ACK")))
	s.must(s.nc.Flush())
	info, err := stream.Info(asking(t))
	s.must(err)
	if info.State.Msgs != 1 {
		t.Fatalf("%d messages left of 1", info.State.Msgs)
	}
}

func consumerNames(t *testing.T, js jetstream.JetStream) (names []string) {
	t.Helper()
	stream, err := js.Stream(asking(t), "LOGFORWARD_0")
	if err != nil {
		t.Fatal(err)
	}
	l := stream.ConsumerNames(asking(t))
	for name := range l.Name() {
		names = append(names, name)
	}
	return names
}

// A wiped broker doesn't make a log unknown.
func TestWipedBrokerIsRebuiltFromTheReceiver(t *testing.T) {
	for _, running := range []bool{false, true} {
		t.Run(fmt.Sprintf("receiver running %t", running), func(t *testing.T) {
			s := newSite(t, nil)
			s.setup(3)
			s.startReceiver()
			n := s.node("web1", "syslog")
			part := chunk.Partition("web1", 3)
			subject := chunk.Subject{Prefix: "logs", Partition: part, Identity: "web1", Log: "syslog"}.String()
			c := n.make("committed\n")
			n.raw(subject, c.Header(chunk.Plain), c.Data)
			n.waitConfirmed()
			if running {
				// The receiver goes through the same: its connection breaks, and the new broker is empty.
				js, err := broker.JetStream(s.nc, "")
				s.must(err)
				for _, name := range []string{"LOGFORWARD_0", "LOGFORWARD_1", "LOGFORWARD_2", "KV_LOGFORWARD", "KV_LOGFORWARD_POSITIONS", "KV_LOGFORWARD_LEASES"} {
					s.must(js.DeleteStream(asking(t), name))
				}
			} else {
				s.must(s.stopReceiver())
				s.wipe()
				n.listen()
				s.startReceiver()
			}
			// A node whose state is gone, too, learns where its log stands.
			eventually(t, "rebuild", func() (bool, string) {
				a, err := n.hello(t, chunk.HelloLog{})
				if err != nil {
					return false, err.Error()
				}
				l := a.Logs["syslog"]
				if a.Ready && !l.Known {
					js, _ := broker.JetStream(s.nc, "")
					if _, err := js.Stream(asking(t), "KV_LOGFORWARD_POSITIONS"); err == nil {
						t.Fatal("the log was called unknown")
					}
				}
				if !a.Ready {
					return false, "not yet"
				}
				if _, _, err := s.records().Get(asking(t), key("web1", "syslog")); err != nil {
					return false, err.Error()
				}
				return l.Known && l.Position == n.position, fmt.Sprintf("%+v", a)
			})
			c = n.make("after the wipe\n")
			eventually(t, "publish", func() (bool, string) {
				done := make(chan broker.Ack, 1)
				s.pub.Publish(subject, c.Header(chunk.Plain), c.Data, func(a broker.Ack) { done <- a })
				a := <-done
				return a.Err == nil, fmt.Sprint(a.Err)
			})
			n.waitConfirmed()
			n.same()
		})
	}
}

// Where bucket and receiver's state are lost, the node is the witness.
func TestNodeIsTheWitnessOfWhatWasConfirmed(t *testing.T) {
	s := newSite(t, nil)
	n := s.node("web1", "syslog")
	s.steady(n, "committed\n")
	s.wipe()
	n.listen()
	s.setup(1)
	s.must(os.RemoveAll(s.config.State))
	s.startReceiver()
	next := n.make("next\n")
	n.send(next)
	eventually(t, "ask for the beginning", func() (bool, string) {
		n.mu.Lock()
		defer n.mu.Unlock()
		return len(n.resends) > 0 && n.resends[0].From == 0, fmt.Sprintf("%+v", n.resends)
	})
	h := chunk.HelloLog{Epoch: 1, Stored: n.position, Confirmed: 10, Digest: next.Digest}
	eventually(t, "believe the node", func() (bool, string) {
		l := n.place(t, h)
		return l.Position == 10, fmt.Sprintf("%+v", l)
	})
	n.send(next)
	n.waitConfirmed()
	// The old file was left alone; the new one holds what came behind.
	got, err := os.ReadFile(filepath.Join(s.config.Output, "web1", "syslog.log"))
	s.must(err)
	more, err := os.ReadFile(filepath.Join(s.config.Output, "web1", "syslog@r1.log"))
	s.must(err)
	if string(got)+string(more) != string(n.written) {
		t.Fatalf("%q and %q", got, more)
	}
}

// A log's tail that the broker lost is found by the log's own subject, however busy
// the partition is.
func TestLostTailOfQuietLogIsAskedForOnABusyPartition(t *testing.T) {
	s := newSite(t, func(c *Config) { c.CommitInterval = time.Hour })
	quiet, busy := s.node("web1", "quiet"), s.node("web2", "busy")
	tail := quiet.make("the tail\n")
	quiet.send(tail)
	js, err := broker.JetStream(s.nc, "")
	s.must(err)
	stream, err := js.Stream(asking(t), "LOGFORWARD_0")
	s.must(err)
	s.must(stream.Purge(asking(t), jetstream.WithPurgeSubject("logs.0.web1.quiet")))
	busy.send(busy.make("always something\n"))
	s.startReceiver()
	h := quiet.here()
	h.Round = 3
	l := quiet.place(t, h)
	if l.Resend == nil || l.Resend.From != 0 || l.Resend.Round != 3 || l.Resend.Epoch != quiet.epoch {
		t.Fatalf("answer %+v: want a resend from 0", l)
	}
	if l := busy.place(t, busy.here()); l.Resend != nil {
		t.Fatalf("answer %+v for what is in the stream", l)
	}
}

// The chunks behind a hole are many; the hole is asked for once in a round.
func TestHoleBeforeALongBacklogAsksOnce(t *testing.T) {
	s := newSite(t, nil)
	n := s.node("web1", "syslog")
	lost := n.make("lost\n")
	var backlog []*chunk.Chunk
	for i := range 500 {
		backlog = append(backlog, n.make(fmt.Sprintf("%d\n", i)))
	}
	n.send(backlog...)
	began := time.Now()
	s.startReceiver()
	eventually(t, "drop the backlog", func() (bool, string) {
		js, err := broker.JetStream(s.nc, "")
		s.must(err)
		stream, err := js.Stream(asking(t), "LOGFORWARD_0")
		s.must(err)
		left := stream.CachedInfo().State.Msgs
		return left == 0, fmt.Sprint(left)
	})
	var asked int
	eventually(t, "ask for the hole", func() (bool, string) {
		n.mu.Lock()
		defer n.mu.Unlock()
		asked = len(n.resends)
		return asked > 0, ""
	})
	if asked > 2+int(time.Since(began)/time.Second) { // one, and one more for each second that a slow machine needs
		t.Fatalf("asked %d times", asked)
	}
	n.send(lost)
	n.send(backlog...)
	n.waitConfirmed()
	n.same()
}

// The acknowledgement of a duplicate says that its bytes are synced.
func TestDuplicatesAreNotAcknowledgedBeforeTheCommit(t *testing.T) {
	s := newSite(t, nil)
	n := s.node("web1", "syslog")
	c := n.make("one\n")
	n.send(c, c, c)
	f := s.crashAt(opSync, false)
	s.startReceiver()
	s.crashed(f)
	js, err := broker.JetStream(s.nc, "")
	s.must(err)
	stream, err := js.Stream(asking(t), "LOGFORWARD_0")
	s.must(err)
	if left := stream.CachedInfo().State.Msgs; left != 3 {
		t.Fatalf("%d messages left of 3", left)
	}
	s.startReceiver()
	n.waitConfirmed()
	n.same()
}
