package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/choria-io/fisk"

	"logforward/internal/receive"
	"logforward/internal/settings"
)

func (p *program) ledgerCommand(app *fisk.Application) {
	var what string
	var set *given
	c := p.command(app, "ledger", "Show a log's ledger: what is committed where, and what is lost", `
PATH is a ledger file; IDENTITY/LOG finds all of that log's below the output directory.

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
			entries, err := receive.Ledger(path)
			if err != nil {
				return fmt.Errorf("ledger: %w", err)
			}
			all = append(all, entries...)
		}
		if p.json {
			return p.print(all)
		}
		for _, e := range all {
			rows = append(rows, ledgerRow(e))
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

func ledgerRow(e receive.Entry) []string {
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
	to := ""
	if e.To > 0 { // a range has no end before its file has one
		to = decimal(e.To)
	}
	return []string{e.Time.UTC().Format(time.RFC3339), e.Event, decimal(e.Epoch), decimal(e.From), to, file, cause}
}
