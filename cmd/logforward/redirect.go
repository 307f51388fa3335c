package main

import (
	"context"

	"github.com/choria-io/fisk"

	"logforward/internal/control"
	"logforward/internal/settings"
)

func (p *program) redirectCommand(app *fisk.Application) {
	var r control.RedirectRequest
	var set *given
	c := p.command(app, "redirect", "Send a log of this node to another destination", `
Destinations are names of the node's settings (destination.<name>.url). The old one
first confirms all that was sent to it, then the new one gets what comes behind that:
each byte is at one of them. Until then the log's state is redirecting.

    logforward redirect nginx-access central2 --reason "move to the new site"
`, func(ctx context.Context) error {
		return p.ask(ctx, set, func(ctx context.Context, c *control.Client) (control.Reply, error) { return c.Redirect(ctx, r) })
	})
	c.Arg("log", "Name of the log").Required().StringVar(&r.Log)
	c.Arg("destination", "Name of the destination").Required().StringVar(&r.Destination)
	c.Flag("reason", reasonHelp).StringVar(&r.Reason)
	set = p.settings(c, settings.Client, "wishes", "ensure", "textfiles")
}
