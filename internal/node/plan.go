package node

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"logforward/internal/control"
	"logforward/internal/forward"
	"logforward/internal/tail"
)

// forwarder is one definition in force, and what came of it.
type forwarder struct {
	Definition
	managed string // the file that defines it; empty: an operator's
	own     bool   // a log of the node's own: a pause of all isn't meant for it
	defined string // destination as the definition says; the definition's field is what is in force
	wish    *wish
	stop    *control.Override
	fault   error
	glob    *glob
	members []member
}

// member is one log: the forwarder's own, or one of its glob's.
type member struct {
	log, parent string
	path        string
	destination string
	start       tail.Start
	since       time.Time         // as [tail.Config].Since
	stop        *control.Override // stop, or drain while that goes on
	pause       *control.Override
}

// stopped: it isn't to be forwarded. A drain goes on until it is done.
func (m member) stopped() bool { return m.stop != nil && m.stop.Verb != verbDrain }

// verbDrain is the verb of a stop that waits until all is confirmed.
const verbDrain = "drain"

// plan is what the node does at a time.
type plan struct {
	forwarders []*forwarder // by log
	problems   []control.Problem
}

// logs is what the engine shall work, by name, without what is stopped or at fault.
func (p *plan) logs() (logs []forward.Log, paused map[string]bool) {
	paused = map[string]bool{}
	for _, f := range p.forwarders {
		if f.fault != nil {
			continue
		}
		for _, m := range f.members {
			if m.stopped() {
				continue
			}
			logs = append(logs, forward.Log{Name: m.log, Path: m.path, Destination: m.destination, Start: m.start, Since: m.since, Rate: engineRate(f.Rate), OfGlob: f.glob != nil})
			if m.pause != nil {
				paused[m.log] = true
			}
		}
	}
	slices.SortFunc(logs, func(a, b forward.Log) int { return strings.Compare(a.Name, b.Name) })
	return logs, paused
}

// engineRate: the engine takes 0 as its default and a negative rate as none.
func engineRate(r *control.Rate) int64 {
	switch {
	case r == nil:
		return 0
	case *r == 0:
		return -1
	}
	return int64(*r)
}

// names are those of records that a forwarder or a log of the plan has.
func (p *plan) names(records map[string]*record) map[string]bool {
	names := map[string]bool{}
	if len(records) == 0 {
		return names
	}
	for _, f := range p.forwarders {
		names[f.Log] = true
		for _, m := range f.members {
			if records[m.log] != nil {
				names[m.log] = true
			}
		}
	}
	return names
}

// find gives the forwarder that a name belongs to, and the member; -1: the forwarder as a whole.
func (p *plan) find(log string) (*forwarder, int) {
	for _, f := range p.forwarders {
		if f.Log == log {
			return f, -1
		}
	}
	for _, f := range p.forwarders {
		for i, m := range f.members {
			if m.log == log {
				return f, i
			}
		}
	}
	return nil, -1
}

// compute makes the plan of this moment: files, operators, and what was found of globs.
// again has that applied anew: a name may be free now.
func (n *Node) compute(now time.Time, again bool) (*plan, error) {
	definitions, problems := n.dir.definitions()
	p := &plan{problems: append(slices.Clone(n.loadProblems), problems...)}
	for _, d := range n.config.Own {
		if m, ok := definitions[d.Log]; ok {
			p.problems = append(p.problems, control.Problem{Where: m.file, Problem: fmt.Sprintf("log %s is the node's own, and not defined by files", d.Log)})
		}
		definitions[d.Log] = managed{d.Definition, d.Setting}
	}
	for log, m := range definitions {
		p.forwarders = append(p.forwarders, &forwarder{Definition: m.Definition, managed: m.file, own: n.own(log)})
		if w := n.operators.get(log).Wish; w != nil && w.Path != m.Path {
			p.problems = append(p.problems, control.Problem{Where: log, Problem: fmt.Sprintf("%s started it with path %s, but %s defines it with %s, which is in force", w.By, w.Path, m.file, m.Path)})
		}
	}
	for log, r := range n.operators.records {
		if _, ok := definitions[log]; !ok && r.Wish != nil {
			p.forwarders = append(p.forwarders, &forwarder{Definition: r.Wish.Definition, wish: r.Wish})
		}
	}
	slices.SortFunc(p.forwarders, func(a, b *forwarder) int { return strings.Compare(a.Log, b.Log) })
	// A name that stands in a definition is never a glob's: what files a directory has must not
	// decide whose log it is.
	taken := make(map[string]bool, len(p.forwarders))
	for _, f := range p.forwarders {
		taken[f.Log] = true
	}
	var errs []error
	globs, patterns := map[string]bool{}, map[string]bool{}
	for _, f := range p.forwarders {
		f.stop = n.operators.get(f.Log).Stop
		f.defined = f.Destination
		if r := n.operators.get(f.Log).Redirect; r.counts(f.Path) {
			f.Destination = r.Destination
		} else if r != nil {
			p.problems = append(p.problems, control.Problem{Where: f.Log, Problem: fmt.Sprintf("%s sent it to %s when its path was %s; that is not for %s", r.By, r.Destination, r.Path, f.Path)})
		}
		f.fault = n.settle(&f.Definition)
		if !isGlob(f.Path) {
			f.members = []member{n.member(f, f.Log, f.Path, f.Start)}
			continue
		}
		globs[f.Log], patterns[f.Path] = true, true
		if err := n.expand(f, taken, now, again); err != nil {
			errs = append(errs, err)
		}
	}
	n.survey.keep(patterns)
	for log := range n.globs {
		if !globs[log] {
			if err := n.config.State.Delete(bucketGlobs, log); err != nil {
				errs = append(errs, err)
				continue
			}
			delete(n.globs, log)
		}
	}
	return p, errors.Join(errs...)
}

// expand makes members of the files that were found of a glob. taken grows by their logs.
func (n *Node) expand(f *forwarder, taken map[string]bool, now time.Time, again bool) error {
	g := n.globs[f.Log]
	if g == nil || g.Pattern != f.Path {
		g = &glob{Pattern: f.Path}
		n.globs[f.Log] = g
	}
	f.glob = g
	// While it is stopped nothing is at first sight: a file that is made meanwhile counts as made
	// after the start, and is read from its beginning.
	var err error
	changed := false
	switch seen := n.survey.last(f.Path); {
	case seen == nil:
		n.survey.ask(f.Path, false) // what was found by an earlier run is followed meanwhile
	case seen != g.seen || again:
		changed = g.look(f.Log, seen, taken, n.drained, now)
	}
	if changed || g.unsaved {
		var b []byte
		if b, err = g.encode(); err == nil {
			err = n.config.State.Put(bucketGlobs, f.Log, b)
		}
		g.unsaved = err != nil
	}
	for _, c := range g.Files {
		if taken[c.Log] {
			continue
		}
		taken[c.Log] = true
		start := tail.StartBeginning
		if c.First {
			start = f.Start
		}
		m := n.member(f, c.Log, c.Path, start)
		m.since = c.Since
		f.members = append(f.members, m)
	}
	return err
}

func (n *Node) member(f *forwarder, log, path string, start tail.Start) member {
	m := member{log: log, parent: f.Log, path: path, destination: f.Destination, start: start}
	if r := n.operators.get(log).Redirect; r.counts(path) && slices.Contains(n.config.Destinations, r.Destination) {
		m.destination = r.Destination
	}
	m.stop = f.stop
	if own := n.operators.get(log).Stop; own != nil && (!m.stopped() || own.Verb != verbDrain) {
		m.stop = own
	}
	if m.pause = n.operators.paused(log, f.Log); f.own && m.pause == n.operators.all.Pause {
		m.pause = nil
	}
	return m
}

// own tells whether a log is one of the node's own.
func (n *Node) own(log string) bool {
	return slices.ContainsFunc(n.config.Own, func(o Own) bool { return o.Log == log })
}

// settle fills in the destination and tells what keeps a definition from being worked.
func (n *Node) settle(d *Definition) error {
	if d.Destination == "" {
		if len(n.config.Destinations) != 1 {
			return fmt.Errorf("no destination is given, and this node has %d: %s", len(n.config.Destinations), n.known())
		}
		d.Destination = n.config.Destinations[0]
		return nil
	}
	if !slices.Contains(n.config.Destinations, d.Destination) {
		return fmt.Errorf("destination %q is not configured on this node; known: %s", d.Destination, n.known())
	}
	return nil
}

func (n *Node) known() string {
	if len(n.config.Destinations) == 0 {
		return "none"
	}
	return strings.Join(n.config.Destinations, ", ")
}

// drained tells whether all that the engine read of a log is confirmed. A log that it doesn't work has nothing unread.
func (n *Node) drained(log string) bool {
	s, ok := n.stands(log)
	return n.latest != nil && (!ok || settled(s) && s.LagBytes == 0)
}

// settled: where the log stands is known.
func settled(s forward.Status) bool { return s.State != "starting" && s.State != "syncing" }

// stands is where a log stands, if the engine was asked; else it will be, and things are looked at again. It is asked only
// where something depends on it: it asks every log, and a thousand quiet ones would be woken each second.
func (n *Node) stands(log string) (forward.Status, bool) {
	n.depends = n.depends || n.latest == nil
	s, ok := n.latest[log]
	return s, ok
}

// status is the engine's, by log: of all, or of those that are named. It takes a moment where a log's disk hangs, so the lock isn't held.
func (n *Node) status(names ...string) map[string]forward.Status {
	all := n.config.Engine.Status(names...)
	by := make(map[string]forward.Status, len(all))
	for _, s := range all {
		by[s.Log] = s
	}
	return by
}

// apply makes the engine do what the plan says; only what differs is said.
func (n *Node) apply(p *plan) {
	logs, paused := p.logs()
	n.scopesOf(p)
	// Who is to be paused is said first, so that a log that comes in under a pause doesn't publish.
	for log := range paused {
		if !n.paused[log] {
			n.config.Engine.Pause(log, true)
		}
	}
	if n.set == nil || !slices.Equal(logs, n.set) {
		n.config.Engine.Set(logs)
		n.set = append([]forward.Log{}, logs...)
	}
	for log := range n.paused {
		if !paused[log] {
			n.config.Engine.Pause(log, false)
		}
	}
	n.paused = maps.Clone(paused)
	n.plan = p
}
