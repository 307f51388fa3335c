package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"
)

// appear makes a file that a glob matches, with lines in it. Its log has the glob's name and the file's.
func (s *system) appear(node int, glob, path string, r *rand.Rand) (*stream, error) {
	w := newStream(node, glob+"."+filepath.Base(path), path, r.Uint64())
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), w.begin()); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.streams = append(s.streams, w)
	s.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w, w.append(w.some(1 + r.IntN(8)))
}

// central waits until all of some logs is central. They aren't written meanwhile.
func (s *system) central(list []*stream) error {
	at := 0
	return wait(patience, func() error {
		for ; at < len(list); at++ {
			c, _, err := s.centre(list[at])
			if err == nil {
				_, err = judge(list[at].account(new(fault)), c)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", list[at].log, err)
			}
		}
		return nil
	})
}

// vanish removes a file and all that it was renamed to; its writer closes it.
func (s *system) vanish(w *stream) (removed int) {
	w.leave()
	files, err := filepath.Glob(w.path + "*")
	s.failed(err)
	for _, f := range files {
		s.failed(os.Remove(f))
		removed++
	}
	return removed
}

// shift rotates as logrotate does: the newest of the renamed files is number 1, and the others move on. mu is held.
func (s *stream) shift(late bool) error {
	n := 1
	for exists(fmt.Sprintf("%s.%d", s.path, n)) {
		n++
	}
	for ; n > 1; n-- {
		if err := os.Rename(fmt.Sprintf("%s.%d", s.path, n-1), fmt.Sprintf("%s.%d", s.path, n)); err != nil {
			return err
		}
	}
	if err := os.Rename(s.path, s.path+".1"); err != nil {
		return err
	}
	if late {
		if err := s.append(s.some(1)); err != nil {
			return err
		}
	}
	return s.reopened()
}

// leave closes a file, to which nothing more is written.
func (s *stream) leave() {
	s.close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
}

// again makes a file of the same name, with other lines in it.
func (s *system) again(w *stream, r *rand.Rand) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = false
	s.failed(errors.Join(os.MkdirAll(filepath.Dir(w.path), 0o755), w.reopened(), w.append(w.some(1+r.IntN(20)))))
}

// comeAndGo lets files appear that a glob matches, rotate, be removed when they were read, and some appear again.
func comeAndGo(s *system, r *rand.Rand) effect {
	node := r.IntN(s.nodes)
	defer s.hold(s.nodeNames()[node])()
	var all []*stream
	rotated, removed, anew := 0, 0, 0
	for range 4 + r.IntN(16) {
		w, err := s.appear(node, "found", s.path(fmt.Sprintf("node%d/logs/found/f%d.log", node+1, len(s.streams))), r)
		if s.failed(err) {
			return nothing
		}
		all = append(all, w)
		if r.IntN(4) == 0 {
			pause(r, 0, 400)
		}
		for range r.IntN(3) {
			w.mu.Lock()
			s.failed(errors.Join(w.shift(r.IntN(2) == 0), w.append(w.some(1+r.IntN(20)))))
			rotated++
			w.mu.Unlock()
		}
	}
	s.event("%d files of a glob of node%d appear, and rotate %d times", len(all), node+1, rotated)
	s.failed(s.central(all))
	for _, w := range all {
		if r.IntN(3) > 0 {
			removed += s.vanish(w)
			if r.IntN(2) == 0 {
				pause(r, 0, 200)
				s.again(w, r)
				anew++
			}
		}
	}
	s.event("%d are removed, and %d made anew", removed, anew)
	return together(seen(numbered("%d files appeared", len(all))), seen(numbered("%d were renamed", rotated)), seen(numbered("%d removed", removed)), seen(numbered("%d made anew", anew)))
}

// directories lets directories come and go that a glob with ** matches, with files in them; some are moved while their files are written.
func directories(s *system, r *rand.Rand) effect {
	node := r.IntN(s.nodes)
	defer s.hold(s.nodeNames()[node])()
	deep := s.path(fmt.Sprintf("node%d/logs/deep", node+1))
	made, gone, moved := 0, 0, 0
	for range 2 + r.IntN(3) {
		dir := filepath.Join(deep, fmt.Sprintf("d%d", len(s.streams)), "below")
		var all []*stream
		for i := range 1 + r.IntN(5) {
			w, err := s.appear(node, "deep", filepath.Join(dir, fmt.Sprintf("g%d-%d.log", len(s.streams), i)), r)
			if s.failed(err) {
				return nothing
			}
			all = append(all, w)
		}
		made++
		s.failed(s.central(all))
		top := filepath.Dir(dir)
		if r.IntN(2) == 0 {
			s.event("%s is moved, and its files are written", top)
			if s.failed(os.Rename(top, top+".moved")) {
				return nothing
			}
			moved++
			for _, w := range all {
				w.mu.Lock()
				w.path = filepath.Join(top+".moved", "below", filepath.Base(w.path))
				s.failed(w.append(w.some(1 + r.IntN(20))))
				w.mu.Unlock()
			}
			pause(r, 0, 600)
			continue
		}
		s.event("%s is removed", top)
		for _, w := range all {
			w.leave()
		}
		s.failed(os.RemoveAll(top))
		gone++
		pause(r, 0, 400)
		for _, w := range all {
			if r.IntN(2) == 0 {
				s.again(w, r)
			}
		}
	}
	return together(seen(numbered("%d directories were made", made)), seen(numbered("%d directories were moved or removed", moved+gone)))
}

// shortLived lets very many files appear and be removed as soon as they were read.
func shortLived(s *system, r *rand.Rand) effect {
	node := r.IntN(s.nodes)
	defer s.hold(s.nodeNames()[node])()
	const batches, size = 2, 250
	removed := 0
	for range batches {
		var all []*stream
		for range size {
			w, err := s.appear(node, "found", s.path(fmt.Sprintf("node%d/logs/found/s%d.log", node+1, len(s.streams))), r)
			if s.failed(err) {
				return nothing
			}
			w.close()
			all = append(all, w)
		}
		s.failed(s.central(all))
		for _, w := range all {
			removed += s.vanish(w)
		}
		s.event("%d files of node%d lived until they were read", size, node+1)
	}
	return seen(numbered("%d files appeared, were read and removed", removed))
}

// remade removes a node's whole log directory, with bytes in it that weren't read, and makes it anew.
func remade(s *system, r *rand.Rand) effect {
	name := pick(r, s.nodeNames())
	defer s.hold(name)()
	streams, release := s.holdWriters(name)
	defer release()
	dir := s.path(name + "/logs")
	s.failed(wait(patience, func() error { return s.lagOf(name) })) // a file that it never saw it can't follow
	stood := seen("")
	frozen := r.IntN(2) == 0
	if frozen {
		stood = s.halt(name)
		for _, w := range streams {
			s.failed(w.append(w.some(20 + r.IntN(200))))
		}
	}
	n := len(tree(dir, false))
	s.event("%s is removed", dir)
	if s.failed(os.RemoveAll(dir)) {
		return nothing
	}
	e := seen("")
	if !exists(dir) {
		e = seen(numbered("the directory and %d files in it are gone", n))
	}
	if !frozen {
		stood = e
		pause(r, 0, 1500)
	}
	if s.failed(os.MkdirAll(dir, 0o755)) {
		return nothing
	}
	for _, w := range streams {
		s.failed(errors.Join(w.reopened(), w.append(w.some(1+r.IntN(100)))))
	}
	if frozen {
		s.resume(name)
	}
	return together(stood, e)
}

// relinked replaces a node's log directory by a link to where it was moved, and puts it back a while later. Half of the time the link leads to another directory, with
// new files in it.
func relinked(s *system, r *rand.Rand) effect {
	name := pick(r, s.nodeNames())
	defer s.hold(name)()
	dir, moved := s.path(name+"/logs"), s.path(name+"/logs.moved")
	other := r.IntN(2) == 0
	target := moved
	if other {
		target = fmt.Sprintf("%s.%d", moved, r.Uint32())
	}
	isLink := func() bool {
		st, err := os.Lstat(dir)
		return err == nil && st.Mode()&os.ModeSymlink != 0
	}
	linked, back := "", ""
	func() {
		streams, release := s.holdWriters(name)
		defer release()
		s.failed(wait(patience, func() error { return s.lagOf(name) }))
		if s.failed(os.Rename(dir, moved)) || s.failed(os.MkdirAll(target, 0o755)) || s.failed(os.Symlink(target, dir)) {
			return
		}
		s.event("%s is a link to %s", dir, target)
		for _, w := range streams {
			if other {
				s.failed(w.reopened())
			}
			s.failed(w.append(w.some(1 + r.IntN(100))))
		}
		if isLink() {
			linked = "the directory is a link"
		}
	}()
	pause(r, 300, 1500)
	streams, release := s.holdWriters(name)
	defer release()
	s.failed(wait(patience, func() error { return s.lagOf(name) }))
	if s.failed(os.Remove(dir)) || s.failed(os.Rename(moved, dir)) {
		return nothing
	}
	s.event("%s is a directory again", dir)
	if !isLink() {
		back = "and a directory again"
	}
	for _, w := range streams {
		if other { // the writers go on with the files that were there before
			s.failed(w.reopened())
		}
		s.failed(w.append(w.some(1 + r.IntN(100))))
	}
	return together(seen(linked), seen(back))
}

func globFaults() []*fault {
	globs := single
	globs.globs = true
	links := single
	links.linkable = true
	return []*fault{
		{name: "glob-files", group: "globs", about: "files of a glob appear, rotate, are removed when they were read, and some of their names appear again", topology: globs, rounds: 3, do: comeAndGo, alone: true},
		{name: "glob-directories", group: "globs", about: "directories of a ** come and go, and some are moved while their files are written", topology: globs, rounds: 3, do: directories, alone: true},
		{name: "glob-short-lived", group: "globs", about: "1,000 files of a glob live until they were read", topology: globs, rounds: 2, pace: 60 * time.Millisecond, do: shortLived, alone: true},
		{name: "logs-remade", group: "globs", about: "the whole log directory is removed, half of the time with unread bytes, and made anew", topology: single, rounds: 3, do: remade, alone: true},
		{name: "logs-linked", group: "globs", about: "the log directory is replaced by a link, to itself or another one, and put back", topology: links, rounds: 2, do: relinked, alone: true},
	}
}

// overflowMoved is overflow with the log directory moved away, and another one in its place.
func overflowMoved(s *system, r *rand.Rand) effect {
	return s.overflows(r, true, func(name string, streams []*stream) error {
		dir := s.path(name + "/logs")
		away := fmt.Sprintf("%s.away%d", dir, r.Uint32())
		s.event("%s is moved to %s, and made anew", dir, away)
		err := errors.Join(os.Rename(dir, away), os.Mkdir(dir, 0o755))
		for _, w := range streams {
			err = errors.Join(err, w.append(w.some(1+r.IntN(20))), w.reopened(), w.append(w.some(1+r.IntN(20))))
		}
		return err
	})
}
