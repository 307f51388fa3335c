package forward

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"logforward/internal/chunk"
	"logforward/internal/tail"
)

func TestForwardWithoutStateResumesWhereTheCentreStands(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		start  tail.Start
		before func(*testing.T, *node)
	}{
		{"same file", tail.StartBeginning, func(*testing.T, *node) {}},
		{"start at the end", tail.StartEnd, func(*testing.T, *node) {}},
		{"rotated meanwhile", tail.StartBeginning, func(t *testing.T, n *node) { rename(t, n, "app") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCentre(t)
			n := newNode(t, c)
			r := seeded(t)
			want := lines(r, 3000)
			n.append("app", want)
			n.start(n.log("app"))
			n.delivered("app", want)
			n.stop()
			n.forget()
			tt.before(t, n)
			more := lines(r, 2000)
			n.append("app", more)
			want = append(want, more...)
			log := n.log("app")
			log.Start = tt.start
			n.start(log)
			n.delivered("app", want)
			if g := c.look("app"); len(g.epochs) != 1 || len(g.gaps) != 0 || g.forks != 0 {
				t.Errorf("epochs %v, gaps %v, forks %d", g.epochs, g.gaps, g.forks)
			}
			// And what was sent by the lost life but never confirmed doesn't disturb the next.
			last := lines(r, 100)
			n.append("app", last)
			n.delivered("app", append(want, last...))
		})
	}
}

func TestForwardWithoutStateAndFileBeginsAnEpochWithAGap(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	r := seeded(t)
	old := lines(r, 1000)
	n.append("app", old)
	n.start(n.log("app"))
	n.delivered("app", old)
	first := n.status("app").Epoch
	n.stop()
	n.forget()
	fresh := lines(r, 500)
	if err := os.Remove(n.path("app")); err != nil {
		t.Fatal(err)
	}
	n.append("app", fresh)
	n.start(n.log("app"))
	n.delivered("app", append(old, fresh...))
	g := c.look("app")
	if len(g.epochs) != 2 || g.epochs[1] <= first || g.Predecessor != first {
		t.Errorf("epochs %v, predecessor %d", g.epochs, g.Predecessor)
	}
	if len(g.gaps) != 1 || g.gaps[0].Position != 0 || g.gaps[0].Length != 1 || g.gaps[0].Gap.Bytes != -1 || !strings.Contains(g.gaps[0].Gap.Cause, "node state lost") {
		t.Errorf("gaps %+v", g.gaps)
	}
}

// The file is the same, but not the bytes that the centre has last.
func TestForwardWithoutStateComparesBytes(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	old := lines(seeded(t), 300)
	n.append("app", old)
	n.start(n.log("app"))
	n.delivered("app", old)
	n.stop()
	n.forget()
	f, err := os.OpenFile(n.path("app"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("other"), int64(len(old)/2)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(n.path("app"))
	if err != nil {
		t.Fatal(err)
	}
	n.start(n.log("app"))
	n.delivered("app", append(old, file...))
	if g := c.look("app"); len(g.epochs) != 2 || len(g.gaps) != 1 {
		t.Errorf("epochs %v, gaps %+v", g.epochs, g.gaps)
	}
}

func TestForwardWithoutStateWaitsForAnAnswer(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	c.with(func() { c.blind = true })
	want := lines(seeded(t), 100)
	n.append("app", want)
	n.start(n.log("app"))
	eventually(t, "hellos without a useful answer", func() bool { h := 0; c.with(func() { h = c.hellos }); return h >= 3 })
	f := n.engine.runs["app"]
	f.post(func() { f.patience = time.Time{} }) // however long it takes
	if s := n.status("app"); s.State != Syncing || s.Epoch != 0 || s.Position != 0 {
		t.Errorf("%+v", s)
	}
	c.with(func() {
		if c.chunks != 0 {
			t.Errorf("%d chunks were sent", c.chunks)
		}
		c.blind = false
	})
	n.delivered("app", want)
}

func TestForwardStartAtEndIsDecidedBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	c.mute(true)
	n.append("app", []byte("old\n"))
	log := n.log("app")
	log.Start = tail.StartEnd
	n.start(log)
	eventually(t, "the log is open", func() bool { return n.status("app").State == Syncing })
	n.append("app", []byte("written while the centre was silent\n"))
	n.crash()
	n.append("app", []byte("and while the node was down\n"))
	n.start(log)
	c.mute(false)
	n.delivered("app", []byte("written while the centre was silent\nand while the node was down\n"))
}

// A log is said to be starting until it is on disk where it begins: who is told otherwise could write, and lose that by a crash.
func TestForwardIsStartingUntilItsBeginningIsOnDisk(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	n.append("app", []byte("old\n"))
	log := n.log("app")
	log.Start = tail.StartEnd
	n.start()
	slow, err := n.st.db.Begin(true) // a disk that takes its time: all other writes wait for this one
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = slow.Rollback() }() // does nothing the second time
	n.engine.Set([]Log{log})
	eventually(t, "the file is open", func() bool { return len(n.status("app").Generations) == 1 })
	for range 20 {
		if s := n.status("app"); s.State != Starting {
			t.Fatalf("state %q before anything is on disk", s.State)
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := slow.Rollback(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is on disk", func() bool { return n.status("app").State != Starting })
	if rec, err := n.st.checkpoint("central", "app"); err != nil || rec == nil {
		t.Fatalf("checkpoint %v, error %v", rec, err)
	}
}

// Positions that were used for other bytes before the crash are skipped.
func TestForwardTruncatedAfterCrashLeavesAGapUpToReserved(t *testing.T) {
	t.Parallel()
	for _, known := range []string{"the state knows less than was read", "the state knows all that was read"} {
		t.Run(known, func(t *testing.T) {
			c := newCentre(t)
			n := newNode(t, c)
			n.change = func(cfg *Config) { cfg.Limits.ReserveStep = 1 << 20; cfg.Limits.ChunkSize = 8 << 10 }
			r := seeded(t)
			confirmed := lines(r, 100)
			n.append("app", confirmed)
			n.start(n.log("app"))
			n.delivered("app", confirmed)
			eventually(t, "the checkpoint says so", func() bool {
				rec, err := n.st.checkpoint("central", "app")
				return err == nil && rec != nil && rec.Confirmed == uint64(len(confirmed))
			})
			c.rest(true)
			sent := lines(r, 500)
			n.append("app", sent)
			eventually(t, "stored", func() bool { return n.status("app").Stored == uint64(len(confirmed)+len(sent)) })
			used := uint64(1 << 20) // by what the node reserved
			if known == "the state knows all that was read" {
				n.stop()
				used = uint64(len(confirmed) + len(sent)) // it is known that nothing was sent beyond
			} else {
				n.crash()
			}
			fresh := lines(r, 900)
			if err := os.WriteFile(n.path("app"), fresh, 0o600); err != nil {
				t.Fatal(err)
			}
			n.start(n.log("app"))
			c.rest(false)
			// What was in the stream arrives, then the gap, then the new bytes.
			eventually(t, "the new bytes are there", func() bool { return bytes.HasSuffix(c.data("app"), fresh) })
			have := c.data("app")
			if head := have[:len(have)-len(fresh)]; !bytes.Equal(head, confirmed) && !bytes.Equal(head, append(bytes.Clone(confirmed), sent...)) {
				t.Errorf("%d bytes before the new ones: neither what was confirmed nor what was sent", len(head))
			}
			g := c.look("app")
			if len(g.gaps) == 0 && len(g.epochs) == 1 {
				t.Errorf("no gap, no new epoch: %+v", g.Place)
			}
			if len(g.epochs) == 1 && g.Position < used+uint64(len(fresh)) {
				t.Errorf("position %d: the new bytes have positions that were used before, up to %d", g.Position, used)
			}
			t.Logf("gaps %d, epochs %d, forks %d", len(g.gaps), len(g.epochs), g.forks)
			eventually(t, "confirmed", func() bool { s := n.status("app"); return s.Unconfirmed == 0 && s.LagBytes == 0 })
		})
	}
}

func TestForwardRewrittenInPlaceBeforeConfirmationBecomesAGap(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	n.change = func(cfg *Config) { cfg.Limits.ChunkSize = 4 << 10 }
	r := seeded(t)
	want := lines(r, 400)
	n.append("app", want)
	dropped := false
	c.rest(true)
	c.with(func() {
		c.lose = func(ch *chunk.Chunk) bool {
			if !dropped && ch.Position > 8<<10 {
				dropped = true
				return true
			}
			return false
		}
	})
	n.start(n.log("app"))
	eventually(t, "stored", func() bool { return n.status("app").Stored == uint64(len(want)) })
	// Same size, other bytes, around the chunk that is lost.
	f, err := os.OpenFile(n.path("app"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(bytes.Repeat([]byte("?"), 6<<10), 7<<10); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	c.rest(false)
	eventually(t, "confirmed", func() bool { s := n.status("app"); return s.Confirmed == uint64(len(want)) && s.Unconfirmed == 0 })
	g := c.look("app")
	if len(g.gaps) != 1 || g.gaps[0].Gap.Cause != "changed since it was read" {
		t.Fatalf("gaps %+v", g.gaps)
	}
	from, to := g.gaps[0].Position, g.gaps[0].End()
	if bytes.Contains(g.data, []byte("??")) {
		t.Error("changed bytes were sent under positions that had meant others")
	}
	// The receiver may have had the head of the range.
	if rest := want[to:]; !bytes.HasSuffix(g.data, rest) || !bytes.HasPrefix(want, g.data[:len(g.data)-len(rest)]) {
		t.Errorf("gap %d to %d, but %d bytes arrived that don't fit", from, to, len(g.data))
	}
	if s := n.status("app"); s.Gap != to-from || s.Gaps != 1 {
		t.Errorf("status %+v", s)
	}
}

func TestForwardSmallestGapIsSentAgainWhenLost(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	old := []byte("old\n")
	n.append("app", old)
	n.start(n.log("app"))
	n.delivered("app", old)
	n.stop()
	n.forget()
	if err := os.Remove(n.path("app")); err != nil {
		t.Fatal(err)
	}
	n.append("app", []byte("new\n"))
	times := 0
	c.with(func() {
		c.lose = func(ch *chunk.Chunk) bool {
			if ch.Gap != nil {
				times++
			}
			return ch.Gap != nil && times < 3
		}
	})
	n.start(n.log("app"))
	n.delivered("app", []byte("old\nnew\n"))
	if g := c.look("app"); len(g.gaps) != 1 || g.gaps[0].Length != 1 {
		t.Errorf("gaps %+v", g.gaps)
	}
	if s := n.status("app"); s.Gaps != 1 || s.Gap != 1 {
		t.Errorf("%+v", s)
	}
}

// A file is gone that the last run had sent, and the centre takes it bit by bit, for longer than it may stand still: no gap goes out meanwhile, for
// what came behind it would come twice.
func TestForwardGapWaitsWhileTheCentreGoesOn(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	n.change = func(cfg *Config) { cfg.Limits.SyncInterval = 4 * time.Second }
	r := seeded(t)
	first, gone, last, fresh := lines(r, 300), lines(r, 300), lines(r, 200), lines(r, 100)
	n.append("app", first)
	n.start(n.log("app"))
	n.delivered("app", first)
	c.rest(true)
	n.append("app", gone)
	rename(t, n, "app")
	n.append("app", last)
	sent := bytes.Join([][]byte{first, gone, last}, nil)
	eventually(t, "stored", func() bool { return n.status("app").Stored == uint64(len(sent)) })
	n.crash()
	if err := os.Remove(numbered(n.path("app"), 1)); err != nil {
		t.Fatal(err)
	}
	n.append("app", fresh)
	n.start()
	still := 2*20*time.Millisecond + 50*time.Millisecond + time.Second + 4*time.Second // how long the centre may stand still, as in place's patience
	const steps = 10
	for i := range steps {
		part := gone[i*50 : (i+1)*50]
		c.with(func() { // as if these were a chunk
			g := c.logs["app"]
			g.Tail = chunk.Tail{From: g.Position, Digest: g.Digest}
			g.Sources[len(g.Sources)-1].Offset += int64(len(part))
			g.Position, g.Digest, g.data = g.Position+uint64(len(part)), g.Digest.Update(part), append(g.data, part...)
		})
		time.Sleep(still / (steps - 1)) // each less than that, and all together more
	}
	c.rest(false)
	n.delivered("app", append(sent, fresh...))
	if g := c.look("app"); len(g.gaps) != 0 || len(g.epochs) != 1 || g.forks != 0 {
		t.Errorf("gaps %+v, epochs %v, forks %d", g.gaps, g.epochs, g.forks)
	}
}
