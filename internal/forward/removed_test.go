package forward

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"logforward/internal/tail"
)

// One file of a glob that is removed, with its directory or without, isn't at fault: the glob finds others. A file that a definition names is missed.
func TestForwardAGlobsRemovedFileIsNoFault(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		ofGlob bool
		remove func(*node)
		state  string
	}{
		{"a glob's file", true, func(n *node) { must(t, os.Remove(n.path("app"))) }, Idle},
		{"a glob's file with its directory", true, func(n *node) { must(t, os.RemoveAll(n.dir)) }, Idle},
		{"a glob's file, and a file is where its directory was", true, func(n *node) {
			must(t, os.RemoveAll(n.dir))
			must(t, os.WriteFile(n.dir, nil, 0o600))
		}, Idle},
		{"a glob's file, and a directory is where it was", true, func(n *node) {
			must(t, os.Remove(n.path("app")))
			must(t, os.Mkdir(n.path("app"), 0o700))
		}, Failed},
		{"a definition's file", false, func(n *node) { must(t, os.Remove(n.path("app"))) }, Failed},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t, newCentre(t))
			n.dir = filepath.Join(n.dir, "sub")
			must(t, os.Mkdir(n.dir, 0o700))
			log := n.log("app")
			log.OfGlob = c.ofGlob
			first := lines(seeded(t), 20)
			n.append("app", first)
			n.start(log)
			n.delivered("app", first)
			c.remove(n)
			// It was seen: nothing is open any more.
			eventually(t, "the file is let go", func() bool { return len(n.status("app").Generations) == 0 })
			eventually(t, "it is "+c.state, func() bool { return n.status("app").State == c.state })
			if s := n.status("app"); (s.LastError == "") != (c.state == Idle) || s.LagBytes != 0 || s.LagSeconds != 0 {
				t.Errorf("%+v", s)
			}
			// The same name means the same log again.
			must(t, os.RemoveAll(n.dir))
			must(t, os.Mkdir(n.dir, 0o700))
			again := []byte("it is back\n")
			n.append("app", again)
			n.delivered("app", append(bytes.Clone(first), again...))
		})
	}
}

// What a removed file of a glob still owes is said, and that it is held open.
func TestForwardAGlobsRemovedFileIsReadToItsEnd(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	log := n.log("app")
	log.OfGlob = true
	first, rest := lines(seeded(t), 20), []byte("the rest\n")
	n.append("app", first)
	n.start(log)
	n.delivered("app", first)
	n.engine.Pause("app", true)
	eventually(t, "it is paused", func() bool { return n.status("app").State == Paused })
	n.append("app", rest)
	must(t, os.Remove(n.path("app")))
	eventually(t, "the file is seen to be removed", func() bool {
		g := n.status("app").Generations
		return len(g) == 1 && g[0].State == "deleted"
	})
	if s := n.status("app"); s.State != Paused || s.LastError != "" || s.LagBytes != int64(len(rest)) {
		t.Errorf("%+v", s)
	}
	n.engine.Pause("app", false)
	n.delivered("app", append(bytes.Clone(first), rest...))
}

// A log that becomes one of a glob, or stops being one, with the same path goes on, and its file is missed or not as it is now.
func TestForwardALogMayComeToAGlob(t *testing.T) {
	t.Parallel()
	n := newNode(t, newCentre(t))
	log := n.log("app")
	log.Start = tail.StartBeginning
	first := lines(seeded(t), 20)
	n.append("app", first)
	n.start(log)
	n.delivered("app", first)
	must(t, os.Remove(n.path("app")))
	eventually(t, "its file is missed", func() bool { return n.status("app").State == Failed })
	log.OfGlob = true
	n.engine.Set([]Log{log})
	eventually(t, "it isn't missed", func() bool { return n.status("app").State == Idle })
	log.OfGlob = false
	n.engine.Set([]Log{log})
	eventually(t, "its file is missed again", func() bool { return n.status("app").State == Failed })
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
