package receive

import (
	"cmp"
	"slices"
)

// covered is a range of positions that something is known of.
type covered struct{ epoch, from, to uint64 }

func compareCovered(a, b covered) int {
	return cmp.Or(cmp.Compare(a.epoch, b.epoch), cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to))
}

// coverage is a set of positions: ranges in order, of which no two touch or overlap. A log may have a hundred thousand gaps, so that
// nothing here looks at all ranges for one.
type coverage []covered

// newCoverage puts ranges together, in any order. It takes the slice over.
func newCoverage(ranges []covered) coverage {
	slices.SortFunc(ranges, compareCovered)
	c := coverage(ranges[:0])
	for _, x := range ranges {
		if n := len(c); n > 0 && c[n-1].epoch == x.epoch && c[n-1].to >= x.from {
			c[n-1].to = max(c[n-1].to, x.to)
			continue
		}
		if x.from < x.to {
			c = append(c, x)
		}
	}
	return c
}

// without are the parts of a range that aren't in the set, in order.
func (c coverage) without(epoch, from, to uint64) (left []covered) {
	for i := c.behind(epoch, from); i < len(c) && c[i].epoch == epoch && c[i].from < to; i++ {
		if from < c[i].from {
			left = append(left, covered{epoch, from, c[i].from})
		}
		from = max(from, c[i].to)
	}
	if from < to {
		left = append(left, covered{epoch, from, to})
	}
	return left
}

// behind is the first of its ranges that ends behind a position.
func (c coverage) behind(epoch, position uint64) int {
	i, _ := slices.BinarySearchFunc(c, covered{epoch, position, 0}, func(a, b covered) int {
		if a.epoch == b.epoch && a.to <= b.from {
			return -1
		}
		return cmp.Or(cmp.Compare(a.epoch, b.epoch), 1)
	})
	return i
}

// meets tells whether any of a range is in the set.
func (c coverage) meets(epoch, from, to uint64) bool {
	i := c.behind(epoch, from)
	return i < len(c) && c[i].epoch == epoch && c[i].from < to
}

// end is where the range ends that a position lies in; 0: it is in none.
func (c coverage) end(epoch, position uint64) uint64 {
	left := c.without(epoch, position, position+1)
	if len(left) > 0 {
		return 0
	}
	i, found := slices.BinarySearchFunc(c, covered{epoch, position, 0}, func(a, b covered) int {
		return cmp.Or(cmp.Compare(a.epoch, b.epoch), cmp.Compare(a.from, b.from))
	})
	if !found {
		i--
	}
	return c[i].to
}

// hole is the first position of a range that isn't in the set; false: all of it is.
func (c coverage) hole(epoch, from, to uint64) (at uint64, is bool) {
	at = max(from, c.end(epoch, from)) // the next range doesn't touch it
	return at, at < to
}

// has tells whether all of a range is in the set.
func (c coverage) has(epoch, from, to uint64) bool { return len(c.without(epoch, from, to)) == 0 }

// taken is the positions of an epoch that some piece has. Ranges are added in any order, and mostly in falling order ([choose]): so they are
// kept in that, and most come to the end.
type taken struct{ ranges []covered } // no two touch or overlap

// add takes a range, and says which parts of it nobody had.
func (t *taken) add(from, to uint64, free func(from, to uint64)) {
	if from >= to {
		return
	}
	// Those that touch or overlap it: [first, behind).
	first, _ := slices.BinarySearchFunc(t.ranges, to, func(x covered, to uint64) int { return cmp.Compare(to, x.from) })
	behind := first
	at := to
	low, high := from, to
	for behind < len(t.ranges) && t.ranges[behind].to >= from {
		x := t.ranges[behind]
		if x.to < at {
			free(x.to, at)
		}
		at = min(at, x.from)
		low, high = min(low, x.from), max(high, x.to)
		behind++
	}
	if from < at {
		free(from, at)
	}
	t.ranges = slices.Replace(t.ranges, first, behind, covered{0, low, high})
}
