// Package share lets callers who want the same slow look at the world share one.
//
// # What it guarantees
//
// Who asks gets a result that was begun after they asked, never an older one: what was so at the moment of
// asking is in it. Of one key at most one call runs and one waits, however many ask. A call that hangs holds up
// those of its own key alone, and each of them waits no longer than they want to.
package share

import (
	"context"
	"runtime"
	"sync"
)

// Calls are calls by key. The zero value is ready; it may be used by several goroutines.
type Calls[T any] struct {
	mu   sync.Mutex
	keys map[string]*queue[T]
}

// queue is what waits of one key, of which a call may be running.
type queue[T any] struct{ next *Call[T] }

// Call is one that runs or will.
type Call[T any] struct {
	do    func() T
	done  chan struct{}
	value T
}

// Ask has do called, or shares a call of the same key that hasn't begun yet. It doesn't wait.
func (c *Calls[T]) Ask(key string, do func() T) *Call[T] {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keys == nil {
		c.keys = map[string]*queue[T]{}
	}
	q := c.keys[key]
	if q == nil {
		q = &queue[T]{}
		c.keys[key] = q
		go c.work(key, q)
	}
	if q.next == nil {
		q.next = &Call[T]{do: do, done: make(chan struct{})}
	}
	return q.next
}

// work makes the calls of a key until nobody wants another.
func (c *Calls[T]) work(key string, q *queue[T]) {
	for {
		runtime.Gosched() // whoever can run now may want to ask the same
		c.mu.Lock()
		call := q.next
		if q.next = nil; call == nil {
			delete(c.keys, key)
		}
		c.mu.Unlock()
		if call == nil {
			return
		}
		call.value = call.do()
		close(call.done)
	}
}

// Done is closed when the call has ended.
func (c *Call[T]) Done() <-chan struct{} { return c.done }

// Wait gives what the call gave, or ctx's error where that ends first.
func (c *Call[T]) Wait(ctx context.Context) (T, error) {
	select {
	case <-c.done:
		return c.value, nil
	default:
	}
	select {
	case <-c.done:
		return c.value, nil
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}
