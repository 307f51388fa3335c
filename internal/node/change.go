package node

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"logforward/internal/control"
	"logforward/internal/forward"
)

// change makes one change: it asks policy with what the log is now, then does it, then has the
// engine told, so that the reply speaks of what is so.
func (n *Node) change(ctx context.Context, caller control.Caller, r control.Request, do func(now time.Time, g ground) (control.Reply, error)) (control.Reply, error) {
	reply, err := n.one(ctx, caller, r, do)
	if err != nil {
		return control.Reply{}, err
	}
	if caller.Route != control.RouteWish { // nobody waits for what a wish's reply says of files
		n.measure(ctx, &reply)
	}
	return reply, nil
}

func (n *Node) one(ctx context.Context, caller control.Caller, r control.Request, do func(now time.Time, g ground) (control.Reply, error)) (control.Reply, error) {
	// Before any lock: the path's file system may be away.
	path, start := r.Path, r.Verb == control.VerbStart && r.Path != ""
	if path == "" {
		path = n.pathOf(r.Log)
	}
	g := n.ground(ctx, path, start, lookWithin)
	n.verbs.Lock()
	defer n.verbs.Unlock()
	n.mu.Lock()
	n.refresh(false)
	now := n.config.Now()
	abouts := n.abouts(caller, r, g.real, now)
	again, held := n.requests.check(caller, now), n.said(r)
	n.mu.Unlock()
	if abouts[0].Path != path { // its definition has only just been read
		g = n.ground(ctx, abouts[0].Path, start, leadWithin)
		for i := range abouts {
			abouts[i].Real = g.real
		}
	}
	g.about = abouts[0]
	if again != nil {
		n.config.Logger.Warn("change refused", "verb", r.Verb, "log", r.Log, "caller", caller.Name, "uid", caller.UID, "request", caller.RequestID, "error", again)
		if n.config.Refused != nil {
			n.config.Refused(caller, abouts[0], again)
		}
		return control.Reply{}, again
	}
	// Who has waited behind others' changes for too long has been told that there is no answer, and may have asked
	// for something else since.
	if ctx.Err() != nil {
		return control.Reply{}, control.Errorf(control.CodeTimeout, "%s %s: others' changes took too long; nothing was changed", r.Verb, r.Log)
	}
	for _, about := range abouts {
		if n.config.Authorize == nil {
			break
		}
		if err := n.config.Authorize(ctx, caller, about); err != nil {
			n.config.Logger.Warn("change refused by policy", "verb", r.Verb, "log", r.Log, "path", about.Path, "caller", caller.Name, "uid", caller.UID, "request", caller.RequestID, "error", err)
			var e *control.Error
			if about.Verb != r.Verb {
				return control.Reply{}, control.Errorf(control.CodeRefused, "%s %s: it would end sooner than what %s said, and end that: %v", r.Verb, r.Log, held.By, err).
					WithHint("ask for a longer time, or whoever may %s it", about.Verb)
			}
			if errors.As(err, &e) {
				return control.Reply{}, e
			}
			return control.Reply{}, control.Errorf(control.CodeRefused, "%s %s: %v", r.Verb, r.Log, err)
		}
	}
	defer n.settleUp()
	return n.decided(ctx, caller, r, abouts, g, now, do)
}

// pathOf is the path of a log or forwarder; empty: there is none.
func (n *Node) pathOf(log string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch f, at := n.plan.find(log); {
	case f == nil:
		return ""
	case at >= 0:
		return f.members[at].path
	default:
		return f.Path
	}
}

// decided does what policy has permitted.
func (n *Node) decided(ctx context.Context, caller control.Caller, r control.Request, abouts []control.Request, g ground, asked time.Time, do func(now time.Time, g ground) (control.Reply, error)) (control.Reply, error) {
	about := g.about
	real := n.ground(ctx, about.Path, false, leadWithin).real
	n.mu.Lock()
	defer n.mu.Unlock()
	// A definition, or a link, may have changed while policy thought: what it decided on must be what is done.
	if now := n.abouts(caller, r, real, asked); !slices.Equal(now, abouts) {
		return control.Reply{}, control.Errorf(control.CodeConflict, "%s %s: its definition changed at this moment", r.Verb, r.Log).WithHint("try again")
	}
	moment := n.config.Now()
	var err error
	if n.operators.also, err = n.requests.take(caller, moment); err != nil {
		return control.Reply{}, unsaved(err)
	}
	reply, err := do(moment, g)
	if err == nil {
		if err = n.operators.flush(); err != nil {
			err = unsaved(err)
		}
	}
	if err != nil {
		if n.operators.also != nil { // nothing was written
			n.operators.also = nil
			delete(n.requests.known, caller.RequestID)
			return control.Reply{}, err
		}
		return control.Reply{}, errors.Join(err, n.requests.forget(caller))
	}
	if reply.Changed {
		said := []any{"verb", r.Verb, "log", r.Log, "path", about.Path, "caller", caller.Name, "uid", caller.UID, "pid", caller.PID, "request", caller.RequestID, "reason", r.Reason}
		if !reply.Until.IsZero() {
			said = append(said, "until", reply.Until)
		}
		n.config.Logger.Info("changed by an operator", said...)
	}
	n.refresh(reply.Changed)
	return reply, nil
}

// firstLook is how long a reply waits for the engine's first look at the files, so that what it says of them is so.
const firstLook = 300 * time.Millisecond

// measure fills in how the logs that were changed stand; those of a stopped one are no longer looked at.
func (n *Node) measure(ctx context.Context, reply *control.Reply) {
	if reply.State == "stopped" {
		return // its file is being let go of, or is so already
	}
	if len(reply.Logs) == 0 {
		return
	}
	for end := time.Now().Add(firstLook); ; {
		stands, looked := n.status(reply.Logs...), true
		reply.Files, reply.LagBytes = 0, 0
		for _, log := range reply.Logs {
			s, ok := stands[log]
			reply.Files += len(s.Generations)
			reply.LagBytes += s.LagBytes
			if reply.State == forward.Starting {
				looked = looked && ok && s.State != forward.Starting
			}
		}
		if looked || ctx.Err() != nil || !time.Now().Before(end) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Known is a question about one log, with what the node knows of it filled in for policy.
func (n *Node) Known(c control.Caller, r control.Request) control.Request {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.about(c, r, n.config.Now())
}

// abouts are what policy is to decide on: of a glob whose logs don't all go to one destination, once for each of these. real
// is where the path leads, as [Node.ground] says.
func (n *Node) abouts(c control.Caller, r control.Request, real string, now time.Time) []control.Request {
	r.Real = real
	all := []control.Request{n.about(c, r, now)}
	if f, at := n.plan.find(r.Log); f != nil && at < 0 && r.Path == "" {
		for _, m := range f.members {
			one := all[0]
			if r.Verb == control.VerbRedirect {
				one.Current = m.destination
			} else {
				one.Destination = m.destination
			}
			if !slices.Contains(all, one) {
				all = append(all, one)
			}
		}
	}
	// Who holds a log for a shorter time than somebody else lets it go for them.
	if o := n.said(r); o != nil && o.By != c.Name && r.For > 0 && (o.Until.IsZero() || o.Until.After(now.Add(r.For))) {
		for _, one := range slices.Clone(all) {
			one.Verb, one.Lifts = control.VerbResume, false
			if r.Verb == control.VerbStop {
				one.Verb, one.Lifts = control.VerbStart, true
			}
			one.For, one.Total, one.Drain = 0, 0, false
			all = append(all, one)
		}
	}
	return all
}

// said is the word that a stop or a pause would take the place of; nil: there is none.
func (n *Node) said(r control.Request) *control.Override {
	switch {
	case r.Verb == control.VerbStop:
		return n.operators.get(r.Log).Stop
	case r.Verb != control.VerbPause:
		return nil
	case r.All:
		return n.operators.all.Pause
	}
	return n.operators.get(r.Log).Pause
}

// about fills in the path and the destination of a log that the request only names, and for how long its word would hold
// with what the caller said before. Where the path leads is [Node.ground]'s to tell.
func (n *Node) about(c control.Caller, r control.Request, now time.Time) control.Request {
	if r.Path == "" {
		r.Lifts = r.Verb == control.VerbStart
		if f, at := n.plan.find(r.Log); f != nil {
			r.Path = f.Path
			destination := f.Destination
			if at >= 0 {
				r.Path, destination = f.members[at].path, f.members[at].destination
			}
			if r.Verb == control.VerbRedirect {
				r.Current = destination
			}
			if r.Destination == "" {
				r.Destination = destination
			}
		}
	} else if r.Destination == "" && len(n.config.Destinations) == 1 {
		r.Destination = n.config.Destinations[0]
	}
	r.Total = n.total(c, r, now)
	return r
}

func word(verb string, c control.Caller, now time.Time, f control.Duration, reason string) control.Override {
	o := control.Override{Verb: verb, By: c.Name, UID: c.UID, RequestID: c.RequestID, Collective: c.Collective, TTL: c.TTL, Since: now.UTC(), Reason: reason}
	if f > 0 {
		o.Until = now.UTC().Add(time.Duration(f))
	}
	return o
}

func (n *Node) unknown(log string) error {
	var names []string
	for _, f := range n.plan.forwarders {
		names = append(names, f.Log)
	}
	hint := "no log is defined here; give its path to start it"
	if len(names) > 0 {
		if len(names) > 20 {
			names = append(names[:20], "…")
		}
		hint = "known: " + strings.Join(names, ", ")
	}
	return control.Errorf(control.CodeUnknownLog, "log %q is not known on this node", log).WithHint("%s", hint)
}

// unsaved is the error of a wish that couldn't be put on disk: it doesn't count then.
func unsaved(err error) error {
	return control.Errorf(control.CodeInternal, "nothing was changed: %v", err).WithHint("look at the state directory's disk")
}
