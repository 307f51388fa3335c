package main

import (
	"bytes"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// without ends a process, lets something be done to what it keeps, and starts it again.
func (s *system) without(r *rand.Rand, name string, do func() error) {
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
	if kind == "broker" && s.choria != nil {
		return s.choria.store()
	}
	if kind == "broker" {
		return s.path(name + "/store")
	}
	return s.path(name + "/state")
}

func wipe(kind string) func(s *system, r *rand.Rand) effect {
	return func(s *system, r *rand.Rand) effect {
		name, also := s.choose(r, kind)
		defer s.hold(name)()
		e := nothing
		s.without(r, name, func() (err error) {
			e, err = s.wipe(kind, name)
			return err
		})
		return together(append(also, e)...)
	}
}

// wipe removes what a process keeps, and counts it.
func (s *system) wipe(kind, name string) (effect, error) {
	s.event("wipe what %s keeps", name)
	dir := s.state(kind, name)
	n := len(tree(dir, false))
	err := os.RemoveAll(dir)
	return seen(numbered("%d files are gone", n-len(tree(dir, false)))), err
}

// rollback puts back what a process kept a moment ago.
func rollback(kind string) func(s *system, r *rand.Rand) effect {
	return func(s *system, r *rand.Rand) effect {
		name := pick(r, s.names(kind))
		defer s.hold(name)()
		state := s.state(kind, name)
		copied := s.path(name + ".copy")
		s.without(r, name, func() error {
			s.event("copy what %s keeps", name)
			return copyTree(state, copied)
		})
		pause(r, 300, 1500)
		e := nothing
		s.without(r, name, func() error {
			s.event("put back what %s kept", name)
			now := tree(state, true)
			defer func() { e = seen(numbered("%d files are other ones than before", differing(now, tree(state, true)))) }()
			if err := os.RemoveAll(state); err != nil {
				return err
			}
			return os.Rename(copied, state)
		})
		return e
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
func spoil(r *rand.Rand, path string) (how string, changed bool, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", false, err
	}
	was := bytes.Clone(b)
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
	return how, !bytes.Equal(was, b), os.WriteFile(path, b, 0o600)
}

func corrupt(kind string) func(s *system, r *rand.Rand) effect {
	return func(s *system, r *rand.Rand) effect {
		name := pick(r, s.names(kind))
		defer s.hold(name)()
		e := nothing
		s.without(r, name, func() error {
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
			how, changed, err := spoil(r, path)
			if changed {
				e = seen("a file of the state is changed: " + how)
			}
			s.event("%s: %s", strings.TrimPrefix(path, s.dir+"/"), how)
			return err
		})
		return e
	}
}

// wipeTwo wipes two at once: what one alone could tell is gone, too.
func wipeTwo(a, b string) func(s *system, r *rand.Rand) effect {
	return func(s *system, r *rand.Rand) effect {
		one, two := pick(r, s.names(a)), pick(r, s.names(b))
		defer s.hold(one, two)()
		s.kill(one, syscall.SIGKILL)
		s.kill(two, syscall.SIGKILL)
		first, err := s.wipe(a, one)
		s.failed(err)
		second, err := s.wipe(b, two)
		s.failed(err)
		s.start(two)
		if a == "receiver" { // nobody is left who knows what streams there were: an operator makes them again
			s.failed(s.setUp())
		}
		pause(r, 0, 300)
		s.start(one)
		return together(first, second)
	}
}

// snapshot takes a node back to an earlier moment, its log files and its state, as restoring a virtual machine does. At that
// moment, and before it is taken back, all was confirmed: what is written again by the same machine isn't the same bytes. Half of the
// time no receiver is there to be asked: the node sends, and the receiver must see for itself.
func snapshot(s *system, r *rand.Rand) effect {
	name := pick(r, s.nodeNames())
	receivers := s.receiverNames()
	defer s.hold(append(receivers, name)...)()
	quiet := func(do func(streams []*stream) error) {
		streams, release := s.holdWriters(name)
		defer release()
		s.failed(wait(patience, func() error { return s.lagOf(name) }))
		s.kill(name, syscall.SIGTERM)
		s.failed(do(streams))
	}
	taken := s.path(name + ".snapshot")
	quiet(func([]*stream) error {
		s.event("snapshot of %s", name)
		return copyTree(s.path(name), taken)
	})
	s.start(name)
	pause(r, 300, 900)
	alone := r.IntN(2) == 0
	e := nothing
	quiet(func(streams []*stream) error {
		if alone {
			for _, receiver := range receivers {
				s.kill(receiver, syscall.SIGTERM)
			}
		}
		s.event("%s is taken back to its snapshot", name)
		for _, w := range streams {
			w.file.Close()
			w.file = nil
		}
		now := tree(s.path(name), true)
		if err := os.RemoveAll(s.path(name)); err != nil {
			return err
		}
		if err := os.Rename(taken, s.path(name)); err != nil {
			return err
		}
		e = seen(numbered("%d files are other ones than before", differing(now, tree(s.path(name), true))))
		for _, w := range streams {
			w.generations = append(w.generations, new(generation))
			if err := w.open(); err != nil {
				return err
			}
		}
		return nil
	})
	s.start(name)
	if alone {
		pause(r, 2500, 4000) // longer than a node waits for an answer
		for _, receiver := range receivers {
			s.start(receiver)
		}
	}
	return e
}

const leftoverWhy = "a receiver without its state can't know how much of a file is committed, and begins a new one: the old one's end stays in it, and cat leaves it out"

// left notes what is left behind where a process of this kind loses what it knows.
func (f *fault) left(kind string) {
	if kind == "receiver" {
		f.leftover, f.why = true, leftoverWhy
	}
}

func stateFaults() (all []*fault) {
	words := map[string]string{"node": "the node's state", "receiver": "the receiver's state", "broker": "the broker's store"}
	for _, k := range kinds {
		f := &fault{name: "wipe-" + k, group: "state", about: words[k] + " is wiped", topology: single, rounds: 2, do: wipe(k)}
		f.left(k)
		all = append(all, f)
	}
	for _, k := range kinds {
		f := &fault{name: "corrupt-" + k, group: "state", about: words[k] + ": a file is cut, emptied, zeroed or has other bytes", topology: single, rounds: 3, do: corrupt(k)}
		f.left(k)
		all = append(all, f)
	}
	for _, k := range kinds {
		f := &fault{name: "rollback-" + k, group: "state", about: words[k] + " is replaced by a copy that is up to 2 s old", topology: single, rounds: 2, do: rollback(k)}
		f.left(k)
		if k == "node" {
			f.doubles, f.forks = true, true
			f.why = "what was sent between the backup and the restore comes twice where the node can't prove that it is the same: a fork, and a new epoch"
		}
		all = append(all, f)
	}
	return append(all,
		&fault{name: "wipe-broker-receiver", group: "state", about: "the broker's store and the receiver's state are wiped together, and an operator runs setup again", topology: single, rounds: 2, do: wipeTwo("receiver", "broker"), alone: true, leftover: true, why: leftoverWhy},
		&fault{name: "wipe-broker-node", group: "state", about: "the broker's store and a node's state are wiped together", topology: single, rounds: 2, do: wipeTwo("node", "broker"), alone: true},
		&fault{name: "snapshot-node", group: "state", about: "a node is taken back to a snapshot, state and log files, and writes other lines then", topology: single, rounds: 1, do: snapshot, forks: true, alone: true, pace: 300 * time.Millisecond})
}
