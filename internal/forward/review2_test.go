package forward

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"logforward/internal/chunk"
)

// A hello must be one message, whatever the broker takes and however long the names are.
func TestHelloFitsIntoAMessage(t *testing.T) {
	for _, c := range []struct{ limit, logs, name, atMost int }{
		{0, 1200, 20, 3},
		{1 << 20, 1200, 20, 3},
		{1 << 20, 1200, chunk.MaxToken, 3},
		{64 << 10, 500, 20, 4},
		{64 << 10, 10000, chunk.MaxToken, 100},
		{256, 3, 20, 3},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			l := &link{maxPayload: c.limit}
			var tokens []string
			for i := range c.logs {
				tokens = append(tokens, fmt.Sprintf("%s%05d", strings.Repeat("x", c.name-5), i))
			}
			var all []string
			n := 0
			for batch := range l.batches(tokens) {
				h := chunk.Hello{Instance: strings.Repeat("i", 64), Layout: strings.Repeat("l", 64), Logs: map[string]chunk.HelloLog{}}
				for _, token := range batch {
					h.Logs[token] = chunk.HelloLog{Epoch: chunk.MaxPosition, Predecessor: chunk.MaxPosition - 1, Partition: 1 << 16, Stored: chunk.MaxPosition,
						Confirmed: chunk.MaxPosition, Digest: math.MaxUint64, Round: math.MaxUint64, Weak: true}
				}
				b := marshal(h)
				if _, err := chunk.ParseHello(b); err != nil {
					t.Fatal(err)
				}
				if c.limit > 1<<10 && len(b) > c.limit {
					t.Fatalf("%d bytes with %d logs", len(b), len(batch))
				}
				all = append(all, batch...)
				n++
			}
			if strings.Join(all, " ") != strings.Join(tokens, " ") || n > c.atMost {
				t.Errorf("%d of %d logs in %d hellos", len(all), len(tokens), n)
			}
		})
	}
}
