package tail

import (
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// skipCopy settles what a file is that was found with next to nothing in it, and has grown since. As long as all in it is the beginning of another
// one it is taken for a copy that is being made (logrotate's renamecopy makes the log's name anew before it copies), and counts as read. Once it
// differs it is one that was rotated away empty, and is read from its beginning. An error says that this can't be known now.
func (l *Log) skipCopy(g *generation) error {
	at, err := l.stat(g)
	if err != nil {
		return err
	}
	// Not those that are in doubt themselves: of two that are alike one must be read.
	others := slices.DeleteFunc(slices.Clone(l.gens), func(o *generation) bool { return o == g || o.doubtful })
	same, err := l.isKnown(&candidate{path: g.path, at: at, content: g.content}, others)
	switch {
	case !same && err != nil:
		return err
	case !same:
		g.doubtful, g.offset, g.before = false, 0, nil
		return nil
	}
	was := g.offset
	g.offset, g.size = at.size, max(g.size, at.size)
	if err := g.load(); err != nil {
		g.offset = was
		return err
	}
	l.cfg.Logger.Debug("a copy is being made of a file that is read", "file", g.path, "size", at.size)
	return nil
}

// noteCopies remembers the copies of a deleted file that end before what was read of it, for its writer went on: once the file is closed nothing
// else tells that all in them was read.
func (l *Log) noteCopies(g *generation) {
	if _, ok := g.content.(*file); !ok || !g.deleted || !g.drained || g.noted == g.offset {
		return
	}
	if _, needed := l.needed(g); needed {
		return // after a crash nothing else than the copy may have these bytes
	}
	list, err := l.candidates(nil)
	if err != nil {
		return // the next time
	}
	g.noted = g.offset
	for _, c := range list {
		if !isRotation(filepath.Base(c.path), filepath.Base(l.cfg.Path)) || c.older(g.birth) ||
			slices.ContainsFunc(l.gens, func(o *generation) bool { return o.content != nil && !o.doubtful && c.at.same(o.dev, o.ino) }) {
			continue // older, or one that is read
		}
		if c.kind != "" && c.hasAge(stateOf(g)) || c.kind == "" && c.at.dev == g.dev && g.stamp.Before(birthOf(unix.AT_FDCWD, c.path, 0)) {
			continue // made when the file had all its bytes: a whole copy is known by its length
		}
		if ok, err := c.open(l.cfg.Allowed); !ok || err != nil {
			continue
		}
		if same, err := isPrefix(c, g); same && err == nil {
			l.keepCopy(c, g)
		}
		c.close()
	}
}

// keepCopy remembers one as a file that is done with. What it was made before is what counts for the file itself, see [isEarlierCopy].
func (l *Log) keepCopy(c *candidate, g *generation) {
	n, err := c.length()
	if err != nil || n >= g.offset {
		return
	}
	k := &generation{
		dev: c.at.dev, ino: c.at.ino, path: c.path, offset: n, size: n, mtime: g.mtime, birth: g.birth, born: c.born(), stamp: c.at.mtime, content: c.content,
	}
	if k.load() != nil { // first: of a compressed one the end was unpacked last
		return
	}
	if _, err := k.fingerprint(); err == nil {
		l.keep(stateOf(k))
	}
}
