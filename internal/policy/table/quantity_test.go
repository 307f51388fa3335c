package table

import (
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"logforward/internal/control"
)

// A length or rate that is one here is the same to the node; the node takes some more, which are within no limit.
func TestQuantitiesAreTheNodes(t *testing.T) {
	r := newRandom(seed(t))
	digits := func(most int) string {
		var b strings.Builder
		for range 1 + r.IntN(most) {
			b.WriteByte(byte('0' + r.IntN(10)))
		}
		return b.String()
	}
	number := func(whole, decimals int) string {
		if r.often(3) {
			return digits(whole) + "." + digits(decimals)
		}
		return digits(whole)
	}
	lengths, rates := 0, 0
	for range 20000 {
		var b strings.Builder
		for range 1 + r.IntN(3) {
			b.WriteString(number(4, 4) + pick(r, []string{"ms", "s", "m", "h", "d", "w", "us", "H", ""}))
		}
		text := b.String()
		if mine, ok := duration(text); ok {
			theirs, err := control.ParseDuration(text)
			if err != nil {
				if mine.Cmp(big.NewInt(int64(control.MaxDuration))) <= 0 {
					t.Errorf("%s: %s here, and the node says %v", text, mine, err)
				}
				continue
			}
			lengths++
			// The node counts in floating point: with decimals, or beyond 104 days, it is some nanoseconds off.
			exact := !strings.Contains(text, ".") && time.Duration(theirs) < 100*24*time.Hour
			if off := new(big.Int).Sub(mine, big.NewInt(int64(theirs))); off.CmpAbs(big.NewInt(64)) > 0 || off.Sign() != 0 && exact {
				t.Errorf("%s: %s here, %d to the node", text, mine, theirs)
			}
			// What the node tells the policy is its own text of it, to the millisecond.
			shown := control.Duration(time.Duration(theirs).Round(time.Millisecond))
			if again, ok := duration(shown.String()); shown > 0 && (!ok || again.Int64() != int64(shown)) {
				t.Errorf("%s: the node's own %s is %v here", text, shown, again)
			}
		}
		text = number(6, 4) + pick(r, []string{"", "", " ", "  "}) + pick(r, []string{"", "b", "B", "kB", "KiB", "m", "MIB", "g", "TiB", "K", "kibi"}) + pick(r, []string{"", "/s", " /s"})
		if mine, ok := rateOf(text); ok {
			theirs, err := control.ParseRate(text)
			if err != nil {
				if mine.Cmp(big.NewInt(1000)) >= 0 && mine.Cmp(big.NewInt(1000*control.MaxRate)) <= 0 {
					t.Errorf("%s: %s thousandths here, and the node says %v", text, mine, err)
				}
				continue
			}
			rates++
			if off := new(big.Int).Sub(mine, big.NewInt(1000*int64(theirs))); off.CmpAbs(big.NewInt(501)) > 0 {
				t.Errorf("%s: %s thousandths here, %d to the node", text, mine, theirs)
			}
			if again, ok := rateOf(theirs.String()); theirs > 0 && (!ok || again.Int64() != 1000*int64(theirs)) {
				t.Errorf("%s: the node's own %s is %v here", text, theirs, again)
			}
		}
	}
	if lengths < 1000 || rates < 1000 {
		t.Errorf("%d lengths and %d rates: that tests little", lengths, rates)
	}
}

func TestClock(t *testing.T) {
	for text, want := range map[string]int{"00:00": 0, "08:30": 510, "23:59": 1439, "24:00": 1440} {
		if have, err := clock(text); err != nil || have != want {
			t.Errorf("%s: %d %v", text, have, err)
		}
	}
	for _, text := range []string{"", "8:30", "08:60", "24:01", "25:00", "08:30:00", "0８:30", "08-30", " 08:30"} {
		if have, err := clock(text); err == nil {
			t.Errorf("%q: %d", text, have)
		}
	}
}

// The window's edges are those on the walls, also on the days on which clocks change.
func TestWindows(t *testing.T) {
	for _, c := range []struct {
		days, hours, at string
		in              bool
	}{
		{"sun", "02:00-03:00", "2026-03-29T00:59:59Z", false}, // 01:59:59 in Berlin
		{"sun", "02:00-03:00", "2026-03-29T01:00:00Z", false}, // 03:00: that hour isn't there
		{"sun", "02:00-03:00", "2026-10-25T00:30:00Z", true},  // 02:30, the first time
		{"sun", "02:00-03:00", "2026-10-25T01:30:00Z", true},  // 02:30, the second time
		{"sun", "02:00-03:00", "2026-10-25T02:00:00Z", false}, // 03:00
		{"sat", "22:00-06:00", "2026-03-29T03:59:00Z", true},  // 05:59 on Sunday, in summer time
		{"sat", "22:00-06:00", "2026-03-29T04:00:00Z", false}, // 06:00
		{"sat", "22:00-06:00", "2026-03-28T05:00:00Z", false}, // 06:00 on Saturday
		{"sun", "22:00-06:00", "2026-03-30T03:59:59Z", true},  // Monday
		{"sun", "00:00-24:00", "2026-03-28T23:00:00Z", true},
		{"sun", "00:00-24:00", "2026-03-28T22:59:59Z", false},
		{"sun", "22:00-00:00", "2026-03-29T21:59:59Z", true},
		{"sun", "22:00-00:00", "2026-03-29T22:00:00Z", false},
		{"fri-mon", "", "2026-03-30T10:00:00+02:00", true},
		{"fri-mon", "", "2026-03-31T10:00:00+02:00", false},
	} {
		table, err := Parse("t", fmt.Appendf(nil, "version: 1\nroles: {r: {callers: [up=x], actions: [status], times: [{days: [%s], hours: '%s', zone: Europe/Berlin}]}}", c.days, c.hours))
		if err != nil {
			t.Fatal(err)
		}
		in := map[string]any{"agent": "logforward", "action": "status", "callerid": "up=x", "time": c.at}
		if v := table.Decide(in, Node); v.Allowed != c.in {
			t.Errorf("%s %s at %s: %v", c.days, c.hours, c.at, v.Allowed)
		}
	}
}
