package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/choria-io/fisk"

	"logforward/internal/chunk"
	"logforward/internal/receive"
	"logforward/internal/settings"
)

func (p *program) ledgerCommand(app *fisk.Application) {
	var what string
	var set *given
	c := p.command(app, "ledger", "Show a log's ledger: what is committed where, and what is lost", `
PATH is a ledger file; IDENTITY/LOG finds all of that log's below the output directory. Seals that follow each other are one
line, of the time of the last; --json has each. What they are worth logforward verify says.

    logforward ledger web1.example.net/nginx-access --output /srv/logs
    logforward ledger /srv/logs/web1.example.net/nginx-access@ledger.jsonl
`, func(context.Context) error {
		paths, err := p.ledgers(set, what)
		if err != nil {
			return err
		}
		rows := [][]string{{"TIME", "EVENT", "EPOCH", "FROM", "TO", "FILE", "CAUSE"}}
		all := []receive.Entry{}
		for _, path := range paths {
			var seals sealRun
			err := receive.ReadLedger(path, func(e *receive.Entry) {
				switch {
				case p.json:
					all = append(all, *e)
				case e.Event == receive.EventSeal && seals.add(e):
				default:
					rows = append(rows, seals.row()...)
					if e.Event == receive.EventSeal {
						seals.add(e)
						return
					}
					rows = append(rows, ledgerRow(e))
				}
			})
			if err != nil {
				return fmt.Errorf("ledger: %w", err)
			}
			rows = append(rows, seals.row()...)
		}
		if p.json {
			return p.print(all)
		}
		return table(p.out, rows...)
	})
	c.Arg("log", "PATH of a ledger, or IDENTITY/LOG").Required().StringVar(&what)
	set = p.settings(c, settings.Reader)
}

func (p *program) ledgers(set *given, what string) ([]string, error) {
	info, err := os.Stat(what)
	if err == nil && info.Mode().IsRegular() {
		return []string{what}, nil
	}
	if filepath.IsAbs(what) || strings.Contains(what, "@ledger") { // no log's name has that
		if err == nil {
			err = fmt.Errorf("%s is no regular file", what)
		}
		return nil, usage("%w: want a ledger's path, or IDENTITY/LOG", err)
	}
	v, err := p.load(set)
	if err != nil {
		return nil, err
	}
	identity, log, err := splitLog(what)
	if err != nil {
		return nil, err
	}
	outputs := v.List("output")
	var paths []string
	for _, output := range outputs {
		relative, err := receive.Ledgers(output, identity, log)
		if err != nil && !errors.Is(err, receive.ErrNoLedger) {
			return nil, err
		}
		for _, r := range relative {
			paths = append(paths, filepath.Join(output, r))
		}
	}
	if len(paths) == 0 {
		return nil, noLedger(receive.ErrNoLedger, what, outputs)
	}
	return paths, nil
}

func noLedger(err error, what string, outputs []string) error {
	if errors.Is(err, receive.ErrNoLedger) || errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no ledger of %s below %s: is that the receivers' output directory (--output)?", what, strings.Join(outputs, ", "))
	}
	return err
}

// splitLog takes IDENTITY/LOG apart.
func splitLog(s string) (identity, log string, err error) {
	identity, log, ok := strings.Cut(s, "/")
	if !ok || identity == "" || log == "" || strings.Contains(log, "/") {
		return "", "", usage("%q: want IDENTITY/LOG, such as web1.example.net/nginx-access", s)
	}
	return identity, log, nil
}

// sealRun is a run of seals, each of which begins where the one before it ends or began.
type sealRun struct {
	count       int
	first, last receive.Entry
	key         string // the first digits; empty: they can't be read
}

// add tells whether an entry goes on with the run; one that is empty any seal begins.
func (r *sealRun) add(e *receive.Entry) bool {
	key := ""
	if s, err := chunk.ParseSeal(e.Seal); err == nil {
		key = hex.EncodeToString(s.Key[:4])
	}
	if r.count > 0 && (e.Epoch != r.last.Epoch || e.From != r.last.To && e.From != r.last.From || key != r.key) {
		return false
	}
	if r.count == 0 {
		r.first, r.key = *e, key
	}
	r.count++
	r.last = *e
	return true
}

// row is the run's line, if there is any, and ends it.
func (r *sealRun) row() [][]string {
	if r.count == 0 {
		return nil
	}
	e := r.last
	e.From, e.Cause = r.first.From, fmt.Sprintf("%d seals by key %s", r.count, r.key)
	if r.count == 1 {
		e.Cause = "a seal by key " + r.key
	}
	if r.key == "" {
		e.Cause = fmt.Sprintf("%d seals that can't be read", r.count)
	}
	*r = sealRun{}
	return [][]string{ledgerRow(&e)}
}

func ledgerRow(e *receive.Entry) []string {
	file := e.File
	if e.Name != "" && e.Name != e.File {
		file += " -> " + e.Name
	}
	cause := e.Cause
	if e.Bytes != nil {
		lost := "an unknown number of bytes"
		if *e.Bytes >= 0 {
			lost = strconv.FormatInt(*e.Bytes, 10) + " bytes"
			if !e.Exact {
				lost = "at least " + lost
			}
		}
		cause += ": " + lost + " of " + e.Path
	}
	if e.By != "" {
		cause += " (" + e.By + ")"
	}
	to := ""
	if e.To > 0 { // a range has no end before its file has one
		to = decimal(e.To)
	}
	return []string{e.Time.UTC().Format(time.RFC3339), e.Event, decimal(e.Epoch), decimal(e.From), to, file, cause}
}
