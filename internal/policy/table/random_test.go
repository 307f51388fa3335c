package table

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// A random table's words, and those of its requests: few, so that they meet, and with all that could break out of a text,
// or be taken for a wildcard of another language.
var (
	poolCallers = []string{"up=alice", "up=al*", "up=a?ice", "choria=alice.mcollective", "choria=*.mcollective", "choria=a*.mcollective", "local=root", "local=*", "*", "up=*",
		"up=a.b", "up=a+b", "up=(a|b)", "up=$x", "up=[a-z]", `up="quote`, "up=back`tick", `up=\d`, "up=ali\u0301ce", "up=ālice", "up=a,b", "up={a}", "up=a b", "okta=x@example.net", "up=#c"}
	poolLogs         = []string{"app", "a*", "syslog", "nginx-*", "*", "a?p", "a.p", "[ab]*", `a"b`, "a`b", "日本*", "App"}
	poolPaths        = []string{"/var/log/app/*.log", "/var/log/nginx/**", "/var/log/**/x.log", "/var/log/app/a.log", "/var/log/audit/*", "/**", "/srv/*/log", "/srv/?/log", "/var/log/a+b.log", "/var/log/**/app/**", "/*", "/var/log/app/(x)$", "/var/log/q\"`'/x", "/var/*/app/*.log", "/var/log/app/??.log"}
	poolDestinations = []string{"central", "staging", "audit", "external", "*", "c*", "s??ging"}
	poolCollectives  = []string{"mcollective", "prod", "pr*", "*"}
	poolClasses      = []string{"web", "profile::*", "role::db", "*"}
	poolZones        = []string{"UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Apia", "Australia/Lord_Howe", ""}
	poolFor          = []string{"1h", "4h", "90m", "1d", "1h30m", "500ms", "0.5h", "1w", "200d", "1.001s"}
	poolRates        = []string{"1MiB/s", "1024KiB", "1000kB/s", "1m", "1500", "2GiB/s", "1.5k", "10 MB/s"}
	poolFacts        = map[string][]string{"environment": {"production", "test", "prod*"}, "os.family": {"Debian", "RedHat", "*"}, "cores": {"4", "8", "1?"}, "virtual": {"true", "false"}}
)

type random struct{ *rand.Rand }

func newRandom(seed uint64) random { return random{rand.New(rand.NewPCG(seed, 5))} }

// often is true in n of 10 cases.
func (r random) often(n int) bool { return r.IntN(10) < n }

func pick[T any](r random, list []T) T { return list[r.IntN(len(list))] }

func (r random) some(list []string, most int) []string {
	var out []string
	for range 1 + r.IntN(most) {
		if s := pick(r, list); !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

func (r random) scope() Scope {
	s := Scope{}
	maybe := func(n int, put func()) {
		if r.often(n) {
			put()
		}
	}
	maybe(3, func() { s.Logs = r.some(poolLogs, 3) })
	maybe(4, func() { s.Paths = r.some(poolPaths, 3) })
	maybe(3, func() { s.Destinations = r.some(poolDestinations, 2) })
	maybe(2, func() { s.Collectives = r.some(poolCollectives, 2) })
	maybe(2, func() { s.Classes = r.some(poolClasses, 2) })
	maybe(3, func() {
		s.Facts = map[string]Values{}
		for range 1 + r.IntN(2) {
			name := pick(r, slices.Sorted(maps.Keys(poolFacts)))
			s.Facts[name] = r.some(poolFacts[name], 2)
		}
	})
	maybe(2, func() {
		for range 1 + r.IntN(2) {
			s.Times = append(s.Times, r.window())
		}
	})
	maybe(1, func() { s.Provisioning = pick(r, []string{"never", "only"}) })
	return s
}

func (r random) window() Window {
	w := Window{Zone: pick(r, poolZones)}
	if r.often(7) {
		w.Days = r.some([]string{"mon", "tue", "sat", "sun", "mon-fri", "fri-mon", "sat-sun"}, 2)
	}
	for w.Hours == "" && (len(w.Days) == 0 || r.often(7)) {
		from, to := r.IntN(24*4)*15, r.IntN(24*4+1)*15
		if from != to && (from != 0 || to != 0) {
			w.Hours = fmt.Sprintf("%02d:%02d-%02d:%02d", from/60, from%60, to/60, to%60)
		}
	}
	return w
}

func (r random) actions() []string {
	if r.often(2) {
		return []string{"*"}
	}
	return r.some(Actions(), 4)
}

// table makes a table that [Parse] takes.
func (r random) table() *Table {
	t := &Table{Version: 1, Zone: pick(r, poolZones), Groups: map[string][]string{"one": r.some(poolCallers, 3), "two": r.some(poolCallers, 3)}, Roles: map[string]*Role{}, Deny: map[string]*DenyRule{}}
	if r.often(5) {
		t.Administrators = r.some(poolCallers, 2)
	}
	callers := append(slices.Clone(poolCallers), "group=one", "group=two")
	for i := range 1 + r.IntN(4) {
		role := &Role{About: pick(r, []string{"", "for \"all\"", "METADATA", "`x` # } {", "日本"}), Scope: r.scope()}
		role.Callers, role.Actions = r.some(callers, 4), r.actions()
		if r.often(3) {
			role.For = pick(r, poolFor)
		}
		if r.often(2) {
			role.Rate = pick(r, poolRates)
		}
		if r.often(2) {
			role.Reason = pick(r, []string{"required", "optional"})
		}
		if r.often(1) {
			role.TTL = pick(r, []string{"60s", "2m"})
		}
		t.Roles[fmt.Sprintf("role-%d", i)] = role
	}
	for i := range r.IntN(3) {
		d := &DenyRule{About: "not this", Scope: r.scope()}
		if r.often(6) {
			d.Actions = r.actions()
		}
		if r.often(2) {
			d.Callers = r.some(callers, 2)
		}
		if r.often(3) {
			d.Except = r.some(callers, 2)
		}
		t.Deny[fmt.Sprintf("deny-%d", i)] = d
	}
	return t
}

// instance is some text that a glob may match, or the glob as it is.
func (r random) instance(glob string) string {
	if r.often(2) {
		return glob
	}
	var b strings.Builder
	for i := 0; i < len(glob); i++ {
		switch {
		case strings.HasPrefix(glob[i:], "**"):
			b.WriteString(pick(r, []string{"a", "a/b", "x.log", "**", "*", "app"}))
			i++
		case glob[i] == '*':
			b.WriteString(pick(r, []string{"", "a", "a", "app", "*", "a=b", "/", ".", "日", "?", "\n"}))
		case glob[i] == '?':
			b.WriteString(pick(r, []string{"a", "p", "i", "?", "", "*", "[a-z]", "é"}))
		default:
			b.WriteByte(glob[i])
		}
	}
	s := b.String()
	if r.often(1) {
		s = pick(r, []string{strings.ToUpper(s), s + "x", "x" + s, s + "\n", strings.Replace(s, "l", "ⅼ", 1), " " + s})
	}
	return s
}

// anything is a value of a wrong kind.
func (r random) anything() any {
	return pick(r, []any{nil, true, false, 7.0, 1.5, "", "x", []any{}, []any{"app"}, map[string]any{}, map[string]any{"a": "b"}, -1.0, 1e20})
}

var oddPaths = []string{"/var/log/../log/app/a.log", "/var/log/app/{a,b}.log", "/var/log/app/[ab].log", "/var/log/app/[!a].log", "/var/log/app/[]].log", "/var/log/app/\\*.log", "/var/log/app/**.log", "/var/log/app", "/var/log/app/", "//var/log/app/a.log", "var/log/app/a.log", "/var/log/nginx/{..,a}/x", "/var/**/*.log", "/**", "/*", "/var/log/app/.log", "/var/log/./app/a.log", "/var/log/nginx/a\tb", "/var/log/app/[a-z]?.log", "/etc/shadow", "/a/b/c/d", "/var/log/app/[.][.]/x", "/srv/**/log", "/var/log/app/[a/b].log"}

// request makes an input as it may come, most of it near to what the table speaks of.
func (r random) request(t *Table) map[string]any {
	roles := slices.Sorted(maps.Keys(t.Roles))
	role := t.Roles[pick(r, roles)]
	scope := role.Scope
	if len(t.Deny) > 0 && r.often(4) { // near to a deny rule, by a role's caller
		s := t.Deny[pick(r, slices.Sorted(maps.Keys(t.Deny)))].Scope
		s.Callers, s.Actions = scope.Callers, scope.Actions
		scope = s
	}
	from := func(mine, all []string) string {
		if len(mine) > 0 && r.often(8) {
			return r.instance(pick(r, mine))
		}
		return r.instance(pick(r, all))
	}
	data := map[string]any{}
	in := map[string]any{
		"agent": "logforward", "data": data, "facts": r.facts(scope), "provision_mode": r.often(2), "ttl": float64(pick(r, []int{0, 10, 60, 61, 120, 300})),
		"agents": []any{"logforward"}, "collective": from(scope.Collectives, poolCollectives), "time": r.time(scope.Times).Format(time.RFC3339Nano),
	}
	caller := from(scope.Callers, poolCallers)
	if name, ok := strings.CutPrefix(caller, "group="); ok && t.Groups[name] != nil {
		caller = r.instance(pick(r, t.Groups[name]))
	}
	in["callerid"], in["claims"] = caller, map[string]any{"callerid": caller}
	action := pick(r, Actions())
	if len(scope.Actions) > 0 && scope.Actions[0] != "*" && r.often(9) {
		action = pick(r, scope.Actions)
	}
	in["action"] = action
	classes := []any{}
	for range r.IntN(3) {
		classes = append(classes, from(scope.Classes, poolClasses))
	}
	in["classes"] = classes
	if r.often(9) {
		data["log"] = from(scope.Logs, poolLogs)
	}
	if r.often(7) {
		data["path"] = from(scope.Paths, poolPaths)
		if r.often(2) {
			data["path"] = pick(r, oddPaths)
		}
	}
	if r.often(6) {
		data["destination"] = from(scope.Destinations, poolDestinations)
	}
	if r.often(1) {
		data["all"] = r.often(8)
	}
	if r.often(6) {
		data["for"] = near(r, role.For, poolFor, []string{"0", "0s", "4h1s", "3h59m59.999s", "1h1ms", "x", "1e3s", "１h", "999999999w", "1.0001h", "1h ", "60m", "240m", "µs", "100000d100000d", "86400s"})
	}
	if r.often(5) {
		data["rate"] = near(r, role.Rate, poolRates, []string{"0", "unlimited", "1KiB/s", "1kib/S", "1048577", "1048576.5", "1 mib /s", "0.5", "999999999999999TiB", "1K", "1048576B/s", "1MB/s/s", "-1"})
	}
	if r.often(6) {
		data["reason"] = pick(r, []any{"disk", "", " ", "-", "é", "7"})
	}
	if r.often(1) {
		data["lifts"] = r.often(8)
	}
	if r.often(2) {
		data["current"] = from(scope.Destinations, poolDestinations)
	}
	// Something missing, or of a wrong kind.
	for range r.IntN(2) {
		m := in
		if r.often(5) {
			m = data
		}
		if len(m) > 0 {
			name := pick(r, slices.Sorted(maps.Keys(m)))
			if r.often(5) || name == "time" {
				delete(m, name)
			} else {
				m[name] = r.anything()
			}
		}
	}
	return in
}

func near(r random, mine string, all, odd []string) string {
	switch {
	case mine != "" && r.often(4):
		return mine
	case r.often(5):
		return pick(r, all)
	}
	return pick(r, odd)
}

func (r random) facts(s Scope) map[string]any {
	facts := map[string]any{"os": map[string]any{"family": pick(r, []string{"Debian", "RedHat"})}, "cores": pick(r, []any{4.0, "4", 8.0, 16.0, 4.5, 1e20}), "virtual": pick(r, []any{true, false, "true"}), "environment": pick(r, []any{"production", "test", "prod-2", "Production"})}
	for name, values := range s.Facts {
		if !strings.Contains(name, ".") && r.often(6) {
			facts[name] = r.instance(pick(r, values))
		}
	}
	if r.often(1) {
		delete(facts, pick(r, slices.Sorted(maps.Keys(facts))))
	}
	return facts
}

// time is often at the edge of a window, and sometimes when clocks change.
func (r random) time(windows []Window) time.Time {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(r.IntN(365*24*60)) * time.Minute)
	if r.often(2) {
		at = time.Date(2026, 3, 29, 0, 45, 0, 0, time.UTC).Add(time.Duration(r.IntN(5)) * 15 * time.Minute)
	} else if r.often(2) {
		at = time.Date(2026, 10, 25, 0, 0, 0, 0, time.UTC).Add(time.Duration(r.IntN(12)) * 15 * time.Minute)
	}
	if len(windows) > 0 && r.often(7) {
		w := pick(r, windows)
		if from, to, ok := strings.Cut(w.Hours, "-"); ok {
			minute, _ := clock(pick(r, []string{from, to}))
			if zone, err := time.LoadLocation(w.Zone); err == nil {
				day := at.In(zone)
				at = time.Date(day.Year(), day.Month(), day.Day(), 0, minute, 0, 0, zone).Add(time.Duration(r.IntN(3)-1) * time.Second)
			}
		}
	}
	if r.often(3) {
		return at.In(time.FixedZone("", 3600*(r.IntN(20)-10)))
	}
	return at
}
