package forward

import (
	"bytes"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"logforward/internal/chunk"

	"github.com/nats-io/nats.go/jetstream"
)

func TestForwardLostChunkIsSentAgainOnce(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	n.change = func(cfg *Config) {
		cfg.Limits.ChunkSize, cfg.Limits.Window, cfg.Limits.AckTimeout = 16<<10, 64<<20, time.Minute
	}
	want := lines(seeded(t), 60000)
	n.append("app", want)
	lost := 0
	c.rest(true) // so that all of it is sent before the hole shows
	c.with(func() {
		c.lose = func(ch *chunk.Chunk) bool {
			if lost == 0 && ch.Position > uint64(len(want)/20) {
				lost++
				return true
			}
			return false
		}
	})
	n.start(n.log("app"))
	eventually(t, "all is stored", func() bool { return n.status("app").Stored == uint64(len(want)) })
	c.rest(false)
	n.delivered("app", want)
	if lost != 1 {
		t.Fatal("nothing was lost")
	}
	c.with(func() {
		// Once the hole shows, all behind it comes again: twice at most. With a request for
		// each chunk behind the hole it would be many times that.
		if c.bytes > uint64(len(want))*21/10 {
			t.Errorf("%d bytes arrived for %d", c.bytes, len(want))
		}
	})
	if s := n.status("app"); s.Resends != 1 {
		t.Errorf("went back %d times", s.Resends)
	}
}

func TestForwardHoleUnderWayCostsLittle(t *testing.T) {
	c := newCentre(t)
	n := newNode(t, c)
	n.change = func(cfg *Config) {
		cfg.Limits.ChunkSize, cfg.Limits.Window, cfg.Limits.AckTimeout = 16<<10, 256<<10, time.Minute
	}
	want := lines(seeded(t), 60000)
	n.append("app", want)
	lost := 0
	c.with(func() {
		c.lose = func(ch *chunk.Chunk) bool {
			if ch.Position > uint64(lost+1)*uint64(len(want)/4) && lost < 3 {
				lost++
				return true
			}
			return false
		}
	})
	n.start(n.log("app"))
	n.delivered("app", want)
	c.with(func() {
		if lost != 3 {
			t.Fatalf("%d chunks were lost", lost)
		}
		// What was stored behind each hole by the time it is known is the receiver's delay,
		// not the protocol's: the rounds bound the number of goings back.
		t.Logf("%d bytes arrived for %d", c.bytes, len(want))
	})
	if s := n.status("app"); s.Resends > 3 {
		t.Errorf("went back %d times for 3 holes", s.Resends)
	}
}

func TestForwardStaleResendChangesNothing(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	want := lines(seeded(t), 1000)
	n.append("app", want)
	n.start(n.log("app"))
	n.delivered("app", want)
	c.mute(true)
	more := lines(seeded(t), 1000)
	n.append("app", more)
	eventually(t, "stored", func() bool { return n.status("app").Stored == uint64(len(want)+len(more)) })
	before := n.status("app")
	f := n.engine.runs["app"]
	for _, r := range []chunk.Resend{
		{Epoch: before.Epoch, From: before.Confirmed, Round: before.Round - 1},
		{Epoch: before.Epoch, From: before.Confirmed, Round: before.Round + 1},
		{Epoch: before.Epoch - 1, From: before.Confirmed, Round: before.Round},
		{Epoch: before.Epoch + 1, From: before.Confirmed, Round: before.Round},
		{Epoch: before.Epoch, From: before.Confirmed - 1, Round: before.Round},
		{Epoch: before.Epoch, From: before.Position, Round: before.Round},
		{Epoch: before.Epoch, From: before.Position + 1, Round: before.Round},
		{Epoch: before.Epoch, From: chunk.MaxPosition + 5, Round: before.Round},
	} {
		f.post(func() { f.onResend(r) })
	}
	if after := n.status("app"); after.Round != before.Round || after.Stored != before.Stored || after.Resends != before.Resends {
		t.Errorf("%+v became %+v", before, after)
	}
	f.post(func() { f.onResend(chunk.Resend{Epoch: before.Epoch, From: before.Confirmed, Round: before.Round}) })
	if after := n.status("app"); after.Round != before.Round+1 || after.Resends != before.Resends+1 {
		t.Errorf("a valid one was not obeyed: %+v", after)
	}
	c.mute(false)
	n.delivered("app", append(want, more...))
}

func TestForwardFullStreamPushesBack(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	c.options = jetstream.StreamConfig{MaxBytes: 256 << 10}
	c.restart()
	n := newNode(t, c)
	n.change = func(cfg *Config) { cfg.Limits.ChunkSize = 32 << 10 }
	want := lines(seeded(t), 30000)
	n.append("app", want)
	c.rest(true)
	n.start(n.log("app"))
	eventually(t, "the log is blocked by the full stream", func() bool {
		s := n.status("app")
		return s.State == Blocked && bytes.Contains([]byte(s.LastError), []byte("full"))
	})
	if s := n.status("app"); s.Stored > 256<<10 {
		t.Errorf("stored %d in a stream of 256 KiB", s.Stored)
	}
	c.rest(false)
	n.delivered("app", want)
}

func TestForwardSurvivesBrokerRestarts(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	n.change = func(cfg *Config) { cfg.Limits.ChunkSize = 16 << 10; cfg.Limits.Rate = 2 << 20 }
	r := seeded(t)
	want := lines(r, 30000)
	n.append("app", want)
	n.start(n.log("app"))
	for range 3 {
		goal := n.status("app").Confirmed + uint64(r.IntN(300<<10))
		eventually(t, "some more is confirmed", func() bool { return n.status("app").Confirmed >= min(goal, uint64(len(want))) })
		c.restart()
	}
	more := lines(r, 100)
	n.append("app", more)
	n.delivered("app", append(want, more...))
}

func TestForwardSurvivesWipedBroker(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	n.change = func(cfg *Config) { cfg.Limits.ChunkSize = 16 << 10 }
	r := seeded(t)
	want := lines(r, 5000)
	n.append("app", want)
	n.start(n.log("app"))
	n.delivered("app", want)
	for range 2 {
		c.mute(true)
		more := lines(r, 5000)
		n.append("app", more)
		want = append(want, more...)
		eventually(t, "stored, not confirmed", func() bool { return n.status("app").Stored == uint64(len(want)) })
		c.wipe()
		c.mute(false)
		n.delivered("app", want)
	}
	if g := c.look("app"); len(g.epochs) != 1 || len(g.gaps) != 0 {
		t.Errorf("epochs %v, %d gaps", g.epochs, len(g.gaps))
	}
}

func TestForwardCrashesLoseNothing(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	n.change = func(cfg *Config) {
		cfg.Limits.ChunkSize, cfg.Limits.Rate, cfg.Limits.ReserveStep = 8<<10, 4<<20, 64<<10
	}
	r := seeded(t)
	var want []byte
	for i := range 12 {
		piece := lines(r, 1+r.IntN(3000))
		n.append("app", piece)
		want = append(want, piece...)
		if i > 0 && r.IntN(3) == 0 {
			rename(t, n, "app")
		}
		n.start(n.log("app"))
		switch min(i, r.IntN(3)) { // at first: until it is known
		case 0:
			n.delivered("app", want)
		case 1:
			goal := n.status("app").Position + uint64(r.IntN(len(piece)))
			eventually(t, "some is read", func() bool { return n.status("app").Position >= min(goal, uint64(len(want))) })
		case 2:
			time.Sleep(time.Duration(r.IntN(30)) * time.Millisecond) // anywhere
		}
		n.crash()
	}
	n.start(n.log("app"))
	n.delivered("app", want)
	if g := c.look("app"); len(g.epochs) != 1 || len(g.gaps) != 0 {
		t.Errorf("epochs %v, gaps %v", g.epochs, g.gaps)
	}
}

// rename rotates a log as logrotate does without compression.
func rename(t *testing.T, n *node, log string) {
	t.Helper()
	path := n.path(log)
	for i := 30; i > 0; i-- {
		from := path
		if i > 1 {
			from = numbered(path, i-1)
		}
		if _, err := os.Stat(from); err == nil {
			if err := os.Rename(from, numbered(path, i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func numbered(path string, i int) string {
	return path + "." + string(rune('0'+i/10)) + string(rune('0'+i%10))
}

func TestForwardRandomRunKeepsTheBooks(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	n.change = func(cfg *Config) {
		cfg.Limits.ChunkSize, cfg.Limits.ReserveStep, cfg.Limits.AckTimeout = 4<<10, 32<<10, 300*time.Millisecond
	}
	r := seeded(t)
	drop := rand.New(rand.NewPCG(r.Uint64(), 2))
	c.with(func() { c.lose = func(*chunk.Chunk) bool { return drop.IntN(20) == 0 } })
	names := []string{"a", "b", "c"}
	want := map[string][]byte{}
	n.start(n.log("a"), n.log("b"), n.log("c"))
	for _, name := range names {
		// A file that was rotated away before it was ever seen is nobody's.
		want[name] = []byte("first\n")
		n.append(name, want[name])
		n.delivered(name, want[name])
	}
	for step := range 60 {
		name := names[r.IntN(3)]
		switch r.IntN(10) {
		default:
			b := lines(r, r.IntN(300))
			n.append(name, b)
			want[name] = append(want[name], b...)
		case 6:
			rename(t, n, name)
		case 7:
			n.crash()
			n.start()
		case 8:
			n.engine.Pause(name, r.IntN(2) == 0)
		case 9:
			if step%3 == 0 {
				c.restart()
			}
		}
		n.status(name)
	}
	c.with(func() { c.lose = nil })
	for _, name := range names {
		n.engine.Pause(name, false)
	}
	for _, name := range names {
		if len(want[name]) > 0 {
			n.delivered(name, want[name])
		}
	}
}

// spy looks at each chunk before it goes on its way.
type spy struct {
	transport
	look func(*chunk.Chunk)
}

func (s spy) publish(l *chunk.Layout, log string, c *chunk.Chunk, quiet bool, done func(error)) {
	s.look(c)
	s.transport.publish(l, log, c, quiet, done)
}

// What a chunk's position and epoch mean must be on disk before the chunk is on its way.
func TestForwardPersistsBeforeItPublishes(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	n.change = func(cfg *Config) {
		cfg.Limits.ChunkSize, cfg.Limits.ReserveStep, cfg.Limits.Checkpoint = 4<<10, 16<<10, time.Hour
	}
	r := seeded(t)
	n.append("app", nil)
	n.start(n.log("app"))
	eventually(t, "it runs", func() bool { return n.status("app").State == Idle })
	f, state, seen := n.engine.runs["app"], n.st, 0
	f.post(func() {
		f.transport = spy{f.transport, func(ch *chunk.Chunk) {
			rec, err := state.checkpoint("central", "app")
			if err != nil || rec == nil || rec.Epoch != ch.Epoch || rec.Reserved < ch.End() || rec.Layout == nil {
				t.Errorf("epoch %d to position %d is published, on disk is %+v (%v)", ch.Epoch, ch.End(), rec, err)
				return
			}
			known := false
			for _, s := range rec.Tail.Segments {
				known = known || s.Generation == ch.File
			}
			if !known {
				t.Errorf("position %d of %s is published, on disk are only %+v", ch.Position, ch.File, rec.Tail.Segments)
			}
			seen++
		}}
	})
	want := lines(r, 3000)
	n.append("app", want)
	n.delivered("app", want)
	f.post(func() { f.onFork(chunk.Fork{Epoch: f.rec.Epoch}) })
	rename(t, n, "app")
	more := lines(r, 1000)
	n.append("app", more)
	n.delivered("app", append(want, more...))
	n.stop()
	if seen < 20 {
		t.Errorf("only %d chunks were looked at", seen)
	}
}
