package main

import (
	"fmt"
	"math/rand/v2"
	"syscall"
)

// halfOpen lets a router drop all packets of one direction. Half of the time the broker is killed and started meanwhile: it knows nothing of its connections
// any more, and the nodes aren't told where what it sends is what is dropped.
func halfOpen(s *system, r *rand.Rand) effect {
	from, to := nodesSide, centreSide
	if r.IntN(2) == 0 {
		from, to = to, from
	}
	broker := s.serverNames()[0]
	defer s.hold(broker)()
	before, _ := s.network.packets(from)
	_, after := s.network.packets(to)
	s.event("packets from the %s are dropped", from)
	if s.failed(inside(s.network.router, "ip rule add pref 10 iif "+from+" blackhole")) {
		return nothing
	}
	pause(r, 500, 2000)
	if r.IntN(2) == 0 {
		s.kill(broker, syscall.SIGKILL)
		s.start(broker)
	}
	pause(r, 200, 2000)
	got, _ := s.network.packets(from)
	_, given := s.network.packets(to)
	if s.failed(inside(s.network.router, "ip rule del pref 10")) {
		return nothing
	}
	s.event("packets from the %s pass again", from)
	return seen(numbered("%d packets more came to the router from one side than went on to the other", got-before-(given-after)))
}

// blackHole lets a router pass no big packets, without a word to who sends them.
func blackHole(s *system, r *rand.Rand) effect {
	before := s.network.tooBig()
	s.event("big packets get lost")
	if s.failed(inside(s.network.router, fmt.Sprintf("ip rule add pref 11 iif lo ipproto icmp blackhole && ip link set %s mtu 1000", centreSide))) {
		return nothing
	}
	pause(r, 800, 4000)
	e := seen(numbered("%d packets were too big for the router", s.network.tooBig()-before))
	if s.failed(inside(s.network.router, fmt.Sprintf("ip link set %s mtu 1500 && ip rule del pref 11", centreSide))) {
		return nothing
	}
	s.event("big packets pass again")
	return e
}

func routeFaults() []*fault {
	routed := single
	routed.routed = true
	return []*fault{
		{name: "half-open", group: "network", about: "a router drops all packets of one direction for up to 4 s; sometimes the broker is killed meanwhile", topology: routed, rounds: 2, do: halfOpen, alone: true},
		{name: "black-hole", group: "network", about: "a router loses packets of more than 1,000 bytes for up to 4 s, and says nothing", topology: routed, rounds: 2, do: blackHole, alone: true},
	}
}
