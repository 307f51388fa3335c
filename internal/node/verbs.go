package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"logforward/internal/control"
	"logforward/internal/forward"
	"logforward/internal/tail"
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
	about := n.about(caller, r, now)
	again := n.requests.check(caller, now)
	n.mu.Unlock()
	if about.Path != path { // its definition has only just been read
		g = n.ground(ctx, about.Path, start, leadWithin)
	}
	about.Real = g.real
	g.about = about
	if again != nil {
		n.config.Logger.Warn("change refused", "verb", r.Verb, "log", r.Log, "caller", caller.Name, "uid", caller.UID, "request", caller.RequestID, "error", again)
		if n.config.Refused != nil {
			n.config.Refused(caller, about, again)
		}
		return control.Reply{}, again
	}
	// Who has waited behind others' changes for too long has been told that there is no answer, and may have asked
	// for something else since.
	if ctx.Err() != nil {
		return control.Reply{}, control.Errorf(control.CodeTimeout, "%s %s: others' changes took too long; nothing was changed", r.Verb, r.Log)
	}
	if n.config.Authorize != nil {
		if err := n.config.Authorize(ctx, caller, about); err != nil {
			n.config.Logger.Warn("change refused by policy", "verb", r.Verb, "log", r.Log, "path", about.Path, "caller", caller.Name, "uid", caller.UID, "request", caller.RequestID, "error", err)
			var e *control.Error
			if errors.As(err, &e) {
				return control.Reply{}, e
			}
			return control.Reply{}, control.Errorf(control.CodeRefused, "%s %s: %v", r.Verb, r.Log, err)
		}
	}
	defer n.settleUp()
	return n.decided(ctx, caller, r, g, now, do)
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
func (n *Node) decided(ctx context.Context, caller control.Caller, r control.Request, g ground, asked time.Time, do func(now time.Time, g ground) (control.Reply, error)) (control.Reply, error) {
	about := g.about
	real := n.ground(ctx, about.Path, false, leadWithin).real
	n.mu.Lock()
	defer n.mu.Unlock()
	// A definition, or a link, may have changed while policy thought: what it decided on must be what is done.
	now := n.about(caller, r, asked)
	now.Real = real
	if now != about {
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
		n.config.Logger.Info("changed by an operator", "verb", r.Verb, "log", r.Log, "path", about.Path, "caller", caller.Name, "uid", caller.UID, "pid", caller.PID, "request", caller.RequestID, "reason", r.Reason, "until", reply.Until)
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

// Start begins forwarding a path, or lifts an operator's stop.
func (n *Node) Start(ctx context.Context, c control.Caller, r control.StartRequest) (control.Reply, error) {
	return n.change(ctx, c, r.About(), func(now time.Time, g ground) (control.Reply, error) {
		if r.Path == "" {
			return n.lift(c, r, now)
		}
		return n.begin(c, r, g, now)
	})
}

// lift ends a stop.
func (n *Node) lift(c control.Caller, r control.StartRequest, now time.Time) (control.Reply, error) {
	f, at := n.plan.find(r.Log)
	if f == nil {
		return control.Reply{}, n.unknown(r.Log)
	}
	if r.For != 0 {
		return control.Reply{}, control.Errorf(control.CodeInvalid, "for: lifting the stop of %s has no end; stop it again instead", r.Log)
	}
	if f.fault != nil {
		return control.Reply{}, control.Errorf(control.CodeInvalid, "%s can't be started: %v", r.Log, f.fault)
	}
	if at >= 0 && f.stop != nil && n.operators.get(r.Log).Stop == nil {
		return control.Reply{}, control.Errorf(control.CodeConflict, "%s is stopped with all of %s", r.Log, f.Log).WithHint("start %s", f.Log)
	}
	reply := control.Reply{Log: r.Log, State: "starting", Logs: f.logs(at)}
	old := n.operators.get(r.Log)
	if old.Stop == nil {
		reply.Message = fmt.Sprintf("%s is not stopped", r.Log)
		return reply, nil
	}
	next := old.clone()
	said := word(control.VerbStart, c, now, 0, r.Reason)
	next.note(control.Change{Override: *old.Stop, Ended: "lifted"})
	next.note(control.Change{Override: said})
	next.Stop = nil
	if ofPolicy(old.Stop) && old.Wish != nil {
		// Policy doesn't permit it for who started it; from now on it is this caller's, as long as it was to be.
		w := *old.Wish
		said.Inputs, said.Until = w.Inputs, w.Until
		w.Override, next.Wish = said, &w
	}
	if err := n.operators.put(r.Log, next); err != nil {
		return control.Reply{}, unsaved(err)
	}
	reply.Changed, reply.Message = true, fmt.Sprintf("%s is started again, where it was stopped", r.Log)
	return reply, nil
}

// begin forwards a path by an operator's wish.
func (n *Node) begin(c control.Caller, r control.StartRequest, g ground, now time.Time) (control.Reply, error) {
	d := Definition{Log: r.Log, Path: r.Path, Destination: r.Destination, Start: tail.Start(r.Start), Rate: r.Rate}
	if d.Start == "" {
		d.Start = tail.StartEnd
	}
	f, at := n.plan.find(r.Log)
	if err := n.settle(&d); err != nil {
		return control.Reply{}, control.Errorf(control.CodeRefused, "start %s: %v", r.Log, err)
	}
	if errors.Is(g.fault, errLate) {
		return control.Reply{}, control.Errorf(control.CodeTimeout, "start %s: %s: %v; nothing was changed", r.Log, d.Path, g.fault)
	}
	if err := g.fault; err != nil {
		return control.Reply{}, control.Errorf(control.CodeRefused, "start %s: %s: %v", r.Log, d.Path, err).
			WithHint("this node forwards only %s (allowed_paths)", n.config.Allowed)
	}
	switch {
	case f == nil:
	case at >= 0:
		return control.Reply{}, control.Errorf(control.CodeConflict, "start %s: it is one of the logs of %s (%s)", r.Log, f.Log, f.Path).WithHint("choose another name")
	case f.Path != d.Path:
		return control.Reply{}, control.Errorf(control.CodeConflict, "start %s: it is %s already, by %s", r.Log, f.Path, f.origin()).WithHint("choose another name, or stop it first")
	case f.Destination != d.Destination:
		return control.Reply{}, control.Errorf(control.CodeConflict, "start %s: it goes to %s already, by %s", r.Log, f.Destination, f.origin()).WithHint("send it elsewhere with redirect")
	case f.managed != "" && (r.Rate != nil && (f.Rate == nil || *r.Rate != *f.Rate) || r.For != 0):
		return control.Reply{}, control.Errorf(control.CodeConflict, "start %s: %s defines it; its rate and time are not an operator's", r.Log, f.managed).WithHint("start it without rate and for")
	case f.managed != "":
		return n.lift(c, control.StartRequest{Log: r.Log, Reason: r.Reason}, now)
	}
	old := n.operators.get(r.Log)
	next := old.clone()
	said := word(control.VerbStart, c, now, r.For, r.Reason)
	same := old.Wish != nil && old.Stop == nil && sameRate(old.Wish.Rate, d.Rate) && old.Wish.Start == d.Start && old.Wish.Until.Equal(said.Until)
	reply := control.Reply{Log: r.Log, State: "starting", Until: said.Until}
	if same {
		reply.Logs, reply.Message = f.logs(-1), fmt.Sprintf("%s is forwarded already", r.Log)
		return reply, nil
	}
	said.Inputs = map[string]string{"path": d.Path, "destination": d.Destination, "from": string(d.Start)}
	if d.Rate != nil {
		said.Inputs["rate"] = strconv.FormatInt(int64(*d.Rate), 10)
	}
	next.Wish, next.Stop, next.Redirect = &wish{Definition: d, Override: said, Real: g.real}, nil, nil
	next.note(control.Change{Override: said})
	if err := n.operators.put(r.Log, next); err != nil {
		return control.Reply{}, unsaved(err)
	}
	if g.finding != nil {
		n.survey.remember(d.Path, g.finding)
	}
	n.refresh(false)
	reply.Changed = true
	reply.Message = fmt.Sprintf("%s is forwarded to %s as %s", d.Path, d.Destination, r.Log)
	if f, _ := n.plan.find(r.Log); f != nil {
		reply.Logs = f.logs(-1)
		if f.glob != nil {
			reply.Message += ": " + f.glob.summary
		}
	}
	return reply, nil
}

func sameRate(a, b *control.Rate) bool { return a == b || a != nil && b != nil && *a == *b }

// Stop ends forwarding of a log, at once or drained.
func (n *Node) Stop(ctx context.Context, c control.Caller, r control.StopRequest) (control.Reply, error) {
	return n.change(ctx, c, r.About(), func(now time.Time, _ ground) (control.Reply, error) {
		f, at := n.plan.find(r.Log)
		if f == nil {
			return control.Reply{}, n.unknown(r.Log)
		}
		verb, state := control.VerbStop, "stopped"
		if r.Drain {
			verb, state = verbDrain, "draining"
			if o := n.operators.paused(r.Log, f.Log); o != nil {
				return control.Reply{}, control.Errorf(control.CodeConflict, "stop %s: it is paused by %s, so it can't be drained", r.Log, o.By).WithHint("resume it first, or stop it without drain")
			}
		}
		said := word(verb, c, now, r.For, r.Reason)
		old := n.operators.get(r.Log)
		reply := control.Reply{Log: r.Log, State: state, Until: said.Until, Logs: f.logs(at)}
		if old.Stop != nil && (old.Stop.Verb == verb || old.Stop.Verb == control.VerbStop) && old.Stop.Until.Equal(said.Until) {
			reply.State = stateOf(old.Stop)
			reply.Message = fmt.Sprintf("%s is %s already, by %s", r.Log, reply.State, old.Stop.By)
			return reply, nil
		}
		next := old.clone()
		next.note(control.Change{Override: said})
		next.Stop = &said
		// What an operator started is forgotten, unless the stop ends by itself or still has to drain.
		if next.Wish != nil && f.managed == "" && at < 0 && said.Until.IsZero() && !r.Drain {
			next.Wish, next.Stop, next.Redirect = nil, nil, nil
		}
		if err := n.operators.put(r.Log, next); err != nil {
			return control.Reply{}, unsaved(err)
		}
		for _, m := range f.members {
			delete(n.drains, m.log)
		}
		reply.Changed = true
		reply.Message = fmt.Sprintf("%s is %s%s; it would continue where it stopped", r.Log, state, until(said.Until))
		return reply, nil
	})
}

func stateOf(stop *control.Override) string {
	if stop.Verb == verbDrain {
		return "draining"
	}
	return "stopped"
}

func until(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " until " + t.Format(time.RFC3339)
}

// Pause holds one log or all.
func (n *Node) Pause(ctx context.Context, c control.Caller, r control.PauseRequest) (control.Reply, error) {
	return n.change(ctx, c, r.About(), func(now time.Time, _ ground) (control.Reply, error) {
		said := word(control.VerbPause, c, now, r.For, r.Reason)
		reply := control.Reply{Log: r.Log, State: "paused", Until: said.Until, Changed: true}
		if r.All {
			return n.pauseAll(reply, said)
		}
		f, at := n.plan.find(r.Log)
		if f == nil {
			return control.Reply{}, n.unknown(r.Log)
		}
		reply.Logs = f.logs(at)
		old := n.operators.get(r.Log)
		if old.Pause != nil && old.Pause.Until.Equal(said.Until) {
			reply.Changed, reply.Message = false, fmt.Sprintf("%s is paused already, by %s", r.Log, old.Pause.By)
			return reply, nil
		}
		next := old.clone()
		next.Pause, next.Resume = &said, nil
		next.note(control.Change{Override: said})
		if err := n.operators.put(r.Log, next); err != nil {
			return control.Reply{}, unsaved(err)
		}
		reply.Message = fmt.Sprintf("%s is paused%s", r.Log, until(said.Until))
		return reply, nil
	})
}

func (n *Node) pauseAll(reply control.Reply, said control.Override) (control.Reply, error) {
	old := n.operators.all
	if old.Pause != nil && old.Pause.Until.Equal(said.Until) && !n.excepted() {
		reply.Changed, reply.Message = false, "all logs are paused already, by "+old.Pause.By
		return reply, nil
	}
	// All means all: exceptions that were made from an earlier pause end. They are lifted
	// first, for a crash between the two leaves too much paused rather than too little.
	next := old.clone()
	next.Pause = &said
	next.note(control.Change{Override: said})
	if err := n.operators.putAll(next); err != nil {
		return control.Reply{}, unsaved(err)
	}
	if err := n.each(func(r *record) bool {
		had := r.Resume != nil
		r.Resume = nil
		return had
	}); err != nil {
		return control.Reply{}, unsaved(err)
	}
	reply.Message = "all logs are paused" + until(said.Until)
	return reply, nil
}

func (n *Node) excepted() bool {
	for _, r := range n.operators.records {
		if r.Resume != nil {
			return true
		}
	}
	return false
}

// each changes all records that f says it changed.
func (n *Node) each(f func(*record) bool) error {
	for log, r := range n.operators.records {
		if next := r.clone(); f(next) {
			if err := n.operators.put(log, next); err != nil {
				return err
			}
		}
	}
	return nil
}

// Resume lifts a pause.
func (n *Node) Resume(ctx context.Context, c control.Caller, r control.ResumeRequest) (control.Reply, error) {
	return n.change(ctx, c, r.About(), func(now time.Time, _ ground) (control.Reply, error) {
		said := word(control.VerbResume, c, now, r.For, r.Reason)
		if r.All {
			return n.resumeAll(said)
		}
		f, at := n.plan.find(r.Log)
		if f == nil {
			return control.Reply{}, n.unknown(r.Log)
		}
		reply := control.Reply{Log: r.Log, State: "starting", Logs: f.logs(at)}
		old := n.operators.get(r.Log)
		by := n.operators.paused(r.Log, f.Log)
		if by == nil {
			reply.Message = fmt.Sprintf("%s is not paused here", r.Log)
			return reply, nil
		}
		next := old.clone()
		if old.Pause != nil {
			next.note(control.Change{Override: *old.Pause, Ended: "lifted"})
			next.Pause = nil
		}
		// Where a wider pause holds, this becomes the exception from it.
		if n.operators.all.Pause != nil || at >= 0 && n.operators.get(f.Log).Pause != nil {
			next.Resume = &said
			reply.Until = said.Until
		} else if r.For != 0 {
			return control.Reply{}, control.Errorf(control.CodeInvalid, "for: resuming %s has no end; pause it again instead", r.Log)
		}
		next.note(control.Change{Override: said})
		if err := n.operators.put(r.Log, next); err != nil {
			return control.Reply{}, unsaved(err)
		}
		reply.Changed, reply.Message = true, fmt.Sprintf("%s is resumed%s", r.Log, until(reply.Until))
		return reply, nil
	})
}

func (n *Node) resumeAll(said control.Override) (control.Reply, error) {
	reply := control.Reply{State: "starting", Message: "nothing is paused here"}
	// The pause of all goes last, for a crash in between leaves too much paused rather than too little.
	if err := n.each(func(r *record) bool {
		if r.Pause == nil && r.Resume == nil {
			return false
		}
		if r.Pause != nil {
			r.note(control.Change{Override: *r.Pause, Ended: "lifted"})
			r.note(control.Change{Override: said})
			reply.Changed = true
		}
		r.Pause, r.Resume = nil, nil
		return true
	}); err != nil {
		return control.Reply{}, unsaved(err)
	}
	if old := n.operators.all; old.Pause != nil {
		next := old.clone()
		next.note(control.Change{Override: *old.Pause, Ended: "lifted"})
		next.note(control.Change{Override: said})
		next.Pause = nil
		if err := n.operators.putAll(next); err != nil {
			return control.Reply{}, unsaved(err)
		}
		reply.Changed = true
	}
	if reply.Changed {
		reply.Message = "all logs are resumed"
	}
	return reply, nil
}

// origin says who wants a forwarder.
func (f *forwarder) origin() string {
	if f.managed != "" {
		return f.managed
	}
	return f.wish.By
}

// logs are the names that a change is about.
func (f *forwarder) logs(at int) []string {
	if at >= 0 {
		return []string{f.members[at].log}
	}
	names := make([]string, 0, len(f.members))
	for _, m := range f.members {
		names = append(names, m.log)
	}
	return slices.Clip(names)
}
