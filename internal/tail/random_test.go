package tail

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"log/slog"
	"math/rand"
	"os"
	"slices"
	"testing"
	"time"
)

var (
	randomSeed   = flag.Int64("tail.seed", 0, "seed of the random test; 0 takes one by the clock")
	randomRounds = flag.Int("tail.rounds", 0, "how many random histories; 0 takes as many as a few seconds allow")
)

func rounds(usual int) int { return cmp.Or(*randomRounds, usual) }

// TestRandomHistory does what administrators and crashes do in random order, and
// compares each byte at each position with what was written.
func TestRandomHistory(t *testing.T) {
	seed := *randomSeed
	if seed == 0 {
		seed = time.Now().UnixNano()
	}
	for i := range rounds(40) {
		s := seed + int64(i)
		t.Run(fmt.Sprint(s), func(t *testing.T) {
			h := &history{rig: newRig(t), rnd: rand.New(rand.NewSource(s))}
			h.run()
			if t.Failed() {
				t.Logf("repeat with -tail.seed=%d -tail.rounds=1", s)
			}
		})
	}
}

type history struct {
	*rig
	rnd     *rand.Rand
	written []byte // of the whole log, in order
	sent    uint64 // the furthest position that was ever handed out
	lines   int
	removed bool            // a file was deleted while nobody looked: who knows what was in it
	lost    map[uint64]bool // positions of such losses
	again   int             // so many of the last bytes may come again behind one
	alike   bool            // files begin alike
	spared  map[uint64]bool // inodes of copies that aren't compressed
	quiet   bool            // all was read, confirmed and saved before a stop
	trace   []string
}

func (h *history) begin() {
	h.lost, h.spared = map[uint64]bool{}, map[uint64]bool{}
	h.cfg.Logger = slog.New(slog.NewTextHandler(h, &slog.HandlerOptions{Level: slog.LevelDebug}))
	h.t.Cleanup(func() {
		if h.t.Failed() {
			for _, s := range h.trace {
				h.t.Log(s)
			}
		}
	})
	h.open()
}

func (h *history) run() {
	h.begin()
	for range 150 {
		h.act()
	}
	h.finish("the end")
	if got := h.log.Head(); got != uint64(len(h.written)) {
		h.t.Fatalf("%d of %d bytes came; %+v", got, len(h.written), h.log.Status())
	}
}

// Write takes what the log says into the trace.
func (h *history) Write(p []byte) (int, error) {
	h.say("  %s", bytes.TrimSpace(p))
	return len(p), nil
}

func (h *history) say(format string, args ...any) {
	h.trace = append(h.trace, fmt.Sprintf(format, args...))
}

func (h *history) act() {
	switch n := h.rnd.Intn(100); {
	case n < 35:
		h.append()
	case n < 60:
		k := 1 + h.rnd.Intn(5)
		h.say("%d steps", k)
		for range k {
			h.piece()
		}
	case n < 66:
		h.finish("caught up")
	case n < 74:
		h.renameRotation()
	case n < 77:
		h.copyTruncate()
	case n < 79:
		h.renameCopy()
	case n < 82:
		h.finish("before truncation")
		h.release() // else what was handed out is gone
		h.save()
		h.say("truncate")
		if _, err := os.Stat(h.path); err == nil {
			h.must(os.Truncate(h.path, 0))
		}
		h.must(ignoreMissing(h.log.Look()))
		h.save() // else a crash can't tell that nothing is missing
	case n < 88:
		to := h.log.Released() + uint64(h.rnd.Int63n(int64(h.log.Head()-h.log.Released()+1)))
		h.say("release to %d", to)
		h.must(h.log.Release(to))
	case n < 93:
		to := h.log.Released() + uint64(h.rnd.Int63n(int64(h.log.Head()-h.log.Released()+1)))
		h.say("seek to %d", to)
		h.must(h.log.Seek(to))
	case n < 96:
		h.say("restart")
		h.restart()
	default:
		h.say("crash")
		h.crash()
		h.down()
		h.open()
	}
}

// down is what happens while the forwarder is down.
func (h *history) down() {
	for range h.rnd.Intn(4) {
		h.append()
		switch h.rnd.Intn(3) {
		case 0:
			h.renameRotation()
		case 1:
			h.copyTruncate()
		}
	}
}

func ignoreMissing(err error) error {
	if os.IsNotExist(err) || err == nil {
		return nil
	}
	if u, ok := err.(interface{ Unwrap() error }); ok {
		return ignoreMissing(u.Unwrap())
	}
	return err
}

func (h *history) append() {
	var b bytes.Buffer
	at, err := os.Stat(h.path)
	// What a file begins with isn't so little that its content doesn't tell: see TestSmallFileLikeAnEarlierOneIsSent.
	least := 0
	if err != nil || at.Size() == 0 {
		least = telling
	}
	for n := 1 + h.rnd.Intn(40); n > 0 || b.Len() < least; n-- {
		h.lines++
		fmt.Fprintf(&b, "%d %s\n", h.lines, bytes.Repeat([]byte{byte(h.rnd.Intn(256))}, h.rnd.Intn(90)))
	}
	h.say("append %d at %d", b.Len(), len(h.written))
	h.writeBytes("app.log", b.Bytes())
	h.written = append(h.written, b.Bytes()...)
	h.now = h.now.Add(time.Duration(h.rnd.Intn(1000)) * time.Millisecond)
}

func (h *history) shift() {
	const keep = 200 // none is deleted, however many rotations there are
	for i := keep; i > 0; i-- {
		for _, e := range []string{"", ".gz"} {
			from := h.name(fmt.Sprintf("app.log.%d%s", i, e))
			if _, err := os.Stat(from); err != nil {
				continue
			}
			h.must(os.Rename(from, h.name(fmt.Sprintf("app.log.%d%s", i+1, e))))
		}
	}
	// Delaycompress.
	if _, err := os.Stat(h.name("app.log.2")); err == nil && h.rnd.Intn(2) == 0 {
		h.compress("app.log.2")
	}
}

func (h *history) renameRotation() {
	if _, err := os.Stat(h.path); err != nil {
		return
	}
	h.say("rename rotation")
	h.shift()
	h.rename("app.log", "app.log.1")
	if h.rnd.Intn(4) == 0 {
		h.compress("app.log.1")
	}
}

func (h *history) compress(name string) {
	at, err := statPath(h.name(name))
	h.must(err)
	if !h.alike || !h.spared[at.ino] && !h.hardlyKnown(at.ino) {
		h.gzip(name)
	}
}

// hardlyKnown says that of a file less is known than a fingerprint covers. Where others begin alike its compressed form isn't told from a later file
// after a restart: it is sent again, behind a gap. Where not all was read and confirmed nobody can say what comes then.
func (h *history) hardlyKnown(ino uint64) bool {
	return !h.quiet && (slices.ContainsFunc(h.log.gens, func(g *generation) bool { return g.ino == ino && g.known() < headMax }) ||
		slices.ContainsFunc(h.state.Generations, func(g GenerationState) bool {
			return g.Ino == ino && max(int64(g.Head.Length), g.Offset) < headMax
		}))
}

func (h *history) copyTruncate() {
	st, err := os.Stat(h.path)
	if err != nil || st.Size() == 0 {
		return
	}
	h.say("copytruncate")
	h.shift()
	h.copy("app.log", "app.log.1")
	if at, err := statPath(h.path); err == nil {
		hardly := h.spared[at.ino] || h.hardlyKnown(at.ino)
		if at, err = statPath(h.name("app.log.1")); err == nil {
			h.spared[at.ino] = hardly
		}
	}
	h.truncate("app.log")
}

// piece takes one piece and compares it.
func (h *history) piece() bool {
	h.t.Helper()
	buf := make([]byte, 1+h.rnd.Intn(3000))
	p, err := h.log.Peek(buf)
	if err := ignoreMissing(err); err != nil {
		h.t.Fatalf("peek: %v", err)
	}
	if at := p.Position; p.Loss != nil && p.Loss.Cause == NotFound && (h.removed || h.again > 0 || h.lost[at]) {
		h.say("loss of %d at %d", p.Loss.Length, at)
		if !h.lost[at] { // it takes positions, as if they had been written
			h.written = slices.Concat(h.written[:at], make([]byte, p.Loss.Length), h.written[at-uint64(h.again):])
			h.removed, h.again, h.lost[at] = false, 0, true
		}
		h.must(h.log.Advance(p.Loss.Length))
		h.save()
		return true
	}
	if p.Loss != nil {
		h.t.Fatalf("loss at %d of %d written: %+v; %+v", p.Position, len(h.written), *p.Loss, h.log.Status())
	}
	if len(p.Data) == 0 {
		h.now = h.now.Add(time.Duration(h.rnd.Intn(900)) * time.Millisecond)
		return false
	}
	h.again = 0
	end := p.Position + uint64(len(p.Data))
	if end > uint64(len(h.written)) || !bytes.Equal(p.Data, h.written[p.Position:end]) {
		h.t.Fatalf("position %d: got %s\nstatus %+v", p.Position, brief(p.Data), h.log.Status())
	}
	n := 1 + h.rnd.Intn(len(p.Data))
	h.must(h.log.Advance(uint64(n)))
	if p.NewSegment || h.rnd.Intn(5) == 0 {
		h.save()
	}
	h.sent = max(h.sent, p.Position+uint64(n))
	if h.rnd.Intn(10) == 0 {
		from := h.log.Released() + uint64(h.rnd.Int63n(int64(h.log.Head()-h.log.Released()+1)))
		if from < h.log.Head() {
			p, err := h.log.Reread(from, buf)
			h.must(err)
			if !bytes.Equal(p.Data, h.written[from:from+uint64(len(p.Data))]) {
				h.t.Fatalf("reread %d: %s", from, brief(p.Data))
			}
		}
	}
	return true
}

func (h *history) finish(why string) {
	h.t.Helper()
	h.say("finish: %s", why)
	for idle := 0; idle < 4; {
		if h.piece() {
			idle = 0
		} else {
			idle++
			h.now = h.now.Add(time.Second)
		}
	}
}
