package tail

import (
	"fmt"
	"maps"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestRandomHistoryTakenBackToASnapshot is TestRandomHistory with a machine whose files and state are put back, now and then, as they were at an
// earlier moment: they have other inodes then, and the times that they had, the live file perhaps another. What is written afterwards isn't what was
// written before.
func TestRandomHistoryTakenBackToASnapshot(t *testing.T) {
	seed := *randomSeed
	if seed == 0 {
		seed = time.Now().UnixNano()
	}
	for i := range rounds(12) {
		s := seed + int64(i)
		t.Run(fmt.Sprint(s), func(t *testing.T) {
			t.Parallel()
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("repeat with -tail.seed=%d -tail.rounds=1", s)
				}
			})
			h := &backup{history: history{rig: newStored(t), rnd: rand.New(rand.NewSource(s))}}
			h.begin()
			for range 120 {
				switch h.rnd.Intn(20) {
				case 0:
					h.take()
				case 1:
					if h.taken != nil {
						h.putBack()
					}
				default:
					h.act()
				}
			}
			h.finish("the end")
			if got := h.log.Head(); got != uint64(len(h.written)) {
				t.Fatalf("%d of %d bytes came; %+v", got, len(h.written), h.log.Status())
			}
		})
	}
}

// backup is such a history.
type backup struct {
	history
	taken *snapshot
}

// snapshot is what all was like at a moment when all was read, confirmed and saved.
type snapshot struct {
	files   map[string][]byte
	times   map[string]time.Time
	state   State
	written []byte
	lost    map[uint64]bool
}

func (h *backup) take() {
	h.finish("before a snapshot")
	h.release()
	h.must(ignoreMissing(h.log.Look()))
	h.save()
	h.say("snapshot at %d", len(h.written))
	s := &snapshot{files: map[string][]byte{}, times: map[string]time.Time{}, state: h.state, written: slices.Clone(h.written), lost: maps.Clone(h.lost)}
	for _, name := range h.entries() {
		at, err := os.Stat(h.name(name))
		h.must(err)
		s.times[name] = at.ModTime()
		s.files[name], err = os.ReadFile(h.name(name))
		h.must(err)
	}
	h.taken = s
}

// putBack leaves the machine down for a while after that.
func (h *backup) putBack() {
	s, kept := h.taken, h.rnd.Intn(2) == 0
	h.say("put back to %d, times kept %t", len(s.written), kept)
	h.crash()
	back := h.dir + ".back"
	for made := s.state.Made.Dir; made == s.state.Made.Dir; made = nanos(birthOf(unix.AT_FDCWD, back, 0)) {
		h.must(os.RemoveAll(back))
		h.must(os.Mkdir(back, 0o700))
	}
	for _, name := range slices.Sorted(maps.Keys(s.files)) {
		h.must(os.WriteFile(filepath.Join(back, name), s.files[name], 0o600))
		if kept || name != "app.log" {
			h.must(os.Chtimes(filepath.Join(back, name), s.times[name], s.times[name]))
		}
	}
	h.must(os.RemoveAll(h.dir))
	h.must(os.Rename(back, h.dir))
	remade(h.t, h.cfg.StateFile)
	h.state, h.written, h.lost = s.state, slices.Clone(s.written), maps.Clone(s.lost)
	if h.rnd.Intn(2) == 0 {
		h.append() // to the file that was put back, or to a first one
	} else {
		h.down()
	}
	if _, err := os.Stat(h.path); err != nil {
		h.append() // or it may wait for one
	}
	h.again, h.removed = 0, false
	if g := h.last(); g != nil && max(int64(g.Head.Length), g.Offset) < headMax && !h.begins("app.log", g) {
		// It was rotated or cut since, and so little is told from a later file by its time alone. What holds no more than was read doesn't come again.
		h.removed = true
		for _, name := range h.entries() {
			if h.begins(name, g) && int64(len(h.content(name))) != g.Offset {
				h.again = int(g.Offset)
			}
		}
	}
	h.say("start, %d may come again", h.again)
	h.open()
}

// last is the file that the last bytes came from, nil behind a loss.
func (h *backup) last() *GenerationState {
	n := len(h.state.Segments)
	i := slices.IndexFunc(h.state.Generations, func(g GenerationState) bool { return n > 0 && g.ID == h.state.Segments[n-1].Generation })
	if i < 0 || h.state.Generations[i].ID == "" {
		return nil
	}
	return &h.state.Generations[i]
}

// entries are the names of the log's files.
func (h *backup) entries() (names []string) {
	entries, err := os.ReadDir(h.dir)
	h.must(err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// content is what a file holds, unpacked; nothing, where there is none.
func (h *backup) content(name string) []byte {
	kind, _ := packing(name)
	c := &candidate{path: h.name(name), kind: kind}
	if ok, err := c.open(h.cfg.Allowed); !ok || err != nil {
		return nil
	}
	defer c.close()
	n, err := c.length()
	h.must(err)
	b := make([]byte, n)
	_, err = readAt(c.content, b, 0)
	h.must(err)
	return b
}

// begins says that a file begins with what was read of g.
func (h *backup) begins(name string, g *GenerationState) bool {
	b := h.content(name)
	return int64(len(b)) >= g.Offset && sumOf(b[:min(len(b), g.Head.Length)]) == g.Head.sum()
}
