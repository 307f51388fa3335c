package forward

import (
	"errors"
	"fmt"
	"slices"

	"logforward/internal/chunk"
	"logforward/internal/tail"
)

// A node that has lost its state reads what it had sent, and what wasn't confirmed, once more, and perhaps in another order: what is written late to a rotated file
// comes when it is seen. The centre may take the first order meanwhile. The digests differ then, though the bytes are the same, and to number all of them anew would double
// them. So the new epoch begins behind the centre's place, but only where all bytes up to there are proved to be these files': else something of theirs could be left out.

// reordered opens the log at the centre's place, if that is reached from what is confirmed by these files' bytes, one file behind the other. nil: it isn't, or not so.
func (f *forwarder) reordered() (*tail.Log, error) {
	p := f.fork.place
	if p == nil || f.flight.gaps > 0 {
		return nil, nil
	}
	from := f.sourcesAtStart()
	for id, offset := range from {
		if offset > 0 && !slices.ContainsFunc(p.Sources, func(s chunk.Source) bool { return s.File == id }) {
			return nil, nil // the place doesn't say how far this one was read
		}
	}
	fresh, err := f.find(p)
	if errors.Is(err, tail.ErrGone) || errors.Is(err, errUnproved) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	same, err := f.bringsTo(p, from, fresh)
	if err == nil && same {
		return fresh, nil
	}
	return nil, errors.Join(err, fresh.Close())
}

// sourcesAtStart are the offsets in all generations behind what is confirmed.
func (f *forwarder) sourcesAtStart() map[string]int64 {
	from := make(map[string]int64)
	for _, s := range f.tail.Sources() {
		from[s.ID] = s.Offset
	}
	for i := range slices.Backward(f.flight.chunks) { // each file is read forwards: its first chunk counts
		from[f.flight.chunks[i].file] = f.flight.chunks[i].offset
	}
	return from
}

// bringsTo tells whether the bytes of the files from these offsets on to those of a place are what lies between confirmed and the place. The files are taken in the order
// in which the place has them: of what was read last.
func (f *forwarder) bringsTo(p *chunk.Place, from map[string]int64, log *tail.Log) (bool, error) {
	digest, left := f.flight.digest, p.Position-f.flight.start
	for _, s := range p.Sources {
		at, known := from[s.File]
		if !known {
			continue // it was finished before; if not, the digest tells
		}
		if s.Offset < at || uint64(s.Offset-at) > left {
			return false, nil
		}
		var err error
		if digest, err = f.over(log, s.File, at, s.Offset, digest); errors.Is(err, tail.ErrGone) {
			return false, nil
		} else if err != nil {
			return false, err
		}
		left -= uint64(s.Offset - at)
	}
	return left == 0 && digest == p.Digest, nil
}

// over brings a running digest over a part of a generation. The error wraps [tail.ErrGone] where that isn't there.
func (f *forwarder) over(log *tail.Log, id string, from, to int64, digest chunk.Digest) (chunk.Digest, error) {
	buf := f.engine.bufferOf(f.engine.cfg.Limits.ChunkSize)
	defer f.engine.giveBack(buf)
	for from < to {
		part := (*buf)[:min(int64(len(*buf)), to-from)]
		if err := log.ReadSource(id, part, from); err != nil {
			return 0, fmt.Errorf("compare with the centre's place: %w", err)
		}
		digest, from = digest.Update(part), from+int64(len(part))
	}
	return digest, nil
}
