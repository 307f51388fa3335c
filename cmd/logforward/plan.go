package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/choria-io/fisk"
	"github.com/dustin/go-humanize"

	"logforward/internal/control"
	"logforward/internal/rollout"
	"logforward/internal/settings"
)

// States of a plan.
const (
	planNothing   = "nothing staged"
	planUnchanged = "unchanged"
	planChanges   = "changes"
	planFaulty    = "faulty"
)

// planned is what a staged set would do here.
type planned struct {
	State    string          `json:"state"`    // nothing staged, unchanged, changes or faulty
	Summary  string          `json:"summary"`  // how many logs start, stop, change and stay
	Files    int             `json:"files"`    // how many files would be followed
	Rate     int64           `json:"rate"`     // bytes that all of them grow by in a second, now
	Logs     []plannedLog    `json:"logs"`     // that are or would be forwarded
	Settings []plannedChange `json:"settings"` // that get another value
	// Restart: settings change, and the daemon reads them when it starts only.
	Restart  bool              `json:"restart"`
	Policy   string            `json:"policy"` // unchanged, changes, none, or why it is broken
	Problems []control.Problem `json:"problems"`
}

// What becomes of a log.
const (
	logStarts  = "starts"
	logStops   = "stops"
	logChanges = "changes"
	logStays   = "stays"
	logRefused = "refused"
)

type plannedLog struct {
	Log         string `json:"log"`               // its name; of a glob the part before each file's
	Change      string `json:"change"`            // starts, stops, changes, stays or refused
	Path        string `json:"path"`              // absolute, or a glob
	Destination string `json:"destination"`       // its name
	Files       int    `json:"files"`             // how many files would be followed
	Bytes       int64  `json:"bytes"`             // size of these files
	Rate        int64  `json:"rate"`              // bytes that they grow by in a second, now
	Verdict     string `json:"verdict,omitempty"` // of the policy, on a start by whoever asks
	Note        string `json:"note,omitempty"`    // what differs, what holds it, why it is refused
	files       []string
}

// plannedChange is a setting that gets another value; secrets are masked.
type plannedChange struct {
	Name string `json:"name"` // of the setting
	From string `json:"from"` // value in force; empty: none
	To   string `json:"to"`   // value that is staged; empty: none
}

// asker is for whom a plan is made: whom policy decides on.
type asker struct {
	caller, collective, request string
	ttl                         int // seconds
}

func (a *asker) flags(c *fisk.CmdClause) {
	c.Flag("caller", "For whom it is: what policy decides on").Hidden().StringVar(&a.caller)
	c.Flag("collective", "By which collective it was asked for").Hidden().StringVar(&a.collective)
	c.Flag("request", "The request's id").Hidden().StringVar(&a.request)
	c.Flag("ttl", "How long it is good for, in seconds").Hidden().IntVar(&a.ttl)
}

func (p *program) planCommand(app *fisk.Application) {
	var set *given
	var apply bool
	var by asker
	c := p.command(app, "plan", "Show what the staged settings, definitions and policy would do here", `
Reads what lies in the directory that the setting staged names, and compares it with what
is in force: which logs start, stop and change, how many files that is, by how many bytes
a second they grow now, what the policy says to it, and whether the daemon has to be
restarted. Nothing is changed without --apply.

    logforward plan
    logforward plan --apply
    logforward rollback
`, func(ctx context.Context) error {
		v, err := p.load(set)
		if err != nil {
			return err
		}
		now := inForce(set, v)
		if apply {
			return p.apply(ctx, set, v, now, by)
		}
		if err := permit(ctx, v, verbPlan, by); err != nil {
			return err
		}
		result := p.plan(ctx, set, v, now, by)
		if p.json {
			if err := p.print(result); err != nil {
				return err
			}
		} else if err := p.showPlan(result); err != nil {
			return err
		}
		if result.State == planFaulty {
			return &exitError{code: exitConfig}
		}
		return nil
	})
	c.Flag("apply", "Put it into force as a whole, and keep what was in force before").UnNegatableBoolVar(&apply)
	by.flags(c)
	set = p.settings(c, settings.Forward)
}

func (p *program) applyCommand(app *fisk.Application) {
	var set *given
	var by asker
	c := p.command(app, "apply", "Put what is staged into force as a whole: the same as plan --apply", `
What has a fault isn't applied. What was in force before is kept for a rollback.

    logforward apply
`, func(ctx context.Context) error {
		v, err := p.load(set)
		if err != nil {
			return err
		}
		return p.apply(ctx, set, v, inForce(set, v), by)
	})
	by.flags(c)
	set = p.settings(c, settings.Forward)
}

func (p *program) rollbackCommand(app *fisk.Application) {
	var set *given
	var by asker
	c := p.command(app, "rollback", "Put back what was in force before the last plan --apply", `
Settings, definitions and policy are again what they were. What was in force until now is
kept in its place: a second rollback takes the first one back.

    logforward rollback
`, func(ctx context.Context) error {
		v, err := p.load(set)
		if err != nil && by.caller == "" {
			// Settings that can't be read may be the reason to go back: then the defaults say where all is.
			var empty *settings.Values
			if empty, err = settings.Load(settings.Forward, "/dev/null", nil, set.flags); err == nil {
				v = &values{empty, settings.Forward}
			}
		}
		if err != nil {
			return err
		}
		if err := permit(ctx, v, "rollback", by); err != nil {
			return err
		}
		return p.change(v, inForce(set, v), "the former set is in force again", func(now rollout.Set, former string) (rollout.Outcome, error) {
			over, err := rollout.Rollback(now, former)
			if errors.Is(err, rollout.ErrNothing) {
				err = fmt.Errorf("%w: nothing was applied here yet", err)
			}
			return over, err
		})
	})
	by.flags(c)
	set = p.settings(c, settings.Forward)
}

// inForce is where the daemon's parts lie.
func inForce(set *given, v *values) rollout.Set {
	s := rollout.Set{Settings: set.file, Definitions: v.Text("forwarders")}
	if s.Settings == "" {
		s.Settings = settings.DefaultFile(settings.Forward)
	}
	if policy := v.Text("policy"); policy != withoutPolicy {
		s.Policy = policy
	}
	return s
}

// apply puts the staged set into force, unless it has a fault.
func (p *program) apply(ctx context.Context, set *given, v *values, now rollout.Set, by asker) error {
	if err := permit(ctx, v, "apply", by); err != nil {
		return err
	}
	result := p.plan(ctx, set, v, now, by)
	if result.State == planFaulty {
		var faults []string
		for _, q := range result.Problems {
			faults = append(faults, q.Where+": "+q.Problem)
		}
		return misconfigured(fmt.Errorf("what is staged has faults, and stays there:\n  %s", strings.Join(faults, "\n  ")))
	}
	text := result.Summary
	if result.Restart {
		text += "; settings change, which takes a restart of the daemon: logforward ensure --order restart, or systemctl restart logforward-forward"
	}
	// With nothing staged one that was interrupted may still have to be finished.
	return p.change(v, now, text, func(now rollout.Set, former string) (rollout.Outcome, error) {
		over, err := rollout.Apply(v.Text("staged"), now, former)
		if errors.Is(err, rollout.ErrNothing) {
			err = fmt.Errorf("nothing is staged in %s", v.Text("staged"))
		}
		return over, err
	})
}

// applied is what apply and rollback say.
type applied struct {
	Message string `json:"message"` // one line for a person
	Restart bool   `json:"restart"` // what is in force now takes a restart of the daemon
}

// change does one, and tells what came of it.
func (p *program) change(v *values, now rollout.Set, text string, do func(now rollout.Set, former string) (rollout.Outcome, error)) error {
	before := settings.Describe(v.Values, nil)
	over, err := do(now, v.Text("former"))
	if err != nil {
		return err
	}
	switch over {
	case rollout.Finished:
		text = "the change that was interrupted is finished"
	case rollout.Undone:
		text = "the apply that was interrupted is taken back; its set is still staged"
	}
	restart := true
	after, err := settings.Load(settings.Forward, fileThatIs(now.Settings), os.Environ(), nil)
	if err == nil {
		restart = over != rollout.Done || len(changes(before, settings.Describe(after, nil))) > 0
		err = startable(&values{after, settings.Forward})
	}
	if err != nil {
		// It is in force all the same: who rolls back has a reason, and the daemon that runs goes on.
		text += "; but with these settings the daemon wouldn't start again: " + err.Error()
	}
	if p.json {
		return p.print(applied{text, restart})
	}
	next := "roll back with: logforward rollback"
	if over == rollout.Undone {
		next = "apply it with: logforward apply"
	}
	_, err = fmt.Fprintf(p.out, "done: %s\n%s\n", text, next)
	return err
}

func (p *program) showPlan(r planned) error {
	rows := [][]string{{"CHANGE", "LOG", "FILES", "BYTES", "RATE", "DESTINATION", "POLICY", "PATH", "NOTE"}}
	for _, l := range r.Logs {
		rows = append(rows, []string{l.Change, l.Log, fmt.Sprint(l.Files), humanize.IBytes(uint64(l.Bytes)), humanize.IBytes(uint64(l.Rate)) + "/s", l.Destination, l.Verdict, l.Path, l.Note})
	}
	if len(rows) > 1 {
		if err := table(p.out, rows...); err != nil {
			return err
		}
	}
	for _, c := range r.Settings {
		fmt.Fprintf(p.out, "setting %s: %s → %s\n", harmless(c.Name), harmless(orNone(c.From)), harmless(orNone(c.To)))
	}
	fmt.Fprintf(p.out, "policy: %s\n", harmless(r.Policy))
	p.showProblems(r.Problems)
	text := fmt.Sprintf("%s: %s; %d files that grow by %s/s", r.State, r.Summary, r.Files, humanize.IBytes(uint64(r.Rate)))
	if r.Restart {
		text += "; the daemon has to be restarted"
	}
	_, err := fmt.Fprintln(p.out, text)
	return err
}

func orNone(text string) string {
	if text == "" {
		return "(none)"
	}
	return text
}
