package table

import (
	"fmt"
	"slices"
	"strings"
)

// Finding is something about a table that its author should look at.
type Finding struct {
	Where string `json:"where"` // file:line:column
	Field string `json:"field"`
	Text  string `json:"text"`
	// Grave is set for what can't be meant.
	Grave bool `json:"grave"`
}

// Review looks for what is allowed by everything, has no effect, or is wider than it looks. destinations are
// those that the nodes have; none: it isn't known.
func (t *Table) Review(destinations []string) (list []Finding) {
	found := func(grave bool, pointer, format string, args ...any) {
		list = append(list, Finding{t.where(pointer), field(pointer), fmt.Sprintf(format, args...), grave})
	}
	for name := range t.Groups {
		if !t.names(name) {
			found(false, pointer("groups", name), "no role and no rule has this group")
		}
	}
	slices.SortFunc(list, func(a, b Finding) int { return strings.Compare(a.Field, b.Field) })
	t.callerForms(found)
	for i, x := range t.roles {
		at := pointer("roles", x.name)
		x.power(at, found)
		x.effect(at, found)
		for _, d := range t.denials {
			if d.forbids(x) {
				found(true, at, "deny.%s forbids all that this role allows", d.name)
			}
		}
		for j, y := range t.roles {
			if i != j && y.holds(x) && (!x.holds(y) || j < i) {
				found(false, at, "it allows nothing that the role %s doesn't allow, too", y.name)
			}
		}
	}
	for _, x := range slices.Concat(t.roles, t.denials) {
		x.unknownDestinations(destinations, found)
	}
	return list
}

type finder func(grave bool, pointer, format string, args ...any)

func (x *rule) at() string {
	if x.deny {
		return pointer("deny", x.name)
	}
	return pointer("roles", x.name)
}

// names tells whether a list of callers has the group.
func (t *Table) names(group string) bool {
	lists := [][]string{t.Administrators}
	for _, r := range t.Roles {
		lists = append(lists, r.Callers)
	}
	for _, d := range t.Deny {
		lists = append(lists, d.Callers, d.Except)
	}
	return slices.ContainsFunc(lists, func(l []string) bool { return slices.Contains(l, groupForm+group) })
}

// callerForms looks for callers that Choria and the node don't name so.
func (t *Table) callerForms(found finder) {
	look := func(at string, texts []string) {
		for i, c := range texts {
			form, name, _ := strings.Cut(c, "=")
			at := at + pointer(i)
			switch {
			case c == "*" || form == "group":
			case form == "choria" && !strings.ContainsAny(name, ".*?"):
				found(false, at, "%q: the certificates of Choria's users are called NAME.mcollective, unless the fleet is configured otherwise", c)
			case form == "local" && strings.HasPrefix(name, "uid:") && !numeral().MatchString(name[4:]):
				found(false, at, "%q: a local user without a name is local=uid:NUMBER", c)
			case form != "up" && form != "choria" && form != "local":
				found(false, at, "%q: neither Choria (up=, choria=) nor the node's socket (local=) names callers so; is it another issuer's form?", c)
			}
		}
	}
	for _, name := range sortedKeys(t.Groups) {
		look(pointer("groups", name), t.Groups[name])
	}
	look("/administrators", t.Administrators)
	for _, x := range slices.Concat(t.roles, t.denials) {
		look(x.at()+"/callers", x.written.Callers)
		if x.deny {
			look(x.at()+"/except", t.Deny[x.name].Except)
		}
	}
}

// sensitive are files that no log forwarder should be let near.
var sensitive = []string{"/etc/shadow", "/root/.ssh/id_ed25519", "/proc/1/environ"}

// power looks for roles that allow too much.
func (x *rule) power(at string, found finder) {
	changes := slices.DeleteFunc(slices.Clone(x.actions), func(a string) bool { return slices.Contains(reading(), a) })
	all := !slices.ContainsFunc(Changes(), func(a string) bool { return !slices.Contains(changes, a) })
	anybody := slices.ContainsFunc(x.callers, func(g glob) bool { return g.text == "*" })
	limited := len(x.limits) > 0 || len(x.facts) > 0 || len(x.windows) > 0 || x.longest > 0 || x.provisioned == "only"
	switch {
	case all && !limited && anybody:
		found(true, at, "it allows everything to anybody")
	case all && !limited:
		found(false, at, "it allows everything: any path to any destination, on each node and for ever")
	case len(changes) > 0 && anybody:
		found(false, at, "anybody whom the fleet knows may %s", join(changes))
	case slices.Contains(x.actions, "start") && x.limits["paths"] == nil:
		found(false, at, "it may start any path that the node permits (allowed_paths)")
	}
	for i, path := range x.written.Paths {
		for _, file := range sensitive {
			if newGlob(path, pathGlob).match(file) {
				found(false, at+pointer("paths", i), "%s is so wide that it holds %s", path, file)
				break
			}
		}
	}
}

// effect looks for what a role says in vain.
func (x *rule) effect(at string, found finder) {
	has := func(a ...string) bool {
		return slices.ContainsFunc(a, func(a string) bool { return slices.Contains(x.actions, a) })
	}
	if x.longest > 0 && has("redirect") {
		found(false, at+"/actions", "a redirect has no end, so this role with its longest time never allows one")
	}
	if !slices.Contains(x.written.Actions, "*") && has(whole()...) && (x.longest > 0 || x.reason || x.limits["logs"] != nil || x.limits["paths"] != nil || x.limits["destinations"] != nil) {
		found(false, at+"/actions", "apply and rollback are about all that is forwarded, have no end and give no reason, so this role never allows them")
	}
	if x.longest > 0 && !has(Changes()...) {
		found(false, at+"/for", "nothing that it allows has an end")
	}
	if x.rate > 0 && !has("start") {
		found(false, at+"/rate", "only a start has a rate")
	}
	if x.reason && !has(Changes()...) {
		found(false, at+"/reason", "nothing that it allows has a reason")
	}
	if x.limits["logs"] != nil || x.limits["paths"] != nil || x.limits["destinations"] != nil {
		if has("list", "check") {
			found(false, at+"/actions", "list and check are about all logs, which no list of logs, paths or destinations holds")
		}
	}
}

func (x *rule) unknownDestinations(known []string, found finder) {
	for i, g := range x.limits["destinations"] {
		if len(known) > 0 && !slices.ContainsFunc(known, g.match) {
			found(false, x.at()+pointer("destinations", i), "no destination %s is configured; there are %s", g.text, join(known))
		}
	}
}

// holds tells that x allows all that y allows.
func (x *rule) holds(y *rule) bool {
	return x.spans(y) && (x.longest == 0 || y.longest > 0 && y.longest <= x.longest) && (x.rate == 0 || y.rate > 0 && y.rate <= x.rate) &&
		(!x.reason || y.reason) && (x.ttl == 0 || y.ttl > 0 && y.ttl <= x.ttl)
}

// forbids tells that a deny rule applies to all that a role allows.
func (x *rule) forbids(y *rule) bool { return x.except == nil && x.spans(y) }

// spans tells that the conditions which both kinds of rules have hold for x wherever they hold for y.
func (x *rule) spans(y *rule) bool {
	if x.callers != nil && !allWithin(y.callers, x.callers) || x.provisioned != "" && x.provisioned != y.provisioned {
		return false
	}
	for _, a := range y.actions {
		if !slices.Contains(x.actions, a) {
			return false
		}
	}
	for name, list := range x.limits {
		if y.limits[name] == nil || !allWithin(y.limits[name], list) {
			return false
		}
	}
	for _, f := range x.facts {
		if !slices.ContainsFunc(y.facts, func(g fact) bool { return g.name == f.name && allWithin(g.values, f.values) }) {
			return false
		}
	}
	if len(x.windows) == 0 {
		return true
	}
	for _, w := range y.windows {
		if !slices.Contains(x.windows, w) {
			return false
		}
	}
	return len(y.windows) > 0
}

func allWithin(list, others []glob) bool {
	return !slices.ContainsFunc(list, func(g glob) bool { return !g.within(others) })
}
