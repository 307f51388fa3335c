package table

import (
	"fmt"
	"slices"
	"strings"
)

// otherwise are a deny rule's conditions that are known not to hold. What a request doesn't say, and the
// node wouldn't fill in, may be anything.
func (x *rule) otherwise(r *request) (list []Missing) {
	miss := func(field, format string, args ...any) {
		list = append(list, Missing{field, fmt.Sprintf(format, args...)})
	}
	if x.callers != nil && r.known && !matches(x.callers, r.caller) {
		miss("callers", "it is about %s", join(x.written.Callers))
	}
	if r.known && matches(x.except, r.caller) {
		miss("except", "it isn't about this caller")
	}
	if r.acts && !slices.Contains(x.actions, r.action) {
		miss("actions", "it is about %s", join(x.actions))
	}
	if logs := x.limits["logs"]; logs != nil && r.log != "" && !matches(logs, r.log) {
		miss("logs", "it is about %s", join(x.written.Logs))
	}
	if paths := x.limits["paths"]; paths != nil && r.elsewhere(paths) {
		miss("paths", "it is about %s", join(x.written.Paths))
	}
	if d := x.limits["destinations"]; d != nil {
		if r.unsaid && r.log != "" && r.acts && r.action != "redirect" || r.destination != "" && !matches(d, r.destination) {
			miss("destinations", "it is about %s", join(x.written.Destinations))
		}
	}
	if c := x.limits["collectives"]; c != nil && r.collected && !matches(c, r.collective) {
		miss("collectives", "it is about %s", join(x.written.Collectives))
	}
	for _, f := range x.facts {
		if v, ok := r.fact(f.name); ok && !matches(f.values, v) {
			miss("facts", "it is about nodes whose %s is %s", f.name, join(x.written.Facts[f.name]))
		}
	}
	if c := x.limits["classes"]; c != nil && r.classes != nil && !slices.ContainsFunc(r.classes, func(v any) bool { return holds(c, v) }) {
		miss("classes", "it is about nodes with %s", join(x.written.Classes))
	}
	if x.provisioned == "only" && r.provision == false || x.provisioned == "never" && r.provision == true {
		miss("provisioning", "it is about provisioning: %s", x.provisioned)
	}
	if len(x.windows) > 0 && !r.time.IsZero() && !slices.ContainsFunc(x.windows, func(w window) bool {
		in, err := w.in(r.time)
		return in || err != nil
	}) {
		miss("times", "it is about %s", times(x.written.Times))
	}
	return list
}

// elsewhere tells that nothing of what is asked for can be one of the paths.
func (r *request) elsewhere(paths []glob) bool {
	switch {
	case r.pathless:
		return r.log != "" // the node fills it in
	case !r.clean:
		return false
	case !strings.ContainsAny(r.path, "*?"+string(tree)):
		return !matches(paths, r.path)
	}
	return !slices.ContainsFunc(paths, func(g glob) bool { return !apart(g.text, r.path) })
}

// apart tells that two globs surely have nothing in common: they begin otherwise, or differ in depth.
func apart(permitted, asked string) bool {
	a, b := beginning(permitted), beginning(asked)
	if !strings.HasPrefix(a, b) && !strings.HasPrefix(b, a) {
		return true
	}
	return !strings.Contains(permitted, "**") && least(asked) > strings.Count(permitted, "/") ||
		!strings.ContainsRune(asked, tree) && least(permitted) > strings.Count(asked, "/")
}

// beginning is what stands before the first wildcard.
func beginning(path string) string {
	if i := strings.IndexAny(path, "*?"+string(tree)); i >= 0 {
		return path[:i]
	}
	return path
}

// least is the smallest depth of what a glob matches. A ** at the end of a table's glob stands for something,
// but for nothing in what is asked for.
func least(path string) int {
	n := strings.Count(path, "/")
	for part := range strings.SplitSeq(strings.TrimSuffix(path, "/**"), "/") {
		if part == "**" || part == string(tree) {
			n--
		}
	}
	return n
}
