package main

import (
	"context"

	"github.com/choria-io/fisk"

	"logforward/internal/control"
	"logforward/internal/settings"
)

func (p *program) startCommand(app *fisk.Application) {
	var r control.StartRequest
	var forHow, rate string
	var set *given
	c := p.command(app, "start", "Forward a path from this node, or lift a stop", `
Begins to forward PATH as LOG, until it is stopped or --for is over. A glob makes
one log per file. Without PATH it lifts an operator's stop of a known log.

    logforward start app /var/log/app/app.log --beginning
    logforward start web '/var/log/nginx/*.log' --destination central --for 2h
    logforward start syslog
`, func(ctx context.Context) error {
		if err := parseWhy(forHow, &r.For); err != nil {
			return err
		}
		if rate != "" {
			n, err := control.ParseRate(rate)
			if err != nil {
				return usage("--rate: %v", err)
			}
			r.Rate = &n
		}
		return p.ask(ctx, set, func(ctx context.Context, c *control.Client) (control.Reply, error) { return c.Start(ctx, r) })
	})
	c.Arg("log", "Name of the log").Required().StringVar(&r.Log)
	c.Arg("path", "Absolute path or glob").StringVar(&r.Path)
	c.Flag("destination", "Name of a configured destination; not needed where there is one only").StringVar(&r.Destination)
	beginning := false
	c.Flag("beginning", "Begin files that were never seen before at their beginning, not at their end").UnNegatableBoolVar(&beginning)
	c.Flag("rate", "Most bytes per second, such as 5MiB/s").StringVar(&rate)
	why(c, &forHow, &r.Reason)
	set = p.settings(c, settings.Client, "wishes", "ensure", "textfiles")
	c.Action(func(*fisk.ParseContext) error {
		if beginning {
			r.Start = "beginning"
		}
		return nil
	})
}
