package main

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"
)

func teamFaults() []*fault {
	shared := team
	shared.shared = true
	return []*fault{
		{name: "team-kill-receiver", group: "team", about: "kill -9 of one of three receivers, which comes back after its lease is over", topology: team, rounds: 2, do: end("receiver", syscall.SIGKILL, 500, 2500)},
		{name: "team-stop-receiver", group: "team", about: "SIGSTOP of one of three receivers for longer than its lease: two believe that they own a partition", topology: team, rounds: 2, do: freeze("receiver", 1200, 2500)},
		{name: "team-stop-receiver-shared", group: "team", about: "the same, with one directory for all three", topology: shared, rounds: 2, do: freeze("receiver", 1200, 2500)},
		{name: "team-cut-receiver", group: "team", about: "one of three receivers is cut off for longer than its lease", topology: team, rounds: 2, do: cut("receiver", 2500)},
		{name: "team-mute-receiver", group: "team", about: "connections of one of three receivers stand, and nothing comes through", topology: shared, rounds: 2, do: mute("receiver", 3000)},
		{name: "team-wipe-receiver", group: "team", about: "the state of one of three receivers is wiped", topology: team, rounds: 2, do: wipe("receiver"), leftover: true, why: leftoverWhy},
		{name: "team-kill-server", group: "team", about: "kill -9 of one of three servers", topology: team, rounds: 2, do: end("broker", syscall.SIGKILL, 0, 2000)},
		{name: "team-kill-servers", group: "team", about: "kill -9 of all three servers at once", topology: team, rounds: 1, do: killServers},
		{name: "team-stop-server", group: "team", about: "SIGSTOP of one of three servers", topology: team, rounds: 2, do: freeze("broker", 300, 2500)},
		{name: "team-kill-leader", group: "team", about: "kill -9 of a server that leads streams or the metadata; it comes back when others lead them", topology: team, rounds: 1, alone: true, do: depose(syscall.SIGKILL)},
		{name: "team-stop-leader", group: "team", about: "SIGSTOP of such a server, until others lead", topology: team, rounds: 1, alone: true, do: depose(syscall.SIGSTOP)},
		{name: "team-step-down", group: "team", about: "a server steps down on request, from all streams, consumers and metadata that it leads", topology: team, rounds: 2, alone: true, do: stepDown},
		{name: "team-move-nodes", group: "team", about: "the server that nodes are connected to is killed or stopped, until they are connected to another", topology: team, rounds: 2, alone: true, do: moveNodes},
		{name: "team-wipe-server", group: "team", about: "the store of one of three servers is wiped", topology: team, rounds: 1, do: wipe("broker"), alone: true},
		{name: "team-partitions", group: "team", about: "the number of partitions changes", topology: team, rounds: 2, do: repartition},
		{name: "team-restart-all", group: "team", about: "all receivers are restarted one by one", topology: team, rounds: 1, do: restartReceivers},
	}
}

func killServers(s *system, r *rand.Rand) effect {
	all := s.serverNames()
	defer s.hold(all...)()
	for _, name := range all {
		s.signal(name, syscall.SIGKILL)
	}
	var list []effect
	for _, name := range all {
		list = append(list, s.kill(name, syscall.SIGKILL))
	}
	for _, i := range r.Perm(len(all)) {
		s.start(all[i])
		pause(r, 0, 300)
	}
	return together(list...)
}

func restartReceivers(s *system, r *rand.Rand) effect {
	all := s.receiverNames()
	defer s.hold(all...)()
	list := []effect{s.leasesMove(all...)}
	for _, name := range all {
		list = append(list, s.kill(name, syscall.SIGTERM))
		s.start(name)
	}
	return together(list...)
}

func repartition(s *system, r *rand.Rand) effect {
	count := 2 + r.IntN(6)
	if count == s.partitions {
		count++
	}
	s.partitions = count
	n, before := fmt.Sprint(count), s.layout()
	s.event("%s partitions", n)
	s.failed(wait(30*time.Second, func() error {
		return s.run("setup", "--url", s.urls(), "--partitions", n, "--replicas", fmt.Sprint(s.servers))
	}))
	return func() string {
		if now := s.layout(); now.ID != before.ID && now.Partitions > 0 {
			return "the layout in force is another one"
		}
		return ""
	}
}
