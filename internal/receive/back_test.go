package receive

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"logforward/internal/chunk"
)

// onlyCopySite is what a power failure of the broker can leave: r1 has prepared some of a log and is away, the others know that it was committed, the node was told
// so, and the record's range is lost. r2 has gone on behind it. between is what the node sends in between: with r1's, after the committed "one\n".
func onlyCopySite(t *testing.T, between func(n *node) []*chunk.Chunk) (s, r2 *site, n *node) {
	t.Helper()
	s = newSite(t, nil)
	r2 = s.beside("r2", false)
	n = s.node("web1", "syslog")
	s.steady(n, "one\n")
	s.crashesPreparing(n, between(n)...)
	s.rewrite(n, func(rec *record, n *node) {
		rec.Place.Position, rec.Place.Digest, rec.Place.Tail = n.position, n.digest, chunk.Tail{From: n.position, Digest: n.digest}
	})
	r2.follows(s)
	n.send(n.make("behind it\n"))
	n.waitConfirmed()
	return s, r2, n
}

// crashesPreparing has a receiver crash when the state knows of a commit and the record doesn't; it is the only one, and has all of these chunks.
func (s *site) crashesPreparing(n *node, chunks ...*chunk.Chunk) {
	s.t.Helper()
	config := s.config
	f := s.crashAt(opPrepare, true)
	s.config.CommitInterval, s.config.CommitBytes = time.Hour, 0
	for _, c := range chunks {
		s.config.CommitBytes += int64(len(c.Data)) // with the last of them it is time
	}
	n.send(chunks...)
	s.startReceiver()
	s.crashed(f)
	s.config = config
}

// twice is a log's next chunks.
func twice(n *node) []*chunk.Chunk { return []*chunk.Chunk{n.make("only "), n.make("copy\n")} }

// isBack waits until what was set aside is central, once, and nothing is left of it elsewhere.
func (s *site) isBack(n *node) {
	s.t.Helper()
	eventually(s.t, "put back", func() (bool, string) {
		got, err := n.central()
		left := cutFiles(s.t.(*testing.T), s)
		return err == nil && string(got) == string(n.written) && len(left) == 0, fmt.Sprintf("%q %v; set aside %q\n%s", got, err, left, tree(s.dir))
	})
	n.same()
	for _, pattern := range []string{"state/aside/*/*", "out/*/*@back-*"} {
		found, err := filepath.Glob(filepath.Join(s.dir, pattern))
		s.must(err)
		if want := strings.Count(pattern, "back"); len(found) != want {
			s.t.Errorf("%q, want %d\n%s", found, want, tree(s.dir))
		}
	}
}

func TestTheOnlyCopyIsPutBack(t *testing.T) {
	t.Parallel()
	for name, between := range map[string]func(n *node) []*chunk.Chunk{
		"whole":        twice,
		"behind a gap": func(n *node) []*chunk.Chunk { return append([]*chunk.Chunk{n.gap(7)}, twice(n)...) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, r2, n := onlyCopySite(t, between)
			s.again(r2)
			s.isBack(n)
			value, _, err := s.records().Get(asking(t), key(n.identity, n.log))
			s.must(err)
			rec, err := parseRecord(value)
			s.must(err)
			if len(rec.Ranges) != 3 || !rec.Ranges[1].Back || rec.Ranges[1].Receiver != "r1" || rec.Ranges[2].Receiver != "r2" {
				t.Errorf("ranges %+v", rec.Ranges)
			}
			if back := n.events(EventBack); len(back) != 1 || back[0].To-back[0].From != uint64(len("only copy\n")) {
				t.Errorf("ledger: %+v", back)
			}
			// Its state isn't older than the record because of that, and it goes on in its own file.
			n.send(n.make("and on\n"))
			n.waitConfirmed()
			s.must(s.stopReceiver())
			s.startReceiver()
			n.send(n.make("and on\n"))
			n.waitConfirmed()
			n.same()
			if files := s.files(); len(files) != 2 {
				t.Errorf("files %q", files)
			}
		})
	}
}

// Where others had other bytes, or the node said that they are lost, or has sent another life of them, nothing is put back.
func TestWhatIsNotProvedStaysAside(t *testing.T) {
	t.Parallel()
	for name, other := range map[string]func(rec *record, n *node){
		"another digest": func(rec *record, n *node) { rec.Place.Digest++; rec.Place.Tail.Digest++ },
		"a gap": func(rec *record, n *node) {
			rec.Place.Digest, rec.Place.Tail.Digest = chunk.AfterGap(n.position), chunk.AfterGap(n.position)
		},
		"a new epoch": func(rec *record, n *node) {
			rec.Place = chunk.Place{Epoch: 2, Predecessor: 1, Position: 7, Digest: 1}
		},
		"it may still come": func(rec *record, n *node) { rec.Place.Position--; rec.Place.Tail = chunk.Tail{} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, func(c *Config) { c.Sweep = time.Hour })
			n := s.node("web1", "syslog")
			s.steady(n, "one\n")
			s.crashesPreparing(n, twice(n)...)
			s.purge("")
			s.rewrite(n, func(rec *record, n *node) {
				rec.Place.Position, rec.Place.Digest, rec.Place.Tail = n.position, n.digest, chunk.Tail{From: n.position, Digest: n.digest}
				other(rec, n)
				rec.Ranges = append(rec.Ranges, span{Receiver: "r2", File: "x", Epoch: 1, From: rec.Place.Position, To: rec.Place.Position + 5})
			})
			s.startReceiver()
			eventually(t, "set aside", func() (bool, string) {
				cut := cutFiles(t, s)
				return len(cut) == 1 && cut[0] != "", fmt.Sprintf("%q", cut)
			})
			for range 3 {
				s.must(s.r.putBackAll(t.Context()))
			}
			if kept := cutFiles(t, s); len(kept) != 1 || kept[0] != "only copy\n" {
				t.Errorf("set aside: %q", kept)
			}
			eventually(t, "cut", func() (bool, string) { // right behind setting it aside
				got, err := n.central()
				return string(got) == "one\n", fmt.Sprintf("%q %v", got, err)
			})
		})
	}
}

// TestPuttingBackSurvivesAnyStep stops the receiver before and behind each step, or makes it fail once.
func TestPuttingBackSurvivesAnyStep(t *testing.T) {
	t.Parallel()
	for _, op := range []string{opBackName, opBackWrite, opBackPrepare, opBackRecord, opBackLine, opBackCommit} {
		for name, err := range map[string]error{"crash": errStopped, "EIO": syscall.EIO} {
			for _, done := range []bool{false, true} {
				if done && name != "crash" {
					continue
				}
				t.Run(fmt.Sprintf("%s/%s/done %t", op, name, done), func(t *testing.T) {
					t.Parallel()
					s, r2, n := onlyCopySite(t, twice)
					f := &fault{op: op, done: done, err: err, hit: make(chan struct{})}
					s.config.fault = f.check
					s.startReceiver()
					select {
					case <-f.hit:
					case <-time.After(time.Minute):
						t.Fatal("the fault was never met")
					}
					if f.stopped() {
						if err := s.stopReceiver(); err != nil && !errors.Is(err, errStopped) {
							t.Fatal(err)
						}
						s.config.fault = nil
						s.startReceiver()
					}
					s.isBack(n)
					n.send(n.make("and on\n"))
					n.waitConfirmed()
					s.must(r2.stopReceiver())
					n.send(n.make("alone\n"))
					n.waitConfirmed()
					s.isBack(n)
					s.must(s.stopReceiver())
					n.same()
				})
			}
		}
	}
}
