package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/choria-io/fisk"

	"logforward/internal/settings"
)

func (p *program) configCommand(app *fisk.Application) {
	var match, command, file string
	var markdown bool
	c := p.command(app, "config", "Show settings: what they mean, and what is in force", `
REGEX is searched in names and helps. What is in force is that of a command, the node's
daemon if --for says nothing else, with the file and the environment of now. Secrets are masked.

    logforward config rotate --for receive
    logforward config 'destination|path' --config /etc/choria/plugin.d/logforward.cfg
`, func(context.Context) error {
		if markdown {
			_, err := fmt.Fprint(p.out, settings.Reference())
			return err
		}
		re, err := regexp.Compile("(?i)" + match)
		if err != nil {
			return usage("%q is no regular expression: %v", match, err)
		}
		v, wrong := p.load(&given{command: command, file: file})
		var now *settings.Values // none where the file is at fault: what it should say is wanted then
		if wrong == nil {
			now = v.Values
		}
		list := settings.Describe(now, re)
		if len(list) == 0 {
			return errors.Join(usage("no setting matches %q", match), wrong)
		}
		if p.json {
			return errors.Join(wrong, p.print(list))
		}
		for _, d := range list {
			fmt.Fprintf(p.out, "%s (%s)\n    %s\n", d.Name, d.Type, d.Help)
			if d.Deprecated != "" {
				fmt.Fprintf(p.out, "    deprecated:  %s\n", d.Deprecated)
			}
			fmt.Fprintf(p.out, "    accepts:     %s\n", d.Accepts)
			if d.Default != "" {
				fmt.Fprintf(p.out, "    default:     %s\n", d.Default)
			}
			if d.Where != "" && d.Where != "default" {
				fmt.Fprintf(p.out, "    now:         %s (%s)\n", harmless(d.Value), harmless(d.Where))
			}
			fmt.Fprintf(p.out, "    flag:        %s\n    environment: %s\n    of:          %s\n\n", d.Flag, d.Environment, strings.Join(d.Commands, ", "))
		}
		return wrong
	})
	c.Arg("regex", "Show those whose name or help matches").StringVar(&match)
	c.Flag("for", "The command whose settings are in force").Default(settings.Forward).EnumVar(&command, settings.Forward, settings.Receive, settings.Broker, settings.Setup, settings.Run, settings.Client, settings.Ensure, settings.Reader, settings.Fleet, settings.Verify, settings.Aside)
	c.Flag("config", "File with settings, one key = value a line").PlaceHolder("FILE").StringVar(&file)
	c.Flag("markdown", "Write the whole reference as Markdown: docs/settings.md").UnNegatableBoolVar(&markdown)
}
