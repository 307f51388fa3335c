package audit

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Whoever is refused can ask again, as often as they like, and the files have room for so many lines: without a bound
// their refusals would push out what was decided before. So the first refusal of a kind is written at once, and a few
// repeats of each caller; those that follow are counted, and a line that stands for all of them follows after a while, with the last one's data. Kinds are
// told apart by all that was asked, up to some number for each caller, beyond which that caller's refusals are one kind.
// What is allowed always has its own line.

const (
	// firstCount is how long repeats of a refusal are counted before their line is written. It doubles while they go on, up to mostCount.
	firstCount = time.Minute
	mostCount  = 10 * time.Minute
	// forget is how long a kind is known after its last refusal.
	forget = 10 * time.Minute
	// kindsOfCaller and kindsOfAll bound what is told apart.
	kindsOfCaller = 20
	// repeatsOfCaller is how many repeats have a line of their own, of whatever kinds, until a caller wasn't refused for a while.
	repeatsOfCaller = 5
	kindsOfAll      = 2000
)

// asker is who was refused: by name, and by the user that the kernel names.
type asker struct {
	caller string
	uid    int
}

// kind is what refusals that count together have in common. Without a route it is all else of a caller, without a
// caller all else.
type kind struct {
	asker
	route, action, reason, rule string
	log, path, destination      string
}

// known is what is remembered of an asker.
type known struct{ kinds, repeats int }

// tally counts the refusals of a kind.
type tally struct {
	last  Decision
	at    time.Time     // of the last refusal
	since time.Time     // of the first that isn't written yet
	count uint64        // that aren't written yet
	due   time.Time     // when they are to be written
	wait  time.Duration // between two lines
}

func kindOf(d Decision) kind {
	text := func(key string) string { s, _ := d.Inputs[key].(string); return s }
	return kind{asker{d.Caller, d.UID}, d.Route, d.Action, d.Reason, d.Rule, text("log"), text("path"), text("destination")}
}

// Refuse records a refusal, or counts it where it repeats another. With an error it is counted, and a later line tells of it.
func (l *Log) Refuse(d Decision) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	k := l.fit(kindOf(d))
	t := l.refusals[k]
	if t == nil {
		if l.refusals == nil {
			l.refusals, l.askers = map[kind]*tally{}, map[asker]*known{}
		}
		t = &tally{due: now, wait: firstCount}
		l.refusals[k] = t
		if l.askers[k.asker] == nil {
			l.askers[k.asker] = &known{repeats: repeatsOfCaller}
		}
		l.askers[k.asker].kinds++
	}
	if t.count == 0 {
		t.since = now
	}
	t.last, t.at, t.count = d, now, t.count+1
	if now.Before(t.due) {
		c := l.askers[k.asker]
		if t.count > 1 || c.repeats == 0 {
			return nil
		}
		c.repeats--
	}
	return l.settle(t, now)
}

// fit is the kind itself where there is room for it, else a wider one.
func (l *Log) fit(k kind) kind {
	c := l.askers[k.asker]
	if l.refusals[k] != nil || (c == nil || c.kinds < kindsOfCaller) && len(l.refusals) < kindsOfAll {
		return k
	}
	if k = (kind{asker: k.asker}); l.refusals[k] != nil || len(l.refusals) < kindsOfAll {
		return k
	}
	return kind{}
}

// settle writes one line for all that was counted of a kind.
func (l *Log) settle(t *tally, now time.Time) error {
	d := t.last
	d.Count = t.count
	if t.count > 1 {
		since := t.since.UTC()
		d.Since = &since
		t.wait = min(2*t.wait, mostCount)
	}
	t.due = now.Add(t.wait)
	if err := l.record(d); err != nil {
		return l.failed(err)
	}
	t.count = 0
	return nil
}

// Tick writes what was counted for long enough, and forgets kinds that don't come any more. It is to be called every few seconds.
func (l *Log) Tick() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tick(false)
}

func (l *Log) tick(all bool) error {
	now := l.now()
	var failed error
	for _, k := range slices.SortedFunc(maps.Keys(l.refusals), func(a, b kind) int { return l.refusals[a].since.Compare(l.refusals[b].since) }) {
		t := l.refusals[k]
		switch {
		case t.count > 0 && (all || !now.Before(t.due)):
			failed = cmp.Or(failed, l.settle(t, now))
		case t.count == 0 && now.Sub(t.at) >= forget:
			delete(l.refusals, k)
			if c := l.askers[k.asker]; c.kinds > 1 {
				c.kinds--
			} else {
				delete(l.askers, k.asker)
			}
		}
	}
	return failed
}
