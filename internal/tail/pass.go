package tail

import (
	"errors"
	"fmt"
)

// What a writer adds to a file that was copied or compressed and removed is only in the file that is held open. After a crash it can't be read again, and
// the state may be older than the last of it that was handed out. Only whoever took it knows how far that went.

// mark is what was known of a file when its path was last seen to lead to it. It is renamed first and then copied or compressed, so what is made of
// it has at least that much.
type mark struct {
	offset int64
	head   sum // of the first bytes
	check  sum // of the last ones in front of offset
}

// notch sets the mark. The path leads to g, and nothing was read since that was seen.
func (g *generation) notch() {
	if g.mark.offset == g.offset {
		return
	}
	check := g.want
	if len(g.before) > 0 {
		check = sumOf(g.before)
	}
	g.mark = mark{g.offset, g.head, check}
}

// Mark is a file as of the moment when its path was last seen to lead to it: see [GenerationState].
type Mark struct {
	Offset int64 `json:"offset"`
	Head   Sum   `json:"head"`
	Check  Sum   `json:"check"`
}

// findShort gives generations that are found nowhere a copy that ends before what was read of them. An error is temporary.
func (l *Log) findShort(list []*candidate) error {
	for _, g := range l.wanted() {
		var best *candidate
		var length int64
		for _, c := range list {
			if l.holds(c) {
				continue
			}
			if ok, err := c.open(l.cfg.Allowed.Also(nil)); isScarce(err) {
				return err
			} else if !ok || err != nil {
				continue
			}
			if n := l.shortOf(c, g); n > length {
				best, length = c, n
			}
		}
		if best != nil {
			l.foundShort(g, best, length)
		}
	}
	return nil
}

// shortOf is how long a copy of g is that ends before what was read of it; 0: c is none. What is in it up to the mark tells.
func (l *Log) shortOf(c *candidate, g *generation) int64 {
	m := g.mark
	if m.offset < telling || c.kind == "" && c.at.same(g.dev, g.ino) && !g.copied {
		return 0
	}
	n, err := c.length()
	if err != nil || n < m.offset || n >= g.offset {
		return 0
	}
	if same, err := contentMatches(c.content, m.head, nil, m.check, m.offset); err != nil || !same {
		return 0
	}
	then := &generation{head: m.head, want: m.check, offset: m.offset}
	if then.known() < headMax && (!l.tells(c, then) || l.isAnothers(c, then)) || l.marksOthers(c, m) {
		return 0
	}
	return n
}

// marksOthers says that a mark, which c has, is how more of the log's files begin: so it tells none of them.
func (l *Log) marksOthers(c *candidate, m mark) bool {
	list, err := l.candidates(nil)
	if err != nil {
		return false
	}
	live := &candidate{path: l.cfg.Path}
	_, bare := packing(c.path)
	for _, o := range append(list, live) {
		if _, b := packing(o.path); o != live && (b == bare || o.at.same(c.at.dev, c.at.ino)) {
			continue // c itself, or another form of it
		}
		if ok, err := o.open(l.cfg.Allowed.Also(nil)); !ok || err != nil {
			continue // what can't be opened now says nothing
		}
		same, err := contentMatches(o.content, m.head, nil, m.check, m.offset)
		o.close()
		if same && err == nil {
			return true
		}
	}
	return false
}

// marked marks g by a copy of it of a length.
func (g *generation) marked(c content, length int64) error {
	buf := make([]byte, headMax)
	head := buf[:min(length, headMax)]
	if n, err := readAt(c, head, 0); n < len(head) {
		return fmt.Errorf("read the beginning of %s: %w", g.path, err)
	}
	m := mark{offset: length, head: sumOf(head)}
	end := buf[:min(length, beforeMax)]
	if n, err := readAt(c, end, length-int64(len(end))); n < len(end) {
		return fmt.Errorf("read the end of %s: %w", g.path, err)
	}
	m.check = sumOf(end)
	g.mark = m
	return nil
}

// foundShort lets g be read again as far as c has it. Nothing else of c is new.
func (l *Log) foundShort(g *generation, c *candidate, length int64) {
	_ = g.marked(c.content, length) // else it keeps the mark that it was found by
	l.keepCopy(c, g)
	l.went(c.path)
	g.content, c.content, g.path = c.content, nil, c.path
	g.dev, g.ino, g.stamp = c.at.dev, c.at.ino, c.at.mtime // its own inode may be another file's by now
	g.born = birthOf(g.content.descriptor(), "", atEmptyPath)
	g.live, g.copied, g.settled, g.drained, g.short = false, true, true, false, length
	g.seen, g.size, g.cause, g.loss = g.size, g.offset, NotFound, nil
	if l.sticky() == g && g.seen <= g.offset {
		g.loss = bytesLoss(NotFound, -1, false, g.path)
	}
	l.cfg.Logger.Warn("file of an earlier run is gone, and its copy ends before what was read of it", "copy", c.path, "generation", g.id, "offset", g.offset, "copied", length)
}

// ending is the generation that an earlier run was reading last, as long as that may have handed out more of it than the state says.
func (l *Log) ending() *generation {
	if n := len(l.earlier); n > 0 {
		return l.earlier[n-1].gen
	}
	return nil
}

// unsure says that it may have, and that it can't be read here.
func (l *Log) unsure() bool {
	g := l.ending()
	return g != nil && !l.missing && (g.copied || g.gone && g.cause == NotFound)
}

// Copied says that there is a copy of the file that an earlier run was reading last, or of its beginning, and that more of it may have been handed out.
func (l *Log) Copied() bool { return l.unsure() && l.ending().copied }

// Sure says that an earlier run has handed out no more than what is known here: [Piece.Unsure] isn't set any more, [Log.Pass] refuses, and a copy that is done with
// is let go. What was peeked stays as it was.
func (l *Log) Sure() {
	if l.earlier != nil {
		l.earlier = nil
		l.tidy()
	}
}

// isBehind says that a piece comes behind all that can be read of what an earlier run was reading last.
func (l *Log) isBehind(p *Piece) bool {
	switch shown := l.peeked; {
	case p.Loss != nil:
		return !shown.replay || p.Loss.Cause == NotFound
	case len(p.Data) > 0:
		return !shown.replay && shown.gen != l.ending()
	}
	return l.next == l.head && !p.More && !l.ending().unread()
}

// errNotPassed: what a source says isn't what an earlier run can have handed out.
var errNotPassed = errors.New("it isn't how an earlier run went on")

// Pass goes on at a position that an earlier run has reached, by the word of whoever took what was handed out: the byte before it is the one before
// last.Offset of generation last.ID. What lies between needn't be read, and counts as released. It is for what can't be read again (see
// [Piece.Unsure]) and refuses what can't have been handed out so. Where the file, or a copy, has bytes up to there, verify is given them and says whether they
// are those that were taken; nil accepts.
func (l *Log) Pass(position uint64, last Source, verify func(readAt func(p []byte, off int64) (int, error)) bool) error {
	if err := l.usable("pass"); err != nil {
		return err
	}
	refuse := func(why string) error {
		return fmt.Errorf("pass %s to position %d, offset %d of generation %s: %s: %w", l.cfg.Name, position, last.Offset, last.ID, why, errNotPassed)
	}
	if l.earlier == nil || l.missing || position < l.released || position > positionMax {
		return refuse("nothing is missing there")
	}
	i := len(l.earlier) - 1
	for i > 0 && l.earlier[i].position >= position {
		i--
	}
	s := l.earlier[i]
	if s.gen == nil || s.gen.id != last.ID || position < s.position || uint64(s.offset)+(position-s.position) != uint64(last.Offset) {
		return refuse("another one was read there")
	}
	g := s.gen
	if position >= l.head && g != l.ending() {
		return refuse("another one was read last")
	}
	has, err := g.has(last.Offset)
	if err != nil {
		return fmt.Errorf("look at %s: %w", g.path, err)
	}
	if has && verify != nil && !verify(func(p []byte, off int64) (int, error) { return readAt(g.content, p, off) }) {
		return refuse("the file has other bytes there")
	}
	if position < l.head {
		if err := l.Release(position); err != nil {
			return err
		}
		return l.Seek(position)
	}
	if err := l.reached(g, last.Offset); err != nil {
		return err
	}
	l.segments = []segment{{position: position, gen: g, offset: g.offset}}
	l.released, l.next, l.head = position, position, position
	l.peeked = nil
	l.tidy()
	return nil
}

// has says that there are bytes of g up to offset.
func (g *generation) has(offset int64) (bool, error) {
	if g.gone || g.content == nil || g.short > 0 && g.short < offset {
		return false, nil
	}
	c := &candidate{path: g.path, content: g.content}
	var err error
	if c.at, err = g.content.stat(); err != nil {
		return false, err
	}
	n, err := c.length()
	return n >= offset, err
}

// reached takes over that g was read up to offset.
func (l *Log) reached(g *generation, offset int64) error {
	if g.gone {
		g.loss = bytesLoss(NotFound, -1, false, g.path)
		if g.offset = offset; g.size > offset {
			g.loss = bytesLoss(NotFound, g.size-offset, false, g.path)
		}
		g.before, g.want = nil, sum{}
		return nil
	}
	c := &candidate{path: g.path, content: g.content}
	var err error
	if c.at, err = g.content.stat(); err != nil {
		return fmt.Errorf("look at the copy %s: %w", g.path, err)
	}
	length := g.short
	if !g.copied && c.at.size < offset {
		return fmt.Errorf("the file %s has %d bytes, and not %d: %w", g.path, c.at.size, offset, errNotPassed)
	}
	if length == 0 {
		if length, err = c.length(); err != nil {
			return fmt.Errorf("look at the copy %s: %w", g.path, err)
		}
	}
	was := *g
	g.offset, g.size, g.seen, g.loss, g.drained = offset, max(offset, length), max(g.seen, g.size), nil, false
	if !g.copied {
		g.seen, g.drained = 0, was.drained
	}
	if length >= offset {
		g.short = 0
		if err := g.load(); err != nil {
			*g = was
			return err
		}
		return nil
	}
	if g.short == 0 {
		if err := g.marked(g.content, length); err != nil {
			*g = was
			return err
		}
		l.keepCopy(c, g)
	}
	g.before, g.want, g.size, g.short, g.cause = nil, sum{}, offset, length, NotFound
	return nil
}
