package forward

import (
	"os"
	"testing"

	"logforward/internal/tail"
)

// A node that is put back to a snapshot with its files writes other bytes at the positions that the centre has, in a file that is there. That an older file is
// gone doesn't make them the centre's: they come, in a new epoch.
func TestForwardAGoneFileDoesntExcuseAnothersOtherBytes(t *testing.T) {
	t.Parallel()
	x := newRemoved(t)
	x.sends(100)
	x.c.rest(true)
	x.want = append(x.want, x.says(100)...) // of the file that will be gone, not confirmed
	moved := numbered(x.path("app"), 1)
	must(t, os.Rename(x.path("app"), moved))
	must(t, x.file.Close())
	f, err := os.OpenFile(x.path("app"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	must(t, err)
	t.Cleanup(func() { _ = f.Close() })
	x.file, x.written = f, 0
	x.want = append(x.want, x.says(200)...)
	snapshot := x.written
	x.keepsWith(func(rec *record, last tail.GenerationState) bool {
		return last.Offset == snapshot && len(rec.Tail.Generations) == 2 && rec.Confirmed > 0
	})
	x.c.rest(false)
	x.delivered("app", x.want)
	x.sends(300)
	x.killed()
	must(t, os.Remove(moved))
	must(t, os.Truncate(x.path("app"), snapshot))
	before := len(x.want)
	other := append(lines(x.r, 600), "the end\n"...)
	_, err = f.Write(other)
	must(t, err)
	x.change = nil // that the centre stands still is soon known
	x.start()
	eventually(t, "the file's end comes", func() bool {
		d := x.c.look("app").data
		return len(d) > 8 && string(d[len(d)-8:]) == "the end\n"
	})
	g := x.c.look("app")
	if n := len(other); len(g.data) < before+n || string(g.data[len(g.data)-n:]) != string(other) {
		t.Errorf("%d bytes came behind %d, want all %d that were written after the snapshot; gaps %d, epochs %d, forks %d", len(g.data)-before, before, n, len(g.gaps), len(g.epochs), g.forks)
	}
}

// A copy of what an earlier run has sent all of isn't held by a log to which nothing more is written.
func TestForwardAnIdleLogHoldsNoCopy(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"stopped", "killed"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			x := newRemoved(t)
			x.sends(250)
			x.keepsWith(func(rec *record, _ tail.GenerationState) bool { return rec.Confirmed == uint64(len(x.want)) })
			if end == "stopped" {
				x.stop()
			} else {
				x.killed()
			}
			x.rotates(true)
			x.change = nil // hellos come often
			x.start()
			eventually(t, "the copy is let go", func() bool {
				s := x.status("app")
				return s.State == Idle && len(s.Generations) == 1 && s.Generations[0].State == "live"
			})
			next := lines(x.r, 50)
			x.append("app", next)
			x.want = append(x.want, next...)
			x.exact()
		})
	}
}
