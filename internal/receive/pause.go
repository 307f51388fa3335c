package receive

import (
	"context"
	"errors"
	"maps"
	"time"

	"logforward/internal/broker"
	"logforward/internal/chunk"
	"logforward/internal/fleet"
)

const (
	// sharedEvery is how often layout and red button are read.
	sharedEvery = time.Second
	// sharedSoonest bounds how often hellos make a receiver read them on top of that.
	sharedSoonest = 200 * time.Millisecond
	// metaButton is where a receiver remembers the red button, so that a wiped broker doesn't lift a pause.
	metaButton = "button"
	// maxMet is how many nodes are kept in mind to be told of the button, and metFor for how long.
	maxMet = 1 << 20
	metFor = 5 * time.Minute
)

// button is the red button as a receiver knows it.
type button struct {
	looking chan struct{} // held while the bucket is read and what it says is taken over

	// Guarded by the receiver's mu.
	known      *broker.Button // as read since the receiver runs; nil: not yet
	remembered broker.Button  // the latest ever known, also by earlier runs
	looked     time.Time      // when the last look that succeeded was begun
	met        map[string]met
}

// met is a node that has said hello.
type met struct {
	at  time.Time
	key string // of its last hello that was heard here; empty: none, or it gave none
}

// rememberButton takes the button from the state. Nodes are told nothing of it before the broker was asked.
func (r *Receiver) rememberButton() {
	r.button.looking, r.button.met = make(chan struct{}, 1), make(map[string]met)
	if _, err := r.state.getMeta(metaButton, &r.button.remembered); err != nil {
		r.logger.Error("the remembered red button can't be read; what the broker says holds", "error", err)
	}
}

// lastButton is the latest state of the button that this receiver has ever known.
func (r *Receiver) lastButton() broker.Button {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.button.remembered
}

// watchShared follows the red button, and returns when the layout isn't ours any more. It asks
// instead of subscribing: a subscription can fall silent when a broker was wiped, and the red button must not.
func (r *Receiver) watchShared(ctx context.Context) {
	last := r.layout
	for {
		layout, err := r.look(ctx)
		switch {
		case errors.Is(err, broker.ErrNotFound) || errors.Is(err, broker.ErrNoStream):
			r.logger.Warn("the broker has lost the layout", "error", err)
			return // findLayout knows what to do
		case err != nil:
			r.logger.Debug("layout and red button can't be read now", "error", err)
		case layout.ID != r.layout.ID:
			r.logger.Info("the layout has changed", "from", r.layout.ID, "to", layout.ID)
			return
		case layout != last: // the number of copies: streams that are lost are to come back with as many
			if err := r.rememberLayout(ctx, layout); err != nil {
				r.logger.Warn("layout", "error", err)
			} else {
				last = layout
			}
		}
		if !sleep(ctx, sharedEvery) {
			return
		}
	}
}

// look reads layout and button, and makes the button hold.
func (r *Receiver) look(ctx context.Context) (broker.Layout, error) {
	select {
	case r.button.looking <- struct{}{}:
		defer func() { <-r.button.looking }()
	case <-ctx.Done():
		return broker.Layout{}, ctx.Err()
	}
	return r.lookNow(ctx)
}

// lookNow is look for one who holds button.looking.
func (r *Receiver) lookNow(ctx context.Context) (broker.Layout, error) {
	reading, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	begun := time.Now()
	shared, err := broker.OpenShared(reading, r.js)
	if err != nil {
		return broker.Layout{}, err
	}
	layout, err := shared.Layout(reading)
	if err != nil {
		return broker.Layout{}, err // a bucket without layout is being made anew: it says nothing of the button
	}
	b, revision, err := shared.Button(reading)
	if err != nil && !errors.Is(err, broker.ErrNotFound) {
		return broker.Layout{}, err
	}
	if err := r.takeButton(reading, shared, b, revision, err != nil); err != nil {
		return broker.Layout{}, err
	}
	r.mu.Lock()
	r.button.looked = begun
	r.mu.Unlock()
	return layout, nil
}

// takeButton makes what the bucket says hold. Where this receiver remembers a later state the bucket was wiped, or
// came out of a backup: then it is brought forward, as positions are.
func (r *Receiver) takeButton(ctx context.Context, shared *broker.Shared, b broker.Button, revision uint64, none bool) error {
	last := r.lastButton()
	switch {
	case none && revision > 0:
		// Somebody has deleted it by hand, which lifts all pauses.
		b = broker.Button{Change: last.Change}
		if len(last.Pauses) > 0 {
			b.Change++
		}
	case last.Change > b.Change:
		r.logger.Warn("the broker has forgotten the latest state of the red button; writing it again", "change", last.Change, "pauses", len(last.Active(r.now())))
		if err := shared.PutButton(ctx, last, revision); err != nil {
			return err // where someone else was faster, his is read next
		}
		b = last
	}
	r.setButton(ctx, b)
	return nil
}

// setButton takes over a state of the button, and tells it to the nodes if it is new.
func (r *Receiver) setButton(ctx context.Context, b broker.Button) {
	r.mu.Lock()
	news := r.button.known == nil || r.button.known.Change != b.Change
	keep := r.button.remembered.Change != b.Change
	r.button.known, r.button.remembered = &b, b
	r.mu.Unlock()
	if keep {
		if err := r.state.putMeta(metaButton, b); err != nil {
			r.logger.Error("the red button can't be remembered; a wiped broker would lift its pauses", "error", err)
		}
	}
	if news {
		r.tellPause(ctx)
	}
}

// tellPause tells all nodes that are known here of the red button at once; the others hear of it at their next sync.
func (r *Receiver) tellPause(ctx context.Context) {
	told := make(map[string]bool)
	for _, l := range r.Status(ctx).Logs {
		told[l.Identity] = true
	}
	r.mu.Lock()
	for identity := range r.button.met {
		told[identity] = true
	}
	r.mu.Unlock()
	for identity := range told {
		if p := r.pauseOf(identity); p != nil {
			r.tell(identity, &chunk.Control{Pause: p})
		}
	}
}

// meet keeps in mind that a node is connected, and the key of its control messages.
func (r *Receiver) meet(identity, key string) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.button.met
	if _, known := all[identity]; !known && len(all) >= maxMet {
		maps.DeleteFunc(all, func(_ string, m met) bool { return now.Sub(m.at) > metFor })
		if len(all) >= maxMet {
			return
		}
	}
	all[identity] = met{now, key}
}

// keyOf is the key of a node's control messages; empty: it isn't known here.
func (r *Receiver) keyOf(identity string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.button.met[identity].key
}

// answerPause is what a hello is answered about the red button. A receiver that knows less of it than
// the node reads it first; where it can't, it says nothing, and lifts nothing.
func (r *Receiver) answerPause(ctx context.Context, identity string, h *chunk.Hello) *chunk.Pause {
	p, known := r.pauseOf(identity), h.Pause.Number()
	if p == nil || p.Change >= known {
		return p
	}
	if err := r.lookSince(ctx, time.Now()); err != nil {
		r.logger.Info("a node knows a later state of the red button, and it can't be read now", "identity", identity, "error", err)
		return nil
	}
	return r.pauseOf(identity)
}

// lookSince makes sure that the button was read after then. One read serves all who ask at about the same
// time, so that a node's lies cost little.
func (r *Receiver) lookSince(ctx context.Context, then time.Time) error {
	select {
	case r.button.looking <- struct{}{}:
		defer func() { <-r.button.looking }()
	case <-ctx.Done():
		return ctx.Err()
	}
	r.mu.Lock()
	looked := r.button.looked
	r.mu.Unlock()
	if looked.After(then) {
		return nil
	}
	if !sleep(ctx, sharedSoonest-time.Since(looked)) {
		return ctx.Err()
	}
	_, err := r.lookNow(ctx)
	return err
}

// pauseOf is the button as it concerns one identity. It is nil while it wasn't read yet: a receiver that has
// just started must not lift a pause.
func (r *Receiver) pauseOf(identity string) *chunk.Pause {
	r.mu.Lock()
	b := r.button.known
	r.mu.Unlock()
	if b == nil {
		return nil
	}
	return fleet.Tell(b, identity, r.now())
}
