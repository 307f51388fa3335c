package main

import (
	"context"
	"math/rand/v2"
	"strings"
	"syscall"
	"time"

	"logforward/internal/control"
	"logforward/test/proc"
)

// burst lets a log's writer write as fast as it can.
func burst(kilobytes int) func(s *system, r *rand.Rand) effect {
	return func(s *system, r *rand.Rand) effect {
		w := s.streams[r.IntN(len(s.streams))]
		s.event("%s of node%d is written as fast as can be", w.log, w.node+1)
		for n := 0; n < kilobytes<<10; {
			w.mu.Lock()
			b := w.some(400)
			err := w.append(b)
			w.mu.Unlock()
			if s.failed(err) {
				return nothing
			}
			n += len(b)
		}
		return s.lags(s.nodeNames()[w.node], 200<<10)
	}
}

// refusesAny waits a moment for a node that says why what it publishes is refused.
func (s *system) refusesAny(why string) effect {
	for range 30 {
		for _, c := range s.control {
			st, err := c.Status(context.Background(), control.StatusRequest{})
			if err != nil {
				continue
			}
			for _, l := range st.Logs {
				if strings.Contains(l.Error, why) {
					return seen("publishing is refused: " + why)
				}
			}
		}
		time.Sleep(30 * time.Millisecond) // of looking
	}
	return nothing
}

// slowReceiver lets a receiver run for a tenth of the time only, on a slow network.
func slowReceiver(s *system, r *rand.Rand) effect {
	name := pick(r, s.receiverNames())
	defer s.hold(name)()
	s.event("%s is slow", name)
	since := s.watch(name)
	for _, k := range s.links[name] {
		k.Slow(256 << 10)
	}
	for range 12 {
		s.signal(name, syscall.SIGSTOP)
		time.Sleep(90 * time.Millisecond)
		s.signal(name, syscall.SIGCONT)
		time.Sleep(10 * time.Millisecond)
	}
	var lags []effect
	for _, n := range s.nodeNames() {
		lags = append(lags, s.lags(n, 100<<10))
	}
	for _, k := range s.links[name] {
		k.Slow(0)
	}
	s.event("%s is as fast as it was", name)
	return together(append(lags, seen(slowed(since())))...)
}

func loadFaults() []*fault {
	narrow := single
	narrow.node = []string{"rate = 600KiB/s"}
	full := single
	full.setup = []string{"--max-bytes", "16MiB"}
	many := topology{servers: 1, receivers: 1, nodes: 8, logs: 250, many: true}
	slow := linked("node", 800, 1500, func(_ *rand.Rand, k *proc.Link) { k.Slow(100 << 10) }, func(k *proc.Link) { k.Slow(0) }, "slow network for", slowed)
	kill := end("node", syscall.SIGKILL, 0, 300)
	killReceiver := end("receiver", syscall.SIGKILL, 0, 300)
	return []*fault{
		{name: "fast-writer", group: "load", about: "a writer that is faster than the pipe: its log may send 600 KiB/s", topology: narrow, rounds: 2, do: burst(1200)},
		{name: "full-stream", group: "load", about: "a writer that is faster than the pipe: the stream takes 16 MiB, and the receiver is frozen", topology: full, rounds: 1,
			do: func(s *system, r *rand.Rand) effect {
				name := pick(r, s.receiverNames())
				defer s.hold(name)()
				stood := s.halt(name)
				burst(20<<10)(s, r)
				pause(r, 500, 1500)
				e := s.refusesAny("maximum bytes exceeded")
				s.resume(name)
				return together(stood, e)
			}},
		{name: "slow-receiver", group: "load", about: "a receiver that is slower than the pipe: it runs a tenth of the time, on 256 KiB/s", topology: single, rounds: 2, do: slowReceiver},
		{name: "slow-node", group: "load", about: "a network of 100 KiB/s between a node and the broker", topology: single, rounds: 2, do: slow},
		{name: "many-logs", group: "load", about: "2,000 small logs of 8 nodes; a node and the receiver are killed", topology: many, rounds: 2, alone: true,
			do: func(s *system, r *rand.Rand) effect {
				pause(r, 300, 900)
				return together(kill(s, r), killReceiver(s, r))
			}},
	}
}
