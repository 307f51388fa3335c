package pipe

import (
	"fmt"
	"os"
	"testing"
)

// TestGlobWithFilesThatComeAndGo has a log for each file that a definition's glob matches, over restarts.
func TestGlobWithFilesThatComeAndGo(t *testing.T) {
	t.Parallel()
	n := newRig(t).node
	n.defines = t.TempDir()
	n.must(os.WriteFile(n.defines+"/web.yaml", fmt.Appendf(nil, "log: web\npath: %s\ndestination: central\nstart: beginning\n", n.path("*.log")), 0o644))
	want := map[string][]byte{}
	write := func(file string, size int) {
		b := text(file, size)
		n.write(file, b)
		want["web."+file] = join(want["web."+file], b)
	}
	arrived := func() {
		t.Helper()
		n.exactAll(want)
	}
	write("a.log", 80<<10)
	write("b.log", 5<<10)
	n.write("other.txt", []byte("not matched\n"))
	n.start()
	arrived()

	// One comes, one rotates, one goes and comes again.
	write("c.log", 20<<10)
	n.rename("a.log", "a.log.1")
	write("a.log", 10<<10)
	arrived()
	n.remove("b.log")
	n.eventually("the removed file to be missed", func() error {
		if s := n.status("web.b.log"); len(s.Generations) > 0 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	write("b.log", 7<<10)
	arrived()

	// The same while nobody looks.
	n.stop()
	write("d.log", 20<<10)
	write("a.log", 3<<10)
	n.rename("a.log", "a.log.2")
	write("a.log", 4<<10)
	write("c.log", 1<<10)
	n.start()
	arrived()
	if s := n.engine.Status(); len(s) != len(want) {
		t.Errorf("%d logs, want %d: %+v", len(s), len(want), s)
	}
}
