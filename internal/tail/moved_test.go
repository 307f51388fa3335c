package tail

import (
	"os"
	"testing"
	"time"
)

// whenOpened lets something be done with each opening, between that a file is found and that it is read. It is set before the log is opened.
func whenOpened(r *rig) *[]func() {
	var do []func()
	r.cfg.Allowed = r.cfg.Allowed.Also(func(string) error {
		if len(do) > 0 {
			f := do[0]
			do = do[1:]
			f()
		}
		return nil
	})
	return &do
}

// Names are moved on between the listing and the opening: what was listed under one is another file by then.
func TestNamesAreMovedOnWhileTheyAreLookedAt(t *testing.T) {
	r := newRig(t)
	do := whenOpened(r)
	r.open()
	r.write("app.log", "a\n")
	r.drain()
	r.shift("b\n")
	r.shift("c\n")
	r.shift("d\n")
	moved := false
	*do = []func(){func() {}, func() { moved = true; r.shift("e\n") }} // the live file, the first of those that weren't seen
	r.drain()
	if !moved {
		t.Fatal("nothing was opened")
	}
	r.drain()
	r.want("a\nb\nc\nd\ne\n")
	r.wantLosses(0)
}

// The file that the path led to is rotated away, and so is the next one, before the directory is looked at.
func TestRotatedTwiceBeforeTheDirectoryIsLookedAt(t *testing.T) {
	r := newRig(t)
	do := whenOpened(r)
	r.open()
	r.write("app.log", "a\n")
	r.drain()
	r.shift("b\n")
	*do = []func(){func() { r.shift("c\n"); r.shift("d\n") }}
	r.drain()
	if len(*do) > 0 {
		t.Fatal("nothing was opened")
	}
	r.drain()
	r.want("a\nb\nc\nd\n")
	r.wantLosses(0)
}

// A link leads back to a file that is done with, and at once elsewhere again: it is done with still.
func TestLinkIsSwappedWhileItIsFollowed(t *testing.T) {
	r := newRig(t)
	do := whenOpened(r)
	lead := func(to string) {
		r.must(os.Symlink(to, r.name("link")))
		r.rename("link", "app.log")
	}
	r.write("a", lines("a", 30))
	r.write("b", lines("b", 30))
	lead("a")
	r.open()
	r.drain()
	lead("b")
	r.drain()
	r.release()
	r.now = r.now.Add(2 * time.Hour)
	r.drain()
	if n := len(r.log.finished); n != 1 {
		t.Fatal(n)
	}
	lead("a")
	*do = []func(){func() { lead("b") }}
	r.drain()
	lead("a")
	r.drain()
	r.write("a", "more\n")
	r.drain()
	r.want(lines("a", 30) + lines("b", 30) + "more\n")
}
