package tail

import "fmt"

// Advance consumes n positions of what the last Peek returned: up to as many as
// there were bytes, or all of a loss.
func (l *Log) Advance(n uint64) error {
	if err := l.usable("advance"); err != nil {
		return err
	}
	p := l.peeked
	if p == nil {
		return fmt.Errorf("advance %s by %d: nothing was peeked", l.cfg.Name, n)
	}
	if p.loss != nil && n != p.length || p.loss == nil && n > uint64(len(p.data)) {
		return fmt.Errorf("advance %s by %d: peeked %d", l.cfg.Name, n, max(p.length, uint64(len(p.data))))
	}
	l.peeked = nil
	if n == 0 {
		return nil
	}
	if l.head > positionMax-n && !p.replay {
		return fmt.Errorf("advance %s by %d at position %d: numbers are used up", l.cfg.Name, n, l.head)
	}
	l.next += n
	if p.replay {
		return nil
	}
	if l.earlier != nil && (p.loss != nil || p.gen != l.ending()) {
		l.earlier = nil
	}
	l.head += n
	if p.loss != nil {
		copied := *p.loss
		l.record(segment{position: p.position, length: n, loss: &copied})
		for _, g := range l.gens {
			if g.loss == p.loss {
				g.loss, g.seen = nil, 0
			}
		}
		l.tidy()
		return nil
	}
	g := p.gen
	g.remember(p.data[:n])
	g.offset += int64(n)
	if g.gone && g.loss != nil && g.loss.Bytes > 0 {
		// It was given up between Peek and Advance: these bytes came out after all.
		if left := g.loss.Bytes - int64(n); left > 0 {
			g.loss = bytesLoss(g.loss.Cause, left, g.loss.Exact, g.loss.File)
		} else {
			g.loss = nil
		}
	}
	l.record(segment{position: p.position, length: n, gen: g, offset: p.offset})
	if g.head.length < headMax {
		// A failure shows at the next read.
		_, _ = g.fingerprint()
	}
	return nil
}

// AdvanceTo continues the numbering at position, directly after a loss was
// consumed: the loss takes the positions up to there too. It is for a start after
// a crash, when more may have been sent than the state says.
func (l *Log) AdvanceTo(position uint64) error {
	if err := l.usable("advance"); err != nil {
		return err
	}
	n := len(l.segments)
	if n == 0 || l.segments[n-1].loss == nil || l.next != l.head || position < l.head || position > positionMax {
		return fmt.Errorf("advance %s from %d to position %d: only forward and after a loss", l.cfg.Name, l.next, position)
	}
	last := &l.segments[n-1]
	last.length += position - l.head
	last.loss.Length = last.length
	l.next, l.head = position, position
	l.peeked = nil
	return nil
}

// Reread returns bytes that were handed out and not yet released, up to the
// end of their segment; a loss is returned as such. It wraps [ErrGone] where they
// can't be read again. What was peeked stays as it was.
func (l *Log) Reread(position uint64, buf []byte) (Piece, error) {
	if err := l.usable("reread"); err != nil {
		return Piece{}, err
	}
	if position < l.released || position >= l.head {
		return Piece{}, l.rangeError("reread", position)
	}
	was := l.peeked
	p, err := l.replay(position, buf)
	l.peeked = was
	if err != nil {
		return Piece{}, fmt.Errorf("reread %s at position %d: %w", l.cfg.Name, position, err)
	}
	return p, nil
}

// Lose turns handed-out positions from..to into a loss: the caller found that
// their bytes can't be read again unchanged. If Peek stood within them it begins
// at from now. The range is cut to what is handed out and not released; where
// nothing of it is, the returned Loss is zero.
func (l *Log) Lose(from, to uint64, cause string) Loss {
	from, to = max(from, l.released), min(to, l.head)
	if from >= to {
		return Loss{}
	}
	loss := l.lay(from, to, cause)
	if l.next > from && l.next < to {
		l.next = from
	}
	l.peeked = nil
	l.tidy()
	return loss
}

// Seek lets the next Peek begin at position: anywhere in what was handed out
// and not released. The same segments come as before, then new bytes.
func (l *Log) Seek(position uint64) error {
	if position < l.released || position > l.head {
		return l.rangeError("seek", position)
	}
	l.next, l.peeked = position, nil
	return nil
}

// Release forgets everything below position: it is confirmed. Generations
// that are finished by that are closed.
func (l *Log) Release(position uint64) error {
	if position > l.head {
		return l.rangeError("release", position)
	}
	if position <= l.released {
		return nil
	}
	l.released = position
	if l.next < position {
		l.next, l.peeked = position, nil
	}
	l.trim()
	l.tidy()
	return nil
}

// trim drops the segments below released. Of the last one an empty rest stays:
// it says which generation's bytes continue it.
func (l *Log) trim() {
	i := 0
	for i < len(l.segments)-1 && l.segments[i].end() <= l.released {
		i++
	}
	if i > 0 {
		l.segments = append(l.segments[:0], l.segments[i:]...)
	}
	if len(l.segments) == 0 {
		return
	}
	s := &l.segments[0]
	if s.position >= l.released {
		return
	}
	gone := min(l.released-s.position, s.length)
	if s.loss != nil {
		if gone == s.length {
			l.segments = l.segments[:0]
			return
		}
		_, s.loss = split(s.loss, gone, s.length-gone)
	} else {
		s.offset += int64(gone)
	}
	s.position += gone
	s.length -= gone
}

// Rebase starts a new epoch: what was position is 0 now. What lies below is
// forgotten, everything from there on is numbered anew.
func (l *Log) Rebase(position uint64) error {
	if position < l.released || position > l.head {
		return l.rangeError("rebase", position)
	}
	l.released = position
	l.next = max(l.next, position)
	l.trim()
	for i := range l.segments {
		l.segments[i].position -= position
	}
	l.released, l.next, l.head = 0, l.next-position, l.head-position
	l.earlier = nil
	l.peeked = nil
	l.tidy()
	return nil
}
