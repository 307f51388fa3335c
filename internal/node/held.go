package node

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"

	"logforward/internal/control"
	"logforward/internal/forward"
	"logforward/internal/tail"
)

// Policy bounds for how long an operator may hold a log, or forward one. Who asks again before the time is over, or
// right after it, would get round that. So it is remembered for each caller when they held what, and a request's
// time counts together with that, until the log was free of this caller's word for as long as it had been held.
//
// Stop, drain and pause count together: those of this log, of its forwarder, and of all. Starts whose paths may lead to
// one file count together, under whatever names, globs and links.

// bucketHeld holds them: key → spans.
const bucketHeld = "node.held"

// span is a time in which a caller's word held.
type span struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to,omitzero"` // zero: it has no end
}

const (
	// maxSpans bounds the spans of one key; older ones are joined, gaps included.
	maxSpans = 16
	// maxHeld bounds the keys; beyond it those that count least are forgotten.
	maxHeld = 5000
	// maxElsewhere is how many files of one start, behind links, are remembered by their names; more count as if they were all files.
	maxElsewhere = 100
	// maxCompared bounds the comparing of a start with those before it, in steps of [mayShare].
	maxCompared = 500_000
)

const everyFile = "/**"

// held remembers which caller's words held when. It is not for several goroutines.
type held struct {
	known map[string][]span // the slices are never changed
	dirty map[string]bool   // keys that aren't on disk as they are known
}

// heldKey says whose words count together. scope is a log, empty for all; for a start it is a glob: see [startScope].
func heldKey(verb, scope, caller string) string {
	if verb == verbDrain {
		verb = control.VerbStop
	}
	return strings.Join([]string{verb, scope, caller}, "\x00")
}

func loadHeld(state *forward.State) (*held, error) {
	h := &held{known: map[string][]span{}, dirty: map[string]bool{}}
	err := state.Each(bucketHeld, func(key string, b []byte) error {
		var spans []span
		if json.Unmarshal(b, &spans) == nil { // what can't be read would only make a request shorter
			h.known[key] = spans
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read for how long operators' words held: %w", err)
	}
	return h, nil
}

// note compares a record with the one that takes its place. scope is its log, or empty.
func (h *held) note(scope string, old, next *record, now time.Time) {
	before, after := words(scope, old), words(scope, next)
	for key, o := range before {
		if !same(o, after[key]) {
			h.end(key, now)
		}
	}
	for key, o := range after {
		if !same(o, before[key]) {
			h.begin(key, now, o.Until)
		}
	}
}

// words are what operators said in a record, by what they count for.
func words(scope string, r *record) map[string]*control.Override {
	all := map[string]*control.Override{}
	for _, o := range []*control.Override{r.Stop, r.Pause, r.Resume} {
		if o != nil {
			all[heldKey(o.Verb, scope, o.By)] = o
		}
	}
	if w := r.Wish; w != nil {
		for _, scope := range w.scopes() {
			all[heldKey(w.Verb, scope, w.By)] = &w.Override
		}
	}
	return all
}

// startScope is what a start is for, as a glob; real is where its path leads, or empty.
func startScope(path, real string) string {
	if isGlob(path) {
		return cmp.Or(real, path)
	}
	return tail.QuoteGlob(cmp.Or(real, path))
}

// scopes are what a start holds: its path, and the files elsewhere that it was led to.
func (w *wish) scopes() []string {
	path := startScope(w.Path, w.Real)
	all := []string{path}
	for _, file := range w.Files {
		if ok, err := doublestar.Match(path, file); ok && err == nil {
			continue
		}
		if len(all) > maxElsewhere {
			return []string{path, everyFile}
		}
		all = append(all, tail.QuoteGlob(file))
	}
	return all
}

func same(a, b *control.Override) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Verb == b.Verb && a.By == b.By && a.Since.Equal(b.Since) && a.Until.Equal(b.Until)
}

func (h *held) begin(key string, now, until time.Time) {
	spans := append(slices.Clone(h.known[key]), span{now, until})
	if extra := len(spans) - maxSpans; extra > 0 {
		spans[extra].From = spans[0].From
		spans = spans[extra:]
	}
	h.known[key], h.dirty[key] = spans, true
	if len(h.known) > maxHeld {
		h.prune(key, now)
	}
}

func (h *held) end(key string, now time.Time) {
	spans := h.known[key]
	if len(spans) == 0 {
		return
	}
	if last := spans[len(spans)-1]; last.To.IsZero() || last.To.After(now) {
		spans = slices.Clone(spans)
		spans[len(spans)-1].To = now
		h.known[key], h.dirty[key] = spans, true
	}
}

// prune forgets what counts least, and what doesn't count any more.
func (h *held) prune(keep string, now time.Time) {
	counts := make(map[string]time.Duration, len(h.known))
	for key, spans := range h.known {
		counts[key] = heldFor(spans, now)
	}
	keys := slices.SortedFunc(maps.Keys(h.known), func(a, b string) int { return cmp.Compare(counts[a], counts[b]) })
	for i, key := range keys {
		if key != keep && (counts[key] == 0 || i < len(keys)-maxHeld) {
			delete(h.known, key)
			h.dirty[key] = true
		}
	}
}

// entries are what is to be written; they stay so until [held.written].
func (h *held) entries() (all []forward.Entry, err error) {
	for key := range h.dirty {
		e := forward.Entry{Bucket: bucketHeld, Key: key}
		if spans, ok := h.known[key]; ok {
			if e.Value, err = json.Marshal(spans); err != nil {
				return nil, fmt.Errorf("keep for how long operators' words held: %w", err)
			}
		}
		all = append(all, e)
	}
	return all, nil
}

func (h *held) written() { clear(h.dirty) }

// heldFor is how long spans held in all, up to now, as far as they still count.
func heldFor(spans []span, now time.Time) (total time.Duration) {
	spans = slices.Clone(spans)
	slices.SortFunc(spans, func(a, b span) int { return a.From.Compare(b.From) })
	var end time.Time
	for _, s := range spans {
		if s.To.IsZero() || s.To.After(now) {
			s.To = now
		}
		if s.From.Before(end) {
			s.From = end
		}
		if s.From.Sub(end) >= total {
			total = 0
		}
		if s.To.After(s.From) {
			total += s.To.Sub(s.From)
			end = s.To
		}
	}
	if now.Sub(end) >= total {
		return 0
	}
	return total
}

// start is when a caller's starts of one scope held.
type start struct {
	scope string
	spans []span
}

// starts are a caller's.
func (h *held) starts(caller string) (all []start) {
	prefix, suffix := control.VerbStart+"\x00", "\x00"+caller
	for key, spans := range h.known {
		if len(key) > len(prefix)+len(suffix) && strings.HasPrefix(key, prefix) && strings.HasSuffix(key, suffix) {
			all = append(all, start{key[len(prefix) : len(key)-len(suffix)], spans})
		}
	}
	return all
}

// before are the starts of a start's caller before it; none where it has no end.
func (h *held) before(w *wish) (all []start) {
	if w.Until.IsZero() {
		return nil
	}
	for _, s := range h.starts(w.By) {
		spans := slices.DeleteFunc(slices.Clone(s.spans), func(s span) bool { return !s.From.Before(w.Since) })
		if len(spans) > 0 {
			all = append(all, start{s.scope, spans})
		}
	}
	return all
}

// heldBefore is for how long starts held what may be the files of a scope, up to now, as far as it still counts.
func heldBefore(starts []start, scope string, now time.Time) time.Duration {
	budget := maxCompared
	var all []span
	for _, s := range starts {
		if mayShare(s.scope, scope, &budget) {
			all = append(all, s.spans...)
		}
	}
	return heldFor(all, now)
}

// total is for how long a request's word would hold in all; 0: it has no time, or there was none before it.
func (n *Node) total(c control.Caller, r control.Request, now time.Time) time.Duration {
	if r.For <= 0 {
		return 0
	}
	known := n.operators.held.known
	verbs := []string{r.Verb}
	if r.Verb == control.VerbStop || r.Verb == control.VerbPause {
		verbs = []string{control.VerbStop, control.VerbPause}
	}
	of := func(scopes ...string) time.Duration {
		var spans []span
		for _, verb := range verbs {
			for _, scope := range scopes {
				spans = append(spans, known[heldKey(verb, scope, c.Name)]...)
			}
		}
		return heldFor(spans, now)
	}
	var before time.Duration
	switch f, at := n.plan.find(r.Log); {
	case r.Verb == control.VerbStart:
		before = heldBefore(n.operators.held.starts(c.Name), startScope(r.Path, r.Real), now)
	case r.All:
		before = of("")
		for log := range n.operators.records { // what was held by itself would be held on
			before = max(before, of("", log))
		}
	case f == nil:
	case at >= 0:
		before = of("", f.Log, r.Log)
	default:
		before = of("", f.Log)
		for _, m := range f.members {
			before = max(before, of("", f.Log, m.log))
		}
	}
	if before == 0 {
		return 0
	}
	return r.For + before
}
