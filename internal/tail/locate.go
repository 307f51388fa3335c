package tail

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// locate finds the generations of an earlier run again. Until all are found, or
// it is sure that they can't be, nothing is read: the order would be broken.
func (l *Log) locate(now time.Time) {
	if err := l.find(now); err != nil {
		l.pathErr = err
		return
	}
	l.missing, l.pathErr = false, nil
}

func (l *Log) searching() error {
	return fmt.Errorf("find the files of %s again: %w", l.cfg.Name, l.pathErr)
}

func (l *Log) find(now time.Time) error {
	l.trace(slices.DeleteFunc(l.wanted(), func(g *generation) bool { return g.head.length > 0 }))
	for _, g := range l.wanted() {
		if g.head.length == 0 && g.offset == 0 && g.loss == nil {
			// It was empty: there is nothing to know it by, for its inode may hold something
			// later by now. What came into it is found as something new, in its turn.
			g.gone, g.drained = true, true
		}
	}
	// What is found here is known by its content: it was permitted when it was first read.
	allowed := l.cfg.Allowed.Also(nil)
	live := &candidate{path: l.cfg.Path}
	there, liveErr := live.open(allowed)
	if liveErr == nil && !there {
		if _, err := statPath(l.cfg.Path); err != nil {
			liveErr = err
		}
	}
	defer live.close()
	if there {
		for _, g := range l.wanted() {
			if live.content != nil && live.at.ino == g.ino && l.fits(live, g) {
				if err := l.found(g, live, now); err != nil {
					return err
				}
			}
		}
	}
	if len(l.wanted()) == 0 {
		return nil
	}
	inodes := map[uint64]bool{}
	for _, g := range l.wanted() {
		inodes[g.ino] = true
	}
	list, err := l.candidates(inodes)
	if err != nil {
		return err
	}
	defer func() {
		for _, c := range list {
			c.close()
		}
	}()
	if live.content != nil {
		list = append(list, live)
	}
	var unsure error
	try := func(fits func(*candidate, *generation) bool) error {
		for _, g := range l.wanted() {
			for _, c := range list {
				if g.content != nil || !fits(c, g) || l.holds(c) {
					continue
				}
				if _, err := c.open(allowed); err != nil {
					// It may be the one: what can't be opened now isn't given up, unless nothing is known to be missing of it.
					if !c.at.mtime.Before(g.mtime) && (!g.drained || g.size > g.offset || l.sticky() == g) {
						unsure = errors.Join(unsure, err)
					}
					continue
				}
				if c.content == nil || !l.fits(c, g) {
					continue
				}
				if err := l.found(g, c, now); err != nil {
					return err
				}
			}
		}
		return nil
	}
	err = try(func(c *candidate, g *generation) bool { return c.kind == "" && c.at.ino == g.ino })
	if err == nil {
		err = try(func(c *candidate, g *generation) bool {
			return c.kind == "" && g.head.length > 0 && (c != live || g.offset >= telling)
		})
	}
	if err == nil {
		err = try(func(c *candidate, g *generation) bool { return c.kind != "" && g.head.length > 0 })
	}
	if err != nil {
		return err
	}
	if rest := l.wanted(); len(rest) > 0 {
		if l.trace(rest) {
			return l.find(now)
		}
		switch {
		case unsure != nil:
			return unsure
		case liveErr != nil:
			// A file system that isn't mounted yet looks like this. There is nothing else to read anyway.
			return liveErr
		}
		for _, g := range rest {
			l.abandon(g)
		}
	}
	return nil
}

// wanted lists the generations that aren't found yet.
func (l *Log) wanted() []*generation {
	var list []*generation
	for _, g := range l.gens {
		if g.content == nil && !g.gone {
			list = append(list, g)
		}
	}
	return list
}

// fits says that c is g by its content, or where that is too little to tell, also by its age.
func (l *Log) fits(c *candidate, g *generation) bool {
	if g.head.length == 0 {
		return false
	}
	same, err := contentMatches(c.content, g.head, nil, g.want, g.offset)
	if err != nil || !same {
		return false
	}
	s := stateOf(g)
	if few := max(int64(g.head.length), g.offset) < telling; few && !c.hasAge(s) && !l.wasCut(s) {
		return false
	}
	if c.kind == "" && c.at.same(g.dev, g.ino) && g.offset <= headMax && !c.hasAge(s) {
		return false // made later, in the place of the one that was deleted: what is equal may be no more than how each file begins
	}
	return g.verify == nil || g.verify(func(p []byte, off int64) (int, error) { return readAt(c.content, p, off) })
}

// found gives g the candidate's file.
func (l *Log) found(g *generation, c *candidate, now time.Time) error {
	g.content = c.content
	if err := g.load(); err != nil {
		g.content = nil
		return err
	}
	if _, err := g.fingerprint(); err != nil {
		g.content = nil
		return err
	}
	c.content = nil
	g.settled = c.kind != "" || c.at.ino != g.ino
	g.dev, g.ino, g.path = c.at.dev, c.at.ino, c.path
	g.size = max(g.size, g.offset)
	if f, ok := g.content.(*file); ok {
		g.path, g.size = f.real, c.at.size
	}
	if g.mtime.IsZero() {
		g.mtime = c.at.mtime
	}
	g.stamp = c.at.mtime
	g.born = birthOf(g.content.descriptor(), "", atEmptyPath)
	if g.birth.IsZero() {
		g.birth = g.born // that of a copy or of a compressed form is no sign of the age
	}
	l.went(g.path)
	g.noticed, g.changed, g.deleted = now, c.at.changed, false
	g.live = c.path == l.cfg.Path
	if g.live {
		g.settled, g.drained = false, false
		g.mtime = c.at.mtime
		i := slices.Index(l.gens, g)
		l.gens = append(append(l.gens[:i:i], l.gens[i+1:]...), g)
	}
	return nil
}

// abandon gives up a generation of an earlier run that is nowhere. If the last
// positions were its own there is a loss in any case: more of it may have been
// handed out than the state says.
func (l *Log) abandon(g *generation) {
	const why = NotFound
	unread := g.size - g.offset
	switch {
	case unread > 0:
		g.loss = bytesLoss(why, unread, false, g.path)
	case l.sticky() == g || !g.drained:
		g.loss = bytesLoss(why, -1, false, g.path)
	}
	l.cfg.Logger.Warn("file of an earlier run is not found", "file", g.path, "generation", g.id, "offset", g.offset)
	g.gone, g.cause, g.drained = true, why, true
}
