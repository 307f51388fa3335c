package table

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// Version is the one of the table's format.
const Version = 1

// Actions are those of the agent and of the node's socket. [Changes] are those that change what happens to logs, one by one or
// all; apply and rollback change all that a node is told, and name no log, path or destination, have no end and give no reason, so
// that no role that is limited to some, or wants these, permits them.
func Actions() []string { return append(append(reading(), Changes()...), whole()...) }

// Changes are the actions that change what is forwarded.
func Changes() []string { return []string{"start", "stop", "pause", "resume", "redirect"} }

func whole() []string { return []string{"apply", "rollback"} }

func reading() []string { return []string{"status", "list", "check", "plan"} }

// Table is operators.yaml as it is written. Use [Parse]: what it returns holds together.
type Table struct {
	Version int    `json:"version"`
	Zone    string `json:"zone,omitempty"` // of times that name none; empty: UTC
	// Groups name lists of callers; a list names one as group=NAME.
	Groups map[string][]string `json:"groups,omitempty"`
	// Administrators may do everything with all other agents; see default.rego.
	Administrators []string             `json:"administrators,omitempty"`
	Roles          map[string]*Role     `json:"roles"`
	Deny           map[string]*DenyRule `json:"deny,omitempty"`

	file    string
	roles   []*rule // in the file's order
	denials []*rule
	admins  []glob
	where   func(pointer string) string // file:line:column
}

// Scope is what roles and deny rules have in common: each list that is given is a condition, fulfilled by one of its elements.
type Scope struct {
	Callers      []string          `json:"callers,omitempty"`
	Actions      []string          `json:"actions,omitempty"`
	Logs         []string          `json:"logs,omitempty"`
	Paths        []string          `json:"paths,omitempty"`
	Destinations []string          `json:"destinations,omitempty"`
	Collectives  []string          `json:"collectives,omitempty"`
	Facts        map[string]Values `json:"facts,omitempty"` // by name; os.family is family within os
	Classes      []string          `json:"classes,omitempty"`
	Times        []Window          `json:"times,omitempty"`
	Provisioning string            `json:"provisioning,omitempty"` // never or only; empty: both
}

// Role allows actions.
type Role struct {
	About string `json:"about,omitempty"` // for people
	Scope
	For    string `json:"for,omitempty"`    // the longest; an end must be given then
	Rate   string `json:"rate,omitempty"`   // the highest of a start; a rate must be given then
	Reason string `json:"reason,omitempty"` // required or optional
	TTL    string `json:"ttl,omitempty"`    // the longest time to live of a request
}

// DenyRule forbids what roles may allow. Without actions it is about every change.
type DenyRule struct {
	About string `json:"about,omitempty"`
	Scope
	Except []string `json:"except,omitempty"` // callers that it isn't about
}

// Window is a part of the week.
type Window struct {
	Days  []string `json:"days,omitempty"`  // mon, sat-sun; empty: all
	Hours string   `json:"hours,omitempty"` // 08:00-18:00; 22:00-06:00 belongs to the day on which it begins; empty: all
	Zone  string   `json:"zone,omitempty"`  // Europe/Berlin; empty: the table's
}

// Values are one value or several.
type Values []string

// UnmarshalJSON takes texts, truth values and whole numbers, each as text.
func (v *Values) UnmarshalJSON(b []byte) error {
	var many []json.RawMessage
	if json.Unmarshal(b, &many) != nil {
		many = []json.RawMessage{b}
	}
	for _, raw := range many {
		text := string(raw)
		if strings.HasPrefix(text, `"`) {
			if err := json.Unmarshal(raw, &text); err != nil {
				return err
			}
		}
		*v = append(*v, text)
	}
	return nil
}

// rule is a role or a deny rule as it decides.
type rule struct {
	name, about string
	deny        bool
	callers     []glob
	except      []glob
	actions     []string
	limits      map[string][]glob // logs, paths, destinations, collectives, classes
	facts       []fact
	windows     []window
	provisioned string
	longest     int64 // nanoseconds; 0: no limit
	rate        int64 // bytes/s; 0: no limit
	reason      bool
	ttl         int64 // seconds; 0: no limit
	written     Scope
	text        map[string]string // for, rate, ttl as they are written
}

// fact is a condition on one of the node's facts.
type fact struct {
	name   string
	values []glob
}

// Days in their order, as tables and as time.weekday write them.
var dayNames = [...]string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}

var longDays = [...]string{"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"}

// window is [Window] as it decides.
type window struct {
	days     [7]bool // Monday first
	from, to int     // minutes
	zone     string
	place    *time.Location // the zone; one table has one of each name
}

func pointer(parts ...any) string {
	var b strings.Builder
	for _, p := range parts {
		b.WriteByte('/')
		switch v := p.(type) {
		case int:
			b.WriteString(strconv.Itoa(v))
		case string:
			b.WriteString(strings.NewReplacer("~", "~0", "/", "~1").Replace(v))
		}
	}
	return b.String()
}
