package receive

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"logforward/internal/broker"
)

// asideSite has a receiver whose last commit was cut back and set aside, because of what change made of the record.
func asideSite(t *testing.T, change func(rec *record, n *node)) (*site, *node) {
	t.Helper()
	s := newSite(t, func(c *Config) { c.Sweep, c.leaveCuts = time.Hour, true })
	n := s.node("web1", "syslog")
	s.steady(n, "committed\n")
	f := s.crashAt(opPrepare, true)
	s.startReceiver()
	n.send(n.make("prepared\n"))
	s.crashed(f)
	s.rewrite(n, change)
	s.startReceiver()
	n.place(t, n.here())
	s.wantAside(t, "prepared\n")
	return s, n
}

// rewrite changes a log's record, as another receiver does: the running one may write it at the same time.
func (s *site) rewrite(n *node, change func(rec *record, n *node)) {
	s.t.Helper()
	for {
		value, rev, err := s.records().Get(asking(s.t), key(n.identity, n.log))
		s.must(err)
		rec, err := parseRecord(value)
		s.must(err)
		change(rec, n)
		place := rec.Place
		rec.Learnt = &place
		value, err = rec.bytes()
		s.must(err)
		done := make(chan error, 1)
		s.records().Update(key(n.identity, n.log), value, rev, func(_ uint64, err error) { done <- err })
		if err := <-done; !errors.Is(err, broker.ErrWrongRevision) {
			s.must(err)
			return
		}
	}
}

// wantAside looks after what is set aside, and compares what is left.
func (s *site) wantAside(t *testing.T, want ...string) {
	t.Helper()
	s.must(s.r.dropCovered(t.Context()))
	if kept := cutFiles(t, s); fmt.Sprint(kept) != fmt.Sprint(want) {
		t.Fatalf("set aside: %q, want %q", kept, want)
	}
}

// A bucket is wiped, power failures take what was written to it anew, and another receiver begins the log once more. What the first one had prepared is
// cut, and then somebody who knew it to be committed gives the record its range: that lies nowhere but where it was set aside.
func TestWhatWasCutIsKeptWhereTheRecordTakesItForThere(t *testing.T) {
	t.Parallel()
	s, n := asideSite(t, func(rec *record, n *node) {
		rec.Place.Position, rec.Place.Digest = n.position, n.digest
		rec.Ranges = append(rec.Ranges, span{Receiver: "r2", File: "x", Epoch: 1, From: 10, To: 15})
	})
	s.rewrite(n, func(rec *record, n *node) {
		rec.merge([]span{{Receiver: "r1", File: "web1/syslog.log", Epoch: 1, From: 10, To: n.position, Offset: 10}})
	})
	s.wantAside(t, "prepared\n")
	// By its state it goes on in a new file; what it says of itself is still not believed.
	s.must(s.stopReceiver())
	s.startReceiver()
	n.send(n.make("and on\n"))
	n.waitConfirmed()
	s.wantAside(t, "prepared\n")
	s.rewrite(n, func(rec *record, n *node) {
		rec.Ranges = append(rec.Ranges, span{Receiver: "r2", File: "x", Epoch: 1, From: 15, To: n.position})
	})
	s.wantAside(t)
}

// What this receiver was sent again lies in its own files, the open one and closed ones, and needs no other's range.
func TestWhatWasCutIsDroppedOnceItCameAgain(t *testing.T) {
	t.Parallel()
	for _, behind := range []string{"", "gap", "range", "file"} {
		t.Run("behind it: "+behind, func(t *testing.T) {
			t.Parallel()
			s, n := asideSite(t, func(rec *record, n *node) {
				rec.Place.Position, rec.Place.Digest = 15, rec.Place.Digest.Update([]byte("prepa")) // the other one has half of it
				rec.Ranges = append(rec.Ranges, span{Receiver: "r2", File: "x", Epoch: 1, From: 10, To: 15})
			})
			n.waitConfirmed()
			switch behind {
			case "":
				n.send(n.make("and on\n"))
				n.waitConfirmed()
			case "gap":
				n.send(n.gap(5), n.make("behind the gap\n"))
				n.waitConfirmed()
			case "range": // another one's in between
				s.must(s.stopReceiver())
				n.make("theirs\n")
				s.rewrite(n, func(rec *record, n *node) {
					rec.Place.Position, rec.Place.Digest = n.position, n.digest
					rec.Ranges = append(rec.Ranges, span{Receiver: "r2", File: "x", Epoch: 1, From: 19, To: n.position})
				})
				s.startReceiver()
				n.send(n.make("ours\n"))
				n.waitConfirmed()
			case "file":
				s.must(s.stopReceiver())
				s.config.RotateSize = 10
				s.startReceiver()
				n.send(n.make(strings.Repeat("long enough\n", 2)))
				n.waitConfirmed()
				eventually(t, "close", func() (bool, string) { return len(n.events(EventClose)) > 0, "" })
				n.send(n.make("the next file\n"))
				n.waitConfirmed()
			}
			eventually(t, "drop what was set aside", func() (bool, string) { // what is confirmed goes into the record with the next commit
				s.must(s.r.dropCovered(t.Context()))
				kept := cutFiles(t, s)
				return len(kept) == 0, fmt.Sprintf("%q", kept)
			})
		})
	}
}
