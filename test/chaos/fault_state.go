package main

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// stopped ends a process, lets something be done to what it keeps, and starts it again.
func (s *system) stopped(r *rand.Rand, name string, do func() error) {
	sig := syscall.SIGKILL
	if r.IntN(2) == 0 {
		sig = syscall.SIGTERM
	}
	s.kill(name, sig)
	s.failed(do())
	s.start(name)
}

// state is what a process of a kind keeps.
func (s *system) state(kind, name string) string {
	if kind == "broker" {
		return s.path(name + "/store")
	}
	return s.path(name + "/state")
}

func wipe(kind string) func(s *system, r *rand.Rand) {
	return func(s *system, r *rand.Rand) {
		name := pick(r, s.names(kind))
		defer s.hold(name)()
		s.stopped(r, name, func() error {
			s.event("wipe what %s keeps", name)
			return os.RemoveAll(s.state(kind, name))
		})
	}
}

// rollback puts back what a process kept a moment ago.
func rollback(kind string) func(s *system, r *rand.Rand) {
	return func(s *system, r *rand.Rand) {
		name := pick(r, s.names(kind))
		defer s.hold(name)()
		state := s.state(kind, name)
		copied := s.path(name + ".copy")
		s.stopped(r, name, func() error {
			s.event("copy what %s keeps", name)
			return copyTree(state, copied)
		})
		pause(r, 300, 1500)
		s.stopped(r, name, func() error {
			s.event("put back what %s kept", name)
			if err := os.RemoveAll(state); err != nil {
				return err
			}
			return os.Rename(copied, state)
		})
	}
}

// copyTree copies plain files and directories.
func copyTree(from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	if !exists(from) {
		return os.MkdirAll(to, 0o755)
	}
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rest := strings.TrimPrefix(path, from)
		switch {
		case d.IsDir():
			return os.MkdirAll(to+rest, 0o755)
		case d.Type().IsRegular():
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(to+rest, b, 0o600)
		}
		return nil
	})
}

// spoil damages a file in one of the ways in which files are.
func spoil(r *rand.Rand, path string) (how string, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	switch r.IntN(4) {
	case 0:
		how, b = "cut in half", b[:len(b)/2]
	case 1:
		how, b = "empty", nil
	case 2:
		how = "zeros from a quarter on"
		clear(b[len(b)/4:])
	case 3:
		how = "other bytes at places"
		for range 20 {
			if len(b) > 0 {
				b[r.IntN(len(b))] ^= byte(1 + r.IntN(255))
			}
		}
	}
	return how, os.WriteFile(path, b, 0o600)
}

func corrupt(kind string) func(s *system, r *rand.Rand) {
	return func(s *system, r *rand.Rand) {
		name := pick(r, s.names(kind))
		defer s.hold(name)()
		s.stopped(r, name, func() error {
			var files []string
			err := filepath.WalkDir(s.state(kind, name), func(path string, d fs.DirEntry, err error) error {
				if err == nil && d.Type().IsRegular() && (strings.HasSuffix(path, ".db") || strings.HasSuffix(path, ".blk")) {
					files = append(files, path)
				}
				return nil
			})
			if err != nil || len(files) == 0 {
				return err
			}
			path := files[r.IntN(len(files))]
			how, err := spoil(r, path)
			s.event("%s: %s", strings.TrimPrefix(path, s.dir+"/"), how)
			return err
		})
	}
}

// wipeTwo wipes two at once: what one alone could tell is gone, too.
func wipeTwo(a, b string) func(s *system, r *rand.Rand) {
	return func(s *system, r *rand.Rand) {
		one, two := pick(r, s.names(a)), pick(r, s.names(b))
		defer s.hold(one, two)()
		s.kill(one, syscall.SIGKILL)
		s.kill(two, syscall.SIGKILL)
		s.event("wipe what %s and %s keep", one, two)
		s.failed(os.RemoveAll(s.state(a, one)))
		s.failed(os.RemoveAll(s.state(b, two)))
		s.start(two)
		if a == "receiver" { // nobody is left who knows what streams there were: an operator makes them again
			s.failed(wait(30*time.Second, func() error { return s.run("setup", "--url", s.urls(), "--partitions", fmt.Sprint(s.partitions)) }))
		}
		pause(r, 0, 300)
		s.start(one)
	}
}

// snapshot takes a node back to an earlier moment, its log files and its state, as restoring a virtual machine does. At that
// moment, and before it is taken back, all was confirmed: what is written again by the same machine isn't the same bytes.
func snapshot(s *system, r *rand.Rand) {
	name := pick(r, s.nodeNames())
	defer s.hold(name)()
	quiet := func(do func(streams []*stream) error) {
		streams, release := s.holdWriters(name)
		defer release()
		s.failed(wait(patience, func() error { return s.lagOf(name) }))
		s.kill(name, syscall.SIGTERM)
		s.failed(do(streams))
		s.start(name)
	}
	taken := s.path(name + ".snapshot")
	var lengths []int
	quiet(func(streams []*stream) error {
		s.event("snapshot of %s", name)
		for _, w := range streams {
			lengths = append(lengths, w.generations[len(w.generations)-1].size())
		}
		return copyTree(s.path(name), taken)
	})
	pause(r, 300, 900)
	quiet(func(streams []*stream) error {
		s.event("%s is taken back to its snapshot", name)
		for _, w := range streams {
			w.file.Close()
			w.file = nil
		}
		if err := os.RemoveAll(s.path(name)); err != nil {
			return err
		}
		if err := os.Rename(taken, s.path(name)); err != nil {
			return err
		}
		for _, w := range streams {
			w.generations = append(w.generations, new(generation))
			if err := w.open(); err != nil {
				return err
			}
		}
		return nil
	})
}

func stateFaults() (all []*fault) {
	words := map[string]string{"node": "the node's state", "receiver": "the receiver's state", "broker": "the broker's store"}
	for _, k := range kinds {
		all = append(all, &fault{name: "wipe-" + k, group: "state", about: words[k] + " is wiped", topology: single, rounds: 2, do: wipe(k)})
	}
	for _, k := range kinds {
		all = append(all, &fault{name: "corrupt-" + k, group: "state", about: words[k] + ": a file is cut, emptied, zeroed or has other bytes", topology: single, rounds: 3, do: corrupt(k)})
	}
	for _, k := range kinds {
		f := &fault{name: "rollback-" + k, group: "state", about: words[k] + " is replaced by a copy that is up to 2 s old", topology: single, rounds: 2, do: rollback(k)}
		if k == "node" {
			f.doubles, f.forks = true, true
			f.why = "what was sent between the backup and the restore comes twice where the node can't prove that it is the same: a fork, and a new epoch"
		}
		all = append(all, f)
	}
	return append(all,
		&fault{name: "wipe-broker-receiver", group: "state", about: "the broker's store and the receiver's state are wiped together, and an operator runs setup again", topology: single, rounds: 2, do: wipeTwo("receiver", "broker"), alone: true},
		&fault{name: "wipe-broker-node", group: "state", about: "the broker's store and a node's state are wiped together", topology: single, rounds: 2, do: wipeTwo("node", "broker"), alone: true},
		&fault{name: "snapshot-node", group: "state", about: "a node is taken back to a snapshot, state and log files, and writes other lines then", topology: single, rounds: 1, do: snapshot, forks: true, alone: true, pace: 300 * time.Millisecond})
}
