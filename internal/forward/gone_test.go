package forward

import (
	"bytes"
	"os"
	"testing"
	"time"
)

// All that the last run had sent is at the centre, and nowhere on the node: none of that is lost. Whether the file had more nobody
// knows, which is a gap of unknown size; and what is written now comes behind it in the same epoch.
func TestForwardWhatTheCentreHasOfFilesThatAreGoneIsNoGap(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	n.change = func(cfg *Config) { cfg.Limits.SyncInterval = 200 * time.Millisecond }
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
	}
}
