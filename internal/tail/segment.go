package tail

import "fmt"

// segment is a run of positions: consecutive offsets of one generation, or a
// loss.
type segment struct {
	position uint64
	length   uint64
	gen      *generation // nil for a loss
	offset   int64       // of position in gen
	loss     *Loss
}

func (s *segment) end() uint64 { return s.position + s.length }

// at returns the index of the segment that holds position, or len(segments).
func (l *Log) at(position uint64) int {
	for i := len(l.segments) - 1; i >= 0; i-- {
		s := &l.segments[i]
		if position >= s.position {
			if position < s.end() {
				return i
			}
			break
		}
	}
	return len(l.segments)
}

// cut makes position a segment's border.
func (l *Log) cut(position uint64) {
	i := l.at(position)
	if i == len(l.segments) || l.segments[i].position == position {
		return
	}
	head := l.segments[i]
	rest := head
	head.length = position - head.position
	rest.position += head.length
	rest.length -= head.length
	if rest.loss != nil {
		head.loss, rest.loss = split(head.loss, head.length, rest.length)
	} else {
		rest.offset += int64(head.length)
	}
	l.segments = append(l.segments[:i], append([]segment{head, rest}, l.segments[i+1:]...)...)
}

// split shares a loss between two neighbouring ranges. Where the bytes aren't
// known one by one, both halves speak of the whole.
func split(loss *Loss, head, rest uint64) (*Loss, *Loss) {
	a, b := *loss, *loss
	a.Length, b.Length = head, rest
	if loss.Bytes >= 0 && uint64(loss.Bytes) == loss.Length {
		a.Bytes, b.Bytes = int64(head), int64(rest)
	}
	return &a, &b
}

// lay turns [from,to) of the recorded segments into one loss. What was lost
// there already stays lost; the bytes are counted only where they were read.
func (l *Log) lay(from, to uint64, cause string) Loss {
	l.cut(from)
	l.cut(to)
	first := l.at(from)
	last := first
	loss := Loss{Cause: cause, Length: to - from, Bytes: int64(to - from), Exact: true}
	for last < len(l.segments) && l.segments[last].position < to {
		s := &l.segments[last]
		switch {
		case s.gen != nil:
			loss.File = s.gen.path
		case s.loss.Bytes < 0 || uint64(s.loss.Bytes) != s.length || !s.loss.Exact:
			loss.Exact = false
		}
		last++
	}
	merged := segment{position: from, length: to - from, loss: &loss}
	l.segments = append(l.segments[:first], append([]segment{merged}, l.segments[last:]...)...)
	return loss
}

// record appends what was handed out for the first time.
func (l *Log) record(s segment) {
	if n := len(l.segments); n > 0 && s.gen != nil {
		last := &l.segments[n-1]
		if last.gen == s.gen && last.end() == s.position && last.offset+int64(last.length) == s.offset {
			last.length += s.length
			return
		}
	}
	l.segments = append(l.segments, s)
}

// follows says that bytes of g would continue the last segment.
func (l *Log) follows(g *generation) bool {
	n := len(l.segments)
	if n == 0 {
		return false
	}
	last := &l.segments[n-1]
	return last.gen == g && last.offset+int64(last.length) == g.offset
}

// sticky returns the generation that the last bytes came from, nil after a loss.
// It is read to its end before any other: after a crash the last segment may
// in truth have been longer than the state says, so what comes next must be
// its bytes and no others.
func (l *Log) sticky() *generation {
	if n := len(l.segments); n > 0 {
		return l.segments[n-1].gen
	}
	return nil
}

// needed returns the lowest offset of g that isn't released, and whether any
// segment with positions still refers to g.
func (l *Log) needed(g *generation) (int64, bool) {
	for i := range l.segments {
		if s := &l.segments[i]; s.gen == g && s.length > 0 {
			return s.offset, true
		}
	}
	return g.offset, false
}

func (l *Log) rangeError(op string, position uint64) error {
	return fmt.Errorf("%s %s to position %d: only %d to %d are known", op, l.cfg.Name, position, l.released, l.head)
}
