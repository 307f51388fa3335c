package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"logforward/internal/beat"
	"logforward/internal/control"
	"logforward/internal/forward"
	"logforward/internal/share"
	"logforward/internal/tail"
)

// Engine does the forwarding; [forward.Engine] is it.
type Engine interface {
	// Run blocks until ctx ends, then shuts down in order.
	Run(ctx context.Context) error
	// Set gives the whole wanted set; it doesn't block.
	Set([]forward.Log)
	// Pause holds or releases one log, which need not be in the set yet.
	Pause(name string, on bool)
	// Status is where all logs stand, or those that are named. It waits for a moment only.
	Status(names ...string) []forward.Status
}

// Own is a log of the node's own, which a setting has it forward. Its file need not be among those that are
// allowed; a pause of all isn't meant for it.
type Own struct {
	Definition
	Setting string // that defines it, for status
}

// Config describes a node. Identity, Engine and State are required.
type Config struct {
	Identity     string
	Version      string
	Definitions  string       // directory of *.yaml; empty: none
	Allowed      tail.Allowed // what may ever be forwarded
	Destinations []string     // names that are configured
	Own          []Own
	Engine       Engine
	State        *forward.State // stays the caller's
	// Authorize is asked before anything is changed, with the log's path and destination filled
	// in. nil: all are permitted. An error refuses.
	Authorize func(context.Context, control.Caller, control.Request) error
	// Refused is told of what the node itself refuses; nil: nobody is.
	Refused func(control.Caller, control.Request, error)
	// File is asked whether who started a log may have a file that its path leads to only now; see [Node.Permit].
	// nil: they may.
	File func(context.Context, control.Caller, control.Request) error
	// Stands is asked again and again whether policy would still let a caller start or redirect what they did; was is
	// what it said last. An error changes nothing. nil: what runs goes on.
	Stands func(ctx context.Context, c control.Caller, r control.Request, was bool) (bool, error)
	// Problems are what others have to say in the node's status; nil: nothing.
	Problems   func() []control.Problem
	Thresholds Thresholds
	Rate       int64 // bytes/s of a log that has none of its own, for display; 0: none
	// Connected tells how the destinations are; nil: not known.
	Connected func() map[string]bool
	Logger    *slog.Logger
	Now       func() time.Time // for tests
	Poll      time.Duration    // files and times are looked at this often; default 1 s
	Rest      time.Duration    // the same, where Watcher tells of all changes; default [beat.AtRest] times Poll
	Watcher   *tail.Watcher    // tells of changes in the directories of definitions and globs; nil: they are polled
	Beat      *beat.Beat       // whose moments these are; nil: it has timers of its own
	PID       int              // for status
	// Executable is what status tells of the program; nil: not known.
	Executable *control.Executable
}

// Node decides what is forwarded. It implements [control.Node].
type Node struct {
	config  Config
	started time.Time

	verbs   sync.Mutex // one change at a time, the question to policy included
	scopes  scopes     // what operators' logs may read
	survey  *survey    // of globs' files
	grounds share.Calls[ground]
	edited  chan struct{} // something happened to the definitions directory
	nudged  chan struct{} // an operator's word, or what follows from one, may have changed what is to be done when
	judged  chan struct{} // the same, for [Node.enforce]

	mu           sync.Mutex // all below
	dir          *directory
	operators    *operators
	requests     *requests
	globs        map[string]*glob
	plan         *plan
	set          []forward.Log             // what the engine was told; nil: nothing yet
	paused       map[string]bool           // what the engine was told to pause
	latest       map[string]forward.Status // of this look; nil: the engine wasn't asked
	depends      bool                      // something depends on where the logs stand
	drains       map[string]drain          // by log
	loadProblems []control.Problem
	failure      error // of the last look: the state can't be written
	running      bool
}

var _ control.Node = (*Node)(nil)

// New allocates; nothing is touched before Open.
func New(c Config) *Node {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Poll <= 0 {
		c.Poll = time.Second
	}
	if c.Rest <= 0 {
		c.Rest = beat.AtRest * c.Poll
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Destinations = slices.Sorted(slices.Values(c.Destinations))
	c.Thresholds.setDefaults()
	return &Node{config: c, plan: new(plan), survey: newSurvey(finder(c.Allowed), c.Watcher), edited: make(chan struct{}, 1), nudged: make(chan struct{}, 1), judged: make(chan struct{}, 1), paused: map[string]bool{}, drains: map[string]drain{}, globs: map[string]*glob{},
		scopes: scopes{known: map[string]*scope{}, fresh: map[string][]string{}}}
}

// Open reads what is to be forwarded and tells the engine. Definitions at fault are
// no error; a state that can't be read is.
func (n *Node) Open(context.Context) error {
	if err := n.load(); err != nil {
		return fmt.Errorf("open node: %w", err)
	}
	n.update(true, lookWithin)
	return nil
}

// load reads what was kept.
func (n *Node) load() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.started = n.config.Now()
	n.dir = newDirectory(n.config.Definitions)
	var err error
	if n.operators, n.loadProblems, err = loadOperators(n.config.State, n.config.Now); err != nil {
		return err
	}
	if n.requests, err = loadRequests(n.config.State); err != nil {
		return err
	}
	return n.config.State.Each(bucketGlobs, func(log string, b []byte) error {
		g, err := decodeGlob(b)
		if err != nil {
			// Lost: its files count as seen for the first time, those with a checkpoint go on there.
			n.loadProblems = append(n.loadProblems, control.Problem{Where: log, Problem: err.Error()})
			return nil
		}
		n.globs[log] = g
		return nil
	})
}

// Run runs the engine and keeps it to what is wanted, until ctx ends. It returns nil then.
func (n *Node) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		n.setRunning(true)
		defer n.setRunning(false)
		if err := n.config.Engine.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
			return fmt.Errorf("forward: %w", err)
		}
		if ctx.Err() == nil {
			return errors.New("forward: the engine ended by itself")
		}
		return nil
	})
	group.Go(func() error { n.watch(ctx); return nil })
	if n.config.Stands != nil {
		group.Go(func() error { n.enforce(ctx); return nil })
	}
	return group.Wait()
}

func (n *Node) setRunning(on bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.running = on
}

// Reload reads all definitions again, whether they look changed or not. When it returns, what they say is in
// force, but for globs whose files can't be looked at in time.
func (n *Node) Reload() {
	n.update(true, lookWithin)
	n.settleUp()
}

// refresh brings everything up to date: what has reached its time, definitions, drains, the engine, and globs with what was
// found last. It waits for nothing but the definitions' and the state's disk. The lock is held.
func (n *Node) refresh(again bool) {
	if again {
		kick(n.nudged)
		kick(n.judged)
	}
	if n.config.Definitions != "" && n.dir.look(again) {
		again = true // a name may be free now that another forwarder had
	}
	if !again && n.still() {
		return
	}
	now := n.config.Now()
	defer func() { n.latest = nil }()
	n.depends = false
	var errs []error
	errs = append(errs, n.expire(now), n.keepFiles())
	p, err := n.compute(now, again || n.latest != nil) // where a log stands may free its name
	errs = append(errs, err)
	if n.drain(p, now) {
		p, err = n.compute(now, true)
		errs = append(errs, err)
	}
	errs = append(errs, n.operators.forget(p.names(n.operators.records), now))
	n.tell(p)
	n.apply(p)
	failure := errors.Join(errs...)
	if failure != nil && (n.failure == nil || n.failure.Error() != failure.Error()) {
		n.config.Logger.Error("what is wished can't be kept", "error", failure)
	}
	n.failure = failure
}

// still tells whether the plan would come out as it is: only definitions and globs' files make it, and neither are others than they were
// then. It is what each second finds on a node at rest, for hundreds of logs. What operators said has times, and drains ask where logs stand: there it
// is made anew. The lock is held.
func (n *Node) still() bool {
	return len(n.operators.records) == 0 && n.operators.all.Pause == nil && n.atRest()
}

// expire ends overrides that have reached their time.
func (n *Node) expire(now time.Time) error {
	var errs []error
	for log, r := range n.operators.records {
		if !r.due(now) {
			continue // most, each second: their histories needn't be copied
		}
		c := r.clone()
		if ended := c.expire(now); len(ended) > 0 {
			for _, o := range ended {
				n.config.Logger.Info("override ended by itself", "log", log, "verb", o.Verb, "by", o.By, "since", o.Since)
			}
			if err := n.operators.put(log, c); err != nil {
				// In memory it ends all the same; on disk it is ended again after a restart.
				n.operators.records[log] = c
				errs = append(errs, err)
			}
		}
	}
	if c := n.operators.all.clone(); len(c.expire(now)) > 0 {
		n.config.Logger.Info("pause of all ended by itself")
		if err := n.operators.putAll(c); err != nil {
			n.operators.all = c
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// tell logs faults that are new.
func (n *Node) tell(p *plan) {
	for _, problem := range p.problems {
		if !slices.Contains(n.plan.problems, problem) {
			n.config.Logger.Warn("definition at fault", "where", problem.Where, "problem", problem.Problem)
		}
	}
}

// drain is up to where a log is to be confirmed before it stops.
type drain struct{ epoch, position uint64 }

// drain ends the drains that are done. It reports whether there were any.
func (n *Node) drain(p *plan, now time.Time) (any bool) {
	for log, r := range n.operators.records {
		if r.Stop == nil || r.Stop.Verb != verbDrain {
			continue
		}
		f, at := p.find(log)
		if f != nil && f.fault == nil && !n.dry(f, at) {
			continue
		}
		c := r.clone()
		stop := *r.Stop
		stop.Verb = control.VerbStop
		c.Stop = &stop
		c.note(control.Change{Override: *r.Stop, Ended: "drained"})
		if c.Wish != nil && stop.Until.IsZero() {
			c.Wish, c.Stop, c.Redirect = nil, nil, nil
		}
		if err := n.operators.put(log, c); err != nil {
			n.config.Logger.Error("drained, but that can't be kept", "log", log, "error", err)
			continue // it goes on forwarding until that is so: nothing is lost by it
		}
		n.config.Logger.Info("drained and stopped", "log", log, "by", stop.By)
		any = true
	}
	return any
}

// dry tells whether all that was there when the drain was asked for is confirmed.
func (n *Node) dry(f *forwarder, at int) bool {
	done := true
	for i, m := range f.members {
		if at >= 0 && i != at {
			continue
		}
		if m.stopped() {
			done = done && at < 0 // one that drains by itself stands below its forwarder's stop, and isn't drained by that
			continue
		}
		s, ok := n.stands(m.log)
		if !ok || !settled(s) {
			done = false // the engine hasn't begun with it
			continue
		}
		to, ok := n.drains[m.log]
		if !ok || to.epoch != s.Epoch {
			// A new epoch numbers anew; what is there now includes what was there then.
			to = drain{s.Epoch, s.Confirmed + uint64(max(s.LagBytes, 0))}
			n.drains[m.log] = to
		}
		if s.LagBytes > 0 && s.Confirmed < to.position {
			done = false
		}
	}
	if done {
		for _, m := range f.members {
			delete(n.drains, m.log)
		}
	}
	return done
}
