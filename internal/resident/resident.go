// Package resident gives back what a process has mapped of its own program. To begin touches some page of nearly each part of a large program, and the
// kernel maps sixteen for each that is touched: half of the program counts as resident though hardly any of it is used again.
package resident

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// looks are when a process is looked at: when it has begun, once more for where that took long, and then again and again. most is what may be
// resident of the program and other files then, in bytes; more was taken by the start, or by some rare work such as to decide by a policy.
var looks = [3]struct {
	after time.Duration
	most  int
}{{1500 * time.Millisecond, 0}, {1500 * time.Millisecond, 0}, {time.Minute, 16 << 20}}

// grown is how many bytes of memory of its own a process has more than after the last collection where another one is worth its while.
const grown = 1 << 20

// Keep gives back what the start took, and then what rare work did, until ctx ends. Where the process' own memory is as it was, its heap is left alone: two
// collections are more work than a node at rest has in half a minute.
func Keep(ctx context.Context, log *slog.Logger) {
	var k keep
	for i := 0; ; i = min(i+1, len(looks)-1) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(looks[i].after):
		}
		if err := k.look(looks[i].most); err != nil {
			log.Debug("what the program has mapped stays so", "error", err)
		}
	}
}

// keep remembers the last look.
type keep struct {
	own         int // bytes of the process' own memory that were resident after the last collection; 0: there was none
	collections int // for tests
}

// look gives back what is too much where more than most bytes of files are resident.
func (k *keep) look(most int) error {
	own, files, err := amounts()
	if err == nil && files <= most {
		return nil
	}
	if err != nil || k.own == 0 || own >= k.own+grown {
		runtime.GC() // what pools hold survives one collection
		debug.FreeOSMemory()
		k.collections++
		if k.own, _, err = amounts(); err != nil {
			k.own = 0
		}
	}
	return Drop()
}

// amounts are how many bytes of the process' own memory, and of files, are resident; see proc_pid_statm(5).
func amounts() (own, files int, err error) {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, 0, err
	}
	fields := bytes.Fields(statm)
	if len(fields) < 3 {
		return 0, 0, fmt.Errorf("statm: %q", statm)
	}
	all, err := strconv.Atoi(string(fields[1]))
	if err != nil {
		return 0, 0, err
	}
	pages, err := strconv.Atoi(string(fields[2]))
	return (all - pages) * os.Getpagesize(), pages * os.Getpagesize(), err
}

// Drop unmaps the pages of the program's code and constants. They are clean and stay in the kernel's cache, from which those that are used
// again are mapped when they are. It may be called at any time.
func Drop() error {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("drop pages: %w", err)
	}
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return fmt.Errorf("drop pages: %w", err)
	}
	for _, m := range droppable(maps, program) {
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("drop pages %x-%x: %w", m.from, m.to, errno)
		}
	}
	return nil
}

// mapping is a part of the address space.
type mapping struct{ from, to uintptr }

// droppable are the mappings of a program's file that hold nothing but what the file holds: private, not to be written to, and without a page that was
// written to before, as a loader does with addresses and a debugger with code. Such a page would be lost. smaps is as proc_pid_smaps(5) describes it.
func droppable(smaps []byte, program string) (all []mapping) {
	var m mapping
	fits := false
	for line := range bytes.Lines(smaps) {
		fields := bytes.Fields(line)
		if len(fields) < 3 {
			continue
		}
		if name, isField := bytes.CutSuffix(fields[0], []byte(":")); isField {
			if fits && string(name) == "Anonymous" {
				if fits = false; string(fields[1]) == "0" {
					all = append(all, m)
				}
			}
			continue
		}
		m, fits = header(fields, program)
	}
	return all
}

// header reads a mapping's first line, "from-to r-xp offset device inode path".
func header(fields [][]byte, program string) (mapping, bool) {
	if len(fields) != 6 || string(fields[5]) != program || len(fields[1]) != 4 || fields[1][0] != 'r' || fields[1][1] != '-' || fields[1][3] != 'p' {
		return mapping{}, false
	}
	first, last, found := bytes.Cut(fields[0], []byte("-"))
	from, errFrom := strconv.ParseUint(string(first), 16, 64)
	to, errTo := strconv.ParseUint(string(last), 16, 64)
	return mapping{uintptr(from), uintptr(to)}, found && errFrom == nil && errTo == nil && from < to
}
