package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/choria-io/fisk"

	"logforward/internal/broker"
	"logforward/internal/settings"
)

// leastStream is the smallest limit of a stream: one below a chunk's size would refuse that chunk for ever.
const leastStream = 16 << 20

// setupTime bounds the whole of setup.
const setupTime = time.Minute

func (p *program) setupCommand(app *fisk.Application) {
	var set *given
	var check bool
	c := p.command(app, "setup", "Make or change the streams and buckets that logforward needs", `
Compares what is there with what is wanted, prints the steps, and takes them. What is as
it should be stays untouched, so it may be run as often as one likes. Nothing that holds
messages is ever deleted.

    logforward setup --url nats://broker:4222 --partitions 8 --replicas 3 --dry-run
`, func(ctx context.Context) error {
		v, err := p.load(set)
		if err != nil {
			return err
		}
		log := p.logger(v)
		options, _, err := v.centre()
		if err != nil {
			return misconfigured(err)
		}
		options.Name, options.Logger = "logforward setup", log
		w := broker.Wanted{MaxBytes: v.Number("max_bytes")}
		if w.MaxBytes > 0 && w.MaxBytes < leastStream {
			return misconfigured(fmt.Errorf("max_bytes = %d (%s): a stream must hold a few messages of the largest size; at least %s, or 0 for no limit", w.MaxBytes, v.Where("max_bytes"), size(int64(leastStream))))
		}
		// What isn't said stays as it is; a default must not undo what an earlier setup was told.
		if v.IsSet("prefix") {
			w.Prefix = v.Text("prefix")
		}
		if v.IsSet("partitions") {
			w.Partitions = int(v.Number("partitions"))
		}
		if v.IsSet("replicas") {
			w.Replicas = int(v.Number("replicas"))
		}
		return p.setup(ctx, options, w, v.Bool("dry_run"), check)
	})
	c.Flag("check", "Do nothing, and exit with 1 where something were to be done: what configuration management asks first").UnNegatableBoolVar(&check)
	set = p.settings(c, settings.Setup)
}

// settled is what setup prints.
type settled struct {
	Changes []broker.Change `json:"changes"` // the steps, in their order; none: everything is as it should be
	Applied bool            `json:"applied"` // all of them were taken now; false for a dry run, for no steps, and where one failed
}

func (p *program) setup(ctx context.Context, o broker.Options, w broker.Wanted, dry, check bool) error {
	dry = dry || check
	ctx, cancel := context.WithTimeout(ctx, setupTime)
	defer cancel()
	plan, err := applySetup(ctx, o, w, dry)
	if plan == nil && err != nil {
		return err
	}
	var differs error
	if check && len(plan) > 0 {
		differs = &exitError{code: exitFailure}
	}
	if p.json {
		return errors.Join(err, differs, p.print(settled{append([]broker.Change{}, plan...), err == nil && !dry && len(plan) > 0}))
	}
	for _, c := range plan {
		fmt.Fprintln(p.out, c)
	}
	switch {
	case err != nil:
		return err
	case len(plan) == 0:
		fmt.Fprintln(p.out, "everything is as it should be")
	case dry:
		fmt.Fprintf(p.out, "%s; nothing was done\n", inChanges(len(plan)))
		return differs
	default:
		fmt.Fprintf(p.out, "%s done\n", inChanges(len(plan)))
	}
	return nil
}

func inChanges(n int) string {
	if n == 1 {
		return "1 change"
	}
	return fmt.Sprintf("%d changes", n)
}

// applySetup gives the plan, and takes its steps unless dry. With an error and a plan some steps may be done.
func applySetup(ctx context.Context, o broker.Options, w broker.Wanted, dry bool) ([]broker.Change, error) {
	nc, err := broker.Connect(ctx, o)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	js, err := broker.JetStream(nc, streamAPI(o))
	if err != nil {
		return nil, err
	}
	if dry {
		return broker.Plan(ctx, js, w)
	}
	return broker.Setup(ctx, js, w)
}
