package tail

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// telling is how many bytes must be equal before two different files are taken
// for the same content. Less can be a header that every file begins with; then
// sending bytes twice is better than leaving some out.
const telling = 64

// triesMax is how often the names of a directory are looked at anew because they were moved on meanwhile.
const triesMax = 4

// errMoved: names were moved on each time they were looked at, or the live file was.
var errMoved = errors.New("files are being renamed")

// candidate is a file that may hold a generation's bytes.
type candidate struct {
	path    string
	kind    string // of compression, "" for none
	at      info
	content content
	strict  bool // it lies where it was only moved to: neither it nor its directory may be a link
	refused bool // policy doesn't let this log read it
}

// open opens the candidate for reading. It returns false and no error if it is
// gone, or must not be read.
func (c *candidate) open(allowed Allowed) (bool, error) {
	if c.content != nil {
		return true, nil
	}
	f, at, err := openFile(c.path, allowed)
	if err == nil && c.strict && f.real != c.path {
		return false, f.close()
	}
	c.refused = errors.Is(err, ErrNotPermitted)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, ErrNotAllowed), errors.Is(err, ErrNotPermitted), errors.Is(err, ErrNotRegular):
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

// candidates lists the files beside the log's, and where rotation moves them, that may be rotated forms or
// copies of it, newest first. With inodes it also lists the files of any name that
// have one of them. Directories that are gone or that we may not list have none.
func (l *Log) candidates(inodes map[uint64]bool) (list []*candidate, err error) {
	for range triesMax {
		var moved bool
		if list, moved, err = l.collect(inodes); err != nil || !moved {
			break
		}
	}
	return list, err
}

// collect is candidates, once. moved says that a name was another file's by the time it was looked at: then a file may have had, each time, a name that
// wasn't looked at just then.
func (l *Log) collect(inodes map[uint64]bool) (list []*candidate, moved bool, err error) {
	type place struct{ dir, base string }
	var places []place
	add := func(path string) {
		p := place{filepath.Dir(path), filepath.Base(path)}
		if path != "" && !slices.Contains(places, p) {
			places = append(places, p)
		}
	}
	add(l.cfg.Path)
	where := l.whereabouts()
	if where.real != "" {
		add(where.real)
		add(filepath.Join(filepath.Dir(where.real), filepath.Base(l.cfg.Path)))
	}
	for _, g := range l.gens {
		add(g.path)
	}
	elsewhere := l.elsewhere(where)
	for _, dir := range elsewhere {
		add(filepath.Join(dir, filepath.Base(l.cfg.Path)))
	}
	seen := map[string]bool{l.cfg.Path: true}
	for i, p := range places {
		if slices.ContainsFunc(places[:i], func(q place) bool { return q.dir == p.dir }) {
			continue // listed already, for all names
		}
		var bases, stems []string
		for _, q := range places[i:] {
			if q.dir == p.dir {
				bases = append(bases, q.base)
				stems = append(stems, strings.TrimSuffix(q.base, filepath.Ext(q.base)))
			}
		}
		names, err := l.cfg.Watcher.list(p.dir)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission), errors.Is(err, unix.ENOTDIR):
			continue
		case err != nil:
			return nil, false, err // it must not look as if there were no files
		}
		for _, e := range names.pick(stems, inodes) {
			path := filepath.Join(p.dir, e.name)
			related := inodes[e.ino] || slices.ContainsFunc(bases, func(base string) bool {
				return e.name == base || isRelated(e.name, base)
			})
			if !related || seen[path] {
				continue
			}
			seen[path] = true
			strict := slices.Contains(elsewhere, p.dir)
			stat := statPath
			if strict {
				stat = lstat
			}
			at, err := stat(path)
			if err != nil || at.ino != e.ino { // or it is a link
				it, err := lstat(path)
				moved = moved || errors.Is(err, fs.ErrNotExist) || err == nil && it.ino != e.ino
			}
			if err != nil || !at.regular {
				continue
			}
			kind, _ := packing(e.name)
			list = append(list, &candidate{path: path, kind: kind, at: at, strict: strict})
		}
	}
	base := filepath.Base(l.cfg.Path)
	rising := isRising(list, base)
	slices.SortStableFunc(list, func(a, b *candidate) int { return -age(a, b, base, rising) })
	return list, moved, nil
}

// age orders by time of last change, oldest first. Where that is equal (the kernel counts in steps of some
// milliseconds) the number in the name decides, and else the name. Births don't tell: a copy is born after
// what is written to the file that it was copied from.
func age(a, b *candidate, base string, rising bool) int {
	if c := a.at.mtime.Compare(b.at.mtime); c != 0 {
		return c
	}
	na, nb := rotationNumber(filepath.Base(a.path), base), rotationNumber(filepath.Base(b.path), base)
	if na >= 0 && nb >= 0 && na != nb {
		if rising {
			return cmp.Compare(na, nb)
		}
		return cmp.Compare(nb, na)
	}
	return cmp.Compare(a.path, b.path)
}

// precedes says that a is older than b by its time, and by its number, too: a file may be written to after it was rotated.
func precedes(a, b *candidate, base string, rising bool) bool {
	na, nb := rotationNumber(filepath.Base(a.path), base), rotationNumber(filepath.Base(b.path), base)
	return age(a, b, base, rising) < 0 && (na < 0 || nb < 0 || na > nb != rising)
}

// isRising tells whether the numbers in names grow with time. Most programs give the newest the lowest one,
// and so it is said where the times don't show otherwise.
func isRising(list []*candidate, base string) bool {
	byTime := slices.Clone(list)
	slices.SortStableFunc(byTime, func(a, b *candidate) int { return a.at.mtime.Compare(b.at.mtime) })
	votes, last := 0, (*candidate)(nil)
	for _, c := range byTime {
		n := rotationNumber(filepath.Base(c.path), base)
		if n < 0 {
			continue
		}
		if last != nil && last.at.mtime.Before(c.at.mtime) {
			votes += cmp.Compare(n, rotationNumber(filepath.Base(last.path), base))
		}
		last = c
	}
	return votes > 0
}

// nearest orders candidates by how likely they are what became of a file that was last written at a moment: that is the first that was
// written then or later, for those behind it may begin alike. What is older follows. Where the moment isn't known the newest comes first.
func nearest(list []*candidate, moment time.Time) []*candidate {
	ordered := make([]*candidate, 0, len(list))
	if moment.IsZero() {
		for _, packedOnes := range []bool{false, true} {
			for _, c := range list {
				if (c.kind != "") == packedOnes {
					ordered = append(ordered, c)
				}
			}
		}
		return ordered
	}
	for _, c := range slices.Backward(list) {
		if !c.older(moment) {
			ordered = append(ordered, c)
		}
	}
	for _, c := range list {
		if c.older(moment) {
			ordered = append(ordered, c)
		}
	}
	return ordered
}

// older says that c was written before a moment, of which a file's time may have kept the seconds only.
func (c *candidate) older(moment time.Time) bool {
	if c.at.mtime.Nanosecond() == 0 {
		moment = moment.Truncate(time.Second)
	}
	return c.at.mtime.Before(moment)
}

// findCopy looks for the file that a truncated generation was copied to before.
// A copy that ends before our offset isn't one: it has nothing new. See [isEarlierCopy].
func (l *Log) findCopy(g *generation) (*candidate, error) {
	if g.head.length == 0 {
		return nil, nil
	}
	list, err := l.candidates(nil)
	if err != nil {
		return nil, err
	}
	for _, c := range nearest(list, g.mtime) {
		if l.holds(c) || c.at.same(g.dev, g.ino) || c.older(g.mtime) && g.known() < headMax {
			continue
		}
		ok, err := c.open(l.cfg.Allowed)
		if isScarce(err) {
			return nil, err
		}
		if !ok || err != nil {
			continue
		}
		same, err := contentMatches(c.content, g.head, g.before, g.want, g.offset)
		if err == nil && same && !l.isAnothers(c, g) {
			l.went(c.path)
			return c, nil
		}
		c.close()
	}
	return nil, nil
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
func (l *Log) between(since, next *generation, until time.Time, except *candidate) ([]*generation, error) {
	for range triesMax {
		found, moved, err := l.search(since, next, until, except)
		if err != nil {
			return nil, err
		}
		late := false // next was rotated away meanwhile: some of what was found may be later
		if next != nil && until.IsZero() {
			at, err := statPath(l.cfg.Path)
			late = err != nil || !at.same(next.dev, next.ino)
		}
		if !moved && !late {
			return found, nil
		}
		for _, g := range found {
			g.close()
		}
		if late {
			break
		}
	}
	return nil, errMoved
}

// search is between, once. moved is as in collect.
func (l *Log) search(since, next *generation, until time.Time, except *candidate) (found []*generation, moved bool, err error) {
	base := filepath.Base(l.cfg.Path)
	list, err := l.candidates(nil)
	if err != nil {
		return nil, false, err
	}
	slices.Reverse(list)
	var denied []*candidate
	fail := func(err error) ([]*generation, bool, error) {
		for _, g := range found {
			g.close()
		}
		return nil, false, err
	}
	for _, c := range list {
		if !isRotation(filepath.Base(c.path), base) || c.at.mtime.Before(since.mtime) || next != nil && c.at.same(next.dev, next.ino) || l.holds(c) ||
			!until.IsZero() && c.at.mtime.After(until) {
			continue
		}
		if except != nil && c.at.same(except.at.dev, except.at.ino) {
			continue
		}
		if born := birthOf(unix.AT_FDCWD, c.path, 0); c.kind == "" && !born.IsZero() && born.Before(since.birth) && !l.lost(c, born) {
			continue // written to lately, but it is older
		} else if slices.Contains(l.older, OlderFile{c.at.dev, c.at.ino, nanos(born)}) {
			continue
		}
		listed := c.at
		ok, err := c.open(l.cfg.Allowed)
		if _, gone := lstat(c.path); !c.at.same(listed.dev, listed.ino) || !ok && errors.Is(gone, fs.ErrNotExist) {
			c.close()
			return found, true, nil
		}
		if errors.Is(err, fs.ErrPermission) || c.strict && c.refused {
			const why = "no permission to read the rotated file"
			found = append(found, &generation{path: c.path, gone: true, drained: true, cause: why, loss: bytesLoss(why, -1, false, c.path)})
			denied = append(denied, c)
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
		if except != nil {
			// Its compressed form is there already while it still is, under another inode.
			gens = append(gens, &generation{content: except.content})
		}
		known, err := l.isKnown(c, gens)
		if !known && err != nil && c.kind != "" && l.cfg.Now().Sub(c.at.changed) < time.Minute {
			// It is being written. The file that it is made from is still there, and is found as such.
			c.close()
			continue
		}
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
		g.doubtful = c.kind == "" && g.size < telling
		g.birth = since.birth // it may be a copy: its own is no sign of the age
		found = append(found, g)
		l.cfg.Logger.Info("found a file that was rotated away unseen", "file", c.path, "size", c.at.size)
	}
	for _, c := range denied {
		l.pass(c) // only now that their losses are sure to be handed out
	}
	return found, false, nil
}

// lost says that c is the very file of a generation that was given up: what is in it now was written since, whenever the file was made.
func (l *Log) lost(c *candidate, born time.Time) bool {
	return slices.ContainsFunc(l.gens, func(g *generation) bool { return g.gone && c.at.same(g.dev, g.ino) && g.born.Equal(born) })
}

// olderThan lists the rotated forms that are there when the log is begun with g
// and that their times don't show to be older. Only those need remembering.
func (l *Log) olderThan(g *generation) []OlderFile {
	var list []OlderFile
	all, _ := l.candidates(nil) // without them at worst something old is sent
	for _, c := range all {
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

// pass remembers a file that is dealt with though it was never read.
func (l *Log) pass(c *candidate) {
	if born := birthOf(unix.AT_FDCWD, c.path, 0); !born.IsZero() {
		l.older = append(l.older, OlderFile{c.at.dev, c.at.ino, nanos(born)})
		l.older = l.older[max(0, len(l.older)-olderMax):]
	}
}

// hasAge says that c is the very file of s, or has its time of change, as a compressed form and what was moved between file systems have. It is
// asked where there is too little content to tell one file from another. Where the times aren't known the content decides.
func (c *candidate) hasAge(s GenerationState) bool {
	if c.kind == "" && c.at.same(s.Dev, s.Ino) {
		born := nanos(c.born())
		return s.Born == 0 || born == 0 || born == s.Born
	}
	mtime := instant(s.Stamp)
	return mtime.IsZero() || c.at.mtime.Equal(mtime) || c.at.mtime.Nanosecond() == 0 && c.at.mtime.Equal(mtime.Truncate(time.Second))
}

// wasCut says that the file of s is there and has other content by now: it was truncated, so that what was read of it may be in a copy.
func (l *Log) wasCut(s GenerationState) bool {
	if s.Gone == "truncated" {
		return true
	}
	list, err := l.candidates(map[uint64]bool{s.Ino: true})
	if err != nil {
		return false
	}
	live := &candidate{path: l.cfg.Path}
	if live.at, err = statPath(l.cfg.Path); err == nil {
		list = append(list, live)
	}
	for _, c := range list {
		if c.kind != "" || !c.at.same(s.Dev, s.Ino) {
			continue
		}
		if ok, err := c.open(l.cfg.Allowed); !ok || err != nil {
			continue
		}
		same, err := contentMatches(c.content, s.Head.sum(), nil, s.Check.sum(), s.Offset)
		very := c.hasAge(s)
		c.close()
		if err == nil && very {
			return !same
		}
	}
	return false
}

// born is when the open candidate's file was made, zero where the file system doesn't say.
func (c *candidate) born() time.Time {
	f, ok := c.content.(*file)
	if !ok {
		return time.Time{}
	}
	return birthOf(f.descriptor(), "", atEmptyPath)
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
			same, err = l.isForm(c, g.before, stateOf(g))
		}
		if !same && err == nil {
			same, err = isEarlierCopy(c, g.head, g.start, g.before, g.offset, g.mtime)
		}
		if same {
			return true, nil
		}
		failed = errors.Join(failed, err)
	}
	for _, s := range l.finished {
		same, err := l.isForm(c, nil, s)
		if !same && err == nil {
			same, err = isEarlierCopy(c, s.Head.sum(), nil, nil, s.Offset, instant(s.Mtime))
		}
		if same {
			return true, nil
		}
		failed = errors.Join(failed, err)
	}
	return false, failed
}

// isForm says that c holds what was read of s, the last bytes of which are before, where they are remembered.
func (l *Log) isForm(c *candidate, before []byte, s GenerationState) (bool, error) {
	same, err := contentMatches(c.content, s.Head.sum(), before, s.Check.sum(), s.Offset)
	if !same || err != nil || s.Gone != "" && max(s.Offset, int64(s.Head.Length)) >= headMax {
		return same, err // of what is gone not all was read
	}
	n, err := c.length()
	return n == s.Offset && n > 0 && (n >= telling || c.hasAge(s) || l.wasCut(s)), err
}

// isEarlierCopy says that c is a copy of what was read of a file, up to offset, and was made before the last of that was written: between
// logrotate's copy and its truncation. The file itself may have other bytes by now. The copy's time of change doesn't tell, for logrotate
// sets its size at the very end. But it was made before mtime, when the file was last seen to have been written, and copies of what came behind the truncation
// are made later. So its first bytes, and those at its end that are remembered, suffice. Of a compressed copy nothing tells when it was made.
func isEarlierCopy(c *candidate, head sum, start, before []byte, offset int64, mtime time.Time) (bool, error) {
	f, ok := c.content.(*file)
	if !ok || head.length < telling {
		return false, nil
	}
	at, err := f.stat()
	if err != nil || at.size < telling || at.size > offset {
		return false, err
	}
	if born := c.born(); born.IsZero() || born.After(mtime) {
		return false, nil
	}
	buf := make([]byte, max(headMax, beforeMax))
	n, err := readAt(f, buf[:min(int64(head.length), at.size)], 0)
	if err != nil && err != io.EOF {
		return false, err
	}
	if n < head.length && !bytes.HasPrefix(start, buf[:n]) || n == head.length && sumOf(buf[:n]) != head {
		return false, nil
	}
	from := offset - int64(len(before))
	if from >= at.size {
		return true, nil
	}
	if n, err = readAt(f, buf[:at.size-from], from); err != nil && err != io.EOF {
		return false, err
	}
	return int64(n) == at.size-from && bytes.HasPrefix(before, buf[:n]), nil
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
		// So little is a copy only if it is the whole, and has the very time that compressing kept.
		at, err := g.content.stat()
		if err != nil || at.size != size || !c.hasAge(GenerationState{Dev: at.dev, Ino: at.ino, Born: nanos(g.born), Stamp: nanos(at.mtime)}) {
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
