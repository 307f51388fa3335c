package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/choria-io/fisk"

	"logforward/internal/control"
	"logforward/internal/keeper"
	"logforward/internal/settings"
)

func (p *program) checkCommand(app *fisk.Application) {
	var set *given
	c := p.command(app, "check", "Check this node's forwarding, as a monitoring plugin", `
Prints one line, and exits with 0 ok, 1 warning, 2 critical, 3 unknown. A daemon that
isn't running is critical. --metrics writes how much is forwarded instead, and exits with 0.
`, func(ctx context.Context) error {
		v, err := p.load(set)
		if err != nil {
			return &exitError{3, err}
		}
		if p.data {
			return p.showMetrics(ctx, v)
		}
		r, err := control.NewClient(v.Text("socket")).Check(ctx)
		switch {
		case errors.Is(err, control.ErrNotRunning), errors.Is(err, control.ErrTimeout):
			r = control.CheckReply{Status: control.Critical, Text: err.Error()}
			if why := keeper.Why(v.Text("ensure")); why != "" {
				r.Text = "the daemon doesn't stay: " + why
			}
		case err != nil:
			r = control.CheckReply{Status: control.Unknown, Text: err.Error()}
		}
		if p.json {
			err = p.print(r)
		} else {
			_, err = fmt.Fprintf(p.out, "logforward %s: %s | lag_bytes=%dB lag_seconds=%.3fs logs=%d\n", r.Status, harmless(r.Text), r.LagBytes, r.LagSeconds, r.Logs)
		}
		if err != nil || r.ExitCode() == 0 {
			return err
		}
		return &exitError{code: r.ExitCode()}
	})
	c.Flag("metrics", "Write rates, lag, gaps and confirmed bytes as Choria's metric watcher takes them, and logforward.prom into the directory textfiles").UnNegatableBoolVar(&p.data)
	set = p.settings(c, settings.Client, "wishes")
}
