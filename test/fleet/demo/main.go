// Command demo shows a fleet on one machine: a real Choria broker, three nodes with Choria Server and
// logforward's daemon, a receiver, and an archive to redirect to. An operator starts, pauses, resumes,
// redirects and stops forwarding by choria req; what is printed is what these commands print.
//
//	demo --choria FILE --logforward FILE --ddl DIR
//
// It works below a temporary directory, and leaves nothing behind, also when it is interrupted.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/choria-io/fisk"

	"logforward/test/fleet/site"
)

func main() {
	ctx, end := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer end()
	err := run(ctx, os.Args[1:], os.Stdout)
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "demo: interrupted; all processes have ended")
		os.Exit(130)
	case err != nil:
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	c := site.Config{}
	app := fisk.New("demo", "A fleet on one machine, steered by choria req")
	app.Flag("choria", "The choria program").Required().StringVar(&c.Choria)
	app.Flag("logforward", "The logforward program").Required().StringVar(&c.Logforward)
	app.Flag("ddl", "Directory with logforward.json").Required().StringVar(&c.DDL)
	certificates := app.Flag("certificates", "Classic security, by certificates, rather than tokens").UnNegatableBool()
	if _, err := app.Parse(args); err != nil {
		return err
	}
	if *certificates {
		c.Security = site.Certificates
	}
	for _, path := range []*string{&c.Choria, &c.Logforward, &c.DDL} {
		if *path, err = filepath.Abs(*path); err != nil {
			return err
		}
	}
	if c.Dir, err = os.MkdirTemp("", "fleet-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(c.Dir)) }()
	s, err := site.Start(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	d := &demo{Site: s, out: out}
	if err := d.begin(ctx); err != nil {
		return err
	}
	if err := d.play(ctx); err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	d.say("All processes have ended.")
	return nil
}
