package table

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Difference is what one table allows and the other doesn't, to some callers alike.
type Difference struct {
	Gains   bool              `json:"gains"`          // the new one allows it
	Roles   []string          `json:"roles"`          // that allow it, in the table that does
	Callers []string          `json:"callers"`        // that gain or lose it
	Actions []string          `json:"actions"`        // that they gain or lose
	Request map[string]string `json:"request"`        // what it says of what these roles limit, and what was changed
	Deny    []string          `json:"deny,omitempty"` // deny rules of the table that doesn't allow it
}

// Comparison is what [Diff] found, and by how many requests.
type Comparison struct {
	Differences []Difference `json:"differences"`
	Requests    int          `json:"requests"` // by how many both were compared
	// Cut: there were too many requests to ask all of them.
	Cut bool `json:"cut"`
}

// maxRequests bounds a comparison; tables of some hundred roles need more.
const maxRequests = 2000000

// Diff compares two tables by requests that are made of their own values. For each role of either there is one that
// it just allows; each is asked by each caller of both for each action, and then with one thing changed: each log, path,
// destination, collective, class, fact, edge of times, length and rate of both, and what neither names. So every role, rule
// or limit that is added, removed, widened or narrowed shows, unless another one hides it; so does each administrator. What differs in the combination
// of several such changes only, isn't found.
func Diff(old, new *Table) Comparison { return diff(old, new, maxRequests) }

func diff(old, new *Table, most int) Comparison {
	d := &differ{old: old, new: new, most: most}
	d.values()
	for _, t := range []*Table{old, new} {
		for _, x := range t.roles {
			d.role(x)
		}
	}
	return Comparison{Differences: append(d.grouped(), d.administrators()...), Requests: d.asked, Cut: d.cut}
}

// administrators are who may do everything with all other agents, by one table only.
func (d *differ) administrators() (list []Difference) {
	callers := map[bool][]string{} // by whether they gain it
	asked := map[string]bool{}
	for _, g := range slices.Concat(d.old.admins, d.new.admins) {
		was, is := matches(d.old.admins, g.instance()), matches(d.new.admins, g.instance())
		if was != is && !asked[g.text] {
			callers[is] = append(callers[is], g.text)
		}
		asked[g.text] = true
	}
	d.asked += len(asked)
	for _, gains := range []bool{true, false} {
		if len(callers[gains]) > 0 {
			slices.Sort(callers[gains])
			list = append(list, Difference{Gains: gains, Roles: []string{"administrators"}, Callers: callers[gains], Actions: []string{"*"}, Request: map[string]string{"agent": "other"}})
		}
	}
	return list
}

// single is one request that differs.
type single struct {
	Difference
	caller, action string
}

// key is all but who asks for what.
func (s single) key() string { return fmt.Sprint(!s.Gains, s.Roles, s.Request, s.Deny) }

// grouped puts together what differs alike: first the callers of an action, then the actions of the same callers.
func (d *differ) grouped() (list []Difference) {
	type group struct {
		first    single
		byAction map[string][]string // callers
	}
	groups := map[string]*group{}
	for _, s := range d.found {
		g := groups[s.key()]
		if g == nil {
			g = &group{first: s, byAction: map[string][]string{}}
			groups[s.key()] = g
		}
		if !slices.Contains(g.byAction[s.action], s.caller) {
			g.byAction[s.action] = append(g.byAction[s.action], s.caller)
		}
	}
	for _, key := range sortedKeys(groups) {
		g := groups[key]
		same := map[string][]string{}
		for _, action := range sortedKeys(g.byAction) {
			slices.Sort(g.byAction[action])
			callers := strings.Join(g.byAction[action], "\n")
			same[callers] = append(same[callers], action)
		}
		for _, callers := range sortedKeys(same) {
			one := g.first.Difference
			one.Callers, one.Actions = strings.Split(callers, "\n"), same[callers]
			list = append(list, one)
		}
	}
	return list
}

type differ struct {
	old, new *Table
	callers  []sample
	samples  map[string][]any // by field of a request
	found    []single
	asked    int
	most     int // requests
	cut      bool
}

// sample is a text that a glob matches, and how it is shown.
type sample struct{ text, shown string }

// instance is some text that the glob matches, and hardly another does.
func (g glob) instance() string {
	var b strings.Builder
	for _, p := range g.pieces {
		switch p.what {
		case literal:
			b.WriteRune(p.char)
		case between:
		case many:
			if g.kind == pathGlob { // a path is also asked for as the glob that it is
				b.WriteString("x")
				continue
			}
			b.WriteString("x-some") // which no ? is
		default:
			b.WriteString("x")
		}
	}
	return b.String()
}

func (d *differ) values() {
	d.samples = map[string][]any{}
	add := func(name string, v any) {
		if !slices.ContainsFunc(d.samples[name], func(have any) bool { return fmt.Sprint(have) == fmt.Sprint(v) }) {
			d.samples[name] = append(d.samples[name], v)
		}
	}
	callers := map[string]string{}
	for _, x := range slices.Concat(d.old.roles, d.new.roles, d.old.denials, d.new.denials) {
		for _, g := range slices.Concat(x.callers, x.except) {
			callers[g.text] = g.instance()
		}
		for _, list := range []struct{ field, name string }{{"logs", "log"}, {"paths", "path"}, {"destinations", "destination"}, {"destinations", "current"}, {"collectives", "collective"}, {"classes", "class"}} {
			for _, g := range x.limits[list.field] {
				add(list.name, g.instance())
				if g.kind == pathGlob {
					add(list.name, g.text) // asked for as a glob
				}
			}
		}
		for _, f := range x.facts {
			for _, g := range f.values {
				add("fact "+f.name, g.instance())
			}
			add("fact "+f.name, "other")
			add("fact "+f.name, nil)
		}
		if x.longest > 0 {
			add("for", time.Duration(x.longest))
			add("for", time.Duration(x.longest)+time.Second)
		}
		if x.rate > 0 {
			add("rate", fmt.Sprint(x.rate))
			add("rate", fmt.Sprint(x.rate+1))
		}
		if x.ttl > 0 {
			add("ttl", json.Number(fmt.Sprint(x.ttl)))
			add("ttl", json.Number(fmt.Sprint(x.ttl+1)))
		}
		for _, w := range x.windows {
			for _, at := range w.edges() {
				add("time", at.Format(time.RFC3339))
			}
		}
	}
	for name, other := range map[string]any{"log": "other", "path": "/other", "destination": "other", "collective": "other", "class": "other", "for": "", "rate": "", "reason": "", "provision_mode": true} {
		add(name, other)
	}
	add("all", true)
	add("provision_mode", false)
	add("reason", "reason")
	for _, shown := range sortedKeys(callers) {
		d.callers = append(d.callers, sample{callers[shown], shown})
	}
	d.callers = append(d.callers, sample{"up=nobody-else", "anybody else"})
}

// edges are moments just within and just without a window, in a week of summer and one of winter.
func (w window) edges() (list []time.Time) {
	for _, month := range []time.Month{time.January, time.July} {
		for day := range 7 {
			for _, minute := range []int{w.from, w.to} {
				at := time.Date(2026, month, 12+day, 0, minute, 0, 0, w.place)
				list = append(list, at, at.Add(-time.Minute))
			}
		}
	}
	return list
}

// role asks around what a role just allows.
func (d *differ) role(x *rule) {
	base := x.witness()
	for _, action := range Actions() {
		differs := map[string]bool{}
		for _, c := range d.callers {
			differs[c.shown] = d.ask(base, c, action, "", nil)
		}
		if !slices.Contains(x.actions, action) {
			continue
		}
		for _, c := range d.callers {
			if differs[c.shown] || !matches(x.callers, c.text) && c.shown != "anybody else" {
				continue
			}
			for _, name := range sortedKeys(d.samples) {
				if name == "current" && action != "redirect" {
					continue // only then a node says it
				}
				for _, v := range d.samples[name] {
					d.ask(base, c, action, name, v)
				}
			}
		}
	}
}

// witness is what a role just allows, but for who asks for what.
func (x *rule) witness() map[string]any {
	first := func(field, none string) string {
		if list := x.limits[field]; len(list) > 0 {
			return list[0].instance()
		}
		return none
	}
	base := map[string]any{
		"log": first("logs", "log"), "path": first("paths", "/path"), "destination": first("destinations", "destination"), "reason": "reason",
		"collective": first("collectives", "collective"), "class": first("classes", "class"), "ttl": json.Number("0"), "provision_mode": x.provisioned == "only",
		"for": time.Hour, "rate": "1", "time": time.Date(2026, 1, 14, 12, 0, 0, 0, time.UTC).Format(time.RFC3339),
	}
	if x.longest > 0 {
		base["for"] = time.Duration(x.longest)
	}
	for _, f := range x.facts {
		base["fact "+f.name] = f.values[0].instance()
	}
	for _, w := range x.windows {
		for _, at := range w.edges() {
			if w.in(at) {
				base["time"] = at.Format(time.RFC3339)
			}
		}
	}
	return base
}

// ask decides on one request by both tables, and tells whether they differ.
func (d *differ) ask(base map[string]any, c sample, action, changed string, value any) bool {
	if d.asked >= d.most {
		d.cut = true
		return false
	}
	d.asked++
	r := maps.Clone(base)
	if changed != "" {
		r[changed] = value
	}
	if slices.Contains(append(whole(), "plan", "list", "check"), action) { // these are about the whole node
		for _, name := range []string{"log", "path", "destination", "current", "for", "rate", "reason"} {
			if changed == name {
				return false
			}
			delete(r, name)
		}
	}
	if action == "redirect" || action == "resume" { // a redirect has no end, and a resume needs none
		if changed != "for" {
			delete(r, "for")
		}
	}
	in := input(r, c.text, action)
	was, is := d.old.allows(in), d.new.allows(in)
	if was == is {
		return false
	}
	allowing, other := d.new, d.old
	if was {
		allowing, other = d.old, d.new
	}
	one := single{caller: c.shown, action: action}
	one.Gains, one.Roles, one.Deny = is, allowing.Decide(in, Node).Roles, other.Decide(in, Node).Denied
	one.Request = allowing.shown(one.Roles, r, changed)
	d.found = append(d.found, one)
	return true
}

// shown is what a request says of things that roles limit, and what was changed.
func (t *Table) shown(roles []string, r map[string]any, changed string) map[string]string {
	out := map[string]string{}
	put := func(name string) {
		v, said := r[name]
		if !said || v == nil || v == "" {
			v = "(none)"
		}
		out[name] = valueText(v)
	}
	for _, x := range t.roles {
		if !slices.Contains(roles, x.name) {
			continue
		}
		for _, list := range []struct{ field, name string }{{"logs", "log"}, {"paths", "path"}, {"destinations", "destination"}} {
			if x.limits[list.field] != nil {
				put(list.name)
			}
		}
		for _, f := range x.facts {
			put("fact " + f.name)
		}
		if _, said := r["for"]; said && x.longest > 0 {
			put("for")
		}
	}
	if changed != "" {
		put(changed)
	}
	return out
}

func valueText(v any) string {
	if d, ok := v.(time.Duration); ok {
		return shortDuration(d)
	}
	return fmt.Sprint(v)
}

func shortDuration(d time.Duration) string {
	s := d.String()
	s = strings.TrimSuffix(s, "0s")
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	if s == "" {
		return "0s"
	}
	return s
}

// input is a request as the node would see it.
func input(r map[string]any, caller, action string) map[string]any {
	data := map[string]any{}
	in := map[string]any{"agent": Agent, "action": action, "callerid": caller, "data": data}
	facts := map[string]any{}
	for name, v := range r {
		switch name {
		case "log", "path", "destination", "reason", "rate", "current":
			data[name] = v
		case "all":
			data["all"] = v
		case "for":
			data["for"] = valueText(v)
		case "collective", "provision_mode", "ttl", "time":
			in[name] = v
		case "class":
			in["classes"] = []any{v}
		default:
			if name, ok := strings.CutPrefix(name, "fact "); ok && v != nil {
				putFact(facts, name, v)
			}
		}
	}
	in["facts"] = facts
	if data["all"] == true {
		delete(data, "log")
	}
	return in
}

func putFact(facts map[string]any, name string, v any) {
	parts := strings.Split(name, ".")
	for _, part := range parts[:len(parts)-1] {
		inner, ok := facts[part].(map[string]any)
		if !ok {
			inner = map[string]any{}
			facts[part] = inner
		}
		facts = inner
	}
	facts[parts[len(parts)-1]] = v
}

// allows is [Table.Decide] without the reasons.
func (t *Table) allows(in map[string]any) bool {
	r := newRequest(in, false)
	return slices.ContainsFunc(t.roles, func(x *rule) bool {
		return slices.Contains(x.actions, r.action) && matches(x.callers, r.caller) && len(x.lacking(r)) == 0
	}) && !slices.ContainsFunc(t.denials, func(x *rule) bool { return len(x.otherwise(r)) == 0 })
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
