package pipe

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"logforward/internal/broker"
	"logforward/internal/forward"
	"logforward/internal/receive"
)

// sites are two centres and a node that knows both.
func sites(t *testing.T) (a, b *rig, n *node, toB *link) {
	a, b = newRig(t), newRig(t)
	toB = newLink(t, b.serve.Listen)
	n = a.node
	n.change = func(c *forward.Config) {
		c.Destinations["other"] = forward.Destination{Broker: broker.Options{URLs: []string{toB.address}}}
	}
	return a, b, n, toB
}

// to sends the node's log to a destination from now on.
func (n *node) to(destination string) {
	n.logs[0].Destination = destination
	if n.engine != nil {
		n.engine.Set(n.logs)
	}
}

// has is what a centre has of a log.
func (r *rig) has(log string) []byte {
	r.t.Helper()
	var b bytes.Buffer
	if _, err := receive.Cat(&b, []string{r.receiving.Output}, identity, log); err != nil && !errors.Is(err, receive.ErrNoLedger) {
		r.t.Fatal(err)
	}
	return b.Bytes()
}

// TestRedirectWaitsForTheOldDestination: what was sent and isn't confirmed may arrive at the old destination at any time,
// so nothing goes to the new one before the old one has confirmed it, over restarts of the node too.
func TestRedirectWaitsForTheOldDestination(t *testing.T) {
	t.Parallel()
	a, b, n, _ := sites(t)
	n.start()
	begin := text("begin", 1<<10)
	n.write("app.log", begin)
	n.exact("app", begin)
	a.stopReceiver()
	first := text("first", 200<<10)
	n.write("app.log", first)
	first = join(begin, first)
	n.stored("app", len(first)) // at the broker; nobody confirms it
	n.to("other")
	second := text("second", 100<<10)
	n.write("app.log", second)
	redirecting := func() {
		t.Helper()
		n.eventually("the old destination to be waited for", func() error {
			if s := n.status("app"); s.State != forward.Redirecting && s.State != forward.Syncing {
				return fmt.Errorf("%s at %s: %s", s.State, s.Destination, s.LastError)
			}
			return nil
		})
		if got := b.has("app"); len(got) != 0 {
			t.Fatalf("%d bytes went to the new destination while the old one had unconfirmed ones", len(got))
		}
	}
	redirecting()
	n.stop()
	n.start() // with the new destination, as if nothing had been
	redirecting()
	n.crash()
	n.start()
	redirecting()
	a.startReceiver()
	n.eventually("all to arrive", func() error {
		got := append(a.has("app"), b.has("app")...)
		if want := join(first, second); !bytes.Equal(got, want) {
			return fmt.Errorf("%d bytes at both, %d were written", len(got), len(want))
		}
		return n.atRest("app")
	})
	if got := a.has("app"); len(got) < len(first) {
		t.Errorf("%d bytes at the old destination, %d were sent there", len(got), len(first))
	}
}

// TestRedirectLosesAndDoublesNothing redirects to and fro while everything fails that may.
func TestRedirectLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	a, b, n, toB := sites(t)
	number := seed(t)
	t.Logf("LOGFORWARD_SEED=%d", number)
	random := rand.New(rand.NewPCG(number, 7))
	n.start()
	want := text("begin", 1<<10)
	n.write("app.log", want)
	n.exact("app", want)
	for i := range 40 {
		part := text(fmt.Sprintf("p%02d", i), 1<<10+random.IntN(60<<10))
		n.write("app.log", part)
		want = join(want, part)
		switch random.IntN(9) {
		case 0, 1:
			n.to("other")
		case 2, 3:
			n.to("central")
		case 4:
			n.crash()
			n.start()
		case 5:
			n.stop()
			n.start()
		case 6:
			// As logrotate numbers them: two files of one instant have no other order.
			n.rename("app.log", fmt.Sprintf("app.log.%d", 99-i))
		case 7:
			k := n.speaks
			if random.IntN(2) == 0 {
				k = toB
			}
			k.set(true)
			k.set(false)
		case 8:
			r := a
			if random.IntN(2) == 0 {
				r = b
			}
			r.crashReceiver()
			r.startReceiver()
		}
	}
	last := text("last", 1<<10)
	n.write("app.log", last)
	want = join(want, last)
	n.eventually("all to arrive", func() error {
		if err := n.atRest("app"); err != nil {
			return err
		}
		return onceAndInOrder(want, a.has("app"), b.has("app"))
	})
	for _, r := range []*rig{a, b} {
		gaps, err := r.node.gaps("app")
		if err == nil && len(gaps) > 0 {
			t.Errorf("gaps: %v", gaps)
		}
	}
}

// onceAndInOrder checks that each line of all is in one of two parts, whose lines have its order.
func onceAndInOrder(all, a, b []byte) error {
	if len(a)+len(b) != len(all) {
		return fmt.Errorf("%d and %d bytes of %d", len(a), len(b), len(all))
	}
	ra, rb := bytes.NewBuffer(a), bytes.NewBuffer(b)
	la, ea := ra.ReadBytes('\n')
	lb, eb := rb.ReadBytes('\n')
	for line := range bytes.Lines(all) {
		switch {
		case ea == nil && bytes.Equal(line, la):
			la, ea = ra.ReadBytes('\n')
		case eb == nil && bytes.Equal(line, lb):
			lb, eb = rb.ReadBytes('\n')
		default:
			return fmt.Errorf("line %q: one part goes on with %q, the other with %q", line, la, lb)
		}
	}
	if ea != io.EOF || eb != io.EOF {
		return errors.New("there is more than was written")
	}
	return nil
}
