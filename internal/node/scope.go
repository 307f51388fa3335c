package node

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/bmatcuk/doublestar/v4"

	"logforward/internal/control"
	"logforward/internal/tail"
)

// Policy decides about a path when somebody asks for it. What is behind that path shows later: a glob may match more
// than who wrote the policy thought of, and a symbolic link may be changed by somebody who may write there and may not
// read the other file. So each file of a log that an operator started is looked at once more when it is opened, by its
// real path: is it the one that was decided on, or a rotated form beside it? For any other, and for each that a glob
// finds, policy is asked, as if the starter asked for that file. What policy has permitted once stays so.

const (
	// maxRealFiles is how many files that policy permitted later are remembered of one forwarder.
	maxRealFiles = maxFiles
	// askAgain is how long a refusal is remembered, so that a log that waits doesn't fill the audit log.
	askAgain = 30 * time.Second
	// fileDecision bounds one question.
	fileDecision = 5 * time.Second
)

// scope is what an operator's log may read.
type scope struct {
	*decision
	refused map[string]refusal
}

// decision is what was decided of a forwarder; its logs share it.
type decision struct {
	caller  control.Caller
	request control.Request // the start, for a path that is still to be filled in
	allowed map[string]bool // real paths that were decided on
	since   time.Time
	before  []start // of this caller, before since; none where the start has no end
}

type refusal struct {
	err   error
	until time.Time
}

// scopes are those of all logs that operators started. They have a lock of their own: files are opened by goroutines
// that the node waits for while it holds its own.
type scopes struct {
	mu    sync.Mutex
	known map[string]*scope   // by log; nil: configuration management's
	fresh map[string][]string // by forwarder: files that policy permitted since they were last written down
}

// realPath is where a path leads. Of a glob that is its part before the first wildcard, with the rest as it is.
func realPath(path string) (string, error) {
	if !isGlob(path) {
		return resolve(path)
	}
	base, pattern := doublestar.SplitPattern(path)
	real, err := resolve(base)
	if err != nil {
		return "", err
	}
	// The real name may have a wildcard's letters in it.
	return filepath.Join(tail.QuoteGlob(real), pattern), nil
}

// scopesOf says what the logs of a plan may read.
func (n *Node) scopesOf(p *plan) {
	n.scopes.mu.Lock()
	defer n.scopes.mu.Unlock()
	known := map[string]*scope{}
	for _, f := range p.forwarders {
		if f.wish == nil {
			for _, m := range f.members {
				known[m.log] = nil
			}
			continue
		}
		d := newDecision(f.wish)
		reused := false
		for _, m := range f.members { // what one of its logs was permitted since is kept, whichever is still there
			if old := n.scopes.known[m.log]; old != nil && old.caller.Name == d.caller.Name && old.request == d.request {
				reused = old.since.Equal(d.since)
				old.since, d = d.since, old.decision
				break
			}
		}
		if !reused {
			d.before = n.operators.held.before(f.wish)
		}
		for _, m := range f.members {
			if old := n.scopes.known[m.log]; old != nil && old.decision == d {
				known[m.log] = old
				continue
			}
			known[m.log] = &scope{d, map[string]refusal{}}
		}
	}
	n.scopes.known = known
}

func newDecision(w *wish) *decision {
	d := &decision{caller: w.caller(), request: w.request(), allowed: make(map[string]bool, len(w.Files)+2), since: w.Since}
	for _, file := range w.Files {
		d.allowed[file] = true
	}
	if !isGlob(w.Path) {
		d.allowed[w.Path] = true
		if w.Real != "" {
			d.allowed[w.Real] = true
		}
	}
	return d
}

// caller is who started it, as policy knew them.
func (w *wish) caller() control.Caller { return callerOf(&w.Override) }

func callerOf(o *control.Override) control.Caller {
	return control.Caller{UID: o.UID, Name: o.By, RequestID: o.RequestID, Collective: o.Collective, TTL: o.TTL}
}

// request is the start as policy saw it.
func (w *wish) request() control.Request {
	r := control.Request{Verb: control.VerbStart, Log: w.Log, Path: w.Path, Real: w.Real, Destination: w.Destination, Start: string(w.Start), Rate: w.Rate, Reason: w.Reason}
	if !w.Until.IsZero() {
		r.For = w.Until.Sub(w.Since)
	}
	return r
}

// Permit tells whether a log may read a file with this real path; an error wraps [tail.ErrNotPermitted]. It is for
// the engine: [forward.Config].Permit.
func (n *Node) Permit(log, realpath string) error {
	if n.own(log) {
		return nil
	}
	// The engine may read the node's own logs, too.
	if err := n.config.Allowed.Check(realpath); err != nil {
		return err
	}
	n.scopes.mu.Lock()
	s, is := n.scopes.known[log]
	if !is { // it is over, and the engine is letting go of it
		n.scopes.mu.Unlock()
		return fmt.Errorf("%s isn't forwarded any more: %w", log, tail.ErrNotPermitted)
	}
	if s == nil || s.covers(realpath) {
		n.scopes.mu.Unlock()
		return nil // configuration management's, or decided on
	}
	if r, ok := s.refused[realpath]; ok && n.config.Now().Before(r.until) {
		n.scopes.mu.Unlock()
		return r.err
	}
	caller, request, before, since := s.caller, s.request, s.before, s.since
	n.scopes.mu.Unlock()

	request.Path, request.Real = realpath, ""
	if held := heldBefore(before, tail.QuoteGlob(realpath), since); held > 0 {
		request.Total = request.For + held
	}
	var err error
	if n.config.File != nil {
		ctx, cancel := context.WithTimeout(context.Background(), fileDecision)
		err = n.config.File(ctx, caller, request)
		cancel()
	}
	n.scopes.mu.Lock()
	defer n.scopes.mu.Unlock()
	if err != nil {
		err = fmt.Errorf("%q isn't what %s was decided on, and: %w: %w", realpath, log, err, tail.ErrNotPermitted)
		s.refused[realpath] = refusal{err, n.config.Now().Add(askAgain)}
		n.config.Logger.Warn("a file isn't opened", "log", log, "error", err)
		return err
	}
	if now := n.scopes.known[log]; now == nil || now.decision != s.decision {
		return fmt.Errorf("%s is somebody else's since this was decided: %w", log, tail.ErrNotPermitted)
	}
	s.allowed[realpath] = true
	n.scopes.fresh[request.Log] = append(n.scopes.fresh[request.Log], realpath)
	kick(n.nudged)
	return nil
}

// covers: it is a file that was decided on, or might be a rotated form or a copy of one, beside it.
func (s *scope) covers(realpath string) bool {
	dir, name := filepath.Split(realpath)
	return s.allowed[realpath] || tail.IsRelatedToAny(name, func(base string) bool { return s.allowed[dir+base] })
}

// keepFiles writes down which files policy has permitted since the last time: a restart must not ask again.
func (n *Node) keepFiles() error {
	n.scopes.mu.Lock()
	fresh := n.scopes.fresh
	n.scopes.fresh = map[string][]string{}
	n.scopes.mu.Unlock()
	for log, files := range fresh {
		old := n.operators.get(log)
		if old.Wish == nil {
			continue
		}
		next := old.clone()
		w := *old.Wish
		w.Files = append(slices.Clone(w.Files), files...)
		w.Files = w.Files[max(0, len(w.Files)-maxRealFiles):]
		next.Wish = &w
		if err := n.operators.put(log, next); err != nil {
			n.scopes.mu.Lock()
			n.scopes.fresh[log] = append(files, n.scopes.fresh[log]...)
			n.scopes.mu.Unlock()
			return err
		}
	}
	return nil
}
