package main

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"time"
)

// patience is how long all may take to arrive when the faults are over.
const patience = 60 * time.Second

// stubborn is how long a wrong centre must stay as it is, with no lag anywhere, to be believed.
const stubborn = 4 * time.Second

// options of one run.
type options struct {
	seconds  float64 // that faults go on for, at least; 0: the fault's rounds, once
	patience time.Duration
	binary   string
	keep     bool         // leave the directory
	report   func(string) // each line of the timeline; nil: nobody hears it
}

// result is one run.
type result struct {
	fault    *fault
	seed     uint64
	tally    tally
	effects  effects
	recovery time.Duration // from the end of the faults to no lag, everything compared
	took     time.Duration
	err      error // a violation
	machine  error // the run couldn't be made
	strange  []string
	timeline []string
	tails    string
	dir      string
}

func (r *result) ok() bool { return r.err == nil && r.machine == nil }

// failed is the check that failed.
func (r *result) check() string {
	var v *violation
	if errors.As(r.err, &v) {
		return v.check
	}
	return ""
}

// play runs one fault with one seed: everything starts, writers write, the fault happens a few times at moments that the seed gives, and in
// the end the oracle compares.
func play(f *fault, seed uint64, o options) (res *result) {
	began := time.Now()
	res = &result{fault: f, seed: seed}
	dir, err := os.MkdirTemp("", "chaos-")
	if err != nil {
		res.machine = err
		return res
	}
	r := rand.New(rand.NewPCG(seed, hash(f.name)))
	s, err := newSystem(f.topology, dir, o.binary, r.Uint64(), o.report)
	defer func() {
		res.took = time.Since(began)
		if !res.ok() {
			res.tails = s.tails(25)
			if o.keep {
				s.stacks()
			}
		}
		s.close()
		res.timeline = s.timeline
		if o.keep {
			res.dir = dir
		} else if err := os.RemoveAll(dir); err != nil && res.machine == nil {
			res.machine = err
		}
	}()
	if err == nil {
		err = s.up(1 + r.IntN(3))
	}
	if err != nil {
		res.machine = err
		return res
	}
	pace := 8 * time.Millisecond
	if f.pace > 0 {
		pace = f.pace
	}
	stop := s.writing(r.Uint64(), pace)
	until := time.Now().Add(time.Duration(o.seconds * float64(time.Second)))
	for n := 0; n < f.rounds || time.Now().Before(until); n++ {
		pause(r, 0, 600)
		f.once(s, r)
	}
	if f.last {
		stop()
		e := s.lastWords(r)
		s.injections = append(s.injections, injection{f.name, e})
	}
	ended := time.Now()
	s.event("the faults are over")
	stop()
	for _, w := range s.streams {
		if !f.last {
			s.failed(w.end())
		}
	}
	if len(s.errs) > 0 {
		res.machine = errors.Join(s.errs...)
		return res
	}
	if res.err = s.settle(f, o, res, ended); res.err != nil {
		return res
	}
	res.effects = s.took()
	time.Sleep(1200 * time.Millisecond) // of another answer to every node, and some commits: what is sent twice would show by then
	if res.tally, res.err = s.arrived(f); res.err != nil {
		return res
	}
	if err := s.lag(); err != nil {
		res.err = broken(checkLag, "everything had arrived, and then: %v", err)
		return res
	}
	if s.whole(f) {
		if res.err = cutBack(cmp.Or(o.patience, patience), s.files); res.err != nil {
			return res
		}
		s.event("no central file holds more than the ledgers tell of")
	}
	res.err = s.down(f)
	res.tally.Sealed, res.strange = s.strange(f)
	if res.err == nil && len(res.strange) > 0 {
		res.err = broken(checkOnce, "the ledgers tell of what shouldn't be: %s", strings.Join(res.strange, "; "))
	}
	return res
}

// settle waits until all has arrived and the nodes know it. What is wrong and stays so isn't waited for.
func (s *system) settle(f *fault, o options, res *result, ended time.Time) error {
	most := o.patience
	if most == 0 {
		most = patience
	}
	var last string
	var since time.Time
	for {
		lag := s.lag()
		at := time.Now()
		var err error
		if lag == nil {
			var t tally
			if t, err = s.arrived(f); err == nil {
				res.tally, res.recovery = t, at.Sub(ended)
				s.event("all has arrived")
				return nil
			}
		}
		if lag != nil || err.Error() != last {
			since, last = at, ""
			if err != nil {
				last = err.Error()
			}
		}
		var v *violation
		if lag == nil && time.Since(since) > stubborn && errors.As(err, &v) {
			return err
		}
		if time.Since(ended) > most {
			if _, err = s.arrived(f); errors.As(err, &v) {
				return fmt.Errorf("%w; the nodes: %v", err, lag)
			}
			return broken(checkLag, "not within %s: %v; the nodes: %v", most, err, lag)
		}
		time.Sleep(30 * time.Millisecond) // of looking
	}
}

// stacks lets all processes say what they are at, and end.
func (s *system) stacks() {
	for _, name := range s.everybody() {
		s.kill(name, syscall.SIGQUIT)
	}
}

// down ends everything in order, and compares for the last time.
func (s *system) down(f *fault) error {
	for _, list := range [][]string{s.nodeNames(), s.receiverNames(), s.serverNames()} {
		for _, name := range list {
			s.kill(name, syscall.SIGTERM)
		}
	}
	if len(s.bad) > 0 {
		return broken(checkEnd, "%v", errors.Join(s.bad...))
	}
	if _, err := s.arrived(f); err != nil || !s.whole(f) {
		return err
	}
	return s.files()
}

// whole tells whether the central files must hold nothing beside what the ledgers tell of.
func (s *system) whole(f *fault) bool { return !f.leftover && !s.many }

// reproduce is the command that does the same again.
func (r *result) reproduce() string {
	return fmt.Sprintf("go run ./test/chaos --fault %s --seed %d", r.fault.name, r.seed)
}

// text tells of a run that failed: what, the timeline that led there, and what the processes said.
func (r *result) text() string {
	var b strings.Builder
	why := r.err
	if r.machine != nil {
		why = fmt.Errorf("the run couldn't be made: %w", r.machine)
	}
	fmt.Fprintf(&b, "%s, seed %d: %v\n", r.fault.name, r.seed, why)
	for _, l := range r.timeline {
		fmt.Fprintln(&b, l)
	}
	b.WriteString(r.tails)
	if r.dir != "" {
		fmt.Fprintf(&b, "--- everything lies in %s\n", r.dir)
	}
	fmt.Fprintf(&b, "again: %s\n", r.reproduce())
	return b.String()
}
