package tail

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const atEmptyPath = unix.AT_EMPTY_PATH

// Look notices what happened to the path and to the files, without reading on:
// rotation, deletion, growth, and what the budget let go. Peek does it by itself; a caller
// that is paused does it on each Wake, so that each new generation is opened in
// time and nobody can delete it unread.
func (l *Log) Look() error {
	if err := l.usable("look at"); err != nil {
		return err
	}
	l.look()
	if l.missing {
		return l.searching()
	}
	return l.trouble()
}

func (l *Log) look() {
	now := l.cfg.Now()
	// Before anything is looked at: a signal that comes meanwhile must not be lost.
	l.poked.Store(false)
	select {
	case <-l.wake:
	default:
	}
	if l.missing {
		l.locate(now)
	}
	if !l.missing {
		l.follow(now)
	}
	for _, g := range l.gens {
		if g.content == nil {
			continue
		}
		if !g.live || l.pathErr != nil {
			// The path said nothing of it. An error shows when it is read.
			if at, err := l.stat(g); err == nil {
				l.note(g, at, now)
			}
		}
		l.account(g)
		if f, ok := g.content.(*file); ok && f.room != nil {
			l.signalAfter(roomLook)
		}
	}
	l.tidy()
	l.watch.set(l.gens, l.cfg.Linger)
	l.retryLater()
}

// note takes over what stat said; a shrunk file is settled at once, so that
// the copy is looked for while it is fresh.
func (l *Log) note(g *generation, at info, now time.Time) {
	if g.short > 0 {
		return // nothing more is read of it
	}
	same := true
	if g.live && !at.mtime.Equal(g.mtime) {
		// Before the new time is taken over: where the file was truncated and filled
		// again, copies that were made meanwhile are told by the old one.
		var err error
		if same, err = l.intact(g); err != nil {
			l.pathErr = err
			return
		}
	}
	if same && g.observe(at, now) {
		if g.head.length < headMax && g.size > int64(g.head.length) {
			_, _ = g.fingerprint() // a change shows when it is read
		}
		return
	}
	if err := l.changed(g); err != nil && g.live {
		l.pathErr = err
	}
}

// follow compares what the path leads to with what is read.
func (l *Log) follow(now time.Time) {
	at, err := statPath(l.cfg.Path)
	live := l.live()
	switch {
	case err == nil && live != nil && at.same(live.dev, live.ino):
		l.pathErr = nil
		if f, ok := live.content.(*file); ok {
			at = f.measure(at)
		}
		if l.statAt != nil {
			at = l.statAt(live, at)
		}
		if l.pathErr = l.insert(live, at); l.pathErr != nil {
			return
		}
		was := live.offset
		l.note(live, at, now)
		if live.offset == was && l.live() == live {
			live.notch()
		}
	case err == nil:
		if !at.regular {
			// Not even O_PATH is needed to refuse it.
			l.detach(now)
			l.pathErr = &fs.PathError{Op: "open", Path: l.cfg.Path, Err: ErrNotRegular}
			return
		}
		l.pathErr = l.arrive(now)
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR):
		if live != nil {
			// It may have been truncated before it was renamed: its copy comes before what is in it now.
			if l.pathErr = l.settle(live, now); l.pathErr != nil {
				return
			}
		}
		l.detach(now)
		l.begun = true // what comes later was made later: it is read from its beginning
		l.pathErr = err
		if err := l.vacant(now); err != nil {
			l.pathErr = err
		}
	default:
		// Permission lost, network away: the file that is open stays what it is.
		l.pathErr = err
	}
}

// detach makes the live generation an old one.
func (l *Log) detach(now time.Time) {
	g := l.live()
	if g == nil {
		return
	}
	g.live = false
	g.noticed = now
	if at, err := l.stat(g); err == nil {
		g.changed, g.deleted = at.changed, at.links == 0
		if real, err := realPath(g.content.descriptor(), at); err == nil && !g.deleted {
			l.went(real)
			g.path = real // where it was renamed to
			l.counted(real)
		}
		if g.observe(at, now) {
			// A rename isn't growth, but the quiet time begins with it.
			g.noticed = now
		}
	}
	l.cfg.Logger.Debug("file was rotated away", "generation", g.id, "file", g.path, "offset", g.offset, "size", g.size)
}

// arrive opens a file that the path leads to since the last look.
func (l *Log) arrive(now time.Time) error {
	f, at, err := openFile(l.cfg.Path, l.cfg.Allowed)
	if err != nil {
		if errors.Is(err, ErrNotAllowed) || errors.Is(err, ErrNotPermitted) || errors.Is(err, ErrNotRegular) {
			l.detach(now) // the path leads elsewhere for good, though we may not go there
		}
		return err
	}
	if live := l.live(); live != nil && at.same(live.dev, live.ino) {
		return f.close() // it changed back between the two looks
	}
	if live := l.live(); live != nil {
		// It may have been truncated before it was renamed: its copy comes before what is in it now.
		if err := l.settle(live, now); err != nil {
			_ = f.close()
			return err
		}
	}
	for i, g := range l.gens {
		if g.content != nil && !g.gone && at.same(g.dev, g.ino) {
			// An old generation came back under its name.
			_ = f.close()
			l.detach(now)
			l.gens = append(append(l.gens[:i:i], l.gens[i+1:]...), g)
			g.live, g.drained, g.settled, g.doubtful, g.path = true, false, false, false, f.real
			l.scanned = time.Time{}
			g.noticed = now
			return nil
		}
	}
	finished := slices.Clone(l.finished)
	g, err := l.revive(f, at)
	if err != nil {
		_ = f.close()
		return err
	}
	if g == nil {
		from := int64(0)
		if !l.begun && l.cfg.Start == StartEnd {
			from = at.size
		}
		if g, err = l.adopt(f, f.real, at, from); err != nil {
			_ = f.close()
			return err
		}
		switch {
		case l.begun:
		case l.cfg.Start == StartBeginning && !l.cfg.Since.IsZero():
			l.from(l.cfg.Since)
			l.begun = true
		default:
			l.older = l.olderThan(g)
		}
	}
	var unseen []*generation
	for _, old := range l.gens {
		l.learn(old) // before those that came after it are looked for
	}
	if since := l.newest(); since != nil && l.begun {
		var hole *generation
		if hole, err = l.holes(since, g); err == nil {
			unseen, err = l.between(since, g, time.Time{}, nil)
		}
		if err != nil {
			g.close() // without them the order would be broken: the new file waits
			l.finished = finished
			return err
		}
		if hole != nil {
			unseen = append([]*generation{hole}, unseen...)
		}
	}
	l.detach(now)
	g.live, l.begun, l.scanned = true, true, time.Time{}
	l.gens = append(append(l.gens, unseen...), g)
	l.cfg.Logger.Debug("file is followed", "file", g.path, "offset", g.offset, "size", g.size)
	return nil
}

// settle sees whether a file is still the one that was read.
func (l *Log) settle(g *generation, now time.Time) error {
	at, err := l.stat(g) // before the check: what is seen after it may be the size of other content
	if err != nil {
		return err
	}
	same, err := l.intact(g)
	if err != nil {
		return err
	}
	if same {
		if err := l.insert(g, at); err != nil {
			return err
		}
		if same = g.observe(at, now); same {
			same, err = g.fingerprint()
		}
		if same || err != nil {
			return err
		}
	}
	return l.changed(g)
}

// insert takes in copies that were made of the live file since it was last
// seen, and seen empty: it was filled, copied and truncated, which its size doesn't show.
func (l *Log) insert(live *generation, at info) error {
	if live.size > 0 || at.mtime.Equal(live.mtime) {
		return nil
	}
	unseen, err := l.between(live, live, at.mtime, nil)
	if err == nil && len(unseen) > 0 {
		n := len(l.gens) - 1
		l.gens = append(append(l.gens[:n:n], unseen...), live)
	}
	return err
}

// vacant takes in what was rotated away unseen while there is no file under the
// path: perhaps none comes any more.
func (l *Log) vacant(now time.Time) error {
	since := l.newest()
	switch {
	case since == nil && l.cfg.Start == StartBeginning && !l.cfg.Since.IsZero():
		since = l.from(l.cfg.Since)
	case since == nil:
		l.mark(now)
		return nil
	}
	// Names come and go only with a change of the directory.
	dir, err := statPath(filepath.Dir(l.cfg.Path))
	if err != nil || dir.changed.Equal(l.scanned) {
		return nil
	}
	unseen, err := l.between(since, nil, time.Time{}, nil)
	if err != nil {
		return err
	}
	l.gens = append(l.gens, unseen...)
	// Within a tick of the file system's clock more may happen that this time doesn't show.
	if l.scanned = dir.changed; now.Sub(dir.changed) < time.Second {
		l.scanned = time.Time{}
	}
	return nil
}

// mark remembers the moment: the path leads nowhere and never did, so what is
// made and rotated away from now on belongs to the log, seen or not.
func (l *Log) mark(now time.Time) {
	l.older = l.olderThan(l.from(now))
}

// from lets everything belong to the log that is made from a moment on.
func (l *Log) from(moment time.Time) *generation {
	moment = moment.Add(-time.Second) // a file system's clock can be a little behind
	l.since = Since{nanos(moment), nanos(moment)}
	return &generation{mtime: moment, birth: moment}
}

// newest returns the file that was followed last, nil if there was none.
func (l *Log) newest() *generation {
	var last *generation
	if l.since.Mtime != 0 {
		last = &generation{mtime: instant(l.since.Mtime), birth: instant(l.since.Birth)}
	}
	for _, g := range l.gens {
		if g.ino != 0 && (g.live || last == nil || !g.mtime.Before(last.mtime)) {
			last = g
		}
	}
	return last
}

// revive returns a generation that was finished and whose very file is back: a
// symbolic link that is swapped back and forth. Nil if the file isn't one.
func (l *Log) revive(f *file, at info) (*generation, error) {
	for i := len(l.finished) - 1; i >= 0; i-- {
		s := l.finished[i]
		if !at.same(s.Dev, s.Ino) || at.size < s.Offset || s.Head.Length == 0 {
			continue
		}
		// Many programs begin each file alike: a later one with the same inode is told by its birth. Without one it is sent again.
		if c := (&candidate{at: at, content: f}); !c.hasAge(s) || s.Offset <= headMax && (s.Born == 0 || c.born().IsZero()) {
			continue
		}
		same, err := contentMatches(f, s.Head.sum(), nil, s.Check.sum(), s.Offset)
		if err != nil {
			return nil, err
		}
		if !same {
			continue
		}
		g, err := l.adopt(f, f.real, at, s.Offset)
		if err != nil {
			return nil, err
		}
		if s.ID != "" {
			g.id = s.ID
		}
		l.finished = append(l.finished[:i], l.finished[i+1:]...)
		return g, nil
	}
	return nil, nil
}

// account charges a deleted file to the budget and carries out what the budget
// decided.
func (l *Log) account(g *generation) {
	if !g.deleted || g.gone {
		if g.hold != nil {
			l.cfg.Budget.drop(g.hold)
			g.hold = nil
		}
		return
	}
	from, _ := l.needed(g)
	g.hold = l.cfg.Budget.set(g.hold, max(0, g.size-from), l.signal)
	if g.hold == nil || !g.hold.letGo.Load() {
		return
	}
	g.hold = nil
	const why = "deleted beyond the budget"
	busy := g.busy()
	if g.content != nil {
		if at, err := l.stat(g); err == nil {
			g.observe(at, l.cfg.Now())
		}
	}
	switch unread := g.size - g.offset; {
	case unread > 0:
		g.loss = bytesLoss(why, unread, !busy, g.path)
	case busy: // who has it open for writing may go on
		g.loss = bytesLoss(why, -1, false, g.path)
	}
	l.cfg.Logger.Warn("a deleted file is let go, the budget for them is used up",
		"file", g.path, "generation", g.id, "unread_bytes", max(0, g.size-g.offset), "unconfirmed_bytes", g.offset-from)
	g.gone, g.cause, g.drained, g.live = true, why, true, false
	l.noteCopies(g)
	g.close()
}

// vanished gives a generation up whose file can no longer be read at all.
func (l *Log) vanished(g *generation, why string) {
	if g.live {
		g.live = false
	}
	if unread := g.size - g.offset; unread > 0 {
		g.loss = bytesLoss(why, unread, false, g.path)
	} else {
		g.loss = bytesLoss(why, -1, false, g.path)
	}
	g.gone, g.cause, g.drained = true, why, true
	l.letGo(g)
}

// tidy lets go of the generations that are read, confirmed and quiet for long
// enough, and remembers them as finished.
func (l *Log) tidy() {
	if l.missing {
		return
	}
	now := l.cfg.Now()
	kept := l.gens[:0]
	for _, g := range l.gens {
		if l.over(g, now) {
			l.forget(g)
			continue
		}
		if g.noted == 0 { // now, and once more when it is let go: somebody may write to it for days
			l.noteCopies(g)
		}
		kept = append(kept, g)
	}
	clear(l.gens[len(kept):])
	l.gens = kept
}

func (l *Log) over(g *generation, now time.Time) bool {
	if g.live || !g.drained || g.loss != nil || g.unread() || g == l.ending() && l.unsure() {
		return false
	}
	if _, needed := l.needed(g); needed {
		return false
	}
	switch {
	case g.gone:
		// Until a file is followed: that may take several looks, and what was written anew to this one's is told by it, see lost.
		return l.live() != nil
	case g.settled, now.Sub(g.drainedAt) >= l.cfg.Linger:
	case g.deleted && !g.written():
		// Nobody else can find it any more, and nobody can write to it: holding it would only fill the disk.
	default:
		return false
	}
	// Since the last look somebody may have written to it, even for the last time.
	if g.content != nil {
		if at, err := l.stat(g); err == nil && !at.partial && at.size > g.offset {
			g.observe(at, now)
			l.signal()
			return false
		}
	}
	return true
}

func (l *Log) forget(g *generation) {
	l.learn(g) // it may have been moved on since it was rotated
	l.noteCopies(g)
	l.letGo(g)
	for i := range l.segments {
		if l.segments[i].gen == g {
			// Only an empty rest can be left. What comes next begins a new segment.
			l.segments = append(l.segments[:i], l.segments[i+1:]...)
			break
		}
	}
	if p := l.peeked; p != nil && p.gen == g {
		l.peeked = nil
	}
	if g.ino != 0 && nanos(g.mtime) > l.since.Mtime {
		l.since = Since{nanos(g.mtime), nanos(g.birth)}
	}
	l.keep(stateOf(g))
}

// keep remembers a file that is done with.
func (l *Log) keep(s GenerationState) {
	if s.Head.Length == 0 {
		return // nothing to recognise it by
	}
	l.finished = slices.DeleteFunc(l.finished, func(f GenerationState) bool {
		return f.ID == s.ID && f.Dev == s.Dev && f.Ino == s.Ino && f.Head == s.Head && f.Check == s.Check && f.Offset == s.Offset
	})
	l.finished = append(l.finished, s)
	if len(l.finished) > finishedMax {
		// The one that was written to longest ago: many can be done with at once, and what is looked for is newer than the live file was.
		oldest := 0
		for i, f := range l.finished {
			if f.Mtime < l.finished[oldest].Mtime {
				oldest = i
			}
		}
		l.finished = slices.Delete(l.finished, oldest, oldest+1)
	}
}
