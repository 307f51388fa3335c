package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// removing lets something be done to a receiver's output that takes from it what is central. Half of the time all that was written is central by then, so that what
// is written next must arrive, and else it happens while everything goes on. down: the receiver doesn't run meanwhile.
func (s *system) removing(r *rand.Rand, name string, down bool, do func(output string) (effect, error)) effect {
	var all []*stream
	if r.IntN(2) == 0 {
		for _, n := range s.nodeNames() {
			streams, release := s.holdWriters(n)
			defer release()
			all = append(all, streams...)
		}
		s.failed(wait(patience, s.lag))
	}
	ended := seen("")
	if down {
		ended = s.kill(name, []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM}[r.IntN(2)])
	}
	e, err := do(s.output(name))
	if all == nil {
		for _, w := range s.streams {
			w.mu.Lock()
			w.removed = len(w.written)
			w.mu.Unlock()
		}
	}
	for _, w := range all {
		w.removed = len(w.written)
	}
	if down {
		s.start(name)
	} else {
		ended = e
	}
	if s.failed(err) {
		return nothing
	}
	return together(ended, e)
}

// removeOutput removes all that a receiver has received, or one node's part of it.
func removeOutput(down bool) func(s *system, r *rand.Rand) effect {
	return func(s *system, r *rand.Rand) effect {
		name := pick(r, s.receiverNames())
		defer s.hold(name)()
		return s.removing(r, name, down, func(output string) (effect, error) {
			dir := output
			if r.IntN(2) == 0 {
				dir = filepath.Join(output, s.identity(r.IntN(s.nodes)))
			}
			s.event("rm -rf %s", dir)
			n := len(tree(dir, false))
			err := os.RemoveAll(dir)
			for i := 0; err != nil && i < 50; i++ { // what is made meanwhile
				err = os.RemoveAll(dir)
			}
			return seen(numbered("%d files of the output are removed", n)), err
		})
	}
}

// moveOutput moves a receiver's output away, and makes an empty one.
func moveOutput(down bool) func(s *system, r *rand.Rand) effect {
	return func(s *system, r *rand.Rand) effect {
		name := pick(r, s.receiverNames())
		defer s.hold(name)()
		return s.removing(r, name, down, func(output string) (effect, error) {
			away := fmt.Sprintf("%s.%d", output, len(s.elsewhere)+1)
			s.event("%s is moved away, and an empty one made", output)
			n := len(tree(output, false))
			err := errors.Join(os.Rename(output, away), os.Mkdir(output, 0o755))
			s.elsewhere = append(s.elsewhere, away)
			return seen(numbered("%d files are in another directory", n)), err
		})
	}
}

// unmountOutput takes the file system away on which a receiver's output lies, and puts it back. Meanwhile what is below it has the path.
func unmountOutput(down bool) func(s *system, r *rand.Rand) effect {
	return func(s *system, r *rand.Rand) effect {
		name := pick(r, s.receiverNames())
		defer s.hold(name)()
		v := s.volumes[name+"/received"]
		device := func() (dev uint64) {
			var st unix.Stat_t
			if err := unix.Stat(v.dir, &st); err == nil {
				dev = st.Dev
			}
			return dev
		}
		before := device()
		var attach func() error
		away := nothing
		e := s.removing(r, name, down, func(output string) (effect, error) {
			var err error
			s.event("%s is unmounted", output)
			if down {
				attach, err = v.mount, v.unmount()
			} else {
				attach, err = v.detach()
			}
			if now := device(); now != before {
				away = seen("the output is on another file system")
			}
			return away, err
		})
		if attach == nil {
			return nothing
		}
		pause(r, 300, 2000)
		back := s.removing(r, name, down && r.IntN(2) == 0, func(output string) (effect, error) {
			s.event("%s is mounted again", output)
			err := attach()
			if device() != before {
				return nothing, err
			}
			return seen("and on the former one again"), err
		})
		return together(e, back)
	}
}

const (
	removedWhy = "what was central and is removed isn't there any more: cat and verify name each range of it as damaged, and nothing else is missing"
	movedWhy   = "what was moved away isn't there any more: cat and verify name each range of it as damaged. With the directory that it was moved to all is exact"
	mountedWhy = "what came while the file system was away lies below it: cat and verify name each range of it as damaged. With the directory below it all is exact"
)

func outputFaults() []*fault {
	apart := single
	apart.apart = true
	return []*fault{
		{name: "output-remove", group: "output", about: "rm -rf of what a running receiver has received, or of one node's part of it", topology: single, rounds: 3, do: removeOutput(false), alone: true, removes: true, leftover: true, why: removedWhy},
		{name: "output-remove-down", group: "output", about: "the same while the receiver is down", topology: single, rounds: 3, do: removeOutput(true), alone: true, removes: true, leftover: true, why: removedWhy},
		{name: "output-move", group: "output", about: "the output of a running receiver is moved away, and an empty one made", topology: single, rounds: 3, do: moveOutput(false), alone: true, removes: true, leftover: true, why: movedWhy},
		{name: "output-move-down", group: "output", about: "the same while the receiver is down", topology: single, rounds: 3, do: moveOutput(true), alone: true, removes: true, leftover: true, why: movedWhy},
		{name: "output-unmount", group: "output", about: "the file system of a running receiver's output is unmounted, and mounted again up to 2 s later", topology: apart, rounds: 2, do: unmountOutput(false), alone: true, removes: true, leftover: true, why: mountedWhy},
		{name: "output-unmount-down", group: "output", about: "a receiver starts while its output's file system isn't mounted; it is mounted again up to 2 s later", topology: apart, rounds: 2, do: unmountOutput(true), alone: true, removes: true, leftover: true, why: mountedWhy},
	}
}
