package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/nats-io/nats.go/jetstream"
)

// Pause holds the nodes whose identities match: they don't publish.
type Pause struct {
	Since time.Time `json:"since"` // when it was pressed
	// Until ends it by itself, by the clocks of the centre; zero: someone must.
	Until  time.Time `json:"until,omitzero"`
	Reason string    `json:"reason,omitempty"` // as it was given
	By     string    `json:"by,omitempty"`     // who pressed it: local=USER@HOST
	// Match is a glob of the identities that it holds for; empty: all.
	Match string `json:"match,omitempty"`
}

// Active tells whether the pause holds at now.
func (p *Pause) Active(now time.Time) bool { return p.Until.IsZero() || now.Before(p.Until) }

// Matches tells whether the pause is about that identity. A glob that can't be read matches nothing: whoever
// wrote it meant some nodes, not all.
func (p *Pause) Matches(identity string) bool {
	if p.Match == "" {
		return true
	}
	ok, err := path.Match(p.Match, identity)
	return err == nil && ok
}

// The longest texts of a pause: each node is told them.
const (
	maxReason = 500
	maxBy     = 250
	maxMatch  = 250
	// maxPauses is how many hold at once, each with a glob of its own.
	maxPauses = 100
)

// MaxPause is the longest that a pause may last which ends by itself.
const MaxPause = 366 * 24 * time.Hour

// Check tells what is wrong with a pause that someone wants to make.
func (p *Pause) Check() error {
	for _, f := range []struct {
		name, text string
		most       int
	}{{"reason", p.Reason, maxReason}, {"name of who pauses", p.By, maxBy}, {"glob of identities", p.Match, maxMatch}} {
		switch {
		case len(f.text) > f.most:
			return fmt.Errorf("pause: the %s has %d bytes; at most %d", f.name, len(f.text), f.most)
		case !utf8.ValidString(f.text):
			return fmt.Errorf("pause: the %s is no UTF-8 text", f.name)
		}
		for _, r := range f.text {
			if !unicode.IsPrint(r) {
				return fmt.Errorf("pause: the %s %q holds a character that can't be printed", f.name, f.text)
			}
		}
	}
	if _, err := path.Match(p.Match, ""); err != nil {
		return fmt.Errorf("pause: glob %q: %w; such as web*, or db[1-3].example.net", p.Match, err)
	}
	if !p.Until.IsZero() && (!p.Until.After(p.Since) || p.Until.Sub(p.Since) > MaxPause) {
		return fmt.Errorf("pause: from %s until %s: it must last longer than nothing and at most %s", p.Since.Format(time.RFC3339), p.Until.Format(time.RFC3339), MaxPause)
	}
	return nil
}

// Button is the state of the big red button: all pauses that hold, each of another glob.
type Button struct {
	// Change numbers the states: a later one has a greater number, also after a wipe, for it
	// is never below the time in µs. Zero: the button was never touched.
	Change uint64  `json:"change"`
	Pauses []Pause `json:"pauses"`
}

// For is the pause that holds one identity at now, and of several the one that ends last. Nil: none does.
func (b *Button) For(identity string, now time.Time) *Pause {
	var last *Pause
	for i := range b.Pauses {
		p := &b.Pauses[i]
		if !p.Active(now) || !p.Matches(identity) {
			continue
		}
		if last == nil || !last.Until.IsZero() && (p.Until.IsZero() || p.Until.After(last.Until)) {
			last = p
		}
	}
	return last
}

// Active are the pauses that hold at now.
func (b *Button) Active(now time.Time) []Pause {
	var list []Pause
	for _, p := range b.Pauses {
		if p.Active(now) {
			list = append(list, p)
		}
	}
	return list
}

// next is the state behind this one, with these pauses.
func (b *Button) next(now time.Time, pauses []Pause) Button {
	return Button{Change: max(b.Change+1, uint64(max(now.UnixMicro(), 0))), Pauses: pauses}
}

// Button reads the red button, and the revision to change it at. ErrNotFound says that the bucket knows none: with
// revision 0 it was never touched, or the bucket was made anew; else somebody has deleted it, which lifts all pauses.
func (s *Shared) Button(ctx context.Context) (Button, uint64, error) {
	var b Button
	revision, err := s.get(ctx, pauseKey, &b)
	return b, revision, err
}

// PutButton writes a state of the button at a revision; ErrWrongRevision says that someone was faster.
func (s *Shared) PutButton(ctx context.Context, b Button, revision uint64) error {
	value, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("write %s: %w", pauseKey, err)
	}
	if _, err := s.kv.Update(ctx, pauseKey, value, revision); err != nil {
		return fmt.Errorf("write %s to bucket %s at revision %d: %w", pauseKey, Bucket, revision, apiError(err))
	}
	return nil
}

// Press adds a pause to the button. One with the same glob is replaced.
func (s *Shared) Press(ctx context.Context, p Pause) (Button, error) {
	if err := p.Check(); err != nil {
		return Button{}, err
	}
	return s.changeButton(ctx, func(pauses []Pause) ([]Pause, error) {
		pauses = slices.DeleteFunc(pauses, func(old Pause) bool { return old.Match == p.Match })
		if len(pauses) >= maxPauses {
			return nil, fmt.Errorf("there are %d pauses already: lift some first", len(pauses))
		}
		return append(pauses, p), nil
	})
}

// ErrNoPause: what shall be lifted isn't there.
var ErrNoPause = errors.New("there is no such pause")

// Release lifts the pause with exactly that glob, or, where all is true, every one.
func (s *Shared) Release(ctx context.Context, match string, all bool) (b Button, lifted []Pause, err error) {
	b, err = s.changeButton(ctx, func(pauses []Pause) ([]Pause, error) {
		lifted = nil
		var rest []Pause
		for _, p := range pauses {
			if all || p.Match == match {
				lifted = append(lifted, p)
			} else {
				rest = append(rest, p)
			}
		}
		if len(lifted) == 0 && !all {
			return nil, fmt.Errorf("lift the pause of %q: %w", match, ErrNoPause)
		}
		return rest, nil
	})
	return b, lifted, err
}

// buttonTries is how often a change is tried anew that somebody else was faster with.
const buttonTries = 10

// changeButton makes a new state of the pauses that hold now. Even where it is equal to the old one it gets a
// number: nodes shall be told, and confirm.
func (s *Shared) changeButton(ctx context.Context, change func([]Pause) ([]Pause, error)) (Button, error) {
	for try := 1; ; try++ {
		old, revision, err := s.Button(ctx)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return Button{}, err
		}
		now, err := s.Clock(ctx)
		if err != nil {
			return Button{}, err
		}
		pauses, err := change(old.Active(now))
		if err != nil {
			return Button{}, err
		}
		b := old.next(now, pauses)
		err = s.PutButton(ctx, b, revision)
		if err == nil || try == buttonTries || !errors.Is(err, ErrWrongRevision) {
			return b, err
		}
	}
}

// Restore sets the streams up again after a wipe, with the button as it was known: it is there before
// the layout is, so that no receiver takes the fleet's pause for lifted. A button that is there already stays.
func Restore(ctx context.Context, js jetstream.JetStream, w Wanted, b Button) error {
	plan, err := Plan(ctx, js, w)
	if err != nil {
		return err
	}
	layouts := func(c Change) bool { return c.step != nil && c.step.layout != nil }
	if err := Apply(ctx, js, slices.DeleteFunc(slices.Clone(plan), layouts)); err != nil {
		return err
	}
	if b.Change > 0 {
		shared, err := OpenShared(ctx, js)
		if err != nil {
			return err
		}
		if err := shared.PutButton(ctx, b, 0); err != nil && !errors.Is(err, ErrWrongRevision) {
			return err
		}
	}
	return Apply(ctx, js, slices.DeleteFunc(slices.Clone(plan), func(c Change) bool { return !layouts(c) }))
}
