package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/choria-io/fisk"

	"logforward/internal/chunk"
	"logforward/internal/forward"
	"logforward/internal/settings"
)

// validateTime bounds what one destination may take.
const validateTime = 8 * time.Second

func (p *program) validateCommand(app *fisk.Application) {
	var set *given
	c := p.command(app, "validate", "Check a node's configuration, before a restart", `
Checks settings, definitions, paths and whether the daemon's user may read them, policy,
directories, space, limits of the kernel, and for each destination connection, credentials,
rights, streams, clock and whether a receiver answers. Each finding says what to do. Nothing
is changed. Exits with 78 if a check failed; a warning is no failure.

    logforward validate --config /etc/choria/plugin.d/logforward.cfg
`, func(ctx context.Context) error {
		v := &validation{program: p}
		v.all(ctx, set)
		return v.result()
	})
	set = p.settings(c, settings.Forward)
}

// finding is one check's result.
type finding struct {
	Check  string `json:"check"`
	Result string `json:"result"` // ok, warning or failed
	Text   string `json:"text,omitempty"`
	Remedy string `json:"remedy,omitempty"` // what to do about it; where the text says it already, empty
}

type validation struct {
	*program
	findings []finding
}

func (v *validation) ok(check, format string, args ...any) {
	v.findings = append(v.findings, finding{Check: check, Result: "ok", Text: fmt.Sprintf(format, args...)})
}

func (v *validation) warn(check, format string, args ...any) {
	v.findings = append(v.findings, finding{Check: check, Result: "warning", Text: fmt.Sprintf(format, args...)})
}

func (v *validation) fail(check string, err error) {
	v.findings = append(v.findings, finding{Check: check, Result: "failed", Text: err.Error()})
}

// remedy says what to do about the last finding.
func (v *validation) remedy(format string, args ...any) {
	v.findings[len(v.findings)-1].Remedy = fmt.Sprintf(format, args...)
}

func (v *validation) result() error {
	failed := 0
	for _, f := range v.findings {
		if f.Result == "failed" {
			failed++
		}
		if !v.json {
			fmt.Fprintf(v.out, "%-8s %s: %s\n", f.Result, harmless(f.Check), harmless(f.Text))
			if f.Remedy != "" {
				fmt.Fprintf(v.out, "         → %s\n", harmless(f.Remedy))
			}
		}
	}
	if v.json {
		if err := v.print(v.findings); err != nil {
			return err
		}
	}
	if failed > 0 {
		return misconfigured(fmt.Errorf("%d of %d checks failed", failed, len(v.findings)))
	}
	return nil
}

func (v *validation) all(ctx context.Context, set *given) {
	values, err := v.load(set)
	if err != nil {
		v.fail("settings", err)
		return
	}
	for _, w := range values.Warnings {
		v.warn("settings", "%s", w)
	}
	config, _, err := forwardConfig(values, slog.New(slog.DiscardHandler))
	if err != nil {
		v.fail("settings", err)
		return
	}
	if err := chunk.CheckName(config.Identity); err != nil {
		v.fail("settings", fmt.Errorf("identity: %w", err))
	}
	v.ok("settings", "identity %s", config.Identity)
	v.directories(values)
	v.inForce(ctx, values)
	v.auditLog(values, config)
	files := v.definitions(values.Text("forwarders"), config)
	v.readable(values, files)
	v.limits(files)
	names := destinationNames(config.Destinations)
	slices.Sort(names)
	for _, name := range names {
		v.rights(values, name)
		v.destination(ctx, name, config)
	}
}

// auditLog is what every change depends on: what can't be recorded isn't done.
func (v *validation) auditLog(values *values, c forward.Config) {
	switch a, err := auditing(values, c); {
	case err != nil:
		v.fail("audit log", err)
	case a.file == "":
		v.warn("audit log", "none is kept")
	case a.destination == "":
		v.ok("audit log", "%s, which stays here", a.file)
	default:
		v.ok("audit log", "%s, forwarded to %s", a.file, a.destination)
	}
}
