package receive

import (
	"testing"

	"logforward/internal/chunk"
)

// Of a gap whose first positions are here as bytes only the rest is lost, and the ledger must not say more.
func TestGapBehindWhatIsHere(t *testing.T) {
	for _, c := range []struct {
		name         string
		gap          chunk.Gap
		length, skip uint64
		lost         int64
		exact        bool
	}{
		{"all of it", chunk.Gap{Bytes: 100, Exact: true}, 100, 0, 100, true},
		{"a part", chunk.Gap{Bytes: 100, Exact: true}, 100, 30, 70, true},
		{"an estimate", chunk.Gap{Bytes: 100}, 100, 30, 70, false},
		{"positions that were only reserved", chunk.Gap{Bytes: 100, Exact: true}, 1 << 26, 30, -1, false},
		{"unknown", chunk.Gap{Bytes: -1}, 100, 30, -1, false},
		{"unknown, all of it", chunk.Gap{Bytes: -1}, 100, 0, -1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if lost, exact := gapBehind(&c.gap, c.length, c.skip); lost != c.lost || exact != c.exact {
				t.Errorf("%d, %v; want %d, %v", lost, exact, c.lost, c.exact)
			}
		})
	}
}
