package forward

import (
	"bytes"
	"compress/gzip"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"logforward/internal/chunk"
	"logforward/internal/tail"

	bolt "go.etcd.io/bbolt"
)

// removed is a log whose file is copied and removed, as logrotate does, while its writer goes on with it. The node's state is put back to what it was at a
// moment before the node was killed.
type removed struct {
	*node
	r       *rand.Rand
	file    *os.File // that the writer has open
	saved   string   // the state that was kept
	want    []byte
	written int64
}

func newRemoved(t *testing.T) *removed {
	c := newCentre(t)
	n := newNode(t, c)
	n.change = func(cfg *Config) { cfg.Limits.SyncInterval = time.Hour } // all that is asked has its reason
	f, err := os.OpenFile(n.path("app"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	x := &removed{node: n, r: seeded(t), file: f}
	n.start(n.log("app"))
	return x
}

// says has the writer go on, without waiting for anything.
func (x *removed) says(n int) []byte {
	x.t.Helper()
	b := lines(x.r, n)
	if _, err := x.file.Write(b); err != nil {
		x.t.Fatal(err)
	}
	x.written += int64(len(b))
	return b
}

// sends has it go on, and all of that arrive.
func (x *removed) sends(n int) {
	x.t.Helper()
	x.want = append(x.want, x.says(n)...)
	x.delivered("app", x.want)
}

// keeps keeps the state as soon as it says that all that was written was read.
func (x *removed) keeps() {
	x.t.Helper()
	x.keepsWith(func(rec *record, last tail.GenerationState) bool { return last.Offset == x.written })
}

// keepsWith keeps it as soon as it is one; last is of the generation that was read last.
func (x *removed) keepsWith(ok func(rec *record, last tail.GenerationState) bool) {
	x.t.Helper()
	eventually(x.t, "the checkpoint says so", func() bool {
		rec, err := x.st.checkpoint("central", "app")
		if err != nil || rec == nil || len(rec.Tail.Segments) == 0 {
			return false
		}
		f := x.engine.runs["app"]
		f.post(func() { f.dirty = true }) // what was only read would wait for its confirmation
		id := rec.Tail.Segments[len(rec.Tail.Segments)-1].Generation
		i := slices.IndexFunc(rec.Tail.Generations, func(g tail.GenerationState) bool { return g.ID == id })
		return i >= 0 && ok(rec, rec.Tail.Generations[i])
	})
	x.saved = x.state + ".kept"
	if err := x.st.view(func(tx *bolt.Tx) error { return tx.CopyFile(x.saved, 0o600) }); err != nil {
		x.t.Fatal(err)
	}
}

// rotates has the file copied, perhaps compressed, and removed, and its name made anew.
func (x *removed) rotates(compressed bool) {
	x.t.Helper()
	moved := numbered(x.path("app"), 1)
	if err := os.Rename(x.path("app"), moved); err != nil {
		x.t.Fatal(err)
	}
	x.append("app", nil)
	b, err := os.ReadFile(moved)
	if err != nil {
		x.t.Fatal(err)
	}
	to := numbered(x.path("app"), 2)
	if compressed {
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		_, _ = w.Write(b)
		_ = w.Close()
		b, to = z.Bytes(), to+".gz"
	}
	if err := os.WriteFile(to, b, 0o600); err != nil {
		x.t.Fatal(err)
	}
	if err := os.Remove(moved); err != nil {
		x.t.Fatal(err)
	}
}

// killed ends the node, and lets the state be what was kept.
func (x *removed) killed() {
	x.t.Helper()
	x.crash()
	b, err := os.ReadFile(x.saved)
	if err != nil {
		x.t.Fatal(err)
	}
	f, err := os.OpenFile(x.state+"/"+stateFile, os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		x.t.Fatal(err)
	}
	if _, err := io.Copy(f, bytes.NewReader(b)); err != nil {
		x.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		x.t.Fatal(err)
	}
}

// exact says that the centre has all, once, and nothing is said to be missing.
func (x *removed) exact() {
	x.t.Helper()
	x.delivered("app", x.want)
	if g := x.c.look("app"); len(g.gaps) != 0 || len(g.epochs) != 1 || g.forks != 0 {
		x.t.Errorf("gaps %+v, epochs %v, forks %d", g.gaps, g.epochs, g.forks)
	}
}

// The copy of a removed file ends before what was read of it when the state was saved, or behind that. What was sent since nobody has but the centre, or the
// stream.
func TestForwardKilledBehindACopyTakesTheCentresWord(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name                        string
		late, compressed, unhurried bool
	}{
		{name: "the copy has more than the state"},
		{name: "the state has more than the copy", late: true},
		{name: "compressed, the copy has more than the state", compressed: true},
		{name: "compressed, the state has more than the copy", late: true, compressed: true},
		{name: "the centre takes its time, the copy has more than the state", unhurried: true},
		{name: "the centre takes its time, the state has more than the copy", late: true, unhurried: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := newRemoved(t)
			x.sends(100)
			if !tt.late {
				x.keeps()
			}
			x.sends(150)
			x.rotates(tt.compressed)
			if tt.late {
				x.sends(100)
				x.keeps()
			}
			if tt.unhurried {
				x.c.rest(true)
				b := x.says(200)
				x.want = append(x.want, b...)
				eventually(t, "stored", func() bool { return x.status("app").Stored == uint64(len(x.want)) })
			} else {
				x.sends(200)
			}
			x.killed()
			next := lines(x.r, 50)
			x.append("app", next)
			x.start()
			if tt.unhurried {
				var asked int
				x.c.with(func() { asked = x.c.hellos })
				eventually(t, "the centre is asked again", func() bool { n := 0; x.c.with(func() { n = x.c.hellos }); return n > asked+3 })
				x.c.rest(false)
			}
			x.want = append(x.want, next...)
			x.exact()
		})
	}
}

// A centre that has lost what it had since the state was saved gets all of the copy again. What only it had is a gap.
func TestForwardKilledBehindACopyAndTheCentreForgets(t *testing.T) {
	t.Parallel()
	for _, late := range []bool{false, true} {
		t.Run(map[bool]string{false: "the copy has more than the state", true: "the state has more than the copy"}[late], func(t *testing.T) {
			t.Parallel()
			x := newRemoved(t)
			x.sends(100)
			var was got
			forget := func() {
				x.c.with(func() {
					g := x.c.logs[chunk.Token("app")]
					g.Place, g.next, g.data = was.Place, chunk.Tail{From: was.Position, Digest: was.Digest}, bytes.Clone(was.data)
					g.Tail = g.next
				})
			}
			was = x.c.look("app")
			if !late {
				x.keeps()
			}
			x.sends(150)
			copied := bytes.Clone(x.want)
			x.rotates(false)
			if late {
				x.c.rest(true) // the state is saved before the centre has any of it
				b := x.says(100)
				eventually(t, "stored", func() bool { return x.status("app").Stored == uint64(len(x.want)+len(b)) })
				was = x.c.look("app")
				x.keeps()
				x.c.rest(false)
				x.want = append(x.want, b...)
				x.delivered("app", x.want)
			}
			x.sends(200)
			x.killed()
			forget()
			next := lines(x.r, 50)
			x.append("app", next)
			x.start()
			x.delivered("app", append(copied, next...))
			if g := x.c.look("app"); len(g.gaps) > 0 != late || g.forks != 0 {
				t.Errorf("gaps %+v, forks %d", g.gaps, g.forks)
			}
		})
	}
}

// What the node knew to be in the file, and nobody has sent, is a gap behind what the centre has.
func TestForwardKilledBehindACopyAndMoreWasSeen(t *testing.T) {
	t.Parallel()
	x := newRemoved(t)
	x.sends(250)
	x.rotates(false)
	x.sends(100)
	x.engine.Pause("app", true)
	unread := len(x.says(300))
	eventually(t, "it is seen", func() bool { return x.status("app").LagBytes == int64(unread) })
	x.keepsWith(func(_ *record, last tail.GenerationState) bool { return last.Size == x.written })
	x.killed()
	next := lines(x.r, 50)
	x.append("app", next)
	x.start()
	x.want = append(x.want, next...)
	x.delivered("app", x.want)
	if g := x.c.look("app"); len(g.gaps) != 1 || g.epochs == nil || len(g.epochs) != 1 || g.gaps[0].Position != uint64(len(x.want)-len(next)) {
		t.Errorf("gaps %+v, epochs %v", g.gaps, g.epochs)
	}
}
