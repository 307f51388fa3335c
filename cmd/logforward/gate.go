package main

import (
	"context"
	"log/slog"
	"time"

	"logforward/internal/audit"
	"logforward/internal/control"
	"logforward/internal/policy"
)

// gate decides on requests, and has each decision about a change, and each refusal, in the audit log:
// what is permitted only happens once that is on disk.
type gate struct {
	peers  func(context.Context, control.Caller, control.Request) error
	policy *policy.Policy // nil: the peers' rights decide alone
	host   host
	audit  *audit.Log // nil: none is kept
	log    *slog.Logger
}

// withoutPolicy is what the setting policy says where the socket's peers decide.
const withoutPolicy = "peers"

// ask decides on a request as it came: may this process ask at all, and, where it only reads, may it know.
// A node whose policy is missing or broken still says how it stands.
func (g *gate) ask(ctx context.Context, c control.Caller, r control.Request) error {
	err := g.peers(ctx, c, r)
	verdict := policy.Decision{Rule: "peers"}
	if err == nil && g.policy != nil && !r.Changes() && g.policy.Err(ctx) == nil {
		verdict, err = g.decide(ctx, c, r)
	}
	if err != nil && g.audit != nil {
		if e := g.audit.Record(decision(c, r, verdict, err)); e != nil {
			g.log.Error("a refusal isn't in the audit log", "error", e)
		}
	}
	return err
}

// change decides on a change with what the node knows of the log; [gate.ask] has let it through.
func (g *gate) change(ctx context.Context, c control.Caller, r control.Request) error {
	verdict := policy.Decision{Rule: "peers"}
	var err error
	if g.policy != nil {
		verdict, err = g.decide(ctx, c, r)
	}
	if g.audit == nil {
		return err
	}
	if e := g.audit.Record(decision(c, r, verdict, err)); e != nil {
		if err != nil {
			g.log.Error("a refusal isn't in the audit log", "error", e)
			return err
		}
		return control.Errorf(control.CodeInternal, "%s is permitted, and not done: %v", r.Verb, e).WithHint("nothing is changed that can't be recorded")
	}
	return err
}

// decide asks the policy.
func (g *gate) decide(ctx context.Context, c control.Caller, r control.Request) (policy.Decision, error) {
	facts, classes, err := g.host.about()
	if err != nil {
		return policy.Decision{}, control.Errorf(control.CodeRefused, "%s: what the policy needs to know of this node can't be read: %v", r.Verb, err)
	}
	verdict := g.policy.Decide(ctx, policy.Input{
		Agent: "logforward", Action: r.Verb, CallerID: c.Name, Collective: c.Collective, Data: inputs(r), Time: time.Now(),
		Facts: facts, Classes: classes, Agents: []string{"logforward"},
	})
	if verdict.Allowed {
		return verdict, nil
	}
	refusal := control.Errorf(control.CodeRefused, "%s is not permitted for %s: %s", r.Verb, c.Name, verdict.Reason)
	if broken := g.policy.Err(ctx); broken != nil {
		refusal = refusal.WithHint("mend the file that the setting policy names; where it is %q, who may write to the socket decides", withoutPolicy)
	}
	return verdict, refusal
}

func decision(c control.Caller, r control.Request, verdict policy.Decision, err error) audit.Decision {
	d := audit.Decision{
		Action: r.Verb, Allowed: err == nil, Caller: c.Name, UID: c.UID, PID: c.PID, Request: c.RequestID, Collective: c.Collective,
		Route: c.Route, Inputs: inputs(r), Rule: verdict.Rule, Policy: verdict.Digest,
	}
	if d.Route == "" {
		d.Route = "socket"
	}
	if err != nil {
		d.Rule, d.Reason = "", err.Error()
	}
	return d
}

// inputs are what a request says, by the names that Choria's users know.
func inputs(r control.Request) map[string]any {
	m := map[string]any{}
	for name, text := range map[string]string{"log": r.Log, "path": r.Path, "destination": r.Destination, "from": r.Start, "reason": r.Reason} {
		if text != "" {
			m[name] = text
		}
	}
	for name, is := range map[string]bool{"all": r.All, "drain": r.Drain} {
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
