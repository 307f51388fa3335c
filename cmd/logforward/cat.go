package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"

	"github.com/choria-io/fisk"

	"logforward/internal/receive"
	"logforward/internal/settings"
)

func (p *program) catCommand(app *fisk.Application) {
	var what string
	var set *given
	c := p.command(app, "cat", "Write a log's central bytes in order", `
Puts all of a log's central files together, rotated and compressed ones too, over all receivers
that wrote to this output directory, and writes the bytes as they are.

    logforward cat web1.example.net/nginx-access --output /srv/logs | grep 500
`, func(context.Context) error {
		identity, log, err := splitLog(what)
		if err != nil {
			return err
		}
		v, err := p.load(set)
		if err != nil {
			return err
		}
		w := bufio.NewWriterSize(p.out, 256<<10)
		missing, err := receive.Cat(w, v.Text("output"), identity, log)
		if err = errors.Join(err, w.Flush()); err != nil {
			return noLedger(err, what, v.Text("output"))
		}
		if missing > 0 {
			fmt.Fprintf(p.err, "logforward: %d files are left out, which retention has deleted\n", missing)
		}
		return nil
	})
	c.Arg("log", "IDENTITY/LOG").Required().StringVar(&what)
	set = p.settings(c, settings.Reader)
}
