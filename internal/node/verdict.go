package node

import (
	"context"
	"fmt"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"

	"logforward/internal/control"
)

// Thresholds of [Node.Check]. The zero value of each means its default.
type Thresholds struct {
	WarnSeconds float64 // age of the oldest byte that isn't confirmed; default 60
	CritSeconds float64 // default 600
	WarnBytes   int64   // of one log; default 1 GiB
	CritBytes   int64   // default 10 GiB
}

func (t *Thresholds) setDefaults() {
	if t.WarnSeconds <= 0 {
		t.WarnSeconds = 60
	}
	if t.CritSeconds <= 0 {
		t.CritSeconds = 600
	}
	if t.WarnBytes <= 0 {
		t.WarnBytes = 1 << 30
	}
	if t.CritBytes <= 0 {
		t.CritBytes = 10 << 30
	}
}

// verdict collects findings; the worst decides.
type verdict struct {
	worst    int // 0 ok, 1 warning, 2 critical
	first    string
	problems []control.Problem
}

func (v *verdict) find(severity int, where, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	v.problems = append(v.problems, control.Problem{Where: where, Problem: text})
	if severity > v.worst {
		v.worst, v.first = severity, where+": "+text
	}
}

// Check gives one verdict. A pause is a warning, for a paused log that nobody resumes
// looks healthy otherwise.
func (n *Node) Check(ctx context.Context) (control.CheckReply, error) {
	status, err := n.Status(ctx, control.StatusRequest{})
	if err != nil {
		return control.CheckReply{}, err
	}
	v := new(verdict)
	for _, p := range status.Problems {
		v.find(1, p.Where, "%s", p.Problem)
	}
	reply := control.CheckReply{Logs: len(status.Logs)}
	for _, l := range status.Logs {
		reply.LagBytes += l.LagBytes
		reply.LagSeconds = max(reply.LagSeconds, l.LagSeconds)
		n.judge(v, l)
	}
	if n.config.Connected != nil {
		for _, d := range status.Destinations {
			if !d.Connected && d.Logs > 0 {
				v.find(2, "destination "+d.Name, "is not connected; %s waiting", english.Plural(d.Logs, "log", ""))
			}
		}
	}
	n.mu.Lock()
	running := n.running
	n.mu.Unlock()
	switch {
	case !running:
		reply.Status, reply.Text = control.Critical, "forwarding is not running"
	case v.worst > 0:
		reply.Status = map[int]string{1: control.Warning, 2: control.Critical}[v.worst]
		reply.Text = v.first
		if more := len(v.problems) - 1; more > 0 {
			reply.Text += fmt.Sprintf(" (and %d more)", more)
		}
	case len(status.Logs) == 0:
		reply.Status, reply.Text = control.Unknown, "nothing is to be forwarded"
	default:
		reply.Status = control.OK
		reply.Text = fmt.Sprintf("%s, lag %s, %.1f s", english.Plural(reply.Logs, "log", ""), humanize.IBytes(uint64(max(reply.LagBytes, 0))), reply.LagSeconds)
	}
	reply.Problems = v.problems
	return reply, nil
}

func (n *Node) judge(v *verdict, l control.LogStatus) {
	t := n.config.Thresholds
	switch l.State {
	case "failed":
		v.find(2, l.Log, "%s", l.Error)
		return
	case "stopped":
		return // somebody's decision, without an end that could be forgotten: list tells it
	case "paused":
		by := "the fleet"
		if l.Override != nil {
			by = l.Override.By
		} else if o := n.pausedBy(); o != "" {
			by = o
		}
		v.find(1, l.Log, "paused by %s", by)
	}
	if l.State != "forwarding" && l.State != "idle" && l.Error != "" {
		v.find(1, l.Log, "%s: %s", l.State, l.Error)
	}
	switch lag := humanize.IBytes(uint64(max(l.LagBytes, 0))); {
	case l.LagSeconds >= t.CritSeconds || l.LagBytes >= t.CritBytes:
		v.find(2, l.Log, "lag %s, %.0f s", lag, l.LagSeconds)
	case l.LagSeconds >= t.WarnSeconds || l.LagBytes >= t.WarnBytes:
		v.find(1, l.Log, "lag %s, %.0f s", lag, l.LagSeconds)
	}
}

func (n *Node) pausedBy() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if p := n.operators.all.Pause; p != nil {
		return p.By
	}
	return ""
}

// Health says whether the daemon does its work: it forwards, can keep what is wished,
// and no log has failed. What others are to blame for, such as a broker that is away, is
// Check's to tell: restarting the daemon wouldn't help.
func (n *Node) Health(context.Context) control.Health {
	stands := n.status()
	n.mu.Lock()
	defer n.mu.Unlock()
	var reasons []string
	if !n.running {
		reasons = append(reasons, "forwarding is not running")
	}
	if n.failure != nil {
		reasons = append(reasons, n.failure.Error())
	}
	for log, s := range stands {
		if s.State == "failed" {
			reasons = append(reasons, fmt.Sprintf("log %s: %s", log, s.LastError))
		}
	}
	return control.Health{Healthy: len(reasons) == 0, Reasons: reasons}
}
