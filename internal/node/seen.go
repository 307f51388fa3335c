package node

import (
	"encoding/json"
	"fmt"
	"time"

	"logforward/internal/control"
	"logforward/internal/forward"
)

// bucketSeen holds the ids of requests that took effect: id → seen.
const bucketSeen = "node.requests"

const (
	// late is for how long beyond its time to live a request is remembered: its clock may be ahead.
	late = 2 * time.Minute
	// maxSeen and maxSeenOf bound how many are remembered at once, of all and of one caller.
	maxSeen, maxSeenOf = 20000, 2000
)

// seen is a request that took effect.
type seen struct {
	Caller string    `json:"caller"`
	At     time.Time `json:"at"`
	Until  time.Time `json:"until"` // then it has expired for everybody
}

// requests remembers which requests took effect, so that none does so twice: by another route, after a restart, or
// because somebody kept it. One that was sent again while no daemon ran waits as a wish, however long: those that have
// expired are forgotten when the next request comes that is none. It is not for several goroutines.
type requests struct {
	state *forward.State
	known map[string]seen
}

func loadRequests(state *forward.State) (*requests, error) {
	r := &requests{state: state, known: map[string]seen{}}
	var over []forward.Entry
	err := state.Each(bucketSeen, func(id string, b []byte) error {
		var s seen
		if json.Unmarshal(b, &s) != nil {
			over = append(over, forward.Entry{Bucket: bucketSeen, Key: id})
			return nil
		}
		r.known[id] = s
		return nil
	})
	if err == nil && len(over) > 0 {
		err = state.PutAll(over...)
	}
	if err != nil {
		return nil, fmt.Errorf("read what was asked before: %w", err)
	}
	return r, nil
}

// check refuses a request that took effect before, and more of one caller's than can be remembered.
func (r *requests) check(c control.Caller, now time.Time) error {
	if c.RequestID == "" {
		return nil
	}
	if s, ok := r.known[c.RequestID]; ok && (now.Before(s.Until) || c.Route == control.RouteWish) {
		return control.Errorf(control.CodeRefused, "request %s of %s took effect at %s already", c.RequestID, s.Caller, s.At.UTC().Format(time.RFC3339)).
			WithHint("ask anew: a request is good for once")
	}
	all, own := 0, 0
	for _, s := range r.known {
		if !now.Before(s.Until) {
			continue
		}
		if all++; s.Caller == c.Name {
			own++
		}
	}
	if own >= maxSeenOf || all >= maxSeen {
		return control.Errorf(control.CodeBusy, "%d requests of %s and %d of all were taken within their time to live", own, c.Name, all).WithHint("try again later")
	}
	return nil
}

// take remembers a request in memory, and gives what is to be written with its effect.
func (r *requests) take(c control.Caller, now time.Time) ([]forward.Entry, error) {
	if c.RequestID == "" {
		return nil, nil
	}
	ttl := time.Duration(c.TTL) * time.Second
	if ttl <= 0 {
		ttl = control.MaxTTL * time.Second
	}
	s := seen{c.Name, now, now.Add(ttl + late)}
	b, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("remember request %s: %w", c.RequestID, err)
	}
	entries := []forward.Entry{{Bucket: bucketSeen, Key: c.RequestID, Value: b}}
	for id, old := range r.known {
		if !now.Before(old.Until) && c.Route != control.RouteWish {
			delete(r.known, id)
			entries = append(entries, forward.Entry{Bucket: bucketSeen, Key: id})
		}
	}
	r.known[c.RequestID] = s
	return entries, nil
}

// forget is for a request that took no effect after all.
func (r *requests) forget(c control.Caller) error {
	if c.RequestID == "" {
		return nil
	}
	delete(r.known, c.RequestID)
	return r.state.Delete(bucketSeen, c.RequestID)
}
