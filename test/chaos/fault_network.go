package main

import (
	"fmt"
	"math/rand/v2"
	"time"

	"logforward/test/proc"
)

// linked does something to all links of a process, and undoes it; done tells of its effect.
func linked(kind string, least, most int, do func(r *rand.Rand, k *proc.Link), undo func(k *proc.Link), what string, done func(e proc.Effects) string) func(s *system, r *rand.Rand) effect {
	return func(s *system, r *rand.Rand) effect {
		name := pick(r, s.names(kind))
		if s.servers > 1 && kind == "receiver" {
			name = s.working(r)
		}
		defer s.hold(name)()
		moved := nothing
		if s.servers > 1 {
			moved = s.leasesMove(name)
		}
		since := s.watch(name)
		s.event("%s %s", what, name)
		for _, k := range s.links[name] {
			do(r, k)
		}
		pause(r, least, most)
		for _, k := range s.links[name] {
			undo(k)
		}
		s.event("%s has its network again", name)
		e := seen(done(since()))
		if s.servers > 1 {
			return together(e, moved)
		}
		return e
	}
}

// Effects of what is done to links.
func cutOff(e proc.Effects) string  { return numbered("%d connections were broken", e.Broken) }
func muted(e proc.Effects) string   { return numbered("%d bytes were held", e.Held) }
func delayed(e proc.Effects) string { return numbered("%d bytes came late", e.Late) }
func slowed(e proc.Effects) string  { return numbered("%d bytes were slowed", e.Slowed) }

func cut(kind string, most int) func(s *system, r *rand.Rand) effect {
	return linked(kind, 0, most, func(_ *rand.Rand, k *proc.Link) { k.Cut(true) }, func(k *proc.Link) { k.Cut(false) }, "cut off", cutOff)
}

func mute(kind string, most int) func(s *system, r *rand.Rand) effect {
	return linked(kind, most/5, most, func(r *rand.Rand, k *proc.Link) {
		way := r.IntN(3)
		k.Mute(way != 0, way != 1)
	}, func(k *proc.Link) { k.Mute(false, false) }, "let nothing through from or to", muted)
}

// reorder breaks connections while everything is under way for long: clients come back in any order, and what they sent over
// the old connections still arrives, behind what they send over the new ones.
func reorder(s *system, r *rand.Rand) effect {
	all := append(s.receiverNames(), s.nodeNames()...)
	defer s.hold(all...)()
	since := s.watch(all...)
	delay := time.Duration(50+r.IntN(400)) * time.Millisecond
	s.event("everything takes %s, then connections break and come back in any order", delay)
	each := func(do func(k *proc.Link)) {
		for _, name := range all {
			for _, k := range s.links[name] {
				do(k)
			}
		}
	}
	each(func(k *proc.Link) { k.Delay(delay) })
	pause(r, 300, 700)
	for range 2 {
		each(func(k *proc.Link) {
			k.Shuffle(300 * time.Millisecond)
			k.Drop()
			k.Delay(time.Duration(r.IntN(20)) * time.Millisecond)
		})
		pause(r, 100, 600)
		each(func(k *proc.Link) { k.Delay(delay) })
		pause(r, 100, 300)
	}
	each(func(k *proc.Link) { k.Shuffle(0); k.Delay(0) })
	s.event("the network is as it was")
	e := since()
	return together(seen(cutOff(e)), seen(numbered("%d bytes arrived behind that", e.Behind)))
}

// lastWords lets each node write a last line, and its connection break with that on its way.
func (s *system) lastWords(r *rand.Rand) effect {
	since := s.watch(s.nodeNames()...)
	for _, name := range s.nodeNames() {
		for _, k := range s.links[name] {
			k.Mute(true, false)
		}
	}
	for _, w := range s.streams {
		s.failed(w.end())
	}
	pause(r, 400, 900)
	for _, name := range s.nodeNames() {
		for _, k := range s.links[name] {
			k.Cut(true)
			k.Mute(false, false)
			k.Cut(false)
		}
	}
	s.event("connections of all nodes break, with their last lines on the way")
	return func() string {
		e := since()
		return together(seen(cutOff(e)), seen(numbered("%d bytes that were under way never arrived", e.Lost)))()
	}
}

func networkFaults() (all []*fault) {
	for _, k := range []string{"node", "receiver"} {
		all = append(all, &fault{name: "cut-" + k, group: "network", about: "the " + k + " is cut off from the broker for up to 1.5 s", topology: single, rounds: 4, do: cut(k, 1500)})
	}
	for _, k := range []string{"node", "receiver"} {
		all = append(all, &fault{name: "mute-" + k, group: "network", about: fmt.Sprintf("connections of the %s stand, and nothing comes through, one way or both, for up to 2.5 s", k), topology: single, rounds: 2, do: mute(k, 2500)})
	}
	for _, k := range []string{"node", "receiver"} {
		all = append(all, &fault{name: "delay-" + k, group: "network", about: "everything that the " + k + " sends or gets takes up to 600 ms", topology: single, rounds: 3,
			do: linked(k, 300, 1500, func(r *rand.Rand, l *proc.Link) { l.Delay(time.Duration(20+r.IntN(580)) * time.Millisecond) }, func(l *proc.Link) { l.Delay(0) }, "delay", delayed)})
	}
	all = append(all, &fault{name: "cut-last", group: "network", about: "connections of all nodes break with the last lines on the way, and nothing comes behind them", topology: single, rounds: 1, do: cut("node", 500), last: true, alone: true})
	return append(all, &fault{name: "reorder", group: "network", about: "connections break under delay: clients come back in any order, and what they sent before arrives behind what they send then", topology: single, rounds: 2, do: reorder})
}
