package receive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

// Verdicts about a log or a part of it, from good to bad.
const (
	Intact   = "intact"   // the bytes are those that the node read, by its own digest
	Unproved = "unproved" // nothing says that they aren't, and no digest that they are
	Unsealed = "unsealed" // a seal over each byte was asked for ([SealOptions.All]), and there is none over these
	Damaged  = "damaged"  // they are others, or fewer, or not there
	Forged   = "forged"   // they fit the digests, and not the node's seal; or a seal isn't the node's
	Unread   = "unread"   // a ledger or a directory couldn't be read, so that nothing is known
)

// Verification says whether a log's central bytes are those that its node sent.
type Verification struct {
	Identity string `json:"identity"` // of the node
	Log      string `json:"log"`      // its name
	Verdict  string `json:"verdict"`  // the worst of its parts: intact, unproved, damaged or unread
	Intact   int64  `json:"intact"`   // bytes that are
	Unproved int64  `json:"unproved"` // bytes; most are behind the last digest of a file that is still written to
	Damaged  int64  `json:"damaged"`  // bytes that lie between two digests that don't fit, or are missing
	Expired  int64  `json:"expired"`  // bytes that retention deleted
	Gaps     int    `json:"gaps"`     // how many the node told of
	Lost     int64  `json:"lost"`     // bytes in these gaps, as far as known
	// Parts are what isn't intact, in the order of positions.
	Parts []Part `json:"parts,omitempty"`
	// Seals say what the node's signatures prove; nil: the log has none, and none was asked for.
	Seals *Seals `json:"seals,omitempty"`
}

// verdicts are in order.
var verdicts = []string{Intact, Unproved, Unsealed, Damaged, Forged, Unread}

// Part is a range of positions with one verdict.
type Part struct {
	Verdict string `json:"verdict"`          // unproved, damaged or unread
	Epoch   uint64 `json:"epoch"`            // of the positions
	From    uint64 `json:"from"`             // position of its first byte
	To      uint64 `json:"to"`               // position behind its last
	Output  string `json:"output,omitempty"` // directory of the receiver that has it
	File    string `json:"file,omitempty"`   // path below Output
	Why     string `json:"why"`              // for a person
}

// Proof is a running digest that is known otherwise than by a ledger.
type Proof struct {
	Epoch, Position uint64
	Digest          chunk.Digest
}

// ErrRecord: the broker has a record of the log, and it can't be read.
var ErrRecord = errors.New("broken record")

// Proofs are what the broker's record of a log proves: it knows the digest of what lies in files that are still written to. None where there is no record.
// The log's last seal may be there alone, too.
func Proofs(ctx context.Context, positions *broker.Records, identity, log string) (all []Proof, seal *RecordedSeal, err error) {
	value, _, err := positions.Get(ctx, key(identity, log))
	if errors.Is(err, broker.ErrNotFound) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	rec, err := parseRecord(value)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	for _, p := range []*chunk.Place{&rec.Place, rec.Learnt} {
		if p != nil {
			all = append(all, Proof{p.Epoch, p.Position, p.Digest}, Proof{p.Epoch, p.Tail.From, p.Tail.Digest})
		}
	}
	if s := rec.Seal; s != nil {
		seal = &RecordedSeal{s.Epoch, s.Seal}
	}
	return all, seal, nil
}

// Recorded lists the logs that the broker's records know to have bytes, in order: those whose key is wanted, nil: all.
func Recorded(ctx context.Context, positions *broker.Records, wanted func(identity, log string) bool) ([][2]string, error) {
	list, err := positions.ListOf(ctx, func(key string) bool {
		identity, log, err := splitKey(key)
		return err == nil && (wanted == nil || wanted(identity, log))
	})
	if err != nil {
		return nil, err
	}
	var all [][2]string
	for _, r := range list {
		rec, err := parseRecord(r.Value)
		if err == nil && rec.Place.Position == 0 && len(rec.Ranges) == 0 {
			continue // it is known, and nothing was committed yet
		}
		identity, log, err := splitKey(r.Key)
		if err == nil {
			all = append(all, [2]string{identity, log})
		}
	}
	return inOrder(all), nil
}

// NotHere is the verdict about a log that has no ledger ([ErrNoLedger]), and of which the record proves that it has bytes: they are missing, as a part would be.
func NotHere(identity, log string, proofs []Proof) *Verification {
	v := newVerifier(identity, log)
	ends := make(map[uint64]uint64)
	for _, p := range proofs {
		ends[p.Epoch] = max(ends[p.Epoch], p.Position)
	}
	for epoch, end := range ends {
		v.part(Damaged, &Extent{Epoch: epoch}, 0, end, "the record knows them, and no ledger below these directories does: is a receiver's missing?")
	}
	return v.verdict()
}

// Verify reads all central bytes of a log below the outputs, computes the running digest once more, and compares it with what the node said it
// is wherever a ledger or one of the proofs has it. It finds what bad disks, truncation and editors did to central files, and files that are missing; not
// a forger, who could write another digest into the ledger. Where the node seals its log, its seals are looked at, too, as [VerifySealed] does.
// It may run while receivers write, and then should have been given proofs that were read before.
func Verify(ctx context.Context, outputs []string, identity, log string, proofs []Proof) (*Verification, error) {
	return VerifySealed(ctx, outputs, identity, log, proofs, SealOptions{})
}

// VerifySealed is [Verify], and asks of the node's seals what o says. What they prove a forger can't change, who hasn't the node's key: that the bytes of a range
// are the node's, and that no range is missing between two of which the later one names the former. Where retention has deleted a part of a sealed range
// nothing is said of the rest.
func VerifySealed(ctx context.Context, outputs []string, identity, log string, proofs []Proof, o SealOptions) (*Verification, error) {
	v := newVerifier(identity, log)
	ledgers, err := findLedgers(outputs, identity, log)
	if err != nil {
		return nil, err
	}
	seals := newSealer(identity, log, o)
	if err := seals.read(ledgers); err != nil { // before the extents: their bytes were there before they were
		return nil, err
	}
	if o.Recorded != nil {
		seals.add(o.Recorded.Epoch, o.Recorded.Seal, true)
	}
	var committed *Proof
	for i := range proofs {
		p := &proofs[i]
		if committed == nil || p.Epoch > committed.Epoch || p.Epoch == committed.Epoch && p.Position > committed.Position {
			committed = p
		}
	}
	extents, files, err := lookAt(outputs, identity, log)
	if err != nil {
		return nil, err
	}
	if err := v.readGaps(outputs); err != nil { // later: what lies behind a gap must not be known without it
		closeFiles(files)
		return nil, err
	}
	for _, p := range proofs {
		v.know(p.Epoch, p.Position, proof{p.Digest, true})
		v.cover(p.Epoch, p.Position, p.Position) // so that what is missing before it is seen
	}
	v.readExtents(extents)
	absent := absent(extents, files)
	pieces, _, err := choose(slices.Clone(extents), files)
	if err != nil {
		return nil, err
	}
	defer closePieces(pieces)
	for at := range v.known {
		v.positions[at.epoch] = append(v.positions[at.epoch], at.position)
	}
	for _, list := range v.positions {
		slices.Sort(list)
	}
	for _, of := range byFile(pieces) {
		if err := v.file(ctx, of); err != nil {
			return nil, fmt.Errorf("%s/%s: %w", identity, log, err)
		}
	}
	var unread []covered
	if seals.wanted() {
		if unread, err = seals.walk(ctx, v, pieces); err != nil {
			return nil, fmt.Errorf("%s/%s: %w", identity, log, err)
		}
		if err := seals.reconsider(outputs); err != nil {
			return nil, err
		}
	}
	if len(seals.vouched) > 0 {
		for _, r := range seals.rows {
			v.cover(r.epoch, r.to, r.to) // so many bytes there were, by the node's own word
		}
	}
	v.absent(absent)
	v.holes()
	if seals.wanted() {
		v.Seals = seals.judge(v, pieces, unread, committed)
	}
	return v.verdict(), nil
}

// readExtents takes what the ledgers say of digests, ends, and of what retention deleted.
func (v *verifier) readExtents(extents []Extent) {
	gone := make(map[string]bool)
	for i := range extents {
		x := &extents[i]
		v.ends[x.Output+"/"+x.File] = max(v.ends[x.Output+"/"+x.File], uint64(x.End)) // of one without end: the greatest
		v.know(x.Epoch, x.From, x.before)
		if x.End >= 0 {
			v.know(x.Epoch, x.From+uint64(x.End-x.Offset), x.after)
		}
		if !x.Gone {
			continue
		}
		if !x.expired {
			continue // somebody else has taken it away, and the name is another file's
		}
		gone[x.Output+"/"+x.File] = true
		if length := x.End - x.Offset; length > 0 {
			v.Expired += length
			v.deleted = append(v.deleted, covered{x.Epoch, x.From, x.From + uint64(length)})
			v.cover(x.Epoch, x.From, x.From+uint64(length))
		}
	}
	v.files = len(gone)
}

// notThere is why bytes are damaged.
const notThere = "the file isn't there, and retention didn't delete it"

// absent says so of files without an end that aren't there, where nothing else has what they began with: they may have had bytes.
func (v *verifier) absent(extents []Extent) {
	if len(extents) == 0 {
		return
	}
	all := newCoverage(slices.Clone(v.covered))
	for i := range extents {
		x := &extents[i]
		if !all.has(x.Epoch, x.From, x.From+1) {
			v.part(Unproved, x, x.From, x.From, notThere+"; how much it had the ledger doesn't know")
		}
	}
}

// place is a position of an epoch.
type place struct{ epoch, position uint64 }

type verifier struct {
	Verification
	known     map[place][]chunk.Digest
	positions map[uint64][]uint64 // of known, by epoch, in order
	covered   []covered
	deleted   []covered         // by retention
	lost      []covered         // by the ledgers' gaps
	repairs   []covered         // positions that are somewhere, by a node's word
	ends      map[string]uint64 // greatest offset of a file, by its path
	files     int               // that retention has deleted
	entries   int               // of all ledgers
}

func newVerifier(identity, log string) *verifier {
	return &verifier{Verification: Verification{Identity: identity, Log: log}, known: make(map[place][]chunk.Digest), positions: make(map[uint64][]uint64), ends: make(map[string]uint64)}
}

// know takes a digest, if it is of the bytes before the position: behind a gap it isn't, and a receiver that was stopped may have bytes there.
func (v *verifier) know(epoch, position uint64, p proof) {
	at := place{epoch, position}
	if p.known && p.digest != chunk.AfterGap(position) && !slices.Contains(v.known[at], p.digest) {
		v.known[at] = append(v.known[at], p.digest)
	}
}

func (v *verifier) cover(epoch, from, to uint64) {
	v.covered = append(v.covered, covered{epoch, from, to})
}

func (v *verifier) part(verdict string, x *Extent, from, to uint64, why string) {
	bytes := int64(min(to-from, math.MaxInt64))
	switch verdict {
	case Damaged: // what a ledger says of positions anybody may have written
		v.Verification.Damaged += min(bytes, math.MaxInt64-v.Verification.Damaged)
	case Unproved:
		v.Verification.Unproved += min(bytes, math.MaxInt64-v.Verification.Unproved)
	}
	v.Parts = append(v.Parts, Part{Verdict: verdict, Epoch: x.Epoch, From: from, To: to, Output: x.Output, File: x.File, Why: why})
}

// readGaps counts the ranges that the ledgers call lost. Those of several receivers may tell of one gap.
func (v *verifier) readGaps(outputs []string) error {
	seen := make(map[covered]bool)
	for _, output := range outputs {
		names, err := Ledgers(output, v.Identity, v.Log)
		if errors.Is(err, ErrNoLedger) {
			continue
		}
		if err != nil {
			return err
		}
		for _, name := range names {
			entries, err := unsealed(filepath.Join(output, name))
			if err != nil {
				return err
			}
			v.entries += len(entries)
			for i := range entries {
				e := &entries[i]
				c := covered{e.Epoch, e.From, e.To}
				switch e.Event {
				case EventDamage:
					v.cover(e.Epoch, e.To, e.To) // so much was committed: what isn't there before it is missing
				case EventEnd:
					v.cover(e.Epoch, e.To, e.To)
					v.know(e.Epoch, e.To, proofOf(e.Digest))
				}
				if e.Event != EventGap && e.Event != EventRepair || e.To <= e.From || seen[c] {
					continue
				}
				seen[c] = true
				if e.Event == EventRepair {
					v.repairs = append(v.repairs, c)
					continue
				}
				v.cover(e.Epoch, e.From, e.To)
				v.lost = append(v.lost, c)
				if v.Gaps++; e.Bytes != nil && *e.Bytes > 0 {
					v.Lost += *e.Bytes
				}
			}
		}
	}
	return nil
}

// holes finds positions that no file, gap or expired file has: a receiver's directory or a ledger is missing.
func (v *verifier) holes() {
	if v.entries == 0 && len(v.covered) == 0 {
		v.part(Unproved, &Extent{}, 0, 0, "the ledger is empty: was it overwritten?")
	}
	if len(v.repairs) > 0 {
		all := newCoverage(slices.Clone(v.covered))
		for _, c := range newCoverage(v.repairs) {
			for _, left := range all.without(c.epoch, c.from, c.to) {
				v.part(Unproved, &Extent{Epoch: c.epoch}, left.from, left.to, "the node was told that they are central, and then both record and receiver lost it")
				v.cover(c.epoch, left.from, left.to)
			}
		}
	}
	slices.SortFunc(v.covered, compareCovered)
	var epoch, at uint64
	for _, c := range v.covered {
		if c.epoch != epoch {
			epoch, at = c.epoch, 0
		}
		if c.from > at {
			v.part(Damaged, &Extent{Epoch: epoch}, at, c.from, "no file below these directories has them: is another receiver's missing?")
		}
		at = max(at, c.to)
	}
}

func (v *verifier) verdict() *Verification {
	slices.SortStableFunc(v.Parts, func(a, b Part) int {
		return cmp.Or(cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.From, b.From))
	})
	v.Verdict = Intact
	for _, p := range v.Parts {
		if slices.Index(verdicts, p.Verdict) > slices.Index(verdicts, v.Verdict) {
			v.Verdict = p.Verdict
		}
	}
	return &v.Verification
}

// Logs lists the logs that have a ledger below the outputs, in order.
func Logs(outputs []string) ([][2]string, error) {
	seen := make(map[[2]string]bool)
	for _, output := range outputs {
		identities, err := os.ReadDir(output)
		if err != nil {
			return nil, err
		}
		for _, dir := range identities {
			identity, err := parsePathName(dir.Name())
			if err != nil || !dir.IsDir() {
				continue // not a node's
			}
			files, err := os.ReadDir(filepath.Join(output, dir.Name()))
			if err != nil {
				return nil, err
			}
			for _, f := range files {
				name, _, found := strings.Cut(f.Name(), "@ledger")
				if log, err := parsePathName(name); found && err == nil && strings.HasSuffix(f.Name(), ".jsonl") {
					seen[[2]string{identity, log}] = true
				}
			}
		}
	}
	all := make([][2]string, 0, len(seen))
	for l := range seen {
		all = append(all, l)
	}
	return inOrder(all), nil
}

func inOrder(logs [][2]string) [][2]string {
	slices.SortFunc(logs, func(a, b [2]string) int { return cmp.Or(strings.Compare(a[0], b[0]), strings.Compare(a[1], b[1])) })
	return slices.Compact(logs)
}

// parsePathName takes what pathName writes.
func parsePathName(s string) (string, error) {
	return chunk.ParseToken(strings.ReplaceAll(s, ".", "=2E"))
}
