package main

import (
	"context"

	"github.com/choria-io/fisk"

	"logforward/internal/control"
	"logforward/internal/settings"
)

func (p *program) pauseCommand(app *fisk.Application) {
	var r control.PauseRequest
	var forHow string
	var set *given
	c := p.command(app, "pause", "Hold a log of this node, or all", `
Stops publishing within a second. Positions and open files are kept, so nothing is
lost as long as the files are there. It holds over restarts.

    logforward pause nginx-access --for 30m --reason "link is saturated"
    logforward pause --all
`, func(ctx context.Context) error {
		if err := parseWhy(forHow, &r.For); err != nil {
			return err
		}
		return p.ask(ctx, set, func(ctx context.Context, c *control.Client) (control.Reply, error) { return c.Pause(ctx, r) })
	})
	c.Arg("log", "Name of the log; or --all").StringVar(&r.Log)
	c.Flag("all", "All logs, also those that come later").UnNegatableBoolVar(&r.All)
	why(c, &forHow, &r.Reason)
	set = p.settings(c, settings.Client, "wishes", "ensure", "textfiles")
}
