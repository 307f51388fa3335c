package forward

import (
	"sync"
	"time"
)

// window bounds the bytes that are sent to a destination and not answered. Who
// can't be served at once is served in the order of asking, and each forwarder asks
// for one chunk at a time: so a hot log takes turns with the others.
//
// It is asked, not waited for: a forwarder must hear its mailbox meanwhile.
type window struct {
	mu    sync.Mutex
	size  int64
	used  int64
	queue []*turn
}

// turn is one place in the queue.
type turn struct {
	n       int64
	granted func() // must not block
	given   bool
	gone    bool
}

func newWindow(size int64) *window { return &window{size: size} }

// take asks for n bytes. It returns true if they are taken; else granted is
// called, perhaps before take returns, when they are. More than the whole window is
// taken for the whole.
func (w *window) take(n int64, granted func()) (bool, *turn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n = min(n, w.size)
	if len(w.queue) == 0 && w.used+n <= w.size {
		w.used += n
		return true, nil
	}
	t := &turn{n: n, granted: granted}
	w.queue = append(w.queue, t)
	return false, t
}

// cancel leaves the queue, or gives back what was granted meanwhile.
func (w *window) cancel(t *turn) {
	w.mu.Lock()
	t.gone = true
	given := t.given
	w.mu.Unlock()
	if given {
		w.give(t.n)
		return
	}
	w.give(0) // the one behind may fit
}

// give returns n bytes.
func (w *window) give(n int64) {
	w.mu.Lock()
	w.used -= n
	var next []*turn
	for len(w.queue) > 0 {
		t := w.queue[0]
		if !t.gone {
			if w.used+t.n > w.size {
				break
			}
			w.used += t.n
			t.given = true
			next = append(next, t)
		}
		w.queue[0] = nil
		w.queue = w.queue[1:]
	}
	w.mu.Unlock()
	for _, t := range next {
		t.granted()
	}
}

// inUse is how many bytes are taken.
func (w *window) inUse() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.used
}

// resize changes the size. What is under way beyond it comes back by itself.
func (w *window) resize(size int64) {
	w.mu.Lock()
	w.size = size
	w.mu.Unlock()
	w.give(0)
}

const (
	nearWindow = 4 << 20   // bytes, where an answer takes no time
	farRate    = 200 << 20 // bytes/s that may be under way for as long as an answer takes
)

// windowAt is how much of the window is used where an answer takes so long. What is more than keeps the broker at work waits in its memory, before what it
// has for its receivers: they would get little until a busy node is through, and what they get then would have to be read from the broker's disk.
func windowAt(l *Limits, roundTrip time.Duration) int64 {
	near := max(nearWindow, 8*int64(l.ChunkSize))
	return min(l.Window, near+int64(farRate*roundTrip.Seconds()))
}

// isGiven tells whether the turn has come.
func (w *window) isGiven(t *turn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return t.given && !t.gone
}
