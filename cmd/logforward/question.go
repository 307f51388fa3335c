package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"logforward/internal/audit"
	"logforward/internal/control"
	"logforward/internal/policy"
)

// decisionTime bounds what all questions about one request may take.
const decisionTime = 3 * time.Second

// decide asks the policy about a request. Where a path leads elsewhere by symbolic links, it is asked about both
// ends, for Choria Server asks about the path as it was typed.
func (g *gate) decide(ctx context.Context, c control.Caller, r control.Request) (policy.Decision, error) {
	own := r.Log == audit.LogName && r.Changes()
	if g.policy == nil {
		verdict := policy.Decision{Allowed: true, Rule: withoutPolicy}
		if own {
			return verdict, control.Errorf(control.CodeRefused, "%s: the audit log is not an operator's to %s, without a policy that says so", r.Log, r.Verb)
		}
		return verdict, nil
	}
	ctx, cancel := context.WithTimeout(ctx, decisionTime)
	defer cancel()
	document := g.policy.Document(ctx)
	g.tell(ctx, document)
	host, err := g.host.about()
	if err != nil {
		return policy.Decision{Broken: true, Digest: document.Digest()}, control.Errorf(control.CodeRefused, "%s: what the policy needs to know of this node can't be read: %v", r.Verb, err)
	}
	in := policy.Input{
		Agent: "logforward", Action: r.Verb, CallerID: c.Name, Collective: c.Collective, Data: inputs(r), TTL: c.TTL, Time: time.Now(),
		Facts: host.facts, Classes: host.classes, Agents: []string{"logforward"}, ProvisionMode: host.provision,
	}
	total := ""
	if r.Total > r.For && r.For > 0 {
		total = inAll(r)
		in.Data["for"] = total
	}
	g.show(in)
	verdict := document.Decide(ctx, in)
	where := ""
	if verdict.Allowed && r.Real != "" && r.Real != r.Path {
		in.Data["path"], where = r.Real, r.Real
		verdict = document.Decide(ctx, in)
	}
	switch {
	case verdict.Allowed && own && !named(ctx, document, in, verdict):
		verdict.Allowed = false
		return verdict, control.Errorf(control.CodeRefused, "%s is not permitted for %s: no rule of the policy names %s", r.Verb, c.Name, audit.LogName).
			WithHint("the audit log is stopped, paused and redirected by those alone whom a rule lets that is about this log and not about all")
	case verdict.Allowed:
		return verdict, nil
	}
	why := verdict.Reason
	if where != "" {
		why += fmt.Sprintf(", for %s is %s", r.Path, where)
	}
	if total != "" {
		why += fmt.Sprintf(", for with what this caller had of late it is %s in all", total)
	}
	refusal := control.Errorf(control.CodeRefused, "%s is not permitted for %s: %s", r.Verb, c.Name, why)
	if verdict.Broken {
		refusal = refusal.WithHint("%s", remedy)
	}
	return verdict, refusal
}

// named tells whether the document allows a request because it is about this very log: a rule that allowed it doesn't
// allow the same for a log of another name.
func named(ctx context.Context, document *policy.Document, in policy.Input, verdict policy.Decision) bool {
	in.Data["log"] = strings.ToLower(rand.Text())
	other := document.Decide(ctx, in)
	if !other.Allowed {
		return true
	}
	rules := strings.Split(other.Rule, ", ")
	return slices.ContainsFunc(strings.Split(verdict.Rule, ", "), func(rule string) bool { return !slices.Contains(rules, rule) })
}

// inAll is a request's time together with what counts with it, in whole seconds; what has begun counts.
func inAll(r control.Request) string {
	return control.Duration((r.Total + time.Second - 1).Truncate(time.Second)).String()
}

// show writes the input to the log, for who wonders about a verdict; Choria Server does the same.
func (g *gate) show(in policy.Input) {
	if !g.log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	b, err := json.Marshal(in)
	g.log.Debug("policy input", "input", string(b), "error", err)
}

func decision(c control.Caller, r control.Request, verdict policy.Decision, err error) audit.Decision {
	d := audit.Decision{
		Action: r.Verb, Allowed: err == nil, Caller: c.Name, UID: c.UID, PID: c.PID, Request: c.RequestID, Collective: c.Collective,
		Route: c.Route, Inputs: inputs(r), Rule: verdict.Rule, Policy: verdict.Digest,
	}
	if d.Route == "" {
		d.Route = "socket"
	}
	if r.Real != r.Path {
		d.RealPath = r.Real
	}
	if r.Total > r.For {
		d.Total = inAll(r)
	}
	if err != nil {
		d.Rule, d.Reason = "", err.Error()
	}
	return d
}

// inputs are what a request says, by the names that Choria's users know.
func inputs(r control.Request) map[string]any {
	m := map[string]any{}
	for name, text := range map[string]string{"log": r.Log, "path": r.Path, "destination": r.Destination, "current": r.Current, "from": r.Start, "reason": r.Reason} {
		if text != "" {
			m[name] = text
		}
	}
	for name, is := range map[string]bool{"all": r.All, "drain": r.Drain, "lifts": r.Lifts} {
		if is {
			m[name] = true
		}
	}
	if r.Rate != nil {
		m["rate"] = r.Rate.String()
	}
	if r.For > 0 {
		m["for"] = control.Duration(r.For.Round(time.Millisecond)).String()
	}
	return m
}
