package main

import (
	"context"
	"log/slog"
	"time"

	"logforward/internal/audit"
	"logforward/internal/control"
)

// gate decides on requests, and has each decision about a change, and each refusal, in the audit log:
// what is permitted only happens once that is on disk.
type gate struct {
	peers func(context.Context, control.Caller, control.Request) error
	audit *audit.Log // nil: none is kept
	log   *slog.Logger
}

// ask decides on a request as it came.
func (g *gate) ask(ctx context.Context, c control.Caller, r control.Request) error {
	err := g.peers(ctx, c, r)
	if err != nil && g.audit != nil {
		if e := g.audit.Record(decision(c, r, err)); e != nil {
			g.log.Error("a refusal isn't in the audit log", "error", e)
		}
	}
	return err
}

// change decides on a change with what the node knows of the log; [gate.ask] has permitted it.
func (g *gate) change(_ context.Context, c control.Caller, r control.Request) error {
	if g.audit == nil {
		return nil
	}
	if err := g.audit.Record(decision(c, r, nil)); err != nil {
		return control.Errorf(control.CodeInternal, "%s is permitted, and not done: %v", r.Verb, err).WithHint("nothing is changed that can't be recorded")
	}
	return nil
}

func decision(c control.Caller, r control.Request, err error) audit.Decision {
	d := audit.Decision{
		Action: r.Verb, Allowed: err == nil, Caller: c.Name, UID: c.UID, PID: c.PID, Request: c.RequestID, Collective: c.Collective,
		Route: c.Route, Inputs: inputs(r),
	}
	if d.Route == "" {
		d.Route = "socket"
	}
	if err != nil {
		d.Reason = err.Error()
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
