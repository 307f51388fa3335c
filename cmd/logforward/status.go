package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/choria-io/fisk"
	"github.com/dustin/go-humanize/english"

	"logforward/internal/control"
	"logforward/internal/settings"
)

func (p *program) statusCommand(app *fisk.Application) {
	var r control.StatusRequest
	var set *given
	c := p.command(app, "status", "Show where each log of this node stands", `
One row per log: what it does, how far the centre has confirmed it, and how far
behind that is, in bytes and in seconds.

    logforward status
    logforward status nginx-access --history
    logforward status --json
`, func(ctx context.Context) error {
		client, err := p.client(set)
		if err != nil {
			return err
		}
		s, err := client.Status(ctx, r)
		if err != nil {
			return err
		}
		if p.json {
			return p.print(s)
		}
		return p.showStatus(s)
	})
	c.Arg("log", "Only this log; a glob's name means all of its logs").StringVar(&r.Log)
	c.Flag("history", "With the last changes that operators made").UnNegatableBoolVar(&r.History)
	set = p.settings(c, settings.Client, "wishes", "ensure", "textfiles")
}

func (p *program) showStatus(s control.StatusReply) error {
	fmt.Fprintf(p.out, "%s, logforward %s, pid %d, since %s\n", harmless(s.Identity), s.Version, s.PID, s.Started.UTC().Format(time.RFC3339))
	if s.Pause != nil {
		fmt.Fprintln(p.out, "ALL PAUSED:", harmless(said(s.Pause)))
	}
	for _, d := range s.Destinations {
		state := "connected"
		if !d.Connected {
			state = "NOT CONNECTED"
			if d.Logs == 0 {
				state = "not in use"
			}
		}
		fmt.Fprintf(p.out, "destination %s: %s, %s\n", harmless(d.Name), state, english.Plural(d.Logs, "log", ""))
	}
	fmt.Fprintln(p.out)
	rows := [][]string{{"LOG", "STATE", "CONFIRMED", "LAG", "SECONDS", "RATE", "GAPS", "DESTINATION", "BY", "PATH"}}
	for _, l := range s.Logs {
		by := "operator"
		if l.Managed != "" {
			by = filepath.Base(l.Managed)
		}
		rows = append(rows, []string{l.Log, l.State, size(l.Confirmed), size(l.LagBytes), strconv.FormatFloat(l.LagSeconds, 'f', 1, 64),
			speed(l.Rate), strconv.FormatUint(l.Gaps, 10), l.Destination, by, l.Path})
	}
	if err := table(p.out, rows...); err != nil {
		return err
	}
	for _, l := range s.Logs {
		if l.Override != nil {
			fmt.Fprintf(p.out, "%s: %s\n", harmless(l.Log), harmless(said(l.Override)))
		}
		if l.Promise != "" {
			fmt.Fprintf(p.out, "%s: %s\n", harmless(l.Log), harmless(l.Promise))
		}
		if l.Seal != nil && l.Seal.Error != "" {
			fmt.Fprintf(p.out, "%s: UNSEALED: %s\n", harmless(l.Log), harmless(l.Seal.Error))
		}
		if l.Error != "" {
			fmt.Fprintf(p.out, "%s: %s\n", harmless(l.Log), harmless(l.Error))
		}
		if l.Gaps > 0 {
			fmt.Fprintf(p.out, "%s: %s since the daemon started; which bytes are lost, and why, is in its log, and at the centre: logforward ledger %s\n",
				harmless(l.Log), english.Plural(int(l.Gaps), "gap", ""), harmless(s.Identity+"/"+l.Log))
		}
		for _, h := range l.History {
			fmt.Fprintf(p.out, "%s: %s\n", harmless(l.Log), harmless(was(h)))
		}
	}
	p.showProblems(s.Problems)
	return nil
}

func (p *program) showProblems(problems []control.Problem) {
	for _, q := range problems {
		text := q.Problem
		if !strings.HasPrefix(text, q.Where+":") { // a file's name is said once
			text = q.Where + ": " + text
		}
		fmt.Fprintf(p.out, "problem: %s\n", harmless(text))
	}
}
