package fleet

import (
	"time"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

// Tell is what one node is told of the button at now, by the clock of who tells it.
func Tell(b *broker.Button, identity string, now time.Time) *chunk.Pause {
	p := b.For(identity, now)
	if p == nil {
		return &chunk.Pause{Change: b.Change}
	}
	said := &chunk.Pause{Change: b.Change, Since: p.Since, Until: p.Until, By: p.By, Reason: p.Reason, Match: p.Match}
	if said.Since.IsZero() { // as someone wrote it who didn't use this program; a zero one would lift
		said.Since = now
	}
	if !p.Until.IsZero() {
		said.Left = max(p.Until.Sub(now).Milliseconds(), 1) // 0 would be without end
	}
	return said
}
