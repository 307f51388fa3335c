package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/choria-io/fisk"

	"logforward/internal/receive"
	"logforward/internal/settings"
)

func (p *program) asideCommand(app *fisk.Application) {
	var what []string
	var reason string
	var set *given
	c := p.command(app, "aside", "Show what a receiver has set aside, and decide about it", `
A receiver that was cut off in the midst of a commit can't know its outcome. What it had written is set aside, in its
state directory, until it came again. Nearly always that is within seconds. Where a broker lost what it had acknowledged
meanwhile, it may be the only copy; the receiver puts it back by itself where digests prove it. What they don't prove
stays, and is listed here: run it on the receiver's machine, as the receiver's user.

Whether another receiver has the same positions, ask locate and verify. Then it is yours to decide. show writes the bytes
to the standard output as they are; keep has the receiver make a file of them beside the log's (LOG@RECEIVER@kept-…), which
becomes no part of the log: cat and verify don't read it, and retention leaves it alone; drop has the receiver delete them.
FILE is as the list has it, or IDENTITY/LOG where only one file is set aside of that. The log's ledger says who did it,
and the reason. The receiver does it within seconds of its next look (each 10 s), and if it is stopped once it is started; what is
proved meanwhile to be the only copy it puts back all the same.

    logforward aside
    logforward aside web1.example.net/nginx-access
    logforward locate web1.example.net/nginx-access --at 1048576
    logforward aside show web1.example.net/nginx-access | less
    logforward aside keep web1.example.net/nginx-access --reason 'the node has been reinstalled'
`, func(context.Context) error {
		do := ""
		if len(what) > 0 && slices.Contains([]string{"show", receive.AsideKeep, receive.AsideDrop}, what[0]) { // no pattern: it has no slash
			do, what = what[0], what[1:]
			if len(what) != 1 {
				return usage("aside %s: want one FILE, or IDENTITY/LOG", do)
			}
		} else if err := checkPatterns(what); err != nil {
			return err
		}
		if asks := do == receive.AsideKeep || do == receive.AsideDrop; asks != (reason != "") {
			return usage("--reason TEXT is for keep and drop, and these need it: the ledger says it")
		}
		v, err := p.load(set)
		if err != nil {
			return err
		}
		all, err := receive.ListSetAside(v.Text("state"))
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("aside: %w: is that the receiver's state directory (--state)?", err)
		}
		if do != "" {
			a, err2 := pickAside(all, what[0])
			if err2 != nil {
				return errors.Join(err2, err)
			}
			return p.decideAside(a, v.Text("state"), do, reason) // what else can't be read is no concern of this one's
		}
		all = slices.DeleteFunc(all, func(a receive.SetAside) bool { return !wanted(what, a.Identity, a.Log) })
		return errors.Join(p.showAside(all, v.Text("state")), err)
	})
	c.Arg("log", "IDENTITY/LOG, with * and ? in each; none: all. Or show, keep or drop, and FILE").StringsVar(&what)
	c.Flag("reason", "Of keep and drop: why, for the ledger").PlaceHolder("TEXT").StringVar(&reason)
	set = p.settings(c, settings.Aside)
}

// pickAside finds the one file that is meant, by its path or as the only one of its log.
func pickAside(all []receive.SetAside, what string) (*receive.SetAside, error) {
	var found *receive.SetAside
	for i := range all {
		a := &all[i]
		if a.Path == what {
			return a, nil
		}
		if a.Identity+"/"+a.Log == what {
			if found != nil {
				return nil, usage("%s: more than one file is set aside of it; name one as the list does", what)
			}
			found = a
		}
	}
	if found == nil {
		return nil, fmt.Errorf("%s isn't set aside; logforward aside lists what is", harmless(what))
	}
	return found, nil
}

// decideAside writes the bytes, or asks the receiver for what is to become of them.
func (p *program) decideAside(a *receive.SetAside, state, do, reason string) error {
	if do == "show" {
		f, err := os.OpenFile(a.Path, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
		if err != nil {
			return fmt.Errorf("aside show: %w", err)
		}
		defer f.Close()
		_, err = io.Copy(p.out, f)
		return err
	}
	q := receive.AsideRequest{Action: do, By: caller(), Reason: reason, Time: time.Now().UTC()}
	if err := receive.AskAside(state, a.Path, q); err != nil {
		return fmt.Errorf("aside %s: %w", do, err)
	}
	if p.json {
		return p.print(q)
	}
	_, err := fmt.Fprintf(p.out, "the receiver is asked to %s %s, %d bytes of %s/%s; logforward aside shows it until it is done\n", do, harmless(a.Path), a.Bytes, harmless(a.Identity), harmless(a.Log))
	return err
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
	if err := table(p.out, rows...); err != nil {
		return err
	}
	for _, a := range all {
		if q := a.Asked; q != nil {
			if _, err := fmt.Fprintf(p.out, "asked to %s %s, by %s at %s: %s\n", q.Action, harmless(a.Path), harmless(q.By), q.Time.UTC().Format(time.RFC3339), harmless(q.Reason)); err != nil {
				return err
			}
		}
	}
	return nil
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
