package forward

import (
	"bytes"
	"os"
	"testing"

	"logforward/internal/chunk"
)

// What was written late to a rotated file is sent when it is seen. A node that has lost its state reads in another order what it had sent behind the centre's place,
// and the centre may take the first order meanwhile: nothing of it comes twice.
func TestForwardAnotherOrderAfterALostStateDoublesNothing(t *testing.T) {
	for name, lose := range map[string]bool{"all was taken": false, "some was taken": true} {
		t.Run(name, func(t *testing.T) {
			c := newCentre(t)
			n := newNode(t, c)
			r := seeded(t)
			first, second, late, third, fourth := lines(r, 100), lines(r, 100), lines(r, 20), lines(r, 60), lines(r, 10)
			want := append(bytes.Clone(first), second...)
			n.append("app", first)
			n.start(n.log("app"))
			n.delivered("app", first)
			if err := os.Rename(n.path("app"), n.path("app")+".1"); err != nil {
				t.Fatal(err)
			}
			n.append("app", second)
			n.delivered("app", want)

			c.rest(true)
			stored := func(behind ...[]byte) {
				t.Helper()
				end := uint64(len(want) + len(bytes.Join(behind, nil)))
				eventually(t, "stored", func() bool { return n.status("app").Stored == end })
			}
			f, err := os.OpenFile(n.path("app")+".1", os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.Write(late); err != nil {
				t.Fatal(err)
			}
			stored(late)
			n.append("app", third)
			stored(late, third)
			n.crash()
			n.forget()
			if at := uint64(len(want) + len(late)); lose { // the broker loses the rest of the first order
				c.with(func() {
					c.lose = func(ch *chunk.Chunk) bool {
						return ch.Position >= at && ch.End() <= at+uint64(len(third)) && bytes.Equal(ch.Data, third[ch.Position-at:ch.End()-at])
					}
				})
			}
			n.start()
			stored(third, late)
			c.rest(false)
			want = append(append(want, late...), third...)
			n.delivered("app", want)
			n.append("app", fourth)
			n.delivered("app", append(want, fourth...))
			if g := c.look("app"); len(g.epochs) != 2 || len(g.gaps) != 0 {
				t.Errorf("epochs %v, gaps %v: the order was the same, and nothing is shown", g.epochs, g.gaps)
			}
		})
	}
}
