package node

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"logforward/internal/control"
	"logforward/internal/forward"
)

// Where operators' wishes lie in the state.
const (
	bucketOperators = "node.operators" // log → record
	bucketAll       = "node.all"       // keyAll → record
	bucketGlobs     = "node.globs"     // forwarder → glob
	keyAll          = "all"
)

const (
	// maxHistory is how many changes are kept for each log.
	maxHistory = 50
	// keepEnded is how long what operators said about a log is kept once none of it holds any more and the log isn't
	// forwarded, and maxEnded for how many such logs: who starts and stops ever new names must not fill memory and disk.
	keepEnded = 30 * 24 * time.Hour
	maxEnded  = 1000
)

// record is what operators said about one log or forwarder, as it lies in the state.
type record struct {
	Wish *wish `json:"wish,omitempty"` // what an operator started
	// Redirect is another destination than the definition's.
	Redirect *redirection      `json:"redirect,omitempty"`
	Stop     *control.Override `json:"stop,omitempty"`   // its verb is stop, or drain until that is done
	Pause    *control.Override `json:"pause,omitempty"`  // not this one
	Resume   *control.Override `json:"resume,omitempty"` // this one in spite of a pause of all
	History  []control.Change  `json:"history,omitempty"`
}

// wish is a definition that an operator gave.
type wish struct {
	Definition
	control.Override
	Real  string   `json:"real,omitempty"`  // where the path led by symbolic links when policy decided; empty: nowhere else
	Files []string `json:"files,omitempty"` // real paths that policy permitted later
}

// redirection is where an operator sent a log.
type redirection struct {
	control.Override
	Destination string `json:"destination"`
	Path        string `json:"path,omitempty"` // that policy decided on; empty: an earlier version didn't note it
}

// counts tells whether it is for a log with this path. Whoever defines another one under the same name means another log.
func (r *redirection) counts(path string) bool { return r != nil && (r.Path == "" || r.Path == path) }

func (r *record) clone() *record {
	c := *r
	c.History = append([]control.Change(nil), r.History...)
	return &c
}

// note adds to the history and lets the oldest go.
func (r *record) note(c control.Change) {
	r.History = append(r.History, c)
	if extra := len(r.History) - maxHistory; extra > 0 {
		r.History = append([]control.Change(nil), r.History[extra:]...)
	}
}

// over tells since when nothing of it holds any more; false: something does.
func (r *record) over() (since time.Time, over bool) {
	if r.Wish != nil || r.Redirect != nil || r.Stop != nil || r.Pause != nil || r.Resume != nil {
		return time.Time{}, false
	}
	for _, c := range r.History {
		at := c.Since
		if c.Ended == "expired" {
			at = c.Until
		}
		if at.After(since) {
			since = at
		}
	}
	return since, true
}

// due tells whether anything has reached its time.
func (r *record) due(now time.Time) bool {
	over := func(o *control.Override) bool { return o != nil && !o.Active(now) }
	return r.Wish != nil && over(&r.Wish.Override) || over(r.Stop) || over(r.Pause) || over(r.Resume)
}

// until is when the first of all that holds reaches its time; zero: nothing does.
func (o *operators) until() (first time.Time) {
	for _, r := range o.records {
		r.sooner(&first)
	}
	o.all.sooner(&first)
	return first
}

// sooner sets first to when something of it reaches its time, if that is before it.
func (r *record) sooner(first *time.Time) {
	words := [...]*control.Override{nil, r.Stop, r.Pause, r.Resume}
	if r.Wish != nil {
		words[0] = &r.Wish.Override
	}
	for _, o := range words {
		if o != nil && !o.Until.IsZero() && (first.IsZero() || o.Until.Before(*first)) {
			*first = o.Until
		}
	}
}

// expire ends what has reached its time. It reports whether anything did.
func (r *record) expire(now time.Time) (ended []control.Override) {
	end := func(o *control.Override) bool {
		if o == nil || o.Active(now) {
			return false
		}
		ended = append(ended, *o)
		r.note(control.Change{Override: *o, Ended: "expired"})
		return true
	}
	if r.Wish != nil && end(&r.Wish.Override) {
		r.Wish, r.Redirect = nil, nil
	}
	if end(r.Stop) {
		r.Stop = nil
	}
	if end(r.Pause) {
		r.Pause = nil
	}
	if end(r.Resume) {
		r.Resume = nil
	}
	return ended
}

// override is the strongest word in force for a log with this path; nil: none.
func (r *record) override(path string) *control.Override {
	switch {
	case r == nil:
		return nil
	case r.Stop != nil:
		return r.Stop
	case r.Pause != nil:
		return r.Pause
	case r.Resume != nil:
		return r.Resume
	case r.Redirect.counts(path):
		return &r.Redirect.Override
	}
	return nil
}

// operators keeps all records, in memory and on disk. It is not for several goroutines.
type operators struct {
	state   *forward.State
	records map[string]*record
	all     *record
	held    *held
	also    []forward.Entry // to be written with the next record
	now     func() time.Time
}

func loadOperators(state *forward.State, now func() time.Time) (*operators, []control.Problem, error) {
	o := &operators{state: state, records: map[string]*record{}, all: new(record), now: now}
	var err error
	if o.held, err = loadHeld(state); err != nil {
		return nil, nil, err
	}
	var problems []control.Problem
	// One record that isn't understood, from a later version perhaps, costs that record only.
	read := func(bucket string, keep func(key string, r *record)) error {
		return state.Each(bucket, func(key string, value []byte) error {
			r := new(record)
			if err := json.Unmarshal(value, r); err != nil {
				problems = append(problems, control.Problem{Where: key, Problem: fmt.Sprintf("what operators said about this log can't be read and is disregarded: %v", err)})
				return nil
			}
			if r.Wish != nil && r.Wish.valid() != nil {
				problems = append(problems, control.Problem{Where: key, Problem: fmt.Sprintf("what an operator started can't be read and is disregarded: %v", r.Wish.valid())})
				r.Wish = nil
			}
			if r.Redirect != nil && control.CheckDestination(r.Redirect.Destination) != nil {
				problems = append(problems, control.Problem{Where: key, Problem: fmt.Sprintf("where an operator sent this log can't be read and is disregarded: %v", control.CheckDestination(r.Redirect.Destination))})
				r.Redirect = nil
			}
			keep(key, r)
			return nil
		})
	}
	if err := read(bucketOperators, func(key string, r *record) { o.records[key] = r }); err != nil {
		return nil, nil, fmt.Errorf("read operators' wishes: %w", err)
	}
	if err := read(bucketAll, func(_ string, r *record) { o.all = r }); err != nil {
		return nil, nil, fmt.Errorf("read operators' wishes: %w", err)
	}
	return o, problems, nil
}

func (w *wish) valid() error {
	if err := control.CheckLog(w.Log); err != nil {
		return err
	}
	return control.CheckPath(w.Path)
}

// get is never nil; what it gives must not be changed.
func (o *operators) get(log string) *record {
	if r := o.records[log]; r != nil {
		return r
	}
	return new(record)
}

// put has the record on disk before it counts.
func (o *operators) put(log string, r *record) error {
	return o.write(map[string]*record{log: r}, nil)
}

func (o *operators) putAll(r *record) error { return o.write(nil, r) }

// write has records on disk before they count, together with what else is to be there with them: all of it or nothing. all
// is that of all logs; nil: it stays.
func (o *operators) write(records map[string]*record, all *record) error {
	before := maps.Clone(o.held.known)
	entries, err := o.entries(records, all)
	if err == nil && len(entries) > 0 {
		err = o.state.PutAll(entries...)
	}
	if err != nil {
		o.held.known = before
		return fmt.Errorf("keep what was said: %w", err)
	}
	maps.Copy(o.records, records)
	o.all = cmp.Or(all, o.all)
	o.held.written()
	o.also = nil
	return nil
}

func (o *operators) entries(records map[string]*record, all *record) (entries []forward.Entry, err error) {
	add := func(bucket, key, scope string, old, r *record) error {
		o.held.note(scope, old, r, o.now())
		b, err := json.Marshal(r)
		entries = append(entries, forward.Entry{Bucket: bucket, Key: key, Value: b})
		return err
	}
	for _, log := range slices.Sorted(maps.Keys(records)) {
		if err := add(bucketOperators, log, log, o.get(log), records[log]); err != nil {
			return nil, err
		}
	}
	if all != nil {
		if err := add(bucketAll, keyAll, "", o.all, all); err != nil {
			return nil, err
		}
	}
	held, err := o.held.entries()
	return append(append(entries, o.also...), held...), err
}

// forget deletes the records of logs that are over: those that are too old, and the oldest of too many. Those of logs
// that are still known stay.
func (o *operators) forget(known map[string]bool, now time.Time) error {
	type ended struct {
		log   string
		since time.Time
	}
	var all []ended
	for log, r := range o.records {
		if since, over := r.over(); over && !known[log] {
			all = append(all, ended{log, since})
		}
	}
	slices.SortFunc(all, func(a, b ended) int { return cmp.Or(a.since.Compare(b.since), strings.Compare(a.log, b.log)) })
	var gone []forward.Entry
	for i, e := range all {
		if i < len(all)-maxEnded || now.Sub(e.since) >= keepEnded {
			gone = append(gone, forward.Entry{Bucket: bucketOperators, Key: e.log})
		}
	}
	if len(gone) == 0 {
		return nil
	}
	if err := o.state.PutAll(gone...); err != nil {
		return fmt.Errorf("forget what was said about logs that ended: %w", err)
	}
	for _, e := range gone {
		delete(o.records, e.Key)
	}
	return nil
}

// flush writes what no record was written with.
func (o *operators) flush() error {
	if len(o.also) == 0 {
		return nil
	}
	if err := o.state.PutAll(o.also...); err != nil {
		return err
	}
	o.also = nil
	return nil
}

// paused tells whether a log is paused, and by which word: its own, its forwarder's, or all's.
func (o *operators) paused(log, parent string) *control.Override {
	own, of := o.get(log), o.get(parent)
	switch {
	case own.Pause != nil:
		return own.Pause
	case own.Resume != nil:
		return nil
	case of.Pause != nil:
		return of.Pause
	case of.Resume != nil:
		return nil
	}
	return o.all.Pause
}
