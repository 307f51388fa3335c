package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/choria-io/fisk"

	"logforward/internal/settings"
)

// manualCommand writes what a package carries for reading and typing: it all follows from the commands
// and settings themselves.
func (p *program) manualCommand(app *fisk.Application) {
	var dir string
	c := p.command(app, "manual", "Write the manual's pages into a directory, for packages", `
logforward(1), a page for each command, such as logforward-forward(1), and logforward.cfg(5), which
has every setting.

    logforward manual /usr/share/man
`, func(context.Context) error {
		for name, text := range pages(app.Model()) {
			file := filepath.Join(dir, "man"+name[len(name)-1:], name)
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				return err
			}
		}
		return nil
	}).Hidden()
	c.Arg("directory", "The directory; man1 and man5 are made in it").Required().StringVar(&dir)
}

// pages gives each page of the manual, by file name.
func pages(m *fisk.ApplicationModel) map[string]string {
	all := map[string]string{"logforward.cfg.5": settings.Manual()}
	main := new(roff)
	main.head("logforward", "1", "bring the bytes of log files to a central place")
	main.section("SYNOPSIS")
	main.line(`\fBlogforward\fR [\fIflags\fR] \fIcommand\fR [\fIarguments\fR]`)
	main.section("DESCRIPTION")
	main.text(m.Help)
	main.flags(m.Flags)
	main.section("COMMANDS")
	var see []string
	for _, c := range m.FlattenedCommands() {
		if c.Hidden || c.Name == "help" {
			continue
		}
		page := "logforward-" + strings.ReplaceAll(c.FullCommand, " ", "-")
		see = append(see, page+"(1)")
		main.item(c.FullCommand, c.Help)
		all[page+".1"] = commandPage(page, c)
	}
	main.section("FILES")
	main.item(settings.DefaultFile(settings.Forward), "Settings of the node's daemon.")
	main.item(settings.DefaultFile(settings.Receive), "Settings of a receiver.")
	main.item(settings.DefaultFile(settings.Broker), "Settings of the broker.")
	main.section("SEE ALSO")
	main.text(strings.Join(append(see, "logforward.cfg(5)"), ", "))
	all["logforward.1"] = main.String()
	return all
}

func commandPage(page string, c *fisk.CmdModel) string {
	r := new(roff)
	r.head(page, "1", c.Help)
	r.section("SYNOPSIS")
	usage := `\fBlogforward ` + escape(c.FullCommand) + `\fR`
	if c.FlagGroupModel != nil && len(c.Flags) > 0 {
		usage += ` [\fIflags\fR]`
	}
	if c.ArgGroupModel != nil {
		for _, a := range c.Args {
			name := `\fI` + escape(strings.ToUpper(a.Name)) + `\fR`
			if a.IsCumulative() {
				name += "..."
			}
			if !a.Required {
				name = "[" + name + "]"
			}
			usage += " " + name
		}
	}
	r.line(usage)
	r.section("DESCRIPTION")
	if c.HelpLong != "" {
		r.text(c.HelpLong)
	} else {
		r.text(c.Help + ".")
	}
	if c.ArgGroupModel != nil && len(c.Args) > 0 {
		r.section("ARGUMENTS")
		for _, a := range c.Args {
			r.item(strings.ToUpper(a.Name), a.Help)
		}
	}
	if c.FlagGroupModel != nil {
		r.flags(c.Flags)
	}
	r.section("EXIT STATUS")
	r.text(exitCodes)
	r.section("SEE ALSO")
	r.text("logforward(1), logforward.cfg(5)")
	return r.String()
}

// roff collects a page.
type roff struct{ strings.Builder }

func (r *roff) line(text string) { fmt.Fprintln(r, text) }

func (r *roff) head(name, section, about string) {
	r.line(`.\" Made by: logforward manual`)
	fmt.Fprintf(r, ".TH %s %s \"\" \"logforward\"\n.SH NAME\n%s \\- %s\n", strings.ToUpper(escape(name)), section, escape(name), escape(about))
}

func (r *roff) section(name string) { r.line(".SH " + name) }

func (r *roff) item(name, about string) {
	fmt.Fprintf(r, ".TP\n\\fB%s\\fR\n%s\n", escape(name), escape(about))
}

// text writes paragraphs; what is indented is an example and stays as it is.
func (r *roff) text(text string) {
	example := false
	for _, line := range strings.Split(strings.Trim(text, "\n"), "\n") {
		indented := strings.HasPrefix(line, "    ")
		if indented != example && line != "" {
			if example = indented; example {
				r.line(".PP\n.nf\n.RS 4")
			} else {
				r.line(".RE\n.fi\n.PP")
			}
		}
		switch {
		case line == "" && !example:
			r.line(".PP")
		case line != "":
			r.line(escape(strings.TrimSpace(line)))
		}
	}
	if example {
		r.line(".RE\n.fi")
	}
}

func (r *roff) flags(flags []*fisk.FlagModel) {
	first := true
	for _, f := range flags {
		if f.Hidden || strings.HasPrefix(f.Name, "help-") || strings.HasPrefix(f.Name, "completion-") || f.Name == "fisk-introspect" {
			continue
		}
		if first {
			r.section("FLAGS")
			first = false
		}
		name := "--" + f.Name
		if f.Short != 0 {
			name = "-" + string(f.Short) + ", " + name
		}
		if !f.IsBoolFlag() {
			name += "=" + f.FormatPlaceHolder()
		}
		r.item(name, f.Help)
	}
}

// escape has roff print a text as it is.
func escape(text string) string { return settings.Roff(text) }
