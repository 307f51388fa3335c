package table

import (
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// Verdict is what a table says to a request.
type Verdict struct {
	Allowed bool     `json:"allowed"`
	Roles   []string `json:"roles"` // that allow it, sorted
	Denied  []string `json:"deny"`  // deny rules that stand, sorted
	Trials  []Trial  `json:"trials,omitempty"`
}

// Trial is a role, or a deny rule, and what keeps it from applying; nothing: it applies.
type Trial struct {
	Role    string    `json:"role"`            // name of the role, or of the deny rule
	Deny    bool      `json:"deny,omitempty"`  // it is a deny rule
	About   string    `json:"about,omitempty"` // what the table says that it is for
	Missing []Missing `json:"missing,omitempty"`
}

// Missing is a condition that doesn't hold.
type Missing struct {
	Field string `json:"field"` // of the role
	Text  string `json:"text"`  // what it wants, and what the request has
}

// Route is where a request is decided on.
type Route int

const (
	Node Route = iota // Choria Server, and the node itself
	AAA               // what signs requests: it knows nothing of the node
)

// Agent is whose requests a table is about.
const Agent = "logforward"

// Decide reads the table directly: what the rendered Rego says, without Rego. The input is that of Choria Server,
// decoded from JSON. Beside the request's own inputs the node fills in, in data, path and destination of a
// log that is only named; current, where a log that is to be redirected goes now; and lifts, true for a start
// that only ends a stop.
func (t *Table) Decide(in map[string]any, route Route) Verdict {
	v := Verdict{Roles: []string{}, Denied: []string{}}
	r := newRequest(in, route == AAA)
	for _, x := range t.denials {
		if r.aaa && x.unknownToAAA() {
			continue
		}
		trial := Trial{x.name, true, x.about, x.otherwise(r)}
		if len(trial.Missing) == 0 {
			v.Denied = append(v.Denied, x.name)
		}
		v.Trials = append(v.Trials, trial)
	}
	for _, x := range t.roles {
		trial := Trial{x.name, false, x.about, x.lacking(r)}
		if r.agent != Agent {
			trial.Missing = append(trial.Missing, Missing{"agent", fmt.Sprintf("this is about the agent %s", Agent)})
		}
		if len(trial.Missing) == 0 {
			v.Roles = append(v.Roles, x.name)
		}
		v.Trials = append(v.Trials, trial)
	}
	slices.Sort(v.Roles)
	slices.Sort(v.Denied)
	v.Allowed = len(v.Roles) > 0 && len(v.Denied) == 0
	return v
}

// unknownToAAA tells a rule with conditions that only the node can judge.
func (x *rule) unknownToAAA() bool {
	return len(x.facts) > 0 || len(x.limits["classes"]) > 0 || x.provisioned != ""
}

func matches(list []glob, text string) bool {
	return slices.ContainsFunc(list, func(g glob) bool { return g.match(text) })
}

// holds is matches for what may be no text.
func holds(list []glob, v any) bool {
	s, ok := v.(string)
	return ok && matches(list, s)
}

// lacking are a role's conditions that aren't known to hold.
func (x *rule) lacking(r *request) (list []Missing) {
	miss := func(field, format string, args ...any) {
		list = append(list, Missing{field, fmt.Sprintf(format, args...)})
	}
	if !r.known || !matches(x.callers, r.caller) {
		miss("callers", "must be one of %s", x.people())
	}
	if !slices.Contains(x.actions, r.action) {
		miss("actions", "must be one of %s", join(x.written.Actions))
	}
	if logs := x.limits["logs"]; logs != nil && (r.log == "" || !matches(logs, r.log)) {
		miss("logs", "must be one of %s%s", join(x.written.Logs), about(r.log))
	}
	x.lackingPath(r, miss)
	x.lackingDestination(r, miss)
	if x.longest > 0 && r.ends() && !x.short(r) {
		miss("for", "must be given, and at most %s", x.text["for"])
	}
	if x.rate > 0 && (r.action == "start" && !r.lifts() || !r.missing("rate")) {
		n, ok := rateOf(text(r.data["rate"]))
		if !ok || n.Sign() == 0 || n.Cmp(big.NewInt(x.rate*1000)) > 0 {
			miss("rate", "must be given, and at most %s", x.text["rate"])
		}
	}
	if x.reason && slices.Contains(append(Changes(), whole()...), r.action) && !says().MatchString(text(r.data["reason"])) {
		miss("reason", "must be given")
	}
	if x.ttl > 0 && (r.ttl == nil || r.ttl.Sign() < 0 || r.ttl.Cmp(new(big.Rat).SetInt64(x.ttl)) > 0) {
		miss("ttl", "must be at most %s", x.text["ttl"])
	}
	if c := x.limits["collectives"]; c != nil && (!r.collected || !matches(c, r.collective)) {
		miss("collectives", "must be one of %s", join(x.written.Collectives))
	}
	if !r.aaa {
		x.lackingNode(r, miss)
	}
	if len(x.windows) > 0 && !slices.ContainsFunc(x.windows, func(w window) bool {
		return !r.time.IsZero() && w.in(r.time)
	}) {
		miss("times", "must be within %s", times(x.written.Times))
	}
	return list
}

// says is a reason that says something.
var says = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`[\pL\pN]`) })

func (x *rule) lackingPath(r *request, miss func(field, format string, args ...any)) {
	paths := x.limits["paths"]
	if paths == nil {
		return
	}
	switch {
	case r.pathless && r.log == "":
		miss("paths", "must be within %s; it is about all logs", join(x.written.Paths))
	case !r.pathless && !r.clean:
		miss("paths", "may be anything: it isn't clean, or a glob with braces")
	case !r.pathless && !matches(paths, r.path):
		miss("paths", "must be within %s, with all that it can match", join(x.written.Paths))
	}
}

func (x *rule) lackingDestination(r *request, miss func(field, format string, args ...any)) {
	allowed := x.limits["destinations"]
	if allowed == nil {
		return
	}
	// A node fills in where a log goes, but for a redirect's.
	if r.unsaid && (r.log == "" || r.action == "redirect") || !r.unsaid && !holds(allowed, r.data["destination"]) {
		miss("destinations", "must be one of %s%s", join(x.written.Destinations), about(r.log))
		return
	}
	if now, given := r.data["current"]; given && now != "" && !holds(allowed, now) {
		miss("destinations", "where the log goes now must be one of %s", join(x.written.Destinations))
	}
}

func (x *rule) lackingNode(r *request, miss func(field, format string, args ...any)) {
	for _, f := range x.facts {
		if v, ok := r.fact(f.name); !ok || !matches(f.values, v) {
			miss("facts", "%s must be one of %s", f.name, join(x.written.Facts[f.name]))
		}
	}
	if c := x.limits["classes"]; c != nil && !slices.ContainsFunc(r.classes, func(v any) bool { return holds(c, v) }) {
		miss("classes", "the node must have one of %s", join(x.written.Classes))
	}
	switch {
	case x.provisioned == "never" && r.provision != false:
		miss("provisioning", "the node must be known not to be provisioned")
	case x.provisioned == "only" && r.provision != true:
		miss("provisioning", "the node must be being provisioned")
	}
}

// short tells whether it ends soon enough.
func (x *rule) short(r *request) bool {
	d, ok := duration(text(r.data["for"]))
	return ok && d.Sign() > 0 && d.Cmp(big.NewInt(x.longest)) <= 0
}

func about(log string) string {
	if log == "" {
		return "; it is about all logs"
	}
	return ""
}

// people are a role's callers as they are written, with what groups stand for.
func (x *rule) people() string {
	text := join(x.written.Callers)
	if !slices.ContainsFunc(x.written.Callers, func(c string) bool { return strings.HasPrefix(c, groupForm) }) {
		return text
	}
	var all []string
	for _, g := range x.callers {
		all = append(all, g.text)
	}
	return text + " (" + join(all) + ")"
}

func join(list []string) string { return strings.Join(list, ", ") }

func times(list []Window) string {
	var out []string
	for _, w := range list {
		out = append(out, strings.Join(strings.Fields(strings.Join(w.Days, ",")+" "+w.Hours+" "+w.Zone), " "))
	}
	return strings.Join(out, "; ")
}
