package tail

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"path/filepath"
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
			if live.content != nil && live.at.ino == g.ino && !l.holds(live) && l.fits(live, g) {
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
	var unsure error
	try := func(list []*candidate, fits func(*candidate, *generation) bool) error {
		for _, g := range l.wanted() {
			for _, c := range nearest(list, g.stamp) {
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
				if c.content == nil || !l.fits(c, g) || c.at.ino != g.ino && l.isAnothers(c, g) {
					continue
				}
				if err := l.found(g, c, now); err != nil {
					return err
				}
			}
		}
		return nil
	}
	err = try(list, func(c *candidate, g *generation) bool { return c.kind == "" && c.at.ino == g.ino })
	if err == nil {
		err = try(list, func(c *candidate, g *generation) bool { return g.head.length > 0 })
	}
	if err == nil && live.content != nil {
		// The last one: with another inode it is mostly a later file.
		err = try([]*candidate{live}, func(c *candidate, g *generation) bool { return g.offset >= telling })
	}
	if err != nil {
		return err
	}
	if rest := l.wanted(); len(rest) > 0 {
		if l.trace(rest) {
			return l.find(now)
		}
		if unsure != nil {
			return unsure
		}
		if err := l.findShort(list); err != nil {
			return err
		}
		rest = l.wanted()
		switch {
		case len(rest) == 0:
			return nil
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
	s, known := stateOf(g), g.known()
	if known < telling && !c.hasAge(s) && !g.cut && !l.wasCut(s) {
		return false
	}
	// What is equal may be no more than how each file begins.
	switch very := c.kind == "" && c.at.same(g.dev, g.ino); {
	case very && g.cut:
		return false
	case c.kind != "" && known < headMax && c.older(g.stamp): // what is known of g was written later; a file that isn't compressed may have come back from a snapshot
		return false
	case c.hasAge(s):
	case l.restored(c, g):
	case very && g.offset <= headMax: // made later, in the place of the one that was deleted
		return false
	case !very && known < headMax && (c.path == l.cfg.Path || !g.cut && !l.wasCut(s) && (!l.tells(c, g) || !c.strict && c.kind == "" && c.at.dev == g.dev && !l.packedAfter(c))):
		return false // rather a later one than a form of g's, where g's own file wasn't truncated; if it is one, that comes twice
	}
	return g.verify == nil || g.verify(func(p []byte, off int64) (int, error) { return readAt(c.content, p, off) })
}

// tells says that what is known of g, with which c begins, is more than how each of the log's files begins: others are there, and none begins so.
// Where there are none nothing shows that.
func (l *Log) tells(c *candidate, g *generation) bool {
	same, differ, _ := l.beginAlike(c, g) // what can't be opened now says nothing
	return !same && differ
}

// beginAlike says whether other files of the log than c begin with all that is known of g, as c does, and else whether any is known that doesn't.
// With an error not all were looked at.
func (l *Log) beginAlike(c *candidate, g *generation) (same, differ bool, err error) {
	list, err := l.candidates(nil)
	if err != nil {
		return false, false, err
	}
	live := &candidate{path: l.cfg.Path}
	defer live.close()
	begin, other := make([]byte, g.known()), make([]byte, g.known())
	if n, err := readAt(c.content, begin, 0); n < len(begin) {
		return false, false, cmp.Or(err, io.ErrUnexpectedEOF)
	}
	_, bare := packing(c.path)
	var unsure error
	for _, o := range append(list, live) {
		if _, b := packing(o.path); o.path == c.path || o != live && (b == bare && c.path != live.path || o.at.same(c.at.dev, c.at.ino)) {
			continue // c itself, or another form of it
		}
		if ok, err := o.open(l.cfg.Allowed.Also(nil)); !ok || err != nil {
			unsure = errors.Join(unsure, err)
			continue
		}
		n, _ := readAt(o.content, other, 0)
		equal := bytes.Equal(other[:n], begin[:n])
		o.close()
		if equal && n == len(begin) {
			return true, false, nil
		}
		differ = differ || !equal
	}
	return false, differ || slices.ContainsFunc(l.finished, func(s GenerationState) bool {
		n := s.Head.Length
		return n > 0 && n <= len(begin) && sumOf(begin[:n]) != s.Head.sum()
	}), unsure
}

// packedAfter says that there is a compressed file that is newer than c: what became of one that c is a copy of, perhaps.
func (l *Log) packedAfter(c *candidate) bool {
	list, err := l.candidates(nil)
	base := filepath.Base(l.cfg.Path)
	rising := isRising(list, base)
	return err == nil && slices.ContainsFunc(list, func(p *candidate) bool { return p.kind != "" && precedes(c, p, base, rising) })
}

// refilled says that f, which is g's file and still begins as what is known of it, was copied and truncated meanwhile, and that what was written to
// it then begins alike: there is a copy that was made since, is older than what is in the file now, and goes on otherwise. What came later is no copy.
func (l *Log) refilled(f *candidate, g *generation) (bool, error) {
	if g.known() >= headMax || f.at.mtime.Equal(g.stamp) {
		return false, nil // or nobody has written to it since
	}
	list, err := l.candidates(nil)
	if err != nil {
		return false, err
	}
	now := make([]byte, headMax)
	n, err := readAt(f.content, now, 0)
	if err != nil && err != io.EOF {
		return false, err
	}
	base := filepath.Base(l.cfg.Path)
	rising := isRising(list, base)
	for _, c := range list {
		if !isRotation(filepath.Base(c.path), base) || c.older(g.stamp) || f.path != l.cfg.Path && !precedes(c, f, base, rising) ||
			slices.ContainsFunc(l.gens, func(g *generation) bool { return isVery(c.path, g) }) {
			continue
		}
		if ok, err := c.open(l.cfg.Allowed); isScarce(err) {
			return false, err
		} else if !ok || err != nil {
			continue
		}
		then := make([]byte, headMax)
		m, err := readAt(c.content, then, 0)
		copied := (err == nil || err == io.EOF) && !bytes.HasPrefix(now[:n], then[:m]) && (c.kind != "" || !c.born().Before(g.stamp))
		if copied {
			copied, err = contentMatches(c.content, g.head, nil, g.want, g.offset)
			copied = copied && err == nil && !l.isAnothers(c, g)
		}
		c.close()
		if copied {
			return true, nil
		}
	}
	return false, nil
}

// isAnothers says that c is a form of another file, of which more was read than of g, with which it begins alike.
func (l *Log) isAnothers(c *candidate, g *generation) bool {
	if g.known() >= headMax {
		return false
	}
	return slices.ContainsFunc(l.finished, func(s GenerationState) bool {
		if s.Offset <= g.offset {
			return false
		}
		same, err := l.isForm(c, nil, s)
		return same && err == nil
	}) || slices.ContainsFunc(l.gens, func(o *generation) bool {
		if o == g || o.offset <= g.offset || o.head.length == 0 {
			return false
		}
		if o.gone { // with as little known of it, what begins alike is a later file: it was looked for, and not found
			same, err := l.isForm(c, o.before, stateOf(o))
			return same && err == nil
		}
		same, err := contentMatches(c.content, o.head, o.before, o.want, o.offset)
		return same && err == nil
	})
}

// found gives g the candidate's file, if that wasn't truncated.
func (l *Log) found(g *generation, c *candidate, now time.Time) error {
	if c.kind == "" && c.at.same(g.dev, g.ino) {
		var err error
		if g.cut, err = l.refilled(c, g); g.cut || err != nil {
			return err
		}
	}
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
	g.copied = g.copied || c.kind != "" || c.at.ino != g.ino
	g.settled = g.copied
	g.dev, g.ino, g.path = c.at.dev, c.at.ino, c.path
	g.size = max(g.size, g.offset)
	if f, ok := g.content.(*file); ok {
		g.path = f.real
		if g.copied && c.path != l.cfg.Path {
			g.seen, g.size = g.size, max(g.offset, c.at.size) // what the file had beyond shows at the copy's end
		} else {
			g.size = max(g.size, c.at.size) // where it is shorter by now the next look says what that means
		}
	} else {
		g.seen = g.size
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
		g.settled, g.drained, g.copied = false, false, false
		g.mtime = c.at.mtime
		if l.copies(g.path) {
			l.cfg.Logger.Warn("state and log were put back from a copy; the file is read on where the state says", "file", g.path, "generation", g.id, "offset", g.offset)
			l.passRestored(g)
		}
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
	if g.verify == nil { // else Resume's error tells, and it is repeated
		l.cfg.Logger.Warn("file of an earlier run is not found", "file", g.path, "generation", g.id, "offset", g.offset)
	}
	g.gone, g.cause, g.drained = true, why, true
}
