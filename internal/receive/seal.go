package receive

import (
	"encoding/json"
	"time"

	"logforward/internal/chunk"
)

// sealed is a log's last seal whose bytes are all here, and its epoch. It is never changed: marks and records share it.
//
// Its signature isn't looked at. A receiver knows nobody's key, and what it would do with a seal that doesn't fit, to leave it out,
// takes an honest reader nothing and a forger little: whoever could put a false seal here can as well leave out a true one. [VerifySealed] looks,
// by keys that come from elsewhere.
type sealed struct {
	Epoch uint64      `json:"epoch"`
	Seal  *chunk.Seal `json:"seal"`
	Kept  bool        `json:"kept,omitempty"` // it is in the ledger of the receiver that says so
}

// UnmarshalJSON takes anything: a record or a state with a seal that can't be read is one without.
func (s *sealed) UnmarshalJSON(b []byte) error {
	type plain sealed
	var p plain
	if json.Unmarshal(b, &p) != nil || p.Seal == nil {
		p = plain{}
	}
	*s = sealed(p)
	return nil
}

// usable is nil for what couldn't be read.
func (s *sealed) usable() *sealed {
	if s == nil || s.Seal == nil {
		return nil
	}
	return s
}

// says tells whether it is this seal, whenever it was signed.
func (s *sealed) says(epoch uint64, t *chunk.Seal) bool {
	return s.Epoch == epoch && s.Seal.From == t.From && s.Seal.To == t.To && s.Seal.Prev == t.Prev && s.Seal.Sum == t.Sum && s.Seal.Key.Equal(t.Key)
}

// elsewhere is the same seal as one that this receiver's ledger doesn't have.
func (s *sealed) elsewhere() *sealed {
	if s.usable() == nil || !s.Kept {
		return s.usable()
	}
	return &sealed{Epoch: s.Epoch, Seal: s.Seal}
}

// laterSeal is the one of two that reaches further; of two that reach as far the first.
func laterSeal(a, b *sealed) *sealed {
	a, b = a.usable(), b.usable()
	if a == nil || b != nil && (b.Epoch > a.Epoch || b.Epoch == a.Epoch && b.Seal.To > a.Seal.To) {
		return b
	}
	return a
}

// takeSeal remembers the seal of a chunk whose bytes are here. One of the same beginning takes the place of the former, and any other makes that final: then
// it goes into the ledger, in the commit of what came with the other. One that nothing can take the place of goes there at once. So a crash
// costs at most the seal of the unfinished block, which the next one of that block makes up for: what was cut back is delivered and judged once more,
// and what a record covers has its ledger's lines, too, for neither is cut below that.
func (l *log) takeSeal(ch *chunk.Chunk, now time.Time) (news bool) {
	s := ch.Seal
	if last := l.seal; last != nil {
		if last.says(ch.Epoch, s) {
			return false
		}
		// Behind a gap over bytes that are here already the former one may reach further.
		if last.Epoch != ch.Epoch || last.Seal.From != s.From || last.Seal.To > s.To {
			l.keepSeal(now)
		}
	}
	l.seal = &sealed{Epoch: ch.Epoch, Seal: s}
	if ch.Gap != nil || s.To-s.From >= chunk.SealBlock {
		l.keepSeal(now)
	}
	return true
}

// takeOverSeal goes on with the later one of what is committed here and what the record has. Where that is of another block the one that is committed
// here is final, and perhaps known nowhere else: the record that had it may have been lost before another receiver went on.
func (l *log) takeOverSeal(now time.Time) {
	own, recorded := l.local.Committed.Seal.usable(), l.rec.Seal.elsewhere()
	l.seal = laterSeal(own, recorded)
	if own == nil || own.Kept || l.seal == own || l.local.LedgerFile == "" || l.seal.Epoch == own.Epoch && l.seal.Seal.From == own.Seal.From {
		return
	}
	l.note(own.entry(now))
	l.local.Committed.Seal = &sealed{Epoch: own.Epoch, Seal: own.Seal, Kept: true}
}

// entry is the seal as it stands in a ledger.
func (s *sealed) entry(now time.Time) Entry {
	return Entry{Time: now, Event: EventSeal, Epoch: s.Epoch, From: s.Seal.From, To: s.Seal.To, Seal: s.Seal.String()}
}

// keepSeal notes the last seal for the ledger, once.
func (l *log) keepSeal(now time.Time) {
	s := l.seal
	if s == nil || s.Kept {
		return
	}
	l.note(s.entry(now))
	l.seal = &sealed{Epoch: s.Epoch, Seal: s.Seal, Kept: true}
}

// unkeepSeal has the ledger get the last seal once more, for it isn't sure to have it any more.
func (l *log) unkeepSeal() {
	m := &l.local.Committed
	if l.seal == m.Seal { // it stays the one that is committed
		m.Seal = m.Seal.elsewhere()
		l.seal = m.Seal
		return
	}
	m.Seal, l.seal = m.Seal.elsewhere(), l.seal.elsewhere()
}
