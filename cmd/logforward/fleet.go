package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/choria-io/fisk"

	"logforward/internal/broker"
	"logforward/internal/fleet"
	"logforward/internal/quantity"
	"logforward/internal/settings"
)

const fleetHelp = `
The big red button. It stops what all nodes publish, or those whose identities match a glob,
and says how many of them have obeyed. Connected nodes are told at once, the others when they come
back, before they send anything new. Log files stay the buffer: nothing is lost but what is deleted there meanwhile.

It needs the connection and the rights of a receiver, and reads the receivers' settings.
`

func (p *program) fleetCommand(app *fisk.Application) {
	c := app.Command("fleet", "Pause and resume the whole fleet, and see who obeys").HelpLong(fleetHelp)
	p.fleetPause(c)
	p.fleetResume(c)
	p.fleetStatus(c)
}

// button is one of the three commands on its way.
type button struct {
	set  *given
	wait string
}

// subcommand adds one with what all three have.
func (b *button) subcommand(p *program, parent *fisk.CmdClause, name, help, long, wait string, do func(context.Context) error) *fisk.CmdClause {
	c := parent.Command(name, help).HelpLong(long)
	c.Action(func(*fisk.ParseContext) error { p.do = do; return nil })
	c.Flag("wait", "How long nodes' confirmations are waited for; Ctrl-C ends the waiting, not what was done").Default(wait).StringVar(&b.wait)
	b.set = p.settings(c, settings.Fleet)
	return c
}

func (p *program) fleetPause(parent *fisk.CmdClause) {
	var b button
	var forHow, reason, match string
	c := b.subcommand(p, parent, "pause", "Stop the publishing of all nodes, or of those that match", `
Pauses of different globs hold side by side; one of the same glob is replaced. Without --for it
holds until it is lifted. It ends by itself on the nodes too, also where the centre is away.

    logforward fleet pause --reason 'storage is full' --for 2h
    logforward fleet pause --match 'web*.example.net'
`, "30s", func(ctx context.Context) error {
		lasts, err := positive("--for", forHow)
		if err != nil {
			return err
		}
		pause := broker.Pause{By: caller(), Reason: reason, Match: everybody(match)}
		if err := pause.Check(); err != nil {
			return usage("%v", err)
		}
		return p.call(ctx, &b, func(f *fleet.Fleet) (broker.Button, func(string) bool, error) {
			state, err := f.Press(ctx, pause, lasts)
			return state, pause.Matches, err
		})
	})
	c.Flag("for", "End by itself after this long: 90m, 2h, 1d").StringVar(&forHow)
	c.Flag("reason", "Why; nodes show it").StringVar(&reason)
	c.Flag("match", "Glob of identities: only these").PlaceHolder("GLOB").StringVar(&match)
}

func (p *program) fleetResume(parent *fisk.CmdClause) {
	var b button
	var match string
	var matched, all bool
	c := b.subcommand(p, parent, "resume", "Lift a pause", `
Without --match it lifts the one pause that there is. Where several hold, --match names one by its
glob as it was given ('*' is that of the whole fleet), or --all lifts them all.

    logforward fleet resume
    logforward fleet resume --match 'web*.example.net'
`, "30s", func(ctx context.Context) error {
		if matched && all {
			return usage("--match and --all: choose one")
		}
		return p.call(ctx, &b, func(f *fleet.Fleet) (broker.Button, func(string) bool, error) {
			glob := everybody(match)
			if !matched && !all {
				only, err := theOnly(ctx, f)
				if err != nil {
					return broker.Button{}, nil, err
				}
				glob = only
			}
			state, lifted, err := f.Release(ctx, glob, all)
			if errors.Is(err, broker.ErrNoPause) {
				err = usage("%v; logforward fleet status shows those that hold", err)
			}
			return state, func(identity string) bool {
				for _, l := range lifted {
					if l.Matches(identity) {
						return true
					}
				}
				return len(lifted) == 0 // nothing held: does everybody know?
			}, err
		})
	})
	c.Flag("match", "Lift the pause of exactly this glob").PlaceHolder("GLOB").IsSetByUser(&matched).StringVar(&match)
	c.Flag("all", "Lift all pauses").UnNegatableBoolVar(&all)
}

func (p *program) fleetStatus(parent *fisk.CmdClause) {
	var b button
	var match string
	c := b.subcommand(p, parent, "status", "Show which pauses hold, and which nodes obey", `
Asks every node what it obeys; that changes nothing. Nodes that are connected answer within moments.

    logforward fleet status
    logforward fleet status --match 'web*' --json
`, "5s", func(ctx context.Context) error {
		concerned := broker.Pause{Match: everybody(match)}
		if err := concerned.Check(); err != nil {
			return usage("%v", err)
		}
		return p.call(ctx, &b, func(f *fleet.Fleet) (broker.Button, func(string) bool, error) {
			state, err := f.Button(ctx)
			return state, concerned.Matches, err
		})
	})
	c.Flag("match", "Glob of identities: only these").PlaceHolder("GLOB").StringVar(&match)
}

// everybody is the glob as the button keeps it: the whole fleet's is empty.
func everybody(match string) string {
	if match == "*" {
		return ""
	}
	return match
}

// theOnly is the glob of the pause that holds, where it is one.
func theOnly(ctx context.Context, f *fleet.Fleet) (string, error) {
	state, err := f.Button(ctx)
	if err != nil {
		return "", err
	}
	active := state.Active(f.Now())
	switch len(active) {
	case 0:
		return "", usage("no pause holds")
	case 1:
		return active[0].Match, nil
	}
	var globs []string
	for _, a := range active {
		globs = append(globs, fmt.Sprintf("%q", glob(a.Match)))
	}
	return "", usage("%d pauses hold: name one by --match %s, or lift --all", len(active), strings.Join(globs, " or "))
}

// glob is how a pause's glob is shown.
func glob(match string) string {
	if match == "" {
		return "*"
	}
	return match
}

// positive reads a duration of a flag; empty is 0.
func positive(flag, text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := quantity.Duration(text)
	if err != nil {
		return 0, usage("%s %q: %v, such as 90s, 90m, 2h or 1d", flag, text, err)
	}
	if d <= 0 {
		return 0, usage("%s: %s: it must be longer than nothing", flag, text)
	}
	return d, nil
}

// caller is who works the button, as nodes show it: a user at a machine.
func caller() string {
	name := fmt.Sprintf("uid:%d", os.Getuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return "local=" + harmless(name)
}

// call does what changes the button, and then shows who obeys it.
func (p *program) call(ctx context.Context, b *button, change func(*fleet.Fleet) (broker.Button, func(string) bool, error)) error {
	wait, err := positive("--wait", b.wait)
	if err != nil {
		return err
	}
	v, err := p.load(b.set)
	if err != nil {
		return err
	}
	options, prefix, err := v.centre()
	if err != nil {
		return misconfigured(err)
	}
	log := p.logger(v)
	options.Name, options.Logger = "logforward fleet", log
	f, err := fleet.Open(ctx, fleet.Config{Broker: options, Prefix: prefix, StreamAPI: streamAPI(options), Logger: log})
	if err != nil {
		return interrupted(ctx, err)
	}
	defer f.Close()
	state, concerned, err := change(f)
	if err != nil {
		return interrupted(ctx, err)
	}
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	view := p.rollView(f)
	view.pauses(state.Active(f.Now()))
	s, err := f.Call(waiting, state, concerned, view.progress)
	view.end()
	if p.json {
		if perr := p.print(s); perr != nil {
			return perr
		}
	} else {
		view.result(&s)
	}
	if err == nil && s.Late > 0 {
		err = &exitError{exitUnconfirmed, fmt.Errorf("%d nodes that are up haven't confirmed", s.Late)}
	}
	return err
}

// interrupted makes the end of a command that was stopped before its work was done a failure. Elsewhere
// a signal is how things end in order.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return &exitError{exitInterrupted, fmt.Errorf("interrupted; see logforward fleet status for what holds: %w", err)}
}
