package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
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
	var command string
	c := p.command(app, "validate", "Check a node's configuration, or a receiver's, before a restart", `
Checks settings, definitions, paths and whether the daemon's user may read them, policy,
directories, space, limits of the kernel, and for each destination connection, credentials,
rights, streams, clock and whether a receiver answers. Each finding says what to do. Nothing
is changed. Exits with 78 if a check failed; a warning is no failure.

    logforward validate --config /etc/choria/plugin.d/logforward.cfg
    logforward validate --for receive
`, func(ctx context.Context) error {
		v := &validation{program: p}
		if command == settings.Receive {
			v.receive(ctx, &given{command: command, file: set.file})
		} else {
			v.all(ctx, set)
		}
		return v.result()
	})
	c.Flag("for", "Whose configuration: forward, or receive, of which --config counts alone").Default(settings.Forward).EnumVar(&command, settings.Forward, settings.Receive)
	set = p.settings(c, settings.Forward)
}

// finding is one check's result.
type finding struct {
	Check  string `json:"check"`            // what was looked at
	Result string `json:"result"`           // ok, warning or failed
	Text   string `json:"text,omitempty"`   // what was found
	Remedy string `json:"remedy,omitempty"` // what to do about it; empty where the text says it, as those of policy check do
}

type validation struct {
	*program
	findings []finding
}

func (v *validation) ok(check, format string, args ...any) {
	v.findings = append(v.findings, finding{Check: check, Result: "ok", Text: fmt.Sprintf(format, args...)})
}

// warn and fail need to know what to do about it.
func (v *validation) warn(check, text, remedy string) {
	v.findings = append(v.findings, finding{Check: check, Result: "warning", Text: text, Remedy: remedy})
}

func (v *validation) fail(check string, err error, remedy string) {
	v.findings = append(v.findings, finding{Check: check, Result: "failed", Text: err.Error(), Remedy: remedy})
}

// correctSettings is the remedy for what is wrong with a file, a flag or the environment.
const correctSettings = "correct it where it says; logforward config NAME tells what a setting accepts"

func (v *validation) result() error {
	failed := 0
	for _, f := range v.findings {
		if f.Result == "failed" {
			failed++
		}
		if !v.json {
			text := strings.ReplaceAll(harmlessLines(f.Text), "\n", "\n         ")
			if text = strings.TrimPrefix(text, f.Check+":"); !strings.HasPrefix(text, "\n") {
				text = " " + strings.TrimPrefix(text, " ")
			}
			fmt.Fprintf(v.out, "%-8s %s:%s\n", f.Result, harmless(f.Check), text)
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
		v.fail("settings", err, correctSettings)
		return
	}
	for _, w := range values.Warnings {
		v.warn("settings", w, "change that line: as it is it works, and is likely not meant")
	}
	config, _, err := forwardConfig(values, slog.New(slog.DiscardHandler))
	if err != nil {
		v.fail("settings", err, correctSettings)
		return
	}
	if err := chunk.CheckName(config.Identity); err != nil {
		v.fail("settings", fmt.Errorf("identity: %w", err), "set identity to the node's name, as Choria has it")
	}
	v.ok("settings", "identity %s", config.Identity)
	v.directories(values)
	v.inForce(ctx, values)
	v.auditLog(values, config)
	files := v.definitions(values.Text("forwarders"), config)
	v.readable(values, files)
	v.limits(values.Text("state"), files)
	names := destinationNames(config.Destinations)
	slices.Sort(names)
	v.sealKey(values, config)
	for _, name := range names {
		v.rights(values, name)
		v.destination(ctx, name, config)
	}
}

// auditLog is what every change depends on: what can't be recorded isn't done.
func (v *validation) auditLog(values *values, c forward.Config) {
	switch a, err := auditing(values, c); {
	case err != nil:
		v.fail("audit log", err, "set audit_log to a file that can be written, and audit_destination to one of the destinations, or to nothing")
	case a.file == "":
		v.warn("audit log", "none is kept", "set audit_log, or nobody can tell later who changed what")
	case a.destination == "":
		v.ok("audit log", "%s, which stays here", a.file)
	default:
		v.ok("audit log", "%s, forwarded to %s", a.file, a.destination)
	}
}
