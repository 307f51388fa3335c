package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/choria-io/fisk"

	"logforward/internal/settings"
)

func (p *program) listCommand(app *fisk.Application) {
	var set *given
	c := p.command(app, "list", "Show what this node is to forward, and by whose wish", `
One row per definition: files of configuration management, and what operators
started. For a glob it says which matching files aren't followed, and why.

    logforward list
`, func(ctx context.Context) error {
		client, err := p.client(set)
		if err != nil {
			return err
		}
		l, err := client.List(ctx)
		if err != nil {
			return err
		}
		if p.json {
			return p.print(l)
		}
		rows := [][]string{{"LOG", "STATE", "LOGS", "DESTINATION", "START", "BY", "PATH"}}
		for _, f := range l.Forwarders {
			by := f.By
			if f.Managed != "" {
				by = filepath.Base(f.Managed)
			}
			rows = append(rows, []string{f.Log, f.State, strconv.Itoa(len(f.Logs)), f.Destination, f.Start, by, f.Path})
		}
		if err := table(p.out, rows...); err != nil {
			return err
		}
		for _, f := range l.Forwarders {
			if f.Files != "" {
				fmt.Fprintf(p.out, "%s: %s\n", harmless(f.Log), f.Files)
			}
			for _, r := range f.Refused {
				fmt.Fprintf(p.out, "%s: not followed: %s: %s\n", harmless(f.Log), harmless(r.Where), harmless(r.Problem))
			}
		}
		p.showProblems(l.Problems)
		return nil
	})
	set = p.settings(c, settings.Client, "wishes", "ensure", "textfiles")
}
