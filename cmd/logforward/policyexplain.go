package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/choria-io/fisk"
	"github.com/goccy/go-yaml"

	"logforward/internal/policy"
	operators "logforward/internal/policy/table"
	"logforward/internal/settings"
)

// question is a request as the command line gives it.
type question struct {
	file, caller, action, collective, at, factsFile, route string
	inputs, facts, classes                                 []string
	provision                                              bool
	ttl                                                    int
}

func (p *program) policyExplain(parent *fisk.CmdClause) {
	var q question
	c := p.subcommand(parent, "explain", "Tell whether a request is allowed, by which rule, and what would have to differ", `
Decides on one request as Choria Server and the node would. INPUTS are those of the action, as for choria req; beside them
what the node fills in: current=DESTINATION, where a log that is redirected goes now, and lifts=true for a start that only ends a stop.
The node asks about the real path, too, where path leads elsewhere by symbolic links, and about for together with what the caller had of late.

    logforward policy explain --policy operators.yaml --caller up=oncall-eve --action pause log=nginx for=6h reason=disk
    logforward policy explain --caller local=root --action resume all=true reason=done
    logforward policy explain --policy operators.yaml --caller up=ops-bob --action start log=a path='/var/log/app/*.log' \
        --fact environment=production --fact os.family=Debian --class role::app --at '2026-11-27 22:30'

A table is asked directly, and the document that it is rendered into as well. Of a document written by hand only the document
knows why; there one thing after the other is changed, to see what it would allow instead.

Exit codes: 0 allowed, 3 denied, 2 wrong usage, 78 the table or document is broken.
`, func(ctx context.Context) error { return p.explain(ctx, q) })
	c.Arg("inputs", "Inputs of the action: log=nginx path=/var/log/x destination=central for=1h rate=1MiB/s reason=… all=true").StringsVar(&q.inputs)
	c.Flag("policy", "The table, or the Rego document (*.rego)").Default(defaultPolicy()).PlaceHolder("FILE").StringVar(&q.file)
	c.Flag("caller", "Who asks: up=alice, choria=alice.mcollective, local=root").Required().StringVar(&q.caller)
	c.Flag("action", "What for").Required().EnumVar(&q.action, operators.Actions()...)
	c.Flag("fact", "A fact of the node; os.family is family within os").PlaceHolder("NAME=VALUE").StringsVar(&q.facts)
	c.Flag("facts", "File with the node's facts, JSON or YAML").PlaceHolder("FILE").StringVar(&q.factsFile)
	c.Flag("class", "A class of the node").PlaceHolder("NAME").StringsVar(&q.classes)
	c.Flag("collective", "Where the request came from; empty is the node's own socket").Default("mcollective").StringVar(&q.collective)
	c.Flag("at", "When: RFC 3339, or 2026-11-27 22:30 in this machine's zone; now, if absent").PlaceHolder("TIME").StringVar(&q.at)
	c.Flag("provision", "The node is being provisioned").UnNegatableBoolVar(&q.provision)
	c.Flag("ttl", "The request's time to live, in seconds").Default("60").IntVar(&q.ttl)
	c.Flag("for", "Where it is decided: by Choria Server and the node, or where requests are signed").Default("choria").EnumVar(&q.route, "choria", "aaa")
}

func defaultPolicy() string {
	for _, s := range settings.All() {
		if s.Name == "policy" {
			return s.Default
		}
	}
	return ""
}

func (p *program) explain(ctx context.Context, q question) error {
	in, err := q.input()
	if err != nil {
		return err
	}
	text, err := readPolicy(q.file)
	if errors.Is(err, fs.ErrNotExist) && q.file == defaultPolicy() {
		return misconfigured(fmt.Errorf("no policy is installed here (%s): name a table or a document with --policy", q.file))
	}
	if err != nil {
		return err
	}
	if isTable(q.file) {
		t, err := operators.Parse(q.file, text)
		if err != nil {
			return misconfigured(err)
		}
		return p.explainTable(ctx, q, t, in)
	}
	if q.route != "choria" {
		return usage("--for %s: a document says itself what it is for; only a table has both", q.route)
	}
	return p.explainDocument(ctx, q, policy.Read(ctx, q.file, text), in)
}

// input is the request as Choria Server would make it.
func (q question) input() (policy.Input, error) {
	in := policy.Input{
		Agent: operators.Agent, Action: q.action, CallerID: q.caller, Collective: q.collective, Data: map[string]any{}, TTL: q.ttl, Time: time.Now(),
		Classes: append([]string{}, q.classes...), Agents: []string{operators.Agent}, ProvisionMode: q.provision,
	}
	if q.at != "" {
		at, err := time.Parse(time.RFC3339, q.at)
		for _, layout := range []string{"2006-01-02 15:04", "2006-01-02 15:04:05", "2006-01-02"} {
			if err != nil {
				at, err = time.ParseInLocation(layout, q.at, time.Local)
			}
		}
		if err != nil {
			return in, usage("--at: %.40q is no time like 2026-11-27T22:30:00+01:00 or 2026-11-27 22:30", q.at)
		}
		in.Time = at
	}
	for _, text := range q.inputs {
		name, value, ok := strings.Cut(text, "=")
		if !ok {
			return in, usage("%.80q is no input like log=nginx", text)
		}
		switch name {
		case "log", "path", "destination", "for", "rate", "reason", "from", "current":
			in.Data[name] = value
		case "all", "drain", "lifts":
			is, err := strconv.ParseBool(value)
			if err != nil {
				return in, usage("%s: %.40q is neither true nor false", name, value)
			}
			in.Data[name] = is
		default:
			return in, usage("%.40q is no input; there are log, path, destination, for, rate, reason, from, all, drain, and what the node fills in: current, lifts", name)
		}
	}
	facts, err := q.knowledge()
	if err != nil {
		return in, err
	}
	in.Facts, err = json.Marshal(facts)
	return in, err
}

// knowledge are the facts of the file, and above them those of the command line.
func (q question) knowledge() (map[string]any, error) {
	facts := map[string]any{}
	if q.factsFile != "" {
		text, err := os.ReadFile(q.factsFile)
		if err != nil {
			return nil, misconfigured(err)
		}
		plain, err := yaml.YAMLToJSON(text) // JSON is YAML, too
		if err != nil {
			return nil, misconfigured(fmt.Errorf("%s: %w", q.factsFile, err))
		}
		if err := json.Unmarshal(plain, &facts); err != nil {
			return nil, misconfigured(fmt.Errorf("%s: facts are named values: %w", q.factsFile, err))
		}
	}
	for _, text := range q.facts {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, usage("--fact: %.80q is no fact like environment=production", text)
		}
		within := facts
		parts := strings.Split(name, ".")
		for _, part := range parts[:len(parts)-1] {
			inner, ok := within[part].(map[string]any)
			if !ok {
				inner = map[string]any{}
				within[part] = inner
			}
			within = inner
		}
		within[parts[len(parts)-1]] = value
	}
	return facts, nil
}

// explanation is what explain says as JSON.
type explanation struct {
	Allowed bool              `json:"allowed"`           // the verdict
	Rules   []string          `json:"rules"`             // roles or rules that allow it
	Deny    []string          `json:"deny"`              // deny rules that forbid it
	Reason  string            `json:"reason,omitempty"`  // of a document written by hand: why it is denied
	Nearest []operators.Trial `json:"nearest,omitempty"` // of a table: roles that come next to allowing it, and what they lack
	Changes []policy.Change   `json:"changes,omitempty"` // of a document written by hand: each of these alone would have it allowed
}

func (p *program) explainTable(ctx context.Context, q question, t *operators.Table, in policy.Input) error {
	document, route := operators.ForChoria, operators.Node
	asked, err := plain(in)
	if err != nil {
		return err
	}
	if q.route == "aaa" {
		document, route = operators.ForAAA, operators.AAA
		asked["claims"] = map[string]any{"callerid": q.caller}
	}
	v := t.Decide(asked, route)
	rendered, err := t.Render(document)
	if err != nil {
		return err
	}
	// The table's own reading explains; the document decides. They must not differ.
	if route == operators.Node {
		if d := policy.Read(ctx, q.file, rendered).Decide(ctx, in); d.Allowed != v.Allowed {
			return fmt.Errorf("the table says allowed: %v, and the document that it is rendered into: %v (%s); this is a mistake in logforward", v.Allowed, d.Allowed, d.Reason)
		}
	}
	e := explanation{Allowed: v.Allowed, Rules: v.Roles, Deny: v.Denied}
	if !v.Allowed && len(v.Roles) == 0 {
		e.Nearest = v.Nearest(3)
	}
	if p.json {
		return p.verdict(e)
	}
	p.heading(q, e.Allowed, in)
	about := map[string]string{}
	for _, trial := range v.Trials {
		about[fmt.Sprint(trial.Deny, trial.Role)] = trial.About
	}
	name := func(deny bool, rule string) string {
		if a := about[fmt.Sprint(deny, rule)]; a != "" {
			return rule + " (" + a + ")"
		}
		return rule
	}
	for _, r := range v.Roles {
		fmt.Fprintf(p.out, "  role %s\n", harmless(name(false, r)))
	}
	for _, d := range v.Denied {
		fmt.Fprintf(p.out, "  denied by %s, whatever roles allow\n", harmless(name(true, d)))
	}
	if len(v.Roles) == 0 {
		fmt.Fprintln(p.out, "  no role allows it; nearest are:")
	}
	for _, trial := range e.Nearest {
		fmt.Fprintf(p.out, "  - %s\n", harmless(name(false, trial.Role)))
		for _, m := range trial.Missing {
			fmt.Fprintf(p.out, "      %-13s %s\n", m.Field, harmless(m.Text))
		}
	}
	return p.verdict(e)
}

func (p *program) explainDocument(ctx context.Context, q question, document *policy.Policy, in policy.Input) error {
	if err := document.Err(ctx); err != nil {
		return misconfigured(err)
	}
	d := document.Decide(ctx, in)
	e := explanation{Allowed: d.Allowed, Rules: []string{}, Deny: []string{}, Reason: d.Reason}
	if d.Allowed {
		e.Rules = strings.Split(d.Rule, ", ")
	} else {
		e.Changes = document.Probe(ctx, in)
	}
	if p.json {
		return p.verdict(e)
	}
	p.heading(q, e.Allowed, in)
	if d.Allowed {
		fmt.Fprintf(p.out, "  rule %s\n", harmless(d.Rule))
		return nil
	}
	fmt.Fprintf(p.out, "  %s\n", harmless(d.Reason))
	if len(e.Changes) == 0 {
		fmt.Fprintln(p.out, "  nothing that was tried, one thing at a time, would have it allowed")
		return p.verdict(e)
	}
	fmt.Fprintln(p.out, "  it would be allowed with any one of these:")
	times := 0
	for _, c := range e.Changes {
		if c.Field == "time" {
			if times++; times > 1 {
				continue // the next hour suffices
			}
		}
		if c.Value == "" {
			fmt.Fprintf(p.out, "  - without %s\n", harmless(c.Field))
			continue
		}
		fmt.Fprintf(p.out, "  - %s=%s\n", harmless(c.Field), harmless(c.Value))
	}
	return p.verdict(e)
}

// heading repeats the request, for it is what the verdict is about.
func (p *program) heading(q question, allowed bool, in policy.Input) {
	word := "denied "
	if allowed {
		word = "allowed"
	}
	inputs := map[string]string{}
	for name, v := range in.Data {
		inputs[name] = fmt.Sprint(v)
	}
	fmt.Fprintln(p.out, harmless(strings.TrimSpace(fmt.Sprintf("%s  %s %s %s", word, q.caller, q.action, pairs(inputs)))))
}

// verdict ends with the exit code, and prints the document where one was asked for.
func (p *program) verdict(e explanation) error {
	if p.json {
		if err := p.print(e); err != nil {
			return err
		}
	}
	if e.Allowed {
		return nil
	}
	return &exitError{exitRefused, nil}
}

// plain is an input as JSON values.
func plain(in policy.Input) (map[string]any, error) {
	b, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	var m map[string]any
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	return m, errors.Join(d.Decode(&m))
}

// pairs are name=value in the order of names, with quotes where they are needed.
func pairs(m map[string]string) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		value := m[name]
		if strings.ContainsAny(value, " '\"") || value == "" {
			value = strconv.Quote(value)
		}
		out = append(out, name+"="+value)
	}
	return strings.Join(out, " ")
}
