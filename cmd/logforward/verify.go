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
	var record, sealed bool
	var keyFile, expect string
	var set *given
	c := p.command(app, "verify", "Compare a log's central bytes with what its node sent", `
Reads the central files, rotated and compressed ones too, and computes the running digest that the node
computed when it read its log. The ledgers have it at the beginning and end of each file; --record asks the
broker for that of what lies in files which are still written to, and for logs that have no ledger any more: of a
log that a record alone names all bytes are missing. So it finds what a bad disk, a truncation or
an editor did to central files, and files that are missing. It doesn't find a forger, who could change a ledger, too:
that do seals, where a node signs its log (setting seal). They are looked at wherever a log has any, --record for the
block that isn't complete yet. --seal-keys names a file of the nodes' keys, one a line as "logforward seal-key" prints
it on the node: its identity and the key; an identity may have several. Without it nobody vouches for the keys.

A seal that doesn't fit, or is of a key that isn't the node's, makes a log "forged". --sealed asks that every
committed byte be under a seal of a key of the file; what isn't is "unsealed". Where the end was taken away with its seals, only
the node's own word shows it: --seal-expect EPOCH:POSITION:ID, as logforward status --json on the node has it. With --record:
the last block's seal isn't in a ledger yet.

Of each log: bytes that are intact, that no digest proves yet, that are damaged or missing, and that retention has
deleted; the gaps that its node told of, and the bytes lost in them. Exit code 1: something is damaged or missing, or
couldn't be read (a ledger or a record; the other logs are verified all the same), forged, or unsealed; or none of the logs has a
ledger. What only isn't proved yet is no failure.

    logforward verify                               # everything below the output directory
    logforward verify web1.example.net/nginx-access --record
    logforward verify 'web*/nginx-*' --output /mnt/r1,/mnt/r2
    logforward verify --record --sealed --seal-keys /etc/logforward/seal-keys
`, func(ctx context.Context) error {
		v, err := p.load(set)
		if err != nil {
			return err
		}
		if err := checkPatterns(what); err != nil {
			return err
		}
		seals := receive.SealOptions{All: sealed}
		if sealed && keyFile == "" {
			return usage("--sealed asks for seals of known keys: --seal-keys must say which these are")
		}
		if keyFile != "" {
			if seals.Keys, err = receive.ReadSealKeys(keyFile); err != nil {
				return err
			}
		}
		if expect != "" {
			if seals.Expect, err = sealPoint(expect); err != nil {
				return err
			}
			if len(what) != 1 || isPattern(what[0]) {
				return usage("--seal-expect is one log's: name it, as IDENTITY/LOG")
			}
		}
		recorded := func(context.Context) ([][2]string, error) { return nil, nil }
		proofs := func(context.Context, string, string) ([]receive.Proof, *receive.RecordedSeal, error) {
			return nil, nil, nil
		}
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
			proofs = func(ctx context.Context, identity, log string) ([]receive.Proof, *receive.RecordedSeal, error) {
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
			known, last, broken := proofs(ctx, l[0], l[1])
			if broken != nil && !errors.Is(broken, receive.ErrRecord) { // the broker can't be asked
				return fmt.Errorf("record of %s/%s: %w", l[0], l[1], broken)
			}
			seals.Recorded = last
			one, err := receive.VerifySealed(ctx, v.List("output"), l[0], l[1], known, seals)
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
	c.Flag("seal-keys", "File of the keys that nodes sign with: lines of an identity and its key").PlaceHolder("FILE").StringVar(&keyFile)
	c.Flag("sealed", "Fail unless every byte is under a seal of a key of --seal-keys").UnNegatableBoolVar(&sealed)
	c.Flag("seal-expect", "Fail unless the log's seals reach this one, which its node told of").PlaceHolder("EPOCH:POSITION:ID").StringVar(&expect)
	set = p.settings(c, settings.Verify)
}

// sealPoint takes EPOCH:POSITION:ID.
func sealPoint(s string) (*receive.SealPoint, error) {
	var x receive.SealPoint
	f := strings.Split(s, ":")
	if len(f) == 3 {
		var err, err2 error
		x.Epoch, err = strconv.ParseUint(f[0], 10, 64)
		x.Position, err2 = strconv.ParseUint(f[1], 10, 64)
		if err == nil && err2 == nil && x.Position > 0 && x.ID.UnmarshalText([]byte(f[2])) == nil {
			return &x, nil
		}
	}
	return nil, usage("--seal-expect %.200q: want EPOCH:POSITION:ID, of two numbers and 64 lower-case hex digits", s)
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
	bad, unproved := make(map[string]int), int64(0)
	seals := [][]string{{"LOG", "SEALED", "UNSEALED", "BROKEN", "UNPROVABLE", "UNCOMMITTED", "SEALS", "CHAIN", "KEYS"}}
	rows := [][]string{{"LOG", "VERDICT", "INTACT", "UNPROVED", "DAMAGED", "EXPIRED", "GAPS", "LOST"}}
	parts := [][]string{{"LOG", "VERDICT", "EPOCH", "FROM", "TO", "FILE", "WHY"}}
	for _, v := range all {
		name := v.Identity + "/" + v.Log
		unproved += v.Unproved
		bad[v.Verdict]++
		if x := v.Seals; x != nil {
			seals = append(seals, []string{name, size(x.Sealed), size(x.Unsealed), size(x.Broken), size(x.Unprovable), size(x.Uncommitted), strconv.Itoa(x.Count), chainOf(x), keysOf(x)})
		}
		rows = append(rows, []string{name, v.Verdict, size(v.Intact), size(v.Unproved), size(v.Damaged), size(v.Expired), strconv.Itoa(v.Gaps), size(v.Lost)})
		for _, x := range v.Parts {
			// What lies in a file and only isn't proved yet is every day's.
			if file := x.File; x.Verdict != receive.Unproved || file == "" || len(all) == 1 {
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
		for _, more := range [][][]string{seals, parts} {
			if len(more) > 1 {
				fmt.Fprintln(p.out)
				if err := table(p.out, more...); err != nil {
					return err
				}
			}
		}
		if unproved > 0 && !record {
			fmt.Fprintf(p.out, "\n%s unproved: the ledgers have no digest behind them yet, as of files that are still written to; --record asks the broker\n", size(unproved))
		}
	}
	var faults []string
	for _, verdict := range []string{receive.Forged, receive.Damaged, receive.Unsealed} {
		if n := bad[verdict]; n > 0 {
			faults = append(faults, fmt.Sprintf("%d of %d logs are %s", n, len(all), verdict))
		}
	}
	switch n := bad[receive.Unread]; {
	case n > 0 && len(faults) > 0:
		faults[len(faults)-1] += fmt.Sprintf(", and %d couldn't be read", n)
	case n > 0:
		faults = append(faults, fmt.Sprintf("%d of %d logs couldn't be read", n, len(all)))
	}
	if len(faults) > 0 {
		return errors.New(strings.Join(faults, ", "))
	}
	return nil
}

// chainOf says in a word whether a log's seals follow each other.
func chainOf(s *receive.Seals) string {
	switch {
	case s.Unbroken:
		return "whole"
	case slices.ContainsFunc(s.Breaks, func(b receive.SealBreak) bool { return b.Missing }):
		return "broken"
	}
	return "begins anew"
}

// keysOf says whose word the seals are.
func keysOf(s *receive.Seals) string {
	var words []string
	for _, k := range s.Keys {
		word := k.Key[:8]
		if !k.Vouched {
			word += " (not vouched for)"
		}
		if words = append(words, word); len(words) == 3 && len(s.Keys) > 3 {
			words = append(words, fmt.Sprintf("and %d more", len(s.Keys)-3))
			break
		}
	}
	return strings.Join(words, ", ")
}
