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
	i, _ := slices.BinarySearchFunc(c, covered{epoch, from, 0}, func(a, b covered) int { // the first that ends behind from
		if a.epoch == b.epoch && a.to <= b.from {
			return -1
		}
		return cmp.Or(cmp.Compare(a.epoch, b.epoch), 1)
	})
	for ; i < len(c) && c[i].epoch == epoch && c[i].from < to; i++ {
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

// has tells whether all of a range is in the set.
func (c coverage) has(epoch, from, to uint64) bool { return len(c.without(epoch, from, to)) == 0 }
