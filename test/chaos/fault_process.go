package main

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"syscall"
	"time"

	"logforward/internal/receive"
)

var kinds = []string{"node", "receiver", "broker"}

func (s *system) names(kind string) []string {
	switch kind {
	case "node":
		return s.nodeNames()
	case "receiver":
		return s.receiverNames()
	}
	return s.serverNames()
}

// end ends one process of a kind and starts it again, at once or later.
func end(kind string, sig syscall.Signal, least, most int) func(s *system, r *rand.Rand) effect {
	return func(s *system, r *rand.Rand) effect {
		name, also := s.choose(r, kind)
		defer s.hold(name)()
		e := together(append(also, s.kill(name, sig))...)
		if most > 0 && r.IntN(2) == 0 {
			pause(r, least, most)
		}
		s.start(name)
		return e
	}
}

// choose picks a process of a kind. Of a team it is one that does something, a receiver with a partition or a server that leads a stream, and then another one
// has to take that over.
func (s *system) choose(r *rand.Rand, kind string) (name string, also []effect) {
	switch {
	case s.servers > 1 && kind == "receiver":
		name = s.working(r)
		return name, []effect{s.leasesMove(name)}
	case s.servers > 1 && kind == "broker":
		return s.leading(r), nil
	}
	return pick(r, s.names(kind)), nil
}

// freeze stops a process for a while, as a paused virtual machine is.
func freeze(kind string, least, most int) func(s *system, r *rand.Rand) effect {
	return func(s *system, r *rand.Rand) effect {
		name, also := s.choose(r, kind)
		defer s.hold(name)()
		e := together(append(also, s.halt(name))...)
		pause(r, least, most)
		s.resume(name)
		return e
	}
}

func processFaults() (all []*fault) {
	for _, k := range kinds {
		all = append(all, &fault{name: "kill-" + k, group: "process", about: "kill -9 of the " + k + ", and a start", topology: single, rounds: 4, do: end(k, syscall.SIGKILL, 0, 800)})
	}
	all = append(all, &fault{name: "kill-all", group: "process", about: "kill -9 of every process at once, started in another order", topology: single, rounds: 2, do: killAll})
	for _, k := range kinds {
		all = append(all, &fault{name: "stop-" + k, group: "process", about: "SIGSTOP of the " + k + " for up to 1.5 s", topology: single, rounds: 3, do: freeze(k, 100, 1500)})
	}
	for _, k := range kinds {
		all = append(all, &fault{name: "restart-" + k, group: "process", about: "the " + k + " is stopped in order and started", topology: single, rounds: 3, do: end(k, syscall.SIGTERM, 0, 800)})
	}
	return all
}

func (s *system) everybody() (list []string) {
	for _, k := range kinds {
		list = append(list, s.names(k)...)
	}
	return list
}

func killAll(s *system, r *rand.Rand) effect {
	all := s.everybody()
	defer s.hold(all...)()
	for _, name := range all {
		s.signal(name, syscall.SIGKILL)
	}
	var list []effect
	for _, i := range r.Perm(len(all)) {
		list = append(list, s.kill(all[i], syscall.SIGKILL))
	}
	for _, i := range r.Perm(len(all)) {
		s.start(all[i])
		pause(r, 0, 200)
	}
	return together(list...)
}

// stopStep changes the clock of one process, now and again.
func stepClock(kind string) func(s *system, r *rand.Rand) effect {
	return func(s *system, r *rand.Rand) effect {
		name := pick(r, s.names(kind))
		defer s.hold(name)()
		steps := []time.Duration{-48 * time.Hour, -time.Hour, -3 * time.Second, 5 * time.Second, time.Hour, 40 * 24 * time.Hour, 0}
		i := r.IntN(len(steps))
		if s.stepped(name) == steps[i] {
			i = (i + 1) % len(steps)
		}
		s.step(name, steps[i])
		e := s.ownTime(name, steps[i])
		pause(r, 0, 300)
		if r.IntN(3) == 0 { // what it wrote with the one clock is read with another
			s.kill(name, syscall.SIGKILL)
			s.start(name)
		}
		return e
	}
}

// stepBack sets the receiver's clock back while its files are closed, which are named by the time.
func stepBack(s *system, r *rand.Rand) effect {
	name := pick(r, s.receiverNames())
	defer s.hold(name)()
	w := s.streams[r.IntN(len(s.streams))]
	grow := func() {
		s.event("%s of node%d grows by more than a central file's size", w.log, w.node+1)
		for n := 0; n < 300<<10; {
			w.mu.Lock()
			b := w.some(100)
			s.failed(w.append(b))
			w.mu.Unlock()
			n += len(b)
		}
	}
	grow()
	_, release := s.holdWriters(s.nodeNames()[w.node]) // whoever writes on has a lag
	s.failed(wait(patience, func() error { return s.lagOf(s.nodeNames()[w.node]) }))
	release()
	by := s.stepped(name) - []time.Duration{time.Second, 2 * time.Second, time.Hour, 48 * time.Hour}[r.IntN(4)]
	s.step(name, by)
	taken := s.ownTime(name, by)
	grow()
	closed := func() string {
		n := 0
		for _, output := range s.outputs() {
			ledgers, err := receive.Ledgers(output, s.identity(w.node), w.log)
			if err != nil {
				continue
			}
			for _, l := range ledgers {
				entries, err := receive.Ledger(filepath.Join(output, l))
				s.failed(err)
				var last time.Time
				for _, e := range entries {
					if e.Event == receive.EventClose {
						if e.Time.Before(last) {
							n++
						}
						last = e.Time
					}
				}
			}
		}
		return numbered("%d central files were closed earlier, by their names, than the one before them", n)
	}
	return together(taken, closed)
}

func clockFaults() (all []*fault) {
	t := single
	t.clock = true
	for _, k := range kinds {
		all = append(all, &fault{name: "clock-" + k, group: "clock", alone: true, topology: t, rounds: 5, do: stepClock(k),
			about: fmt.Sprintf("the clock of the %s steps, by seconds, hours and days, either way; sometimes a kill -9 on top", k)})
	}
	all = append(all, &fault{name: "clock-receiver-rotation", group: "clock", alone: true, topology: t, rounds: 3, do: stepBack,
		about: "the receiver's clock is set back, by seconds, hours or days, while its files are closed and named by it"})
	return all
}
