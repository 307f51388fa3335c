package forward

import (
	"bytes"
	"os"
	"os/exec"
	"testing"
	"time"

	"logforward/internal/chunk"
)

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
}

// A node is restored from a snapshot, and its file goes on differently.
func TestForwardRestoredSnapshotForks(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	r := seeded(t)
	first := lines(r, 500)
	n.append("app", first)
	n.start(n.log("app"))
	n.delivered("app", first)
	n.stop()
	snapshot := t.TempDir() + "/snapshot"
	copyTree(t, n.state, snapshot)

	second := lines(r, 500)
	n.append("app", second)
	n.start()
	n.delivered("app", append(bytes.Clone(first), second...))
	n.stop()

	// Back to the snapshot; the file is the same inode, cut back and continued with other bytes.
	copyTree(t, snapshot, n.state)
	if err := os.Truncate(n.path("app"), int64(len(first))); err != nil {
		t.Fatal(err)
	}
	other := lines(r, 700)
	n.append("app", other)
	n.start()
	want := append(append(bytes.Clone(first), second...), other...)
	n.delivered("app", want)
	g := c.look("app")
	if len(g.epochs) != 2 || len(g.gaps) != 0 || g.begin[1] != len(first)+len(second) {
		t.Errorf("epochs %v begin at %v, gaps %v", g.epochs, g.begin, g.gaps)
	}
	if s := n.status("app"); s.Forks != 1 {
		t.Errorf("%d forks", s.Forks)
	}
}

// A node's state and its files are put back from a backup, as other inodes, and the file, of which little is known, is written to before the node starts.
func TestForwardRestoredSmallFileHasNoGap(t *testing.T) {
	c := newCentre(t)
	n := newNode(t, c)
	r := seeded(t)
	first := bytes.Repeat([]byte("one of a few lines\n"), 20)
	n.append("app", first)
	n.start(n.log("app"))
	n.delivered("app", first)
	n.stop()
	back := t.TempDir()
	copyTree(t, n.state, back+"/state")
	copyTree(t, n.dir, back+"/logs")
	second := lines(r, 50)
	n.append("app", second)
	n.start()
	n.delivered("app", append(bytes.Clone(first), second...))
	n.stop()

	copyTree(t, back+"/state", n.state)
	copyTree(t, back+"/logs", n.dir)
	other := lines(r, 50)
	n.append("app", other)
	n.start()
	n.delivered("app", append(append(bytes.Clone(first), second...), other...))
	if g := c.look("app"); len(g.epochs) != 2 || len(g.gaps) != 0 {
		t.Errorf("epochs %v, gaps %v", g.epochs, g.gaps)
	}
}

// The bytes that the centre has aren't in the restored file at all.
func TestForwardRestoredShorterFileForks(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	r := seeded(t)
	first, second := lines(r, 300), lines(r, 300)
	n.append("app", first)
	n.start(n.log("app"))
	n.delivered("app", first)
	n.stop()
	snapshot := t.TempDir() + "/snapshot"
	copyTree(t, n.state, snapshot)
	n.append("app", second)
	n.start()
	n.delivered("app", append(bytes.Clone(first), second...))
	n.stop()
	copyTree(t, snapshot, n.state)
	if err := os.Truncate(n.path("app"), int64(len(first))); err != nil {
		t.Fatal(err)
	}
	n.start()
	eventually(t, "a new epoch", func() bool { return n.status("app").Forks == 1 && n.status("app").State == Idle })
	n.append("app", []byte("after\n"))
	n.delivered("app", append(append(bytes.Clone(first), second...), "after\n"...))
}

// Two machines made from one image: whoever is second gets an epoch of its own, and
// nothing of the other's is overwritten.
func TestForwardClonesOverwriteNothing(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	a, b := newNode(t, c), newNode(t, c)
	r := seeded(t)
	first := lines(r, 200)
	a.append("app", first)
	a.start(a.log("app"))
	a.delivered("app", first)
	a.stop()
	copyTree(t, a.state, b.state)
	copyTree(t, a.dir, b.dir)
	fromA := []byte("only on a\n")
	a.append("app", fromA)
	a.start()
	a.delivered("app", append(bytes.Clone(first), fromA...))
	// The clone has its file under another path, so its log is the same only by name.
	b.append("app", []byte("only on b, and longer\n"))
	b.start(b.log("app"))
	eventually(t, "the clone's bytes are there", func() bool { return bytes.Contains(c.data("app"), []byte("only on b, and longer\n")) })
	if have := c.data("app"); !bytes.HasPrefix(have, append(bytes.Clone(first), fromA...)) {
		t.Error("what the first one sent was overwritten")
	}
	a.append("app", []byte("a again\n"))
	eventually(t, "the first one's bytes too", func() bool { return bytes.Contains(c.data("app"), []byte("a again\n")) })
	g := c.look("app")
	for i := 1; i < len(g.epochs); i++ {
		if g.epochs[i] <= g.epochs[i-1] {
			t.Errorf("epochs %v", g.epochs)
		}
	}
}

func TestForwardEpochGrowsWhenTheClockIsSetBack(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	want := []byte("one\n")
	n.append("app", want)
	n.start(n.log("app"))
	n.delivered("app", want)
	was := n.status("app").Epoch
	n.stop()
	n.change = func(cfg *Config) { cfg.Now = func() time.Time { return time.Now().Add(-48 * time.Hour) } }
	n.start()
	eventually(t, "idle", func() bool { return n.status("app").State == Idle })
	f := n.engine.runs["app"]
	f.post(func() { f.onFork(chunk.Fork{Epoch: was, Known: was + 1e6}) })
	eventually(t, "a new epoch", func() bool { return n.status("app").Epoch > was+1e6 })
	n.append("app", []byte("two\n"))
	n.delivered("app", []byte("one\ntwo\n"))
	if g := c.look("app"); g.Predecessor != was+1e6 {
		t.Errorf("predecessor %d, want the centre's %d", g.Predecessor, was+1e6)
	}
	// And without state too.
	known := n.status("app").Epoch
	n.stop()
	n.forget()
	if err := os.Remove(n.path("app")); err != nil {
		t.Fatal(err)
	}
	n.append("app", []byte("three\n"))
	n.start()
	n.delivered("app", []byte("one\ntwo\nthree\n"))
	if s := n.status("app"); s.Epoch <= known {
		t.Errorf("epoch %d after %d", s.Epoch, known)
	}
}

func TestForwardBelievesNoFalseConfirm(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	n.change = func(cfg *Config) { cfg.Limits.ChunkSize = 4 << 10 }
	want := lines(seeded(t), 400)
	n.append("app", want)
	c.rest(true)
	n.start(n.log("app"))
	end := uint64(len(want))
	eventually(t, "stored", func() bool { return n.status("app").Stored == end })
	f := n.engine.runs["app"]
	s := n.status("app")
	digest := chunk.Sum(want)
	post := func(epoch, position uint64, d chunk.Digest) Status {
		f.post(func() { f.onConfirm(epoch, position, d) })
		return n.status("app")
	}
	for _, tt := range []struct {
		name            string
		epoch, position uint64
		digest          chunk.Digest
	}{
		{"another epoch", s.Epoch + 1, end, digest},
		{"an older epoch", s.Epoch - 1, end, digest},
		{"beyond what was sent", s.Epoch, end + 1, digest},
		{"far beyond", s.Epoch, chunk.MaxPosition + 7, digest},
	} {
		if got := post(tt.epoch, tt.position, tt.digest); got.Confirmed != 0 || got.Forks != 0 {
			t.Errorf("%s: confirmed %d, forks %d", tt.name, got.Confirmed, got.Forks)
		}
	}
	// Not a border between chunks: it can be checked all the same.
	if got := post(s.Epoch, 777, chunk.Sum(want[:777])); got.Confirmed != 777 || got.Forks != 0 {
		t.Errorf("inside a chunk: confirmed %d, forks %d", got.Confirmed, got.Forks)
	}
	if got := post(s.Epoch, 5, chunk.Sum(want[:5])); got.Confirmed != 777 {
		t.Errorf("went back to %d", got.Confirmed)
	}
	if got := post(s.Epoch, 5000, digest); got.Confirmed == 5000 || got.Forks != 1 {
		t.Errorf("another digest: confirmed %d, forks %d", got.Confirmed, got.Forks)
	}
	eventually(t, "a new epoch from what is confirmed", func() bool { return n.status("app").Epoch > s.Epoch })
	c.rest(false)
	eventually(t, "all arrives", func() bool { return bytes.HasSuffix(c.data("app"), want[777:]) })
}

func TestForwardForksAreRare(t *testing.T) {
	c := newCentre(t)
	n := newNode(t, c)
	n.append("app", []byte("x\n"))
	n.start(n.log("app"))
	n.delivered("app", []byte("x\n"))
	f := n.engine.runs["app"]
	began := time.Now()
	for time.Since(began) < 1500*time.Millisecond {
		f.post(func() { f.onFork(chunk.Fork{Epoch: f.rec.Epoch}) })
		n.status("app")
	}
	s := n.status("app")
	if took := time.Since(began); s.Forks > 1+2*uint64(took/time.Second+1) { // on a busy machine it is more than these 1.5 s
		t.Errorf("%d forks in %s", s.Forks, took)
	}
}
