package receive

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

// What is stored between the last look at a leftover stream and the end of its subjects is moved before the stream is deleted.
func TestLateChunkInALeftoverIsMoved(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.setup(3)
	n := s.node("web4", "syslog") // of partition 2 of 3, and 0 of 2
	var late atomic.Pointer[chunk.Chunk]
	s.config.fault = func(op string, done bool) error {
		if op == opRetire && !done {
			if c := late.Swap(nil); c != nil {
				n.sendTo(3, c)
			}
		}
		return nil
	}
	s.startReceiver()
	n.sendTo(3, n.make("by the old layout\n"))
	n.waitConfirmed()
	late.Store(n.make("late\n"))
	s.setup(2)
	n.waitConfirmed()
	n.same()
	js, err := broker.JetStream(s.nc, "")
	s.must(err)
	eventually(t, "delete the stream", func() (bool, string) {
		_, err := js.Stream(asking(t), streamName(2))
		return errors.Is(err, jetstream.ErrStreamNotFound), fmt.Sprint(err)
	})
}

// A receiver of an older layout was stopped right before it took a leftover's subjects away, or deleted it, and its request
// arrives when the stream is in use again, full of what nobody has committed: the stream comes back, and no byte is lost.
func TestLateEndOfALeftoverThatIsInUseAgain(t *testing.T) {
	t.Parallel()
	for name, late := range map[string]func(*site, jetstream.JetStream) error{
		"subjects": func(s *site, js jetstream.JetStream) error {
			config := s.stream(2).Config
			config.Subjects = []string{"retired." + broker.PartitionSubjects("logs", 2)}
			_, err := js.UpdateStream(asking(s.t), config)
			return err
		},
		"deletion": func(s *site, js jetstream.JetStream) error { return js.DeleteStream(asking(s.t), streamName(2)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, nil)
			s.setup(3)
			s.config.CommitInterval = time.Hour // so that all that is sent now waits in the stream
			s.startReceiver()
			divided(t, 3, s)
			x := &sender{identity: "web4", log: "syslog", epoch: 1, digests: map[uint64]chunk.Digest{0: 0}}
			s.listenFor(x.identity, []*sender{x})
			finish, stopped := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(stopped)
				nodeLoop(s, []*sender{x}, rand.New(rand.NewPCG(1, 2)), finish)
			}()
			eventually(t, "wait in the stream", func() (bool, string) {
				st := s.r.Status(t.Context())
				return len(st.Logs) == 1 && st.Logs[0].Position > 1000 && s.stream(2).State.Msgs > 10, fmt.Sprintf("%+v", st.Logs)
			})
			r2 := s.beside("r2", false)
			r2.config.CommitInterval = 20 * time.Millisecond
			js, err := broker.JetStream(s.nc, "")
			s.must(err)
			s.must(late(s, js))
			s.dies() // with all that it had appended
			r2.startReceiver()
			eventually(t, "have the stream back", func() (bool, string) {
				stream, err := js.Stream(asking(t), streamName(2))
				if err != nil {
					return false, err.Error()
				}
				subjects := stream.CachedInfo().Config.Subjects
				return slices.Contains(subjects, broker.PartitionSubjects("logs", 2)), fmt.Sprint(subjects)
			})
			close(finish)
			<-stopped
			s.config.CommitInterval = 20 * time.Millisecond
			s.startReceiver() // what it had is cut
			eventually(t, "settle", func() (bool, string) {
				s.r.mu.Lock()
				defer s.r.mu.Unlock()
				return len(s.r.begun) == 3, ""
			})
			x.mu.Lock()
			defer x.mu.Unlock()
			if x.wrong != nil || x.confirmed != x.end() {
				t.Errorf("confirmed %d of %d, %v", x.confirmed, x.end(), x.wrong)
			}
			var got bytes.Buffer
			if _, err := Cat(&got, s.outputs(), x.identity, x.log); err != nil || !bytes.Equal(got.Bytes(), x.written()) {
				t.Errorf("%d bytes, want %d, differ at %d (%v)", got.Len(), len(x.written()), differ(got.Bytes(), x.written()), err)
			}
		})
	}
}

// A stream that loses its subjects under a receiver that works it gets them back, and at once where one begins to.
func TestStreamWithoutItsSubjectsGetsThemBack(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.startReceiver()
	n := s.node("web1", "syslog")
	n.send(n.make("before\n"))
	n.waitConfirmed()
	js, err := broker.JetStream(s.nc, "")
	s.must(err)
	deafen := func() {
		config := s.stream(0).Config
		config.Subjects = []string{"retired." + broker.PartitionSubjects("logs", 0)}
		_, err := js.UpdateStream(asking(t), config)
		s.must(err)
	}
	hears := func() (bool, string) {
		subjects := s.stream(0).Config.Subjects
		return slices.Contains(subjects, broker.PartitionSubjects("logs", 0)), fmt.Sprint(subjects)
	}
	deafen()
	eventually(t, "take chunks again", hears)
	n.send(n.make("after\n"))
	n.waitConfirmed()
	s.must(s.stopReceiver())
	deafen()
	s.startReceiver()
	divided(t, 1, s)
	if ok, subjects := hears(); !ok {
		t.Errorf("the receiver works a stream that takes %s", subjects)
	}
	n.send(n.make("at last\n"))
	n.waitConfirmed()
	n.same()
}

// A number of copies that was changed while a receiver runs is that by which it makes lost streams anew.
func TestChangedReplicasAreRemembered(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.startReceiver()
	divided(t, 1, s)
	js, err := broker.JetStream(s.nc, "")
	s.must(err)
	kv, err := js.KeyValue(asking(t), broker.Bucket)
	s.must(err)
	shared, err := broker.OpenShared(asking(t), js)
	s.must(err)
	layout, err := shared.Layout(asking(t))
	s.must(err)
	layout.Replicas = 3
	value, err := json.Marshal(layout)
	s.must(err)
	_, err = kv.Put(asking(t), "layout", value)
	s.must(err)
	eventually(t, "remember", func() (bool, string) {
		var known remembered
		_, err := s.r.state.getMeta("layout", &known)
		s.must(err)
		return known.Layout == layout, fmt.Sprintf("%+v", known)
	})
}

// A stream without a leader looks as one that isn't there. A node that can't publish by its old layout for half a minute takes the new one, though the old
// stream holds chunks of it that nobody has committed, and sends them again, cut in other places. When the old stream comes back its chunks are moved, in
// whatever order: nothing is lost, doubled or stuck.
func TestNodeThatLeavesTheOldLayoutEarly(t *testing.T) {
	t.Parallel()
	for _, change := range []struct{ from, to int }{{3, 2}, {2, 3}} { // web4 is of partition 2 of 3, and 0 of 2
		for _, first := range []string{"old", "new", "both"} {
			t.Run(fmt.Sprintf("%d to %d partitions, %s first", change.from, change.to, first), func(t *testing.T) {
				t.Parallel()
				s := newSite(t, func(c *Config) { c.LeftoverGrace = time.Hour }) // the node publishes to the old stream when it likes
				s.setup(change.from)
				n := s.node("web4", "syslog")
				s.startReceiver()
				n.sendTo(change.from, n.make("committed\n"))
				n.waitConfirmed()
				s.must(s.stopReceiver())
				s.setup(change.to)
				position, digest, offset, written := n.position, n.digest, n.offset, n.written
				old := []*chunk.Chunk{n.make("one\n"), n.make("two, "), n.make("three\n")}
				n.position, n.digest, n.offset, n.written = position, digest, offset, written
				n.round++
				again := []*chunk.Chunk{n.make("one\ntwo"), n.make(", three\nfour\n"), n.make("five\n")}
				switch first {
				case "old":
					n.sendTo(change.from, old...)
					s.startReceiver()
					n.place(t, n.here())
					n.sendTo(change.to, again...)
				case "new":
					s.startReceiver()
					n.sendTo(change.to, again...)
					n.waitConfirmed()
					n.sendTo(change.from, old...)
				case "both":
					n.sendTo(change.from, old[0], old[1])
					n.sendTo(change.to, again...)
					n.sendTo(change.from, old[2])
					s.startReceiver()
				}
				n.waitConfirmed()
				n.sendTo(change.to, n.make("and on\n"))
				n.waitConfirmed()
				n.same()
				eventually(t, "empty streams", func() (bool, string) {
					left := s.left(0) + s.left(2)
					return left == 0, fmt.Sprint(left)
				})
				n.same()
			})
		}
	}
}
