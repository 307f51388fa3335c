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
	"logforward/internal/tail"
)

// Start begins forwarding a path, or lifts an operator's stop.
func (n *Node) Start(ctx context.Context, c control.Caller, r control.StartRequest) (control.Reply, error) {
	return n.change(ctx, c, r.About(), func(now time.Time, g ground) (control.Reply, error) {
		if r.Path == "" {
			return n.lift(c, r, g.about, now)
		}
		return n.begin(c, r, g, now)
	})
}

// lift ends a stop.
func (n *Node) lift(c control.Caller, r control.StartRequest, about control.Request, now time.Time) (control.Reply, error) {
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
	if at >= 0 && f.stop != nil {
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
		// Policy doesn't permit it for who started it; from now on it is this caller's, as long as it was to be. What
		// files that one was permitted counts for nothing.
		w := *old.Wish
		w.Real, w.Files = about.Real, nil
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
	if g.special != "" {
		err := control.Errorf(control.CodeInvalid, "start %s: %s: it is %s", r.Log, d.Path, g.special)
		if g.special == aDirectory {
			return control.Reply{}, err.WithHint("name its files, such as '%s/*.log'", d.Path)
		}
		return control.Reply{}, err.WithHint("only regular files are forwarded")
	}
	switch {
	case f == nil:
	case at >= 0:
		return control.Reply{}, control.Errorf(control.CodeConflict, "start %s: it is one of the logs of %s (%s)", r.Log, f.Log, f.Path).WithHint("choose another name")
	case f.Path != d.Path && f.managed != "":
		return control.Reply{}, control.Errorf(control.CodeConflict, "start %s: it is %s already, by %s", r.Log, f.Path, f.managed).WithHint("choose another name")
	case f.Path != d.Path:
		return control.Reply{}, control.Errorf(control.CodeConflict, "start %s: it is %s already, by %s", r.Log, f.Path, f.wish.By).WithHint("choose another name, or stop it first")
	case f.Destination != d.Destination:
		return control.Reply{}, control.Errorf(control.CodeConflict, "start %s: it goes to %s already, by %s", r.Log, f.Destination, f.origin()).WithHint("send it elsewhere with redirect")
	case n.strays(f):
		m := n.astray(f)
		return control.Reply{}, control.Errorf(control.CodeConflict, "start %s: its log %s goes to %s", r.Log, m.log, m.destination).WithHint("start it without a path, or redirect %s to %s first", r.Log, d.Destination)
	case f.managed != "" && (r.Rate != nil && (f.Rate == nil || *r.Rate != *f.Rate) || r.For != 0):
		return control.Reply{}, control.Errorf(control.CodeConflict, "start %s: %s defines it; its rate and time are not an operator's", r.Log, f.managed).WithHint("start it without rate and for")
	case f.managed != "":
		return n.lift(c, control.StartRequest{Log: r.Log, Reason: r.Reason}, g.about, now)
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
	records := n.unredirected(r.Log)
	records[r.Log] = next
	if err := n.operators.write(records, nil); err != nil {
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

// unredirected are the records of logs of a glob that was there before under this name, without where these were sent: who starts
// one of that name says where all of it goes.
func (n *Node) unredirected(log string) map[string]*record {
	records := map[string]*record{}
	for child, r := range n.operators.records {
		if f, _ := n.plan.find(child); f != nil || r.Redirect == nil || !strings.HasPrefix(child, log+".") {
			continue
		}
		next := r.clone()
		next.note(control.Change{Override: r.Redirect.Override, Ended: "lifted"})
		next.Redirect = nil
		records[child] = next
	}
	return records
}

func sameRate(a, b *control.Rate) bool { return a == b || a != nil && b != nil && *a == *b }

// Stop ends forwarding of a log, at once or drained.
func (n *Node) Stop(ctx context.Context, c control.Caller, r control.StopRequest) (control.Reply, error) {
	return n.change(ctx, c, r.About(), func(now time.Time, _ ground) (control.Reply, error) {
		f, at := n.plan.find(r.Log)
		if f == nil {
			return control.Reply{}, n.unknown(r.Log)
		}
		verb, state, old := control.VerbStop, "stopped", n.operators.get(r.Log)
		if ofPolicy(old.Stop) && r.For != 0 {
			return control.Reply{}, control.Errorf(control.CodeConflict, "stop %s: it is stopped by policy, as long as that doesn't permit it", r.Log).WithHint("stop it without for")
		}
		if r.Drain && !f.stopped(at) { // where it is stopped nothing is left to be sent
			verb, state = verbDrain, "draining"
			if o := n.operators.paused(r.Log, f.Log); o != nil {
				return control.Reply{}, control.Errorf(control.CodeConflict, "stop %s: it is paused by %s, so it can't be drained", r.Log, o.By).WithHint("resume it first, or stop it without drain")
			}
		}
		said := word(verb, c, now, r.For, r.Reason)
		reply := control.Reply{Log: r.Log, State: state, Until: said.Until, Logs: f.logs(at)}
		if old.Stop != nil && !ofPolicy(old.Stop) && (old.Stop.Verb == verb || old.Stop.Verb == control.VerbStop) && old.Stop.Until.Equal(said.Until) {
			reply.State = stateOf(old.Stop)
			reply.Message = fmt.Sprintf("%s is %s already, by %s", r.Log, reply.State, old.Stop.By)
			return reply, nil
		}
		next := old.clone()
		next.note(control.Change{Override: said})
		next.Stop = &said
		// What an operator started is forgotten, unless the stop ends by itself or still has to drain.
		again := "it"
		if next.Wish != nil && f.managed == "" && at < 0 && said.Until.IsZero() {
			again = "a start with its path, " + next.Wish.Path + ","
			if verb == control.VerbStop {
				next.Wish, next.Stop, next.Redirect = nil, nil, nil
			}
		}
		if err := n.operators.put(r.Log, next); err != nil {
			return control.Reply{}, unsaved(err)
		}
		for _, m := range f.members {
			delete(n.drains, m.log)
		}
		reply.Changed = true
		reply.Message = fmt.Sprintf("%s is %s%s; %s would continue where it stopped", r.Log, state, until(said.Until), again)
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
		// All of it means all: exceptions that were made of its logs end.
		records := map[string]*record{}
		for _, log := range reply.Logs {
			if r := n.operators.get(log); r.Resume != nil {
				records[log] = r.clone()
				records[log].Resume = nil
			}
		}
		if old.Pause != nil && old.Pause.Until.Equal(said.Until) && len(records) == 0 {
			reply.Changed, reply.Message = false, fmt.Sprintf("%s is paused already, by %s", r.Log, old.Pause.By)
			return reply, nil
		}
		next := old.clone()
		next.Pause, next.Resume = &said, nil
		next.note(control.Change{Override: said})
		records[r.Log] = next
		if err := n.operators.write(records, nil); err != nil {
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
	// All means all: exceptions that were made from an earlier pause end.
	next := old.clone()
	next.Pause = &said
	next.note(control.Change{Override: said})
	records := map[string]*record{}
	for log, r := range n.operators.records {
		if r.Resume != nil {
			records[log] = r.clone()
			records[log].Resume = nil
		}
	}
	if err := n.operators.write(records, next); err != nil {
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
	resumed := func(r *record) *record {
		next := r.clone()
		if r.Pause != nil {
			next.note(control.Change{Override: *r.Pause, Ended: "lifted"})
			next.note(control.Change{Override: said})
			reply.Changed = true
		}
		next.Pause, next.Resume = nil, nil
		return next
	}
	records := map[string]*record{}
	for log, r := range n.operators.records {
		if r.Pause != nil || r.Resume != nil {
			records[log] = resumed(r)
		}
	}
	var all *record
	if n.operators.all.Pause != nil {
		all = resumed(n.operators.all)
	}
	if len(records) > 0 || all != nil {
		if err := n.operators.write(records, all); err != nil {
			return control.Reply{}, unsaved(err)
		}
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

// stopped tells whether nothing of it is forwarded, or of one of its logs.
func (f *forwarder) stopped(at int) bool {
	if at >= 0 {
		return f.members[at].stopped()
	}
	return f.stop != nil && f.stop.Verb != verbDrain
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
