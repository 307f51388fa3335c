package main

import (
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// fault is one row of the matrix: what is done to a system, and what may become of the bytes.
type fault struct {
	name     string
	group    string
	about    string // what happens
	topology topology
	causes   []string // of gaps that are true here
	why      string   // what isn't exact, and the reason
	forks    bool     // a fork is what should be found here
	doubles  bool     // bytes may come twice
	leftover bool     // a receiver that lost its state leaves the uncommitted end of a file where it is
	removes  bool     // what was central is removed, and named as damaged
	least    bool     // gaps of which the ledger isn't sure are at least as big as it says
	honest   bool     // nor is there one where nothing is lost
	rounds   int      // how often, in one run
	pace     time.Duration
	alone    bool // it can't be a part of combinations
	last     bool // nothing is written behind the last round
	// do injects it, and tells by what that can be seen.
	do    func(s *system, r *rand.Rand) effect
	parts []*fault // instead of do: several of these at once
}

func pause(r *rand.Rand, least, most int) {
	time.Sleep(time.Duration(least+r.IntN(most-least)) * time.Millisecond)
}

func pick(r *rand.Rand, names []string) string { return names[r.IntN(len(names))] }

// faults are all there are, in the order of the matrix.
func faults() []*fault {
	var all []*fault
	for _, list := range [][]*fault{processFaults(), powerFaults(), stateFaults(), networkFaults(), routeFaults(), diskFaults(), quotaFaults(), outputFaults(), limitFaults(), clockFaults(), fileFaults(),
		globFaults(), rotationFaults(), loadFaults(), teamFaults(), choriaFaults()} {
		all = append(all, list...)
	}
	return append(all, combinations(all)...)
}

func byName(all []*fault, name string) *fault {
	i := slices.IndexFunc(all, func(f *fault) bool { return f.name == name })
	if i < 0 {
		return nil
	}
	return all[i]
}

// once does a fault once: itself, or several of its parts at the same time.
func (f *fault) once(s *system, r *rand.Rand) {
	if f.parts == nil {
		s.inject(f, r)
		return
	}
	const atOnce = 3
	var all sync.WaitGroup
	for range atOnce {
		mine := rand.New(rand.NewPCG(r.Uint64(), r.Uint64()))
		all.Go(func() {
			for range 2 {
				pause(mine, 0, 400)
				part := f.parts[mine.IntN(len(f.parts))]
				s.event("# %s", part.name)
				s.inject(part, mine)
			}
		})
	}
	all.Wait()
}

// combinations run several of the others at once. What they may touch at the same time is kept apart by hold.
func combinations(all []*fault) []*fault {
	some := func(chosen func(f *fault) bool) (list []*fault) {
		for _, f := range all {
			if !f.alone && chosen(f) {
				list = append(list, f)
			}
		}
		return list
	}
	plain := some(func(f *fault) bool {
		return f.topology.servers == 1 && len(f.topology.volumes) == 0 && !f.topology.choria && !f.topology.clock && !f.topology.namespace && len(f.causes) == 0 && !f.forks && !f.doubles && !f.leftover
	})
	disks := some(func(f *fault) bool {
		return f.topology.servers == 1 && !f.topology.choria && !f.topology.clock && !f.topology.namespace && (len(f.topology.volumes) > 0 || f.group == "process" || f.group == "network")
	})
	teams := some(func(f *fault) bool { return f.topology.servers > 1 && !f.leftover })
	volumes := single
	volumes.volumes = []string{"node", "broker", "receiver"}
	causes := []string{}
	var why []string
	for _, f := range disks {
		causes = append(causes, f.causes...)
		if f.why != "" && !slices.Contains(why, f.why) {
			why = append(why, f.why)
		}
	}
	slices.Sort(causes)
	return []*fault{
		{name: "combination", group: "combinations", about: "three at once of all that needs no disk of its own: processes, states, network, rotation, load", topology: single, rounds: 2, parts: plain},
		{name: "combination-disk", group: "combinations", about: "three at once of power failures, full and broken disks, killed processes and the network", topology: volumes, rounds: 1, parts: disks,
			causes: slices.Compact(causes), why: strings.Join(why, "; "), forks: true},
		{name: "combination-team", group: "combinations", about: "three at once in a cluster of three servers with three receivers", topology: team, rounds: 1, parts: teams},
	}
}
