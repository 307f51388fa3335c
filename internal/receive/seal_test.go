package receive

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"logforward/internal/chunk"
)

// sealSite is a site whose nodes seal in blocks of so many positions.
func sealSite(t testing.TB, block int, change func(*Config)) *site {
	t.Helper()
	s := newSite(t, change)
	s.sealing = block
	return s
}

// texts are what a log's ledgers, of all receivers, have of seals: "from-to".
func (n *node) sealLines() (all []string) {
	n.s.t.Helper()
	for _, output := range n.s.outputs() {
		names, err := Ledgers(output, n.identity, n.log)
		if errors.Is(err, ErrNoLedger) {
			continue
		}
		n.s.must(err)
		for _, name := range names {
			entries, err := Ledger(filepath.Join(output, name))
			n.s.must(err)
			for _, e := range entries {
				if e.Event != EventSeal {
					continue
				}
				s, err := chunk.ParseSeal(e.Seal)
				n.s.must(err)
				if s.From != e.From || s.To != e.To || e.Epoch == 0 {
					n.s.t.Errorf("%+v", e)
				}
				all = append(all, fmt.Sprintf("%d:%d-%d", e.Epoch, s.From, s.To))
			}
		}
	}
	return all
}

// Blocks that are over are in the ledger, once each, and the part of the last one that there is in the record; all of it over rotation, compression, a gap, a
// new epoch and a restart.
func TestSealsFollowTheLog(t *testing.T) {
	t.Parallel()
	s := sealSite(t, 1000, func(c *Config) { c.RotateSize, c.Compress = 2500, "zstd" })
	s.startReceiver()
	n := s.node("web1", "syslog")
	n.send(n.make(lines(600)), n.make(lines(600)), n.make(lines(300)))
	n.waitConfirmed()
	if got := n.sealLines(); !slices.Equal(got, []string{"1:0-1200"}) {
		t.Errorf("%q", got)
	}
	if r := n.record().Seal; r == nil || r.Epoch != 1 || r.Seal.From != 1200 || r.Seal.To != 1500 {
		t.Errorf("%+v", r)
	}
	n.send(n.gap(100), n.make(lines(1000))) // the block before the gap is over, the one behind it complete
	n.waitConfirmed()
	s.must(s.stopReceiver())
	s.startReceiver()
	n.send(n.make(lines(200)))
	n.waitConfirmed() // rotated before it, at 2500 bytes
	n.prev, n.epoch, n.position, n.digest = n.epoch, n.epoch+1, 0, 0
	n.send(n.make(lines(400)), n.make(lines(700)), n.make(lines(1800)), n.make(lines(50)))
	n.waitConfirmed()
	n.same()
	v := n.sealed()
	if v.Seals.Sealed != int64(len(n.written)) || v.Seals.Last.Epoch != 2 || v.Seals.Last.Position != 2950 || len(v.Seals.Keys) != 1 || !v.Seals.Keys[0].Vouched {
		t.Errorf("%+v", v.Seals)
	}
	want := []string{"1:0-1200", "1:1200-1500", "1:1600-2600", "1:2600-2800", "2:0-1100", "2:1100-2900"}
	if got := n.sealLines(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	eventually(t, "compression", func() (bool, string) {
		m, err := filepath.Glob(filepath.Join(s.config.Output, "web1", "*.zst"))
		return err == nil && len(m) == 2, tree(s.dir)
	})
	n.sealed()
	s.must(s.stopReceiver())
	// The ledgers alone prove all but the part of a block that isn't closed.
	v, err := VerifySealed(t.Context(), s.outputs(), "web1", "syslog", nil, SealOptions{Keys: n.sealer.keys()})
	if err != nil || v.Verdict != Unproved || v.Seals.Unsealed != 50 || v.Seals.Sealed != int64(len(n.written))-50 || !v.Seals.Unbroken {
		t.Errorf("%v, %+v, %+v", err, v, v.Seals)
	}
}

// A file is closed with the seal of the block that goes on in the next one: whoever has the file and its ledger needs no broker.
func TestClosedFileHasItsSeal(t *testing.T) {
	t.Parallel()
	s := sealSite(t, chunk.SealBlock, func(c *Config) { c.RotateSize = 1000 })
	s.startReceiver()
	n := s.node("web1", "syslog")
	for range 4 {
		n.send(n.make(lines(1000)))
		n.waitConfirmed()
	}
	if got := n.sealLines(); !slices.Equal(got, []string{"1:0-1000", "1:0-2000", "1:0-3000"}) {
		t.Errorf("%q", got)
	}
	v, err := Verify(t.Context(), s.outputs(), "web1", "syslog", nil)
	if err != nil || v.Seals == nil || v.Seals.Sealed != 3000 || v.Seals.Unsealed != 1000 || v.Seals.Keys[0].Vouched {
		t.Errorf("%v, %+v", err, v.Seals)
	}
	n.sealed()
}

// Of a block that reaches over a file that retention has deleted the rest can't be proved, and isn't called broken.
func TestRetentionTakesAPartOfABlock(t *testing.T) {
	t.Parallel()
	s := sealSite(t, 1500, func(c *Config) { c.RotateSize, c.RetainCount, c.Compress = 1000, 2, "zstd" })
	s.startReceiver()
	n := s.node("web1", "syslog")
	for range 8 {
		n.send(n.make(lines(500)))
		n.waitConfirmed()
	}
	eventually(t, "retention", func() (bool, string) { return len(n.events(EventExpire)) == 1, tree(s.dir) })
	if v := n.sealed(); v.Expired != 1000 || v.Seals.Unprovable != 500 || v.Seals.Sealed != 2500 {
		t.Errorf("%+v, %+v", v, v.Seals)
	}
}

// Where a node doesn't seal there is nothing of it, in ledger, record, state and result.
func TestNothingOfSealsWithoutThem(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.startReceiver()
	n := s.node("web1", "syslog")
	n.send(n.make("a line\n"))
	n.waitConfirmed()
	value, _, err := s.records().Get(t.Context(), key("web1", "syslog"))
	s.must(err)
	lo, err := s.r.state.log(key("web1", "syslog"))
	s.must(err)
	state, err := json.Marshal(lo)
	s.must(err)
	result, err := json.Marshal(n.verify(Intact))
	s.must(err)
	for _, b := range [][]byte{value, state, result} {
		if strings.Contains(string(b), "seal") {
			t.Errorf("%s", b)
		}
	}
	if v := n.askSeals(SealOptions{Keys: SealKeys{}, All: true}); v.Verdict != Unsealed || v.Seals.Unsealed != 7 || len(v.Parts) != 1 || v.Parts[0].To != 7 {
		t.Errorf("%+v", v)
	}
}

// What isn't taken brings no seal; a chunk that comes again brings one, where it ends at the log's position.
func TestWhichChunksBringASeal(t *testing.T) {
	t.Parallel()
	s := sealSite(t, 1000, nil)
	s.startReceiver()
	n := s.node("web1", "syslog")
	first, second := n.make(lines(300)), n.make(lines(300))
	bare := *second
	bare.Seal = nil
	n.send(first, &bare)
	n.waitConfirmed()
	record := func(to uint64) {
		t.Helper()
		eventually(t, fmt.Sprintf("a seal up to %d", to), func() (bool, string) {
			r := n.record()
			return r.Seal != nil && r.Seal.Seal.To == to && r.Place.Position == n.position && r.Place.Epoch == n.epoch, fmt.Sprintf("%+v", r.Seal)
		})
	}
	record(300)
	n.send(second)
	record(600)
	n.send(first) // it ends before the position: what it says was said
	eventually(t, "the state knows it", func() (bool, string) {
		lo, err := s.r.state.log(key("web1", "syslog"))
		s.must(err)
		return lo.Committed.Seal != nil && lo.Committed.Seal.Seal.To == 600, fmt.Sprintf("%+v", lo)
	})
	fork := *n.make(lines(100))
	fork.Digest ^= 1
	n.send(&fork)
	eventually(t, "fork", func() (bool, string) { return len(n.events(EventFork)) == 1, "" })
	n.prev, n.epoch, n.position, n.digest = 1, 2, 0, 0
	n.sealer.last, n.sealer.prev = nil, second.Seal.ID(n.sealer.of) // it was refused
	n.send(n.make(lines(50)))
	n.waitConfirmed()
	record(50)
	stale := *first
	n.send(&stale)
	n.send(n.make(lines(50)))
	n.waitConfirmed()
	record(100)
	hole := *n.make(lines(50))
	hole.Position += 10
	n.send(&hole)
	eventually(t, "hole", func() (bool, string) {
		n.mu.Lock()
		defer n.mu.Unlock()
		return len(n.resends) > 0, ""
	})
	if r := n.record().Seal; r.Seal.To != 100 {
		t.Errorf("%+v", r.Seal)
	}
	if got := n.sealLines(); !slices.Equal(got, []string{"1:0-600"}) {
		t.Errorf("%q", got)
	}
}

// A gap that begins in what is here already brings the seal of what is before it, and what was sealed beyond that stays sealed.
func TestSealOfAGapOverBytesThatAreHere(t *testing.T) {
	t.Parallel()
	for _, length := range []uint64{60, 100} { // up to the end of what is here, and beyond
		t.Run(fmt.Sprint(length), func(t *testing.T) {
			t.Parallel()
			s := sealSite(t, 1000, nil)
			s.startReceiver()
			n := s.node("web1", "syslog")
			first, second := n.make(lines(300)), n.make(lines(60))
			n.send(first, second)
			n.waitConfirmed()
			n.position, n.digest, n.sealer.last = first.End(), first.DigestAfter(), first.Seal
			gap := n.gap(length)
			n.mu.Lock()
			n.confirmed = chunk.Confirm{} // of the same position, with another digest
			n.mu.Unlock()
			n.send(gap)
			n.waitConfirmed()
			n.send(n.make(lines(100)))
			n.waitConfirmed()
			v := n.sealed()
			if v.Seals.Sealed != 460 {
				t.Errorf("%+v\n%s", v.Seals, tree(s.dir))
			}
		})
	}
}

// TestSealsSurviveAnyStep is TestCommitSurvivesAnyStep with a node that seals: at no step a crash loses the seal of a block that is over.
func TestSealsSurviveAnyStep(t *testing.T) {
	ops := []string{opCreate, opAppend, opSync, opSyncDir, opNames, opPrepare, opRecord, opCommit, opConfirm, opAck, opClose, opRename}
	for _, op := range ops {
		for name, err := range map[string]error{"crash": errStopped, "ENOSPC": syscall.ENOSPC} {
			for _, done := range []bool{false, true} {
				if done && name != "crash" {
					continue
				}
				for _, nth := range []int{0, 1, 4} {
					t.Run(fmt.Sprintf("%s/%s/%t/%d", op, name, done, nth), func(t *testing.T) {
						t.Parallel()
						f := &fault{op: op, done: done, n: nth, err: err, hit: make(chan struct{})}
						s := sealSite(t, 500, func(c *Config) { c.RotateSize, c.fault = 2000, f.check })
						survive(t, s, f)
					})
				}
			}
		}
	}
}

// The broker loses an update that has landed, and its receiver crashes before it knows: what is carried through brings its seal along, also that of a
// block which is complete, and which no chunk will name any more.
func TestSealIsCarriedThrough(t *testing.T) {
	t.Parallel()
	for _, wipe := range []bool{false, true} {
		t.Run(fmt.Sprintf("wiped %t", wipe), func(t *testing.T) {
			t.Parallel()
			s := sealSite(t, 1000, nil)
			n := s.node("web1", "syslog")
			s.steady(n, lines(300))
			before := n.record()
			f := s.crashAt(opRecord, true)
			s.startReceiver()
			n.send(n.make(lines(400)))
			s.crashed(f)
			if wipe {
				s.wipe()
				s.setup(1)
				n.listen()
			} else {
				s.rewrite(n, func(rec *record, _ *node) { *rec = *before })
				s.purge("logs.0.web1.syslog") // so that nothing comes again
			}
			s.startReceiver()
			eventually(t, "the record", func() (bool, string) {
				v, _, err := s.recordsIfAny(n)
				if err != nil {
					return false, err.Error()
				}
				return v.Seal != nil && v.Seal.Seal.To == 700, fmt.Sprintf("%+v", v.Seal)
			})
			n.waitConfirmed()
			n.same()
		})
	}
}

// recordsIfAny reads the log's record.
func (s *site) recordsIfAny(n *node) (*record, uint64, error) {
	value, rev, err := s.records().Get(s.t.Context(), key(n.identity, n.log))
	if err != nil {
		return nil, 0, err
	}
	r, err := parseRecord(value)
	return r, rev, err
}

// What is committed in a receiver's own state gives a wiped bucket its seal back.
func TestWipedBucketGetsTheSealBack(t *testing.T) {
	t.Parallel()
	s := sealSite(t, 1000, nil)
	n := s.node("web1", "syslog")
	s.startReceiver()
	n.send(n.make(lines(1200)), n.make(lines(300)))
	n.waitConfirmed()
	s.must(s.stopReceiver())
	s.wipe()
	s.setup(1)
	n.listen()
	s.startReceiver()
	eventually(t, "the record", func() (bool, string) {
		r, _, err := s.recordsIfAny(n)
		return err == nil && r.Seal != nil && r.Seal.Seal.To == 1500, fmt.Sprint(r, err)
	})
	n.same()
	n.send(n.make(lines(100)))
	n.waitConfirmed()
	if v := n.sealed(); v.Seals.Last.Position != 1600 {
		t.Errorf("%+v", v.Seals)
	}
}

// Two receivers share a block, and each writes down what becomes final with it.
func TestTakeOverInABlock(t *testing.T) {
	t.Parallel()
	for _, shared := range []bool{false, true} {
		t.Run(fmt.Sprintf("shared %t", shared), func(t *testing.T) {
			t.Parallel()
			s := sealSite(t, 1000, nil)
			r2 := s.beside("r2", shared)
			n := s.node("web1", "syslog")
			s.steady(n, lines(600))
			r2.startReceiver()
			n.send(n.make(lines(300)))
			n.waitConfirmed()
			s.must(r2.stopReceiver())
			n.same()
			s.startReceiver()
			n.send(n.make(lines(300)))
			n.waitConfirmed() // the first block is over, with 300 bytes of r2's in its middle
			s.must(s.stopReceiver())
			r2.startReceiver()
			n.send(n.make(lines(100)))
			n.waitConfirmed()
			v := n.sealed()
			if v.Seals.Sealed != 1300 || v.Seals.Count < 2 {
				t.Errorf("%+v", v.Seals)
			}
			n.same()
			if !shared {
				v, err := VerifySealed(t.Context(), []string{s.config.Output}, "web1", "syslog", nil, SealOptions{Keys: n.sealer.keys()})
				if err != nil || v.Verdict != Damaged {
					t.Errorf("without r2's directory: %v, %+v", err, v)
				}
			}
		})
	}
}

// Whoever takes over where a block is over writes down the seal that the record has of it.
func TestTakeOverBetweenBlocks(t *testing.T) {
	t.Parallel()
	s := sealSite(t, 1000, nil)
	r2 := s.beside("r2", false)
	n := s.node("web1", "syslog")
	s.steady(n, lines(1200))
	if got := n.sealLines(); len(got) != 0 {
		t.Errorf("the first one has written down %q", got)
	}
	r2.startReceiver()
	n.send(n.make(lines(300)))
	n.waitConfirmed()
	if got := n.sealLines(); !slices.Equal(got, []string{"1:0-1200"}) {
		t.Errorf("%q", got)
	}
	n.same()
}

// The record that had the last seal of a block is lost before another receiver goes on with the next one: the first one has it, and says so when it is back, whether
// it works the partition then or not.
func TestSealThatTheFormerReceiverAloneKnows(t *testing.T) {
	t.Parallel()
	for _, works := range []bool{false, true} {
		t.Run(fmt.Sprint("it works the partition: ", works), func(t *testing.T) {
			t.Parallel()
			s := sealSite(t, 1000, nil)
			r2 := s.beside("r2", false)
			n := s.node("web1", "syslog")
			s.steady(n, lines(1200))
			s.rewrite(n, func(rec *record, _ *node) { rec.Seal = nil })
			r2.startReceiver()
			n.send(n.make(lines(300)))
			n.waitConfirmed()
			if got := n.sealLines(); len(got) != 0 {
				t.Errorf("%q", got)
			}
			if works {
				s.must(r2.stopReceiver())
			}
			s.startReceiver()
			eventually(t, "it says so", func() (bool, string) {
				got := n.sealLines()
				return slices.Equal(got, []string{"1:0-1200"}), fmt.Sprint(got)
			})
			if v := n.sealed(); v.Verdict != Intact || v.Seals.Sealed != 1500 {
				t.Errorf("%s, %+v", v.Verdict, v.Seals)
			}
		})
	}
}

// An older program drops the seal of record and state when it writes them. It does no other harm: its bytes are unsealed at most until the
// block's next seal comes.
func TestOlderProgramDropsTheSeal(t *testing.T) {
	t.Parallel()
	for _, next := range []int{100, 600} { // in the same block, and one that completes it
		t.Run(fmt.Sprint(next), func(t *testing.T) {
			t.Parallel()
			s := sealSite(t, 1000, nil)
			n := s.node("web1", "syslog")
			s.steady(n, lines(500))
			s.rewrite(n, func(rec *record, _ *node) { rec.Seal = nil })
			s.startReceiver()
			k := key("web1", "syslog")
			n.place(t, n.here())
			s.must(s.stopReceiver())
			s.openStateAlone(func(st *state) {
				lo, err := st.log(k)
				s.must(err)
				lo.Committed.Seal = nil
				s.must(st.put("", map[string]*local{k: lo}, nil))
			})
			s.rewrite(n, func(rec *record, _ *node) { rec.Seal = nil })
			if v := n.askSeals(n.recorded(SealOptions{Keys: n.sealer.keys(), All: true})); v.Verdict != Unsealed || v.Seals.Unsealed != 500 {
				t.Errorf("%+v", v.Seals)
			}
			s.startReceiver()
			n.send(n.make(lines(next)), n.make(lines(50)))
			n.waitConfirmed()
			n.same()
			if v := n.sealed(); v.Seals.Sealed != int64(len(n.written)) {
				t.Errorf("%+v", v.Seals)
			}
		})
	}
}

// openStateAlone opens the state of a receiver that is stopped.
func (s *site) openStateAlone(do func(*state)) {
	s.t.Helper()
	st, note, err := openState(s.config.State, &disk{})
	s.must(errors.Join(note, err))
	do(st)
	s.must(st.close())
}

// A seal that can't be read, in record and state, is none.
func TestUnreadableSealIsNone(t *testing.T) {
	t.Parallel()
	for _, seal := range []string{`null`, `7`, `{}`, `{"epoch":-1}`, `{"epoch":1,"seal":"x"}`, `{"epoch":1,"seal":{}}`, `{"epoch":1,"seal":"0 0 0 0 0 0 0"}`} {
		r, err := parseRecord([]byte(`{"place":{"epoch":1,"position":10},"seal":` + seal + `}`))
		if err != nil || r.Seal != nil {
			t.Errorf("%s: %+v, %v", seal, r, err)
		}
		var lo local
		if err := json.Unmarshal([]byte(`{"committed":{"seal":`+seal+`}}`), &lo); err != nil || laterSeal(lo.Committed.Seal, nil) != nil || lo.Committed.Seal.elsewhere() != nil {
			t.Errorf("%s: %+v, %v", seal, lo, err)
		}
	}
}

// A ledger that somebody cut loses the line of the last seal: it is written once more, when it becomes final.
func TestSealAfterTheLedgerWasCut(t *testing.T) {
	t.Parallel()
	s := sealSite(t, chunk.SealBlock, nil)
	n := s.node("web1", "syslog")
	s.steady(n, lines(chunk.SealBlock/2))
	s.steady(n, lines(chunk.SealBlock/2+100))
	if got := n.sealLines(); !slices.Equal(got, []string{"1:0-1048676"}) { // as soon as it is complete
		t.Errorf("%q", got)
	}
	path := filepath.Join(s.config.Output, "web1", "syslog@ledger.jsonl")
	b, err := os.ReadFile(path)
	s.must(err)
	i := strings.Index(string(b), `"event":"seal"`)
	if i < 0 {
		t.Fatalf("no seal in %s", b)
	}
	s.must(os.Truncate(path, int64(strings.LastIndexByte(string(b[:i]), '\n')+1)))
	s.startReceiver()
	n.send(n.make(lines(100)))
	n.waitConfirmed()
	if got := n.sealLines(); !slices.Equal(got, []string{"1:0-1048676"}) {
		t.Errorf("%q", got)
	}
	n.sealed()
}
