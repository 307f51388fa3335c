package receive

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

// Keys of the leases bucket; each holds JSON. A receiver is named by its token.
//
//	receiver.<receiver>   Beat    that receiver's heartbeat
//	partition.<number>    Lease   who works a partition, or what an older layout has left over
//	drain.<receiver>      Drain   that receiver shall work none
const (
	keyBeat  = "receiver"
	keyLease = "partition"
	keyDrain = "drain"
)

// Beat is a receiver's heartbeat. That its revision moves says that it lives, and nothing else does.
type Beat struct {
	Name     string    `json:"name"`              // of the receiver
	State    string    `json:"state"`             // id of its state directory: two of one name are told apart by it
	Instance string    `json:"instance"`          // random, one for each start
	Host     string    `json:"host,omitempty"`    // that it runs on
	Output   string    `json:"output,omitempty"`  // its output directory there
	Started  time.Time `json:"started,omitzero"`  // when the process was started
	Timeout  int64     `json:"timeout,omitempty"` // nanoseconds without a beat, after which its partitions are taken over
	Layout   string    `json:"layout,omitempty"`  // id of the one that it works by
	// Leaving: it ends in order, and takes nothing more. Left: it has ended.
	Leaving bool `json:"leaving,omitempty"`
	Left    bool `json:"left,omitempty"` // it has ended in order
	// Hung: its disk hangs, and its heart stands still from here on.
	Hung bool `json:"hung,omitempty"`
	// Forgotten: an operator says that it won't come back. Nobody waits for what its state knew.
	Forgotten bool `json:"forgotten,omitempty"`

	Pending   int64     `json:"pending"`            // bytes that are appended and not committed
	Oldest    time.Time `json:"oldest,omitzero"`    // since when the oldest of them wait
	Committed time.Time `json:"committed,omitzero"` // when a commit last succeeded
	Problems  []string  `json:"problems,omitempty"` // as its health says them
}

// Lease says who works a partition. It is for liveness alone: what keeps two owners apart are the
// records' revisions. It isn't renewed; it holds while its owner's heart beats.
type Lease struct {
	Owner    string    `json:"owner"` // empty: given back
	Instance string    `json:"instance,omitempty"`
	Term     uint64    `json:"term"` // counts the terms of this partition
	Layout   string    `json:"layout,omitempty"`
	Since    time.Time `json:"since,omitzero"`
}

// Drain keeps partitions away from a receiver that is to be taken down. A zero Since takes it back.
type Drain struct {
	By    string    `json:"by,omitempty"`
	Since time.Time `json:"since,omitzero"`
}

// table is the leases bucket as one receiver sees it. Whether another lives is counted in its own heartbeats,
// in the order in which the bucket has both: no clock takes part, and whoever was stopped or cut off hasn't counted
// meanwhile.
type table struct {
	self   string
	misses int // of its beats while so many of ours came: it is dead
	beats  map[string]*beating
	leases map[int]held
	drains map[string]bool
}

// beating is a receiver as it is seen.
type beating struct {
	Beat
	revision uint64
	missed   int
}

// held is a lease with its revision.
type held struct {
	Lease
	revision uint64
}

func newTable(self string, misses int) *table {
	return &table{self: self, misses: max(2, misses), beats: make(map[string]*beating), leases: make(map[int]held), drains: make(map[string]bool)}
}

// observe takes a record over. It tells whether anything may now be decided differently. What can't be read is left out.
func (t *table) observe(rec broker.Record) (news bool) {
	kind, rest, _ := strings.Cut(rec.Key, ".")
	switch kind {
	case keyBeat:
		return t.observeBeat(rest, rec)
	case keyLease:
		n, err := strconv.Atoi(rest)
		if err != nil || n < 0 || rec.Revision < t.leases[n].revision {
			return false
		}
		l := held{revision: rec.Revision}
		if !rec.Deleted && json.Unmarshal(rec.Value, &l.Lease) != nil {
			l.Lease = Lease{}
		}
		t.leases[n] = l
		return true
	case keyDrain:
		name, err := chunk.ParseToken(rest)
		if err != nil {
			return false
		}
		var d Drain
		drained := !rec.Deleted && json.Unmarshal(rec.Value, &d) == nil && !d.Since.IsZero()
		news = t.drains[name] != drained
		t.drains[name] = drained
	}
	return news
}

func (t *table) observeBeat(token string, rec broker.Record) (news bool) {
	name, err := chunk.ParseToken(token)
	old := t.beats[name]
	if err != nil || old != nil && rec.Revision <= old.revision {
		return false
	}
	b := &beating{revision: rec.Revision}
	if rec.Deleted || json.Unmarshal(rec.Value, &b.Beat) != nil {
		b.Beat = Beat{Left: true}
	}
	b.Name = name
	alive := old != nil && t.alive(name)
	t.beats[name] = b
	if name == t.self {
		for other, x := range t.beats {
			if other == name {
				continue
			}
			if x.missed++; x.missed == t.misses {
				news = true
			}
		}
	}
	return news || !alive || old.Leaving != b.Leaving || old.Left != b.Left || old.Layout != b.Layout || old.Hung != b.Hung || old.Forgotten != b.Forgotten || old.Instance != b.Instance
}

// inherit takes over how long receivers have been silent from an older view, where they haven't moved since.
func (t *table) inherit(old *table) {
	for name, b := range t.beats {
		if was := old.beats[name]; was != nil && was.revision == b.revision {
			b.missed = was.missed
		}
	}
}

// alive tells whether a receiver's heart beats. One's own does. It is dead at once where it says that its disk hangs.
func (t *table) alive(name string) bool {
	b := t.beats[name]
	return name == t.self || b != nil && !b.Left && !b.Hung && !b.Forgotten && b.missed < t.misses
}

// ready are the receivers that take partitions of a layout, sorted.
func (t *table) ready(layout string) []string {
	var list []string
	for name, b := range t.beats {
		if t.alive(name) && b.Layout == layout && !b.Leaving && !b.Left && !b.Hung && !b.Forgotten && !t.drains[name] {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

// weight orders receivers for a partition: rendezvous hashing.
func weight(receiver string, n int) uint64 {
	h := uint64(14695981039346656037) // FNV-1a
	for _, c := range []byte(receiver + "/" + strconv.Itoa(n)) {
		h = (h ^ uint64(c)) * 1099511628211
	}
	// FNV's high bits hardly depend on the last bytes: mix (SplitMix64).
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

func heaviest(receivers []string, n int) string {
	return slices.MaxFunc(receivers, func(a, b string) int {
		switch wa, wb := weight(a, n), weight(b, n); {
		case wa < wb:
			return -1
		case wa > wb:
			return 1
		}
		return strings.Compare(a, b)
	})
}

// plan says who shall work each partition, the same for all who see the same. Each receiver keeps what it has up
// to its share; only what is beyond it, or without a living owner, moves, and goes to the receiver
// with room that rendezvous hashing puts first. Without any receiver the plan is empty.
func (t *table) plan(partitions int, layout string) map[int]string {
	ready := t.ready(layout)
	plan := make(map[int]string, partitions)
	if len(ready) == 0 {
		return plan
	}
	has := make(map[string][]int, len(ready))
	for n := range partitions {
		if l := t.leases[n]; slices.Contains(ready, l.Owner) {
			has[l.Owner] = append(has[l.Owner], n)
		}
	}
	share := t.shares(ready, has, partitions)
	for name, list := range has {
		slices.SortFunc(list, func(a, b int) int { // what it is first for stays
			if wa, wb := weight(name, a), weight(name, b); wa != wb {
				return map[bool]int{true: -1, false: 1}[wa > wb]
			}
			return a - b
		})
		for i, n := range list {
			if i < share[name] {
				plan[n] = name
			}
		}
		has[name] = list[:min(len(list), share[name])]
	}
	for n := range partitions {
		if plan[n] != "" {
			continue
		}
		var room []string
		for _, name := range ready {
			if len(has[name]) < share[name] {
				room = append(room, name)
			}
		}
		name := heaviest(room, n)
		plan[n] = name
		has[name] = append(has[name], n)
	}
	return plan
}

// shares is how many partitions each receiver has at most. Who has more already gets what doesn't divide evenly.
func (t *table) shares(ready []string, has map[string][]int, partitions int) map[string]int {
	order := slices.Clone(ready)
	slices.SortStableFunc(order, func(a, b string) int { return len(has[b]) - len(has[a]) })
	share := make(map[string]int, len(order))
	for i, name := range order {
		share[name] = partitions / len(order)
		if i < partitions%len(order) {
			share[name]++
		}
	}
	return share
}

// planned is who shall work n: a partition, or what an older layout has left over.
func (t *table) planned(n, partitions int, layout string) string {
	if n < partitions {
		return t.plan(partitions, layout)[n]
	}
	ready := t.ready(layout)
	if owner := t.leases[n].Owner; slices.Contains(ready, owner) {
		return owner
	}
	if len(ready) == 0 {
		return ""
	}
	return heaviest(ready, n)
}

// free tells whether this receiver may take n now: nobody has it, and nobody works
// by another layout any more. Two layouts at once would give one identity two owners.
func (t *table) free(n int, layout string) bool {
	if t.held(n) {
		return false
	}
	for other, l := range t.leases {
		if l.Layout != layout && t.held(other) {
			return false
		}
	}
	return true
}

// held tells whether another receiver that lives may be working n. One that works by another layout than when it took the
// lease has let go of it: it begins with a layout when all of the former is at an end.
func (t *table) held(n int) bool {
	l := t.leases[n]
	return l.Owner != "" && l.Owner != t.self && t.alive(l.Owner) && t.beats[l.Owner].Layout == l.Layout
}

// others are the receivers that have ever been seen, but for this one and those that are forgotten.
func (t *table) others() (known, forgotten []string) {
	for _, name := range slices.Sorted(maps.Keys(t.beats)) {
		switch {
		case name == t.self:
		case t.beats[name].Forgotten:
			forgotten = append(forgotten, name)
		default:
			known = append(known, name)
		}
	}
	return known, forgotten
}

func beatKey(name string) string  { return keyBeat + "." + chunk.Token(name) }
func drainKey(name string) string { return keyDrain + "." + chunk.Token(name) }
func leaseKey(n int) string       { return fmt.Sprintf("%s.%d", keyLease, n) }
