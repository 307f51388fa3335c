package receive

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"logforward/internal/chunk"
)

// maxRanges is how many ranges a record names; older ones are in the ledgers.
const maxRanges = 16

// record is a log's entry in the positions bucket: what is committed, by whom and
// where, and what its writer has learnt to be committed. Only Learnt is ever told to
// a node: a record that landed without its writer's knowledge can still be cut back.
type record struct {
	Place  chunk.Place  `json:"place"`
	Learnt *chunk.Place `json:"learnt,omitempty"`
	Ranges []span       `json:"ranges,omitempty"` // oldest first
	Forked bool         `json:"forked,omitempty"` // nothing more is taken in Place's epoch
	Seal   *sealed      `json:"seal,omitempty"`   // the last one; older versions drop it, and the bytes of the block stay unsealed
	Writer string       `json:"writer"`           // receiver and term
	Commit uint64       `json:"commit"`           // unique within the writer's term
}

// span is a range of positions in one receiver's file.
type span struct {
	Receiver string `json:"receiver"`
	File     string `json:"file"` // below the receiver's output; without a compression's ending
	Epoch    uint64 `json:"epoch"`
	From     uint64 `json:"from"`
	To       uint64 `json:"to"`
	Offset   int64  `json:"offset"` // of From in File
	// Behind is the position behind the last gap in it; 0: there is none, or an older version wrote it.
	Behind uint64 `json:"behind,omitempty"`
	// Since is when its first byte was committed.
	Since time.Time `json:"since,omitzero"`
	// Digest is the epoch's running digest before From; nil: an older version wrote it. It proves what was set aside and ends there.
	Digest *chunk.Digest `json:"digest,omitempty"`
	// Back: it was set aside, and put back since. It says nothing of what its receiver has prepared, nor of how old its state is.
	Back bool `json:"back,omitempty"`
}

// extend brings the last range up to a mark of this receiver, or adds one.
func (r *record) extend(receiver string, m *mark, now time.Time) {
	if m.File == "" || m.From == m.Place.Position {
		return
	}
	s := span{Receiver: receiver, File: m.File, Epoch: m.Place.Epoch, From: m.From, To: m.Place.Position, Offset: m.Offset, Behind: m.Behind, Since: now.UTC(), Digest: m.Before}
	if n := len(r.Ranges); n > 0 {
		if l := r.Ranges[n-1]; l.Receiver == receiver && l.Epoch == s.Epoch && l.From == s.From && !l.Back {
			ranges := append([]span(nil), r.Ranges...)
			s.Since = l.Since
			ranges[n-1] = s
			r.Ranges = ranges
			return
		}
	}
	r.Ranges = bounded(append(append([]span(nil), r.Ranges...), s))
}

// bounded drops the oldest ranges beyond the most that a record names. Each receiver's last stays: what it has prepared
// is decided by it, however long it was away.
func bounded(ranges []span) []span {
	last := make(map[string]int)
	for i, s := range ranges {
		if !s.Back {
			last[s.Receiver] = i
		}
	}
	over := len(ranges) - maxRanges
	if over <= 0 {
		return ranges
	}
	kept := ranges[:0:0]
	for i, s := range ranges {
		if over > 0 && (s.Back || last[s.Receiver] != i) {
			over--
			continue
		}
		kept = append(kept, s)
	}
	return kept
}

// merge adds ranges that the record doesn't know, as a wiped bucket's doesn't, in the order of their positions.
func (r *record) merge(more []span) {
	ranges := append([]span(nil), r.Ranges...)
next:
	for _, s := range more {
		for i, old := range ranges {
			if old.Receiver == s.Receiver && old.Epoch == s.Epoch && old.From == s.From && old.Back == s.Back {
				if s.To > old.To {
					ranges[i] = s
				}
				continue next
			}
		}
		ranges = append(ranges, s)
	}
	slices.SortStableFunc(ranges, func(a, b span) int {
		return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.From, b.From))
	})
	r.Ranges = bounded(ranges)
}

// foreign are the ranges, where they name receivers other than this one.
func (r *record) foreign(receiver string) []span {
	for _, s := range r.Ranges {
		if s.Receiver != receiver {
			return r.Ranges
		}
	}
	return nil
}

// covers tells whether the record says that this receiver's file holds a mark's range.
func (r *record) covers(receiver string, m *mark) bool {
	if m.File == "" || m.From == m.Place.Position { // no bytes, only a place
		return r.Place.Epoch == m.Place.Epoch && r.Place.Position >= m.Place.Position
	}
	for _, s := range r.Ranges {
		if s.Receiver == receiver && !s.Back && s.Epoch == m.Place.Epoch && s.From == m.From && s.To >= m.Place.Position {
			return true
		}
	}
	return false
}

// beyond tells whether the record knows of bytes in files of this receiver's that its state doesn't, be it in one that
// nothing was committed to by what the state says, or that a file was closed which is open by the state.
func (r *record) beyond(receiver string, lo *local) bool {
	m := &lo.Committed
	for _, s := range r.Ranges {
		if s.Receiver != receiver || s.File == "" || s.Back {
			continue
		}
		// A state that knows no place may be a new one, in the place of one that was lost: of that are the ranges.
		known := m.Place.Epoch > 0 || s.File == m.File || s.File == lo.Opening
		if known && (s.Epoch > m.Place.Epoch || s.Epoch == m.Place.Epoch && s.To > m.Place.Position) {
			return true
		}
		open := m.File != "" && m.From != m.Place.Position && s.Epoch == m.Place.Epoch && s.From == m.From
		if open && s.File != m.File && (lo.Closing == nil || s.File != lo.Closing.To) {
			return true
		}
	}
	return false
}

func parseRecord(b []byte) (*record, error) {
	r := new(record)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	r.Seal = r.Seal.usable()
	places := []*chunk.Place{&r.Place}
	if r.Learnt != nil {
		places = append(places, r.Learnt)
	}
	for _, p := range places {
		if p.Epoch > chunk.MaxPosition || p.Position > chunk.MaxPosition || p.Tail.From > p.Position {
			return nil, fmt.Errorf("record: epoch %d, position %d, tail from %d can't be", p.Epoch, p.Position, p.Tail.From)
		}
	}
	for _, s := range r.Ranges {
		if s.From > s.To || s.To > chunk.MaxPosition {
			return nil, fmt.Errorf("record: range from %d to %d of %s can't be", s.From, s.To, s.File)
		}
	}
	return r, nil
}

func (r *record) bytes() ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	return b, nil
}
