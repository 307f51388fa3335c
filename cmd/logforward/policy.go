package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/choria-io/fisk"

	operators "logforward/internal/policy/table"
	"logforward/internal/settings"
)

const policyHelp = `
Who may do what with which logs. Operators write a table, operators.yaml, which is rendered into the
Rego document that Choria Server and the node decide by; a document written by hand works as well.
Nothing here changes a node.

    logforward policy check operators.yaml
    logforward policy explain --policy operators.yaml --caller up=alice --action pause log=nginx for=1h
    logforward policy diff old.yaml operators.yaml
    logforward policy render operators.yaml --output /etc/choria/policies/rego/logforward.rego

Exit codes: 0 allowed or all well, 1 tests or checks failed, or tables differ, 2 wrong usage, 3 denied,
78 the table or document is broken.
`

func (p *program) policyCommand(app *fisk.Application) {
	c := app.Command("policy", "Render, explain, check, test and compare policies").HelpLong(policyHelp)
	p.policyRender(c)
	p.policyExplain(c)
	p.policyCheck(c)
	p.policyTest(c)
	p.policyDiff(c)
}

// subcommand adds a command below another.
func (p *program) subcommand(parent *fisk.CmdClause, name, help, long string, do func(context.Context) error) *fisk.CmdClause {
	c := parent.Command(name, help).HelpLong(long)
	return c.Action(func(*fisk.ParseContext) error { p.do = do; return nil })
}

// rendered is what policy render prints.
type rendered struct {
	Document string `json:"document"`        // which one: choria, default, token or aaa
	File     string `json:"file,omitempty"`  // with --output: where it was written
	Bytes    int    `json:"bytes,omitempty"` // with --output: its size
	Text     string `json:"text,omitempty"`  // without --output: the document
}

func (p *program) policyRender(parent *fisk.CmdClause) {
	var file, which, output, caller string
	c := p.subcommand(parent, "render", "Write the Rego document of a table", `
The same table gives the same document. --for choria is the one for Choria Server and the node,
logforward.rego; default is for all other agents, default.rego, which is needed beside the first; token is
for the token of one caller (choria jwt client --opa-file), so short that they can connect with it; aaa is for
what signs requests.

    logforward policy render operators.yaml
    logforward policy render operators.yaml --output /etc/choria/policies/rego/logforward.rego
    logforward policy render operators.yaml --for default --output /etc/choria/policies/rego/default.rego
    logforward policy render operators.yaml --for token --caller up=bob --output bob.rego

token says which actions the caller's roles have, with lists of exact logs, destinations and collectives where
there is room. It may allow more than the table, never an action that no role of theirs has, and never less than
the table: the node decides on the rest, by the whole one.

Exit codes: 0 written, 2 wrong usage, 78 the table is broken, or gives more than a token has room for.
`, func(context.Context) error {
		t, err := readTable(file)
		if err != nil {
			return err
		}
		var text []byte
		switch operators.Document(which) {
		case operators.ForToken:
			if caller == "" {
				return usage("--for token: whose? --caller is missing, like up=alice")
			}
			if err := operators.OneCaller(caller); err != nil {
				return usage("--caller: %v", err)
			}
			if text, err = t.RenderToken(caller); err != nil {
				return misconfigured(err)
			}
		case operators.ForAAA:
			if caller != "" {
				t = t.Of(caller)
			}
		default:
			if caller != "" {
				return usage("--caller: only what is for tokens and for what signs requests (--for token, --for aaa) is one caller's")
			}
		}
		if text == nil {
			if text, err = t.Render(operators.Document(which)); err != nil {
				return err
			}
		}
		if output != "" {
			if err := replace(output, text); err != nil {
				return err
			}
			if p.json {
				return p.print(rendered{Document: which, File: output, Bytes: len(text)})
			}
			fmt.Fprintf(p.out, "%s is written\n", output)
			return nil
		}
		if p.json {
			return p.print(rendered{Document: which, Text: string(text)})
		}
		_, err = p.out.Write(text)
		return err
	})
	c.Arg("table", "The operators' table").Required().StringVar(&file)
	c.Flag("for", "Which document").Default(string(operators.ForChoria)).EnumVar(&which, string(operators.ForChoria), string(operators.ForDefault), string(operators.ForToken), string(operators.ForAAA))
	c.Flag("caller", "With --for token: whose it is; with --for aaa: only what is about this caller").PlaceHolder("CALLER").StringVar(&caller)
	c.Flag("output", "File to write, in one step; without it standard output").PlaceHolder("FILE").StringVar(&output)
}

// readTable reads a table; what is wrong with it is all said at once.
func readTable(file string) (*operators.Table, error) {
	text, err := readPolicy(file)
	if err != nil {
		return nil, err
	}
	t, err := operators.Parse(file, text)
	return t, misconfigured(err)
}

// readPolicy reads a table or a document; "-" is standard input.
func readPolicy(file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(io.LimitReader(os.Stdin, operators.MaxSize+1))
	}
	info, err := os.Stat(file)
	switch {
	case err != nil:
		return nil, misconfigured(err)
	case !info.Mode().IsRegular():
		return nil, misconfigured(fmt.Errorf("%s is no regular file", file))
	}
	text, err := os.ReadFile(file)
	return text, misconfigured(err)
}

// isTable tells a table from a document by its name.
func isTable(file string) bool { return filepath.Ext(file) != ".rego" }

// replace writes a file in one step: who reads it meanwhile, as Choria Server does at each request, reads the old or the new.
func replace(file string, text []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(text)
	// Everybody may read it; the node refuses one that others may write.
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}

func (p *program) policyDiff(parent *fisk.CmdClause) {
	var old, new string
	c := p.subcommand(parent, "diff", "Compare two tables by what they allow", `
Says who gains or loses which actions on which logs, paths and destinations. Both tables are asked the same
requests, made of their own values: for each role what it just allows, asked by every caller for every action, and
then with one thing changed: each log, path, destination, collective, class, fact, edge of times, length
and rate that either names, and one that neither does. What differs only where several of these come together isn't found.

    logforward policy diff /etc/choria/logforward/operators.yaml operators.yaml

Exit codes: 0 no difference found, 1 they differ, 78 a table is broken.
`, func(context.Context) error {
		before, err := readTable(old)
		if err != nil {
			return err
		}
		after, err := readTable(new)
		if err != nil {
			return err
		}
		return p.differences(operators.Diff(before, after))
	})
	c.Arg("old", "The table as it was").Required().StringVar(&old)
	c.Arg("new", "The table as it is to be").Required().StringVar(&new)
}

func (p *program) differences(c operators.Comparison) error {
	differ := &exitError{exitFailure, nil}
	if p.json {
		if c.Differences == nil {
			c.Differences = []operators.Difference{}
		}
		if err := p.print(c); err != nil || len(c.Differences) == 0 && !c.Cut {
			return err
		}
		return differ
	}
	if c.Cut {
		fmt.Fprintf(p.out, "the tables are too large to be compared whole: what comes is of the first %d requests only\n", c.Requests)
		if len(c.Differences) == 0 {
			return differ
		}
	}
	if len(c.Differences) == 0 {
		fmt.Fprintf(p.out, "no difference among %d requests\n", c.Requests)
		return nil
	}
	rows := [][]string{{"", "ROLES", "ACTIONS", "REQUEST", "CALLERS"}}
	gains := 0
	for _, d := range c.Differences {
		word, roles := "loses", strings.Join(d.Roles, ", ")
		if d.Gains {
			word = "gains"
			gains++
		} else if len(d.Deny) > 0 {
			roles += " (now denied by " + strings.Join(d.Deny, ", ") + ")"
		}
		request := pairs(d.Request)
		if request == "" {
			request = "(any)"
		}
		rows = append(rows, []string{word, roles, strings.Join(d.Actions, ","), request, strings.Join(d.Callers, ", ")})
	}
	if err := table(p.out, rows...); err != nil {
		return err
	}
	fmt.Fprintf(p.out, "\n%d gains and %d losses, found by %d requests\n", gains, len(c.Differences)-gains, c.Requests)
	return differ
}

// destinationsOf are the names that a node's settings have; none where no file is given.
func (p *program) destinationsOf(file string) ([]string, error) {
	if file == "" {
		return nil, nil
	}
	v, err := p.load(&given{command: settings.Forward, file: file})
	if err != nil {
		return nil, err
	}
	destinations, _, err := v.destinations()
	if err != nil {
		return nil, misconfigured(err)
	}
	return sortedNames(destinations), nil
}
