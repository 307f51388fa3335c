package main

import (
	"context"

	"github.com/choria-io/fisk"

	"logforward/internal/control"
	"logforward/internal/settings"
)

func (p *program) resumeCommand(app *fisk.Application) {
	var r control.ResumeRequest
	var forHow string
	var set *given
	c := p.command(app, "resume", "Lift a pause of a log of this node, or of all", `
Where all are paused, resuming one makes it the exception, with --for for that long.
A pause of the whole fleet can't be lifted here.

    logforward resume nginx-access
    logforward resume --all
`, func(ctx context.Context) error {
		if err := parseWhy(forHow, &r.For); err != nil {
			return err
		}
		return p.ask(ctx, set, func(ctx context.Context, c *control.Client) (control.Reply, error) { return c.Resume(ctx, r) })
	})
	c.Arg("log", "Name of the log; or --all").StringVar(&r.Log)
	c.Flag("all", "All logs: lift the pause of all, and that of each").UnNegatableBoolVar(&r.All)
	c.Flag("for", "Of one log where all are paused: how long it is the exception, such as 90m, 2h or 1d").StringVar(&forHow)
	c.Flag("reason", reasonHelp).StringVar(&r.Reason)
	set = p.settings(c, settings.Client, "wishes", "ensure", "textfiles")
}
