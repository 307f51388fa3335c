package keeper

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"logforward/internal/control"
)

// States of a node, as the autonomous agent has them.
const (
	Idle       = "idle"       // the daemon works, and nothing is to be forwarded
	Forwarding = "forwarding" // it works, and nothing is wrong
	Paused     = "paused"     // it works, and nothing is published, for somebody wants it so
	Degraded   = "degraded"   // something needs a look, or the daemon is just being started
	Failed     = "failed"     // the daemon doesn't stay, and isn't tried any more
)

// Observation is how a node stands.
type Observation struct {
	State    string    // one of the states
	Reason   string    // why it isn't forwarding; empty: nothing to say
	Time     time.Time // of the look
	Action   string    // what was done: started, replaced, stopping, tried; empty: nothing had to be
	PID      int       // of the daemon; 0: there is none
	Version  string    // of the daemon
	Attempts int       // starts that haven't lasted yet
	Order    string    // the last order, and what came of it
}

// Report is an observation in texts alone, as an autonomous agent keeps it.
type Report struct {
	State    string `json:"state"`    // idle, forwarding, paused, degraded (something needs a look, or the daemon is being started) or failed (it doesn't stay, and isn't tried any more)
	Reason   string `json:"reason"`   // why it isn't forwarding; empty: nothing to say
	Observed string `json:"observed"` // time of the look, RFC 3339
	Action   string `json:"action"`   // what was done: started, replaced, stopping, tried; empty: nothing had to be
	PID      string `json:"pid"`      // of the daemon, decimal; empty: there is none
	Version  string `json:"version"`  // of the daemon; empty: there is none
	Attempts string `json:"attempts"` // starts that haven't lasted yet, decimal
	Order    string `json:"order"`    // the last order, and what came of it
}

// Report gives the observation in texts.
func (o Observation) Report() Report {
	pid := ""
	if o.PID != 0 {
		pid = strconv.Itoa(o.PID)
	}
	return Report{
		State: o.State, Reason: o.Reason, Observed: o.Time.Format(time.RFC3339), Action: o.Action,
		PID: pid, Version: o.Version, Attempts: strconv.Itoa(o.Attempts), Order: o.Order,
	}
}

// Data is the report as the exec watcher of an autonomous agent takes it, by key.
func (o Observation) Data() map[string]string {
	r := o.Report()
	return map[string]string{
		"state": r.State, "reason": r.Reason, "observed": r.Observed, "action": r.Action,
		"pid": r.PID, "version": r.Version, "attempts": r.Attempts, "order": r.Order,
	}
}

// observe says what a daemon's answer means.
func (k *Keeper) observe(ctx context.Context, status control.StatusReply) Observation {
	o := Observation{PID: status.PID, Version: words([]byte(status.Version), ""), State: Degraded}
	check, err := k.client.Check(ctx)
	if err != nil {
		o.Reason = err.Error()
		return o
	}
	o.State, o.Reason = judge(status, check)
	return o
}

// judge weighs what a node says of its logs. What is wrong with a paused log is its pause alone: it lags because
// somebody wants it so.
func judge(status control.StatusReply, check control.CheckReply) (state, reason string) {
	wanted, paused := 0, map[string]bool{}
	for _, l := range status.Logs {
		switch l.State {
		case "stopped":
			continue
		case "paused":
			paused[l.Log] = true
		}
		wanted++
	}
	var wrong []control.Problem
	for _, p := range check.Problems {
		if !paused[p.Where] {
			wrong = append(wrong, p)
		}
	}
	switch {
	case len(wrong) > 0:
		state, reason = Degraded, wrong[0].Where+": "+wrong[0].Problem
		if more := len(wrong) - 1; more > 0 {
			reason += fmt.Sprintf(" (and %d more)", more)
		}
	case check.Status == control.Critical && len(check.Problems) == 0:
		return Degraded, check.Text
	case wanted == 0:
		state = Idle
	case len(paused) == wanted:
		state, reason = Paused, pausedBy(status)
	case len(paused) > 0:
		state, reason = Forwarding, fmt.Sprintf("%d of %d logs are paused", len(paused), wanted)
	default:
		state = Forwarding
	}
	if status.Pause != nil && state == Idle {
		state, reason = Paused, pausedBy(status)
	}
	return state, words([]byte(reason), "")
}

// pausedBy says who wanted it.
func pausedBy(status control.StatusReply) string {
	o := status.Pause
	for _, l := range status.Logs {
		if o == nil && l.State == "paused" {
			o = l.Override
		}
	}
	if o == nil || o.Verb != control.VerbPause {
		return "paused by the fleet"
	}
	text := "paused by " + o.By
	if !o.Until.IsZero() {
		text += " until " + o.Until.UTC().Format(time.RFC3339)
	}
	if o.Reason != "" {
		text += ": " + o.Reason
	}
	return text
}
