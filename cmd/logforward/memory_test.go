package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"
)

// What lives must leave the collector room below the limit, and when it is gone the limit is the old one.
func TestTheMemoryLimitStaysAboveWhatLives(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	const least = 32 << 20
	stop := limitMemory(least)
	defer debug.SetMemoryLimit(before)
	defer stop()
	if got := debug.SetMemoryLimit(-1); got != least {
		t.Fatalf("limit %d at the start", got)
	}
	until := func(what string, is func(int64) bool) {
		t.Helper()
		deadline := time.Now().Add(time.Minute)
		for !is(debug.SetMemoryLimit(-1)) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: the limit is %d", what, debug.SetMemoryLimit(-1))
			}
			runtime.GC()
			time.Sleep(time.Millisecond)
		}
	}
	const size = 64 << 20
	held := make([]byte, size)
	until("64 MiB live", func(limit int64) bool { return limit >= size*3/2 })
	runtime.KeepAlive(held)
	held = nil
	until("nothing lives", func(limit int64) bool { return limit < size })
}

// So must what the limit counts beside the heap, which of thousands of logs is mostly stacks: else the collector would never rest for want of room that
// no collection makes.
func TestTheMemoryLimitLeavesRoomForStacks(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	_, without := inMemory()
	const goroutines, each = 1000, 64 << 10
	end := make(chan struct{})
	var all, grown sync.WaitGroup
	grown.Add(goroutines)
	for range goroutines {
		all.Go(func() { deep(each, func() { grown.Done(); <-end }) })
	}
	grown.Wait()
	live, with := inMemory()
	close(end)
	all.Wait()
	if more := with - without; more < goroutines*each {
		t.Errorf("%d goroutines of %d bytes: %d more beside the heap", goroutines, each, more)
	}
	if limit := memoryFor(0, live, with); limit < live*3/2+with {
		t.Errorf("%d live, %d beside, limit %d", live, with, limit)
	}
}

// deep calls do with so much of the stack in use.
func deep(n int, do func()) {
	var here [1 << 10]byte
	if n > len(here) {
		deep(n-len(here), do)
	} else {
		do()
	}
	runtime.KeepAlive(&here)
}

// What a collection leaves room for is steady where little lives, and grows with what lives where that is much.
func TestHeapGrowsWithWhatLives(t *testing.T) {
	for _, c := range []struct{ live, room int64 }{{4, 36}, {14, 46}, {16, 48}, {20, 60}, {100, 300}, {1000, 3000}} {
		live := ballast + c.live<<20
		if got := (live*growthFor(live)/100 + 1<<19) >> 20; got < c.room*98/100 || got > c.room {
			t.Errorf("%d MiB live beside the ballast: %d MiB of room, want %d", c.live, got, c.room)
		}
	}
}

// The advice must still be there when the heap takes the addresses again, or it was in vain; and to give it must not cost the memory.
func TestTheHeapGrowsIntoHugePages(t *testing.T) {
	if _, err := os.Stat("/sys/kernel/mm/transparent_hugepage"); err != nil {
		t.Skip("this kernel has no huge pages for who asks: ", err)
	}
	before := residentNow(t)
	hugePages()
	if more := residentNow(t) - before; more > hugely/4 {
		t.Errorf("%d bytes more are resident", more)
	}
	b := make([]byte, hugely/2) // more than what other tests have left free
	if !advised(t, uintptr(unsafe.Pointer(&b[len(b)/2]))) {
		t.Error("what the heap takes next isn't advised")
	}
	runtime.KeepAlive(b)
}

// advised tells whether the mapping of an address is to have huge pages (proc_pid_smaps(5): hg).
func advised(t *testing.T, address uintptr) bool {
	t.Helper()
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	here := false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var from, to uintptr
		if n, _ := fmt.Sscanf(lines.Text(), "%x-%x ", &from, &to); n == 2 {
			here = from <= address && address < to
		} else if flags, ok := strings.CutPrefix(lines.Text(), "VmFlags:"); ok && here {
			return strings.Contains(flags+" ", " hg ")
		}
	}
	t.Fatal("the address is in no mapping")
	return false
}

func residentNow(t *testing.T) (bytes int64) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var size, resident int64
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		t.Fatal(err)
	}
	return resident * int64(os.Getpagesize())
}
