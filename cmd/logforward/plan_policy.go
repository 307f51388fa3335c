package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
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
	in := policy.Input{Agent: "logforward", CallerID: by.caller, Collective: by.collective, TTL: by.ttl, Time: time.Now(), Agents: []string{"logforward"}}
	if in.CallerID == "" {
		in.CallerID = control.LocalCaller + "root"
	}
	_, configs, err := v.destinations()
	if err != nil {
		configs = nil // Choria's own files tell of the node all the same
	}
	known, err := hostOf(configs).about()
	in.Facts, in.Classes, in.ProvisionMode = known.facts, known.classes, known.provision
	return in, err
}

// verbPlan is the one of these that changes nothing.
const verbPlan = "plan"

// permit decides on what somebody asks by Choria about the whole set, as [gate] does about logs: by the policy that is in force,
// with a line in the audit log for each change and each refusal. A change takes effect once. Who runs the command as root
// decides for himself.
func permit(ctx context.Context, v *values, verb string, by asker) error {
	if by.caller == "" {
		return nil
	}
	d := audit.Decision{Action: verb, Caller: by.caller, UID: os.Geteuid(), PID: os.Getpid(), Request: by.request, Collective: by.collective, Route: "command", Inputs: map[string]any{}, Rule: withoutPolicy}
	refusal := control.Caller{Name: by.caller, RequestID: by.request, Collective: by.collective, TTL: by.ttl}.Check()
	if file := v.Text("policy"); refusal == nil && file != withoutPolicy {
		in, err := asInput(v, by)
		if err != nil {
			return &exitError{exitRefused, err}
		}
		in.Action = verb
		verdict := policy.Open(file).Decide(ctx, in)
		d.Rule, d.Policy = verdict.Rule, verdict.Digest
		if !verdict.Allowed && !(verdict.Broken && verb == verbPlan) {
			refusal = fmt.Errorf("%s is not permitted for %s: %s", verb, by.caller, verdict.Reason)
		}
	}
	if refusal == nil && verb != verbPlan && by.request != "" {
		now, lasts := time.Now(), time.Duration(by.ttl)*time.Second
		if lasts <= 0 {
			lasts = control.MaxTTL * time.Second
		}
		refusal = rollout.Once(v.Text("former")+".requests", by.request, now.Add(lasts+clocks), now)
	}
	if refusal == nil && verb == verbPlan {
		return nil
	}
	if d.Allowed = refusal == nil; refusal != nil {
		d.Rule, d.Reason = "", refusal.Error()
	}
	if err := record(v, d); err != nil {
		return fmt.Errorf("%s isn't done, for it can't be recorded: %w", verb, err)
	}
	if refusal != nil {
		return &exitError{exitRefused, refusal}
	}
	return nil
}

// clocks is for how long beyond its time to live a request is remembered: its clock may be ahead.
const clocks = 2 * time.Minute

// record adds to the daemon's audit log.
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
	log := audit.New(file, identity, 1<<62, 0) // when the next file begins is the daemon's to say
	return errors.Join(log.Record(d), log.Close())
}
