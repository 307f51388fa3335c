package forward

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"logforward/internal/chunk"

	bolt "go.etcd.io/bbolt"
)

// held is the fleet's pause as this node keeps it. The centre says how long it still lasts; what counts from
// then on is the node's own clock, so that it ends without the centre, whatever the centre's clock says.
type held struct {
	chunk.Pause
	Ends time.Time `json:"ends,omitzero"` // by this node's clock; zero: it doesn't end by itself
}

// paused is the fleet's pause where it holds now, and when it ends by itself: zero, it doesn't.
func (l *link) paused() (*chunk.Pause, time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pausedNow()
}

// pausedNow is paused with mu held.
func (l *link) pausedNow() (*chunk.Pause, time.Time) {
	h := l.button
	if h == nil || !h.Holds() || !h.Ends.IsZero() && !l.now().Before(h.Ends) {
		return nil, time.Time{}
	}
	return &h.Pause, h.Ends
}

// toldPause takes what a control message says. One that is older than what this node knows was overtaken
// on its way. Whoever told it gets notice of what is obeyed, in any case.
func (l *link) toldPause(p *chunk.Pause) {
	l.mu.Lock()
	late := l.button != nil && p.Change < l.button.Change
	l.mu.Unlock()
	if !late {
		l.takePause(p)
	}
	l.turn()
}

// answeredPause takes what an answer says to a hello that named the change known. A receiver that is told a
// greater number than its own reads the bucket before it answers, so a smaller one counts; unless this node
// has learnt of another while the answer was on its way.
func (l *link) answeredPause(p *chunk.Pause, known uint64) {
	if p == nil {
		return // the receiver hasn't read the button yet
	}
	l.mu.Lock()
	late := l.button != nil && p.Change < l.button.Change && known != l.button.Change
	l.mu.Unlock()
	if !late && l.takePause(p) {
		l.turn()
	}
}

// takePause makes the centre's word hold, and keeps it over restarts: a node that restarts in a paused fleet must
// not publish before it has heard of it. It tells whether anything is new.
func (l *link) takePause(p *chunk.Pause) bool {
	h := &held{Pause: *p}
	if d := p.Duration(); d > 0 {
		h.Ends = l.now().Add(d)
	}
	l.mu.Lock()
	old := l.button
	l.button = h
	l.mu.Unlock()
	if old != nil && old.Change == p.Change && old.Holds() == p.Holds() {
		return false
	}
	l.each(func(f *forwarder) { f.post(func() {}) })
	if err := l.state.setFleetPause(l.name, h); err != nil {
		l.log.Error("the fleet's pause can't be written; it holds until a restart", "error", err)
	}
	if p.Holds() || old != nil && old.Holds() {
		select {
		case l.pressed <- Pressed{l.name, *p}:
		default:
		}
	}
	switch {
	case p.Holds():
		said := []any{"by", p.By, "reason", p.Reason, "since", p.Since, "match", p.Match, "change", p.Change}
		if !h.Ends.IsZero() {
			said = append(said, "ends", h.Ends)
		}
		l.log.Warn("the fleet's pause", said...)
	case old != nil && old.Holds():
		l.log.Info("the fleet's pause is lifted", "change", p.Change)
	}
	return true
}

// turn has obey look at the button.
func (l *link) turn() {
	select {
	case l.turned <- struct{}{}:
	default:
	}
}

// obey sees to it that the button takes effect: it waits until every log has stopped, or goes on, gives
// notice of that, and does so again when a pause ends by itself.
func (l *link) obey(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var ran bool // the timer's turn: nobody has asked
	for {
		was := l.obeyedNow()
		if o, ok := l.effect(ctx); ok && o != nil {
			l.mu.Lock()
			l.obeyed = o
			l.mu.Unlock()
			if !ran || was == nil || was.Paused != o.Paused {
				l.notice(o)
			}
		}
		timer.Reset(l.nextTurn())
		ran = false
		select {
		case <-ctx.Done():
			return
		case <-l.turned:
		case <-timer.C:
			ran = true
		}
	}
}

// nextTurn is how long until the button's effect changes by itself, or the bytes that wait are to be counted anew.
func (l *link) nextTurn() time.Duration {
	p, ends := l.paused()
	switch o := l.obeyedNow(); {
	case p == nil && o != nil && o.Paused:
		return time.Millisecond // it has ended since its effect was looked at
	case p == nil:
		return time.Hour
	}
	wait := l.limits.SyncInterval
	if !ends.IsZero() {
		wait = min(wait, ends.Sub(l.now()))
	}
	return max(wait, time.Millisecond)
}

// effect waits until every log acts as the button is now. Not ok: it was turned meanwhile, or ctx is over.
func (l *link) effect(ctx context.Context) (*chunk.Obeyed, bool) {
	l.mu.Lock()
	if l.button == nil {
		l.mu.Unlock()
		return nil, true
	}
	o := &chunk.Obeyed{Change: l.button.Change}
	p, _ := l.pausedNow()
	l.mu.Unlock()
	if o.Paused = p != nil; !o.Paused {
		l.each(func(f *forwarder) { f.post(func() {}) })
		return o, true
	}
	type turn struct {
		f    *forwarder
		done chan struct{}
	}
	var turns []turn
	l.each(func(f *forwarder) {
		t := turn{f, make(chan struct{})}
		turns = append(turns, t)
		// Notes run between the steps of a forwarder, and each step asks whether there is a pause.
		f.post(func() { f.refresh(); close(t.done) })
	})
	for _, t := range turns {
		select {
		case <-t.done:
			o.Waiting += max(t.f.view.status().LagBytes, 0)
		case <-t.f.done:
		case <-l.turned:
			l.turn() // it is looked at next
			return nil, false
		case <-ctx.Done():
			return nil, false
		}
	}
	return o, true
}

func (l *link) obeyedNow() *chunk.Obeyed {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.obeyed
}

// notice tells the centre what is obeyed. A lost one costs nothing: the next hello says the same.
func (l *link) notice(o *chunk.Obeyed) {
	l.mu.Lock()
	nc, up := l.conn, l.up
	l.mu.Unlock()
	if nc == nil || !up {
		return
	}
	h := &chunk.Hello{Instance: l.instance, Key: l.key, Pause: o}
	if err := nc.Publish(chunk.SyncSubject(l.destination.Prefix, l.identity), marshal(h)); err != nil {
		l.log.Debug("notice of the fleet's pause not sent", "error", err)
	}
}

// fleetPause is the pause that the centre last told for a destination; nil: it has told nothing. now is the
// node's clock: a pause never lasts longer than was left of it when it was written, wherever that clock was set.
func (s *State) fleetPause(destination string, now time.Time) (*held, error) {
	b, err := s.read(bucketPauses, destination)
	if err != nil || b == nil {
		return nil, err
	}
	h := new(held)
	if err := json.Unmarshal(b, h); err != nil {
		return nil, fmt.Errorf("state: pause of %s: %w", destination, err)
	}
	if err := h.Check(); err != nil { // taken by an older version
		return nil, fmt.Errorf("state: pause of %s: %w", destination, err)
	}
	if longest := now.Add(h.Duration()); !h.Ends.IsZero() && h.Ends.After(longest) {
		h.Ends = longest
	}
	return h, nil
}

func (s *State) setFleetPause(destination string, h *held) error {
	b, err := json.Marshal(h)
	if err == nil {
		err = s.update(func(tx *bolt.Tx) error { return put(tx, bucketPauses, destination, seal(b)) })
	}
	if err != nil {
		return fmt.Errorf("state: pause of %s: %w", destination, err)
	}
	return nil
}

// errPaused is what a log's status says while the fleet is paused.
func errPaused(p *chunk.Pause, ends time.Time) error {
	text := "the fleet's pause, by " + p.By
	if !ends.IsZero() {
		text += ", until " + ends.UTC().Format(time.RFC3339)
	}
	if p.Reason != "" {
		text += ": " + p.Reason
	}
	return errors.New(text)
}
