package forward

import (
	"sort"
	"time"

	"logforward/internal/chunk"
)

// sent is one chunk that was handed out and isn't confirmed.
type sent struct {
	position uint64
	length   uint64
	checksum chunk.Digest // of its bytes
	before   chunk.Digest // running digest before it
	file     string
	offset   int64
	gap      *chunk.Gap // set: it carries no bytes
	acked    bool       // acknowledged in the current round
	counted  bool       // a gap that the status counts: of one that was split, only one part is
	tried    bool       // published at least once, in this life or perhaps in a former one
	last     bool       // nothing else was to be read behind it, but for an unfinished line
	seals    mark
	at       time.Time // when it was read
	block    *block    // at its end; nil: not known, or nothing is sealed
}

func (s *sent) end() uint64 { return s.position + s.length }

func (s *sent) after() chunk.Digest {
	if s.gap != nil {
		return chunk.AfterGap(s.end())
	}
	return s.before.Extend(s.checksum, s.length)
}

// flight is all of an epoch from confirmed to what was handed out last, chunk by
// chunk, in order and without holes.
//
//	confirmed ≤ stored ≤ end
//
// are borders between its chunks.
type flight struct {
	start  uint64 // confirmed
	digest chunk.Digest
	chunks []sent
	merged int // chunks left by the last compact
	gaps   uint64
	// former are digests that were sent for borders whose digest is another one
	// since something before them became a gap. The receiver may have taken the
	// chunks as they first were, and its digest then is a former one.
	former []border
	block  *block // at start; nil: not known, or nothing is sealed
}

type border struct {
	position uint64
	digest   chunk.Digest
}

func (f *flight) reset(start uint64, digest chunk.Digest) {
	*f = flight{start: start, digest: digest}
}

func (f *flight) end() uint64 {
	if n := len(f.chunks); n > 0 {
		return f.chunks[n-1].end()
	}
	return f.start
}

// last is the running digest at end.
func (f *flight) last() chunk.Digest {
	if n := len(f.chunks); n > 0 {
		return f.chunks[n-1].after()
	}
	return f.digest
}

// add appends a chunk; its position and digest follow from what is there.
func (f *flight) add(s sent) *sent {
	s.position, s.before = f.end(), f.last()
	if s.gap != nil {
		f.gaps += s.length
		s.counted = true
	}
	f.chunks = append(f.chunks, s)
	return &f.chunks[len(f.chunks)-1]
}

// at is the index of the chunk that holds position, or len(chunks) at the end.
func (f *flight) at(position uint64) int {
	return sort.Search(len(f.chunks), func(i int) bool { return f.chunks[i].end() > position })
}

// border gives the digest at a position between two chunks.
func (f *flight) border(position uint64) (chunk.Digest, bool) {
	if position == f.start {
		return f.digest, true
	}
	i := f.at(position)
	if position == f.end() {
		return f.last(), true
	}
	if i < len(f.chunks) && f.chunks[i].position == position {
		return f.chunks[i].before, true
	}
	return 0, false
}

// wasBorder tells whether digest is one that was formerly sent for position.
func (f *flight) wasBorder(position uint64, digest chunk.Digest) bool {
	for _, b := range f.former {
		if b.position == position && b.digest == digest {
			return true
		}
	}
	return false
}

// split makes position a border inside chunk i. head and tail are the checksums of
// the two parts; a gap needs none.
func (f *flight) split(i int, position uint64, head, tail chunk.Digest) {
	whole := f.chunks[i]
	a, b := whole, whole
	a.length = position - whole.position
	b.position, b.length = position, whole.end()-position
	a.checksum, b.checksum = head, tail
	if whole.gap == nil {
		b.offset += int64(a.length)
	} else {
		a.gap, b.gap = shareGap(whole.gap, a.length, b.length)
		b.counted = false
	}
	b.before = a.after()
	if a.block, a.last = nil, false; a.seals != undecided {
		a.seals = unsealed // as it was sent it had no seal there
	}
	f.chunks = append(f.chunks, sent{})
	copy(f.chunks[i+2:], f.chunks[i+1:])
	f.chunks[i], f.chunks[i+1] = a, b
}

func shareGap(g *chunk.Gap, head, tail uint64) (*chunk.Gap, *chunk.Gap) {
	a, b := *g, *g
	if g.Bytes >= 0 && uint64(g.Bytes) == head+tail {
		a.Bytes, b.Bytes = int64(head), int64(tail)
	} else {
		a.Exact, b.Exact = false, false
	}
	return &a, &b
}

// drop forgets the chunks below position, which must be a border, and takes digest as
// the one there. It returns how many bytes and how many gap positions they had.
func (f *flight) drop(position uint64, digest chunk.Digest) (bytes, gap uint64) {
	n := f.at(position)
	if n > 0 {
		f.block = f.chunks[n-1].block
	}
	for i := range f.chunks[:n] {
		if f.chunks[i].gap != nil {
			gap += f.chunks[i].length
		} else {
			bytes += f.chunks[i].length
		}
	}
	f.gaps -= gap
	rest := copy(f.chunks, f.chunks[n:])
	clear(f.chunks[rest:]) // let go of file names and gaps
	f.chunks = f.chunks[:rest]
	if rest == 0 && cap(f.chunks) > 1<<10 {
		f.chunks = nil // an idle log keeps no big list
	}
	f.merged = min(f.merged, rest)
	f.start, f.digest = position, digest
	if rest > 0 && f.chunks[0].before != digest {
		f.chain(0)
	}
	keep := f.former[:0]
	for _, b := range f.former {
		if b.position > position {
			keep = append(keep, b)
		}
	}
	f.former = keep
	return bytes, gap
}

// chain computes the digests anew from chunk i on.
func (f *flight) chain(i int) {
	before := f.digest
	if i > 0 {
		before = f.chunks[i-1].after()
	}
	for ; i < len(f.chunks); i++ {
		f.chunks[i].before = before
		before = f.chunks[i].after()
	}
}

// lose turns the chunks i to j-1 into one gap and returns how many bytes that were counted
// as such are lost by it.
func (f *flight) lose(i, j int, gap *chunk.Gap) (bytes uint64) {
	for k := i; k < len(f.chunks); k++ {
		if c := &f.chunks[k]; c.tried {
			f.former = append(f.former, border{c.end(), c.after()})
		}
	}
	one := f.chunks[i]
	one.gap, one.checksum, one.acked, one.counted = gap, 0, false, true
	one.length = f.chunks[j-1].end() - one.position
	for _, c := range f.chunks[i:j] {
		if c.gap == nil {
			bytes += c.length
		}
	}
	f.gaps += bytes
	f.chunks[i] = one
	n := i + 1 + copy(f.chunks[i+1:], f.chunks[j:])
	clear(f.chunks[n:])
	f.chunks = f.chunks[:n]
	f.chain(i + 1)
	f.chunks[i].seals = undecided
	for k := i; k < n; k++ {
		f.chunks[k].block = nil // they go out again, in other blocks
	}
	return bytes
}

// unconfirmed is how many positions of each kind there are.
func (f *flight) unconfirmed() (bytes, gap uint64) {
	return f.end() - f.start - f.gaps, f.gaps
}

// counted is how many gaps there are that the status counts.
func (f *flight) counted() (n uint64) {
	for i := range f.chunks {
		if f.chunks[i].counted {
			n++
		}
	}
	return n
}

// untaken are the gaps before position, a border, that the centre never saw, because its digest there isn't the one that follows from them: it had taken what
// was sent first. The digest restarts behind a gap, so that is known of the last one, and of those that it follows at once. It returns their
// positions, and how many of them needn't be counted any more.
func (f *flight) untaken(position uint64) (positions, gaps uint64) {
	n := f.at(position)
	i := n - 1
	for i >= 0 && f.chunks[i].gap == nil {
		i--
	}
	for ; i >= 0 && f.chunks[i].gap != nil; i-- {
		positions += f.chunks[i].length
		switch {
		case !f.chunks[i].counted:
		case i+1 == n && n < len(f.chunks) && f.chunks[n].gap != nil && !f.chunks[n].counted:
			f.chunks[n].counted = true // the rest of it, which goes out
		default:
			gaps++
		}
	}
	return positions, gaps
}

// compact merges neighbours below position into chunks of at most size bytes, once there are
// many. A quiet log with no receiver about would else remember each of its lines.
func (f *flight) compact(position uint64, size uint64) {
	const many = 1 << 10
	if len(f.chunks) < 2*f.merged+many {
		return
	}
	n := 0
	for i := range f.chunks {
		c := f.chunks[i]
		if n > 0 && c.end() <= position {
			p := &f.chunks[n-1]
			if p.gap == nil && c.gap == nil && p.file == c.file && p.offset+int64(p.length) == c.offset && p.length+c.length <= size && p.seals != blockEnd {
				p.checksum = p.checksum.Extend(c.checksum, c.length)
				p.length += c.length
				p.block, p.seals, p.last = c.block, c.seals, c.last
				continue
			}
		}
		f.chunks[n] = c
		n++
	}
	clear(f.chunks[n:])
	f.chunks = f.chunks[:n]
	f.merged = n
}

// tried tells whether anything in it was ever published.
func (f *flight) tried() bool {
	for i := range f.chunks {
		if f.chunks[i].tried {
			return true
		}
	}
	return false
}
