package receive

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"logforward/internal/chunk"
)

// sealedLog is what a receiver left of a log of 3500 bytes in one epoch: three closed files of 1000 bytes and one that is written to. There is no broker.
type sealedLog struct {
	t        *testing.T
	output   string
	node     *node
	recorded *RecordedSeal
	made     []*chunk.Chunk // of 500 bytes each
}

// sealedLogs makes copies of such a log, whose node has sealed it in blocks of so many positions.
func sealedLogs(t *testing.T, block int) func(t *testing.T) *sealedLog {
	t.Helper()
	s := sealSite(t, block, func(c *Config) { c.RotateSize = 1000 })
	s.startReceiver()
	n := s.node("web1", "syslog")
	x := sealedLog{node: n}
	for i := range 7 {
		c := n.make(strings.Repeat(fmt.Sprintf("line %3d\n", i), 56)[:499] + "\n")
		x.made = append(x.made, c)
		n.send(c)
		n.waitConfirmed()
	}
	n.same()
	x.recorded = n.recorded(SealOptions{}).Recorded
	s.must(s.stopReceiver())
	return func(t *testing.T) *sealedLog {
		copied := x
		copied.t, copied.output = t, filepath.Join(t.TempDir(), "out")
		if err := os.CopyFS(copied.output, os.DirFS(s.config.Output)); err != nil {
			t.Fatal(err)
		}
		return &copied
	}
}

func (x *sealedLog) must(err error) {
	x.t.Helper()
	if err != nil {
		x.t.Fatal(err)
	}
}

func (x *sealedLog) path() string { return filepath.Join(x.output, "web1", "syslog@ledger.jsonl") }

// edit changes the ledger, as who owns the centre can.
func (x *sealedLog) edit(change func([]Entry) []Entry) {
	x.t.Helper()
	entries, err := Ledger(x.path())
	x.must(err)
	var b bytes.Buffer
	for _, e := range change(entries) {
		line, err := e.line()
		x.must(err)
		b.Write(line)
	}
	x.must(os.WriteFile(x.path(), b.Bytes(), 0o600))
}

// closed are the paths of the closed files, in order.
func (x *sealedLog) closed() (paths []string) {
	entries, err := Ledger(x.path())
	x.must(err)
	for _, e := range entries {
		if e.Event == EventClose {
			paths = append(paths, filepath.Join(x.output, e.Name))
		}
	}
	if len(paths) != 3 {
		x.t.Fatalf("%q", paths)
	}
	return paths
}

func (x *sealedLog) change(path string, change func([]byte)) {
	b, err := os.ReadFile(path)
	x.must(err)
	change(b)
	x.must(os.WriteFile(path, b, 0o600))
}

// forge has the ledger's digests be those of the bytes that are there now.
func (x *sealedLog) forge() {
	x.t.Helper()
	var b bytes.Buffer
	_, err := Cat(&b, []string{x.output}, "web1", "syslog")
	x.must(err)
	x.edit(func(entries []Entry) []Entry {
		for i := range entries {
			e := &entries[i]
			at := e.To
			if e.Event == EventRange {
				at = e.From
			}
			if e.Digest != nil {
				d := chunk.Sum(b.Bytes()[:at])
				e.Digest = &d
			}
		}
		return entries
	})
	x.withoutSeals(func(y *sealedLog) { // a forger who knows his trade
		if v := y.ask(SealOptions{}); v.Verdict == Damaged || v.Verdict == Forged || v.Seals != nil {
			x.t.Fatalf("seen without seals, too: %+v", v)
		}
	})
}

// withoutSeals looks at a copy whose ledger has none.
func (x *sealedLog) withoutSeals(look func(*sealedLog)) {
	y := *x
	y.output, y.recorded = filepath.Join(x.t.TempDir(), "out"), nil
	x.must(os.CopyFS(y.output, os.DirFS(x.output)))
	y.dropSeals(func(*chunk.Seal) bool { return true })
	look(&y)
}

func (x *sealedLog) dropSeals(which func(*chunk.Seal) bool) {
	x.edit(func(entries []Entry) []Entry {
		return slices.DeleteFunc(entries, func(e Entry) bool {
			s, err := chunk.ParseSeal(e.Seal)
			return err == nil && which(s)
		})
	})
}

func (x *sealedLog) ask(o SealOptions) *Verification {
	x.t.Helper()
	o.Recorded = x.recorded
	v, err := VerifySealed(x.t.Context(), []string{x.output}, "web1", "syslog", nil, o)
	x.must(err)
	return v
}

// lose has the second file be a gap by the ledger, whose digests older ledgers didn't have either.
func (x *sealedLog) lose() {
	files := x.closed()
	x.must(os.Remove(files[1]))
	x.edit(func(entries []Entry) []Entry {
		var kept []Entry
		for _, e := range entries {
			e.Digest = nil
			if e.Event == EventRange && e.From == 1000 || e.Event == EventClose && e.To == 2000 {
				continue
			}
			kept = append(kept, e)
			if e.Event == EventRange && e.From == 2000 {
				kept[len(kept)-1].From = 1000
				lost := int64(1000)
				kept = append(kept, Entry{Time: e.Time, Event: EventGap, Epoch: 1, From: 1000, To: 2000, File: e.File, Cause: "truncated", Bytes: &lost})
			}
		}
		return kept
	})
}

// reseal signs all seals once more, with another key or for another log, and changed.
func (x *sealedLog) reseal(key ed25519.PrivateKey, of chunk.SealOf, change func(*chunk.Seal)) {
	again := func(s *chunk.Seal) *chunk.Seal {
		y := *s
		if change != nil {
			change(&y)
		}
		y.Sign(of, key, s.Time)
		return &y
	}
	x.edit(func(entries []Entry) []Entry {
		for i := range entries {
			if s, err := chunk.ParseSeal(entries[i].Seal); err == nil {
				entries[i].Seal = again(s).String()
			}
		}
		return entries
	})
	x.recorded = &RecordedSeal{1, again(x.recorded.Seal)}
}

func TestSealsFindWhatDigestsDoNot(t *testing.T) {
	t.Parallel()
	across, aligned := sealedLogs(t, 1500), sealedLogs(t, 1000) // blocks that reach over two files, and as long as they are
	_, evil, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	whose := chunk.SealOf{Identity: "web1", Log: "syslog", Epoch: 1}
	for name, c := range map[string]struct {
		log      func(*testing.T) *sealedLog
		change   func(x *sealedLog, o *SealOptions)
		verdict  string
		from, to uint64 // of the part that says why
		why      string // empty: no part but what isn't proved by digests
		check    func(x *sealedLog, v *Verification)
	}{
		"nothing": {across, nil, Unproved, 0, 0, "", func(x *sealedLog, v *Verification) {
			if s := v.Seals; s.Sealed != 3500 || !s.Unbroken || s.Last == nil || s.Last.Position != 3500 || s.Count != 5 {
				x.t.Errorf("%+v", s)
			}
		}},
		"bytes, and the digests": {across, func(x *sealedLog, _ *SealOptions) {
			x.change(x.closed()[1], func(b []byte) { b[100] ^= 1 })
			x.forge()
		}, Forged, 0, 1500, "other bytes than the node sealed", func(x *sealedLog, v *Verification) {
			if s := v.Seals; s.Broken != 500 || s.Sealed != 3000 { // what was sealed before it, up to 1000, fits
				x.t.Errorf("%+v", s)
			}
		}},
		"bytes alone": {across, func(x *sealedLog, _ *SealOptions) {
			x.change(x.closed()[0], func(b []byte) { b[100] ^= 1 })
		}, Damaged, 0, 1000, "other bytes than the node sealed", nil},
		"a file removed":          {across, func(x *sealedLog, _ *SealOptions) { x.must(os.Remove(x.closed()[1])) }, Damaged, 0, 1500, "they aren't here", nil},
		"a file called lost":      {across, func(x *sealedLog, _ *SealOptions) { x.lose() }, Forged, 0, 1500, "position 1000, which the ledger calls lost", nil},
		"a whole block, its seal": {aligned, func(x *sealedLog, _ *SealOptions) { x.lose(); x.drop(1000) }, Unsealed, 2000, 2000, "the seal before this one isn't here", nil},
		"the same, not asked for": {aligned, func(x *sealedLog, o *SealOptions) { x.lose(); x.drop(1000); o.All = false }, Unproved, 2000, 2000, "may have been taken away", func(x *sealedLog, v *Verification) {
			if s := v.Seals; s.Unbroken || len(s.Breaks) != 1 || !s.Breaks[0].Missing {
				x.t.Errorf("%+v", s)
			}
		}},
		"files swapped": {aligned, func(x *sealedLog, _ *SealOptions) {
			f := x.closed()
			x.must(os.Rename(f[0], f[0]+".x"))
			x.must(os.Rename(f[1], f[0]))
			x.must(os.Rename(f[0]+".x", f[1]))
			x.forge()
		}, Forged, 0, 1000, "other bytes than the node sealed", nil},
		"a seal's line removed": {aligned, func(x *sealedLog, _ *SealOptions) { x.drop(1000) }, Unsealed, 1000, 2000, "no seal of a key", nil},
		"seals of another log": {across, func(x *sealedLog, _ *SealOptions) {
			x.reseal(x.node.sealer.key, chunk.SealOf{Identity: "web1", Log: "other", Epoch: 1}, nil)
		}, Forged, 0, 1000, "signature doesn't fit", nil},
		"seals of another epoch": {across, func(x *sealedLog, _ *SealOptions) {
			x.reseal(x.node.sealer.key, chunk.SealOf{Identity: "web1", Log: "syslog", Epoch: 2}, nil)
		}, Forged, 0, 1000, "signature doesn't fit", nil},
		"seals of another node": {across, func(x *sealedLog, _ *SealOptions) {
			x.reseal(evil, chunk.SealOf{Identity: "web2", Log: "syslog", Epoch: 1}, nil)
		}, Forged, 0, 1000, "signature doesn't fit", nil},
		"a seal in plain sight, too": {across, func(x *sealedLog, _ *SealOptions) {
			x.edit(func(e []Entry) []Entry {
				return append(e, Entry{Event: EventSeal, Epoch: 1, From: 5, To: 9, Seal: "5 9 nonsense"})
			})
		}, Forged, 5, 9, "can't be read", nil},
		"a forger's key": {across, func(x *sealedLog, _ *SealOptions) { x.reseal(evil, whose, nil) }, Forged, 0, 1000, "isn't among those given for web1", func(x *sealedLog, v *Verification) {
			if s := v.Seals; s.Sealed != 0 || s.Unsealed != 3500 || len(s.Keys) != 1 || s.Keys[0].Vouched {
				x.t.Errorf("%+v", s)
			}
		}},
		"a forger's key, that nobody speaks against": {across, func(x *sealedLog, o *SealOptions) {
			x.reseal(evil, whose, nil)
			*o = SealOptions{}
		}, Unproved, 0, 0, "", func(x *sealedLog, v *Verification) {
			if s := v.Seals; s.Sealed != 3500 || s.Keys[0].Vouched {
				x.t.Errorf("%+v", s)
			}
		}},
		"keys of others": {across, func(x *sealedLog, o *SealOptions) { o.Keys = SealKeys{"web2": o.Keys["web1"]} }, Unsealed, 0, 3500, "no key is given for web1", nil},
		"two keys": {across, func(x *sealedLog, o *SealOptions) {
			o.Keys = SealKeys{"web1": {evil.Public().(ed25519.PublicKey), o.Keys["web1"][0]}}
		}, Unproved, 0, 0, "", nil},
		"a signed lie": {across, func(x *sealedLog, _ *SealOptions) {
			x.reseal(x.node.sealer.key, whose, func(s *chunk.Seal) {
				if s.To == 3500 {
					s.Sum[0]++
				}
			})
		}, Forged, 3000, 3500, "other bytes than the node sealed", nil},
		"the end removed": {across, func(x *sealedLog, _ *SealOptions) { x.cut() }, Intact, 0, 0, "", func(x *sealedLog, v *Verification) {
			if s := v.Seals; s.Sealed != 3000 {
				x.t.Errorf("%+v", s)
			}
		}},
		"the end removed, and the node's word kept": {across, func(x *sealedLog, o *SealOptions) {
			o.Expect = &SealPoint{1, 3500, x.made[6].Seal.ID(whose)}
			x.cut()
		}, Damaged, 3500, 3500, "the end was taken away, unless the broker's record has the seal", nil},
		"the end removed, and its seal left": {across, func(x *sealedLog, _ *SealOptions) {
			x.must(os.Remove(filepath.Join(x.output, "web1", "syslog.log")))
		}, Damaged, 3000, 3500, "they aren't here", func(x *sealedLog, v *Verification) {
			if v.Damaged != 500 {
				x.t.Errorf("%+v", v)
			}
		}},
		"the node's word of a part of a block": {across, func(x *sealedLog, o *SealOptions) { o.Expect = &SealPoint{1, 500, x.made[0].Seal.ID(whose)} }, Unproved, 0, 0, "", nil},
		"the node's word of other bytes":       {across, func(x *sealedLog, o *SealOptions) { o.Expect = &SealPoint{1, 500, x.made[1].Seal.ID(whose)} }, Forged, 500, 500, "other bytes up to here", nil},
		"the node's word of another epoch":     {across, func(x *sealedLog, o *SealOptions) { o.Expect = &SealPoint{2, 500, x.made[0].Seal.ID(whose)} }, Damaged, 500, 500, "the end was taken away", nil},
		"retention": {across, func(x *sealedLog, o *SealOptions) { x.expire() }, Unproved, 0, 0, "", func(x *sealedLog, v *Verification) {
			if s := v.Seals; s.Unprovable != 500 || s.Sealed != 2000 || s.Unsealed != 0 || !s.Unbroken || v.Expired != 1000 {
				x.t.Errorf("%+v", s)
			}
		}},
		"retention, and the node's word of what it took": {across, func(x *sealedLog, o *SealOptions) {
			o.Expect = &SealPoint{1, 500, x.made[0].Seal.ID(whose)}
			x.expire()
		}, Unproved, 500, 500, "not all of these bytes", nil},
		"the node began anew": {across, func(x *sealedLog, _ *SealOptions) {
			x.reseal(x.node.sealer.key, whose, func(s *chunk.Seal) {
				if s.From == 3000 {
					s.Prev = chunk.Hash{}
				}
			})
		}, Unproved, 0, 0, "", func(x *sealedLog, v *Verification) {
			if s := v.Seals; s.Unbroken || len(s.Breaks) != 1 || s.Breaks[0].Missing || s.Breaks[0].Position != 3000 || s.Sealed != 3500 {
				x.t.Errorf("%+v", s)
			}
		}},
		"a name of what never came": {across, func(x *sealedLog, _ *SealOptions) {
			x.reseal(x.node.sealer.key, whose, func(s *chunk.Seal) {
				if s.From == 3000 {
					s.Prev[0]++
				}
			})
		}, Unproved, 0, 0, "", func(x *sealedLog, v *Verification) {
			if s := v.Seals; s.Unbroken || len(s.Breaks) != 1 || s.Breaks[0].Missing {
				x.t.Errorf("%+v", s)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			x := c.log(t)
			o := SealOptions{Keys: x.node.sealer.keys(), All: true}
			if c.change != nil {
				c.change(x, &o)
			}
			v := x.ask(o)
			if v.Verdict != c.verdict {
				t.Errorf("%+v\n%+v", v, v.Seals)
			}
			said := slices.DeleteFunc(slices.Clone(v.Parts), func(p Part) bool { return p.Verdict == Unproved && p.File != "" })
			i := slices.IndexFunc(said, func(p Part) bool { return strings.Contains(p.Why, c.why) && p.From == c.from && p.To == c.to })
			if c.why == "" && len(said) > 0 || c.why != "" && (i < 0 || said[i].Verdict != c.verdict) {
				t.Errorf("%+v", v.Parts)
			}
			if c.check != nil {
				c.check(x, v)
			}
		})
	}
}

// drop removes the seals that begin at a position.
func (x *sealedLog) drop(from uint64) {
	x.dropSeals(func(s *chunk.Seal) bool { return s.From == from })
}

// cut takes the file that is written to away, with all that tells of it.
func (x *sealedLog) cut() {
	x.must(os.Remove(filepath.Join(x.output, "web1", "syslog.log")))
	x.edit(func(entries []Entry) []Entry {
		return slices.DeleteFunc(entries, func(e Entry) bool { return e.Event == EventRange && e.From == 3000 })
	})
	x.recorded = nil
}

// expire deletes the first file, as retention does.
func (x *sealedLog) expire() {
	first := x.closed()[0]
	x.must(os.Remove(first))
	name, err := filepath.Rel(x.output, first)
	x.must(err)
	x.edit(func(entries []Entry) []Entry {
		return append(entries, Entry{Event: EventExpire, Epoch: 1, File: name, Size: 1000})
	})
}

// handmade is a log of one closed file, whose ledger has these lines, too.
func handmade(t testing.TB, data []byte, lines func(each func(*chunk.Seal, uint64))) string {
	t.Helper()
	output := t.TempDir()
	if err := os.MkdirAll(filepath.Join(output, "web1"), 0o755); err != nil {
		t.Fatal(err)
	}
	digest, zero := chunk.Sum(data), chunk.Digest(0)
	f, err := os.Create(filepath.Join(output, "web1", "syslog@ledger.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	add := func(e Entry) {
		line, err := e.line()
		if err != nil {
			t.Fatal(err)
		}
		b.Write(line)
	}
	add(Entry{Event: EventRange, Epoch: 1, File: "web1/syslog.log", Digest: &zero})
	lines(func(s *chunk.Seal, epoch uint64) {
		add(Entry{Event: EventSeal, Epoch: epoch, From: s.From, To: s.To, Seal: s.String()})
	})
	add(Entry{Event: EventClose, Epoch: 1, To: uint64(len(data)), File: "web1/syslog.log", Name: "web1/syslog@1.log", Size: int64(len(data)), Digest: &digest})
	_, err = f.Write(b.Bytes())
	if err2 := f.Close(); err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	if err := os.WriteFile(filepath.Join(output, "web1", "syslog@1.log"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	return output
}

// What a forger or a broken node may have written costs no more than reading it: no seal is computed beyond the bytes that are there, few at a time, and
// what can't be said of all is said of some.
func TestHostileSeals(t *testing.T) {
	t.Parallel()
	x := newNodeSeals("web1", "syslog", 1000)
	of := chunk.SealOf{Identity: "web1", Log: "syslog", Epoch: 1}
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
	sign := func(from, to, epoch uint64) *chunk.Seal {
		s := &chunk.Seal{From: from, To: to}
		if to <= uint64(len(data)) {
			s.Sum = sha256.Sum256(data[from:to])
		}
		of := of
		of.Epoch = epoch
		s.Sign(of, x.key, time.Unix(1e9, 0))
		return s
	}
	for name, c := range map[string]struct {
		lines   func(each func(*chunk.Seal, uint64))
		verdict string
		sealed  int64
		why     string
	}{
		"as long as can be": {func(each func(*chunk.Seal, uint64)) {
			each(sign(0, chunk.MaxPosition, 1), 1)
			each(sign(1, chunk.MaxPosition, 1), 1)
			each(sign(0, chunk.MaxPosition, 1<<64-1), 1<<64-1)
		}, Damaged, 0, "aren't here"},
		"many that overlap": {func(each func(*chunk.Seal, uint64)) {
			for i := range uint64(100) {
				each(sign(i, uint64(len(data))-100+i, 1), 1)
			}
		}, Unproved, 1<<20 - 100 + 7, "overlap here"},
		"many ends": {func(each func(*chunk.Seal, uint64)) {
			for i := 1; i <= 2000; i++ {
				s := &chunk.Seal{To: uint64(i), Sum: sha256.Sum256(data[:i])}
				s.Sign(of, x.key, time.Unix(1e9, 0))
				each(s, 1)
			}
		}, Intact, 2000, ""},
		"many that nobody signed": {func(each func(*chunk.Seal, uint64)) {
			s := sign(0, 10, 1)
			s.Signature[3]++
			for range 3000 {
				each(s, 1)
			}
		}, Forged, 0, "2000 more parts"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			output := handmade(t, data, c.lines)
			v, err := VerifySealed(t.Context(), []string{output}, "web1", "syslog", nil, SealOptions{Keys: x.keys()})
			if err != nil {
				t.Fatal(err)
			}
			if v.Verdict != c.verdict || v.Seals.Sealed != c.sealed || v.Damaged < 0 || v.Unproved < 0 || v.Seals.Unsealed+v.Seals.Sealed+v.Seals.Broken != 1<<20 {
				t.Errorf("%s, %d %d, %+v, %.1000s", v.Verdict, v.Damaged, v.Unproved, v.Seals, fmt.Sprint(v.Parts))
			}
			if len(v.Parts) > maxSealParts+20 || c.why != "" && !slices.ContainsFunc(v.Parts, func(p Part) bool { return strings.Contains(p.Why, c.why) }) {
				t.Errorf("%d parts: %.1000s", len(v.Parts), fmt.Sprint(v.Parts))
			}
		})
	}
	t.Run("a line without end", func(t *testing.T) {
		t.Parallel()
		output := handmade(t, data, func(func(*chunk.Seal, uint64)) {})
		path := filepath.Join(output, "web1", "syslog@ledger.jsonl")
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(f, `{"event":"seal","seal":"%s"`, strings.Repeat("0", 2*maxLine))
		f.Close()
		for _, err := range []error{
			second(VerifySealed(t.Context(), []string{output}, "web1", "syslog", nil, SealOptions{})),
			second(Ledger(path)), second(Extents([]string{output}, "web1", "syslog")),
		} {
			if err == nil || !strings.Contains(err.Error(), "line 3 is longer than 1048576 bytes") {
				t.Error(err)
			}
		}
	})
	t.Run("texts that are no seal", func(t *testing.T) {
		t.Parallel()
		output := handmade(t, data, func(func(*chunk.Seal, uint64)) {})
		f, err := os.OpenFile(filepath.Join(output, "web1", "syslog@ledger.jsonl"), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(f, `{"event":"seal"}`+"\n"+`{"event":"seal","seal":"\u001b[31m","from":18446744073709551615}`+"\n"+`{"event" : "seal","from":5}`+"\n")
		f.Close()
		v, err := VerifySealed(t.Context(), []string{output}, "web1", "syslog", nil, SealOptions{})
		if err != nil || v.Verdict != Forged || len(v.Parts) != 2 || strings.Contains(fmt.Sprint(v.Parts), "\x1b") {
			t.Errorf("%+v, %v", v, err)
		}
	})
}

func second[T any](_ T, err error) error { return err }

// BenchmarkVerifySeals is what a seal costs in verification, but for the hash of its bytes. One operation is a log of 50,000 seals.
func BenchmarkVerifySeals(b *testing.B) {
	const seals, size = 50000, 16
	data := make([]byte, seals*size)
	x := newNodeSeals("web1", "syslog", size)
	output := handmade(b, data, func(each func(*chunk.Seal, uint64)) {
		for at := 0; at < len(data); at += size {
			c := &chunk.Chunk{Epoch: 1, Position: uint64(at), Length: size, Data: data[at : at+size]}
			x.sign(c)
			each(c.Seal, 1)
		}
	})
	b.ReportAllocs()
	for b.Loop() {
		v, err := VerifySealed(b.Context(), []string{output}, "web1", "syslog", nil, SealOptions{Keys: x.keys(), All: true})
		if err != nil || v.Verdict != Intact || v.Seals.Sealed != int64(len(data)) || !v.Seals.Unbroken {
			b.Fatalf("%+v, %+v, %v", v, v.Seals, err)
		}
	}
}

// Random blocks, losses of lines and changed bytes: whatever is called sealed is the node's, and what nobody touched is.
func TestRandomSeals(t *testing.T) {
	t.Parallel()
	seed := testSeed(t)
	rng := rand.New(rand.NewPCG(seed, 3))
	for range 300 {
		data := make([]byte, 1+rng.IntN(3000))
		for i := range data {
			data[i] = byte(rng.IntN(4))
		}
		x := newNodeSeals("web1", "syslog", 1+rng.Uint64N(600))
		var seals []*chunk.Seal
		for at := 0; at < len(data); {
			n := min(1+rng.IntN(300), len(data)-at)
			c := &chunk.Chunk{Epoch: 1, Position: uint64(at), Length: uint64(n), Data: data[at : at+n]}
			x.sign(c)
			at += n
			if seals = append(seals, c.Seal); rng.IntN(20) == 0 { // it lost its memory
				x.end(uint64(at))
				x.prev = chunk.Hash{}
			}
		}
		kept := slices.DeleteFunc(slices.Clone(seals), func(*chunk.Seal) bool { return rng.IntN(3) == 0 })
		rng.Shuffle(len(kept), func(i, j int) { kept[i], kept[j] = kept[j], kept[i] })
		there := bytes.Clone(data)
		changed := -1
		if rng.IntN(2) == 0 {
			changed = rng.IntN(len(there))
			there[changed] ^= 8
		}
		var want int64 // bytes that are under a seal that the change doesn't touch
		broken := false
		of := make([]bool, len(data))
		for _, s := range kept {
			hit := changed >= 0 && s.From <= uint64(changed) && uint64(changed) < s.To
			broken = broken || hit
			for i := s.From; i < s.To && !hit; i++ {
				of[i] = true
			}
		}
		for _, is := range of {
			if is {
				want++
			}
		}
		output := handmade(t, there, func(each func(*chunk.Seal, uint64)) {
			for _, s := range kept {
				each(s, 1)
				if rng.IntN(4) == 0 { // two receivers have written it down
					each(s, 1)
				}
			}
		})
		v, err := VerifySealed(t.Context(), []string{output}, "web1", "syslog", nil, SealOptions{Keys: x.keys()})
		if err != nil {
			t.Fatal(err)
		}
		if len(kept) == 0 {
			continue
		}
		s := v.Seals
		if s.Count != len(kept) || s.Keys[0].Seals != len(kept) || s.Sealed != want || (v.Verdict == Forged) != broken || s.Sealed+s.Broken+s.Unsealed+s.Unprovable != int64(len(data)) {
			t.Fatalf("%d of %d bytes sealed, broken %t, changed %d: %+v, %+v", want, len(data), broken, changed, v, s)
		}
		got, err := json.Marshal(v)
		if err != nil || !bytes.Contains(got, []byte(`"seals":{"count":`)) {
			t.Fatalf("%s, %v", got, err)
		}
	}
}

// What has come since the record was read, or isn't committed, needn't be sealed yet.
func TestSealedUpToTheRecord(t *testing.T) {
	t.Parallel()
	data := []byte("twenty bytes of text")
	x := newNodeSeals("web1", "syslog", 1000)
	s := &chunk.Seal{To: 10, Sum: sha256.Sum256(data[:10])}
	s.Sign(chunk.SealOf{Identity: "web1", Log: "syslog", Epoch: 1}, x.key, time.Unix(1e9, 0))
	output := handmade(t, data, func(each func(*chunk.Seal, uint64)) { each(s, 1) })
	for position, want := range map[uint64]int64{10: 0, 15: 5, 20: 10} {
		v, err := VerifySealed(t.Context(), []string{output}, "web1", "syslog", []Proof{{1, 5, chunk.Sum(data[:5])}, {1, position, chunk.Sum(data[:position])}}, SealOptions{Keys: x.keys(), All: true})
		if err != nil || v.Seals.Unsealed != want || v.Seals.Uncommitted != 10-want || (v.Verdict == Unsealed) != (want > 0) {
			t.Errorf("committed up to %d: %+v, %+v, %v", position, v, v.Seals, err)
		}
	}
	if v, err := VerifySealed(t.Context(), []string{output}, "web1", "syslog", []Proof{{2, 5, 1}}, SealOptions{Keys: x.keys(), All: true}); err != nil || v.Seals.Unsealed != 10 {
		t.Errorf("in a later epoch: %+v, %v", v.Seals, err)
	}
}

// A receiver that was killed cuts back what it hadn't committed, and the line of its seal: whoever has read that before doesn't miss the bytes.
func TestSealThatWasCutBackIsForgotten(t *testing.T) {
	t.Parallel()
	data := []byte("twenty bytes of text")
	x := newNodeSeals("web1", "syslog", 1000)
	var seals []*chunk.Seal
	for _, to := range []uint64{20, 30} {
		s := &chunk.Seal{To: to, Sum: sha256.Sum256(data)}
		s.Sign(chunk.SealOf{Identity: "web1", Log: "syslog", Epoch: 1}, x.key, time.Unix(1e9, 0))
		seals = append(seals, s)
	}
	before := handmade(t, data, func(each func(*chunk.Seal, uint64)) { each(seals[0], 1); each(seals[1], 1) })
	after := handmade(t, data, func(each func(*chunk.Seal, uint64)) { each(seals[0], 1) })
	for _, now := range []string{before, after} {
		s := newSealer("web1", "syslog", SealOptions{Keys: x.keys()})
		ledgers, err := findLedgers([]string{before}, "web1", "syslog")
		if err == nil {
			err = s.read(ledgers)
		}
		if err != nil {
			t.Fatal(err)
		}
		all, _, err := pieces([]string{before}, "web1", "syslog")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.walk(t.Context(), newVerifier("web1", "syslog"), all); err != nil {
			t.Fatal(err)
		}
		if err := s.reconsider([]string{now}); err != nil {
			t.Fatal(err)
		}
		if want := map[string]int{before: 2, after: 1}[now]; len(s.rows) != want {
			t.Errorf("%d seals, want %d: %+v", len(s.rows), want, s.rows)
		}
	}
}

func TestSealKeyFiles(t *testing.T) {
	t.Parallel()
	key := strings.Repeat("ab", 32)
	for text, want := range map[string]string{
		"":                                 "there is no key in it",
		"# nothing\n\n":                    "there is no key in it",
		"web1 " + key + "\n":               "",
		"  web1\t" + key:                   "",
		"# a\nweb1 " + key + " # old\n\n":  "",
		"web1 " + strings.ToUpper(key):     "",
		"web1\n":                           "line 1: 1 words",
		"\n#\nweb1 " + key + " web2\n":     "line 3: 3 words",
		"web1 " + key[1:] + "\n":           "line 1: the key of \"web1\" is not 64 hex digits",
		"web1 " + key + "\nweb2 xx\n":      "line 2: the key of \"web2\"",
		"web1 " + key + "00\n":             "line 1: the key",
		"web1 " + strings.Repeat("0", 9e3): "line 1 is longer than",
		"a\nb " + strings.Repeat("0", 9e3): "line 1: 1 words",
	} {
		keys, err := ParseSealKeys(strings.NewReader(text))
		if want == "" {
			if err != nil || len(keys["web1"]) != 1 {
				t.Errorf("%q: %v, %v", text, keys, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 400 {
			t.Errorf("%.100q: %v", text, err)
		}
	}
	keys, err := ParseSealKeys(strings.NewReader("web1 " + key + "\nweb2 " + key + "\nweb1 " + strings.Repeat("cd", 32)))
	if err != nil || len(keys["web1"]) != 2 || len(keys["web2"]) != 1 {
		t.Errorf("%v, %v", keys, err)
	}
	path := filepath.Join(t.TempDir(), "keys")
	if _, err := ReadSealKeys(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Error(err)
	}
	if err := os.WriteFile(path, []byte("x y z\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadSealKeys(path); err == nil || !strings.Contains(err.Error(), path+": line 1") {
		t.Error(err)
	}
}
