package tail

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"
)

// changed settles a generation whose file seems shorter than it was, or holds
// other bytes than were read from it. Afterwards it is read on from its copy, or
// it is given up with a loss, or it was a false alarm.
//
// A network file system's cached attributes can show a file as shorter than it
// is. So the file is opened once more, which makes the client ask the server,
// and only what that says is believed.
func (l *Log) changed(g *generation) error {
	now := l.cfg.Now()
	if _, ok := g.content.(*packed); ok {
		l.vanished(g, "compressed file was rewritten")
		return nil
	}
	fresh, at, err := l.freshly(g)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrNotAllowed) || errors.Is(err, ErrNotPermitted) || errors.Is(err, ErrNotRegular) {
		// Rotated away in this moment: the descriptor still has it.
		fd, rerr := reopen(g.content.descriptor())
		if rerr != nil {
			return &fs.PathError{Op: "reopen", Path: g.path, Err: rerr}
		}
		fresh = &file{fd: fd, real: g.path}
		at, err = fresh.stat()
	}
	if err != nil {
		if fresh != nil {
			_ = fresh.close()
		}
		return fmt.Errorf("confirm truncation: %w", err)
	}
	if err = g.shorten(fresh, at.size); err != nil {
		_ = fresh.close()
		return fmt.Errorf("confirm truncation: %w", err)
	}
	same, err := contentMatches(fresh, g.head, g.before, g.want, g.offset)
	if err != nil {
		_ = fresh.close()
		return fmt.Errorf("confirm truncation: %w", err)
	}
	if same && fresh.room != nil {
		if at, err = fresh.stat(); err != nil {
			_ = fresh.close()
			return fmt.Errorf("confirm truncation: %w", err)
		}
	}
	if same && at.size < g.size && g.live {
		var copied bool
		if copied, err = l.copied(g); err != nil {
			_ = fresh.close()
			return fmt.Errorf("confirm truncation: %w", err)
		}
		same = !copied
	}
	if same && (at.size >= g.size || g.offset > 0 || g.head.length > 0) {
		// The same file. What it lost at its end was never handed out.
		lost := g.size - at.size
		_ = g.content.close()
		g.content = fresh
		g.deleted = at.links == 0
		if lost > 0 {
			g.size = at.size
			g.loss = bytesLoss("truncated", lost, false, g.path)
			return nil
		}
		g.size = at.size
		l.shrinks++
		l.cfg.Logger.Warn("file seemed shorter than it is, probably a cached size", "file", g.path, "size", at.size)
		return nil
	}
	return l.truncated(g, fresh, at, now)
}

// copied says that there is a copy with all that was seen of g: its file was truncated to nothing and begins again as it did.
func (l *Log) copied(g *generation) (bool, error) {
	c, err := l.findCopy(g)
	if c == nil || err != nil {
		return false, err
	}
	defer c.close()
	n, err := c.length()
	return err == nil && n >= g.size, nil
}

// shorten cuts the fingerprint to size if the file was cut within it and is
// otherwise the same: what was read of it still stands.
func (g *generation) shorten(f *file, size int64) error {
	if g.offset == 0 || size < g.offset || size >= int64(g.head.length) || size > int64(len(g.start)) {
		return nil
	}
	left := make([]byte, size)
	n, err := readAt(f, left, 0)
	if err != nil && err != io.EOF {
		return err
	}
	if int64(n) == size && bytes.Equal(left, g.start[:size]) {
		g.start = left
		g.head = sumOf(left)
	}
	return nil
}

// freshly opens the generation's file once more: by the path where the path
// leads to it, else by its descriptor.
func (l *Log) freshly(g *generation) (*file, info, error) {
	if g.live {
		f, at, err := openFile(l.cfg.Path, l.cfg.Allowed)
		if err != nil {
			return nil, info{}, err
		}
		if at.same(g.dev, g.ino) {
			return f, at, nil
		}
		_ = f.close()
	}
	fd, err := reopen(g.content.descriptor())
	if err != nil {
		return nil, info{}, &fs.PathError{Op: "reopen", Path: g.path, Err: err}
	}
	f := &file{fd: fd, real: g.path}
	at, err := f.stat()
	if err != nil {
		_ = f.close()
		return nil, info{}, err
	}
	return f, at, nil
}

// truncated makes the next generation out of a truncated file, and reads the
// old one on from its copy. Without a copy what wasn't read of it is lost.
func (l *Log) truncated(g *generation, fresh *file, at info, now time.Time) error {
	twin, err := l.findCopy(g)
	if err != nil {
		_ = fresh.close()
		return fmt.Errorf("look for the copy of %s: %w", g.path, err)
	}
	var next *generation
	var unseen []*generation
	if g.live {
		if next, err = l.adopt(fresh, fresh.real, at, 0); err == nil {
			var until time.Time // what came after a file that was already rotated away comes later
			if now, err := statPath(l.cfg.Path); err != nil || !now.same(next.dev, next.ino) {
				until = next.mtime
			}
			unseen, err = l.between(g, next, until, twin)
		}
	}
	if err != nil || next == nil {
		_ = fresh.close()
	}
	if err != nil {
		if twin != nil {
			twin.close()
		}
		return err
	}

	l.letGo(g)
	g.live, g.deleted, g.noticed = false, false, now
	if twin != nil {
		g.content, g.path, g.settled, g.drained = twin.content, twin.path, true, false
		g.dev, g.ino, g.born = twin.at.dev, twin.at.ino, twin.born()
		g.stamp = twin.at.mtime
		g.size = max(g.offset, g.size, twin.at.size) // what was seen and isn't in the copy shows at its end
		l.cfg.Logger.Info("file was truncated, its rest is read from the copy", "file", l.cfg.Path, "copy", twin.path, "offset", g.offset)
	} else {
		g.gone, g.cause, g.drained = true, "truncated", true
		if unread := g.size - g.offset; unread > 0 {
			g.loss = bytesLoss(g.cause, unread, false, g.path)
		}
		l.cfg.Logger.Info("file was truncated and there is no copy", "file", g.path, "offset", g.offset, "unread_bytes", g.size-g.offset)
	}
	l.gens = append(l.gens, unseen...)
	if next != nil {
		next.live = true
		l.gens = append(l.gens, next)
	}
	return nil
}

// damaged gives a compressed generation up if it can't be unpacked further, and
// returns false as long as it may still be in the making.
func (l *Log) damaged(g *generation, p *packed, err error) bool {
	var sys *fs.PathError
	if errors.As(err, &sys) {
		return false // the disk's fault, not the content's
	}
	at, serr := p.file.stat()
	if serr != nil || l.cfg.Now().Sub(at.changed) < time.Minute {
		return false
	}
	l.cfg.Logger.Warn("compressed file is damaged", "file", g.path, "offset", g.offset, "error", err)
	l.vanished(g, "compressed file is damaged")
	return true
}
