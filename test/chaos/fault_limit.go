package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
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

// overflow rotates logs when inotify keeps no more for a node that stands still.
func overflow(s *system, r *rand.Rand) effect {
	return s.overflows(r, false, func(_ string, streams []*stream) (err error) {
		for _, w := range streams {
			err = errors.Join(err, w.rotate(true), w.append(w.some(1+r.IntN(20))))
		}
		return err
	})
}

// overflows lets more happen to a node's logs, while it stands still, than inotify keeps for it, and then something that it isn't told of any more. known: it has
// seen all files before.
func (s *system) overflows(r *rand.Rand, known bool, then func(name string, streams []*stream) error) effect {
	name := pick(r, s.nodeNames())
	defer s.hold(name)()
	b, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	if s.failed(err) {
		return nothing
	}
	most, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if s.failed(err) {
		return nothing
	}
	twin, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK) // the same limit, the same directory, and it isn't read either
	if s.failed(err) {
		return nothing
	}
	defer unix.Close(twin)
	if _, err := unix.InotifyAddWatch(twin, s.path(name+"/logs"), unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_FROM|unix.IN_MOVED_TO); s.failed(err) {
		return nothing
	}
	var streams []*stream
	var release func()
	var e effect
	if known {
		streams, release = s.holdWriters(name)
		s.failed(wait(patience, func() error { return s.lagOf(name) }))
		e = s.halt(name)
	} else {
		e = s.halt(name)
		streams, release = s.holdWriters(name)
	}
	for i := range most + 500 { // not one file alone: the kernel makes one of events that say the same
		w := streams[i%len(streams)]
		if s.failed(w.append(w.some(1))) {
			break
		}
	}
	s.failed(then(name, streams))
	release()
	s.event("%d events and more wait for %s", most, name)
	buf, overflown := make([]byte, 64<<10), ""
	for {
		n, err := unix.Read(twin, buf)
		if n <= 0 || err != nil {
			break
		}
		for at := 0; at+unix.SizeofInotifyEvent <= n; {
			if binary.NativeEndian.Uint32(buf[at+4:])&unix.IN_Q_OVERFLOW != 0 {
				overflown = "inotify's queue has overflown, by another one on the same directory"
			}
			at += unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(buf[at+12:]))
		}
	}
	s.resume(name)
	return together(e, seen(overflown))
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
	return append(all, &fault{name: "inotify-node", group: "limits", about: "a node starts where it can make no inotify watches, or no instance, and its logs rotate", topology: t, rounds: 3, do: watches},
		&fault{name: "inotify-overflow", group: "limits", about: "more happens to a frozen node's logs than inotify keeps for it, and then they rotate", topology: single, rounds: 2, do: overflow},
		&fault{name: "inotify-overflow-moved", group: "limits", about: "the same, and then their directory is moved away, and another one is in its place", topology: single, rounds: 2, do: overflowMoved, alone: true})
}
