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
Where all are paused, resuming one makes it the exception. A pause of the whole
fleet can't be lifted here.

    logforward resume nginx-access
    logforward resume --all
`, func(ctx context.Context) error {
		if err := parseWhy(forHow, &r.For); err != nil {
			return err
		}
		return p.ask(ctx, set, func(ctx context.Context, c *control.Client) (control.Reply, error) { return c.Resume(ctx, r) })
	})
	c.Arg("log", "Name of the log").StringVar(&r.Log)
	c.Flag("all", "All logs").UnNegatableBoolVar(&r.All)
	why(c, &forHow, &r.Reason)
	set = p.settings(c, settings.Client, "wishes", "ensure", "textfiles")
}
