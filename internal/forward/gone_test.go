package forward

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"logforward/internal/chunk"
)

// All that the last run had sent is at the centre, and nowhere on the node: none of that is lost. Whether the file had more nobody
// knows, which is a gap of unknown size; and what is written now comes behind it in the same epoch.
func TestForwardWhatTheCentreHasOfFilesThatAreGoneIsNoGap(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	said := new(noted)
	n.change = func(cfg *Config) {
		cfg.Limits.SyncInterval = 200 * time.Millisecond
		cfg.Logger = slog.New(slog.NewTextHandler(said, nil))
	}
	r := seeded(t)
	first, gone, fresh := lines(r, 100), lines(r, 300), lines(r, 100)
	n.append("app", first)
	n.start(n.log("app"))
	n.delivered("app", first)
	c.rest(true)
	n.append("app", gone)
	sent := append(bytes.Clone(first), gone...)
	eventually(t, "stored", func() bool { return n.status("app").Stored == uint64(len(sent)) })
	n.stop()
	c.rest(false)
	eventually(t, "the centre has it", func() bool { return bytes.Equal(c.data("app"), sent) })
	if err := os.Remove(n.path("app")); err != nil {
		t.Fatal(err)
	}
	n.append("app", fresh)
	n.start(n.log("app"))
	n.delivered("app", append(sent, fresh...))
	if g := c.look("app"); len(g.gaps) != 1 || g.gaps[0].Gap.Bytes != -1 || len(g.epochs) != 1 || g.forks != 0 {
		t.Errorf("gaps %+v, epochs %v, forks %d", g.gaps, g.epochs, g.forks)
	} else if s := n.status("app"); s.Gaps != 1 || s.GapBytes != g.gaps[0].Length {
		t.Errorf("the centre has 1 gap of %d positions, the node counts %d of %d", g.gaps[0].Length, s.Gaps, s.GapBytes)
	}
	if n := strings.Count(said.String(), "file of an earlier run is not found"); n != 1 {
		t.Errorf("said %d times that the file isn't found:\n%s", n, said.String())
	}
}

// noted is what a logger said.
type noted struct {
	mu sync.Mutex
	b  strings.Builder
}

func (w *noted) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *noted) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// A gap that turns out to be at the centre isn't counted, and of one that was split the rest still is.
func TestFlightUntakenGaps(t *testing.T) {
	gap := func() *chunk.Gap { return &chunk.Gap{Cause: "lost", Bytes: -1} }
	var f flight
	f.reset(100, 7)
	f.add(sent{length: 10, gap: gap()})
	f.add(sent{length: 20, checksum: 1})
	f.add(sent{length: 30, gap: gap()})
	f.add(sent{length: 40, gap: gap()})
	f.add(sent{length: 50, checksum: 2})
	if n := f.counted(); n != 3 {
		t.Errorf("%d gaps", n)
	}
	if positions, gaps := f.untaken(250); positions != 70 || gaps != 2 {
		t.Errorf("at the end: %d positions, %d gaps", positions, gaps)
	}
	f.split(f.at(180), 180, 0, 0) // within the last gap
	if positions, gaps := f.untaken(180); positions != 50 || gaps != 1 {
		t.Errorf("within a gap: %d positions, %d gaps", positions, gaps)
	}
	f.drop(180, 9)
	if n := f.counted(); n != 1 {
		t.Errorf("%d gaps are left of what goes out", n)
	}
	if positions, gaps := f.untaken(180); positions != 0 || gaps != 0 {
		t.Errorf("at the start: %d positions, %d gaps", positions, gaps)
	}
}
