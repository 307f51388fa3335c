package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"path"

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
each once. See logforward locate for which receivers have a part of it. What it must leave out is told
on standard error; exit code 1: that isn't only what retention deleted.

    logforward cat web1.example.net/nginx-access --output /srv/logs | grep 500
    logforward cat web1.example.net/nginx-access --output /mnt/r1,/mnt/r2,/mnt/r3
`, func(ctx context.Context) error {
		identity, log, err := splitLog(what)
		if err != nil {
			return err
		}
		v, err := p.load(set)
		if err != nil {
			return err
		}
		w := bufio.NewWriterSize(interruptible{ctx, p.out}, 256<<10)
		_, err = receive.Cat(w, v.List("output"), identity, log)
		if flushed := w.Flush(); err == nil { // else it is the same error, or of less interest
			err = flushed
		}
		if err != nil {
			return noLedger(err, what, v.List("output"))
		}
		holes, expired, err := receive.Holes(v.List("output"), identity, log)
		if err != nil {
			return noLedger(err, what, v.List("output"))
		}
		return p.leftOut(what, holes, expired)
	})
	c.Arg("log", "IDENTITY/LOG").Required().StringVar(&what)
	set = p.settings(c, settings.Reader)
}

// interruptible is a writer until the context ends.
type interruptible struct {
	ctx context.Context
	io.Writer
}

func (w interruptible) Write(b []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.Writer.Write(b)
}

// maxHoles is how many of the ranges that are left out are told one by one.
const maxHoles = 20

// leftOut says what cat couldn't write. What retention deleted is as it was wanted; anything else is a failure.
func (p *program) leftOut(what string, holes []receive.Part, expired int) error {
	if expired > 0 {
		fmt.Fprintf(p.err, "logforward: %d files are left out, which retention has deleted\n", expired)
	}
	whole := true
	for i, x := range holes {
		whole = whole && x.From == x.To // of the others nobody knows whether there were any bytes
		if i >= maxHoles {
			continue
		}
		where := fmt.Sprintf("positions %d to %d of epoch %d are left out", x.From, x.To, x.Epoch)
		switch {
		case x.From == x.To && x.File == "":
			where = what
		case x.From == x.To:
			where = fmt.Sprintf("what began at position %d of epoch %d is left out", x.From, x.Epoch)
		}
		if x.File != "" {
			where += ": " + path.Join(x.Output, x.File)
		}
		fmt.Fprintf(p.err, "logforward: %s\n", harmless(where+": "+x.Why))
	}
	if len(holes) > maxHoles {
		fmt.Fprintf(p.err, "logforward: and %d more\n", len(holes)-maxHoles)
	}
	if !whole {
		return fmt.Errorf("%s isn't whole: see logforward verify %s", what, what)
	}
	return nil
}
