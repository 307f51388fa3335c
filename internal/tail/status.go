package tail

// Status is a log as people want to see it.
type Status struct {
	Path        string             `json:"path"`
	Released    uint64             `json:"released"` // position
	Position    uint64             `json:"position"` // where Peek begins
	Pending     int64              `json:"pending"`  // bytes
	Generations []GenerationStatus `json:"generations"`
	Error       string             `json:"error,omitempty"` // why the path can't be followed now
	Doubtful    uint64             `json:"doubtful"`        // times a file seemed truncated and wasn't
}

// GenerationStatus is one file of a log.
type GenerationStatus struct {
	ID     string `json:"id,omitempty"`
	Path   string `json:"path"`
	Offset int64  `json:"offset"`
	Size   int64  `json:"size"`
	State  string `json:"state"` // live, old, quiet, deleted, compressed, copy, gone, missing
}

// Pending returns how many bytes there are beyond the current point, as far as is known
// without unpacking compressed files. Who was told of bytes hears of their loss, should
// they be truncated away before the next look.
func (l *Log) Pending() int64 {
	now := l.cfg.Now()
	for _, g := range l.gens {
		if g.content == nil {
			continue
		}
		// Only growth: what else there is to notice waits for the next look. The wake
		// signal isn't taken, for the caller may sleep after this.
		at, err := l.stat(g)
		if err != nil || at.partial || at.size <= g.size {
			continue
		}
		if g.live && l.insert(g, at) != nil {
			continue
		}
		l.note(g, at, now)
	}
	var sum int64
	for i := range l.segments {
		if s := &l.segments[i]; s.loss == nil && s.end() > l.next {
			sum += int64(s.end() - max(s.position, l.next))
		}
	}
	for _, g := range l.gens {
		if !g.gone {
			sum += max(0, g.size-g.offset)
		}
	}
	return sum
}

// Size returns the bytes of the live file, 0 if there is none.
func (l *Log) Size() int64 {
	if g := l.live(); g != nil {
		if at, err := l.stat(g); err == nil {
			return at.size
		}
		return g.size
	}
	return 0
}

// Position returns where Peek begins.
func (l *Log) Position() uint64 { return l.next }

// Head returns the position up to which bytes and losses were handed out.
func (l *Log) Head() uint64 { return l.head }

// Released returns the position below which everything is forgotten.
func (l *Log) Released() uint64 { return l.released }

// Status describes the log.
func (l *Log) Status() Status {
	s := Status{Path: l.cfg.Path, Released: l.released, Position: l.next, Pending: l.Pending(), Doubtful: l.shrinks}
	if l.pathErr != nil {
		s.Error = l.pathErr.Error()
	} else if l.lastErr != nil {
		s.Error = l.lastErr.Error()
	}
	for _, g := range l.gens {
		s.Generations = append(s.Generations, GenerationStatus{
			ID: g.id, Path: g.path, Offset: g.offset, Size: g.size, State: g.word(),
		})
	}
	return s
}

func (g *generation) word() string {
	_, isPacked := g.content.(*packed)
	switch {
	case g.gone:
		return "gone"
	case g.content == nil:
		return "missing"
	case g.live:
		return "live"
	case isPacked:
		return "compressed"
	case g.deleted:
		return "deleted"
	case g.settled:
		return "copy"
	case g.drained:
		return "quiet"
	}
	return "old"
}
