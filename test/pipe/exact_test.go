package pipe

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"logforward/internal/forward"
	"logforward/internal/receive"
)

// loss is a gap that a log's ledger must tell of.
type loss struct {
	cause string // the beginning of it
	bytes int64  // -1: unknown
}

// status is where a log stands, with the books of all logs checked.
func (n *node) status(log string) forward.Status {
	n.t.Helper()
	var found forward.Status
	for _, s := range n.engine.Status() {
		if s.HandedOut != s.Acknowledged+s.Unconfirmed+s.Gap {
			n.t.Fatalf("%s: %d positions handed out, but %d confirmed, %d unconfirmed, %d gap", s.Log, s.HandedOut, s.Acknowledged, s.Unconfirmed, s.Gap)
		}
		if s.Log == log {
			found = s
		}
	}
	return found
}

// exact waits until the centre has exactly want and exactly those gaps, and the node knows it. After another
// sync and another commit it must be so still: what is sent twice would show by then.
func (n *node) exact(log string, want []byte, losses ...loss) {
	n.t.Helper()
	n.exactAll(map[string][]byte{log: want}, losses...)
}

// exactAll does so for several logs; each must have those gaps.
func (n *node) exactAll(logs map[string][]byte, losses ...loss) {
	n.t.Helper()
	for log, want := range logs {
		n.eventually(log+" to arrive", func() error { return n.compare(log, want, losses) })
	}
	n.round()
	for log, want := range logs {
		n.eventually(log+" to be at rest again", func() error { return n.atRest(log) })
		if err := n.compare(log, want, losses); err != nil {
			n.show()
			n.t.Fatalf("%s arrived, and changed later: %v", log, err)
		}
	}
}

func (n *node) compare(log string, want []byte, losses []loss) error {
	if err := n.atRest(log); err != nil {
		return err
	}
	return n.central(log, want, losses)
}

// atRest tells what a log still has to do.
func (n *node) atRest(log string) error {
	n.t.Helper()
	s := n.status(log)
	if s.State != forward.Idle || s.LagBytes != 0 || s.Unconfirmed != 0 || s.Confirmed != s.Position {
		return fmt.Errorf("%s: lag %d, unconfirmed %d, confirmed %d of %d: %s", s.State, s.LagBytes, s.Unconfirmed, s.Confirmed, s.Position, s.LastError)
	}
	return nil
}

// central compares what lies at the centre.
func (n *node) central(log string, want []byte, losses []loss) error {
	if err := n.bytes(log, want); err != nil {
		return err
	}
	got, err := n.gaps(log)
	if err != nil {
		return err
	}
	same := slices.EqualFunc(got, losses, func(a, b loss) bool { return strings.HasPrefix(a.cause, b.cause) && a.bytes == b.bytes })
	if !same {
		return fmt.Errorf("gaps in the ledger: %v, want %v", got, losses)
	}
	return nil
}

func (n *node) bytes(log string, want []byte) error {
	var got bytes.Buffer
	missing, err := receive.Cat(&got, []string{n.receiving.Output}, n.identity, log)
	if errors.Is(err, receive.ErrNoLedger) && len(want) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	if missing > 0 {
		return fmt.Errorf("%d central files are missing", missing)
	}
	if sha256.Sum256(got.Bytes()) == sha256.Sum256(want) {
		return nil
	}
	at := 0
	for at < min(got.Len(), len(want)) && got.Bytes()[at] == want[at] {
		at++
	}
	show := func(b []byte) []byte { return b[min(at, len(b)):min(at+80, len(b))] }
	return fmt.Errorf("%d bytes, want %d; first difference at %d: %q, want %q", got.Len(), len(want), at, show(got.Bytes()), show(want))
}

// gaps are those of the log's ledgers, in their order.
func (n *node) gaps(log string) ([]loss, error) {
	var all []loss
	for _, e := range n.ledger(log) {
		switch e.Event {
		case receive.EventGap:
			all = append(all, loss{e.Cause, *e.Bytes})
		case receive.EventDamage:
			return nil, fmt.Errorf("the receiver found damage: %+v", e)
		}
	}
	return all, nil
}

// ledger is what the log's ledgers say.
func (n *node) ledger(log string) []receive.Entry {
	names, err := receive.Ledgers(n.receiving.Output, n.identity, log)
	if errors.Is(err, receive.ErrNoLedger) {
		return nil
	}
	n.must(err)
	var all []receive.Entry
	for _, name := range names {
		entries, err := receive.Ledger(filepath.Join(n.receiving.Output, name))
		n.must(err)
		all = append(all, entries...)
	}
	return all
}

// epochs are those of the log's ledgers, each once, in order.
func (n *node) epochs(log string) []uint64 {
	var all []uint64
	for _, e := range n.ledger(log) {
		if e.Epoch > 0 && !slices.Contains(all, e.Epoch) {
			all = append(all, e.Epoch)
		}
	}
	slices.Sort(all)
	return all
}

// round waits for the next answer to a sync.
func (n *node) round() {
	n.t.Helper()
	since := time.Now()
	n.eventually("another sync", func() error {
		for _, d := range n.engine.Destinations() {
			if !d.Answered.After(since) {
				return fmt.Errorf("answered at %s", d.Answered)
			}
		}
		return nil
	})
}

// rotatedCentrally makes sure that the comparison runs over compressed files.
func (n *node) rotatedCentrally(log string) {
	n.t.Helper()
	n.eventually("compressed central files", func() error {
		list, err := filepath.Glob(filepath.Join(n.receiving.Output, n.identity, log+"*.zst"))
		if err == nil && len(list) == 0 {
			err = errors.New("none")
		}
		return err
	})
}
