package tail

import (
	"sync"
	"sync/atomic"
)

// Budget bounds the bytes in deleted files that are held open because they
// aren't confirmed yet, over all logs that share it. What counts is what is
// still needed of a file, unread or unconfirmed; the file keeps its whole space on
// the disk until it is let go. Safe for concurrent use.
type Budget struct {
	limit int64

	mu    sync.Mutex
	total int64
	held  []*hold // oldest deletion first
}

// hold is one deleted file's share of the budget.
type hold struct {
	bytes int64
	wake  func()
	letGo atomic.Bool // decided by the budget, carried out by the log that owns the file
}

// NewBudget returns a budget of limit bytes; 0 or less means no limit.
func NewBudget(limit int64) *Budget { return &Budget{limit: limit} }

// Held returns how many bytes are held now.
func (b *Budget) Held() int64 {
	if b == nil {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.total
}

// set records that a deleted file holds bytes, with nil for its first time. If
// that is beyond the limit the oldest files are let go: their logs are told.
func (b *Budget) set(h *hold, bytes int64, wake func()) *hold {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if h == nil {
		h = &hold{wake: wake}
		b.held = append(b.held, h)
	}
	if h.letGo.Load() {
		return h // no longer counted
	}
	b.total += bytes - h.bytes
	h.bytes = bytes
	if b.limit <= 0 {
		return h
	}
	for len(b.held) > 0 && b.total > b.limit {
		oldest := b.held[0]
		if oldest.bytes == 0 { // nothing of it is needed: giving it up gains nothing
			next := 1
			for next < len(b.held) && b.held[next].bytes == 0 {
				next++
			}
			if next == len(b.held) {
				break
			}
			oldest = b.held[next]
		}
		b.remove(oldest)
		oldest.letGo.Store(true)
		oldest.wake()
	}
	return h
}

// drop forgets a file that was closed.
func (b *Budget) drop(h *hold) {
	if b == nil || h == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.remove(h)
}

func (b *Budget) remove(h *hold) {
	for i, x := range b.held {
		if x == h {
			b.held = append(b.held[:i], b.held[i+1:]...)
			b.total -= h.bytes
			return
		}
	}
}
