package pipe

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"testing"

	"logforward/internal/receive"
)

// TestSnapshotRestored takes state and file back to an earlier moment, as restoring a virtual machine does: the same
// positions would mean other bytes. Nothing is overwritten, and a new epoch holds what is new.
func TestSnapshotRestored(t *testing.T) {
	for _, c := range []struct {
		name    string
		instead int
		relieve bool
	}{
		{"less is written than before", 10 << 10, false},
		{"more is written than before", 150 << 10, false},
		{"as much is written as before, and another receiver has taken over", 70 << 10, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, want := began(t)
			n.stop()
			snapshot := t.TempDir()
			n.copyTree(n.state, snapshot+"/state")
			n.copyTree(n.dir, snapshot+"/log")
			n.start()
			before := text("before", 70<<10)
			n.write("app.log", before)
			want = join(want, before)
			n.exact("app", want)

			n.stop()
			n.must(os.RemoveAll(n.state))
			n.must(os.RemoveAll(n.dir))
			n.copyTree(snapshot+"/state", n.state)
			n.copyTree(snapshot+"/log", n.dir)
			instead := text("instead", c.instead)
			n.write("app.log", instead)
			if c.relieve {
				n.relieve()
			}
			n.start()
			want = join(want, instead)
			n.exact("app", want)
			if e := n.epochs("app"); len(e) != 2 {
				t.Errorf("epochs %v", e)
			}
			if s := n.status("app"); s.Forks != 1 {
				t.Errorf("%d forks", s.Forks)
			}
			n.write("app.log", []byte("end\n"))
			n.exact("app", join(want, []byte("end\n")))
		})
	}
}

// TestClones runs two machines of one identity: a clone of the other with its state. Each of their lines is at the centre,
// and both say that something is wrong.
func TestClones(t *testing.T) {
	for _, relieve := range []bool{false, true} {
		t.Run(fmt.Sprintf("another receiver takes over %t", relieve), func(t *testing.T) { testClones(t, relieve) })
	}
}

func testClones(t *testing.T, relieve bool) {
	n, first := began(t)
	n.stop()
	m := n.newNode(identity)
	n.must(os.RemoveAll(m.dir))
	n.copyTree(n.dir, m.dir)
	n.copyTree(n.state, m.state)
	n.start()
	m.start()
	var mine, theirs []byte
	for i := range 6 {
		a, b := text(fmt.Sprint("mine", i), 6<<10), text(fmt.Sprint("theirs", i), 7<<10)
		n.write("app.log", a)
		m.write("app.log", b)
		mine, theirs = join(mine, a), join(theirs, b)
		if relieve && i%2 == 0 {
			n.relieve()
		}
		n.round()
		m.round()
	}
	var got bytes.Buffer
	n.eventually("both machines' lines", func() error {
		got.Reset()
		if _, err := receive.Cat(&got, []string{n.receiving.Output}, identity, "app"); err != nil {
			return err
		}
		have := map[string]bool{}
		for line := range bytes.Lines(got.Bytes()) {
			have[string(line)] = true
		}
		for _, b := range [][]byte{first, mine, theirs} {
			for line := range bytes.Lines(b) {
				if !have[string(line)] {
					return fmt.Errorf("not there: %q", line)
				}
			}
		}
		n.status("app")
		m.status("app")
		return nil
	})
	n.eventually("both to report", func() error {
		if a, b := n.status("app").Forks, m.status("app").Forks; a == 0 || b == 0 {
			return fmt.Errorf("forks: %d and %d", a, b)
		}
		return nil
	})
	n.eventually("their epochs in the ledger", func() error {
		if e := n.epochs("app"); len(e) < 2 {
			return fmt.Errorf("epochs %v", e)
		}
		return n.compareOwners(mine, theirs)
	})
	if gaps, err := n.gaps("app"); err != nil || len(gaps) > 0 {
		t.Error(errors.Join(err, fmt.Errorf("gaps %v", gaps)))
	}
	// No line is torn by the other's, and each machine's lines are in its order where they come first.
	all := [][]byte{first, mine, theirs}
	next := make([][][]byte, len(all))
	for i, b := range all {
		next[i] = slices.Collect(bytes.Lines(b))
	}
	known := map[string]bool{}
	again := 0
	for line := range bytes.Lines(got.Bytes()) {
		if known[string(line)] {
			again++
			continue
		}
		known[string(line)] = true
		i := slices.IndexFunc(next, func(lines [][]byte) bool { return len(lines) > 0 && bytes.Equal(lines[0], line) })
		if i < 0 {
			t.Fatalf("line %q is nobody's, or out of order", line)
		}
		next[i] = next[i][1:]
	}
	t.Logf("%d epochs; %d lines came twice", len(n.epochs("app")), again)
}

// compareOwners tells whether an epoch has lines of both machines.
func (n *node) compareOwners(mine, theirs []byte) error {
	extents, err := receive.Extents([]string{n.receiving.Output}, n.identity, "app")
	if err != nil {
		return err
	}
	owner := map[uint64]string{}
	for _, x := range extents {
		f, err := receive.OpenCentral(n.receiving.Output, x.File)
		if err != nil {
			return err
		}
		b, err := io.ReadAll(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
		if x.End >= 0 {
			b = b[:x.End]
		}
		for line := range bytes.Lines(b[x.Offset:]) {
			who := ""
			switch {
			case bytes.Contains(mine, line):
				who = "mine"
			case bytes.Contains(theirs, line):
				who = "theirs"
			default:
				continue // from before there were two
			}
			if owner[x.Epoch] != "" && owner[x.Epoch] != who {
				return fmt.Errorf("epoch %d has lines of both", x.Epoch)
			}
			owner[x.Epoch] = who
		}
	}
	return nil
}
