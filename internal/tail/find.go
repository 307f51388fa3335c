package tail

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// telling is how many bytes must be equal before two different files are taken
// for the same content. Less can be a header that every file begins with; then
// sending bytes twice is better than leaving some out.
const telling = 64

// candidate is a file that may hold a generation's bytes.
type candidate struct {
	path    string
	kind    string // of compression, "" for none
	at      info
	content content
}

// open opens the candidate for reading. It returns false and no error if it is
// gone, or must not be read.
func (c *candidate) open(allowed Allowed) (bool, error) {
	if c.content != nil {
		return true, nil
	}
	f, at, err := openFile(c.path, allowed)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, ErrNotAllowed), errors.Is(err, ErrNotRegular):
		return false, nil
	case err != nil:
		return false, err
	}
	c.at, c.content = at, f
	if c.kind != "" {
		c.content = newPacked(f, c.kind)
		c.at.size, c.at.partial = 0, true
	}
	return true, nil
}

func (c *candidate) close() {
	if c != nil && c.content != nil {
		_ = c.content.close()
		c.content = nil
	}
}

// length returns how long the content is. A compressed file is unpacked for it.
func (c *candidate) length() (int64, error) {
	p, ok := c.content.(*packed)
	if !ok {
		at, err := c.content.stat()
		return at.size, err
	}
	one := make([]byte, 1)
	for step := int64(1 << 30); !p.ended; step *= 2 {
		if _, err := p.at(one, p.total+step); err != nil {
			return 0, err
		}
	}
	return p.total, nil
}

// known describes a candidate that has nothing new.
func (c *candidate) known() GenerationState {
	g := &generation{dev: c.at.dev, ino: c.at.ino, path: c.path, offset: c.at.size, size: c.at.size, mtime: c.at.mtime, content: c.content}
	if _, err := g.fingerprint(); err != nil {
		return GenerationState{}
	}
	if err := g.load(); err != nil {
		return GenerationState{}
	}
	return stateOf(g)
}

// candidates lists the files beside the log's that may be rotated forms or
// copies of it, newest first. With inodes it also lists the files of any name that
// have one of them. Directories that can't be listed have none.
func (l *Log) candidates(inodes map[uint64]bool) []*candidate {
	type place struct{ dir, base string }
	var places []place
	add := func(path string) {
		p := place{filepath.Dir(path), filepath.Base(path)}
		if path != "" && !slices.Contains(places, p) {
			places = append(places, p)
		}
	}
	add(l.cfg.Path)
	if real, err := filepath.EvalSymlinks(l.cfg.Path); err == nil {
		add(real)
		add(filepath.Join(filepath.Dir(real), filepath.Base(l.cfg.Path)))
	}
	for _, g := range l.gens {
		add(g.path)
	}
	seen := map[string]bool{l.cfg.Path: true}
	var list []*candidate
	for i, p := range places {
		if slices.ContainsFunc(places[:i], func(q place) bool { return q.dir == p.dir }) {
			continue // listed already, for all names
		}
		entries, err := listDir(p.dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			path := filepath.Join(p.dir, e.name)
			related := inodes[e.ino] || slices.ContainsFunc(places, func(q place) bool {
				return q.dir == p.dir && (e.name == q.base || isRelated(e.name, q.base))
			})
			if !related || seen[path] {
				continue
			}
			seen[path] = true
			at, err := statPath(path)
			if err != nil || !at.regular {
				continue
			}
			kind, _ := packing(e.name)
			list = append(list, &candidate{path: path, kind: kind, at: at})
		}
	}
	slices.SortStableFunc(list, func(a, b *candidate) int { return -l.age(a, b) })
	return list
}

// age orders by time of last change, oldest first; where that is equal by the
// number in the name, and else by the name.
func (l *Log) age(a, b *candidate) int {
	if c := a.at.mtime.Compare(b.at.mtime); c != 0 {
		return c
	}
	base := filepath.Base(l.cfg.Path)
	na, nb := rotationNumber(filepath.Base(a.path), base), rotationNumber(filepath.Base(b.path), base)
	if na >= 0 && nb >= 0 && na != nb {
		return cmp.Compare(nb, na)
	}
	return cmp.Compare(a.path, b.path)
}

// findCopy looks for the file that a truncated generation was copied to before.
// part is a copy that ends before our offset: it was made before we read the rest.
func (l *Log) findCopy(g *generation) (twin, part *candidate, err error) {
	if g.head.length == 0 {
		return nil, nil, nil
	}
	list := l.candidates(nil)
	for _, packedOnes := range []bool{false, true} {
		for _, c := range list {
			if (c.kind != "") != packedOnes || l.holds(c) || c.at.same(g.dev, g.ino) {
				continue
			}
			ok, err := c.open(l.cfg.Allowed)
			if isScarce(err) {
				part.close()
				return nil, nil, err
			}
			if !ok || err != nil {
				continue
			}
			same, err := contentMatches(c.content, g.head, g.before, g.want, g.offset)
			if err == nil && same {
				part.close()
				return c, nil, nil
			}
			if part == nil && c.kind == "" && c.at.size > 0 && c.at.size < g.offset && l.begins(c, g) {
				part = c
				continue
			}
			c.close()
		}
	}
	return nil, part, nil
}

// begins says that c holds the beginning of what was read of g.
func (l *Log) begins(c *candidate, g *generation) bool {
	n := min(int64(len(g.start)), c.at.size)
	buf := make([]byte, n)
	if _, err := readAt(c.content, buf, 0); err != nil || n == 0 {
		return false
	}
	return bytes.Equal(buf, g.start[:n])
}

// holds says that c is the very file of a generation that is open.
func (l *Log) holds(c *candidate) bool {
	return slices.ContainsFunc(l.gens, func(g *generation) bool { return g.content != nil && c.at.same(g.dev, g.ino) })
}

// isScarce says that a file couldn't be opened for want of something that comes back.
func isScarce(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM)
}

// between returns the generations that came and went between since and next,
// oldest first: rotated forms that are newer than since, not newer than until (if it isn't zero), and
// hold nothing known.
func (l *Log) between(since, next *generation, until time.Time, except ...*candidate) ([]*generation, error) {
	base := filepath.Base(l.cfg.Path)
	list := l.candidates(nil)
	slices.Reverse(list)
	var found []*generation
	fail := func(err error) ([]*generation, error) {
		for _, g := range found {
			g.close()
		}
		return nil, err
	}
	for _, c := range list {
		if !isRotation(filepath.Base(c.path), base) || c.at.mtime.Before(since.mtime) || next != nil && c.at.same(next.dev, next.ino) || l.holds(c) ||
			!until.IsZero() && c.at.mtime.After(until) {
			continue
		}
		if slices.ContainsFunc(except, func(e *candidate) bool { return e != nil && c.at.same(e.at.dev, e.at.ino) }) {
			continue
		}
		if born := birthOf(unix.AT_FDCWD, c.path, 0); c.kind == "" && !born.IsZero() && born.Before(since.birth) {
			continue // written to lately, but it is older
		} else if slices.Contains(l.older, OlderFile{c.at.dev, c.at.ino, nanos(born)}) {
			continue
		}
		ok, err := c.open(l.cfg.Allowed)
		if errors.Is(err, fs.ErrPermission) {
			found = append(found, &generation{
				path: c.path, gone: true, drained: true, cause: "rotated file can't be read: permission denied",
				loss: bytesLoss("rotated file can't be read: permission denied", -1, false, c.path),
			})
			continue
		}
		if err != nil {
			return fail(err)
		}
		if !ok {
			continue
		}
		gens := append(slices.Clone(l.gens), found...)
		if next != nil {
			gens = append(gens, next)
		}
		known, err := l.isKnown(c, gens)
		if err != nil {
			l.cfg.Logger.Warn("rotated file can't be compared with what is known", "file", c.path, "error", err)
		}
		if known {
			c.close()
			continue
		}
		g, err := l.adopt(c.content, c.path, c.at, 0)
		if err != nil {
			if c.kind == "" || isScarce(err) {
				c.close()
				return fail(err)
			}
			// A compressed file that can't be unpacked: it is reported when its turn comes.
			g = &generation{dev: c.at.dev, ino: c.at.ino, path: c.path, content: c.content, changed: c.at.changed}
		}
		g.settled = c.kind != ""
		g.birth = since.birth // it may be a copy: its own is no sign of the age
		found = append(found, g)
		l.cfg.Logger.Info("found a file that was rotated away unseen", "file", c.path, "size", c.at.size)
	}
	return found, nil
}

// olderThan lists the rotated forms that are there when the log is begun with g
// and that their times don't show to be older. Only those need remembering.
func (l *Log) olderThan(g *generation) []OlderFile {
	var list []OlderFile
	for _, c := range l.candidates(nil) {
		if !isRotation(filepath.Base(c.path), filepath.Base(l.cfg.Path)) || c.at.mtime.Before(g.birth) || len(list) == olderMax {
			continue
		}
		// Without a birth its inode alone would not tell it from a later file.
		if born := birthOf(unix.AT_FDCWD, c.path, 0); !born.IsZero() && !born.Before(g.birth) {
			list = append(list, OlderFile{c.at.dev, c.at.ino, nanos(born)})
		}
	}
	return list
}

// isKnown says that c holds a copy, compressed or not, of a generation that is
// read already or in line to be read.
func (l *Log) isKnown(c *candidate, gens []*generation) (bool, error) {
	var failed error
	for _, g := range gens {
		var same bool
		var err error
		switch {
		case g.content != nil:
			same, err = isPrefix(c, g)
		case g.head.length == 0:
			continue
		default:
			same, err = l.isForm(c, g.head, g.before, g.want, g.offset)
		}
		if same {
			return true, nil
		}
		failed = errors.Join(failed, err)
	}
	for _, s := range l.finished {
		same, err := l.isForm(c, s.Head.sum(), nil, s.Check.sum(), s.Offset)
		if same {
			return true, nil
		}
		failed = errors.Join(failed, err)
	}
	return false, failed
}

// isForm says that c holds a generation that was read up to offset.
func (l *Log) isForm(c *candidate, head sum, before []byte, check sum, offset int64) (bool, error) {
	same, err := contentMatches(c.content, head, before, check, offset)
	if !same || err != nil || offset >= telling {
		return same, err
	}
	n, err := c.length()
	return n == offset && offset > 0, err
}

// isPrefix says that c is a copy of an open generation, perhaps one that was
// made before the generation's last bytes were written.
func isPrefix(c *candidate, g *generation) (bool, error) {
	head := make([]byte, headMax)
	n, err := readAt(c.content, head, 0)
	if err != nil && err != io.EOF {
		return false, err
	}
	other := make([]byte, n)
	if m, _ := readAt(g.content, other, 0); m < n || !bytes.Equal(head[:n], other) {
		return false, nil
	}
	size, err := c.length()
	if err != nil {
		return false, err
	}
	if size < telling {
		// So little is a copy only if it is the whole, and the original is gone or has the very time that compressing kept.
		at, err := g.content.stat()
		if err != nil || at.size != size || at.links > 0 && !at.mtime.Equal(c.at.mtime) {
			return false, err
		}
	}
	k := min(size, beforeMax)
	head, other = head[:k], other[:0]
	other = append(other, make([]byte, k)...)
	if m, _ := readAt(c.content, head, size-k); int64(m) < k {
		return false, nil
	}
	if m, _ := readAt(g.content, other, size-k); int64(m) < k {
		return false, nil
	}
	return bytes.Equal(head, other), nil
}

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
	for _, g := range l.wanted() {
		if g.head.length == 0 && g.offset == 0 && g.loss == nil {
			// It was empty: there is nothing to know it by, for its inode may hold something
			// later by now. What came into it is found as something new, in its turn.
			g.gone, g.drained = true, true
		}
	}
	live := &candidate{path: l.cfg.Path}
	there, liveErr := live.open(l.cfg.Allowed)
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
	list := l.candidates(inodes)
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
				if _, err := c.open(l.cfg.Allowed); err != nil {
					// It may be the one: what can't be opened now isn't given up.
					if !c.at.mtime.Before(g.mtime) {
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
	err := try(func(c *candidate, g *generation) bool { return c.kind == "" && c.at.ino == g.ino })
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

// fits says that c is g by its content.
func (l *Log) fits(c *candidate, g *generation) bool {
	if g.head.length == 0 {
		return false
	}
	same, err := contentMatches(c.content, g.head, nil, g.want, g.offset)
	if err != nil || !same {
		return false
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
	if g.birth.IsZero() {
		// That of a copy or of a compressed form is no sign of the age.
		g.birth = birthOf(g.content.descriptor(), "", atEmptyPath)
	}
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
	const why = "not found after a restart"
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
