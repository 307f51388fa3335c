package node

import (
	"context"
	"time"

	"logforward/internal/beat"
	"logforward/internal/control"
)

// Where policy also applies to what runs (enforce = running), who started a forwarder is asked for again and again: might
// they still start it? If not, it is stopped, as an operator would stop it: positions stay, and it goes on by
// itself once policy permits it again. A redirect that isn't permitted any more ends: what comes behind it goes where the definition
// says. What configuration management defines, pauses and stops aren't looked at: they send nothing anywhere.
// A policy that is missing or broken, or can't be asked, changes nothing.

const (
	byPolicy  = "policy"
	policyUID = -1 // no caller has it
)

func ofPolicy(o *control.Override) bool { return o != nil && o.UID == policyUID && o.By == byPolicy }

// standing is one word of an operator that is looked at again.
type standing struct {
	log     string
	caller  control.Caller
	request control.Request
	since   time.Time // with who said it, it is this very word
	stopped bool      // by policy
	managed bool      // configuration management defines the log since
}

// enforce looks at what runs until ctx ends.
func (n *Node) enforce(ctx context.Context) {
	tick := beat.NewTicker(n.config.Beat, 2*n.config.Poll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			n.judgeRunning(ctx)
		case <-n.judged:
		}
		if len(n.standings()) > 0 {
			tick.Reset(2 * n.config.Poll)
		} else { // nobody has started anything
			tick.Reset(2 * n.config.Rest)
		}
	}
}

// judgeRunning looks once at all that operators started and redirected.
func (n *Node) judgeRunning(ctx context.Context) {
	for _, s := range n.standings() {
		if s.request.Verb == control.VerbRedirect {
			s.request.Real = n.ground(ctx, s.request.Path, false, leadWithin).real
		}
		permitted, err := s.managed, error(nil)
		if !s.managed {
			permitted, err = n.config.Stands(ctx, s.caller, s.request, !s.stopped)
		}
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			n.config.Logger.Debug("what runs can't be judged now and stays as it is", "log", s.log, "verb", s.request.Verb, "error", err)
			continue
		}
		if permitted != s.stopped {
			continue
		}
		if err := n.obey(s, permitted); err != nil {
			n.config.Logger.Error("what policy says of a running log can't be kept", "log", s.log, "permitted", permitted, "error", err)
		}
	}
}

func (n *Node) standings() (all []standing) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for log, r := range n.operators.records {
		f, _ := n.plan.find(log)
		managed := f != nil && f.Log == log && f.managed != ""
		if r.Wish != nil && (r.Stop == nil && !managed || ofPolicy(r.Stop)) {
			all = append(all, standing{log, r.Wish.caller(), r.Wish.request(), r.Wish.Since, ofPolicy(r.Stop), managed})
		}
		if o := r.Redirect; o != nil {
			c := callerOf(&o.Override)
			request := n.about(c, control.Request{Verb: control.VerbRedirect, Log: log, Destination: o.Destination, Reason: o.Reason}, n.config.Now())
			request.Current = o.Inputs["from"] // where it went before, not where it goes by this
			all = append(all, standing{log, c, request, o.Since, false, false})
		}
	}
	return all
}

// obey stops what policy doesn't permit any more, and lets go on what it permits again.
func (n *Node) obey(s standing, permitted bool) error {
	n.verbs.Lock()
	defer n.verbs.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	old := n.operators.get(s.log)
	next := old.clone()
	now := n.config.Now()
	why := s.caller.Name + " may not " + s.request.Verb + " this any more"
	switch {
	case s.request.Verb == control.VerbRedirect:
		if old.Redirect == nil || !old.Redirect.Since.Equal(s.since) || old.Redirect.By != s.caller.Name {
			return nil
		}
		next.note(control.Change{Override: old.Redirect.Override, Ended: byPolicy})
		next.Redirect = nil
	case old.Wish == nil || !old.Wish.Since.Equal(s.since) || old.Wish.By != s.caller.Name || ofPolicy(old.Stop) != s.stopped || old.Stop != nil && !s.stopped:
		return nil
	case permitted:
		if why = s.caller.Name + " may " + s.request.Verb + " this again"; s.managed {
			why = "configuration management defines it"
		}
		next.note(control.Change{Override: *old.Stop, Ended: "lifted"})
		next.Stop = nil
	default:
		next.Stop = &control.Override{Verb: control.VerbStop, By: byPolicy, UID: policyUID, Since: now.UTC(), Reason: why}
		next.note(control.Change{Override: *next.Stop})
	}
	if err := n.operators.put(s.log, next); err != nil {
		return err
	}
	n.config.Logger.Warn("changed by policy", "verb", s.request.Verb, "log", s.log, "path", s.request.Path, "destination", s.request.Destination, "why", why)
	n.refresh(true)
	return nil
}
