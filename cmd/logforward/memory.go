package main

import (
	"runtime"
	"runtime/debug"
	measured "runtime/metrics"
	"sync/atomic"
)

// limitMemory sets the memory limit to least, or to what lives and half as much again where that is more: below a limit that what lives
// leaves no room in, the collector never rests, and a node with ten thousand logs would spend most of its CPU on it. It is looked at
// after each collection, until stop is called.
func limitMemory(least int64) (stop func()) {
	m := &memory{least: least}
	m.limit.Store(least)
	debug.SetMemoryLimit(least)
	m.watch()
	return func() { m.stopped.Store(true) }
}

type memory struct {
	least   int64
	limit   atomic.Int64
	stopped atomic.Bool
}

// sentinel is garbage at once, and so found by the next collection. It is too large for the allocator to share its place.
type sentinel struct{ _ [32]byte }

func (m *memory) watch() { runtime.AddCleanup(new(sentinel), func(m *memory) { m.collected() }, m) }

// collected runs after each collection.
func (m *memory) collected() {
	if m.stopped.Load() {
		return
	}
	live := []measured.Sample{{Name: "/gc/heap/live:bytes"}}
	measured.Read(live)
	if live[0].Value.Kind() == measured.KindUint64 {
		limit, has := memoryFor(m.least, int64(live[0].Value.Uint64())), m.limit.Load()
		if limit != has && (limit == m.least || limit > has+has/16 || limit < has-has/16) { // each change stops the process for a moment
			m.limit.Store(limit)
			debug.SetMemoryLimit(limit)
		}
	}
	m.watch()
}

// besideHeap is room for what the limit counts and the heap hasn't: stacks, and the runtime's own.
const besideHeap = 32 << 20

func memoryFor(least, live int64) int64 { return max(least, live+live/2+besideHeap) }
