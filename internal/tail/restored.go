package tail

import (
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Made says when the file that a state is kept in, and the directory of the live file, were made, in nanoseconds since 1970. Both are zero where
// there was no live file, or the file system doesn't say. No program can set these times: where both are other ones, both are copies, as those are that
// a backup brings back.
type Made struct {
	State int64 `json:"state"`
	Dir   int64 `json:"dir"`
}

// madeBeside is when the state's file and the directory of a file were made.
func (l *Log) madeBeside(real string) Made {
	if l.cfg.StateFile == "" {
		return Made{}
	}
	m := Made{nanos(birthOf(unix.AT_FDCWD, l.cfg.StateFile, 0)), nanos(birthOf(unix.AT_FDCWD, filepath.Dir(real), 0))}
	if m.State == 0 || m.Dir == 0 {
		return Made{}
	}
	return m
}

// copies says that the state that was given to Open, and the directory that the live file was in, aren't those that the state was saved in and beside.
func (l *Log) copies(real string) bool {
	if l.made == (Made{}) {
		return false
	}
	now := l.madeBeside(real)
	return now != (Made{}) && now.State != l.made.State && now.Dir != l.made.Dir
}

// restored says that c, which begins with all that is known of g, is a copy of it that was put back together with the state: it has the name that g
// had, its directory and the state are copies, and no other file of the log begins so. There the name says as much as the inode does else.
func (l *Log) restored(c *candidate, g *generation) bool {
	f, ok := c.content.(*file)
	if !ok || c.path != l.cfg.Path || f.real != g.path || !l.copies(f.real) {
		return false
	}
	same, _, err := l.beginAlike(c, g)
	return err == nil && !same
}

// passRestored remembers the rotated forms that came with a live file that was put back: they are older, though their times may say otherwise.
func (l *Log) passRestored(live *generation) {
	list, _ := l.candidates(nil) // without them at worst something old is sent
	base := filepath.Base(l.cfg.Path)
	for _, c := range slices.Backward(list) {
		if isRotation(filepath.Base(c.path), base) && !c.older(live.mtime) {
			l.pass(c)
		}
	}
}
