package fleet

import (
	"slices"
	"strings"
	"sync"
	"time"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

const (
	// maxNodes bounds the roll: whoever may publish hellos of many identities must not fill the memory.
	maxNodes = 1 << 20
	// maxWaiting is the most bytes that one node is believed to have waiting; a lie of more would hide all others' in the sum.
	maxWaiting = 1 << 50
	// recently is how lately a node must have had something committed to count as alive though it says nothing.
	recently = 10 * time.Minute
)

// Node is what is known of one node.
type Node struct {
	Identity string `json:"identity"` // of the node
	// Seen is the last sign of life, by the broker's clock: a hello or notice that was heard, or else the last commit of one of its logs.
	Seen time.Time `json:"seen,omitzero"`
	// Heard: it spoke during this call, so it is connected.
	Heard bool `json:"heard"`
	// Said is its last word of the red button; nil: none was heard.
	Said *chunk.Obeyed `json:"said,omitempty"`
	// Pause: the button holds it, so it shall not publish.
	Pause bool `json:"pause"`
}

// Alive tells whether the node was about when the call was made, at began.
func (n *Node) Alive(began time.Time) bool { return n.Heard || n.Seen.After(began.Add(-recently)) }

// Summary is where a roll call stands.
type Summary struct {
	Change    uint64         `json:"change"`    // number of the button's state
	Pauses    []broker.Pause `json:"pauses"`    // those that hold
	Nodes     int            `json:"nodes"`     // how many nodes it is about
	Confirmed int            `json:"confirmed"` // how many of these obey this state, and have said so
	Paused    int            `json:"paused"`    // how many of the confirmed don't publish
	Late      int            `json:"late"`      // how many of the others are alive
	Waiting   int64          `json:"waiting"`   // bytes that wait on the paused nodes, as they say
	Began     time.Time      `json:"began"`     // when the call was made, by the broker's clock
	Listed    bool           `json:"listed"`    // all nodes that ever had something committed are on the roll
	// Missing are the nodes that haven't confirmed, those last seen latest first. Only the last summary of a call has them.
	Missing []Node `json:"missing"`
}

// Complete tells whether all nodes have confirmed.
func (s *Summary) Complete() bool { return s.Listed && s.Confirmed == s.Nodes }

// entry is a node on the roll.
type entry struct {
	seen  time.Time
	heard bool
	said  *chunk.Obeyed
	told  time.Time // by this machine's monotonic clock
	times int       // it was told without an answer
	key   string    // of its last hello: what control messages to it are authenticated with
}

// roll is who is known, and what they said.
type roll struct {
	mu     sync.Mutex
	nodes  map[string]*entry // by identity
	listed bool
}

// entryOf gives a node's entry; nil: the roll is full. mu is held.
func (r *roll) entryOf(identity string) *entry {
	e := r.nodes[identity]
	if e == nil && len(r.nodes) < maxNodes {
		e = new(entry)
		r.nodes[identity] = e
	}
	return e
}

// known enters a node of which something was committed at a time.
func (r *roll) known(identity string, committed time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.entryOf(identity); e != nil && committed.After(e.seen) {
		e.seen = committed
	}
}

// heard enters what a node said at a time.
func (r *roll) heard(identity, key string, said *chunk.Obeyed, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.entryOf(identity)
	if e == nil {
		return
	}
	if e.key != key {
		e.key, e.told = key, time.Time{} // what it was told before it can't have obeyed
	}
	e.seen, e.heard, e.times = at, true, 0
	if said != nil {
		e.said = said
	}
}

// keyOf is the key of a node's last hello that was heard; empty: none was.
func (r *roll) keyOf(identity string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e := r.nodes[identity]; e != nil {
		return e.key
	}
	return ""
}

// confirms tells whether what a node said is what the button wants of it. A later change than the button's is
// somebody's who has just pressed it again, and is read soon.
func confirms(said *chunk.Obeyed, change uint64, pause bool) bool {
	return said != nil && said.Change >= change && said.Paused == pause
}

// summary counts the nodes that concerned is true for. With missing it lists those that haven't confirmed.
func (r *roll) summary(b *broker.Button, concerned func(string) bool, began, now time.Time, missing bool) Summary {
	s := Summary{Change: b.Change, Pauses: b.Active(now), Began: began, Missing: []Node{}}
	if s.Pauses == nil {
		s.Pauses = []broker.Pause{}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s.Listed = r.listed
	for identity, e := range r.nodes {
		if !concerned(identity) {
			continue
		}
		s.Nodes++
		n := Node{Identity: identity, Seen: e.seen, Heard: e.heard, Said: e.said, Pause: b.For(identity, now) != nil}
		if n.Said != nil && n.Said.Paused {
			s.Waiting += min(n.Said.Waiting, maxWaiting)
		}
		if confirms(n.Said, b.Change, n.Pause) {
			s.Confirmed++
			if n.Pause {
				s.Paused++
			}
			continue
		}
		if n.Alive(began) {
			s.Late++
		}
		if missing {
			s.Missing = append(s.Missing, n)
		}
	}
	slices.SortFunc(s.Missing, func(a, b Node) int {
		if c := b.Seen.Compare(a.Seen); c != 0 {
			return c
		}
		return strings.Compare(a.Identity, b.Identity)
	})
	return s
}

// due are the nodes to be told now: those that haven't confirmed, each after a growing while.
func (r *roll) due(b *broker.Button, concerned func(string) bool, now time.Time) []string {
	var list []string
	at := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for identity, e := range r.nodes {
		if !concerned(identity) || e.times > 0 && at.Sub(e.told) < patience(e.times) || confirms(e.said, b.Change, b.For(identity, now) != nil) {
			continue
		}
		if e.times == 0 && !e.told.IsZero() && at.Sub(e.told) < patience(1) {
			continue // one that talks without obeying isn't told at every word
		}
		e.told, e.times = at, e.times+1
		list = append(list, identity)
	}
	return list
}

// patience is how long after so many times a node is told again.
func patience(times int) time.Duration {
	return min(time.Second<<min(times-1, 3), 5*time.Second)
}

// again has all nodes told anew: the button has changed.
func (r *roll) again() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.nodes {
		e.told, e.times = time.Time{}, 0
	}
}
