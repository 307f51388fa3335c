package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"logforward/internal/control"
	"logforward/internal/wish"
)

// Recorded is the state of a log whose daemon doesn't run: it will do what was asked when it does.
const recorded = "recorded"

func (a *agent) start(ctx context.Context) *reply {
	r := control.StartRequest{Log: a.text("log"), Path: a.text("path"), Destination: a.text("destination"), Start: a.text("from"), Reason: a.text("reason")}
	if text := a.text("rate"); text != "" {
		rate, err := control.ParseRate(text)
		if err != nil {
			return failed(codeInvalid, "start: input rate: %v", err)
		}
		r.Rate = &rate
	}
	return change(ctx, a, &r.For, &r, a.client.Start)
}

func (a *agent) stop(ctx context.Context) *reply {
	r := control.StopRequest{Log: a.text("log"), Drain: a.flag("drain"), Reason: a.text("reason")}
	return change(ctx, a, &r.For, &r, a.client.Stop)
}

func (a *agent) pause(ctx context.Context) *reply {
	r := control.PauseRequest{Log: a.text("log"), All: a.flag("all"), Reason: a.text("reason")}
	return change(ctx, a, &r.For, &r, a.client.Pause)
}

func (a *agent) resume(ctx context.Context) *reply {
	r := control.ResumeRequest{Log: a.text("log"), All: a.flag("all"), Reason: a.text("reason")}
	return change(ctx, a, &r.For, &r, a.client.Resume)
}

func (a *agent) redirect(ctx context.Context) *reply {
	r := control.RedirectRequest{Log: a.text("log"), Destination: a.text("destination"), Reason: a.text("reason")}
	return change(ctx, a, nil, &r, a.client.Redirect)
}

// change asks the daemon for a change; where none runs, it is recorded.
func change[R interface{ Check() error }](ctx context.Context, a *agent, end *control.Duration, r *R, ask func(context.Context, R) (control.Reply, error)) *reply {
	if text := a.text("for"); text != "" && end != nil {
		d, err := control.ParseDuration(text)
		if err != nil {
			return failed(codeInvalid, "%s: input for: %v", a.Action, err)
		}
		*end = d
	}
	if err := (*r).Check(); err != nil {
		return failed(codeInvalid, "%s: %v", a.Action, err)
	}
	got, err := ask(ctx, *r)
	switch {
	case errors.Is(err, control.ErrNotRunning):
		return a.record(*r, err)
	case err != nil:
		return daemonSaid(err)
	}
	return changed(got)
}

func changed(r control.Reply) *reply {
	until := ""
	if !r.Until.IsZero() {
		until = r.Until.UTC().Format(time.RFC3339)
	}
	return done(map[string]any{"state": r.State, "message": r.Message, "changed": r.Changed, "until": until, "files": r.Files, "lag_bytes": r.LagBytes})
}

// record leaves a change for the daemon, which decides on it as on any other.
func (a *agent) record(r any, why error) *reply {
	body, err := json.Marshal(r)
	if err == nil {
		err = wish.Record(a.wishes, wish.Wish{Verb: a.Action, Body: body, Caller: a.CallerID, RequestID: a.RequestID, Collective: a.Collective, TTL: a.TTL, Time: a.now.UTC()})
	}
	if err != nil {
		return failed(codeOther, "%v; and it can't be kept for later: %v", why, err)
	}
	return done(map[string]any{
		"state": recorded, "changed": false, "until": "", "files": 0, "lag_bytes": 0,
		"message": fmt.Sprintf("logforward isn't running here; it decides on this %s when it runs", a.Action),
	})
}
