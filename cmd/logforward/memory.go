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
	live, beside := inMemory()
	limit, has := memoryFor(m.least, live, beside), m.limit.Load()
	if limit != has && (limit == m.least || limit > has+has/16 || limit < has-has/16) { // each change stops the process for a moment
		m.limit.Store(limit)
		debug.SetMemoryLimit(limit)
	}
	m.watch()
}

// inMemory is what lives in the heap, and what the limit counts beside it: stacks, of which ten thousand logs have more than half as much,
// what of the heap's pages isn't used, and the runtime's own.
func inMemory() (live, beside int64) {
	all := []measured.Sample{
		{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"},
		{Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/objects:bytes"},
	}
	measured.Read(all)
	is := func(i int) int64 {
		if all[i].Value.Kind() != measured.KindUint64 {
			return 0 // a runtime that doesn't tell it
		}
		return int64(all[i].Value.Uint64())
	}
	return is(0), max(0, is(1)-is(2)-is(3)-is(4))
}

// spare is room for what is beside the heap to grow until the next collection.
const spare = 16 << 20

func memoryFor(least, live, beside int64) int64 { return max(least, live+live/2+beside+spare) }
