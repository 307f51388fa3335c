package policy

import (
	"context"
	"encoding/json"
	"maps"
	"time"
)

// Change is one thing that would have to differ for a document to allow a request.
type Change struct {
	Field string `json:"field"` // what would be another: an input, caller, collective, a fact, a class, ttl, time
	Value string `json:"value"` // that it would have; empty: that it isn't said
}

// Probe asks a document that denies a request what it would allow instead: it changes one thing after the other. What
// takes two changes isn't found.
func (p *Policy) Probe(ctx context.Context, in Input) (changes []Change) {
	for _, c := range attempts(in) {
		if ctx.Err() != nil {
			break
		}
		if p.Decide(ctx, c.in).Allowed {
			changes = append(changes, c.Change)
		}
	}
	return changes
}

type attempt struct {
	Change
	in Input
}

func attempts(in Input) (list []attempt) {
	said := func(name string, value any, shown string) {
		try := in
		try.Data = maps.Clone(in.Data)
		if try.Data == nil {
			try.Data = map[string]any{}
		}
		if value == nil {
			delete(try.Data, name)
		} else {
			try.Data[name] = value
		}
		list = append(list, attempt{Change{name, shown}, try})
	}
	with := func(field, shown string, change func(*Input)) {
		try := in
		change(&try)
		list = append(list, attempt{Change{field, shown}, try})
	}
	if in.Data["reason"] == nil {
		said("reason", "reason", "some reason")
	}
	for _, length := range []string{"15m", "1h", "4h", "1d"} {
		said("for", length, length)
	}
	said("rate", "1MiB/s", "1MiB/s")
	for _, name := range []string{"all", "for", "rate", "path", "destination"} {
		if in.Data[name] != nil {
			said(name, nil, "")
		}
	}
	for _, action := range []string{"status", "start", "stop", "pause", "resume", "redirect"} {
		if action != in.Action {
			with("action", action, func(i *Input) { i.Action = action })
		}
	}
	with("provision", map[bool]string{true: "no", false: "yes"}[in.ProvisionMode], func(i *Input) { i.ProvisionMode = !i.ProvisionMode })
	with("ttl", "10", func(i *Input) { i.TTL = 10 })
	for hour := range 7 * 24 {
		at := in.Time.Truncate(time.Hour).Add(time.Duration(hour+1) * time.Hour)
		with("time", at.Format(time.RFC3339), func(i *Input) { i.Time = at })
	}
	for name, values := range map[string][]any{"environment": {"production", "test", "development", "staging"}} {
		for _, v := range values {
			with("fact "+name, v.(string), func(i *Input) { i.Facts = withFact(in.Facts, name, v) })
		}
	}
	return list
}

func withFact(facts json.RawMessage, name string, value any) json.RawMessage {
	var all map[string]any
	if json.Unmarshal(facts, &all) != nil || all == nil {
		all = map[string]any{}
	}
	all[name] = value
	out, err := json.Marshal(all)
	if err != nil {
		return facts
	}
	return out
}
