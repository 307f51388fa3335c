package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"time"

	"github.com/choria-io/fisk"

	"logforward/internal/receive"
	"logforward/internal/settings"
)

func (p *program) asideCommand(app *fisk.Application) {
	var what []string
	var set *given
	c := p.command(app, "aside", "Show what a receiver has set aside", `
A receiver that was cut off in the midst of a commit can't know its outcome. What it had written is set aside, in its
state directory, until it came again. Nearly always that is within seconds. Where a broker lost what it had acknowledged
meanwhile, it may be the only copy; the receiver puts it back by itself where digests prove it. What they don't prove
stays, and is listed here: run it on the receiver's machine, as the receiver's user.

The file holds the log's bytes as they are. Whether another receiver has the same positions, ask locate and verify.

    logforward aside
    logforward aside web1.example.net/nginx-access
    logforward locate web1.example.net/nginx-access --at 1048576
`, func(context.Context) error {
		if err := checkPatterns(what); err != nil {
			return err
		}
		v, err := p.load(set)
		if err != nil {
			return err
		}
		all, err := receive.ListSetAside(v.Text("state"))
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("aside: %w: is that the receiver's state directory (--state)?", err)
		}
		all = slices.DeleteFunc(all, func(a receive.SetAside) bool { return !wanted(what, a.Identity, a.Log) })
		return errors.Join(p.showAside(all, v.Text("state")), err)
	})
	c.Arg("log", "IDENTITY/LOG, with * and ? in each; none: all").StringsVar(&what)
	set = p.settings(c, settings.Aside)
}

func (p *program) showAside(all []receive.SetAside, state string) error {
	if p.json {
		if all == nil {
			all = []receive.SetAside{} // a list, too
		}
		return p.print(all)
	}
	if len(all) == 0 {
		_, err := fmt.Fprintln(p.out, "nothing is set aside in "+harmless(state))
		return err
	}
	rows := [][]string{{"LOG", "EPOCH", "FROM", "TO", "BYTES", "SINCE", "PUT BACK", "FILE"}}
	for _, a := range all {
		for i, run := range a.Runs {
			row := []string{path.Join(a.Identity, a.Log), decimal(run.Epoch), decimal(run.From), decimal(run.To), decimal(run.To - run.From), a.Since.Format(time.RFC3339), backOf(&a, run), a.Path}
			if i > 0 { // the same file
				row[0], row[5], row[7] = "", "", ""
			}
			rows = append(rows, row)
		}
	}
	return table(p.out, rows...)
}

func decimal(n uint64) string { return strconv.FormatUint(n, 10) }

// backOf says how many bytes of a run were put back.
func backOf(a *receive.SetAside, run receive.AsideRun) string {
	var n uint64
	for _, b := range a.Back {
		if from, to := max(b.From, run.From), min(b.To, run.To); b.Done && b.Epoch == run.Epoch && from < to {
			n += to - from
		}
	}
	return decimal(n)
}
