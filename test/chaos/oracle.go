package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// Checks that the oracle makes. The name of one that failed is part of every report.
const (
	checkOnce  = "once"  // every byte at the centre was written, and is there once
	checkOrder = "order" // in the order in which they were written
	checkGap   = "gap"   // what is missing is in the ledger, with its true size and cause, and nothing else is
	checkLag   = "lag"   // all of it arrives, and the nodes know that
	checkEnd   = "end"   // every process ends in order
)

// violation is a promise that wasn't kept.
type violation struct {
	check string
	text  string
}

func (v *violation) Error() string { return v.check + ": " + v.text }

func broken(check, format string, args ...any) error {
	return &violation{check, fmt.Sprintf(format, args...)}
}

// span is a part of what was written: offsets, and why it may be missing without a trace.
type span struct {
	from, to int
	why      string
}

// account is what one log's writer knows: all bytes in their order, and those of them that were gone from the node's disk before
// anybody could have been sure to have read them.
type account struct {
	written  []byte
	doubtful []span   // in order, not overlapping
	gone     []span   // were there to be read, and aren't: missing with a gap
	causes   []string // of gaps that are true
	removed  int      // so much may have been removed at the centre
	doubles  bool     // what was sent before may come again
	least    bool     // where the ledger isn't sure of a gap's size, it is at least that
	honest   bool     // where there is a gap something is lost
}

// hole is a gap of the ledger.
type hole struct {
	at    int   // offset in the central bytes that it lies before
	bytes int64 // -1: unknown
	exact bool
	cause string
	gone  bool // no gap: it was central, and is named as damaged
}

// central is what the centre has of a log.
type central struct {
	data  []byte
	holes []hole // in order
}

// tally is what was compared.
type tally struct {
	Bytes   int64          `json:"bytes"`             // at the centre, equal to what was written
	Gaps    int            `json:"gaps"`              // lines of the ledger
	Lost    int64          `json:"lost,omitempty"`    // bytes that these stand for
	Unsized int            `json:"unsized"`           // gaps among them whose size the node couldn't know, or not exactly
	Unseen  int64          `json:"unseen,omitempty"`  // doubtful bytes that are neither at the centre nor in the ledger
	Removed int64          `json:"removed,omitempty"` // bytes that were central, were removed there, and are named as damaged
	Sealed  int64          `json:"sealed,omitempty"`  // bytes at the centre that are those of a node's seal
	Doubled int64          `json:"doubled,omitempty"` // bytes that are there again, where that is no promise
	Causes  map[string]int `json:"causes,omitempty"`
}

func (t *tally) add(o *tally) {
	t.Bytes, t.Gaps, t.Lost, t.Unsized, t.Unseen, t.Doubled = t.Bytes+o.Bytes, t.Gaps+o.Gaps, t.Lost+o.Lost, t.Unsized+o.Unsized, t.Unseen+o.Unseen, t.Doubled+o.Doubled
	t.Removed += o.Removed
	t.Sealed += o.Sealed
	for c, n := range o.Causes {
		if t.Causes == nil {
			t.Causes = map[string]int{}
		}
		t.Causes[c] += n
	}
}

// window is how many bytes tell a place in what was written from all others: lines have that much at random.
const window = 64

// matcher goes along both, what was written and what is central.
type matcher struct {
	a      *account
	c      *central
	i, j   int // in a.written, in c.data
	search bool
	unsure int64 // what the ledger says at least, of the gaps that are searched over
	sized  int   // offset in c.data right behind the last gap whose size is known; -1: none
	t      tally
}

// judge compares. Its error is a violation.
func judge(a *account, c *central) (tally, error) {
	m := &matcher{a: a, c: c, sized: -1}
	for _, h := range c.holes {
		if err := m.run(h.at); err != nil {
			return m.t, err
		}
		if err := m.hole(h); err != nil {
			return m.t, err
		}
	}
	if err := m.run(len(c.data)); err != nil {
		return m.t, err
	}
	return m.t, m.end()
}

// run matches central bytes up to an offset.
func (m *matcher) run(end int) error {
	if m.j < end && m.search {
		if err := m.find(end); err != nil {
			return err
		}
	}
	for m.j < end {
		n := common(m.a.written[m.i:], m.c.data[m.j:end])
		m.i, m.j, m.t.Bytes = m.i+n, m.j+n, m.t.Bytes+int64(n)
		if m.j < end && !m.skip(end, n) && !m.again(end, n) {
			return m.differs(end)
		}
	}
	return nil
}

func common(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// find goes on behind a gap of unknown size, where the central bytes go on.
func (m *matcher) find(end int) error {
	part := m.c.data[m.j:min(end, m.j+window)]
	n := bytes.Index(m.a.written[m.i:], part)
	if at := bytes.Index(m.a.written[:m.i], part); n < 0 && at >= 0 && m.a.doubles { // what comes again may come behind a gap
		m.t.Doubled += int64(m.i - at)
		m.t.Bytes -= int64(m.i - at)
		m.i, m.search, m.unsure = at, false, 0
		return nil
	}
	if n < 0 {
		return m.differs(end)
	}
	if int64(n) < m.unsure {
		return broken(checkGap, "the ledger says that %d bytes are lost behind byte %d, and %d are", m.unsure, m.i, n)
	}
	if n == 0 && m.a.honest {
		return broken(checkGap, "the ledger says that bytes are lost behind byte %d, and none are", m.i)
	}
	if err := m.mayBeLost(m.i + n); err != nil {
		return err
	}
	m.t.Lost += int64(n)
	m.i += n
	m.search, m.unsure = false, 0
	return nil
}

// mayBeLost makes sure that a gap of which the ledger doesn't know the size isn't the cover for more than was lost on the node.
func (m *matcher) mayBeLost(to int) error {
	at := m.i
	for moved := true; moved && at < to; {
		moved = false
		for _, list := range [][]span{m.a.doubtful, m.a.gone} {
			for _, d := range list {
				if d.from <= at && at < d.to {
					at, moved = d.to, true
				}
			}
		}
	}
	if at < to {
		return broken(checkGap, "behind a gap at byte %d, %d bytes that were written at %d are lost, and the node's disk had them", m.i, to-at, at)
	}
	return nil
}

// skip goes over doubtful bytes that aren't central. The n bytes before, which were equal, may have been so by chance.
func (m *matcher) skip(end, n int) bool {
	all := m.a.doubtful
	for k := range all {
		if m.i < all[k].from || m.i > all[k].to {
			continue
		}
		for last := k; last < len(all) && (last == k || all[last].from == all[last-1].to); last++ { // those that follow may be gone as well
			to := all[last].to
			for back := 0; back <= min(n, m.i-all[k].from, window/2); back++ {
				if m.i-back == to || !m.continues(to, m.j-back, end) {
					continue
				}
				m.t.Unseen += int64(to - (m.i - back))
				m.t.Bytes -= int64(back)
				m.i, m.j = to, m.j-back
				return true
			}
		}
	}
	return false
}

// continues tells whether central bytes from j on are those that were written from i on, beyond where the two last differed.
func (m *matcher) continues(i, j, end int) bool {
	n := common(m.a.written[i:], m.c.data[j:min(end, j+window)])
	return n > m.j-j && n == min(end-j, window)
}

// again goes back to where what was sent before comes once more, where that is allowed.
func (m *matcher) again(end, n int) bool {
	if !m.a.doubles {
		return false
	}
	for back := 0; back <= min(n, window/2); back++ {
		part := m.c.data[m.j-back : min(end, m.j-back+window)]
		if at := bytes.Index(m.a.written[:m.i], part); at >= 0 && len(part) > back {
			m.t.Doubled += int64(m.i - back - at)
			m.t.Bytes -= int64(m.i - at)
			m.i, m.j = at, m.j-back
			return true
		}
	}
	return false
}

// hole goes over a gap of the ledger.
func (m *matcher) hole(h hole) error {
	if h.gone {
		if to := int64(m.i) + h.bytes; m.search || to > int64(m.a.removed) {
			return broken(checkGap, "%d bytes behind byte %d are said to be damaged (%s); what was written from %d on was never removed", h.bytes, m.i, h.cause, m.a.removed)
		}
		m.i += int(h.bytes)
		m.sized = m.j
		m.t.Removed += h.bytes
		return nil
	}
	if !slices.ContainsFunc(m.a.causes, func(c string) bool { return strings.HasPrefix(h.cause, c) }) {
		return broken(checkGap, "a gap of %d bytes behind byte %d, because %q; what could be lost here, if anything: %q", h.bytes, m.i, h.cause, m.a.causes)
	}
	m.t.Gaps++
	if m.t.Causes == nil {
		m.t.Causes = map[string]int{}
	}
	m.t.Causes[h.cause]++
	if h.bytes >= 0 && h.exact && !m.search {
		if int64(m.i)+h.bytes > int64(len(m.a.written)) {
			return broken(checkGap, "a gap of %d bytes behind byte %d, where %d were written", h.bytes, m.i, len(m.a.written)-m.i)
		}
		m.i += int(h.bytes)
		m.sized = m.j
		m.t.Lost += h.bytes
		return nil
	}
	m.t.Unsized++
	m.search = true
	if m.a.least {
		m.unsure += max(h.bytes, 0)
	}
	return nil
}

// end looks at what is left of what was written.
func (m *matcher) end() error {
	left := len(m.a.written) - m.i
	if left == 0 {
		return nil
	}
	if m.search {
		m.t.Lost += int64(left)
		return m.mayBeLost(len(m.a.written))
	}
	for _, d := range m.a.doubtful {
		if d.from <= m.i && d.to == len(m.a.written) {
			m.t.Unseen += int64(left)
			return nil
		}
	}
	return broken(checkLag, "the last %d of %d bytes are missing", left, len(m.a.written))
}

// differs says what is wrong where central bytes aren't what comes next.
func (m *matcher) differs(end int) error {
	part := m.c.data[m.j:min(end, m.j+window)]
	text := func(b []byte) string { return fmt.Sprintf("%.40q", b[:min(len(b), 40)]) }
	if len(part) == 0 {
		return nil
	}
	at := bytes.Index(m.a.written, part)
	switch {
	case m.sized >= 0 && m.j-m.sized < window/2:
		return broken(checkGap, "byte %d of the centre: %s doesn't continue behind the gap before it; %s does", m.sized, text(m.c.data[m.sized:]), text(m.a.written[m.i-(m.j-m.sized):]))
	case at < 0:
		return broken(checkOnce, "byte %d of the centre: %s was never written; %s is next", m.j, text(part), text(m.a.written[m.i:]))
	case at < m.i:
		if bytes.Contains(m.c.data[:m.j], part[:min(len(part), window/3)]) {
			return broken(checkOnce, "byte %d of the centre: what was written at %d is there twice", m.j, at)
		}
		return broken(checkOrder, "byte %d of the centre: what was written at %d comes behind what was written at %d", m.j, at, m.i)
	}
	missing := m.a.written[m.i:min(m.i+window, at)]
	if len(missing) == window && bytes.Contains(m.c.data[m.j:], missing) {
		return broken(checkOrder, "byte %d of the centre: what was written at %d comes before what was written at %d", m.j, at, m.i)
	}
	return broken(checkGap, "%d bytes that were written at %d are lost, and the ledger has no gap there that says so", at-m.i, m.i)
}
