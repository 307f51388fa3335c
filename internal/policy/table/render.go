package table

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"
)

// Document says which document a table is rendered into.
type Document string

const (
	// ForChoria is the one that Choria Server and the node decide by: logforward.rego.
	ForChoria Document = "choria"
	// ForAAA is for the JWT of a caller, or for what signs requests.
	ForAAA Document = "aaa"
	// ForDefault is for all other agents: default.rego.
	ForDefault Document = "default"
)

// Documents are those that a table alone is rendered into, for all callers.
func Documents() []Document { return []Document{ForChoria, ForAAA, ForDefault} }

// Render writes the table as a Rego document, which OPA of both generations reads. The same table gives the
// same text. Nothing that a table holds can become a part of the program: it stands there as JSON texts only.
func (t *Table) Render(d Document) ([]byte, error) {
	var b bytes.Buffer
	switch d {
	case ForChoria:
		t.head(&b, `Who may do what with log forwarders, as Choria Server and the node's daemon decide.`,
			`Choria Server decides first, with what the request says. The node decides again, with the log's path
and destination filled in, also about what comes from its socket or was recorded while it was down. Both
must allow. What no role allows is denied, and deny rules stand above all roles.`, "io.choria.mcorpc.authpolicy")
		b.WriteString(regoAllow)
		t.rules(&b, d)
		b.WriteString(regoCaller)
	case ForAAA:
		t.head(&b, `Who may have which requests to log forwarders signed.`,
			`Facts, classes, provisioning and the real path of a log aren't known here: the node decides about them.
What this allows the node may still deny.`, "io.choria.aaasvc")
		b.WriteString(regoAllow + regoDiscovery + regoOthers + t.administrators() + regoOpen)
		t.rules(&b, d)
		b.WriteString(regoClaims)
	case ForDefault:
		t.head(&b, `For every agent that has no policy of its own: with authorization by Rego on, nothing else answers.`,
			`What only reads stays usable for all that the fleet knows; the rest is for administrators.`, "io.choria.mcorpc.authpolicy")
		b.WriteString("\ndefault allow := false\n" + regoOthers + t.administrators() + regoOpen)
		if len(t.admins) > 0 {
			b.WriteString(regoCaller + regoMatches)
		}
	case ForToken:
		return nil, errors.New("a token's document is one caller's")
	default:
		return nil, fmt.Errorf("there is no document %q", d)
	}
	text, err := format.SourceWithOpts("rendered.rego", b.Bytes(), format.Opts{RegoVersion: ast.RegoV1})
	if err != nil {
		return nil, fmt.Errorf("render: %w", err)
	}
	return text, nil
}

// Of is the table as far as it is about one caller, whose token carries no more than that.
func (t *Table) Of(caller string) *Table {
	own := *t
	own.roles = slices.DeleteFunc(slices.Clone(t.roles), func(x *rule) bool { return !matches(x.callers, caller) })
	own.denials = slices.DeleteFunc(slices.Clone(t.denials), func(x *rule) bool {
		return x.callers != nil && !matches(x.callers, caller) || matches(x.except, caller)
	})
	own.admins = slices.DeleteFunc(slices.Clone(t.admins), func(g glob) bool { return !g.match(caller) })
	return &own
}

func (t *Table) head(b *bytes.Buffer, what, how, pkg string) {
	for _, line := range strings.Split(what+"\n\n"+how+"\n\nWritten by \"logforward policy render\" from the operators' table: change that, not this.", "\n") {
		b.WriteString(strings.TrimSuffix("# "+line, " ") + "\n")
	}
	fmt.Fprintf(b, "package %s\n\nimport rego.v1\n", pkg)
}

func (t *Table) administrators() string {
	if len(t.admins) == 0 {
		return ""
	}
	return regoAdministrators + "\nadministrators := " + globTable(t.admins) + "\n"
}

// rules writes the tables, and what reads them as far as they need it.
func (t *Table) rules(b *bytes.Buffer, d Document) {
	denials := slices.Clone(t.denials)
	if d == ForAAA {
		denials = slices.DeleteFunc(denials, (*rule).unknownToAAA)
	}
	uses := map[string]bool{}
	b.WriteString("\nroles := ")
	writeRules(b, t.roles, d, uses)
	if len(denials) > 0 {
		b.WriteString("\n# Above all roles.\ndenials := ")
		writeRules(b, denials, d, uses)
	}
	conditions := []struct{ field, call, code string }{
		{"logs", "log_within(role)", regoLogRole},
		{"paths", "path_within(role)", regoPathRole},
		{"destinations", "destination_within(role)", regoDestinationRole},
		{"for", "for_within(role)", regoForRole},
		{"rate", "rate_within(role)", regoRateRole},
		{"reason", "reason_within(role)", regoReasonRole},
		{"ttl", "ttl_within(role)", regoTTLRole},
		{"collectives", "collective_within(role)", regoCollectiveRole},
		{"facts", "facts_within(role)", regoFactRole},
		{"classes", "classes_within(role)", regoClassRole},
		{"provisioning", "provisioning_within(role)", regoProvisioningRole},
		{"times", "times_within(role)", regoTimeRole},
	}
	fmt.Fprintf(b, "\n# The roles that allow this.\nrule contains name if {\n\tinput.agent == %s\n\tsome name, role in roles\n\tinput.action in role.actions\n\tmatches(role.callers, caller)\n", quoted(Agent))
	for _, c := range conditions {
		if uses["role "+c.field] {
			b.WriteString("\t" + c.call + "\n")
		}
	}
	b.WriteString("}\n")
	for _, c := range conditions {
		if uses["role "+c.field] {
			b.WriteString(c.code)
		}
	}
	t.denied(b, denials, uses)
	either := func(fields ...string) bool {
		return slices.ContainsFunc(fields, func(f string) bool { return uses["role "+f] || uses["deny "+f] })
	}
	for _, shared := range []struct {
		is   bool
		code string
	}{
		{either("paths"), regoPath},
		{uses["role for"] || uses["role rate"], regoThousandths},
		{either("facts"), regoFact},
		{either("provisioning"), regoProvisioning},
		{either("times"), regoTime},
		{either("logs", "paths", "destinations") || uses["role for"] || uses["role rate"] || uses["role reason"], regoGiven},
		{either("logs", "paths", "destinations"), regoLog},
		{either("paths", "destinations") || uses["role for"] || uses["role rate"], regoSaid},
		{uses["role for"] || uses["role rate"], regoLifts},
	} {
		if shared.is {
			b.WriteString(shared.code)
		}
	}
	b.WriteString(regoMatches)
}

func (t *Table) denied(b *bytes.Buffer, denials []*rule, uses map[string]bool) {
	if len(denials) == 0 {
		b.WriteString("\n# There are no deny rules.\ndenied := set()\n")
		return
	}
	b.WriteString(regoDenied)
	for _, c := range []struct{ field, code string }{
		{"callers", regoCallerDeny}, {"except", regoExceptDeny}, {"logs", regoLogDeny}, {"paths", regoPathDeny},
		{"destinations", regoDestinationDeny}, {"collectives", regoCollectiveDeny}, {"facts", regoFactDeny},
		{"classes", regoClassDeny}, {"provisioning", regoProvisioningDeny}, {"times", regoTimeDeny},
	} {
		if uses["deny "+c.field] {
			b.WriteString(c.code)
		}
	}
}

// writeRules writes rules as an object by name, and notes which fields they use.
func writeRules(b *bytes.Buffer, rules []*rule, d Document, uses map[string]bool) {
	if len(rules) == 0 {
		b.WriteString("{}\n")
		return
	}
	b.WriteString("{\n")
	for _, x := range rules {
		whose := "role "
		if x.deny {
			whose = "deny "
		}
		if x.about != "" {
			fmt.Fprintf(b, "\t# %s: %s\n", x.name, x.about)
		}
		fmt.Fprintf(b, "\t%s: {\n", quoted(x.name))
		put := func(field, value string) {
			uses[whose+field] = true
			fmt.Fprintf(b, "\t\t%s: %s,\n", quoted(field), value)
		}
		if len(x.callers) > 0 {
			put("callers", globTable(x.callers))
		}
		if len(x.except) > 0 {
			put("except", globTable(x.except))
		}
		put("actions", setOf(x.actions))
		for _, field := range []string{"logs", "paths", "destinations", "collectives", "classes"} {
			if list := x.limits[field]; len(list) > 0 && !(field == "classes" && d == ForAAA) {
				put(field, globTable(list))
			}
		}
		if len(x.facts) > 0 && d != ForAAA {
			var facts []string
			for _, f := range x.facts {
				facts = append(facts, quoted(f.name)+": "+globTable(f.values))
			}
			put("facts", inBraces(facts))
		}
		if len(x.windows) > 0 {
			var windows []string
			for _, w := range x.windows {
				windows = append(windows, w.rego())
			}
			put("times", "[\n\t\t\t"+strings.Join(windows, ",\n\t\t\t")+",\n\t\t]")
		}
		if x.provisioned != "" && d != ForAAA {
			put("provisioning", quoted(x.provisioned))
		}
		if x.longest > 0 {
			put("for", fmt.Sprint(x.longest))
		}
		if x.rate > 0 {
			put("rate", fmt.Sprint(x.rate))
		}
		if x.reason {
			put("reason", "true")
		}
		if x.ttl > 0 {
			put("ttl", fmt.Sprint(x.ttl))
		}
		b.WriteString("\t},\n")
	}
	b.WriteString("}\n")
}

func (w window) rego() string {
	var days []string
	for i, is := range w.days {
		if is {
			days = append(days, longDays[i])
		}
	}
	return fmt.Sprintf(`{"days": %s, "from": %d, "to": %d, "zone": %s}`, setOf(days), w.from, w.to, quoted(w.zone))
}

// globTable is a list as an object: what is written, and its regular expression, "" where it has no wildcard.
func globTable(list []glob) string {
	var pairs []string
	seen := map[string]bool{}
	for _, g := range list {
		expression := ""
		if !g.plain {
			expression = g.expression()
		}
		if !seen[g.text] {
			seen[g.text] = true
			pairs = append(pairs, quoted(g.text)+": "+quoted(expression))
		}
	}
	return inBraces(pairs)
}

func setOf(list []string) string {
	var out []string
	for _, s := range list {
		out = append(out, quoted(s))
	}
	return "{" + strings.Join(out, ", ") + "}"
}

// wide is where a list is broken into lines, in characters.
const wide = 90

func inBraces(pairs []string) string {
	if line := strings.Join(pairs, ", "); len(line) <= wide {
		return "{" + line + "}"
	}
	return "{\n\t\t\t" + strings.Join(pairs, ",\n\t\t\t") + ",\n\t\t}"
}

// quoted is a text as JSON, which Rego reads the same.
func quoted(text string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(text) // a text can be encoded
	return strings.TrimSuffix(b.String(), "\n")
}
