package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/choria-io/fisk"

	"logforward/internal/broker"
	"logforward/internal/receive"
	"logforward/internal/settings"
)

func (p *program) locateCommand(app *fisk.Application) {
	var set *given
	var what, at string
	var given []string
	c := p.command(app, "locate", "Show which receivers and files hold a log", `
The broker's record of a log names its last ranges of positions, and the receiver and file of
each. Older ones are in the ledgers: with --output those below these directories are read, too.

    logforward locate web1.example.net/nginx-access
    logforward locate web1.example.net/nginx-access --at 1048576
    logforward locate web1.example.net/nginx-access --at 2026-11-25T12:00:00Z --output /mnt/r1,/mnt/r2
`, func(ctx context.Context) error {
		identity, log, err := splitLog(what)
		if err != nil {
			return err
		}
		where, err := parseWhere(at)
		if err != nil {
			return err
		}
		v, err := p.load(set)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		x, err := p.centre(ctx, v, "locate")
		if err != nil {
			return err
		}
		defer x.close()
		var outputs []string
		for _, g := range given {
			outputs = append(outputs, strings.FieldsFunc(g, func(r rune) bool { return r == ',' })...)
		}
		l, err := receive.Locate(ctx, x.positions, x.leases, identity, log)
		if errors.Is(err, broker.ErrNotFound) {
			return fmt.Errorf("nothing is known of %s: no receiver has committed any of it", what)
		}
		if err != nil {
			return err
		}
		if len(outputs) > 0 {
			err := l.AddLedgers(outputs, identity, log)
			if errors.Is(err, receive.ErrNoLedger) { // of a receiver that never wrote it, say: what the record knows is shown all the same
				fmt.Fprintf(p.err, "logforward: %s; this is what the broker's record knows\n", harmless(err.Error()))
			} else if err != nil {
				return err
			}
		}
		l.Locations = where.choose(l.Locations)
		if len(l.Locations) == 0 {
			return fmt.Errorf("%s: no known range holds that; older ones are in the ledgers (--output)", what)
		}
		if p.json {
			return p.print(l)
		}
		return p.showLocated(what, l)
	})
	c.Arg("log", "IDENTITY/LOG").Required().StringVar(&what)
	c.Flag("at", "Only what holds this position, or what was received at this time (RFC 3339)").PlaceHolder("POSITION|TIME").StringVar(&at)
	c.Flag("output", "Read the ledgers below these directories, too: one or, with commas, those of several receivers; may be repeated").PlaceHolder("DIRS").StringsVar(&given)
	set = p.settings(c, settings.Fleet)
}

// where is the part of a log that is asked for.
type where struct {
	position *uint64
	time     time.Time
}

func parseWhere(at string) (w where, err error) {
	if at == "" {
		return w, nil
	}
	if n, err := strconv.ParseUint(at, 10, 64); err == nil {
		return where{position: &n}, nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, at, time.Local); err == nil {
			return where{time: t}, nil
		}
	}
	return w, usage("--at %q: want a position, such as 1048576, or a time, such as 2026-11-25T12:00:00Z", at)
}

// choose picks the range of the position in the last epoch that has it, or the one that was written at the time.
func (w where) choose(all []receive.Location) []receive.Location {
	switch {
	case w.position != nil:
		for _, l := range slices.Backward(all) {
			if l.From <= *w.position && *w.position < l.To {
				return []receive.Location{l}
			}
		}
		return nil
	case !w.time.IsZero():
		var found []receive.Location
		for _, l := range all {
			if !l.Since.IsZero() && !l.Since.After(w.time) {
				found = []receive.Location{l}
			}
		}
		return found
	}
	return all
}

func (p *program) showLocated(what string, l *receive.Located) error {
	fmt.Fprintf(p.out, "%s: epoch %d, committed to %d\n\n", harmless(what), l.Epoch, l.Position)
	rows := [][]string{{"EPOCH", "FROM", "TO", "RECEIVER", "HOST", "OUTPUT", "FILE", "OFFSET", "SINCE"}}
	for _, x := range l.Locations {
		since := "-"
		if !x.Since.IsZero() {
			since = x.Since.UTC().Format(time.RFC3339)
		}
		rows = append(rows, []string{strconv.FormatUint(x.Epoch, 10), strconv.FormatUint(x.From, 10), strconv.FormatUint(x.To, 10),
			x.Receiver, x.Host, x.Output, x.File, strconv.FormatInt(x.Offset, 10), since})
	}
	return table(p.out, rows...)
}
