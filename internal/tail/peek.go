package tail

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math"

	"golang.org/x/sys/unix"
)

// positionMax keeps sums of positions and lengths far from overflowing.
const positionMax = 1 << 62

// errChanged: a generation's file is no longer what was read from it.
var errChanged = errors.New("file was truncated or rewritten")

// Peek returns what comes next without consuming it: at most len(buf) bytes
// of one segment, or a loss, or nothing. Data lies in buf, which must stay
// unchanged until [Log.Advance]. An error is temporary and comes only when there is
// nothing else to return: the path can't be followed now; later calls try again.
func (l *Log) Peek(buf []byte) (Piece, error) {
	if err := l.usable("peek"); err != nil {
		return Piece{}, err
	}
	l.peeked = nil
	if l.poked.Load() {
		l.look()
	}
	p, err := l.peek(buf)
	p.Unsure = l.unsure() && l.isBehind(&p)
	l.lastErr = err
	return p, err
}

func (l *Log) peek(buf []byte) (Piece, error) {
	for l.next < l.head {
		p, err := l.replay(l.next, buf)
		if errors.Is(err, ErrGone) {
			// These positions were handed out and mean bytes that can't be had again:
			// the same positions become a loss.
			i := l.at(l.next)
			why := "can't be read again"
			if g := l.segments[i].gen; g.cause != "" {
				why = g.cause
			}
			l.lay(l.next, l.segments[i].end(), why)
			continue
		}
		if err != nil {
			return Piece{Position: l.next}, fmt.Errorf("read %s at position %d: %w", l.cfg.Name, l.next, err)
		}
		return p, nil
	}
	looked := false
	// Each round settles something: a generation is finished, found changed, or
	// read. The bound is only against a file system that answers differently each time.
	for range 16 + 4*len(l.gens) {
		g := l.choose()
		if g == nil {
			if looked {
				return Piece{Position: l.head}, l.trouble()
			}
			looked = true
			l.look()
			continue
		}
		if g.loss != nil {
			s := segment{position: l.head, length: g.loss.Length, loss: g.loss}
			l.peeked = &peeked{segment: s}
			loss := *g.loss
			return Piece{Position: l.head, Loss: &loss, NewSegment: true, Generation: g.id, Offset: g.offset}, nil
		}
		n, err := l.readNew(g, buf)
		switch {
		case err == errChanged:
			if err := l.changed(g); err != nil {
				return Piece{Position: l.head}, fmt.Errorf("read %s at %d: %w", g.path, g.offset, err)
			}
			continue
		case errors.Is(err, unix.ESTALE):
			l.vanished(g, "file handle is stale")
			continue
		case err != nil:
			if p, ok := g.content.(*packed); ok && l.damaged(g, p, err) {
				continue
			}
			return Piece{Position: l.head}, fmt.Errorf("read %s at %d: %w", g.path, g.offset, err)
		case n == 0:
			if len(buf) == 0 {
				return Piece{Position: l.head, More: true}, nil
			}
			continue // the end after all: size is known better now
		}
		l.name(g)
		s := segment{position: l.head, gen: g, offset: g.offset}
		l.peeked = &peeked{segment: s, data: buf[:n]}
		return Piece{
			Position: l.head, Data: buf[:n], Generation: g.id, Offset: g.offset,
			NewSegment: !l.follows(g), More: g.offset+int64(n) < g.size,
		}, nil
	}
	return Piece{Position: l.head}, l.trouble()
}

// trouble is why nothing comes, nil if the log is simply at its end.
func (l *Log) trouble() error {
	err := l.pathErr
	if err == nil {
		return nil
	}
	if l.live() == nil && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)) {
		err = noFile{err}
	}
	return fmt.Errorf("follow %s: %w", l.cfg.Name, err)
}

// noFile is an error that is [ErrNoFile], too.
type noFile struct{ error }

func (e noFile) Is(target error) bool { return target == ErrNoFile }
func (e noFile) Unwrap() error        { return e.error }

// choose returns the generation to read from, nil if there is nothing or
// something must be waited for.
func (l *Log) choose() *generation {
	if l.missing {
		return nil
	}
	if g := l.sticky(); g != nil && (g.loss != nil || g.unread()) {
		return g
	}
	now := l.cfg.Now()
	for _, g := range l.gens {
		if g.doubtful && g.unread() {
			if err := l.skipCopy(g); errors.Is(err, unix.ESTALE) {
				l.vanished(g, "file handle is stale")
			} else if err != nil {
				l.pathErr = err
				return nil
			}
		}
		if g.loss != nil || g.unread() {
			return g
		}
		if g.live {
			return nil
		}
		if g.drained || g.gone {
			continue
		}
		ok, wait := g.quiet(now, l.cfg.Quiet)
		if !ok && (!g.deleted || g.written()) {
			// What is still written to it would come before the next one's bytes.
			l.signalAfter(wait)
			return nil
		}
		if g.copied && g.seen > g.offset {
			g.loss = bytesLoss(cmp.Or(g.cause, "truncated"), g.seen-g.offset, false, g.path)
			return g
		}
		g.drained, g.drainedAt = true, now
	}
	return nil
}

// readNew reads behind what was handed out of g, and sees in the same moment
// whether the file is still the one that was read.
func (l *Log) readNew(g *generation, buf []byte) (int, error) {
	// What was seen of the file is taken over only after the check: see note.
	k := min(checkRead, len(g.before))
	n, err := g.content.read(l.check[:k], buf, g.offset)
	if err == errShort {
		return 0, errChanged
	}
	if err != nil {
		return 0, err
	}
	if !bytes.Equal(l.check[:k], g.before[len(g.before)-k:]) {
		return 0, errChanged
	}
	if (g.offset < checkRead || g.offset < int64(g.head.length)) && n > 0 {
		// What stands in front may be the same in another file, where it is little or how each file begins: all that is known of the file's
		// beginning takes the check's place.
		same, err := g.fingerprint()
		if same && err == nil && !g.settled {
			same, err = contentMatches(g.content, g.head, g.before, sum{}, g.offset)
		}
		if err != nil {
			return 0, err
		}
		known := g.start[min(g.offset, int64(len(g.start))):]
		k := min(n, len(known))
		if !same || !bytes.Equal(buf[:k], known[:k]) {
			return 0, errChanged
		}
	}
	at, err := l.stat(g)
	if err != nil {
		return 0, err
	}
	if at.size > max(g.size, g.offset+int64(n)) && !at.partial {
		// It may have been truncated after the read and filled beyond: that size wouldn't be the one of what was read.
		if same, err := l.intact(g); err != nil || !same {
			return 0, cmp.Or(err, errChanged)
		}
	}
	// Truncated after the read, or since the last look: a shorter file than known.
	if !g.observe(at, l.cfg.Now()) || !at.partial && at.size < g.offset+int64(n) {
		return 0, errChanged
	}
	return n, nil
}

func (l *Log) stat(g *generation) (info, error) {
	at, err := g.content.stat()
	if err == nil && l.statAt != nil {
		at = l.statAt(g, at)
	}
	return at, err
}

// replay reads what was handed out before, within its segment.
func (l *Log) replay(position uint64, buf []byte) (Piece, error) {
	i := l.at(position)
	if i == len(l.segments) {
		return Piece{}, fmt.Errorf("no segment at position %d: %w", position, ErrGone)
	}
	s := l.segments[i]
	into := position - s.position
	rest := s.length - into
	first := into == 0
	if s.loss != nil {
		_, loss := split(s.loss, into, rest)
		l.peeked = &peeked{segment: segment{position: position, length: rest, loss: loss}, replay: true}
		copied := *loss
		return Piece{Position: position, Loss: &copied, NewSegment: true}, nil
	}
	g, off := s.gen, s.offset+int64(into)
	if g.gone || g.content == nil {
		if l.missing {
			return Piece{}, l.searching()
		}
		return Piece{}, goneError(g)
	}
	want := buf[:min(uint64(len(buf)), rest)]
	if g.short > 0 {
		if off >= g.short {
			return Piece{}, goneError(g)
		}
		want = want[:min(int64(len(want)), g.short-off)]
	}
	n, err := readAt(g.content, want, off)
	if n < len(want) {
		if err = l.reread(g, err); err != nil {
			return Piece{}, err
		}
		// A false alarm: the file was opened again and is whole.
		if n, err = readAt(g.content, want, off); n < len(want) {
			return Piece{}, fmt.Errorf("%d of %d bytes at %d of %s (%v): %w", n, len(want), off, g.path, err, ErrGone)
		}
	}
	// The check after the read: what was read before a change is still good.
	same, err := l.intact(g)
	if err != nil {
		return Piece{}, err
	}
	if !same {
		if err := l.reread(g, nil); err != nil {
			return Piece{}, err
		}
		if n, err = readAt(g.content, want, off); n < len(want) {
			return Piece{}, fmt.Errorf("%d of %d bytes at %d of %s (%v): %w", n, len(want), off, g.path, err, ErrGone)
		}
	}
	l.peeked = &peeked{segment: segment{position: position, gen: g, offset: off}, data: want, replay: true}
	return Piece{
		Position: position, Data: want, Generation: g.id, Offset: off, NewSegment: first,
		More: uint64(len(want)) < rest || i == len(l.segments)-1 && g.unread(),
	}, nil
}

// reread settles what happened to a generation that couldn't be read again. It
// returns nil if reading is worth another try: from the file, or from its copy.
func (l *Log) reread(g *generation, err error) error {
	if errors.Is(err, unix.ESTALE) {
		l.vanished(g, "file handle is stale")
	} else if err := l.changed(g); err != nil {
		return err
	}
	if g.gone || g.content == nil {
		return goneError(g)
	}
	return nil
}

func goneError(g *generation) error {
	return fmt.Errorf("%s (%s): %w", g.path, g.id, ErrGone)
}

// intact says that g still ends its handed-out part as it did.
func (l *Log) intact(g *generation) (bool, error) {
	if g.short > 0 {
		return true, nil
	}
	at, err := l.stat(g)
	if err != nil {
		return false, err
	}
	if !at.partial && at.size < g.offset {
		return false, nil
	}
	k := min(checkRead, len(g.before))
	if g.settled {
		return true, nil
	}
	if k == 0 {
		return contentMatches(g.content, g.head, nil, sum{}, 0)
	}
	if k < checkRead || g.offset < int64(g.head.length) {
		// These bytes may be the same in another file: all that is known of its beginning is compared.
		return contentMatches(g.content, g.head, g.before, sum{}, g.offset)
	}
	n, err := g.content.read(nil, l.check[:k], g.offset-int64(k))
	if err != nil {
		return false, err
	}
	return n == k && bytes.Equal(l.check[:k], g.before[len(g.before)-k:]), nil
}

func (l *Log) usable(op string) error {
	if !l.opened || l.closed {
		return fmt.Errorf("%s %s: log is not open", op, l.cfg.Name)
	}
	return nil
}

// bytesLoss is a loss of n bytes; of an unknown number for -1.
func bytesLoss(cause string, n int64, exact bool, path string) *Loss {
	length := uint64(1)
	if n > 0 {
		length = uint64(min(n, math.MaxInt64/4))
	}
	return &Loss{Cause: cause, Length: length, Bytes: n, Exact: exact, File: path}
}
