package node

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"logforward/internal/control"
	"logforward/internal/forward"
)

// Status tells where each log stands, or one (a glob's name gives all of its logs).
func (n *Node) Status(_ context.Context, r control.StatusRequest) (control.StatusReply, error) {
	others := n.others()
	var names []string
	if r.Log != "" {
		if names = n.logs(r.Log); len(names) == 0 {
			names = []string{r.Log} // it may have none, or be unknown: nobody else is asked for that
		}
	}
	stands := n.status(names...) // the engine asks the logs: nobody else waits for that
	n.mu.Lock()
	defer n.mu.Unlock()
	reply := control.StatusReply{
		Identity: n.config.Identity, Version: n.config.Version, PID: n.config.PID, Started: n.started.UTC(), Executable: n.config.Executable,
		Pause: n.operators.all.Pause, Logs: []control.LogStatus{}, Problems: slices.Clone(n.plan.problems),
	}
	reply.Problems = append([]control.Problem{}, append(others, reply.Problems...)...)
	if n.failure != nil {
		reply.Problems = append(reply.Problems, control.Problem{Where: "state", Problem: n.failure.Error()})
	}
	for _, f := range n.plan.forwarders {
		rows := n.rows(f, stands)
		for _, row := range rows {
			if r.Log != "" && r.Log != row.Log && r.Log != f.Log {
				continue
			}
			if r.History {
				row.History = slices.Clone(n.operators.get(row.Log).History)
				if f.Log != row.Log {
					row.History = append(slices.Clone(n.operators.get(f.Log).History), row.History...)
					slices.SortStableFunc(row.History, func(a, b control.Change) int { return a.Since.Compare(b.Since) })
				}
			}
			reply.Logs = append(reply.Logs, row)
		}
	}
	if r.Log != "" && len(reply.Logs) == 0 {
		return control.StatusReply{}, n.unknown(r.Log)
	}
	slices.SortStableFunc(reply.Logs, func(a, b control.LogStatus) int { return strings.Compare(a.Log, b.Log) })
	reply.Destinations = n.destinations()
	return reply, nil
}

// logs are the names that one stands for: its own, or those of its glob.
func (n *Node) logs(log string) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	f, at := n.plan.find(log)
	if f == nil {
		return nil
	}
	return f.logs(at)
}

// others are the problems that aren't the node's own.
func (n *Node) others() []control.Problem {
	if n.config.Problems == nil {
		return nil
	}
	return n.config.Problems()
}

// rows are a forwarder's logs; one row with its fault or its waiting where it has none.
func (n *Node) rows(f *forwarder, stands map[string]forward.Status) []control.LogStatus {
	base := control.LogStatus{Log: f.Log, Path: f.Path, Destination: f.Destination, Managed: f.managed, Limit: n.limit(f), Override: n.operators.get(f.Log).override(f.Path)}
	if base.Override == nil && f.wish != nil {
		base.Override = &f.wish.Override
	}
	switch {
	case f.stop != nil && f.stop.Verb != verbDrain && len(f.members) == 0:
		base.State = "stopped"
		return []control.LogStatus{base}
	case f.fault != nil:
		base.State, base.Error = "failed", f.fault.Error()
		return []control.LogStatus{base}
	case f.glob != nil && f.glob.fault != nil && len(f.members) == 0:
		base.State, base.Error = "failed", f.glob.fault.Error()
		return []control.LogStatus{base}
	case len(f.members) == 0:
		base.State, base.Error = "waiting", ""
		if len(f.glob.refused) > 0 {
			base.State, base.Error = "failed", fmt.Sprintf("%s; %s: %s", f.glob.summary, f.glob.refused[0].Where, f.glob.refused[0].Problem)
		}
		return []control.LogStatus{base}
	}
	rows := make([]control.LogStatus, 0, len(f.members))
	for _, m := range f.members {
		row := base
		row.Log, row.Path, row.Destination = m.log, m.path, m.destination
		if own := n.operators.get(m.log).override(m.path); own != nil {
			row.Override = own
		}
		s, ok := stands[m.log]
		switch {
		case m.stopped():
			row.State = "stopped"
			// What a stopped log has confirmed the engine doesn't say; the checkpoint stays all the same.
		case !ok:
			row.State = "starting"
		default:
			n.fill(&row, s)
			if m.stop != nil && row.State != "failed" {
				row.State = "draining"
			} else if m.pause != nil {
				row.State = "paused"
			}
		}
		rows = append(rows, row)
	}
	return rows
}

func (n *Node) limit(f *forwarder) int64 {
	if f.Rate == nil {
		return n.config.Rate
	}
	return int64(*f.Rate)
}

func (n *Node) fill(row *control.LogStatus, s forward.Status) {
	row.State = string(s.State)
	row.Files = len(s.Generations)
	row.LagBytes, row.LagSeconds, row.Rate = s.LagBytes, s.LagSeconds, s.Rate
	row.Epoch, row.Confirmed = s.Epoch, s.Confirmed
	row.Gaps, row.GapBytes, row.Resends = s.Gaps, s.GapBytes, s.Resends
	row.Promise, row.Error = s.Promise, s.LastError
	if s.Seals {
		row.Seal = &control.Seal{Epoch: s.Sealed.Epoch, Position: s.Sealed.Position, Error: s.Unsealed}
		if s.Sealed.Position > 0 {
			row.Seal.ID = s.Sealed.ID.String()
		}
	}
}

// destinations tells how each is connected, in the order of names.
func (n *Node) destinations() []control.DestinationStatus {
	var connected map[string]bool
	if n.config.Connected != nil {
		connected = n.config.Connected()
	}
	logs := map[string]int{}
	for _, l := range n.set {
		logs[l.Destination]++
	}
	result := make([]control.DestinationStatus, 0, len(n.config.Destinations))
	for _, name := range n.config.Destinations {
		result = append(result, control.DestinationStatus{Name: name, Connected: connected[name], Logs: logs[name]})
	}
	return result
}

// List tells all definitions, and what came of each.
func (n *Node) List(context.Context) (control.ListReply, error) {
	others := n.others()
	n.mu.Lock()
	defer n.mu.Unlock()
	reply := control.ListReply{Forwarders: []control.Forwarder{}, Problems: append(append([]control.Problem{}, others...), n.plan.problems...)}
	for _, f := range n.plan.forwarders {
		row := control.Forwarder{Log: f.Log, Path: f.Path, Destination: f.Destination, Start: string(f.Start), Rate: n.limit(f), Managed: f.managed, State: n.stateOf(f), Logs: f.logs(-1)}
		if f.wish != nil {
			row.By, row.Since, row.Until = f.wish.By, f.wish.Since, f.wish.Until
		}
		if f.fault != nil {
			row.Refused = []control.Problem{{Where: f.Log, Problem: f.fault.Error()}}
		}
		if f.glob != nil {
			row.Files, row.Refused = f.glob.summary, append(row.Refused, f.glob.refused...)
			if f.glob.fault != nil {
				row.Refused = append(row.Refused, control.Problem{Where: f.Path, Problem: f.glob.fault.Error()})
			}
		}
		reply.Forwarders = append(reply.Forwarders, row)
	}
	return reply, nil
}

func (n *Node) stateOf(f *forwarder) string {
	switch {
	case f.stop != nil:
		return stateOf(f.stop)
	case f.fault != nil:
		return "failed"
	case n.operators.paused(f.Log, f.Log) != nil:
		return "paused"
	}
	return "active"
}
