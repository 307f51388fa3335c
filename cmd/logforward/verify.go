package main

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/choria-io/fisk"

	"logforward/internal/receive"
	"logforward/internal/settings"
)

func (p *program) verifyCommand(app *fisk.Application) {
	var what []string
	var record bool
	var set *given
	c := p.command(app, "verify", "Compare a log's central bytes with what its node sent", `
Reads the central files, rotated and compressed ones too, and computes the running digest that the node
computed when it read its log. The ledgers have it at the beginning and end of each file; --record asks the
broker for that of what lies in files which are still written to, and for logs that have no ledger any more: of a
log that a record alone names all bytes are missing. So it finds what a bad disk, a truncation or
an editor did to central files, and files that are missing. It doesn't find a forger, who could change a ledger, too.

Of each log: bytes that are intact, that no digest proves yet, that are damaged or missing, and that retention has
deleted; the gaps that its node told of, and the bytes lost in them. Exit code 1: something is damaged or missing, or
couldn't be read (a ledger or a record; the other logs are verified all the same), or none of the logs has a ledger.
What only isn't proved yet is no failure.

    logforward verify                               # everything below the output directory
    logforward verify web1.example.net/nginx-access --record
    logforward verify 'web*/nginx-*' --output /mnt/r1,/mnt/r2
`, func(ctx context.Context) error {
		v, err := p.load(set)
		if err != nil {
			return err
		}
		if err := checkPatterns(what); err != nil {
			return err
		}
		recorded := func(context.Context) ([][2]string, error) { return nil, nil }
		proofs := func(context.Context, string, string) ([]receive.Proof, error) { return nil, nil }
		if record {
			x, err := p.centre(ctx, v, "verify")
			if err != nil {
				return err
			}
			defer x.close()
			if len(what) == 0 || slices.ContainsFunc(what, isPattern) { // one that has its name told is missed without
				recorded = func(ctx context.Context) ([][2]string, error) {
					return receive.Recorded(ctx, x.positions, func(identity, log string) bool { return wanted(what, identity, log) })
				}
			}
			proofs = func(ctx context.Context, identity, log string) ([]receive.Proof, error) {
				return receive.Proofs(ctx, x.positions, identity, log)
			}
		}
		logs, err := chooseLogs(ctx, v.List("output"), what, recorded)
		if err != nil {
			return err
		}
		all := make([]*receive.Verification, 0, len(logs))
		here := 0 // that have a ledger
		for _, l := range logs {
			known, broken := proofs(ctx, l[0], l[1])
			if broken != nil && !errors.Is(broken, receive.ErrRecord) { // the broker can't be asked
				return fmt.Errorf("record of %s/%s: %w", l[0], l[1], broken)
			}
			one, err := receive.Verify(ctx, v.List("output"), l[0], l[1], known)
			if ctx.Err() != nil {
				return fmt.Errorf("verify: %w", ctx.Err())
			}
			if errors.Is(err, receive.ErrNoLedger) && len(known) > 0 {
				all = append(all, receive.NotHere(l[0], l[1], known))
				continue
			}
			if !errors.Is(err, receive.ErrNoLedger) {
				here++
			}
			if err != nil { // the other logs' verdicts are wanted all the same
				one = &receive.Verification{Identity: l[0], Log: l[1]}
			}
			for _, err := range []error{err, broken} {
				if err != nil {
					one.Verdict = receive.Unread
					one.Parts = append(one.Parts, receive.Part{Verdict: receive.Unread, Why: err.Error()})
				}
			}
			all = append(all, one)
		}
		err = p.showVerified(all, record)
		if here == 0 {
			err = fmt.Errorf("none of %d logs has a ledger below %s: is that the receivers' output directory (--output)?", len(all), strings.Join(v.List("output"), ", "))
		}
		return err
	})
	c.Arg("log", "IDENTITY/LOG, with * and ? in each; none: all").StringsVar(&what)
	c.Flag("record", "Ask the broker's records for what isn't in ledgers yet").UnNegatableBoolVar(&record)
	set = p.settings(c, settings.Verify)
}

// checkPatterns tells whether each can name a log.
func checkPatterns(patterns []string) error {
	for _, pattern := range patterns {
		if _, _, err := splitLog(pattern); err != nil {
			return err
		}
		if _, err := path.Match(pattern, ""); err != nil {
			return usage("%q: %w", pattern, err)
		}
	}
	return nil
}

func isPattern(s string) bool { return strings.ContainsAny(s, `*?[\`) }

// wanted tells whether one of the patterns names a log; without patterns each is named.
func wanted(patterns []string, identity, log string) bool {
	return len(patterns) == 0 || slices.ContainsFunc(patterns, func(pattern string) bool {
		ok, _ := path.Match(pattern, identity+"/"+log) // neither name holds a slash
		return ok
	})
}

// chooseLogs finds the logs that the patterns name, below the outputs and among those that are recorded. A pattern that names none is an error.
func chooseLogs(ctx context.Context, outputs, patterns []string, recorded func(context.Context) ([][2]string, error)) ([][2]string, error) {
	all, err := receive.Logs(outputs)
	if err != nil {
		return nil, fmt.Errorf("look for logs: %w; is that the receivers' output directory (--output)?", err)
	}
	more, err := recorded(ctx)
	if err != nil {
		return nil, fmt.Errorf("look for logs: %w", err)
	}
	all = append(all, more...)
	slices.SortFunc(all, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	all = slices.Compact(all)
	if len(patterns) == 0 && len(all) == 0 {
		return nil, fmt.Errorf("there is no log below %s: is that the receivers' output directory (--output)?", strings.Join(outputs, ", "))
	}
	for _, pattern := range patterns {
		if !slices.ContainsFunc(all, func(l [2]string) bool { return wanted([]string{pattern}, l[0], l[1]) }) {
			return nil, noLedger(receive.ErrNoLedger, pattern, outputs)
		}
	}
	return slices.DeleteFunc(all, func(l [2]string) bool { return !wanted(patterns, l[0], l[1]) }), nil
}

func (p *program) showVerified(all []*receive.Verification, record bool) error {
	damaged, unread, unproved := 0, 0, int64(0)
	rows := [][]string{{"LOG", "VERDICT", "INTACT", "UNPROVED", "DAMAGED", "EXPIRED", "GAPS", "LOST"}}
	parts := [][]string{{"LOG", "VERDICT", "EPOCH", "FROM", "TO", "FILE", "WHY"}}
	for _, v := range all {
		name := v.Identity + "/" + v.Log
		unproved += v.Unproved
		switch v.Verdict {
		case receive.Damaged:
			damaged++
		case receive.Unread:
			unread++
		}
		rows = append(rows, []string{name, v.Verdict, size(v.Intact), size(v.Unproved), size(v.Damaged), size(v.Expired), strconv.Itoa(v.Gaps), size(v.Lost)})
		for _, x := range v.Parts {
			// What lies in a file and only isn't proved yet is every day's.
			if file := x.File; x.Verdict == receive.Damaged || x.Verdict == receive.Unread || file == "" || len(all) == 1 {
				if file != "" {
					file = path.Join(x.Output, file)
				}
				parts = append(parts, []string{name, x.Verdict, decimal(x.Epoch), decimal(x.From), decimal(x.To), file, x.Why})
			}
		}
	}
	if p.json {
		if err := p.print(all); err != nil {
			return err
		}
	} else {
		if err := table(p.out, rows...); err != nil {
			return err
		}
		if len(parts) > 1 {
			fmt.Fprintln(p.out)
			if err := table(p.out, parts...); err != nil {
				return err
			}
		}
		if unproved > 0 && !record {
			fmt.Fprintf(p.out, "\n%s unproved: the ledgers have no digest behind them yet, as of files that are still written to; --record asks the broker\n", size(unproved))
		}
	}
	switch {
	case unread > 0 && damaged > 0:
		return fmt.Errorf("%d of %d logs are damaged, and %d couldn't be read", damaged, len(all), unread)
	case unread > 0:
		return fmt.Errorf("%d of %d logs couldn't be read", unread, len(all))
	case damaged > 0:
		return fmt.Errorf("%d of %d logs are damaged", damaged, len(all))
	}
	return nil
}
