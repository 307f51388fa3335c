package pipe

import (
	"errors"
	"testing"
	"time"

	"logforward/internal/broker"
	"logforward/internal/chunk"
	"logforward/internal/forward"

	"github.com/nats-io/nats.go"
)

// TestForkDoublesNothing has another machine of the same identity send other bytes, while what the node sent is taken
// and not committed yet.
func TestForkDoublesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(r *rig) { r.receiving.CommitInterval = time.Second })
	n := r.node
	n.start()
	first := text("first", 20<<10)
	n.write("app.log", first)
	n.exact("app", first)
	s := n.status("app")
	more := text("more", 20<<10)
	n.write("app.log", more)
	n.stored("app", len(first)+len(more))

	other := []byte("other bytes\n")
	end := uint64(len(first) + len(more))
	c := chunk.Chunk{Epoch: s.Epoch, Position: end - uint64(len(other)), Length: uint64(len(other)), Checksum: chunk.Sum(other),
		Round: s.Round, File: "1:2:3:4", Data: other}
	subject := chunk.Subject{Prefix: "logs", Partition: chunk.Partition(identity, r.wanted.Partitions), Identity: identity, Log: "app"}.String()
	nc, err := broker.Connect(t.Context(), broker.Options{URLs: []string{r.serve.Listen}})
	r.must(err)
	defer nc.Close()
	r.must(nc.PublishMsg(&nats.Msg{Subject: subject, Header: c.Header(chunk.Plain), Data: other}))
	r.must(nc.Flush())
	n.eventually("the fork", func() error {
		if n.status("app").Epoch == s.Epoch {
			return errors.New("not yet")
		}
		return nil
	})
	n.write("app.log", []byte("end\n"))
	n.exact("app", join(join(first, more), []byte("end\n")))
}

// TestBackToConfirmedLosesNothing lets a node that took the broker's word meet a receiver which is behind.
func TestBackToConfirmedLosesNothing(t *testing.T) {
	t.Parallel()
	n := newRig(t).node
	n.change = func(c *forward.Config) {
		d := c.Destinations["central"]
		d.Commit = forward.Stored
		c.Destinations["central"] = d
	}
	n.start()
	first := text("first", 10<<10)
	n.write("app.log", first)
	n.exact("app", first)
	n.stopReceiver()
	more := text("more", 40<<20)
	n.write("app.log", more)
	n.eventually("it to be confirmed without a receiver", func() error { return n.atRest("app") })
	n.stop()
	n.change = nil
	n.start()
	n.startReceiver()
	end := []byte("end\n")
	n.write("app.log", end)
	n.exact("app", join(join(first, more), end))
	if e := n.epochs("app"); len(e) != 1 {
		t.Errorf("epochs %v", e)
	}
}
