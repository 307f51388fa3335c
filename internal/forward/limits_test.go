package forward

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"logforward/internal/awake"
	"logforward/internal/chunk"
)

func TestForwardPauseStopsWithinASecondAndKeepsPositions(t *testing.T) {
	c := newCentre(t)
	n := newNode(t, c)
	n.change = func(cfg *Config) { cfg.Limits.ChunkSize = 4 << 10; cfg.Limits.Rate = 200 << 10 }
	want := lines(seeded(t), 3000)
	n.append("app", want)
	n.start(n.log("app"))
	eventually(t, "it forwards", func() bool { return n.status("app").Confirmed > 0 })
	published := func() uint64 { return n.engine.runs["app"].stats.messages.Load() }
	for _, way := range []struct {
		name    string
		on, off func()
	}{
		{"one log", func() { n.engine.Pause("app", true) }, func() { n.engine.Pause("app", false) }},
		{"all", func() { n.engine.Pause("", true) }, func() { n.engine.Pause("", false) }},
		{"the fleet, by control", func() {
			p := c.press(chunk.Pause{Since: time.Now(), By: "ops", Reason: "test"}, 0)
			c.tell(chunk.Control{Pause: &p})
		}, func() {
			p := c.press(chunk.Pause{}, 0)
			c.tell(chunk.Control{Pause: &p})
		}},
		{"the fleet, by answer", func() {
			c.press(chunk.Pause{Since: time.Now(), By: "ops"}, 0)
		}, func() { c.press(chunk.Pause{}, 0) }},
	} {
		t.Run(way.name, func(t *testing.T) {
			watch := awake.Begin(t)
			way.on()
			eventually(t, "paused", func() bool { return n.status("app").State == Paused })
			watch.End()
			if took := watch.Took(); took > time.Second {
				t.Errorf("took %s", took)
			}
			was, at := published(), n.status("app")
			for range 20 {
				n.status("app") // each asks the forwarder, so it has had its turns
			}
			if now := n.status("app"); published() != was || now.Position != at.Position || now.Confirmed < at.Confirmed {
				t.Errorf("went on from %+v to %+v", at, now)
			}
			way.off()
			eventually(t, "it goes on", func() bool { return published() > was })
		})
	}
	n.delivered("app", want)
}

func TestForwardRateDelaysAndDropsNothing(t *testing.T) {
	for _, which := range []string{"log", "node"} {
		t.Run(which, func(t *testing.T) {
			c := newCentre(t)
			n := newNode(t, c)
			const rate = 400 << 10
			n.change = func(cfg *Config) {
				if which == "log" {
					cfg.Limits.Rate = rate
				} else {
					cfg.Limits.NodeRate = rate
				}
			}
			want := lines(seeded(t), 4000)
			n.append("app", want)
			began := time.Now()
			n.start(n.log("app"))
			n.delivered("app", want)
			least := time.Duration(float64(len(want)-rate/4) / rate * float64(time.Second))
			if took := time.Since(began); took < least {
				t.Errorf("%d bytes in %s, at %d bytes/s at least %s", len(want), took, rate, least)
			}
		})
	}
}

func TestForwardPartialLineWaitsAndGoes(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	n.change = func(cfg *Config) { cfg.Limits.PartialWait = 4 * time.Second } // the line's end is written before, also where there is much else to do
	c.with(func() {
		c.lose = func(ch *chunk.Chunk) bool {
			if !bytes.HasSuffix(ch.Data, []byte("\n")) {
				t.Errorf("a line was cut: %q", ch.Data)
			}
			return false
		}
	})
	n.append("app", []byte("whole\nhal"))
	n.start(n.log("app"))
	eventually(t, "the whole line is there", func() bool { return bytes.Equal(c.data("app"), []byte("whole\n")) })
	n.append("app", []byte("f and done\n"))
	n.delivered("app", []byte("whole\nhalf and done\n"))
	c.with(func() { c.lose = nil })
	n.append("app", []byte("never ended"))
	n.delivered("app", []byte("whole\nhalf and done\nnever ended"))
}

func TestForwardThousandLogs(t *testing.T) {
	c := newCentre(t)
	n := newNode(t, c)
	n.change = func(cfg *Config) { cfg.Limits.SyncInterval = 10 * time.Second }
	var logs []Log
	for i := range 1000 {
		name := fmt.Sprintf("l%04d", i)
		n.append(name, []byte(name+"\n"))
		logs = append(logs, n.log(name))
	}
	n.start(logs...)
	eventually(t, "all have arrived", func() bool { there := 0; c.with(func() { there = len(c.logs) }); return there == 1000 })
	eventually(t, "all are delivered", func() bool {
		ready := 0
		for _, s := range n.engine.Status() {
			if s.Confirmed == 6 {
				ready++
			}
		}
		return ready == 1000
	})
	for _, l := range logs {
		if got := string(c.data(l.Name)); got != l.Name+"\n" {
			t.Fatalf("%s: %q", l.Name, got)
		}
	}
	c.with(func() {
		if c.hellos > 300 {
			t.Errorf("%d hellos for 1000 logs", c.hellos)
		}
	})
}
