package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"logforward/internal/audit"
	"logforward/internal/control"
	"logforward/internal/policy"
	"logforward/internal/rollout"
)

// policyOf compares the documents, and asks the new one about each log that starts or changes, as whoever asks. Its
// error is that of a document that is broken.
func policyOf(ctx context.Context, v *values, now, next rollout.Set, r *planned, by asker) (string, error) {
	if next.Policy == "" {
		return "none: who may write to the socket may change everything", nil
	}
	if _, err := os.Stat(next.Policy); errors.Is(err, fs.ErrNotExist) {
		return "none: nothing can be changed", nil
	}
	document := policy.Open(next.Policy)
	if err := document.Err(ctx); err != nil {
		return "broken", err
	}
	in, err := asInput(v, by)
	if err != nil {
		return "", err
	}
	for i := range r.Logs {
		l := &r.Logs[i]
		if l.Change != logStarts && l.Change != logChanges {
			continue
		}
		in.Action, in.Data = control.VerbStart, map[string]any{"log": l.Log, "path": l.Path, "destination": l.Destination}
		if d := document.Decide(ctx, in); d.Allowed {
			l.Verdict = "allows " + d.Rule
		} else {
			l.Verdict = "denies"
		}
	}
	same, err := rollout.Same(now.Policy, next.Policy, false)
	if err != nil || same {
		return planUnchanged, err
	}
	return planChanges, nil
}

// asInput is what a policy decides by, but for the action and its data.
func asInput(v *values, by asker) (policy.Input, error) {
	in := policy.Input{Agent: "logforward", CallerID: by.caller, Collective: by.collective, Time: time.Now(), Agents: []string{"logforward"}}
	if in.CallerID == "" {
		in.CallerID = control.LocalCaller + "root"
	}
	_, configs, err := v.destinations()
	if err != nil {
		return in, nil // nothing is known of a Choria here
	}
	known, err := hostOf(configs).about()
	in.Facts, in.Classes, in.ProvisionMode = known.facts, known.classes, known.provision
	return in, err
}

// permit decides on a change of the whole set that somebody asked for by Choria: by the policy that is in force, and with
// a line in the audit log. Who runs the command as root decides for himself.
func permit(ctx context.Context, v *values, verb string, by asker) error {
	if by.caller == "" {
		return nil
	}
	d := audit.Decision{Action: verb, Allowed: true, Caller: by.caller, UID: os.Geteuid(), PID: os.Getpid(), Request: by.request, Collective: by.collective, Route: "command", Inputs: map[string]any{}, Rule: "peers"}
	if file := v.Text("policy"); file != withoutPolicy {
		in, err := asInput(v, by)
		if err != nil {
			return &exitError{exitRefused, err}
		}
		in.Action = verb
		verdict := policy.Open(file).Decide(ctx, in)
		d.Allowed, d.Rule, d.Policy, d.Reason = verdict.Allowed, verdict.Rule, verdict.Digest, verdict.Reason
	}
	if err := record(v, d); err != nil {
		return fmt.Errorf("%s isn't done, for it can't be recorded: %w", verb, err)
	}
	if !d.Allowed {
		return &exitError{exitRefused, fmt.Errorf("%s is not permitted for %s: %s", verb, by.caller, d.Reason)}
	}
	return nil
}

// record adds to the daemon's audit log. What root makes there is the daemon's user's, or it could write no more.
func record(v *values, d audit.Decision) error {
	file := v.Text("audit_log")
	if file == "" {
		return nil
	}
	_, configs, _ := v.destinations() // without any the identity is the host's
	identity, err := v.identity(configs)
	if err != nil {
		return err
	}
	_, before := os.Stat(file)
	log := audit.New(file, identity, 1<<62, 0) // when the next file begins is the daemon's to say
	if err := errors.Join(log.Record(d), log.Close()); err != nil {
		return err
	}
	if dir, err := os.Stat(filepath.Dir(file)); err == nil && before != nil && os.Geteuid() == 0 {
		s := dir.Sys().(*syscall.Stat_t)
		return os.Lchown(file, int(s.Uid), int(s.Gid))
	}
	return nil
}
