package main

import (
	"context"

	"github.com/choria-io/fisk"

	"logforward/internal/control"
	"logforward/internal/settings"
)

func (p *program) stopCommand(app *fisk.Application) {
	var r control.StopRequest
	var forHow string
	var set *given
	c := p.command(app, "stop", "Stop forwarding a log of this node", `
Stops at once, or with --drain when what is in the file now is confirmed. The place is
kept: a later start continues there. What a file defines is overridden, and stays so
over restarts, until it is started or --for is over. What an operator started is forgotten
without --for: a start with its path continues it.

    logforward stop nginx-access --drain --reason "moving to the new centre"
    logforward stop debug --for 1d
`, func(ctx context.Context) error {
		if err := parseWhy(forHow, &r.For); err != nil {
			return err
		}
		return p.ask(ctx, set, func(ctx context.Context, c *control.Client) (control.Reply, error) { return c.Stop(ctx, r) })
	})
	c.Arg("log", "Name of the log").Required().StringVar(&r.Log)
	c.Flag("drain", "First send what is in the file, and have it confirmed").UnNegatableBoolVar(&r.Drain)
	why(c, &forHow, &r.Reason)
	set = p.settings(c, settings.Client, "wishes", "ensure", "textfiles")
}
