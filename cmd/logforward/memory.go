package main

import (
	"os"
	"runtime"
	"runtime/debug"
	measured "runtime/metrics"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// limitMemory sets the memory limit to least, or to what lives and half as much again where that is more: below a limit that what lives
// leaves no room in, the collector never rests, and a node with ten thousand logs would spend most of its CPU on it. It is looked at
// after each collection, until stop is called.
func limitMemory(least int64) (stop func()) {
	var limit atomic.Int64
	limit.Store(least)
	debug.SetMemoryLimit(least)
	return eachCollection(func(live, beside int64) {
		want, has := memoryFor(least, live, beside), limit.Load()
		if want != has && (want == least || want > has+has/16 || want < has-has/16) { // each change stops the process for a moment
			limit.Store(want)
			debug.SetMemoryLimit(want)
		}
	})
}

// spare is room for what is beside the heap to grow until the next collection.
const spare = 16 << 20

func memoryFor(least, live, beside int64) int64 { return max(least, live+live/2+beside+spare) }

// ballast is memory that the collector counts and nobody touches, so that none of it is resident.
const ballast = 32 << 20

// muchMemory suits a receiver: payloads come and go fast, what lives is little, and with what is under way now half and now twice as much. A heap
// of so many times that would shrink and grow with it: its pages would be given back to the kernel and taken again. Beside ballast it stays
// about as large as it is; and where much lives, as with ten thousand logs, it is four times that. The limit lets it collect earlier where it grows all
// the same. GOGC and GOMEMLIMIT in the environment win. end is to be called when the work is done.
func muchMemory() (end func()) {
	var held []byte
	var stop []func()
	if os.Getenv("GOGC") == "" {
		held = make([]byte, ballast)
		stop = append(stop, steadyHeap())
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		stop = append(stop, limitMemory(512<<20))
	}
	return func() {
		for _, s := range stop {
			s()
		}
		runtime.KeepAlive(held)
	}
}

// brokerMemory suits a broker. What it caches of its streams it holds weakly once it is written: each collection drops it, and what a receiver reads or acknowledges next
// is read from the disk once more. So collections are made rarer, by ballast, and the limit leaves room for a receiver's commit of payloads at full speed. GOGC and
// GOMEMLIMIT in the environment win. end is to be called when the work is done.
func brokerMemory() (end func()) {
	hugePages()
	var held []byte
	stop := func() {}
	if os.Getenv("GOGC") == "" {
		held = make([]byte, brokerBallast)
	}
	if os.Getenv("GOMEMLIMIT") == "" { // it keeps what it has just stored, and would let as much garbage come together
		stop = limitMemory(192 << 20)
	}
	return func() {
		stop()
		runtime.KeepAlive(held)
	}
}

// brokerBallast is less than a receiver's, for more lives beside it.
const brokerBallast = 16 << 20

// hugePages has the kernel back the heap with huge pages where it grows next, if the system gives them to who asks (most do): a buffer for a payload is then one fault
// instead of more than a hundred, each of which costs a virtual machine as much as copying what it gives. The runtime doesn't ask. The memory is advised and given back
// untouched; the advice stays with the addresses, of which the heap takes the lowest free ones first.
func hugePages() {
	b := make([]byte, hugely)
	_ = unix.Madvise(b, unix.MADV_HUGEPAGE) // where there are none it is as before
	runtime.KeepAlive(b)
	debug.FreeOSMemory()
}

// hugely is as much as the heap of a broker at full speed takes.
const hugely = 256 << 20

// steadyHeap sets how much may be allocated until the next collection, after each one, until stop is called.
func steadyHeap() (stop func()) {
	var percent atomic.Int64
	percent.Store(leastGrowth)
	debug.SetGCPercent(leastGrowth)
	return eachCollection(func(live, _ int64) {
		want, has := growthFor(live), percent.Load()
		if want != has && (want == leastGrowth || want > has+has/8 || want < has-has/8) {
			percent.Store(want)
			debug.SetGCPercent(int(want))
		}
	})
}

// leastGrowth is in percent of what lives, ballast included.
const leastGrowth = 100

// growthFor is three times what lives beside ballast.
func growthFor(live int64) int64 { return max(leastGrowth, 300*(live-ballast)/max(live, 1)) }

// eachCollection calls do after each collection with the bytes that it found alive, and those that aren't the heap's, until stop is called.
func eachCollection(do func(live, beside int64)) (stop func()) {
	c := &collections{do: do}
	c.watch()
	return func() { c.stopped.Store(true) }
}

type collections struct {
	do      func(live, beside int64)
	stopped atomic.Bool
}

// sentinel is garbage at once, and so found by the next collection. It is too large for the allocator to share its place.
type sentinel struct{ _ [32]byte }

func (c *collections) watch() {
	runtime.AddCleanup(new(sentinel), func(c *collections) { c.ended() }, c)
}

// ended runs after each collection.
func (c *collections) ended() {
	if c.stopped.Load() {
		return
	}
	c.do(inMemory())
	c.watch()
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
