package receive

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// lines is text of n bytes that ends a line.
func lines(n int) string { return strings.Repeat("a line of text\n", n/15+1)[:n-1] + "\n" }

// closedFiles makes a log of two closed files, the first of which has two epochs and a gap, and one that is written to.
func closedFiles(t *testing.T, compress string) (*site, *node) {
	t.Helper()
	s := newSite(t, func(c *Config) { c.RotateSize, c.Compress = 4000, compress })
	s.startReceiver()
	n := s.node("web1", "syslog")
	n.send(n.make(lines(1000)), n.gap(70), n.make(lines(500)))
	n.prev, n.epoch, n.position, n.digest = n.epoch, n.epoch+1, 0, 0
	n.send(n.make(lines(3000)), n.make(lines(2000)), n.make(lines(2000)), n.make(lines(900)))
	n.waitConfirmed()
	n.same()
	return s, n
}

func TestVerifyProvesWhatIsThere(t *testing.T) {
	t.Parallel()
	for _, compress := range []string{"none", "zstd", "gzip"} {
		t.Run(compress, func(t *testing.T) {
			t.Parallel()
			s, n := closedFiles(t, compress)
			eventually(t, "compression", func() (bool, string) {
				m, err := filepath.Glob(filepath.Join(s.config.Output, "web1", "*"+map[string]string{"none": ".log", "zstd": ".zst", "gzip": ".gz"}[compress]))
				return err == nil && len(m) >= 2, tree(s.dir)
			})
			if v := n.verify(Intact); figures(v) != (sums{intact: 9400, gaps: 1}) {
				t.Errorf("%+v", v)
			}
			v, err := Verify(t.Context(), s.outputs(), "web1", "syslog", nil) // the ledgers alone
			s.must(err)
			if v.Verdict != Unproved || figures(v) != (sums{intact: 8500, unproved: 900, gaps: 1}) || len(v.Parts) != 1 || v.Parts[0].From != 7000 || v.Parts[0].To != 7900 {
				t.Errorf("%+v", v)
			}
			s.must(s.stopReceiver())
			s.startReceiver()
			n.send(n.make(lines(400)))
			n.waitConfirmed()
			if v := n.verify(Intact); v.Intact != 9800 {
				t.Errorf("after a restart: %+v", v)
			}
		})
	}
}

// sums are the figures of a verification.
type sums struct {
	intact, unproved, damaged, expired int64
	gaps                               int
}

func figures(v *Verification) sums {
	return sums{v.Intact, v.Unproved, v.Damaged, v.Expired, v.Gaps}
}

func TestVerifyFindsDamage(t *testing.T) {
	t.Parallel()
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte { b[at] ^= 1; return b }
	}
	for name, x := range map[string]struct {
		compress string
		open     bool // the file that is written to
		change   func([]byte) []byte
		from, to uint64 // what is damaged of the file, in its last epoch; 0, 0: all of it
		why      string
	}{
		"a bit":                {change: flip(2000), to: 3000, why: "other bytes"},
		"a bit before the gap": {change: flip(10), to: 1000, why: "other bytes"},
		"a bit behind the gap": {change: flip(1300), from: 1070, to: 1570, why: "other bytes"},
		"shorter":              {change: func(b []byte) []byte { return b[:len(b)-1] }, to: 3000, why: "shorter"},
		"longer":               {change: func(b []byte) []byte { return append(b, "more\n"...) }, from: 3000, to: 3000, why: "5 bytes more"},
		"a line removed":       {change: func(b []byte) []byte { return append(b[:1500:1500], b[1515:]...) }, to: 3000, why: "shorter"},
		"empty":                {change: func([]byte) []byte { return nil }, to: 1000, why: "shorter"},
		"gone":                 {change: nil, to: 1000, why: "isn't there"},
		"open, a bit":          {open: true, change: flip(100), from: 7000, to: 7900, why: "other bytes"},
		"open, shorter":        {open: true, change: func(b []byte) []byte { return b[:800] }, from: 7800, to: 7900, why: "no file"},
		"compressed, a bit":    {compress: "zstd", change: flip(30), to: 1000, why: "can't be read"},
		"compressed, another": {compress: "zstd", to: 3000, why: "other bytes", change: func(b []byte) []byte {
			r, _ := zstd.NewReader(bytes.NewReader(b))
			plain, _ := io.ReadAll(r)
			plain[len(plain)-1] = 'x'
			w, _ := zstd.NewWriter(nil)
			return w.EncodeAll(plain, nil)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, n := closedFiles(t, map[bool]string{true: x.compress, false: "none"}[x.compress != ""])
			proofs := n.proofs()
			path := filepath.Join(s.config.Output, "web1", "syslog.log")
			if !x.open {
				pattern := filepath.Join(s.config.Output, "web1", "syslog@2*.log")
				if x.compress != "" {
					pattern += ".zst"
				}
				eventually(t, "closed files", func() (bool, string) {
					m, err := filepath.Glob(pattern)
					s.must(err)
					if len(m) != 2 {
						return false, tree(s.dir)
					}
					path = m[0]
					for _, p := range m { // the first is the larger one, or has the smaller name
						if !strings.HasSuffix(strings.TrimSuffix(p, ".zst"), "-2.log") && p < path || strings.HasSuffix(strings.TrimSuffix(path, ".zst"), "-2.log") {
							path = p
						}
					}
					return true, ""
				})
			}
			s.must(s.stopReceiver())
			if x.change == nil {
				s.must(os.Remove(path))
			} else {
				b, err := os.ReadFile(path)
				s.must(err)
				s.must(os.WriteFile(path, x.change(b), 0o600))
			}
			v, err := Verify(t.Context(), s.outputs(), "web1", "syslog", proofs)
			s.must(err)
			i := slices.IndexFunc(v.Parts, func(p Part) bool { return p.Verdict == Damaged })
			if v.Verdict != Damaged || i < 0 {
				t.Fatalf("%+v", v)
			}
			if p := v.Parts[i]; p.From != x.from || p.To != x.to || !strings.Contains(p.Why, x.why) {
				t.Errorf("%+v", v)
			}
		})
	}
}

func TestVerifyMissesWhatIsElsewhere(t *testing.T) {
	t.Parallel()
	s, n := closedFiles(t, "none")
	s.must(s.stopReceiver())
	other := s.beside("r2", false)
	other.startReceiver()
	n.send(n.make(lines(700)))
	n.waitConfirmed()
	s.must(other.stopReceiver())
	if v := n.verify(Intact); v.Intact != 10100 {
		t.Errorf("both directories: %+v", v)
	}
	for _, outputs := range [][]string{{s.config.Output}, {other.config.Output}} {
		v, err := Verify(t.Context(), outputs, "web1", "syslog", n.proofs())
		s.must(err)
		if v.Verdict != Damaged || !strings.Contains(v.Parts[len(v.Parts)-1].Why, "another receiver's") {
			t.Errorf("%s alone: %+v", outputs, v)
		}
	}
}

func TestVerifyCountsWhatRetentionDeleted(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *Config) { c.RotateSize, c.RetainCount = 1000, 1 })
	s.startReceiver()
	n := s.node("web1", "syslog")
	for range 4 {
		n.send(n.make(lines(1000)))
	}
	n.waitConfirmed()
	eventually(t, "retention", func() (bool, string) {
		return len(n.events(EventExpire)) == 3, tree(s.dir)
	})
	if v := n.verify(Intact); figures(v) != (sums{intact: 1000, expired: 3000}) {
		t.Errorf("%+v", v)
	}
}

func TestVerifyEnds(t *testing.T) {
	t.Parallel()
	s, _ := closedFiles(t, "none")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Verify(ctx, s.outputs(), "web1", "syslog", nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := Verify(t.Context(), s.outputs(), "web1", "other", nil); !errors.Is(err, ErrNoLedger) {
		t.Error(err)
	}
	logs, err := Logs(s.outputs())
	if err != nil || len(logs) != 1 || logs[0] != [2]string{"web1", "syslog"} {
		t.Error(logs, err)
	}
}

// What cat can't write is said: a hole isn't taken for what retention deleted, and an end that is missing not for a whole log.
func TestHolesAreSeen(t *testing.T) {
	t.Parallel()
	s, n := closedFiles(t, "none")
	n.waitConfirmed()
	eventually(t, "closed files", func() (bool, string) {
		m, err := filepath.Glob(filepath.Join(s.config.Output, "web1", "syslog@2*.log"))
		return err == nil && len(m) == 2, tree(s.dir)
	})
	s.must(s.stopReceiver())
	holes := func(verdict string, want ...Part) {
		t.Helper()
		got, expired, err := Holes(s.outputs(), "web1", "syslog")
		s.must(err)
		if len(got) != len(want) || expired != 0 {
			t.Fatalf("%d expired, %+v", expired, got)
		}
		for i, p := range got {
			if w := want[i]; p.Verdict != w.Verdict || p.From != w.From || p.To != w.To || !strings.Contains(p.Why, w.Why) {
				t.Errorf("%+v; want %+v", p, w)
			}
		}
		if v, err := Verify(t.Context(), s.outputs(), "web1", "syslog", nil); err != nil || v.Verdict != verdict {
			t.Errorf("%v %+v; want %s", err, v, verdict)
		}
	}
	holes(Unproved)
	open := filepath.Join(s.config.Output, "web1", "syslog.log")
	s.must(os.Rename(open, open+".away"))
	holes(Unproved, Part{Verdict: Unproved, From: 7000, To: 7000, Why: "isn't there"})
	s.must(os.Rename(open+".away", open))
	ledger := filepath.Join(s.config.Output, "web1", "syslog@ledger.jsonl")
	whole, err := os.ReadFile(ledger)
	s.must(err)
	s.must(os.WriteFile(ledger, nil, 0o600))
	holes(Unproved, Part{Verdict: Unproved, Why: "empty"})
	s.must(os.WriteFile(ledger, whole, 0o600))
	names, err := filepath.Glob(filepath.Join(s.config.Output, "web1", "syslog@2*.log"))
	s.must(err)
	for _, name := range names {
		s.must(os.Remove(name))
	}
	holes(Damaged, Part{Verdict: Damaged, To: 1000, Why: "isn't there"}, Part{Verdict: Damaged, From: 1070, To: 1570, Why: "isn't there"},
		Part{Verdict: Damaged, To: 3000, Why: "isn't there"}, Part{Verdict: Damaged, From: 3000, To: 7000, Why: "isn't there"})
}
