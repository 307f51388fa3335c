package tail

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Files that begin with the same long text aren't copies of one another: a later one that is shorter than what was read of one that is gone is read.
func TestShortCopyIsNotALaterFileThatBeginsAlike(t *testing.T) {
	c := newCopying(newRig(t))
	banner := strings.Repeat("# this is how each file begins\n", 100)
	late, second := lines("late", 300), lines("second", 100)
	c.says(banner)
	c.open()
	c.drain()
	c.must(c.log.Look())
	c.renames(true)
	c.says(late)
	c.drain()
	c.release()
	c.save()
	c.crash()
	c.must(c.file.Close())
	c.must(os.Rename(c.name("app.log.1.tmp"), filepath.Join(t.TempDir(), "elsewhere"))) // its inode stays its own
	c.remove("app.log")
	tick()
	c.write("app.log", banner+second)
	c.rename("app.log", "app.log.1")
	c.write("app.log", banner+"third\n")
	c.out, c.losses = nil, nil
	c.open()
	c.drain()
	c.want(banner + second + banner + "third\n")
}
