package pipe

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// TestRandomFaultsInProcess rotates two logs, and restarts, crashes and cuts off everything, in the order that a seed gives,
// with the books checked all along.
func TestRandomFaultsInProcess(t *testing.T) {
	t.Parallel()
	number := seed(t)
	t.Logf("LOGFORWARD_SEED=%d", number)
	random := rand.New(rand.NewPCG(number, 5))
	n := newRig(t).node
	n.logs = append(n.logs, n.entry("second"))
	want := map[string][]byte{}
	rotated := 0
	write := func(log string) {
		b := text(fmt.Sprintf("%s %d", log, len(want[log])), 1+random.IntN(30<<10))
		if random.IntN(3) == 0 {
			b = b[:1+random.IntN(len(b))] // a partial line
		}
		n.write(log+".log", b)
		want[log] = join(want[log], b)
	}
	for _, l := range n.logs {
		write(l.Name)
	}
	n.start()
	read := func(log string) {
		n.eventually("all to be read", func() error {
			if s := n.status(log); s.HandedOut == 0 || s.LagBytes != int64(s.Unconfirmed) {
				return fmt.Errorf("%s: lag %d, unconfirmed %d: %s", s.State, s.LagBytes, s.Unconfirmed, s.LastError)
			}
			return nil
		})
	}
	arrived := func(log string) {
		n.eventually(log+" to arrive", func() error { return n.compare(log, want[log], nil) })
	}
	for _, l := range n.logs {
		arrived(l.Name)
	}
	actions := []struct {
		name   string
		weight int
		do     func(log string)
	}{
		{"write", 20, write},
		{"rename", 5, func(log string) {
			rotated++
			n.rename(log+".log", fmt.Sprintf("%s.log.%d", log, 10000-rotated))
			write(log)
		}},
		{"copytruncate", 3, func(log string) {
			arrived(log)
			rotated++
			n.copy(log+".log", fmt.Sprintf("%s.log.%d", log, 10000-rotated))
			n.truncate(log + ".log")
			write(log)
			read(log)
		}},
		{"restart the node", 2, func(string) { n.stop(); n.start() }},
		{"crash the node", 2, func(string) { n.crash(); n.start() }},
		{"restart the receiver", 2, func(string) { n.restartReceiver() }},
		{"crash the receiver", 2, func(string) { n.crashReceiver(); n.startReceiver() }},
		{"cut the node off", 2, func(string) { n.speaks.set(true); n.status("app"); n.speaks.set(false) }},
		{"cut the receiver off", 2, func(string) { n.hears.set(true); n.status("app"); n.hears.set(false) }},
		{"restart the broker", 1, func(string) { n.stopBroker(); n.startBroker() }},
	}
	sum := 0
	for _, a := range actions {
		sum += a.weight
	}
	begin := time.Now()
	for until := begin.Add(seconds(t, 5)); time.Now().Before(until); {
		log := n.logs[random.IntN(len(n.logs))].Name
		at := random.IntN(sum)
		for _, a := range actions {
			if at -= a.weight; at < 0 {
				t.Logf("%6.3fs %s %s", time.Since(begin).Seconds(), a.name, log)
				a.do(log)
				break
			}
		}
		n.status(log) // its books
		if random.IntN(20) == 0 {
			arrived(log)
		}
	}
	for _, l := range n.logs {
		n.exact(l.Name, want[l.Name])
		if e := n.epochs(l.Name); len(e) != 1 {
			t.Errorf("%s: epochs %v", l.Name, e)
		}
		t.Logf("%s: %d bytes", l.Name, len(want[l.Name]))
	}
}
