package receive

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// An output is taken away between a file's closing and the line of its ledger that says so. When it is back its file is known by whatever name it has, and no
// other one is taken for it: not the one that has its former name now.
func TestOutputTakenAwayWhileAFileIsClosed(t *testing.T) {
	t.Parallel()
	for _, renamed := range []bool{false, true} {
		for _, compress := range []string{"none", "zstd"} {
			t.Run(fmt.Sprintf("renamed %t/%s", renamed, compress), func(t *testing.T) {
				t.Parallel()
				s := newSite(t, func(c *Config) { c.RotateSize, c.Compress = 10, compress })
				n := s.node("web1", "syslog")
				f := s.crashAt(opClose, renamed)
				s.startReceiver()
				n.send(n.make("short\n"), n.gap(3), n.make("longer than ten bytes\n"), n.make("and again longer than ten bytes\n"))
				s.crashed(f)
				out, away, below := s.config.Output, s.config.Output+".away", s.config.Output+".below"
				s.must(os.Mkdir(below, 0o755))
				all := func(when string, outputs ...string) {
					t.Helper()
					var got bytes.Buffer
					missing, err := Cat(&got, outputs, n.identity, n.log)
					s.must(err)
					if got.String() != string(n.written) || missing > 0 {
						t.Errorf("%s: %q, %d missing; want %q\n%s", when, got.String(), missing, n.written, tree(s.dir))
					}
					v, err := Verify(t.Context(), outputs, n.identity, n.log, n.proofs())
					s.must(err)
					if v.Verdict == Damaged || v.Damaged != 0 {
						t.Errorf("%s: %+v", when, v)
					}
				}
				end := uint64(len("short\nlonger than ten bytes\n") + 3)
				var closed string
				for name := range contents(t, out) {
					if strings.Contains(name, "@2") {
						closed = name
					}
				}
				s.must(os.Rename(out, away))
				s.must(os.Rename(below, out))
				s.startReceiver()
				n.send(n.make("meanwhile, longer than ten bytes\n"))
				n.waitConfirmed()
				all("while it is away", out, away)
				s.must(s.stopReceiver())
				s.must(os.Rename(out, below))
				s.must(os.Rename(away, out))
				s.startReceiver()
				for i := range 3 { // the first takes the name that the file had
					n.send(n.make(fmt.Sprintf("%d after that, longer than ten bytes\n", i)))
					n.waitConfirmed()
					all("when it is back", out, below)
				}
				value, _, err := s.records().Get(t.Context(), key(n.identity, n.log))
				s.must(err)
				rec, err := parseRecord(value)
				s.must(err)
				for _, r := range rec.Ranges {
					if r.From >= end && closed != "" && r.File == closed {
						t.Errorf("the record has another file's name for %+v", r)
					}
				}
				s.must(s.stopReceiver())
				if !renamed {
					return
				}
				// Its ledger knows of it now: retention and compression treat it as any other.
				st, note, err := openState(s.config.State, &disk{})
				s.must(err)
				s.must(note)
				files, err := st.closedFiles()
				s.must(err)
				s.must(st.close())
				for name, c := range files {
					if c.Untold {
						t.Errorf("%s isn't told of", name)
					}
				}
				output, err := New(s.config).outputName()
				s.must(err)
				s.config.RetainAge, s.config.Now = time.Minute, func() time.Time { return time.Now().Add(time.Hour) }
				s.startReceiver()
				eventually(t, "delete what is old", func() (bool, string) {
					files, err := s.r.state.closedFiles()
					s.must(err)
					left := 0
					for _, c := range files {
						if c.Output == output {
							left++
						}
					}
					return left == 0, fmt.Sprintf("%+v", files)
				})
				v, err := Verify(t.Context(), []string{out, below}, n.identity, n.log, n.proofs())
				s.must(err)
				if v.Verdict == Damaged || v.Expired < int64(len("short\nlonger than ten bytes\n")) {
					t.Errorf("%+v\n%s", v, tree(s.dir))
				}
			})
		}
	}
}

// A receiver that lost its state in that moment goes on in a file with the former name, and a ledger of its own.
func TestStateLostWhileAFileIsClosed(t *testing.T) {
	t.Parallel()
	for _, renamed := range []bool{false, true} {
		t.Run(fmt.Sprintf("renamed %t", renamed), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, func(c *Config) { c.RotateSize = 10 })
			n := s.node("web1", "syslog")
			f := s.crashAt(opClose, renamed)
			s.startReceiver()
			n.send(n.make("short\n"), n.gap(3), n.make("longer than ten bytes\n"), n.make("and again longer than ten bytes\n"))
			s.crashed(f)
			s.must(os.RemoveAll(s.config.State))
			s.startReceiver()
			for i := range 3 {
				n.send(n.make(fmt.Sprintf("%d after that, longer than ten bytes\n", i)))
				n.waitConfirmed()
				n.same()
			}
		})
	}
}

// Only a name that is given to an open file when it is closed is taken for it.
func TestNameOfAClosedFile(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 1, 2, 3, 4, 5, 600, time.UTC)
	for _, c := range []struct {
		open, name string
		is         bool
	}{
		{"web1/syslog.log", "web1/syslog@20260102T030405Z.log", true},
		{"web1/syslog.log", "web1/syslog@20260102T030405Z-2.log", true},
		{"web1/syslog@r1.log", "web1/syslog@r1@20270102T030405Z-13.log", true},
		{"web1/syslog", "web1/syslog@20260102T030405Z", true},
		{"web1/syslog.log", "web1/syslog@20260102T030404Z.log", false}, // before it was begun
		{"web1/syslog.log", "web1/syslog@r2@20260102T030405Z.log", false},
		{"web1/syslog.log", "web1/sys@20260102T030405Z.log", false},
		{"web1/syslog.log", "web1/syslog2@20260102T030405Z.log", false},
		{"web1/syslog.log", "web1/syslog@20260102T030405Z.log.zst", false},
		{"web1/syslog.log", "web1/syslog@20260102T030405Z.log.zst@new", false},
		{"web1/syslog.log", "web1/syslog@20260102T030405Z-1.log", false},
		{"web1/syslog.log", "web1/syslog@20260102T030405Z2.log", false},
		{"web1/syslog.log", "web1/syslog@20260102T030405Z-x.log", false},
		{"web1/syslog.log", "web1/syslog@ledger.jsonl", false},
		{"web1/syslog.log", "web1/syslog@back-20260102T030405Z.log", false},
		{"web1/syslog.log", "web2/syslog@20260102T030405Z.log", false},
		{"web1/syslog.log", "web1/syslog.log", false},
	} {
		if is := closedAs(c.open, c.name, since); is != c.is {
			t.Errorf("%s as %s: %t", c.open, c.name, is)
		}
	}
}
