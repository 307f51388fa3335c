package tail

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// rig is one log in a directory of its own, and what came out of it. Its clock
// moves only when the rig lets it.
type rig struct {
	t      *testing.T
	dir    string
	path   string
	cfg    Config
	log    *Log
	now    time.Time
	buf    []byte
	out    []byte // bytes of all pieces in order
	losses []Loss
	pieces []Piece // without Data
	err    error   // of the last Peek
	state  State   // as last saved
	down   bool    // nobody drains
}

func newRig(t *testing.T, set ...func(*Config)) *rig {
	t.Helper()
	dir := t.TempDir()
	r := &rig{t: t, dir: dir, path: filepath.Join(dir, "app.log"), now: time.Now(), buf: make([]byte, 64<<10)}
	r.cfg = Config{
		Name: "app", Path: r.path, Start: StartBeginning, Allowed: allow(t, dir+"/**"),
		Now: func() time.Time { return r.now },
	}
	for _, s := range set {
		s(&r.cfg)
	}
	return r
}

func allow(t testing.TB, globs ...string) Allowed {
	t.Helper()
	a, err := ParseAllowed(globs)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// open opens the log from the saved state.
func (r *rig) open() *rig {
	r.t.Helper()
	r.log = New(r.cfg)
	if err := r.log.Open(r.state); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = r.log.Close() })
	r.save()
	return r
}

// save keeps the state, through JSON.
func (r *rig) save() {
	r.t.Helper()
	r.state = roundTrip(r.t, r.log.State())
}

func roundTrip(t testing.TB, s State) State {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var back State
	if err := json.Unmarshal(b, &back); err != nil {
		t.Fatal(err)
	}
	return back
}

// crash drops the log without saving.
func (r *rig) crash() {
	r.t.Helper()
	if err := r.log.Close(); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) restart() {
	r.t.Helper()
	r.save()
	r.crash()
	r.open()
}

// step takes one piece. It returns false if there was none.
func (r *rig) step() bool {
	r.t.Helper()
	p, err := r.log.Peek(r.buf)
	r.err = err
	if err != nil || len(p.Data) == 0 && p.Loss == nil {
		return false
	}
	n := uint64(len(p.Data))
	if p.Loss != nil {
		n = p.Loss.Length
		r.losses = append(r.losses, *p.Loss)
	}
	r.out = append(r.out, p.Data...)
	if err := r.log.Advance(n); err != nil {
		r.t.Fatal(err)
	}
	if p.NewSegment {
		r.save() // as the forwarder does before it sends
	}
	p.Data = nil
	r.pieces = append(r.pieces, p)
	return true
}

// drain takes what there is, lets the quiet time pass, and takes the rest.
func (r *rig) drain() {
	r.t.Helper()
	for idle := 0; idle < 2 && !r.down; {
		if r.step() {
			idle = 0
			continue
		}
		idle++
		r.now = r.now.Add(2 * time.Second)
	}
}

func (r *rig) release() {
	r.t.Helper()
	if err := r.log.Release(r.log.Head()); err != nil {
		r.t.Fatal(err)
	}
}

// want compares all that came out.
func (r *rig) want(s string) {
	r.t.Helper()
	r.wantBytes([]byte(s))
}

func (r *rig) wantBytes(b []byte) {
	r.t.Helper()
	if !bytes.Equal(r.out, b) {
		r.t.Fatalf("got %s\nwant %s\nlosses %v\nlast error %v\nstatus %+v", brief(r.out), brief(b), r.losses, r.err, r.log.Status())
	}
	var sum uint64
	for _, p := range r.pieces {
		if p.Position != sum {
			r.t.Fatalf("piece at position %d, expected %d", p.Position, sum)
		}
		if p.Loss != nil {
			sum += p.Loss.Length
			continue
		}
		break
	}
}

func (r *rig) wantLosses(n int) {
	r.t.Helper()
	if len(r.losses) != n {
		r.t.Fatalf("%d losses, want %d: %+v", len(r.losses), n, r.losses)
	}
}

func brief(b []byte) string {
	if len(b) <= 300 {
		return fmt.Sprintf("%d %q", len(b), b)
	}
	return fmt.Sprintf("%d %q … %q", len(b), b[:150], b[len(b)-150:])
}

// --- the world

func (r *rig) name(name string) string { return filepath.Join(r.dir, name) }

func (r *rig) write(name, s string) {
	r.t.Helper()
	r.writeBytes(name, []byte(s))
}

func (r *rig) writeBytes(name string, b []byte) {
	r.t.Helper()
	f, err := os.OpenFile(r.name(name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	r.must(err)
	_, err = f.Write(b)
	r.must(err)
	r.must(f.Close())
}

func (r *rig) rename(from, to string) {
	r.t.Helper()
	r.must(os.Rename(r.name(from), r.name(to)))
}

func (r *rig) remove(name string) {
	r.t.Helper()
	r.must(os.Remove(r.name(name)))
}

func (r *rig) touch(name string, at time.Time) {
	r.t.Helper()
	r.must(os.Chtimes(r.name(name), at, at))
}

func (r *rig) truncate(name string) {
	r.t.Helper()
	r.must(os.Truncate(r.name(name), 0))
}

func (r *rig) copy(from, to string) {
	r.t.Helper()
	b, err := os.ReadFile(r.name(from))
	r.must(err)
	r.must(os.WriteFile(r.name(to), b, 0o644))
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// lines returns n different lines of about 40 bytes.
func lines(tag string, n int) string {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, "%s line %06d of a log that goes on\n", tag, i)
	}
	return b.String()
}

func isErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}
