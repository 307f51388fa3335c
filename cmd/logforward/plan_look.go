package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"logforward/internal/broker"
	"logforward/internal/control"
	"logforward/internal/node"
	"logforward/internal/rollout"
	"logforward/internal/settings"
)

// listTime is how long the daemon may take to list what it does: an agent's answer waits for it.
const listTime = 2 * time.Second

// growthTime is how long files are watched to tell how fast they grow.
const growthTime = time.Second

// plan tells what the staged set would do here. What is wrong with it is in its problems.
func (p *program) plan(ctx context.Context, set *given, v *values, now rollout.Set, by asker) planned {
	r := planned{State: planUnchanged, Logs: []plannedLog{}, Settings: []plannedChange{}, Problems: []control.Problem{}}
	fault := func(where string, err error) {
		r.Problems = append(r.Problems, control.Problem{Where: where, Problem: err.Error()})
		r.State = planFaulty
	}
	staged, err := rollout.Open(v.Text("staged"))
	switch {
	case errors.Is(err, rollout.ErrNothing):
		r.State = planNothing
	case err != nil:
		fault("staged", err)
		return r
	}
	next := staged.Over(now)
	after, err := settings.Load(settings.Forward, fileThatIs(next.Settings), os.Environ(), set.flags)
	if err != nil {
		fault("settings", err)
		return r
	}
	nv := &values{after, settings.Forward}
	for _, moved := range moves(v, nv, staged) {
		fault("settings", moved)
	}
	if staged.Definitions == "" {
		next.Definitions = nv.Text("forwarders")
	}
	if staged.Settings != "" && startable(v) == nil {
		if err := startable(nv); err != nil {
			fault("settings", fmt.Errorf("the daemon wouldn't start with these: %w", err))
		}
	}
	was, is := barred(v), barred(nv)
	for _, name := range slices.Sorted(maps.Keys(is)) {
		if was[name] == nil { // one that is broken as it is stops no change of something else
			fault("destination "+name, is[name])
		}
	}
	r.Settings = append(r.Settings, changes(settings.Describe(v.Values, nil), settings.Describe(after, nil))...)
	r.Restart = len(r.Settings) > 0
	r.Logs = compare(p.defined(ctx, v, now.Definitions, nil), p.defined(ctx, nv, next.Definitions, fault), heldBy(ctx, v, by))
	r.grow(ctx)
	if r.Policy, err = policyOf(ctx, nv, now, next, &r, by); err != nil {
		fault("policy", err)
	}
	count := map[string]int{}
	for _, l := range r.Logs {
		count[l.Change]++
	}
	var parts []string
	for _, c := range []string{logStarts, logStops, logChanges, logRefused, logStays} {
		if count[c] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", count[c], c))
		}
	}
	if r.Summary = strings.Join(parts, ", "); r.Summary == "" {
		r.Summary = "no logs"
	}
	if r.State == planUnchanged && (count[logStays] < len(r.Logs) || r.Restart || r.Policy == planChanges) {
		r.State = planChanges
	}
	return r
}

// moves are the settings that would have a part of the set put where the daemon doesn't look for it any more, or a rollback
// look where nothing is.
func moves(v, nv *values, staged rollout.Set) (problems []error) {
	for _, s := range []struct {
		name string
		part bool
	}{{"staged", true}, {"former", true}, {"forwarders", staged.Definitions != ""}, {"policy", staged.Policy != ""}} {
		was, is := v.Text(s.name), nv.Text(s.name)
		if s.part && was != is {
			problems = append(problems, fmt.Errorf("%s changes from %s to %s, which can't be done by a set that needs it: change it by itself, with the configuration management", s.name, was, is))
		}
	}
	return problems
}

// startable tells why the daemon wouldn't start.
func startable(v *values) error {
	_, _, err := forwardConfig(v, slog.New(slog.DiscardHandler))
	return err
}

// barred are the destinations that can't be entered with what the settings name, by name. The daemon starts, and tries again and again.
func barred(v *values) map[string]error {
	all := map[string]error{}
	destinations, _, err := v.destinations()
	if err != nil {
		return all
	}
	for name, d := range destinations {
		if err := broker.Check(d.Broker); err != nil {
			all[name] = err
		}
	}
	return all
}

// fileThatIs is the file, or nothing where it isn't there: a node without settings has the defaults.
func fileThatIs(file string) string {
	if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
		return os.DevNull
	}
	return file
}

// changes are the settings whose values differ.
func changes(before, after []settings.Description) (list []plannedChange) {
	have := map[string]string{}
	for _, d := range before {
		if d.Where != "" {
			have[d.Name] = d.Value
		}
	}
	for _, d := range after {
		if d.Where == "" {
			continue
		}
		if have[d.Name] != d.Value {
			list = append(list, plannedChange{d.Name, have[d.Name], d.Value})
		}
		delete(have, d.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(have)) {
		if have[name] != "" {
			list = append(list, plannedChange{name, have[name], ""})
		}
	}
	return list
}

// defined are the logs that settings and a directory's definitions make, by name; those that would be refused among
// them. fault, which may be nil, hears what is wrong as a whole.
func (p *program) defined(ctx context.Context, v *values, dir string, fault func(string, error)) map[string]plannedLog {
	if fault == nil {
		fault = func(string, error) {}
	}
	all := map[string]plannedLog{}
	list, problems := node.Definitions(dir)
	for _, q := range problems {
		fault("definition "+q.Where, errors.New(q.Problem))
	}
	if len(list) == 0 {
		return all
	}
	config, _, err := forwardConfig(v, slog.New(slog.DiscardHandler))
	if err != nil {
		fault("settings", err)
		return all
	}
	names := destinationNames(config.Destinations)
	for _, d := range list {
		o, err := node.Preview(d, config.Allowed, names)
		l := plannedLog{Log: d.Log, Path: o.Path, Destination: o.Destination, Files: len(o.Files), files: o.Files}
		if d.Rate != nil {
			l.Note = "rate " + d.Rate.String()
		}
		if err != nil {
			l.Change, l.Note = logRefused, err.Error()
			fault("log "+d.Log, err)
		}
		all[d.Log] = l
	}
	return all
}

// held says what operators do to logs, as the daemon knows it.
type held struct {
	notes map[string]string            // of logs
	own   map[string]control.Forwarder // logs that operators started
}

func heldBy(ctx context.Context, v *values, by asker) held {
	h := held{map[string]string{}, map[string]control.Forwarder{}}
	client := control.NewClient(v.Text("socket"))
	client.Caller, client.RequestID, client.Collective = by.caller, by.request, by.collective
	client.Timeout = listTime
	l, err := client.List(ctx)
	if err != nil {
		return h // no daemon runs, and nothing of this is in force; or who asks may not know
	}
	for _, f := range l.Forwarders {
		if f.Managed == "" {
			h.own[f.Log] = f
		}
		if f.State == "stopped" || f.State == "paused" {
			h.notes[f.Log] = "an operator has it " + f.State
		}
	}
	return h
}

// compare says of each log what becomes of it, in the order of names.
func compare(was, is map[string]plannedLog, h held) []plannedLog {
	var list []plannedLog
	for name, l := range is {
		old, there := was[name]
		note := l.Note
		switch {
		case l.Change == logRefused:
		case !there || old.Change == logRefused:
			l.Change = logStarts
		case old.Path != l.Path || old.Destination != l.Destination || old.Note != l.Note:
			l.Change = logChanges
			var differs []string
			for _, d := range [][3]string{{"path", old.Path, l.Path}, {"destination", old.Destination, l.Destination}, {"rate", old.Note, l.Note}} {
				if d[1] != d[2] {
					differs = append(differs, fmt.Sprintf("%s was %s", d[0], orNone(strings.TrimPrefix(d[1], "rate "))))
				}
			}
			note = strings.Join(differs, "; ")
		default:
			l.Change = logStays
		}
		for _, more := range []string{h.notes[name]} {
			if more != "" && note != "" {
				note += "; "
			}
			note += more
		}
		l.Note = note
		list = append(list, l)
	}
	for name, l := range was {
		if _, stays := is[name]; !stays && l.Change != logRefused {
			l.Change, l.Note = logStops, h.notes[name]
			if o, own := h.own[name]; own {
				l.Note = "started by " + o.By + " as well"
			}
			list = append(list, l)
		}
	}
	for name, o := range h.own {
		if _, defined := is[name]; !defined {
			list = append(list, plannedLog{Log: name, Change: logStays, Path: o.Path, Destination: o.Destination, Files: len(o.Logs), Note: "started by " + o.By})
		}
	}
	slices.SortFunc(list, func(a, b plannedLog) int {
		return strings.Compare(a.Log+" "+a.Change, b.Log+" "+b.Change)
	})
	return list
}

// grow watches the files for a second.
func (r *planned) grow(ctx context.Context) {
	sizes := func() []int64 {
		all := make([]int64, len(r.Logs))
		for i, l := range r.Logs {
			for _, file := range l.files {
				if info, err := os.Stat(file); err == nil {
					all[i] += info.Size()
				}
			}
		}
		return all
	}
	before, began := sizes(), time.Now()
	if len(before) > 0 {
		select {
		case <-ctx.Done():
		case <-time.After(growthTime):
		}
	}
	took := time.Since(began).Seconds()
	for i, size := range sizes() {
		l := &r.Logs[i]
		l.Bytes = size
		if len(l.files) > 0 && took > 0 {
			l.Rate = int64(float64(max(size-before[i], 0)) / took) // a file that was rotated meanwhile tells nothing
		}
		if l.Change != logStops && l.Change != logRefused {
			r.Files += l.Files
			r.Rate += l.Rate
		}
	}
}
