package tail

import (
	"fmt"
	"path/filepath"
	"slices"
	"time"
)

const (
	stateVersion  = 1
	segmentsMax   = 1 << 20
	stateGensMax  = 1 << 14
	statePathMax  = 4096
	stateCauseMax = 1024
	olderMax      = 16
)

// State is what a restart needs to continue: small, and stable as JSON. It is
// saved before the first bytes of a new segment are sent, and else at most once
// a second. The zero State means that the log was never seen.
type State struct {
	Version     int               `json:"version"`
	Released    uint64            `json:"released"`
	Segments    []SegmentState    `json:"segments,omitempty"`    // from Released on; the last is open-ended
	Generations []GenerationState `json:"generations,omitempty"` // unfinished, in reading order
	Finished    []GenerationState `json:"finished,omitempty"`
	Older       []OlderFile       `json:"older,omitempty"`
	Since       Since             `json:"since,omitzero"`
	Made        Made              `json:"made,omitzero"`  // what it was saved beside
	Dirs        []string          `json:"dirs,omitempty"` // others that files were seen to be rotated into
	Shifts      Shifts            `json:"shifts,omitzero"`
	Serial      uint64            `json:"serial,omitempty"`
	Begun       bool              `json:"begun,omitempty"` // the start rule was applied
}

// SegmentState is a run of positions. Of the last one Length is a lower bound,
// as more of it may have been handed out since.
type SegmentState struct {
	Position   uint64 `json:"position"`
	Length     uint64 `json:"length"`
	Generation string `json:"generation,omitempty"`
	Offset     int64  `json:"offset,omitempty"`
	Loss       *Loss  `json:"loss,omitempty"`
}

// GenerationState is one file. Times are nanoseconds since 1970, 0 for none.
type GenerationState struct {
	ID     string `json:"id,omitempty"`
	Dev    uint64 `json:"dev"`
	Ino    uint64 `json:"ino"`
	Head   Sum    `json:"head"`  // of the first up to 1024 bytes
	Check  Sum    `json:"check"` // of the last up to 256 bytes in front of Offset
	Path   string `json:"path,omitempty"`
	Offset int64  `json:"offset"`
	Size   int64  `json:"size"`
	Mtime  int64  `json:"mtime,omitempty"`
	Birth  int64  `json:"birth,omitempty"` // of the log's life in it
	Born   int64  `json:"born,omitempty"`  // when the very file was made, which may be a copy
	Stamp  int64  `json:"stamp,omitempty"` // its time of change

	Drained int64  `json:"drained,omitempty"` // read to the end and quiet since
	Gone    string `json:"gone,omitempty"`    // why its bytes can't be had again
	Loss    *Loss  `json:"loss,omitempty"`    // not yet handed out
	Mark    Mark   `json:"mark,omitzero"`
	Copied  bool   `json:"copied,omitempty"` // the file that Dev and Ino name is a copy
}

// Since says when a file was last written and made, as in GenerationState.
// What is newer came after it.
type Since struct {
	Mtime int64 `json:"mtime"`
	Birth int64 `json:"birth,omitempty"`
}

// OlderFile is a file that isn't the log's: it was there before. Birth as in
// GenerationState.
type OlderFile struct {
	Dev   uint64 `json:"dev"`
	Ino   uint64 `json:"ino"`
	Birth int64  `json:"birth"`
}

// Sum is a CRC-32C and of how many bytes.
type Sum struct {
	Length int    `json:"length"`
	CRC    uint32 `json:"crc"`
}

func (s Sum) sum() sum { return sum{s.Length, s.CRC} }

func stateOf(g *generation) GenerationState {
	check := g.want
	if len(g.before) > 0 || g.offset == 0 {
		check = sumOf(g.before)
	}
	s := GenerationState{
		ID: g.id, Dev: g.dev, Ino: g.ino, Path: g.path, Offset: g.offset, Size: g.size,
		Head: Sum{g.head.length, g.head.crc}, Check: Sum{check.length, check.crc},
		Mtime: nanos(g.mtime), Birth: nanos(g.birth), Born: nanos(g.born), Stamp: nanos(g.stamp),
	}
	if m := g.mark; m.offset > 0 {
		s.Mark = Mark{m.offset, Sum{m.head.length, m.head.crc}, Sum{m.check.length, m.check.crc}}
	}
	s.Copied = g.copied
	if s.Size = max(s.Size, g.seen); g.drained {
		s.Drained = max(1, nanos(g.drainedAt))
	}
	if g.gone {
		s.Gone = g.cause
		if s.Gone == "" {
			s.Gone = "gone"
		}
	}
	if g.loss != nil {
		loss := *g.loss
		s.Loss = &loss
	}
	return s
}

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func instant(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}

// State returns what to save. What the last Peek showed is in it as if its
// first byte were handed out, so it may be saved before or after Advance.
func (l *Log) State() State {
	s := State{Version: stateVersion, Released: l.released, Serial: l.serial, Begun: l.begun}
	for i := range l.segments {
		s.Segments = append(s.Segments, segmentState(&l.segments[i]))
	}
	if p := l.peeked; p != nil && !p.replay && p.gen != nil && !l.follows(p.gen) {
		s.Segments = append(s.Segments, segmentState(&p.segment))
	}
	for _, g := range l.gens {
		if !g.doubtful { // it is found anew, if it is no copy
			s.Generations = append(s.Generations, stateOf(g))
		}
	}
	s.Finished = append(s.Finished, l.finished...)
	s.Since = l.since
	if !l.missing { // else what the files are searched by would be gone with the next start
		l.made = Made{}
		if g := l.live(); g != nil {
			l.made = l.madeBeside(g.path)
		}
	}
	s.Made = l.made
	s.Older = append(s.Older, l.older...)
	s.Dirs, s.Shifts = slices.Clone(l.dirs), l.shifts
	return s
}

func segmentState(s *segment) SegmentState {
	out := SegmentState{Position: s.position, Length: s.length}
	if s.loss != nil {
		loss := *s.loss
		out.Loss = &loss
		return out
	}
	out.Generation, out.Offset = s.gen.id, s.offset
	return out
}

// restore checks a state as something that may be damaged or made up, and takes it over.
func (l *Log) restore(s State) error {
	if s.Version == 0 {
		if s.Released != 0 || len(s.Segments)+len(s.Generations)+len(s.Finished) > 0 {
			return fmt.Errorf("state without a version isn't empty")
		}
		return nil
	}
	if s.Version != stateVersion {
		return fmt.Errorf("state has version %d, this program knows %d", s.Version, stateVersion)
	}
	if s.Released > positionMax || len(s.Segments) > segmentsMax || len(s.Generations) > stateGensMax || len(s.Finished) > stateGensMax {
		return fmt.Errorf("state is too large: released %d, %d segments, %d generations", s.Released, len(s.Segments), len(s.Generations))
	}
	byID := map[string]*generation{}
	var gens []*generation
	for i, gs := range s.Generations {
		g, err := generationOf(gs)
		if err != nil {
			return fmt.Errorf("state: generation %d: %w", i, err)
		}
		if g.id != "" {
			if byID[g.id] != nil {
				return fmt.Errorf("state: generation %q twice", g.id)
			}
			byID[g.id] = g
		}
		gens = append(gens, g)
	}
	for i, gs := range s.Finished {
		if _, err := generationOf(gs); err != nil {
			return fmt.Errorf("state: finished generation %d: %w", i, err)
		}
	}
	for _, dir := range s.Dirs {
		if len(s.Dirs) > dirsMax || len(dir) > statePathMax || !filepath.IsAbs(dir) || filepath.Clean(dir) != dir {
			return fmt.Errorf("state: %d directories, among them %.100q; at most %d, absolute and clean", len(s.Dirs), dir, dirsMax)
		}
	}
	if s.Shifts.First < 0 || s.Shifts.Seen < 0 {
		return fmt.Errorf("state: rotation's numbers begin with %d, seen %d times", s.Shifts.First, s.Shifts.Seen)
	}
	position := s.Released
	reached := map[*generation]int64{}
	var segments []segment
	for i, ss := range s.Segments {
		seg := segment{position: ss.Position, length: ss.Length, offset: ss.Offset}
		if ss.Position != position || ss.Length > positionMax || position+ss.Length > positionMax {
			return fmt.Errorf("state: segment %d: position %d, length %d; expected position %d", i, ss.Position, ss.Length, position)
		}
		position += ss.Length
		if ss.Loss != nil {
			if err := checkLoss(ss.Loss); err != nil || ss.Loss.Length != ss.Length || ss.Generation != "" {
				return fmt.Errorf("state: segment %d: loss of length %d in a segment of %d: %w", i, ss.Loss.Length, ss.Length, err)
			}
			loss := *ss.Loss
			seg.loss = &loss
		} else {
			g := byID[ss.Generation]
			if g == nil {
				return fmt.Errorf("state: segment %d: generation %q is not in the state", i, ss.Generation)
			}
			if ss.Offset < reached[g] || ss.Length > uint64(g.offset) || ss.Offset > g.offset-int64(ss.Length) {
				return fmt.Errorf("state: segment %d: offset %d, length %d; generation was read from %d to %d", i, ss.Offset, ss.Length, reached[g], g.offset)
			}
			reached[g] = ss.Offset + int64(ss.Length)
			seg.gen = g
		}
		segments = append(segments, seg)
	}
	l.gens, l.segments = gens, segments
	l.finished = append(l.finished, s.Finished[max(0, len(s.Finished)-finishedMax):]...)
	l.older = append(l.older, s.Older[:min(len(s.Older), olderMax)]...)
	l.since, l.made = s.Since, s.Made
	l.dirs, l.shifts = slices.Clone(s.Dirs), s.Shifts
	l.released, l.next, l.head = s.Released, s.Released, position
	l.earlier = slices.Clone(segments)
	l.serial, l.begun = min(s.Serial, positionMax), s.Begun || len(gens) > 0
	return nil
}

func generationOf(s GenerationState) (*generation, error) {
	switch {
	case len(s.ID) > 128 || len(s.Path) > statePathMax || len(s.Gone) > stateCauseMax:
		return nil, fmt.Errorf("id, path or cause is too long")
	case s.Offset < 0 || s.Offset > positionMax || s.Size < 0 || s.Size > positionMax:
		return nil, fmt.Errorf("offset %d, size %d: out of range", s.Offset, s.Size)
	case s.Head.Length < 0 || s.Head.Length > headMax:
		return nil, fmt.Errorf("fingerprint over %d bytes, at most %d", s.Head.Length, headMax)
	case s.Check.Length < 0 || s.Check.Length > beforeMax || int64(s.Check.Length) > s.Offset:
		return nil, fmt.Errorf("check over %d bytes in front of offset %d, at most %d", s.Check.Length, s.Offset, beforeMax)
	case s.Mark.Offset < 0 || s.Mark.Offset > s.Offset || s.Mark.Head.Length < 0 || s.Mark.Head.Length > headMax ||
		s.Mark.Check.Length < 0 || s.Mark.Check.Length > beforeMax || int64(s.Mark.Check.Length) > s.Mark.Offset:
		return nil, fmt.Errorf("mark at offset %d of %d, over %d and %d bytes: out of range", s.Mark.Offset, s.Offset, s.Mark.Head.Length, s.Mark.Check.Length)
	}
	if s.ID != "" {
		if _, _, _, _, err := parseID(s.ID); err != nil {
			return nil, err
		}
	}
	g := &generation{
		id: s.ID, dev: s.Dev, ino: s.Ino, path: s.Path, offset: s.Offset, size: s.Size,
		head: s.Head.sum(), want: s.Check.sum(), mark: mark{s.Mark.Offset, s.Mark.Head.sum(), s.Mark.Check.sum()}, copied: s.Copied, mtime: instant(s.Mtime), birth: instant(s.Birth), born: instant(s.Born), stamp: instant(s.Stamp),
	}
	if s.Drained != 0 {
		g.drained, g.drainedAt = true, instant(s.Drained)
	}
	if s.Gone != "" {
		g.gone, g.cause = true, s.Gone
	}
	if s.Loss != nil {
		if err := checkLoss(s.Loss); err != nil {
			return nil, err
		}
		loss := *s.Loss
		g.loss = &loss
	}
	return g, nil
}

func checkLoss(loss *Loss) error {
	if loss.Length == 0 || loss.Length > positionMax || loss.Bytes < -1 || len(loss.Cause) > stateCauseMax || len(loss.File) > statePathMax {
		return fmt.Errorf("loss of %d positions and %d bytes: out of range", loss.Length, loss.Bytes)
	}
	return nil
}
