package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"logforward/internal/control"
	"logforward/internal/receive"
	"logforward/internal/seed"
)

// lag is nil when all nodes say that everything is confirmed.
func (s *system) lag() error {
	for _, name := range s.nodeNames() {
		if err := s.lagOf(name); err != nil {
			return err
		}
	}
	return nil
}

func (s *system) lagOf(node string) error {
	st, err := s.control[slices.Index(s.nodeNames(), node)].Status(context.Background(), control.StatusRequest{})
	if err != nil {
		return err
	}
	if len(st.Logs) != s.logs && !s.globs {
		return fmt.Errorf("%s follows %d logs of %d", node, len(st.Logs), s.logs)
	}
	for _, l := range st.Logs {
		if s.globs && l.LagBytes == 0 && (l.State == "idle" || l.State == "waiting" || strings.Contains(l.Error, "no such file or directory")) {
			continue // there may be no file any more
		}
		if l.LagBytes != 0 || l.State != "idle" || l.Files < 1 {
			return fmt.Errorf("%s: %s is %s, %d bytes behind: %s", node, l.Log, l.State, l.LagBytes, l.Error)
		}
	}
	return nil
}

// centre reads what is central of a log.
func (s *system) centre(w *stream) (*central, []string, error) {
	return readCentre(s.outputs(), s.identity(w.node), w.log, false)
}

// remains reads what is left of a log where something was removed from the centre, and what of it is named as damaged.
func (s *system) remains(w *stream) (*central, error) {
	c, _, err := readCentre(s.outputs(), s.identity(w.node), w.log, true)
	return c, err
}

// arrived compares all logs.
func (s *system) arrived(f *fault) (tally, error) {
	var sum tally
	for _, w := range s.streams {
		if f.removes && len(s.elsewhere) > 0 { // with what was moved away nothing is missing
			c, _, err := readCentre(append(s.outputs(), s.elsewhere...), s.identity(w.node), w.log, false)
			if err == nil {
				_, err = judge(w.account(f), c)
			}
			if err != nil {
				return sum, fmt.Errorf("%s/%s, with %v: %w", s.identity(w.node), w.log, s.elsewhere, err)
			}
		}
		c, _, err := s.centre(w)
		if f.removes {
			c, err = s.remains(w)
		}
		if err != nil {
			return sum, fmt.Errorf("%s/%s: %w", s.identity(w.node), w.log, err)
		}
		t, err := judge(w.account(f), c)
		if err != nil {
			return sum, fmt.Errorf("%s/%s: %w", s.identity(w.node), w.log, err)
		}
		sum.add(&t)
	}
	return sum, nil
}

// files makes sure that the central files themselves, put together, are as long as what the ledger makes of them: nobody who reads them with
// other tools finds bytes in them that are elsewhere, too.
func (s *system) files() error {
	for _, w := range s.streams {
		c, _, err := s.centre(w)
		if err != nil {
			return err
		}
		total, err := sizeOf(s.outputs(), s.identity(w.node), w.log)
		if err != nil {
			return err
		}
		if total != int64(len(c.data)) {
			return broken(checkOnce, "%s/%s: the central files hold %d bytes, and %d by the ledger", s.identity(w.node), w.log, total, len(c.data))
		}
	}
	return nil
}

// cutBack waits until files finds nothing more. A receiver that was killed or stopped leaves what it hadn't committed at the end of its files, whoever took over
// has the same bytes in its own, and the first one can't know how much to cut before it has the broker again: that may be later than all has arrived.
// What is still there after most is a violation, whatever the reason.
func cutBack(most time.Duration, files func() error) error {
	err := wait(most, files)
	var v *violation
	if err != nil && !errors.As(err, &v) {
		err = broken(checkOnce, "%v", err)
	}
	return err
}

// sizeOf is how many bytes the files of a log have, unpacked.
func sizeOf(outputs []string, identity, log string) (total int64, err error) {
	slices.Sort(outputs)
	for _, output := range slices.Compact(outputs) {
		list, err := os.ReadDir(filepath.Join(output, identity))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return 0, err
		}
		for _, e := range list {
			rest, ok := strings.CutPrefix(e.Name(), log)
			if !ok || rest == "" || rest[0] != '@' && rest[0] != '.' || strings.HasPrefix(rest, "@ledger") || strings.HasSuffix(rest, "@new") {
				continue // another log's, the ledger, or not whole yet
			}
			name, packed := strings.CutSuffix(e.Name(), ".zst")
			if !packed {
				st, err := e.Info()
				if err != nil {
					return 0, err
				}
				total += st.Size()
				continue
			}
			f, err := receive.OpenCentral(output, filepath.Join(identity, name))
			if err != nil {
				return 0, err
			}
			n, err := io.Copy(io.Discard, f)
			if err = errors.Join(err, f.Close()); err != nil {
				return 0, err
			}
			total += n
		}
	}
	return total, nil
}

// verify has the program's own verification look at a log, and at the node's seals of it where there are any.
func (s *system) verify(w *stream) (*receive.Verification, error) {
	var o receive.SealOptions
	if s.seals {
		key, err := seed.Load(s.sealKey(w.node))
		if err != nil {
			return nil, err
		}
		o.Keys = receive.SealKeys{s.identity(w.node): {key.Public().(ed25519.PublicKey)}}
	}
	return receive.VerifySealed(context.Background(), s.outputs(), s.identity(w.node), w.log, nil, o)
}

// strange are the lines of all ledgers that tell of something which no promise covers. A fork is strange but where one should be found. sealed are the bytes
// that are proved to be those that the nodes signed.
func (s *system) strange(f *fault) (sealed int64, all []string) {
	for _, w := range s.streams {
		_, strange, err := readCentre(s.outputs(), s.identity(w.node), w.log, f.removes)
		if err != nil {
			all = append(all, err.Error())
		}
		v, err := s.verify(w)
		if err == nil && v.Seals != nil {
			sealed += v.Seals.Sealed
			for _, b := range v.Seals.Breaks {
				if b.Missing && !f.removes {
					strange = append(strange, fmt.Sprintf("a seal is missing: %+v", b))
				}
			}
		}
		if err != nil && !errors.Is(err, receive.ErrNoLedger) {
			all = append(all, err.Error())
		} else if err == nil && f.removes {
			if c, err := s.remains(w); err != nil || c.damaged() != v.Damaged {
				strange = append(strange, fmt.Sprintf("cat misses %d bytes, and verify calls %d damaged: %v", c.damaged(), v.Damaged, err))
			}
		} else if err == nil && v.Verdict != receive.Intact && v.Verdict != receive.Unproved {
			strange = append(strange, fmt.Sprintf("verify calls it %s: %+v", v.Verdict, v.Parts))
		}
		for _, x := range strange {
			if f.forks && strings.HasPrefix(x, receive.EventFork+" ") || f.removes && strings.HasPrefix(x, receive.EventDamage+" ") {
				continue
			}
			all = append(all, fmt.Sprintf("%s/%s: %s", s.identity(w.node), w.log, x))
		}
	}
	return sealed, all
}

// readCentre puts a log together: its bytes, and where its gaps lie in them. strange are lines of its ledgers that tell of
// forks and damage. removed: some of it may have been removed, and what is named as damaged counts as a hole.
func readCentre(outputs []string, identity, log string, removed bool) (c *central, strange []string, err error) {
	var buf bytes.Buffer
	missing, err := receive.Cat(&buf, outputs, identity, log)
	if errors.Is(err, receive.ErrNoLedger) {
		return new(central), nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if missing > 0 && !removed {
		return nil, nil, broken(checkGap, "%d central files that the ledger names are missing", missing)
	}
	c = &central{data: buf.Bytes()}
	extents, err := receive.Extents(outputs, identity, log)
	if err != nil {
		return nil, nil, err
	}
	have := map[uint64][][2]uint64{}
	for _, x := range extents {
		if x.End < 0 {
			st, err := os.Stat(filepath.Join(x.Output, x.File))
			if err != nil {
				continue // renamed at this moment: the sum tells
			}
			x.End = st.Size()
		} else if removed {
			f, err := receive.OpenCentral(x.Output, x.File)
			if err != nil {
				continue
			}
			f.Close()
		}
		have[x.Epoch] = append(have[x.Epoch], [2]uint64{x.From, x.From + uint64(x.End-x.Offset)})
	}
	type place struct{ epoch, from, to uint64 }
	seen := map[place]bool{}
	for _, output := range slices.Compact(slices.Clone(outputs)) {
		names, err := receive.Ledgers(output, identity, log)
		if errors.Is(err, receive.ErrNoLedger) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		for _, name := range names {
			entries, err := receive.Ledger(filepath.Join(output, name))
			if err != nil {
				return nil, nil, err
			}
			for _, e := range entries {
				switch e.Event {
				case receive.EventGap:
					at := place{e.Epoch, e.From, e.To}
					if seen[at] {
						continue // of a receiver that was stopped before it knew that another had gone on
					}
					seen[at] = true
					c.holes = append(c.holes, hole{before(have, e.Epoch, e.From), *e.Bytes, e.Exact, e.Cause, false})
				case receive.EventFork, receive.EventDamage:
					strange = append(strange, fmt.Sprintf("%s of %d to %d: %s", e.Event, e.From, e.To, e.Cause))
				}
			}
		}
	}
	if removed {
		parts, _, err := receive.Holes(outputs, identity, log)
		if err != nil {
			return nil, nil, err
		}
		for _, p := range parts {
			if p.To > p.From { // else nobody knows whether there was anything
				c.holes = append(c.holes, hole{before(have, p.Epoch, p.From), int64(p.To - p.From), true, p.Why, true})
			}
		}
	}
	if n := before(have, ^uint64(0), 0); n != len(c.data) {
		return nil, nil, fmt.Errorf("the ledger tells of %d bytes, and %d are there", n, len(c.data))
	}
	slices.SortStableFunc(c.holes, func(a, b hole) int { return a.at - b.at })
	return c, strange, nil
}

// damaged is how many bytes are named as damaged.
func (c *central) damaged() (n int64) {
	if c == nil {
		return 0
	}
	for _, h := range c.holes {
		if h.gone {
			n += h.bytes
		}
	}
	return n
}

// before is how many bytes lie before a position, in all ranges together.
func before(have map[uint64][][2]uint64, epoch, position uint64) (n int) {
	for e, list := range have {
		if e > epoch {
			continue
		}
		slices.SortFunc(list, func(a, b [2]uint64) int {
			if a[0] < b[0] {
				return -1
			}
			return 1
		})
		at := uint64(0)
		for _, x := range list {
			to := x[1]
			if e == epoch {
				to = min(to, position)
			}
			if from := max(at, x[0]); from < to {
				n += int(to - from)
				at = to
			}
		}
	}
	return n
}
