package node

import (
	"os"
	"path/filepath"
	"time"
)

const (
	// everyLook is how often a glob is looked at though nothing seems to have changed: links'
	// targets, permissions and mounts change without a trace in the directory.
	everyLook = 30 * time.Second
	// rareLook is the same where events would tell of permissions, and no file is a link: it leaves mounts.
	rareLook = 5 * time.Minute
	// lookShare bounds what looking may cost: after a look that took t, none for this many times t.
	// A tree that takes longer than 40 ms to walk is looked at less often than every two seconds.
	lookShare = 50
	// coarse is more than the steps in which file systems count time: a directory that changed
	// less than this before it was read may have changed again without its time showing it.
	coarse = 2 * time.Second
)

// glance remembers the last look at a glob, so that a thousand quiet files aren't listed each second.
type glance struct {
	at   time.Time // zero: never
	cost time.Duration
	dir  signature // of the one directory that can have new files; zero: not known
}

// begin notes a look that starts; the result is called when it has ended. What the directory is like is
// taken before the look, so that a change during it is seen as one.
func (g *glance) begin(pattern string) (done func()) {
	g.at, g.dir = time.Now(), signature{}
	if dir := oneDirectory(pattern); dir != "" {
		if info, err := os.Stat(dir); err == nil && g.at.Sub(info.ModTime()) >= coarse {
			g.dir = signatureOf(info)
		}
	}
	return func() { g.cost = time.Since(g.at) }
}

// due tells whether it is time for the next look. every is how long one is good for at the most.
func (g *glance) due(pattern string, now time.Time, every time.Duration) bool {
	since := now.Sub(g.at)
	switch {
	case g.at.IsZero() || since >= every:
		return true
	case since < lookShare*g.cost:
		return false
	case g.dir == signature{}:
		return true
	}
	info, err := os.Stat(oneDirectory(pattern))
	return err != nil || signatureOf(info) != g.dir
}

// oneDirectory is where all of a glob's files lie, if only the last part of it is a pattern; otherwise empty.
func oneDirectory(pattern string) string {
	dir, last := filepath.Split(pattern)
	if isGlob(dir) || last == "**" || len(dir) == 0 {
		return ""
	}
	return filepath.Clean(dir)
}
