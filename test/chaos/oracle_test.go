package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestOracle: what is exact passes, and each way to be wrong is seen, by the check that is for it.
func TestOracle(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var lines [][]byte
	for i := range 40 {
		lines = append(lines, fmt.Appendf(nil, "app %06d %016x%016x\n", i, random.Uint64(), random.Uint64()))
	}
	join := func(from, to int) []byte { return bytes.Join(lines[from:to], nil) }
	all := join(0, 40)
	size := len(lines[0])
	cat := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	cut := []string{"truncated"}
	gone := func(from, to int) []span { return []span{{from: from * size, to: to * size}} }
	lost := func(at, n int, exact bool, cause string) []hole {
		return []hole{{at * size, int64(n), exact, cause, false}}
	}
	removed := func(at, n int) []hole {
		return []hole{{at * size, int64(n * size), true, "the file isn't there", true}}
	}
	for _, c := range []struct {
		name  string
		a     account
		c     central
		check string
	}{
		{"exact", account{written: all}, central{data: all}, ""},
		{"nothing", account{}, central{}, ""},
		{"the end is missing", account{written: all}, central{data: join(0, 30)}, checkLag},
		{"a line twice", account{written: all}, central{data: cat(join(0, 20), join(19, 40))}, checkOnce},
		{"the last line twice", account{written: all}, central{data: cat(all, lines[39])}, checkOnce},
		{"others' bytes", account{written: all}, central{data: cat(join(0, 20), []byte("of somebody else, and long enough\n"), join(20, 40))}, checkOnce},
		{"a byte changed", account{written: all}, central{data: cat(join(0, 20), bytes.ToUpper(lines[20]), join(21, 40))}, checkOnce},
		{"two lines swapped", account{written: all}, central{data: cat(join(0, 20), lines[22], lines[23], lines[20], lines[21], join(24, 40))}, checkOrder},
		{"removed, and named", account{written: all, removed: 30 * size}, central{data: cat(join(0, 10), join(20, 40)), holes: removed(10, 10)}, ""},
		{"removed, and named too large", account{written: all, removed: 30 * size}, central{data: cat(join(0, 10), join(20, 40)), holes: removed(10, 11)}, checkGap},
		{"removed, and not named", account{written: all, removed: 30 * size}, central{data: cat(join(0, 10), join(20, 40))}, checkGap},
		{"named, and never removed", account{written: all, removed: 15 * size}, central{data: cat(join(0, 10), join(20, 40)), holes: removed(10, 10)}, checkGap},
		{"lines twice, where that may be", account{written: all, doubles: true}, central{data: cat(join(0, 20), join(15, 40))}, ""},
		{"lost, where lines may come twice", account{written: all, doubles: true}, central{data: cat(join(0, 20), join(23, 40))}, checkGap},
		{"lost", account{written: all}, central{data: cat(join(0, 20), join(23, 40))}, checkGap},
		{"lost, with a gap", account{written: all, causes: cut}, central{cat(join(0, 20), join(23, 40)), lost(20, 3*size, true, "truncated")}, ""},
		{"a gap too small", account{written: all, causes: cut}, central{cat(join(0, 20), join(23, 40)), lost(20, 2*size, true, "truncated")}, checkGap},
		{"a gap too big", account{written: all, causes: cut}, central{cat(join(0, 20), join(23, 40)), lost(20, 4*size, true, "truncated")}, checkGap},
		{"a gap elsewhere", account{written: all, causes: cut}, central{cat(join(0, 20), join(23, 40)), lost(10, 3*size, true, "truncated")}, checkGap},
		{"a gap with another cause", account{written: all, causes: cut}, central{cat(join(0, 20), join(23, 40)), lost(20, 3*size, true, "deleted")}, checkGap},
		{"a gap where nothing is lost", account{written: all, causes: cut}, central{all, lost(20, size, true, "truncated")}, checkGap},
		{"a gap of unknown size", account{written: all, causes: cut, gone: gone(20, 23)}, central{cat(join(0, 20), join(23, 40)), lost(20, -1, false, "truncated")}, ""},
		{"a gap of at least", account{written: all, causes: cut, gone: gone(20, 23)}, central{cat(join(0, 20), join(23, 40)), lost(20, size, false, "truncated")}, ""},
		{"a gap of unknown size that covers more than was lost", account{written: all, causes: cut, gone: gone(20, 22)}, central{cat(join(0, 20), join(23, 40)), lost(20, -1, false, "truncated")}, checkGap},
		{"a gap of unknown size at the end that covers more", account{written: all, causes: cut, gone: gone(30, 39)}, central{join(0, 30), lost(30, -1, false, "truncated")}, checkGap},
		{"an estimate that is too big", account{written: all, causes: cut, gone: gone(20, 23)}, central{cat(join(0, 20), join(23, 40)), lost(20, 4*size, false, "truncated")}, ""},
		{"a gap that says too much", account{written: all, causes: cut, least: true, gone: gone(20, 24)}, central{cat(join(0, 20), join(23, 40)), lost(20, 4*size, false, "truncated")}, checkGap},
		{"a line twice behind an unknown gap", account{written: all, causes: cut}, central{cat(join(0, 20), join(19, 40)), lost(20, -1, false, "truncated")}, checkOnce},
		{"doubtful, and there", account{written: all, doubtful: []span{{20 * size, 23 * size, ""}}}, central{data: all}, ""},
		{"doubtful, and gone", account{written: all, doubtful: []span{{20 * size, 23 * size, ""}}}, central{data: cat(join(0, 20), join(23, 40))}, ""},
		{"doubtful, and half there", account{written: all, doubtful: []span{{20 * size, 23 * size, ""}}}, central{data: cat(join(0, 20), lines[20], lines[21][:9], join(23, 40))}, ""},
		{"more lost than is doubtful", account{written: all, doubtful: []span{{20 * size, 23 * size, ""}}}, central{data: cat(join(0, 20), join(24, 40))}, checkGap},
		{"other bytes lost than is doubtful", account{written: all, doubtful: []span{{20 * size, 23 * size, ""}}}, central{data: cat(join(0, 30), join(33, 40))}, checkGap},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := judge(&c.a, &c.c)
			var v *violation
			if errors.As(err, &v); (v == nil) != (c.check == "") || v != nil && v.check != c.check {
				t.Errorf("%+v, %v; want %q", got, err, c.check)
			}
		})
	}
}

// A matrix keeps what wasn't run again.
func TestMatrixKeepsOtherRows(t *testing.T) {
	all := faults()
	p := &published{Faults: []row{{Fault: "no longer a fault"}, {Fault: all[0].name, Lag: "old"}, {Fault: all[2].name, Lag: "old"}}}
	p.replace([]row{{Fault: all[2].name, Lag: "new"}, {Fault: all[1].name, Lag: "new"}}, 1)
	var got []string
	for _, r := range p.Faults {
		got = append(got, r.Fault+" "+r.Lag)
	}
	if want := []string{all[0].name + " old", all[1].name + " new", all[2].name + " new"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
