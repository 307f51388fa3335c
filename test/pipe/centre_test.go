package pipe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"logforward/internal/broker"
	"logforward/internal/chunk"
	"logforward/internal/forward"
	"logforward/internal/receive"
)

func TestFullStreamHoldsBackTheNode(t *testing.T) {
	n, want := began(t, func(r *rig) { r.wanted.MaxBytes = 1 << 20 })
	n.stopReceiver()
	more := text("more", 4<<20)
	n.write("app.log", more)
	n.eventually("the full stream to be told", func() error {
		if s := n.status("app"); s.State != forward.Blocked || !strings.Contains(s.LastError, "full") {
			return fmt.Errorf("%s %q", s.State, s.LastError)
		}
		return nil
	})
	n.startReceiver()
	n.exact("app", join(want, more))
}

// TestFullDiskAcknowledgesNothing fills the receiver's disk.
func TestFullDiskAcknowledgesNothing(t *testing.T) {
	t.Parallel()
	disk := mount(t, "tmpfs", 4<<20)
	n := newRig(t, func(r *rig) { r.receiving.Output = disk + "/received" }).node
	want := text("first", 100<<10)
	n.write("app.log", want)
	n.start()
	n.exact("app", want)
	ballast := filepath.Join(disk, "ballast")
	n.must(os.WriteFile(ballast, make([]byte, 3<<20), 0o600))
	more := text("more", 2<<20)
	n.write("app.log", more)
	n.eventually("the full disk to be told", func() error {
		if h := n.receiver.Health(); !strings.Contains(strings.Join(h, " "), "no space") {
			return fmt.Errorf("health: %v", h)
		}
		return nil
	})
	for range 3 { // while it is tried again
		n.round()
		confirmed := n.status("app").Confirmed
		var got bytes.Buffer
		_, err := receive.Cat(&got, []string{n.receiving.Output}, identity, "app")
		n.must(err)
		if uint64(got.Len()) < confirmed {
			t.Fatalf("%d bytes are confirmed, %d are there", confirmed, got.Len())
		}
		if all := join(want, more); !bytes.HasPrefix(all, got.Bytes()) {
			t.Fatal("what is there isn't what was written")
		}
	}
	if s := n.status("app"); s.Confirmed == s.Position {
		t.Fatal("all is confirmed, on a full disk")
	}
	n.must(os.Remove(ballast))
	n.exact("app", join(want, more))
	if h := n.receiver.Health(); len(h) > 0 {
		t.Errorf("health afterwards: %v", h)
	}
}

func TestCommitStoredIsTheBrokersWord(t *testing.T) {
	t.Parallel()
	n := newRig(t).node
	n.change = func(c *forward.Config) {
		d := c.Destinations["central"]
		d.Commit = forward.Stored
		c.Destinations["central"] = d
	}
	want := text("first", 100<<10)
	n.write("app.log", want)
	n.start()
	n.exact("app", want)
	if s := n.status("app"); s.Promise == "" {
		t.Error("the weaker promise isn't told")
	}
	n.stopReceiver()
	more := text("more", 100<<10)
	n.write("app.log", more)
	n.eventually("it to be confirmed without a receiver", func() error { return n.atRest("app") })
	n.stop() // what the broker has, the node needs no more
	n.remove("app.log")
	n.startReceiver()
	n.eventually("the receiver to have it", func() error { return n.central("app", join(want, more), nil) })
}

func TestMorePartitionsWhileRunning(t *testing.T) {
	n, want := began(t, func(r *rig) { r.wanted.Partitions = 1 })
	for i := range 6 {
		b := text(fmt.Sprint("round", i), 40<<10)
		n.write("app.log", b)
		want = join(want, b)
		if i == 2 {
			n.wanted.Partitions = 3
			n.setup(n.wanted)
		}
		n.status("app")
	}
	n.exact("app", want)
	n.eventually("the new layout", func() error {
		s := n.receiver.Status(t.Context())
		if len(s.Logs) != 1 || s.Logs[0].Partition != chunk.Partition(identity, 3) {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	n.write("app.log", []byte("end\n"))
	n.exact("app", join(want, []byte("end\n")))
	if e := n.epochs("app"); len(e) != 1 {
		t.Errorf("epochs %v", e)
	}
}

func TestFleetPause(t *testing.T) {
	n, want := began(t)
	shared := func(do func(context.Context, *broker.Shared) error) {
		n.administer(func(ctx context.Context, _ *nats.Conn, js jetstream.JetStream) error {
			s, err := broker.OpenShared(ctx, js)
			if err != nil {
				return err
			}
			return do(ctx, s)
		})
	}
	shared(func(ctx context.Context, s *broker.Shared) error {
		_, err := s.Press(ctx, broker.Pause{Since: time.Now(), By: "operator", Reason: "test"})
		return err
	})
	paused := func() {
		t.Helper()
		n.eventually("the pause", func() error {
			if s := n.status("app"); s.State != forward.Paused || !strings.Contains(s.LastError, "operator") {
				return fmt.Errorf("%s %q", s.State, s.LastError)
			}
			return nil
		})
	}
	paused()
	more := text("more", 100<<10)
	n.write("app.log", more)
	n.seen("app", len(more))
	n.round()
	// A restart in a paused fleet publishes nothing either.
	n.stop()
	n.start()
	paused()
	n.round()
	if s := n.status("app"); s.Stored != uint64(len(want)) {
		t.Fatalf("stored %d, want %d", s.Stored, len(want))
	}
	n.must(n.bytes("app", want))
	shared(func(ctx context.Context, s *broker.Shared) error { _, _, err := s.Release(ctx, "", true); return err })
	n.exact("app", join(want, more))
}

// TestHostileNode lets another identity of the same partition send what no forwarder does, while a good one works.
func TestHostileNode(t *testing.T) {
	n, want := began(t)
	evil := "evil0"
	for i := 0; chunk.Partition(evil, 2) != chunk.Partition(identity, 2); i++ {
		evil = fmt.Sprintf("evil%d", i)
	}
	p := chunk.Partition(evil, 2)
	nc, err := broker.Connect(t.Context(), broker.Options{URLs: []string{n.serve.Listen}})
	n.must(err)
	defer nc.Close()
	publish := func(subject string, header nats.Header, data []byte) {
		t.Helper()
		m := &nats.Msg{Subject: subject, Header: header, Data: data, Reply: nc.NewInbox()}
		n.must(nc.PublishMsg(m))
	}
	data := []byte("bytes of a hostile node\n")
	good := func(change func(*chunk.Chunk)) nats.Header {
		c := &chunk.Chunk{Epoch: 1, Length: uint64(len(data)), Checksum: chunk.Sum(data), File: "1-2-3-4-5", Data: data}
		change(c)
		return nats.Header(c.Header(chunk.Plain))
	}
	subject := func(log string) string { return fmt.Sprintf("logs.%d.%s.%s", p, evil, log) }
	attack := func() {
		for _, s := range []string{"=2E=2E", "=41", "a=2Fb", "=00", "=ZZ", "a.b.c", strings.Repeat("x", 3000), "@ledger"} {
			publish(subject(s), good(func(*chunk.Chunk) {}), data)
		}
		publish(fmt.Sprintf("logs.%d.=2E=2E.app", p), good(func(*chunk.Chunk) {}), data)
		for i, change := range []func(*chunk.Chunk){
			func(c *chunk.Chunk) { c.Position = 1 << 40 },
			func(c *chunk.Chunk) { c.Length = 1 << 30 },
			func(c *chunk.Chunk) { c.Checksum++ },
			func(c *chunk.Chunk) { c.Epoch = chunk.MaxPosition },
			func(c *chunk.Chunk) { c.Digest = 7 },
			func(c *chunk.Chunk) {
				c.Gap, c.Data = &chunk.Gap{Cause: "spite", Bytes: 1 << 62}, nil
				c.Length = 1 << 62
			},
			func(c *chunk.Chunk) { c.File = "../../" + identity + "/app.log"; c.Offset = 1 << 50 },
		} {
			publish(subject(fmt.Sprint("lies", i)), good(change), data)
		}
		publish(subject("none"), nil, data)
		publish(subject("noise"), nats.Header{"Lf-Epoch": {"1 0", "2 0"}, "Lf-Position": {"-1"}, "Lf-Gap": {"{"}}, data)
		publish(chunk.SyncSubject("logs", evil), nil, []byte(`{"logs":{"app":{"epoch":-1}}}`))
		publish(chunk.SyncSubject("logs", evil), nil, bytes.Repeat([]byte("["), 100000))
		// The answer to this one would go to the good node, as if it were a message for it.
		n.must(nc.PublishMsg(&nats.Msg{Subject: chunk.SyncSubject("logs", evil), Reply: chunk.ControlSubject("logs", identity), Data: []byte(`{"logs":{}}`)}))
	}
	for i := range 5 {
		attack()
		b := text(fmt.Sprint("round", i), 30<<10)
		n.write("app.log", b)
		want = join(want, b)
		n.exact("app", want)
	}
	if e := n.epochs("app"); len(e) != 1 {
		t.Errorf("epochs %v", e)
	}
	if s := n.status("app"); s.Forks != 0 || s.Resends != 0 {
		t.Errorf("%d forks, %d resends", s.Forks, s.Resends)
	}
	// Nothing of it lies outside its own directory.
	list, err := os.ReadDir(n.receiving.Output)
	n.must(err)
	for _, e := range list {
		if e.Name() != identity && e.Name() != evil && e.Name() != "@plain-names" && e.Name() != "@output" { // which no identity is called
			t.Errorf("%s in the output directory", e.Name())
		}
	}
	quarantine, err := os.ReadDir(filepath.Join(n.receiving.State, "quarantine"))
	if err != nil || len(quarantine) == 0 {
		t.Error(errors.Join(err, errors.New("nothing is in quarantine")))
	}
	n.crashReceiver()
	n.startReceiver()
	n.write("app.log", []byte("end\n"))
	n.exact("app", join(want, []byte("end\n")))
}
