package tail

import (
	"bytes"
	"fmt"
	"math/rand"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestRandomHistoryOfFilesThatBeginAlike is TestRandomHistory with files that all begin with the same header, that are deleted, the next
// ones with their inodes, and that are copied and truncated more than once between two looks.
func TestRandomHistoryOfFilesThatBeginAlike(t *testing.T) {
	seed := *randomSeed
	if seed == 0 {
		seed = time.Now().UnixNano()
	}
	for i := range rounds(8) {
		s := seed + int64(i)
		t.Run(fmt.Sprint(s), func(t *testing.T) {
			t.Parallel()
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("repeat with -tail.seed=%d -tail.rounds=1", s)
				}
			})
			rnd := rand.New(rand.NewSource(s))
			h := &alike{history: history{rig: newRig(t), rnd: rnd, alike: true}}
			h.header = bytes.Repeat([]byte("a header that every file begins with\n"), 12)[:100+rnd.Intn(300)]
			h.header[len(h.header)-1] = '\n'
			h.begin()
			for range 120 {
				h.act()
			}
			if _, err := os.Stat(h.path); err != nil {
				h.append() // or it may wait for one
			}
			h.finish("the end")
			if got := h.log.Head(); got != uint64(len(h.written)) {
				t.Fatalf("%d of %d bytes came; %+v", got, len(h.written), h.log.Status())
			}
		})
	}
}

// alike is a history of such files. Each has at least one line of its own by the time it is rotated away: one that is nothing but a header counts as
// a copy of another one's beginning.
type alike struct {
	history
	header []byte
	bare   bool // the live file has only the header, or none of it
	down   bool
	last   uint64 // inode of what the last bytes came from, before the stop
}

func (h *alike) put(b []byte) {
	h.writeBytes("app.log", b)
	h.written = append(h.written, b...)
}

func (h *alike) line() []byte {
	h.lines++
	return fmt.Appendf(nil, "%d of this file alone %s\n", h.lines, bytes.Repeat(fmt.Appendf(nil, " %d", h.lines), telling/2+h.rnd.Intn(100)))
}

// append begins a file, or goes on with one.
func (h *alike) append() {
	at, err := os.Stat(h.path)
	if fresh := err != nil; fresh || at.Size() == 0 && h.rnd.Intn(2) == 0 && (h.down || h.beyond()) {
		tick()
		h.say("header at %d", len(h.written))
		h.put(h.header)
		h.bare = true
		if h.rnd.Intn(2) == 0 {
			return
		}
	}
	h.say("lines at %d", len(h.written))
	for range 1 + h.rnd.Intn(6) {
		h.put(h.line())
	}
	h.bare = false
	h.now = h.now.Add(time.Duration(h.rnd.Intn(1000)) * time.Millisecond)
}

// beyond says that the log knows that the file was truncated: an empty file has nothing in common with one that has a header.
func (h *alike) beyond() bool {
	h.must(ignoreMissing(h.log.Look()))
	g := h.log.live()
	return g != nil && g.offset == 0 && g.size == 0
}

// own gives the file a line of its own.
func (h *alike) own() bool {
	at, err := os.Stat(h.path)
	if err != nil || at.Size() == 0 {
		return false
	}
	if h.bare {
		h.put(h.line())
		h.bare = false
	}
	tick()
	return true
}

func (h *alike) rename() {
	if !h.own() {
		return
	}
	h.renameRotation()
	tick()
	if h.rnd.Intn(2) == 0 {
		h.append()
	}
}

func (h *alike) copyAndTruncate() {
	if !h.own() {
		return
	}
	h.copyTruncate()
	tick()
	if h.rnd.Intn(8) == 0 {
		h.compress("app.log.1")
	}
}

// settle has all read, confirmed, and saved. That can't be while the log waits for a file of an earlier run, and there is none under its path.
func (h *alike) settle(why string) bool {
	h.finish(why)
	h.release()
	h.must(ignoreMissing(h.log.Look()))
	h.save()
	return !h.log.missing
}

func (h *alike) removeOld() {
	for i := 1; i < 200; i++ {
		for _, e := range []string{"", ".gz"} {
			name := fmt.Sprintf("app.log.%d%s", i, e)
			if at, err := statPath(h.name(name)); err == nil && h.rnd.Intn(2) == 0 {
				h.say("remove %s", name)
				h.remove(name)
				h.removed = h.removed || h.down && h.last == at.ino
			}
		}
	}
}

func (h *alike) inode() uint64 {
	var st unix.Stat_t
	_ = unix.Stat(h.path, &st)
	return st.Ino
}

func (h *alike) act() {
	switch n := h.rnd.Intn(100); {
	case n < 30:
		h.append()
	case n < 52:
		k := 1 + h.rnd.Intn(5)
		h.say("%d steps", k)
		for range k {
			h.piece()
		}
	case n < 57:
		h.finish("caught up")
	case n < 66:
		h.rename()
	case n < 73:
		h.copyAndTruncate()
	case n < 77:
		if h.settle("before old files are removed") {
			h.removeOld()
			h.finish("they are gone")
			h.save()
		}
	case n < 81:
		if _, err := os.Stat(h.path); err == nil && h.settle("before the file is removed") {
			was := h.inode()
			h.say("remove app.log")
			h.remove("app.log")
			h.finish("it is gone")
			h.save()
			tick()
			h.append()
			h.say("removed inode %d, new %d", was, h.inode())
		}
	case n < 85:
		to := h.log.Released() + uint64(h.rnd.Int63n(int64(h.log.Head()-h.log.Released()+1)))
		h.say("release to %d", to)
		h.must(h.log.Release(to))
	case n < 89:
		to := h.log.Released() + uint64(h.rnd.Int63n(int64(h.log.Head()-h.log.Released()+1)))
		h.say("seek to %d", to)
		h.must(h.log.Seek(to))
	case n < 90:
		h.say("restart")
		h.restart()
	case n < 91:
		if h.own() {
			h.renameCopy()
		}
	case n < 96:
		h.away(false)
	default:
		h.away(h.settle("before a stop"))
	}
}

// there says that the very file of g has a name.
func (h *alike) there(g GenerationState) bool {
	entries, err := os.ReadDir(h.dir)
	h.must(err)
	for _, e := range entries {
		path := h.name(e.Name())
		if at, err := statPath(path); err == nil && at.same(g.Dev, g.Ino) && nanos(birthOf(unix.AT_FDCWD, path, 0)) == g.Born {
			return true
		}
	}
	return false
}

// away is a crash and what happens until the next start. quiet: all was read, confirmed and saved before.
func (h *alike) away(quiet bool) {
	h.say("crash, quiet %t", quiet)
	if h.last = 0; h.log.sticky() != nil {
		h.last = h.log.sticky().ino
	}
	h.crash()
	h.down = true
	h.quiet = quiet
	small := false
	if quiet {
		h.removed = false
		h.removeOld()
		if at, err := os.Stat(h.path); err == nil && h.rnd.Intn(2) == 0 {
			was := h.inode()
			h.remove("app.log")
			h.removed, small = true, at.Size() < headMax
			tick()
			h.append()
			h.say("removed inode %d, new %d", was, h.inode())
		}
	}
	for range h.rnd.Intn(5) {
		h.append()
		switch h.rnd.Intn(4) {
		case 0, 1:
			h.rename()
		case 2:
			h.copyAndTruncate()
		}
	}
	if small {
		// Were there only others without the header the next one would be taken for what became of this one, once that is compressed.
		h.rename()
		if _, err := os.Stat(h.path); err != nil {
			h.append()
		}
	}
	h.down, h.quiet = false, false
	if s := h.state.Segments; quiet && !h.removed && len(s) > 0 {
		h.again = 0
		for _, g := range h.state.Generations {
			if g.ID == s[len(s)-1].Generation && max(int64(g.Head.Length), g.Offset) < headMax && !h.there(g) {
				h.again = int(g.Offset)
			}
		}
	}
	h.say("start, %d may come again", h.again)
	h.open()
}
