package table

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"logforward/internal/control"
)

// Parse reads a table. Every fault is reported, each as "name:line:column: field: what"; name is only for these.
func Parse(name string, content []byte) (*Table, error) {
	s, err := readYAML(name, content)
	if err != nil {
		return nil, err
	}
	if err := s.validate(); err != nil {
		return nil, err
	}
	if err := s.err(); err != nil {
		return nil, err
	}
	plain, err := json.Marshal(s.value)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	t := &Table{file: name, where: s.where}
	d := json.NewDecoder(bytes.NewReader(plain))
	d.DisallowUnknownFields()
	if err := d.Decode(t); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	r := &reader{source: s, table: t}
	r.all()
	if err := s.err(); err != nil {
		return nil, err
	}
	return t, nil
}

// jsonFields are the names of a struct's fields, those of embedded ones too.
func jsonFields(v any) (names []string) {
	t := reflect.TypeOf(v)
	for i := range t.NumField() {
		f := t.Field(i)
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous:
			names = append(names, jsonFields(reflect.Zero(f.Type).Interface())...)
		case tag != "":
			names = append(names, tag)
		}
	}
	return names
}

// reader makes rules of what is written.
type reader struct {
	*source
	table *Table
	zones map[string]*time.Location
}

func (r *reader) all() {
	t := r.table
	r.zones = map[string]*time.Location{"UTC": time.UTC}
	r.zone("/zone", t.Zone)
	for _, name := range r.keys["/groups"] {
		for i, c := range t.Groups[name] {
			at := pointer("groups", name, i)
			if strings.HasPrefix(c, groupForm) {
				r.fault(at, "a group holds callers, no groups")
			} else {
				r.caller(at, c)
			}
		}
	}
	t.admins = r.callers("/administrators", t.Administrators)
	for _, name := range r.keys["/roles"] {
		t.roles = append(t.roles, r.role(name, t.Roles[name]))
	}
	for _, name := range r.keys["/deny"] {
		t.denials = append(t.denials, r.denial(name, t.Deny[name]))
	}
}

func (r *reader) role(name string, w *Role) *rule {
	at := pointer("roles", name)
	x := r.scope(at, w.Scope)
	x.name, x.about, x.reason = name, r.line(at+"/about", w.About), w.Reason == "required"
	x.text = map[string]string{"for": w.For, "rate": w.Rate, "ttl": w.TTL}
	if w.For != "" {
		d, ok := duration(w.For)
		if !ok || d.Sign() == 0 || !d.IsInt64() || d.Int64() > int64(control.MaxDuration) {
			r.fault(at+"/for", "%.40q is no duration like 90m, 4h, 1d or 1h30m, longer than 0 and at most ten years", w.For)
		} else {
			x.longest = d.Int64()
		}
	}
	if w.Rate != "" {
		n, ok := rateOf(w.Rate)
		switch {
		case !ok:
			r.fault(at+"/rate", "%.40q is no rate like 5MiB/s or 800kB/s", w.Rate)
		case n.Sign() == 0 || n.Int64()%1000 != 0 || !n.IsInt64() || n.Int64() > 1000*control.MaxRate:
			r.fault(at+"/rate", "%.40q is no whole number of bytes per second from 1B/s to 1TiB/s", w.Rate)
		default:
			x.rate = n.Int64() / 1000
		}
	}
	if w.TTL != "" {
		d, ok := duration(w.TTL)
		if !ok || !d.IsInt64() || d.Int64() <= 0 || d.Int64()%int64(time.Second) != 0 || d.Int64() > int64(24*time.Hour) {
			r.fault(at+"/ttl", "%.40q is no time like 60s, in whole seconds, at most a day", w.TTL)
		} else {
			x.ttl = d.Int64() / int64(time.Second)
		}
	}
	return x
}

func (r *reader) denial(name string, w *DenyRule) *rule {
	at := pointer("deny", name)
	if len(w.Actions) == 0 {
		w.Actions = append(Changes(), whole()...)
	}
	x := r.scope(at, w.Scope)
	x.name, x.about, x.deny = name, r.line(at+"/about", w.About), true
	x.except = r.callers(at+"/except", w.Except)
	return x
}

func (r *reader) scope(at string, w Scope) *rule {
	x := &rule{written: w, limits: map[string][]glob{}, provisioned: w.Provisioning}
	x.callers = r.callers(at+"/callers", w.Callers)
	x.actions = w.Actions
	if slices.Contains(w.Actions, "*") {
		x.actions = Actions()
	}
	for _, list := range []struct {
		field string
		texts []string
		check func(string) error
		kind  kind
	}{
		{"logs", w.Logs, checkLog, textGlob},
		{"paths", w.Paths, checkPath, pathGlob},
		{"destinations", w.Destinations, checkDestination, textGlob},
		{"collectives", w.Collectives, checkText, textGlob},
		{"classes", w.Classes, checkText, textGlob},
	} {
		for i, text := range list.texts {
			if err := list.check(text); err != nil {
				r.fault(at+pointer(list.field, i), "%v", err)
				continue
			}
			x.limits[list.field] = append(x.limits[list.field], newGlob(text, list.kind))
		}
	}
	for _, name := range r.keys[at+"/facts"] {
		for _, v := range w.Facts[name] {
			if err := checkText(v); err != nil {
				r.fault(at+"/facts"+pointer(name), "%v", err)
			}
		}
		x.facts = append(x.facts, fact{name, globs(w.Facts[name], textGlob)})
	}
	for i, w := range w.Times {
		x.windows = append(x.windows, r.window(at+pointer("times", i), w))
	}
	return x
}

func (r *reader) window(at string, w Window) window {
	x := window{to: 24 * 60, zone: w.Zone}
	if x.zone == "" {
		x.zone = r.table.Zone
	}
	if x.zone == "" {
		x.zone = "UTC"
	}
	r.zone(at+"/zone", w.Zone)
	x.place = r.zones[x.zone]
	for i, text := range w.Days {
		if err := x.add(text); err != nil {
			r.fault(at+pointer("days", i), "%v", err)
		}
	}
	if len(w.Days) == 0 {
		x.days = [7]bool{true, true, true, true, true, true, true}
	}
	if w.Hours != "" {
		if err := x.between(w.Hours); err != nil {
			r.fault(at+"/hours", "%v", err)
		}
	}
	return x
}

// add reads a day, or a range of days.
func (w *window) add(text string) error {
	first, last, ranged := strings.Cut(text, "-")
	if !ranged {
		last = first
	}
	from, to := slices.Index(dayNames[:], first), slices.Index(dayNames[:], last)
	if from < 0 || to < 0 {
		return fmt.Errorf("%.20q is none of %s, nor a range as mon-fri", text, strings.Join(dayNames[:], ", "))
	}
	for i := from; ; i = (i + 1) % 7 {
		w.days[i] = true
		if i == to {
			return nil
		}
	}
}

func (w *window) between(text string) (err error) {
	from, to, ok := strings.Cut(text, "-")
	if !ok {
		return fmt.Errorf("%.20q are no hours like 08:00-18:00", text)
	}
	if w.from, err = clock(from); err != nil {
		return err
	}
	if w.to, err = clock(to); err != nil {
		return err
	}
	if w.from == w.to || w.from == 24*60 {
		return fmt.Errorf("%.20q have no length; leave hours out for the whole day", text)
	}
	if w.to == 0 {
		w.to = 24 * 60
	}
	return nil
}

func (r *reader) zone(at, name string) {
	if name == "" {
		return
	}
	// Local is another zone on each node.
	place, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		r.fault(at, "%.60q is no time zone like Europe/Berlin", name)
		return
	}
	if r.zones[name] == nil {
		r.zones[name] = place
	}
}

// line is a text for people as one harmless line.
func (r *reader) line(at, text string) string {
	if err := checkText(text); text != "" && err != nil {
		r.fault(at, "%v", err)
	}
	return text
}
