package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"logforward/internal/control"
	"logforward/internal/wish"
)

// wishesEvery is how often the directory of wishes is looked at: they wait only where the daemon was away.
const wishesEvery = time.Second

// wishes takes what operators asked for while no daemon ran.
type wishes struct {
	dir    string
	server *control.Server
	log    *slog.Logger
	seen   time.Time       // the directory's last change that was looked at
	said   map[string]bool // problems that the log has already
}

// run takes the wishes that are there and those that come, until ctx ends.
func (w *wishes) run(ctx context.Context) error {
	tick := time.NewTicker(wishesEvery)
	defer tick.Stop()
	for {
		w.look(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look takes all wishes in their order, up to one that has to wait.
func (w *wishes) look(ctx context.Context) {
	info, err := os.Stat(w.dir)
	if err != nil || info.ModTime().Equal(w.seen) {
		return
	}
	entries, problems := wish.Read(w.dir)
	for _, p := range problems {
		if w.said == nil {
			w.said = map[string]bool{}
		}
		if !w.said[p.Error()] {
			w.said[p.Error()] = true
			w.log.Warn("a wish isn't taken", "error", p)
		}
	}
	for _, e := range entries {
		if err := w.take(ctx, e); err != nil {
			w.log.Error("a wish has to wait", "file", e.File, "error", err)
			return
		}
	}
	if len(entries) == 0 && len(problems) == 0 { // a problem may be mended without a change of the directory
		w.seen = info.ModTime()
	}
}

// take does what a wish asks for. What can't be done now, but may be later, is an error.
func (w *wishes) take(ctx context.Context, e wish.Entry) error {
	caller := control.Caller{UID: os.Geteuid(), GID: os.Getegid(), Name: e.Caller, RequestID: e.RequestID, Collective: e.Collective, TTL: e.TTL, Route: "wish"}
	log := w.log.With("verb", e.Verb, "caller", e.Caller, "request", e.RequestID, "asked", e.Time)
	body, err := remaining(e.Body, time.Since(e.Time))
	if err != nil {
		log.Warn("a wish was refused", "error", err)
		return e.Done()
	}
	reply, err := w.server.Apply(ctx, caller, e.Verb, body)
	switch {
	case err == nil:
		log.Info("a wish was taken", "message", reply.Message)
	case errors.Is(err, control.ErrTimeout), errors.Is(err, control.ErrInternal), errors.Is(err, control.ErrBusy), ctx.Err() != nil:
		return err
	default:
		log.Warn("a wish was refused", "error", err)
	}
	return e.Done()
}

// remaining is a request as it is some time after it was made: what is left of its "for".
func remaining(body []byte, passed time.Duration) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return nil, fmt.Errorf("the request can't be read: %w", err)
	}
	raw, ok := fields["for"]
	if !ok {
		return body, nil
	}
	var d control.Duration
	if err := json.Unmarshal(raw, &d); err != nil {
		return nil, err
	}
	if d == 0 {
		return body, nil
	}
	left := time.Duration(d) - max(passed, 0)
	if left <= 0 {
		return nil, fmt.Errorf("its time was over before the daemon ran (for %s)", d)
	}
	// In whole seconds, never longer than it was: policies read it, too.
	left = min(left.Truncate(time.Second)+time.Second, time.Duration(d))
	fields["for"], _ = json.Marshal(control.Duration(left)) // a text
	return json.Marshal(fields)
}
