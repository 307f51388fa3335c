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
Puts all of a log's central files together, rotated and compressed ones too, of all receivers that
wrote to the output directory, or to several (mounted or copied), and writes the bytes as they are,
each once. See logforward locate for which receivers have a part of it.

    logforward cat web1.example.net/nginx-access --output /srv/logs | grep 500
    logforward cat web1.example.net/nginx-access --output /mnt/r1,/mnt/r2,/mnt/r3
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
		missing, err := receive.Cat(w, v.List("output"), identity, log)
		if err = errors.Join(err, w.Flush()); err != nil {
			return noLedger(err, what, v.List("output"))
		}
		if missing > 0 {
			fmt.Fprintf(p.err, "logforward: %d files are left out, which retention has deleted\n", missing)
		}
		return nil
	})
	c.Arg("log", "IDENTITY/LOG").Required().StringVar(&what)
	set = p.settings(c, settings.Reader)
}
