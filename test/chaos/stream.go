package main

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// stream is one log's writer: it appends to a file and rotates it, and remembers every byte.
type stream struct {
	node int
	log  string
	path string
	// rotates is how many steps go by between rotations, on average; 0: it doesn't rotate.
	rotates int
	// lines is how many lines a step writes, at most.
	lines int

	random *rand.Rand // of the writing goroutine

	mu          sync.Mutex
	over        bool // its file is gone, and nothing more is written
	file        *os.File
	rotated     int
	number      int
	written     []byte
	doubtful    []span
	removed     int           // what was written before may have been central, and been removed there
	gone        []span        // what a node that had seen it couldn't read any more
	generations []*generation // the last is the one that is written

	refused sync.Mutex            // guards trouble, which is asked for while mu is held elsewhere
	trouble map[syscall.Errno]int // writes that failed, by why
}

// generation is one file: what lies in it, as ranges of what was written.
type generation struct{ pieces []span }

func (g *generation) size() (n int) {
	for _, p := range g.pieces {
		n += p.to - p.from
	}
	return n
}

func newStream(node int, log, path string, seed uint64) *stream {
	return &stream{node: node, log: log, path: path, rotates: 60, lines: 20, random: rand.New(rand.NewPCG(seed, uint64(node)<<32|uint64(len(path))<<16|hash(log)))}
}

func hash(s string) (h uint64) {
	for _, c := range []byte(s) {
		h = h*31 + uint64(c)
	}
	return h & 0xffff
}

func (s *stream) account(f *fault) *account {
	s.mu.Lock()
	defer s.mu.Unlock()
	doubtful := slices.Clone(s.doubtful)
	slices.SortFunc(doubtful, func(a, b span) int { return a.from - b.from })
	return &account{written: s.written[:len(s.written):len(s.written)], doubtful: doubtful, gone: slices.Clone(s.gone), causes: f.causes, removed: s.removed, doubles: f.doubles, least: f.least, honest: f.honest}
}

// open begins with the file that is there, or a new one. mu is held.
func (s *stream) open() (err error) {
	if s.file != nil {
		s.file.Close()
	}
	s.file, err = os.OpenFile(s.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		s.file = nil
	}
	return err
}

func (s *stream) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.open(); err != nil {
		return err
	}
	s.generations = append(s.generations, new(generation))
	return nil
}

func (s *stream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file != nil {
		s.file.Close()
		s.file = nil
	}
}

// step writes a few lines, sometimes half of one, and now and then rotates as logrotate's create does.
func (s *stream) step() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rotates > 0 && s.random.IntN(s.rotates) == 0 {
		return s.rotate(s.random.IntN(2) == 0)
	}
	b := s.some(1 + s.random.IntN(s.lines))
	if s.random.IntN(4) == 0 {
		b = b[:s.random.IntN(len(b))]
	}
	return s.append(b)
}

// some makes lines that never recur.
func (s *stream) some(lines int) (b []byte) {
	for range lines {
		s.number++
		b = fmt.Appendf(b, "%d ", s.number)
		noise := make([]byte, 16+s.random.IntN(100))
		for i := range noise {
			noise[i] = byte(s.random.Uint32())
		}
		b = append(hex.AppendEncode(b, noise), '\n')
	}
	return b
}

// end writes a last line, behind which nothing is unfinished.
func (s *stream) end() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return nil
	}
	return s.append(append([]byte("\n"), s.some(2)...))
}

// append writes, and notes what was written. A disk that takes nothing is no failure of the writer's: it goes on later. mu is held.
func (s *stream) append(b []byte) error {
	if s.file == nil {
		if err := s.open(); err != nil {
			return s.refusal(err)
		}
	}
	n, err := s.file.Write(b)
	s.note(b[:n])
	return s.refusal(err)
}

// refusal counts a write that failed; what a full or broken disk says is nobody's failure.
func (s *stream) refusal(err error) error {
	if no := syscall.Errno(0); errors.As(err, &no) {
		s.refused.Lock()
		defer s.refused.Unlock()
		if s.trouble == nil {
			s.trouble = map[syscall.Errno]int{}
		}
		s.trouble[no]++
	}
	return tolerable(err)
}

// refusals counts the writes that failed for one of the reasons.
func (s *stream) refusals(reasons ...syscall.Errno) (n int) {
	s.refused.Lock()
	defer s.refused.Unlock()
	for _, no := range reasons {
		n += s.trouble[no]
	}
	return n
}

// note takes down what the last generation's file has got. mu is held.
func (s *stream) note(b []byte) {
	if len(b) == 0 {
		return
	}
	g, at := s.generations[len(s.generations)-1], len(s.written)
	s.written = append(s.written, b...)
	if n := len(g.pieces); n > 0 && g.pieces[n-1].to == at {
		g.pieces[n-1].to += len(b)
		return
	}
	g.pieces = append(g.pieces, span{from: at, to: at + len(b)})
}

// tolerable is nil for what a full or broken disk says.
func tolerable(err error) error {
	for _, e := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EIO} {
		if errors.Is(err, e) {
			return nil
		}
	}
	return err
}

// rotate renames the file and begins the next. late: something is written to the old one still. mu is held.
func (s *stream) rotate(late bool) error {
	if s.file == nil {
		return nil // the disk took no new file the last time: there is nothing to rotate
	}
	to := fmt.Sprintf("%s.%d", s.path, s.rotated+1)
	if err := os.Rename(s.path, to); err != nil {
		return tolerable(err)
	}
	s.rotated++
	if late {
		if err := s.append(s.some(1)); err != nil {
			return err
		}
	}
	s.generations = append(s.generations, new(generation))
	return tolerable(s.open())
}

// reopened tells that the path is another file now: whoever rotated it is through. mu is held.
func (s *stream) reopened() error {
	s.generations = append(s.generations, new(generation))
	return s.open()
}

// content is what a generation's file should hold. mu is held.
func (s *stream) content(g *generation) (b []byte) {
	for _, p := range g.pieces {
		b = append(b, s.written[p.from:p.to]...)
	}
	return b
}

// doubt notes what may be missing without a trace: what stands behind the first keep bytes of a generation. mu is held.
func (s *stream) doubt(g *generation, keep int, why string) (lost int) {
	for i := range g.pieces {
		p := &g.pieces[i]
		if n := p.to - p.from; n <= keep {
			keep -= n
			continue
		}
		gone := span{p.from + keep, p.to, why}
		p.to, keep = gone.from, 0
		lost += gone.to - gone.from
		s.uncertain(gone)
	}
	g.pieces = slices.DeleteFunc(g.pieces, func(p span) bool { return p.from == p.to })
	return lost
}

// uncertain adds a span to those that are. mu is held.
func (s *stream) uncertain(d span) {
	all := append(s.doubtful, d)
	slices.SortFunc(all, func(a, b span) int { return a.from - b.from })
	out := all[:0]
	for _, x := range all {
		if n := len(out); n > 0 && x.from < out[n-1].to {
			out[n-1].to = max(out[n-1].to, x.to)
			continue
		}
		out = append(out, x)
	}
	s.doubtful = out
}

// fork is the least that two files of different content differ within: a line's noise.
const fork = 32

// recovered looks at the files after the disk lost something, notes what is gone, and goes on with the file that has the name. mu is held.
func (s *stream) recovered() (lost int, err error) {
	files, err := filepath.Glob(s.path + "*")
	if err != nil {
		return 0, err
	}
	type found struct {
		path    string
		content []byte
		used    bool
	}
	var all []*found
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return 0, err
		}
		all = append(all, &found{path: f, content: b})
	}
	var current *generation // whose file has the name now
	for _, g := range s.generations {
		want := s.content(g)
		var best *found
		kept := 0
		for _, f := range all {
			if n := common(want, f.content); !f.used && n > kept && (n >= fork || n == min(len(want), len(f.content))) {
				best, kept = f, n
			}
		}
		lost += s.doubt(g, kept, "the node's disk lost them with its power")
		if best == nil {
			continue
		}
		best.used = true
		if best.path == s.path {
			current = g
		}
	}
	i := slices.IndexFunc(all, func(f *found) bool { return f.path == s.path })
	if current == nil {
		current = new(generation)
		s.generations = append(s.generations, current)
	} else {
		at := slices.Index(s.generations, current)
		s.generations = append(slices.Delete(s.generations, at, at+1), current)
	}
	if i >= 0 { // what is there beyond what was kept, zeros say, is in the file as well
		s.note(all[i].content[current.size():])
	}
	return lost, s.open()
}

// truncated cuts the file to nothing, as nobody should. mu is held.
func (s *stream) truncate() error {
	if err := os.Truncate(s.path, 0); err != nil {
		return err
	}
	s.generations = append(s.generations, new(generation))
	return nil
}

// copied takes down what a copytruncate has done: the copy holds what the generation held first, the file what was
// written since it was cut, and what is in neither is lost. mu is held.
func (s *stream) copied(copied []byte) (lost int, err error) {
	now, err := os.ReadFile(s.path)
	if err != nil {
		return 0, err
	}
	g := s.generations[len(s.generations)-1]
	want := s.content(g)
	if !bytes.HasPrefix(want, copied) || !bytes.HasSuffix(want, now) {
		return 0, fmt.Errorf("%s: the copy of %d bytes and the file of %d aren't what was written to it, %d bytes", s.path, len(copied), len(now), len(want))
	}
	last := g.pieces[len(g.pieces)-1].to
	next := &generation{pieces: []span{{from: last - len(now), to: last}}}
	if len(now) == 0 {
		next.pieces = nil
	}
	rest := len(want) - len(now)
	keep := g.pieces[:0]
	for _, p := range g.pieces { // what is in the new file isn't in the old one
		if n := p.to - p.from; n > rest {
			p.to = p.from + rest
		}
		if rest -= p.to - p.from; p.to > p.from {
			keep = append(keep, p)
		}
	}
	g.pieces = keep
	lost = s.doubt(g, min(len(copied), g.size()), "written between copy and truncation")
	s.generations = append(s.generations, next)
	return lost, nil
}

// older renames files that were dated by the second: the next rotation may come within it.
func (s *stream) older() error {
	list, err := filepath.Glob(s.path + "-*")
	if err != nil {
		return err
	}
	for _, f := range list {
		var at int64
		rest := strings.TrimPrefix(f, s.path+"-")
		if _, err := fmt.Sscanf(rest, "%d", &at); err != nil {
			continue
		}
		if err := os.Rename(f, s.path+"-"+strings.Replace(rest, fmt.Sprint(at), fmt.Sprint(at-10), 1)); err != nil {
			return err
		}
	}
	return nil
}
