package forward

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"logforward/internal/broker"
	"logforward/internal/chunk"
	"logforward/internal/seed"

	"github.com/nats-io/nats-server/v2/server"
)

// newSealed is a node that seals, with small chunks and blocks.
func newSealed(t testing.TB, c *centre, change func(*Config)) *node {
	n := newNode(t, c)
	n.change = func(cfg *Config) {
		n.seal(cfg)
		cfg.Limits.ChunkSize, cfg.Limits.SealBlock = 4<<10, 32<<10
		if change != nil {
			change(cfg)
		}
	}
	return n
}

// last is the last seal that came of a log.
func (c *centre) lastSeal(t testing.TB, log string) chunk.Seal {
	t.Helper()
	all := c.seals(log)
	if len(all) == 0 {
		t.Fatalf("%s: no seal came", log)
	}
	return all[len(all)-1]
}

// chain follows Prev from a seal back to the first block, and returns the number of blocks. All of them must be there.
func (c *centre) chain(t testing.TB, log string, s chunk.Seal, epoch uint64) (blocks int) {
	t.Helper()
	of := chunk.SealOf{Identity: identity, Log: log, Epoch: epoch}
	ids := map[chunk.Hash]chunk.Seal{}
	for _, s := range c.seals(log) {
		ids[s.ID(of)] = s
	}
	for blocks = 1; s.Prev != (chunk.Hash{}); blocks++ {
		before, ok := ids[s.Prev]
		if !ok {
			t.Fatalf("the seal of %d to %d names one that never came", s.From, s.To)
		}
		s = before
	}
	if s.From != 0 {
		t.Errorf("the chain of blocks begins at %d", s.From)
	}
	return blocks
}

func TestSealsCoverALogInBlocks(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newSealed(t, c, func(cfg *Config) { cfg.Limits.SealBlock = 0 }) // as it is by default
	want := lines(seeded(t), 40000)
	n.append("app", want)
	n.start(n.log("app"))
	n.delivered("app", want)
	c.allSealed(t, "app")
	seals, epoch := c.seals("app"), n.status("app").Epoch
	blocks := c.chain(t, "app", seals[len(seals)-1], epoch)
	if least := len(want) / (chunk.SealBlock + 4<<10); blocks < least || blocks > len(want)/chunk.SealBlock+1 {
		t.Errorf("%d blocks of %d bytes", blocks, len(want))
	}
	// What lies there already is read in one go: a seal at each block's end, not with each chunk.
	if len(seals) > 3*blocks {
		t.Errorf("%d seals for %d blocks: %v", len(seals), blocks, shortly(seals))
	}
	key, err := seed.Load(filepath.Join(n.state, SealKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range seals {
		if !s.Key.Equal(key.Public()) || time.Since(s.Time) > time.Hour {
			t.Errorf("signed at %s by %x", s.Time, s.Key)
		}
	}
	last := seals[len(seals)-1]
	eventually(t, "the status has the last seal", func() bool {
		s := n.status("app")
		return s.Seals && s.Unsealed == "" && s.Sealed == Sealed{epoch, uint64(len(want)), last.ID(chunk.SealOf{Identity: identity, Log: "app", Epoch: epoch})}
	})
}

// However a log's bytes come, once it is silent all of it is sealed: also what has no end of line yet.
func TestSealOfASilentLogReachesItsEnd(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newSealed(t, c, nil)
	n.start(n.log("app"))
	var want []byte
	for _, text := range []string{"a line\n", "another\nand half", " of a third", "\n", strings.Repeat("many\n", 5000), "end"} {
		n.append("app", []byte(text))
		want = append(want, text...)
		n.delivered("app", want)
		c.allSealed(t, "app")
		if s := c.lastSeal(t, "app"); s.To != uint64(len(want)) {
			t.Errorf("after %d bytes the last seal ends at %d", len(want), s.To)
		}
	}
	c.chain(t, "app", c.lastSeal(t, "app"), n.status("app").Epoch)
}

func TestSealGoesOnWithItsBlockAfterARestart(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"stop", "crash"} {
		t.Run(end, func(t *testing.T) {
			c := newCentre(t)
			n := newSealed(t, c, func(cfg *Config) { cfg.Limits.SealBlock = 0 })
			r := seeded(t)
			var want []byte
			for range 4 {
				piece := lines(r, 300)
				n.append("app", piece)
				want = append(want, piece...)
				n.start(n.log("app"))
				n.delivered("app", want)
				eventually(t, "it is in the checkpoint", func() bool {
					rec, err := n.st.checkpoint("central", "app")
					return err == nil && rec.Confirmed == uint64(len(want))
				})
				if end == "stop" {
					n.stop()
				} else {
					n.crash()
				}
			}
			c.allSealed(t, "app")
			for _, s := range c.seals("app") {
				if s.From != 0 {
					t.Errorf("a block begins at %d", s.From)
				}
			}
			if s := c.lastSeal(t, "app"); s.To != uint64(len(want)) {
				t.Errorf("it ends at %d of %d", s.To, len(want))
			}
			n.start()
			eventually(t, "the status still has the last seal", func() bool { return n.status("app").Sealed.Position == uint64(len(want)) })
		})
	}
}

// What goes out again has the same seals: at the same positions, with the same ID.
func TestSealsStayAsTheyWereWhenChunksGoOutAgain(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newSealed(t, c, nil)
	r := seeded(t)
	c.rest(true) // all of it is sent first
	n.start(n.log("app"))
	var want []byte
	for range 20 { // of which some end where the log's end is, and some blocks
		piece := lines(r, 1+r.IntN(200))
		n.append("app", piece)
		want = append(want, piece...)
		eventually(t, "stored", func() bool { return n.status("app").Stored == uint64(len(want)) })
	}
	drop := rand.New(rand.NewPCG(r.Uint64(), 3))
	c.with(func() { c.lose = func(*chunk.Chunk) bool { return drop.IntN(10) == 0 } })
	c.rest(false)
	eventually(t, "it went back some times", func() bool { return n.status("app").Resends > 2 || n.status("app").State == Idle })
	c.with(func() { c.lose = nil })
	n.delivered("app", want)
	c.allSealed(t, "app")
	epoch := n.status("app").Epoch
	of := chunk.SealOf{Identity: identity, Log: "app", Epoch: epoch}
	from, ids, repeated := map[uint64]uint64{}, map[uint64]chunk.Hash{}, 0
	for _, s := range c.seals("app") {
		if id, ok := ids[s.To]; ok {
			repeated++
			if id != s.ID(of) || from[s.To] != s.From {
				t.Errorf("a seal that ends at %d begins at %d, then at %d", s.To, from[s.To], s.From)
			}
		}
		from[s.To], ids[s.To] = s.From, s.ID(of)
	}
	if repeated == 0 {
		t.Error("no seal came twice: nothing was shown")
	}
	c.chain(t, "app", c.lastSeal(t, "app"), epoch)
}

func TestSealsSurviveAWipedBroker(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newSealed(t, c, nil)
	r := seeded(t)
	want := lines(r, 500)
	n.append("app", want)
	n.start(n.log("app"))
	n.delivered("app", want)
	for range 2 {
		c.mute(true)
		more := lines(r, 1000)
		n.append("app", more)
		want = append(want, more...)
		eventually(t, "stored, not confirmed", func() bool { return n.status("app").Stored == uint64(len(want)) })
		c.wipe()
		c.mute(false)
		n.delivered("app", want)
		c.allSealed(t, "app")
	}
	c.chain(t, "app", c.lastSeal(t, "app"), n.status("app").Epoch)
}

// A gap ends the block before it, and the one behind it names that.
func TestSealBeforeAndBehindAGap(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newSealed(t, c, func(cfg *Config) { cfg.Limits.SealBlock = 0 })
	r := seeded(t)
	first := lines(r, 200)
	n.append("app", first)
	n.start(n.log("app"))
	n.delivered("app", first)
	n.engine.Pause("app", true)
	eventually(t, "paused", func() bool { return n.status("app").State == Paused })
	n.append("app", lines(r, 100))
	eventually(t, "it has seen that", func() bool { return n.status("app").LagBytes > 0 })
	if err := os.Truncate(n.path("app"), 0); err != nil {
		t.Fatal(err)
	}
	fresh := lines(r, 50)
	n.append("app", fresh)
	n.engine.Pause("app", false)
	want := append(bytes.Clone(first), fresh...)
	n.delivered("app", want)
	c.allSealed(t, "app")
	g := c.look("app")
	if len(g.gaps) == 0 {
		t.Fatal("there is no gap: nothing was shown")
	}
	gap := g.gaps[0]
	if gap.Seal == nil || gap.Seal.From != 0 || gap.Seal.To != gap.Position {
		t.Fatalf("the gap at %d has the seal %v", gap.Position, gap.Seal)
	}
	end := g.gaps[len(g.gaps)-1].End()
	s := c.lastSeal(t, "app")
	if s.From != end || s.Prev != gap.Seal.ID(chunk.SealOf{Identity: identity, Log: "app", Epoch: g.Epoch}) {
		t.Errorf("behind the gap, which ends at %d, is a block from %d", end, s.From)
	}
}

// Chunks that were sent become a gap, because their file was written over. Their block isn't sealed over it.
func TestSealOfWhatBecameAGap(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newSealed(t, c, nil)
	r := seeded(t)
	first := lines(r, 100)
	n.append("app", first)
	n.start(n.log("app"))
	n.delivered("app", first)
	c.mute(true)
	lost := lines(r, 800) // some blocks
	n.append("app", lost)
	eventually(t, "stored", func() bool { return n.status("app").Stored == uint64(len(first)+len(lost)) })
	f, err := os.OpenFile(n.path("app"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	at := len(first) + len(lost)/2
	if _, err := f.WriteAt(bytes.Repeat([]byte("#"), 1<<10), int64(at)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	c.wipe()
	c.mute(false)
	eventually(t, "all is sent again", func() bool { s := n.status("app"); return s.State == Idle && s.Unconfirmed == 0 && s.Gaps > 0 })
	c.allSealed(t, "app")
	more := lines(r, 300)
	n.append("app", more)
	eventually(t, "what comes behind", func() bool { return bytes.HasSuffix(c.data("app"), more) && n.status("app").State == Idle })
	c.allSealed(t, "app")
	c.chain(t, "app", c.lastSeal(t, "app"), n.status("app").Epoch)
}

// A broker that takes less than before has chunks split. The ends of blocks stay where they were.
func TestSealsOfSplitChunks(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	s := c.raw(func(o *server.Options) { o.MaxPayload = 1 << 20 })
	n := newSealed(t, c, func(cfg *Config) { cfg.Limits.ChunkSize, cfg.Limits.SealBlock = 256<<10, 64<<10 })
	want := lines(seeded(t), 100)
	n.append("app", want)
	n.start(n.log("app"))
	n.delivered("app", want)
	c.mute(true)
	more := bytes.Repeat([]byte("much\n"), 200<<10)
	n.append("app", more)
	want = append(want, more...)
	eventually(t, "stored", func() bool { return n.status("app").Stored == uint64(len(want)) })
	f := n.engine.runs["app"]
	ends := make(chan map[uint64]bool, 1)
	f.post(func() {
		marked := map[uint64]bool{}
		for i := range f.flight.chunks {
			if c := &f.flight.chunks[i]; c.seals == blockEnd {
				marked[c.end()] = true
			}
		}
		ends <- marked
	})
	marked := <-ends
	c.with(func() { c.lose = func(ch *chunk.Chunk) bool { return ch.Length > 64<<10 } }) // as if the broker had lost them
	s.reload(func(o *server.Options) { o.MaxPayload = 64 << 10 })
	c.mute(false)
	n.delivered("app", want)
	c.allSealed(t, "app")
	if len(marked) < 3 {
		t.Fatalf("%d blocks ended: nothing was shown", len(marked))
	}
	for _, s := range c.seals("app") {
		if s.To > s.From+64<<10 && s.To < uint64(len(want)) && s.From > 0 && !marked[s.To] {
			t.Errorf("a block from %d ends at %d, where none did: %v", s.From, s.To, marked)
		}
	}
	c.chain(t, "app", c.lastSeal(t, "app"), n.status("app").Epoch)
}

// A new epoch begins a chain of its own.
func TestSealsOfANewEpoch(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newSealed(t, c, nil)
	r := seeded(t)
	want := lines(r, 1000)
	n.append("app", want)
	n.start(n.log("app"))
	n.delivered("app", want)
	first := n.status("app").Epoch
	f := n.engine.runs["app"]
	f.post(func() { f.onFork(chunk.Fork{Epoch: f.rec.Epoch}) })
	eventually(t, "a new epoch", func() bool { s := n.status("app"); return s.Epoch > first && s.State == Idle })
	more := lines(r, 1000)
	n.append("app", more)
	n.delivered("app", append(bytes.Clone(want), more...))
	c.allSealed(t, "app")
	epoch := n.status("app").Epoch
	if blocks := c.chain(t, "app", c.lastSeal(t, "app"), epoch); blocks < 2 {
		t.Errorf("%d blocks", blocks)
	}
	if s := n.status("app").Sealed; s.Epoch != epoch || s.Position != uint64(len(more)) {
		t.Errorf("the status has %+v", s)
	}
}

// A node that has lost its state, and its key, begins a new block where the centre stands, with a new key.
func TestSealsAfterALostState(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newSealed(t, c, nil)
	r := seeded(t)
	want := lines(r, 1000)
	n.append("app", want)
	n.start(n.log("app"))
	n.delivered("app", want)
	n.stop()
	key := c.lastSeal(t, "app").Key
	n.forget()
	more := lines(r, 1000)
	n.append("app", more)
	n.start()
	n.delivered("app", append(bytes.Clone(want), more...))
	c.allSealed(t, "app") // it was silent, and so sealed to its end
	fresh := 0
	for _, s := range c.seals("app") {
		if s.Key.Equal(key) {
			continue
		}
		if fresh++; fresh == 1 && (s.From != uint64(len(want)) || s.Prev != chunk.Hash{}) {
			t.Errorf("the first block after it begins at %d behind %s; the centre stood at %d", s.From, s.Prev, len(want))
		}
	}
	if fresh == 0 {
		t.Error("no seal of the new key came")
	}
}

// A node crashes after it has sent some blocks, and sends them again in other chunks, before the centre takes any. Then that takes those of the earlier run, and what
// comes behind them has a seal that covers all.
func TestSealCoversWhatAnEarlierRunSent(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	size := 4 << 10
	n := newSealed(t, c, func(cfg *Config) { cfg.Limits.ChunkSize, cfg.Limits.SealBlock = size, 16<<10 })
	r := seeded(t)
	want := lines(r, 100)
	n.append("app", want)
	n.start(n.log("app"))
	n.delivered("app", want)
	c.rest(true)
	more := lines(r, 2000)
	n.append("app", more)
	want = append(want, more...)
	for _, size = range []int{7 << 10, 5 << 10} {
		eventually(t, "stored", func() bool { return n.status("app").Stored == uint64(len(want)) })
		n.crash()
		n.start()
	}
	eventually(t, "stored again", func() bool { return n.status("app").Stored == uint64(len(want)) })
	last := lines(r, 500)
	n.append("app", last)
	want = append(want, last...)
	eventually(t, "stored, too", func() bool { return n.status("app").Stored == uint64(len(want)) })
	c.rest(false)
	n.delivered("app", want)
	if g := c.look("app"); g.dups == 0 || len(g.epochs) != 1 {
		t.Errorf("%d duplicates, epochs %v: nothing was shown", g.dups, g.epochs)
	}
	c.allSealed(t, "app")
	c.chain(t, "app", c.lastSeal(t, "app"), n.status("app").Epoch)
}

// The centre has more than this node's state says: that is read without being sent, and the next seal is of it, too.
func TestSealGoesOnOverWhatTheCentreHas(t *testing.T) {
	t.Parallel()
	for _, meanwhile := range []int{10, 1000} { // less than a block, and some
		c := newCentre(t)
		n := newSealed(t, c, nil)
		r := seeded(t)
		first := lines(r, 300)
		n.append("app", first)
		n.start(n.log("app"))
		n.delivered("app", first)
		eventually(t, "it is in the checkpoint", func() bool {
			rec, err := n.st.checkpoint("central", "app")
			return err == nil && rec.Confirmed == uint64(len(first))
		})
		n.crash() // what is reserved stays so
		snapshot := t.TempDir() + "/snapshot"
		copyTree(t, n.state, snapshot)
		second := lines(r, meanwhile)
		n.append("app", second)
		n.start()
		want := append(bytes.Clone(first), second...)
		n.delivered("app", want)
		n.stop()

		copyTree(t, snapshot, n.state)
		n.start()
		n.delivered("app", want)
		third := lines(r, 10)
		n.append("app", third)
		want = append(want, third...)
		n.delivered("app", want)
		if g := c.look("app"); len(g.epochs) != 1 {
			t.Errorf("epochs %v: nothing was shown", g.epochs)
		}
		c.allSealed(t, "app")
		s := c.lastSeal(t, "app")
		c.chain(t, "app", s, n.status("app").Epoch)
		if s.From >= uint64(len(first)) || s.To != uint64(len(want)) {
			t.Errorf("the seal is of %d to %d; the state ended at %d", s.From, s.To, len(first))
		}
	}
}

// A log that moves has a chain at each destination that is sealed, and none at one that isn't.
func TestSealsOfALogThatMoves(t *testing.T) {
	t.Parallel()
	c, other := newCentre(t), newCentre(t)
	n := newSealed(t, c, func(cfg *Config) {
		cfg.Destinations["other"] = Destination{Broker: broker.Options{URLs: []string{other.listen}}}
	})
	other.with(func() { other.record = true })
	r := seeded(t)
	first := lines(r, 1000)
	n.append("app", first)
	n.start(n.log("app"))
	n.delivered("app", first)
	log := n.log("app")
	log.Destination = "other"
	n.engine.Set([]Log{log})
	eventually(t, "it moves", func() bool { s := n.status("app"); return s.Destination == "other" && s.State == Idle })
	second := lines(r, 500)
	n.append("app", second)
	eventually(t, "it is at the other", func() bool { return bytes.Equal(other.data("app"), second) && n.status("app").State == Idle })
	if seals := other.seals("app"); len(seals) > 0 || n.status("app").Seals {
		t.Errorf("%d seals came where nothing is to be sealed", len(seals))
	}
	n.engine.Set([]Log{n.log("app")})
	eventually(t, "it is back", func() bool { s := n.status("app"); return s.Destination == "central" && s.State == Idle })
	third := lines(r, 500)
	n.append("app", third)
	n.delivered("app", append(bytes.Clone(first), third...))
	c.allSealed(t, "app")
	if s := c.lastSeal(t, "app"); s.To != uint64(len(third)) {
		t.Errorf("the last seal ends at %d", s.To)
	}
	c.chain(t, "app", c.lastSeal(t, "app"), n.status("app").Epoch)
}

func TestSealsWhereTheBrokersWordIsEnough(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newSealed(t, c, func(cfg *Config) {
		d := cfg.Destinations["central"]
		d.Commit = Stored
		cfg.Destinations["central"] = d
	})
	r := seeded(t)
	var want []byte
	for range 3 {
		piece := lines(r, 500)
		n.append("app", piece)
		want = append(want, piece...)
		n.start(n.log("app"))
		n.delivered("app", want)
		n.stop()
	}
	c.allSealed(t, "app")
	c.chain(t, "app", c.lastSeal(t, "app"), c.look("app").Epoch)
}

// Where it is off there is neither key nor seal, and nothing of it in the checkpoint.
func TestSealIsOffUnlessWanted(t *testing.T) {
	if *sealAll {
		t.Skip("-sealed has it on")
	}
	t.Parallel()
	c := newCentre(t)
	c.with(func() { c.record = true })
	n := newNode(t, c)
	want := lines(seeded(t), 100)
	n.append("app", want)
	n.start(n.log("app"))
	n.delivered("app", want)
	if s := n.status("app"); s.Seals || s.Sealed != (Sealed{}) || n.engine.Unsealed() != nil {
		t.Errorf("%+v", s)
	}
	n.stop()
	if seals := c.seals("app"); len(seals) > 0 {
		t.Errorf("%d seals", len(seals))
	}
	list, err := os.ReadDir(n.state)
	if err != nil || len(list) != 2 {
		t.Errorf("in the state directory: %v, %v", list, err)
	}
	raw, err := os.ReadFile(filepath.Join(n.state, stateFile))
	if err != nil || bytes.Contains(raw, []byte(`"seal"`)) {
		t.Errorf("the checkpoint speaks of seals, %v", err)
	}
}

// Positions that went out while it was off are in no seal, once it is on again.
func TestSealLeavesOutWhatWentOutUnsealed(t *testing.T) {
	if *sealAll {
		t.Skip("-sealed has it on")
	}
	t.Parallel()
	c := newCentre(t)
	on := true
	n := newSealed(t, c, func(cfg *Config) {
		d := cfg.Destinations["central"]
		d.Seal = on
		cfg.Destinations["central"] = d
	})
	r := seeded(t)
	var want []byte
	var begins []uint64
	for _, on = range []bool{true, false, true} {
		begins = append(begins, uint64(len(want)))
		piece := lines(r, 50)
		n.append("app", piece)
		want = append(want, piece...)
		n.start(n.log("app"))
		n.delivered("app", want)
		n.stop()
	}
	s := c.lastSeal(t, "app")
	if s.From != begins[2] || s.To != uint64(len(want)) || s.Prev != (chunk.Hash{}) {
		t.Errorf("the last seal is of %d to %d behind %s", s.From, s.To, s.Prev)
	}
	if open := c.unsealed("app"); len(open) != 1 || len(open[c.look("app").Epoch]) != 1 || open[c.look("app").Epoch][0] != [2]uint64{begins[1], begins[2]} {
		t.Errorf("unsealed: %v; it was off from %d to %d", open, begins[1], begins[2])
	}
}

// A key that can't be had stops nothing and is told; once it can be had the next seal is of all that went out since.
func TestSealWithoutAKey(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	said := new(noted)
	n := newSealed(t, c, func(cfg *Config) { cfg.Logger = slog.New(slog.NewTextHandler(said, nil)) })
	r := seeded(t)
	if err := os.MkdirAll(n.state, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(n.state, SealKeyFile)
	if err := os.WriteFile(path, []byte(strings.Repeat("0b", ed25519.SeedSize)), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	want := lines(r, 1000)
	n.append("app", want)
	n.start(n.log("app"))
	n.delivered("app", want)
	if s := n.status("app"); !s.Seals || !strings.Contains(s.Unsealed, "mode 0644") || s.Sealed != (Sealed{}) || s.LastError != "" {
		t.Errorf("%+v", s)
	}
	if err := n.engine.Unsealed(); err == nil || !strings.Contains(err.Error(), path) {
		t.Error(err)
	}
	if seals := c.seals("app"); len(seals) > 0 {
		t.Errorf("%d seals", len(seals))
	}
	if text := said.String(); strings.Count(text, "they go out unsealed") != 1 || !strings.Contains(text, "level=ERROR") {
		t.Errorf("said: %s", text)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	n.engine.signer.mu.Lock()
	n.engine.signer.next = time.Time{} // as if the time until the next try had passed
	n.engine.signer.mu.Unlock()
	eventually(t, "it has the key", func() bool { return n.status("app").Unsealed == "" })
	more := lines(r, 10)
	n.append("app", more)
	want = append(want, more...)
	n.delivered("app", want)
	c.allSealed(t, "app")
	public := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{11}, ed25519.SeedSize)).Public().(ed25519.PublicKey)
	if s := c.lastSeal(t, "app"); s.From != 0 || s.To != uint64(len(want)) || hex.EncodeToString(s.Key) != hex.EncodeToString(public) {
		t.Errorf("%v", s.String())
	}
}

// A checkpoint whose seal isn't one of its position is as one without: a new block begins.
func TestSealOfACheckpointIsProved(t *testing.T) {
	t.Parallel()
	good := new(block)
	good, err := good.extended(make([]byte, 100))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		seal *sealing
		want uint64 // where the block then begins
	}{
		{"none", nil, 100},
		{"good", &sealing{From: 0, Sum: good.sum}, 0},
		{"empty", &sealing{From: 100}, 100},
		{"empty, and begins before", &sealing{From: 99}, 100},
		{"begins later", &sealing{From: 101, Sum: good.sum}, 100},
		{"too few bytes", &sealing{From: 1, Sum: good.sum}, 100},
		{"no SHA-256", &sealing{From: 0, Sum: append(bytes.Repeat([]byte("x"), 100), good.sum[len(good.sum)-8:]...)}, 100},
		{"cut", &sealing{From: 0, Sum: good.sum[len(good.sum)-8:]}, 100},
		{"longer", &sealing{From: 0, Sum: append([]byte("x"), good.sum...)}, 100},
	} {
		f := &forwarder{signer: new(signer), log: slog.New(slog.DiscardHandler)}
		f.rec.Confirmed, f.rec.Seal = 100, tt.seal
		f.flight.reset(100, 0)
		f.restoreBlock()
		f.flight.add(sent{length: 1})
		if b := f.flight.blockBefore(0); b.from != tt.want {
			t.Errorf("%s: the block begins at %d, not at %d", tt.name, b.from, tt.want)
		}
	}
}

// A version that knows no seals takes the checkpoint as it is; this one takes one without.
func TestSealInTheCheckpointIsLeftOutByOthers(t *testing.T) {
	r := &record{Log: "app", Destination: "central", Epoch: 5, Seal: &sealing{From: 7, Sum: []byte("x"), Last: Sealed{5, 7, chunk.Hash{1}}}}
	raw, err := r.encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := decodeRecord(raw)
	if err != nil || again.Seal == nil || again.Seal.From != 7 || again.Seal.Last != r.Seal.Last {
		t.Errorf("%+v, %v", again, err)
	}
	b, err := unseal(raw)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil {
		t.Fatal(err)
	}
	delete(fields, "seal")
	if b, err = json.Marshal(fields); err != nil {
		t.Fatal(err)
	}
	if again, err = decodeRecord(seal(b)); err != nil || again.Seal != nil || again.Epoch != 5 {
		t.Errorf("%+v, %v", again, err)
	}
}

// Random faults, one after the other: every seal is right, and once a log is silent none of its bytes is without, but those that the cases in which it may be so explain.
func TestSealsUnderRandomFaults(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newSealed(t, c, func(cfg *Config) {
		cfg.Limits.ReserveStep, cfg.Limits.AckTimeout, cfg.Limits.SealBlock = 32<<10, 300*time.Millisecond, 16<<10
	})
	r := seeded(t)
	drop := rand.New(rand.NewPCG(r.Uint64(), 2))
	lossy := func(on bool) {
		c.with(func() {
			if c.lose = nil; on {
				c.lose = func(*chunk.Chunk) bool { return drop.IntN(20) == 0 }
			}
		})
	}
	names := []string{"a", "b", "c"}
	want := map[string][]byte{}
	n.start(n.log("a"), n.log("b"), n.log("c"))
	for _, name := range names {
		want[name] = []byte("first\n")
		n.append(name, want[name])
		n.delivered(name, want[name])
	}
	lossy(true)
	for step := range 80 {
		name := names[r.IntN(3)]
		switch r.IntN(14) {
		default:
			b := lines(r, r.IntN(300))
			n.append(name, b)
			want[name] = append(want[name], b...)
		case 7:
			rename(t, n, name)
		case 8:
			n.crash()
			n.start()
		case 9:
			n.stop()
			n.start()
		case 10:
			n.engine.Pause(name, r.IntN(2) == 0)
		case 11:
			if step%3 == 0 {
				c.restart()
			} else if step%3 == 1 {
				c.wipe()
			}
		case 12:
			c.rest(r.IntN(2) == 0)
		case 13: // smaller messages
			f := n.engine.runs[name]
			if f != nil {
				size := []int{1 << 10, 2 << 10, 4 << 10}[r.IntN(3)]
				f.post(func() { f.maxPayload = size + chunk.HeaderRoom })
			}
		}
		n.status(name)
	}
	lossy(false)
	c.rest(false)
	for _, name := range names {
		n.engine.Pause(name, false)
	}
	for _, name := range names {
		n.delivered(name, want[name])
		c.allSealed(t, name)
		if g := c.look(name); len(g.gaps) > 0 {
			t.Errorf("%s: gaps %+v", name, g.gaps)
		}
	}
}

// A file system that doesn't answer holds up no log: what goes out meanwhile goes unsealed, and the reason is told.
func TestNoLogWaitsForTheKey(t *testing.T) {
	t.Parallel()
	s := &signer{loading: make(chan struct{})} // a try that doesn't end
	if _, err := s.get(); !errors.Is(err, errLoading) || s.ready() {
		t.Errorf("%v", err)
	}
}
