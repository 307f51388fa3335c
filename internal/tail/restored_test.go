package tail

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newStored is newRig whose state has a file, outside of the log's directory. Only when that was made counts, what is in it doesn't.
func newStored(t *testing.T) *rig {
	t.Helper()
	file := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return newRig(t, func(c *Config) { c.StateFile = file })
}

// remade puts a copy in the place of a file or a directory of files, as a backup does that keeps no times. All of it was made later than what it
// is a copy of.
func remade(t *testing.T, path string) {
	t.Helper()
	if birthOf(unix.AT_FDCWD, path, 0).IsZero() {
		t.Skip("this file system doesn't keep when a file was made")
	}
	tick()
	back := path + ".back"
	if err := copyOf(path, back); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(back, path); err != nil {
		t.Fatal(err)
	}
}

func copyOf(from, to string) error {
	if at, err := os.Stat(from); err != nil || at.IsDir() {
		if err == nil {
			err = os.CopyFS(to, os.DirFS(from))
		}
		return err
	}
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	return err
}

func TestFileRestoredWithItsStateIsReadOn(t *testing.T) {
	header := strings.Repeat("a header that every file begins with\n", 8)
	cases := []struct {
		name       string
		known      string
		other      string // what another file of the log begins with
		state, dir bool   // is a copy
		begun      bool   // the file isn't the restored one, it was made anew since
		reused     bool   // the copy has the inode that the file had, by chance
		gap        bool
	}{
		{name: "both are copies", known: lines("a", 8), state: true, dir: true},
		{name: "both are copies, an older file begins otherwise", known: lines("a", 8), other: lines("b", 8), state: true, dir: true},
		{name: "both are copies, an older file begins alike and has lines of its own", known: header + lines("a", 3), other: header + lines("b", 8), state: true, dir: true},
		{name: "both are copies, and the inode is used again", known: lines("a", 8), state: true, dir: true, reused: true},
		{name: "only the directory is, and the inode is used again", known: lines("a", 8), dir: true, reused: true, gap: true},
		{name: "only the directory is", known: lines("a", 8), dir: true, gap: true},
		{name: "only the state is", known: lines("a", 8), state: true, gap: true},
		{name: "neither is", known: lines("a", 8), gap: true},
		{name: "both are copies, an older file begins with all that is known", known: header, other: header + lines("b", 8), state: true, dir: true, gap: true},
		{name: "both are copies, and too little is known", known: same, state: true, dir: true, gap: true},
		{name: "both are copies, and the file begins otherwise", known: lines("a", 8), state: true, dir: true, begun: true, gap: true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := newStored(t)
			if c.other != "" { // nobody ever followed it
				r.write("app.log.1", c.other)
				r.touch("app.log.1", r.now.Add(-time.Hour))
			}
			r.write("app.log", c.known)
			r.open().drain()
			r.release()
			r.save()
			r.crash()
			if c.dir {
				remade(t, r.dir)
			} else { // else it would be the very file
				remade(t, r.path)
			}
			if c.other != "" { // where that isn't found, what was written since is taken for the log's
				r.touch("app.log.1", r.now.Add(-time.Hour))
			}
			if c.state {
				remade(t, r.cfg.StateFile)
			}
			if c.begun {
				r.remove("app.log")
				r.write("app.log", lines("c", 8))
			}
			r.write("app.log", "written since\n")
			content, err := os.ReadFile(r.path)
			r.must(err)
			if c.reused {
				at, err := statPath(r.path)
				r.must(err)
				g := &r.state.Generations[len(r.state.Generations)-1]
				g.Dev, g.Ino = at.dev, at.ino
			}
			r.open().drain()
			if c.gap {
				r.wantLosses(1)
				r.want(c.known + string(content)) // twice is better than not at all
				return
			}
			r.wantLosses(0)
			r.want(c.known + "written since\n")
			r.release()
			r.restart()
			r.write("app.log", "and later\n")
			r.drain()
			r.want(c.known + "written since\nand later\n")
		})
	}
}

// What shows that a state is a copy stays in it until its files are found: a crash while one can't be opened yet doesn't take it away.
func TestFileRestoredWithItsStateIsReadOnAfterACrash(t *testing.T) {
	r := newStored(t)
	known := lines("a", 8)
	r.write("app.log", known)
	r.open().drain()
	r.release()
	r.save()
	r.crash()
	remade(t, r.dir)
	remade(t, r.cfg.StateFile)
	r.write("app.log", "written since\n")
	r.rename("app.log", "kept")
	r.must(os.Symlink("app.log", r.path)) // it can't be opened
	r.open().drain()
	r.restart()
	r.remove("app.log")
	r.rename("kept", "app.log")
	r.drain()
	r.wantLosses(0)
	r.want(known + "written since\n")
}

// Rotated files that are put back look new where the backup keeps no times. Only the last ones are known by their content.
func TestOldFilesRestoredWithTheStateAreNotSentAgain(t *testing.T) {
	r := newStored(t).open()
	day := func(i int) string { return fmt.Sprintf("app.log-202611%02d", i+1) }
	var all strings.Builder
	for i := range finishedMax + 4 {
		text := lines(string(rune('a'+i)), 40)
		all.WriteString(text)
		r.write("app.log", text)
		r.drain()
		r.release()
		r.rename("app.log", day(i))
		r.drain()
		r.now = r.now.Add(2 * lingerDefault)
		r.drain()
	}
	r.write("app.log", lines("live", 40))
	all.WriteString(lines("live", 40))
	r.drain()
	r.release()
	r.save()
	r.crash()
	remade(t, r.dir)
	remade(t, r.cfg.StateFile)
	at, err := os.Stat(r.path)
	r.must(err)
	for i := range finishedMax + 4 {
		r.touch(day(i), at.ModTime())
	}
	r.open().drain()
	r.rename("app.log", day(finishedMax+4))
	r.write("app.log", lines("next", 40))
	all.WriteString(lines("next", 40))
	r.drain()
	r.wantLosses(0)
	r.want(all.String())
}
