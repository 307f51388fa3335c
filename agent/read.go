package agent

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"

	"logforward/internal/control"
)

const notRunning = "not running"

// ranks orders states from the best to the worst: of several logs, the worst is what a person should see.
var ranks = map[string]int{
	"idle": 1, "forwarding": 2, "syncing": 3, "starting": 4, "draining": 5, "redirecting": 6, "waiting": 7,
	"stopped": 8, "paused": 9, "blocked": 11, "failed": 12,
}

func rank(state string) int {
	if r, known := ranks[state]; known {
		return r
	}
	return 10 // what isn't known here is worth a look
}

func (a *agent) status(ctx context.Context) *reply {
	s, err := a.client.Status(ctx, control.StatusRequest{Log: a.text("log")})
	if errors.Is(err, control.ErrNotRunning) {
		return done(map[string]any{"state": notRunning, "files": 0, "lag_bytes": 0, "lag_seconds": 0.0, "rate": 0.0, "error": err.Error(), "logs": map[string]any{}})
	}
	if err != nil {
		return daemonSaid(err)
	}
	var files int
	var lag int64
	var age, rate float64
	var errs []string
	state, logs := "", map[string]any{}
	names, ranked := make([]string, 0, len(s.Logs)), make(map[string]int, len(s.Logs))
	for i := range s.Logs {
		l := &s.Logs[i]
		if _, twice := ranked[l.Log]; !twice {
			names = append(names, l.Log)
		}
		ranked[l.Log] = rank(l.State)
		files, lag, age, rate = files+l.Files, lag+l.LagBytes, max(age, l.LagSeconds), rate+l.Rate
		if rank(l.State) > rank(state) || state == "" {
			state = l.State
		}
		if l.Error != "" {
			errs = append(errs, l.Log+": "+l.Error)
		}
		if logs[l.Log] = any(line(l)); a.flag("details") {
			l.Path, l.Error, l.Promise = printable(l.Path), harmless(l.Error), harmless(l.Promise)
			if l.Seal != nil {
				l.Seal.Error = harmless(l.Seal.Error)
			}
			logs[l.Log] = l
		}
	}
	if state == "" {
		state = "idle" // nothing to forward
	}
	for _, p := range s.Problems {
		errs = append(errs, p.Where+": "+p.Problem)
	}
	problem := some(errs)
	// Where not all can be told, those with the worst states are.
	slices.SortStableFunc(names, func(a, b string) int { return ranked[b] - ranked[a] })
	logs, left := fit(logs, names)
	if left > 0 {
		problem = strings.TrimSuffix(fmt.Sprintf("%d of %d logs aren't shown: ask for one, or %q on the node; ", left, len(names), "logforward status")+problem, "; ")
	}
	return done(map[string]any{"state": state, "files": files, "lag_bytes": lag, "lag_seconds": tenths(age), "rate": math.Round(rate), "error": problem, "logs": logs})
}

// tenths is as exact as a person reads seconds.
func tenths(seconds float64) float64 { return math.Round(seconds*10) / 10 }

// line tells of a log what a person asks first.
func line(l *control.LogStatus) string {
	b := new(strings.Builder)
	fmt.Fprintf(b, "%s to %s, %s confirmed, %s behind", l.State, l.Destination, humanize.IBytes(l.Confirmed), humanize.IBytes(uint64(max(l.LagBytes, 0))))
	if l.Gaps > 0 {
		fmt.Fprintf(b, ", %d gaps of %s", l.Gaps, humanize.IBytes(l.GapBytes))
	}
	if l.Managed == "" {
		b.WriteString(", an operator's")
	}
	if o := l.Override; o != nil {
		fmt.Fprintf(b, "; %s by %s", o.Verb, o.By)
		if !o.Until.IsZero() {
			fmt.Fprintf(b, " until %s", o.Until.UTC().Format("2006-01-02 15:04:05Z"))
		}
		if o.Reason != "" {
			fmt.Fprintf(b, ": %s", o.Reason)
		}
	}
	if l.Seal != nil && l.Seal.Error != "" {
		b.WriteString("; UNSEALED")
	}
	if l.Error != "" {
		fmt.Fprintf(b, "; %s", l.Error)
	}
	return b.String()
}

// some joins texts, as many as a reply should hold.
func some(texts []string) string {
	const most = 5
	if len(texts) > most {
		texts = append(texts[:most:most], fmt.Sprintf("and %d more", len(texts)-most))
	}
	return strings.Join(texts, "; ")
}

func (a *agent) list(ctx context.Context) *reply {
	l, err := a.client.List(ctx)
	if errors.Is(err, control.ErrNotRunning) {
		return done(map[string]any{"state": notRunning, "forwarders": map[string]any{}, "problems": []string{err.Error()}})
	}
	if err != nil {
		return daemonSaid(err)
	}
	state, forwarders, problems := "none", map[string]any{}, []string{}
	var names []string
	for _, f := range l.Forwarders {
		state = "defined"
		names = append(names, f.Log)
		forwarders[f.Log] = fmt.Sprintf("%s, %s to %s", f.State, f.Path, f.Destination)
	}
	forwarders, left := fit(forwarders, names)
	if left > 0 {
		problems = append(problems, fmt.Sprintf("%d of %d forwarders aren't shown: see %q on the node", left, len(names), "logforward list"))
	}
	for _, p := range l.Problems {
		problems = append(problems, p.Where+": "+p.Problem)
	}
	return done(map[string]any{"state": state, "forwarders": forwarders, "problems": problems})
}

func (a *agent) check(ctx context.Context) *reply {
	c, err := a.client.Check(ctx)
	switch {
	case errors.Is(err, control.ErrNotRunning), errors.Is(err, control.ErrTimeout):
		c = control.CheckReply{Status: control.Critical, Text: err.Error()}
	case err != nil:
		return daemonSaid(err)
	}
	problems := []string{}
	for _, p := range c.Problems {
		problems = append(problems, p.Where+": "+p.Problem)
	}
	return done(map[string]any{"state": c.Status, "text": c.Text, "logs": c.Logs, "lag_bytes": c.LagBytes, "lag_seconds": tenths(c.LagSeconds), "problems": problems})
}
