package tail

import (
	"errors"
	"fmt"
	"io"
	"slices"
)

// Source is a generation and how far it was read, as it goes over the wire.
type Source struct {
	ID     string `json:"id"`
	Offset int64  `json:"offset"` // of the first byte that wasn't handed out
}

// Sources lists the generations that more may be read from: those that aren't
// finished and had at least one byte.
func (l *Log) Sources() []Source {
	var list []Source
	for _, g := range l.gens {
		if g.id != "" && !g.gone {
			list = append(list, Source{g.id, g.offset})
		}
	}
	return list
}

// ReadSource fills p with a generation's bytes from an offset on, wherever reading stands. The error wraps [ErrGone] where it isn't one of [Log.Sources], or ends before.
func (l *Log) ReadSource(id string, p []byte, off int64) error {
	if err := l.usable("read"); err != nil {
		return err
	}
	i := slices.IndexFunc(l.gens, func(g *generation) bool { return g.id == id })
	if i < 0 || l.gens[i].gone || l.gens[i].content == nil {
		return fmt.Errorf("read generation %s: %w", id, ErrGone)
	}
	n, err := readAt(l.gens[i].content, p, off)
	if n == len(p) {
		return nil
	}
	if err == io.EOF {
		err = ErrGone
	}
	return fmt.Errorf("read generation %s, %d of %d bytes at %d: %w", id, n, len(p), off, err)
}

// Resume opens a log whose state was lost, from what the centre knows: its last
// byte came from last, its next one is at position. others are the generations that were
// open besides, the one that was read last at the end. The file of last is looked for by its id under the live path, under rotated
// names and in compressed files; each that may be it is given to verify, which reads what
// stands in front of the offset and compares it. A nil verify accepts.
//
// If no file is found or verify accepts none, the error wraps [ErrGone], and
// the log is as before: Begin may follow. Any other error is temporary, and Resume may be repeated.
func (l *Log) Resume(position uint64, last Source, others []Source, verify func(readAt func(p []byte, off int64) (int, error)) bool) error {
	if err := l.prepare(); err != nil {
		return err
	}
	g, err := generationOfSource(last)
	if err != nil || position > positionMax {
		return fmt.Errorf("resume %s at position %d: %w: %w", l.cfg.Name, position, errors.Join(err, errRange(position)), ErrGone)
	}
	g.verify = verify
	now := l.cfg.Now()
	l.gens = []*generation{g}
	err = l.find(now)
	if err == nil && g.content == nil {
		err = ErrGone
	}
	if err != nil {
		l.gens = nil
		return fmt.Errorf("resume %s in generation %s at offset %d: %w", l.cfg.Name, last.ID, last.Offset, err)
	}
	g.verify = nil
	_, _, _, l.serial, _ = parseID(last.ID)
	// A file may be among them under several ids: it gets one each time that the state is lost. The last says how far it was read.
	for _, s := range slices.Backward(others) {
		o, err := generationOfSource(s)
		if err != nil || slices.ContainsFunc(l.gens, func(g *generation) bool { return g.id == o.id }) {
			continue
		}
		_, _, _, serial, _ := parseID(s.ID)
		l.serial = max(l.serial, serial)
		l.gens = append(l.gens, o)
	}
	if err := l.find(now); err != nil {
		l.cfg.Logger.Warn("files that were read before are not found", "error", err)
	}
	l.gens = slices.DeleteFunc(l.gens, func(g *generation) bool {
		if g.content == nil && !slices.ContainsFunc(l.gens, func(o *generation) bool { return o.content != nil && o.dev == g.dev && o.ino == g.ino }) {
			l.cfg.Logger.Warn("file that was read before is not found", "generation", g.id, "offset", g.offset)
		}
		return g.content == nil
	})
	slices.SortStableFunc(l.gens, func(a, b *generation) int {
		switch {
		case a.live != b.live && a.live:
			return 1
		case a.live != b.live:
			return -1
		}
		return a.mtime.Compare(b.mtime)
	})
	l.serial = min(l.serial, positionMax)
	l.released, l.next, l.head = position, position, position
	// What comes next continues g until its end.
	l.segments = []segment{{position: position, gen: g, offset: g.offset}}
	l.begun = true
	l.start()
	return nil
}

func errRange(position uint64) error {
	if position > positionMax {
		return fmt.Errorf("position is out of range")
	}
	return nil
}

func generationOfSource(s Source) (*generation, error) {
	dev, ino, head, _, err := parseID(s.ID)
	if err != nil {
		return nil, err
	}
	if s.Offset < 0 || s.Offset > positionMax {
		return nil, fmt.Errorf("generation %s: offset %d is out of range", s.ID, s.Offset)
	}
	return &generation{id: s.ID, dev: dev, ino: ino, head: head, offset: s.Offset}, nil
}
