package main

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"syscall"
)

// withoutProcess ends a process at once, as a power failure does, lets something be done to its disk, and starts it again.
// Of a node, its writers hold still meanwhile, and then look at what is left of their files.
func (s *system) withoutProcess(name string, disk func(v *volume) error) effect {
	streams, release := s.holdWriters(name)
	defer release()
	s.halt(name) // it shall not see its disk go first
	v := s.volumes[name]
	before := tree(v.dir, false)
	if s.failed(v.cutPower()) {
		return nothing
	}
	refused := ""
	if err := os.WriteFile(v.dir+"/probe", nil, 0o600); err != nil {
		refused = fmt.Sprintf("the disk took nothing more (%v)", errors.Unwrap(err))
	}
	s.event("power failure of %s", name)
	s.kill(name, syscall.SIGKILL)
	for _, w := range streams {
		if w.file != nil {
			w.file.Close()
		}
	}
	if s.failed(disk(v)) {
		return nothing
	}
	lost := differing(before, tree(v.dir, false))
	s.look(streams)
	s.start(name)
	return together(seen(refused), seen(numbered("%d files aren't as long as they were", lost)))
}

// look lets writers see what is left. Their mu is held.
func (s *system) look(streams []*stream) {
	for _, w := range streams {
		lost, err := w.recovered()
		s.failed(err)
		if lost > 0 {
			s.event("%s of node%d: the disk has lost %d bytes", w.log, w.node+1, lost)
		}
	}
}

func powerless(kind string) func(s *system, r *rand.Rand) effect {
	return func(s *system, r *rand.Rand) effect {
		name := pick(r, s.names(kind))
		defer s.hold(name)()
		return s.withoutProcess(name, func(v *volume) error {
			if err := v.unmount(); err != nil {
				return err
			}
			pause(r, 0, 500)
			return v.mount()
		})
	}
}

func on(kinds ...string) topology {
	t := single
	t.volumes = kinds
	return t
}

// lostOnNode are the causes that a node gives for what its disk lost.
var lostOnNode = []string{"can't be read again", "changed since it was read", "truncated", "not found after a restart", "node state lost"}

const lostOnNodeWhy = "the end of a file that the node's disk hadn't got yet is gone with the power: what wasn't sent nobody has seen, and what was becomes a gap if no receiver had it; its size is an estimate, for the node has lost as well what it knew of that"

func powerFaults() []*fault {
	return []*fault{
		{name: "power-node", group: "power", about: "power failure of a node: its files and its state lose what wasn't synced", topology: on("node"), rounds: 3, do: powerless("node"), causes: lostOnNode, why: lostOnNodeWhy},
		{name: "power-receiver", group: "power", about: "power failure of the receiver: its files and its state lose what wasn't synced", topology: on("receiver"), rounds: 4, do: powerless("receiver")},
		{name: "power-broker", group: "power", about: "power failure of the broker: its store loses what wasn't synced, acknowledged messages among it", topology: on("broker"), rounds: 3, do: powerless("broker")},
		{name: "power-all", group: "power", about: "power failure of node, broker and receiver, one right after the other", topology: on("node", "receiver", "broker"), rounds: 2, causes: lostOnNode, why: lostOnNodeWhy,
			do: func(s *system, r *rand.Rand) effect {
				var list []effect
				for _, i := range r.Perm(len(kinds)) {
					list = append(list, powerless(kinds[i])(s, r))
				}
				return together(list...)
			}},
	}
}

// full leaves a disk almost no room for a while.
func full(kind string) func(s *system, r *rand.Rand) effect {
	return func(s *system, r *rand.Rand) effect {
		name := pick(r, s.names(kind))
		defer s.hold(name)()
		v := s.volumes[name]
		leave := int64(r.IntN(256 << 10))
		said := s.complains(name, kind, syscall.ENOSPC, syscall.EDQUOT)
		if s.failed(v.fill(leave)) {
			return nothing
		}
		s.event("the disk of %s is full but for %d bytes", name, leave)
		pause(r, 800, 2500)
		if kind == "node" && r.IntN(2) == 0 {
			s.kill(name, syscall.SIGKILL)
			s.start(name)
			pause(r, 300, 900)
		}
		e := said()
		if err := v.free(); !errors.Is(err, os.ErrNotExist) && s.failed(err) {
			return nothing
		}
		s.event("the disk of %s has room again", name)
		if kind == "broker" { // JetStream stays switched off after it ran out of room: an operator starts it again
			s.kill(name, syscall.SIGTERM)
			s.start(name)
		}
		return e
	}
}

// complains hears whether a process meets an error, or on a node those who write its logs do.
func (s *system) complains(name, kind string, errs ...syscall.Errno) func() effect {
	var texts []string
	for _, e := range errs {
		texts = append(texts, e.Error())
	}
	said, before := s.listen(name, texts...), s.refused(name, errs...)
	return func() effect {
		e, writers := said(), ""
		if kind == "node" {
			writers = numbered("writers were refused %d times", s.refused(name, errs...)-before)
		}
		return func() string { return cmp.Or(e(), writers) }
	}
}

// readOnly breaks a disk: the kernel makes its file system read-only, for open files, too. Then the machine is
// started again on the repaired disk.
func readOnly(kind string) func(s *system, r *rand.Rand) effect {
	return func(s *system, r *rand.Rand) effect {
		name := pick(r, s.names(kind))
		defer s.hold(name)()
		v := s.volumes[name]
		said := s.complains(name, kind, syscall.EROFS)
		if s.failed(v.breaks()) {
			return nothing
		}
		s.event("the file system of %s is read-only", name)
		pause(r, 500, 2000)
		streams, release := s.holdWriters(name)
		defer release()
		s.kill(name, syscall.SIGKILL)
		for _, w := range streams {
			if w.file != nil {
				w.file.Close()
			}
		}
		e := said()
		if s.failed(v.repaired()) {
			return nothing
		}
		s.event("the file system of %s is repaired", name)
		s.look(streams)
		s.start(name)
		return e
	}
}

func diskFaults() (all []*fault) {
	for _, k := range []string{"node", "broker", "receiver"} {
		f := &fault{name: "full-" + k, group: "disk", about: "the disk of the " + k + " is full for some seconds", topology: on(k), rounds: 2, do: full(k)}
		if k == "broker" {
			f.about += "; then an operator starts it again"
			f.why = "JetStream switches itself off when it is out of room, and stays so until the broker is started again; nothing is lost, and the lag goes back to zero then"
		}
		all = append(all, f)
	}
	for _, k := range []string{"node", "broker", "receiver"} {
		f := &fault{name: "readonly-" + k, group: "disk", about: "the file system of the " + k + " becomes read-only with all its files open, and is repaired", topology: on(k), rounds: 2, do: readOnly(k)}
		if k == "node" {
			f.causes, f.why = lostOnNode, "what the kernel had in memory when the file system broke is gone from the node's files, as with a power failure"
		}
		all = append(all, f)
	}
	return all
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
