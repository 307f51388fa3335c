package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/choria-io/fisk"

	"logforward/internal/control"
)

const reasonHelp = "Why, for those who look at status later"

// why adds the flags that every change has.
func why(c *fisk.CmdClause, forHow, reason *string) {
	c.Flag("for", "End by itself after this long: 90m, 2h, 1d").StringVar(forHow)
	c.Flag("reason", reasonHelp).StringVar(reason)
}

func parseWhy(text string, into *control.Duration) error {
	if text == "" {
		return nil
	}
	d, err := control.ParseDuration(text)
	if err != nil {
		return usage("--for: %v", err)
	}
	*into = d
	return nil
}

// client is the node daemon's, on the socket that is set.
func (p *program) client(set *given) (*control.Client, error) {
	v, err := p.load(set)
	if err != nil {
		return nil, err
	}
	return control.NewClient(v.Text("socket")), nil
}

// ask sends one change and prints its reply.
func (p *program) ask(ctx context.Context, set *given, do func(context.Context, *control.Client) (control.Reply, error)) error {
	client, err := p.client(set)
	if err != nil {
		return err
	}
	reply, err := do(ctx, client)
	if err != nil {
		return explained(err)
	}
	if p.json {
		return p.print(reply)
	}
	text := reply.Message
	if len(reply.Logs) > 1 {
		text += "\nlogs: " + strings.Join(reply.Logs, ", ")
	}
	_, err = fmt.Fprintln(p.out, text)
	return err
}

// explained adds to a policy's refusal how to learn what it would permit.
func explained(err error) error {
	var e *control.Error
	if !errors.As(err, &e) || e.Code != control.CodeRefused || e.Hint != "" {
		return err
	}
	verb, rest, refused := strings.Cut(e.Message, " is not permitted for ")
	caller, _, byPolicy := strings.Cut(rest, ": the policy ")
	if !refused || !byPolicy {
		return err
	}
	return e.WithHint("logforward policy explain --caller %s --action %s, with the inputs such as log=NAME, says what would be", caller, verb)
}

// said renders an operator's word.
func said(o *control.Override) string {
	if o == nil {
		return ""
	}
	s := fmt.Sprintf("%s by %s since %s", o.Verb, o.By, o.Since.UTC().Format(time.RFC3339))
	if !o.Until.IsZero() {
		s += " until " + o.Until.UTC().Format(time.RFC3339)
	}
	if o.Reason != "" {
		s += ": " + o.Reason
	}
	return s
}

// was tells of a change all that is remembered of it.
func was(c control.Change) string {
	var more []string
	if c.Ended != "" {
		more = append(more, c.Ended)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Inputs)) {
		more = append(more, name+"="+c.Inputs[name])
	}
	if c.RequestID != "" {
		more = append(more, "request "+c.RequestID)
	}
	if len(more) == 0 {
		return said(&c.Override)
	}
	return said(&c.Override) + " (" + strings.Join(more, ", ") + ")"
}
