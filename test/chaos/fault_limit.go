package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// descriptors lets a process open no more files than it has open, or hardly any, for a while. Meanwhile its connections break and its logs
// are rotated.
func descriptors(kind string) func(s *system, r *rand.Rand) effect {
	return func(s *system, r *rand.Rand) effect {
		name := pick(r, s.names(kind))
		defer s.hold(name)()
		time.Sleep(time.Until(s.process(name).Started.Add(time.Second))) // what it opens to start with isn't what is tried here
		pid := s.process(name).Cmd.Process.Pid
		open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if s.failed(err) {
			return nothing
		}
		var before unix.Rlimit
		if s.failed(unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &before)) {
			return nothing
		}
		few := unix.Rlimit{Cur: uint64(max(8, len(open)-4+r.IntN(6))), Max: before.Max}
		s.event("%s has %d descriptors, and may have %d", name, len(open), few.Cur)
		said := s.listen(name, syscall.EMFILE.Error())
		if s.failed(unix.Prlimit(pid, unix.RLIMIT_NOFILE, &few, nil)) {
			return nothing
		}
		pause(r, 200, 600)
		if kind != "broker" && r.IntN(2) == 0 {
			s.event("its connections break")
			for _, k := range s.links[name] {
				k.Cut(true)
				k.Cut(false)
			}
		}
		if kind == "node" {
			s.rotateAll(name)
		}
		pause(r, 400, 1500)
		e := said()
		if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &before, nil); !errors.Is(err, unix.ESRCH) { // it may have ended by that
			s.failed(err)
		}
		s.event("%s may have %d again", name, before.Cur)
		if kind == "broker" { // JetStream may not write again to a stream that it couldn't open a file of
			s.kill(name, syscall.SIGTERM)
			s.start(name)
		}
		return e
	}
}

// limited lets a node begin in a user namespace where a limit is 0, before the node itself runs.
func limited(what string, args []string) []string {
	return append([]string{"sh", "-c", fmt.Sprintf("echo 0 > /proc/sys/user/max_inotify_%s && exec \"$0\" \"$@\"", what)}, args...)
}

// watches takes a node's inotify away, from its start on: it may make no watches, or no instance. Directories are watched, not files, so one that runs
// already needs no more of them when logs rotate.
func watches(s *system, r *rand.Rand) effect {
	name := pick(r, s.nodeNames())
	defer s.hold(name)()
	what := pick(r, []string{"watches", "instances"})
	s.event("%s may have no inotify %s", name, what)
	said := s.listen(name, "inotify can't watch everything")
	s.kill(name, syscall.SIGKILL)
	s.limit(name, what)
	s.start(name)
	pause(r, 300, 700)
	s.rotateAll(name)
	pause(r, 500, 1500)
	e := said()
	s.limit(name, "")
	pid := fmt.Sprint(s.process(name).Cmd.Process.Pid)
	if _, err := command("nsenter", "--target", pid, "--user", "--preserve-credentials", "sh", "-c", fmt.Sprintf("echo %d > /proc/sys/user/max_inotify_%s", 1<<16, what)); s.failed(err) {
		return nothing
	}
	s.event("it may again")
	if r.IntN(2) == 0 {
		s.kill(name, syscall.SIGKILL)
		s.start(name)
	}
	return e
}

// rotateAll lets all writers of a node rotate.
func (s *system) rotateAll(name string) {
	for _, w := range s.streams {
		if s.nodeNames()[w.node] == name {
			w.mu.Lock()
			s.failed(w.rotate(true))
			w.mu.Unlock()
		}
	}
}

func limitFaults() (all []*fault) {
	for _, k := range kinds {
		f := &fault{name: "fds-" + k, group: "limits", about: "the " + k + " can open no more files for up to 2 s", topology: single, rounds: 3, do: descriptors(k)}
		if k == "broker" {
			f.about += "; then an operator starts it again"
			f.why = "a stream that JetStream couldn't open a file of takes nothing until the broker is started again; nothing is lost, and the lag goes back to zero then"
		}
		all = append(all, f)
	}
	t := single
	t.namespace = true
	return append(all, &fault{name: "inotify-node", group: "limits", about: "a node starts where it can make no inotify watches, or no instance, and its logs rotate", topology: t, rounds: 3, do: watches})
}
