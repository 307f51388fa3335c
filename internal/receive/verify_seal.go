package receive

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"logforward/internal/chunk"
)

// SealOptions say what [VerifySealed] asks of a log's seals.
type SealOptions struct {
	// Keys are whose; nil: nobody says so. Of an identity that isn't among them any key's seals are taken, and not vouched for.
	Keys SealKeys
	// All: each byte must be under a seal by one of Keys, as far as it is committed by the proofs, and what a seal names as the one before it be there.
	All bool
	// Expect is what the node had sealed by its own word, kept elsewhere; nil: nothing. So it is seen where the end was taken away.
	Expect *SealPoint
	// Recorded is what [Proofs] said beside the proofs; nil: nothing.
	Recorded *RecordedSeal
}

// RecordedSeal is the last seal of a log that the broker's record has.
type RecordedSeal struct {
	Epoch uint64
	Seal  *chunk.Seal
}

// SealPoint is the end of a seal and its ID ([chunk.Seal.ID]).
type SealPoint struct {
	Epoch    uint64     `json:"epoch"`    // of the position
	Position uint64     `json:"position"` // the end of the last seal
	ID       chunk.Hash `json:"id"`       // of that seal, 64 hex digits
}

// Seals say what of a log its node's seals prove. Each byte counts once, as the best that a seal says of it.
type Seals struct {
	Count      int   `json:"count"`      // different ones, those that are broken too
	Sealed     int64 `json:"sealed"`     // bytes that are those of a seal
	Unsealed   int64 `json:"unsealed"`   // bytes outside any seal
	Broken     int64 `json:"broken"`     // bytes under seals that are of others, or of more than is there
	Unprovable int64 `json:"unprovable"` // bytes under seals of which retention has deleted a part
	// Uncommitted are bytes outside any seal that lie behind what the proofs know. They aren't judged: they have come since, aren't committed, or
	// somebody has put them there.
	Uncommitted int64 `json:"uncommitted"`

	Keys []SealKey `json:"keys"` // that signed them; at most a hundred
	// Unbroken: each block names the one before it, from the first to the last.
	Unbroken bool        `json:"unbroken"`
	Breaks   []SealBreak `json:"breaks,omitempty"` // where it doesn't; at most a thousand
	Last     *SealPoint  `json:"last,omitempty"`   // the end of what is sealed
}

// SealKey is a key that a log's seals are signed with.
type SealKey struct {
	Key     string `json:"key"`     // 64 hex digits
	Vouched bool   `json:"vouched"` // it is among those given for the identity
	Seals   int    `json:"seals"`   // that it has signed
}

// SealBreak is where the chain of seals begins anew.
type SealBreak struct {
	Epoch    uint64 `json:"epoch"`    // of the position
	Position uint64 `json:"position"` // where a block begins that names none here
	// Missing: a seal before it isn't here, and what it was of may have been taken away without a trace.
	Missing bool   `json:"missing,omitempty"`
	Why     string `json:"why"` // for a person
}

const (
	maxSealParts  = 1000    // parts about seals of one log
	maxSealKeys   = 100     // that are listed
	maxSeals      = 1 << 21 // of one log: 2 TiB of it, in half a GiB of memory
	maxOverlapped = 8       // seals of different beginnings that are computed at a time
)

// sealRow is a seal that its key has signed, in as few bytes as can be: a log may have a million.
type sealRow struct {
	epoch, from, to uint64
	prev, sum, id   chunk.Hash
	key             int32 // in seals.keys
	state           sealState
	recorded        bool // the broker's record has it
}

type sealState uint8

const (
	sealFits    sealState = iota + 1
	sealOther             // the bytes have another sum
	sealMissing           // some bytes aren't there
	sealCrowded           // too many overlap it
)

func compareRows(a, b sealRow) int {
	return cmp.Or(cmp.Compare(a.epoch, b.epoch), cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to), bytes.Compare(a.id[:], b.id[:]), cmp.Compare(a.key, b.key))
}

// sealer collects a log's seals, and judges them.
type sealer struct {
	SealOptions
	identity, log string
	vouched       []ed25519.PublicKey // those given for the identity

	rows   []sealRow
	keys   []SealKey
	index  map[string]int32 // of a key in keys
	broken int              // that aren't in rows
	parts  []Part
	more   map[string]int // parts by verdict that are left out
	met    expectation    // of Expect
}

func newSealer(identity, log string, o SealOptions) *sealer {
	return &sealer{SealOptions: o, identity: identity, log: log, vouched: o.Keys[identity], index: make(map[string]int32), more: make(map[string]int)}
}

// read takes the seals of ledgers.
func (s *sealer) read(ledgers []ledger) error {
	for _, l := range ledgers {
		path := filepath.Join(l.output, l.name)
		f, err := openLedger(path)
		if err != nil {
			return err
		}
		err = eachLine(f, path, func(n int, line []byte) error {
			if !bytes.Contains(line, sealLine) {
				return nil
			}
			var e Entry
			if err := json.Unmarshal(line, &e); err != nil {
				return fmt.Errorf("ledger %s line %d: %w", path, n, err)
			}
			if e.Event == EventSeal {
				s.addText(e.Epoch, e.From, e.To, e.Seal)
			}
			return nil
		})
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *sealer) addText(epoch, from, to uint64, text string) {
	seal, err := chunk.ParseSeal(text)
	if err != nil {
		s.reject(Part{Verdict: Forged, Epoch: epoch, From: from, To: to, Why: fmt.Sprintf("the seal can't be read: %v", err)})
		return
	}
	s.add(epoch, seal, false)
}

// add takes a seal, if it is signed, and by whom it may be.
func (s *sealer) add(epoch uint64, seal *chunk.Seal, recorded bool) {
	of := chunk.SealOf{Identity: s.identity, Log: s.log, Epoch: epoch}
	part := Part{Verdict: Forged, Epoch: epoch, From: seal.From, To: seal.To}
	if len(s.rows) >= maxSeals {
		part.Verdict, part.Why = Unproved, fmt.Sprintf("the log has more than %d seals; this one wasn't looked at", maxSeals)
		s.reject(part)
		return
	}
	if err := seal.Check(of); err != nil {
		part.Why = "the seal's " + err.Error() + ": the seal was changed, or is of another log, epoch or range"
		s.reject(part)
		return
	}
	known := slices.ContainsFunc(s.vouched, func(k ed25519.PublicKey) bool { return k.Equal(seal.Key) })
	key, ok := s.index[string(seal.Key)]
	if !ok {
		key = int32(len(s.keys))
		s.index[string(seal.Key)] = key
		s.keys = append(s.keys, SealKey{Key: hex.EncodeToString(seal.Key), Vouched: known})
	}
	s.keys[key].Seals++
	if len(s.vouched) > 0 && !known {
		part.Why = fmt.Sprintf("the seal is signed by key %s, which isn't among those given for %s", s.keys[key].Key, s.identity)
		s.reject(part)
		return
	}
	s.rows = append(s.rows, sealRow{epoch: epoch, from: seal.From, to: seal.To, prev: seal.Prev, sum: seal.Sum, id: seal.ID(of), key: key, recorded: recorded})
}

// reject has a seal that says nothing.
func (s *sealer) reject(p Part) {
	s.broken++
	s.part(p)
}

func (s *sealer) part(p Part) {
	if len(s.parts) >= maxSealParts {
		s.more[p.Verdict]++
		return
	}
	s.parts = append(s.parts, p)
}

// order sorts what was collected, and drops what is there twice: receivers that followed each other may both have written a seal down.
func (s *sealer) order() {
	slices.SortFunc(s.rows, compareRows)
	kept := s.rows[:0]
	for _, r := range s.rows {
		if n := len(kept); n > 0 && compareRows(kept[n-1], r) == 0 {
			kept[n-1].recorded = kept[n-1].recorded || r.recorded
			s.keys[r.key].Seals--
			continue
		}
		kept = append(kept, r)
	}
	s.rows = kept
}

// wanted tells whether there is anything to say.
func (s *sealer) wanted() bool { return len(s.rows) > 0 || s.broken > 0 || s.All || s.Expect != nil }

// reconsider looks again at seals whose bytes aren't all there: where a receiver cut back what it hadn't committed before a crash, their lines are gone by now.
func (s *sealer) reconsider(outputs []string) error {
	gone := func(r sealRow) bool { return r.state == sealMissing && !r.recorded }
	if !slices.ContainsFunc(s.rows, gone) {
		return nil
	}
	time.Sleep(lookAgain) // between the two cuts
	ledgers, err := findLedgers(outputs, s.identity, s.log)
	if err != nil {
		return err
	}
	again := newSealer(s.identity, s.log, SealOptions{Keys: s.Keys})
	if err := again.read(ledgers); err != nil {
		return err
	}
	still := make(map[chunk.Hash]struct{}, len(again.rows))
	for _, r := range again.rows {
		still[r.id] = struct{}{}
	}
	s.rows = slices.DeleteFunc(s.rows, func(r sealRow) bool {
		_, there := still[r.id]
		return gone(r) && !there
	})
	return nil
}

// groups gives the seals of one beginning at a time: a block, and the parts of it that were sealed before.
func (s *sealer) groups(each func(rows []sealRow)) {
	for i := 0; i < len(s.rows); {
		n := i + 1
		for n < len(s.rows) && s.rows[n].epoch == s.rows[i].epoch && s.rows[n].from == s.rows[i].from {
			n++
		}
		each(s.rows[i:n])
		i = n
	}
}

// judge says what the seals prove, once the bytes were read and everything else was said. absent are ranges of the pieces that couldn't be.
func (s *sealer) judge(v *verifier, pieces []piece, absent []covered, committed *Proof) *Seals {
	out := &Seals{Count: len(s.rows) + s.broken, Keys: append([]SealKey{}, s.keys[:min(len(s.keys), maxSealKeys)]...)}
	var there, damaged []covered
	unread := newCoverage(absent)
	for i := range pieces {
		there = append(there, unread.without(pieces[i].Epoch, pieces[i].from, pieces[i].to)...)
	}
	for i := range v.Parts {
		if p := &v.Parts[i]; p.Verdict == Damaged {
			damaged = append(damaged, covered{p.Epoch, p.From, p.To})
		}
	}
	bad, lost := newCoverage(damaged), newCoverage(slices.Clone(v.lost))
	explained := newCoverage(append(there, v.deleted...)) // there, or deleted as was meant
	var fit, broken, unprovable []covered
	s.groups(func(rows []sealRow) {
		said := false
		for i := range rows {
			r := &rows[i]
			x := covered{r.epoch, r.from, r.to}
			part := Part{Verdict: Forged, Epoch: r.epoch, From: r.from, To: r.to}
			switch r.state {
			case sealFits:
				fit = append(fit, x)
				continue
			case sealCrowded:
				part.Verdict, part.Why = Unproved, fmt.Sprintf("more than %d seals overlap here; this one wasn't looked at", maxOverlapped)
				s.part(part)
				continue
			case sealMissing:
				hole, isHole := explained.hole(r.epoch, r.from, r.to)
				if !isHole {
					unprovable = append(unprovable, x)
					continue
				}
				switch {
				case lost.end(r.epoch, hole) > 0:
					part.Why = fmt.Sprintf("the node has sealed bytes at position %d, which the ledger calls lost", hole)
				default:
					part.Verdict = Damaged
					part.Why = fmt.Sprintf("the node has sealed bytes at position %d, and they aren't here", hole)
				}
			default:
				part.Why = "other bytes than the node sealed"
			}
			if bad.meets(r.epoch, r.from, r.to) { // some of it is damaged by the digests, too
				part.Verdict = Damaged
			}
			broken = append(broken, x)
			if !said { // what is longer has the same fault
				s.part(part)
				said = true
			}
		}
	})
	for _, r := range s.rows {
		if r.state == sealFits && (out.Last == nil || r.epoch > out.Last.Epoch || r.epoch == out.Last.Epoch && r.to > out.Last.Position) {
			out.Last = &SealPoint{Epoch: r.epoch, Position: r.to, ID: r.id}
		}
	}
	s.chain(out)
	excused := newCoverage(s.excused(there, unprovable))
	s.bytes(out, pieces, committed, newCoverage(fit), newCoverage(broken), newCoverage(unprovable), excused)
	s.expected(out)
	for verdict, n := range s.more {
		last := s.parts[len(s.parts)-1]
		s.parts = append(s.parts, Part{Verdict: verdict, Epoch: last.Epoch, From: last.From, To: last.From, Why: fmt.Sprintf("%d more parts by seals", n)})
	}
	v.Parts = append(v.Parts, s.parts...)
	return out
}

// chain looks whether each block names one that is here. Where it names none the node lost its memory; a name that nothing here has is that of a seal that
// was taken away, or never came. Then nothing says what there was in between, unless all up to the block is under seals.
func (s *sealer) chain(out *Seals) {
	ids := make(map[chunk.Hash]struct{}, len(s.rows))
	all := make([]covered, 0, len(s.rows))
	for _, r := range s.rows {
		ids[r.id] = struct{}{}
		all = append(all, covered{r.epoch, r.from, r.to})
	}
	sealed := newCoverage(all)
	out.Unbroken = true
	first, verdict := true, Unproved
	if s.All {
		verdict = Unsealed
	}
	s.groups(func(rows []sealRow) {
		for i := range rows {
			r := &rows[i]
			if i > 0 && r.prev == rows[i-1].prev {
				continue
			}
			_, here := ids[r.prev]
			none := r.prev == chunk.Hash{}
			if here || none && first {
				continue
			}
			out.Unbroken = false
			b := SealBreak{Epoch: r.epoch, Position: r.from, Why: "the node began anew: it names no seal before this one"}
			if !none {
				b.Missing = r.from == 0 || !sealed.has(r.epoch, r.from-1, r.from)
				b.Why = "the seal before this one isn't here; all up to here is sealed"
				if b.Missing {
					b.Why = fmt.Sprintf("the seal before this one isn't here (%s): what it was of may have been taken away", r.prev)
					s.part(Part{Verdict: verdict, Epoch: r.epoch, From: r.from, To: r.from, Why: b.Why})
				}
			}
			if len(out.Breaks) < maxSealParts {
				out.Breaks = append(out.Breaks, b)
			}
		}
		first = false
	})
}

// excused are those of the ranges of which retention has deleted a part whose rest begins what there is of the log: retention takes the oldest first. That of any other
// proves nothing, and who may write a line of the ledger could have a byte of each block deleted, and change what is left.
func (s *sealer) excused(there, unprovable []covered) (all []covered) {
	if len(there) == 0 {
		return nil
	}
	first, here := slices.MinFunc(there, compareCovered), newCoverage(slices.Clone(there))
	for _, x := range unprovable {
		if x.epoch == first.epoch && x.from <= first.from && here.has(x.epoch, first.from, x.to) {
			all = append(all, x)
		}
	}
	return all
}

// bytes counts them.
func (s *sealer) bytes(out *Seals, pieces []piece, committed *Proof, fit, broken, unprovable, excused coverage) {
	vouched := len(s.vouched) > 0
	var open covered // what is to be said of together
	say := func() {
		if open.from < open.to {
			why := "no seal of a key that is given for the identity is over these bytes"
			if !vouched {
				why = fmt.Sprintf("no key is given for %s", s.identity)
			}
			s.part(Part{Verdict: Unsealed, Epoch: open.epoch, From: open.from, To: open.to, Why: why})
		}
	}
	missing := func(x covered) {
		if !s.All {
			return
		}
		if x.epoch == open.epoch && x.from == open.to {
			open.to = x.to
			return
		}
		say()
		open = x
	}
	for i := range pieces {
		p := &pieces[i]
		out.Sealed += int64(p.to - p.from)
		if !vouched {
			if c := clipped(covered{p.Epoch, p.from, p.to}, committed); c.from < c.to {
				missing(c)
			}
		}
		for _, a := range fit.without(p.Epoch, p.from, p.to) {
			out.Sealed -= int64(a.to - a.from)
			for _, b := range broken.without(a.epoch, a.from, a.to) {
				bare := unprovable.without(b.epoch, b.from, b.to)
				if s.All && vouched {
					for _, c := range excused.without(b.epoch, b.from, b.to) {
						for _, c := range newCoverage(slices.Clone(bare)).without(c.epoch, c.from, c.to) {
							s.part(Part{Verdict: Unsealed, Epoch: c.epoch, From: c.from, To: c.to, Why: "the ledger says that retention has deleted other bytes under their seal, so that it proves nothing, and older bytes than those are there"})
						}
					}
				}
				for _, c := range bare {
					out.Unprovable -= int64(c.to - c.from)
					out.Uncommitted += int64(c.to - c.from)
					if c = clipped(c, committed); c.from < c.to {
						out.Uncommitted -= int64(c.to - c.from)
						out.Unsealed += int64(c.to - c.from)
						if vouched {
							missing(c)
						}
					}
				}
				out.Broken -= int64(b.to - b.from)
				out.Unprovable += int64(b.to - b.from)
			}
			out.Broken += int64(a.to - a.from)
		}
	}
	say()
}

// clipped is what the record knows of a range; nil: nobody was asked. What lies behind it has come since, or isn't committed.
func clipped(c covered, committed *Proof) covered {
	if committed != nil && (c.epoch > committed.Epoch || c.epoch == committed.Epoch && c.to > committed.Position) {
		c.to = 0
		if c.epoch == committed.Epoch {
			c.to = committed.Position
		}
	}
	return c
}

// expected says what became of what the node had sealed by its own word.
func (s *sealer) expected(out *Seals) {
	e := s.Expect
	if e == nil || s.met == expectMet {
		return
	}
	part := Part{Verdict: Damaged, Epoch: e.Epoch, From: e.Position, To: e.Position, Why: "the node had sealed up to here, and no seal here reaches that far: the end was taken away"}
	if s.Recorded == nil { // nobody has asked for it, or the record has none
		part.Why += ", unless the broker's record has the seal"
	}
	switch s.met {
	case expectOther:
		part.Verdict, part.Why = Forged, fmt.Sprintf("the node had sealed other bytes up to here than there are: no seal %s", e.ID)
	case expectUnprovable:
		part.Verdict, part.Why = Unproved, "the node had sealed up to here; not all of these bytes can be read any more"
	}
	s.part(part)
}
