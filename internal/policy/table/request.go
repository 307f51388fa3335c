package table

import (
	"encoding/json"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// request is an input as Choria Server and the node make it, read without believing any of its types.
type request struct {
	aaa        bool
	agent      string
	action     string
	acts       bool // the action is a text
	caller     string
	known      bool // the caller is a text
	collective string
	collected  bool // the collective is a text
	ttl        *big.Rat
	time       time.Time // zero: it doesn't say
	facts      map[string]any
	classes    []any // nil: it doesn't say
	provision  any

	data        map[string]any
	log         string // the one that it is about; empty: all, or it doesn't say
	path        string // as globs compare it
	clean       bool   // the path is one
	pathless    bool   // there is none
	destination string
	unsaid      bool // there is no destination
}

func newRequest(in map[string]any, aaa bool) *request {
	r := &request{aaa: aaa, agent: text(in["agent"]), provision: in["provision_mode"]}
	caller := in["callerid"]
	if aaa {
		claims, _ := in["claims"].(map[string]any)
		caller = claims["callerid"]
	}
	r.action, r.acts = in["action"].(string)
	r.caller, r.known = caller.(string)
	r.collective, r.collected = in["collective"].(string)
	r.ttl = number(in["ttl"])
	r.facts, _ = in["facts"].(map[string]any)
	r.classes, _ = in["classes"].([]any)
	if t, err := time.Parse(time.RFC3339, text(in["time"])); err == nil && timeForm().MatchString(text(in["time"])) {
		r.time = t
	}
	r.data, _ = in["data"].(map[string]any)
	if all, given := r.data["all"]; !given || all == false {
		r.log = text(r.data["log"])
	}
	r.pathless = r.missing("path")
	r.path, r.clean = compared(text(r.data["path"]))
	r.destination, r.unsaid = text(r.data["destination"]), r.missing("destination")
	return r
}

func (r *request) missing(name string) bool {
	v, given := r.data[name]
	return !given || v == ""
}

// timeForm is a time in the range of nanoseconds in 64 bits, which Rego counts in.
var timeForm = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(timeText) })

// lifts tells whether it is a start without a path, which ends a stop and begins nothing.
func (r *request) lifts() bool {
	return r.action == "start" && (r.pathless || r.data["lifts"] == true)
}

// ends tells whether it must say when it ends.
func (r *request) ends() bool {
	return !r.missing("for") || slices.Contains(append(whole(), "start", "stop", "pause", "redirect"), r.action) && !r.lifts()
}

// fact is one of the node's facts as text.
func (r *request) fact(name string) (string, bool) {
	var v any = r.facts
	for part := range strings.SplitSeq(name, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return "", false
		}
		if v, ok = m[part]; !ok {
			return "", false
		}
	}
	switch v := v.(type) {
	case string:
		return v, true
	case bool:
		return map[bool]string{true: "true", false: "false"}[v], true
	}
	if n := number(v); n != nil && n.IsInt() && n.Num().IsInt64() && n.Num().Int64() <= maxWhole && n.Num().Int64() >= -maxWhole {
		return n.Num().String(), true
	}
	return "", false
}

// maxWhole is the greatest whole number that JSON surely carries.
const maxWhole = 1<<53 - 1

func text(v any) string {
	s, _ := v.(string)
	return s
}

func number(v any) *big.Rat {
	switch v := v.(type) {
	case json.Number:
		if n, ok := new(big.Rat).SetString(v.String()); ok && len(v) < 400 {
			return n
		}
	case float64:
		return new(big.Rat).SetFloat64(v)
	case int:
		return new(big.Rat).SetInt64(int64(v))
	}
	return nil
}

// in tells whether a time is within a window, by the clocks on its walls.
func (w window) in(t time.Time) bool {
	t = t.In(w.place)
	day, minute := (int(t.Weekday())+6)%7, t.Hour()*60+t.Minute()
	switch {
	case w.from < w.to:
		return w.days[day] && minute >= w.from && minute < w.to
	case minute >= w.from:
		return w.days[day]
	default:
		return minute < w.to && w.days[(day+6)%7]
	}
}
