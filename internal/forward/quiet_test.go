package forward

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"logforward/internal/chunk"
)

// hush has a node's only log ask the broker for answers as rarely as can be: only its first chunks do, and those that are sent again.
func hush(n *node) {
	n.change = func(cfg *Config) { cfg.Limits.AckEvery, cfg.Limits.AckTimeout = time.Hour, 200*time.Millisecond }
}

// tally counts a log's chunks from now on by whether they ask for an answer.
type tally struct {
	mu           sync.Mutex
	quiet, asked int
}

func (c *tally) counts() (quiet, asked int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.quiet, c.asked
}

type counting struct {
	transport
	*tally
}

func (c counting) publish(l *chunk.Layout, log string, ch *chunk.Chunk, quiet bool, done func(error)) {
	c.mu.Lock()
	if quiet {
		c.tally.quiet++
	} else {
		c.tally.asked++
	}
	c.mu.Unlock()
	c.transport.publish(l, log, ch, quiet, done)
}

func count(t *testing.T, n *node, log string) *tally {
	t.Helper()
	eventually(t, "it runs", func() bool { return n.status(log).State == Idle })
	c, f := new(tally), n.engine.runs[log]
	f.post(func() { f.transport = counting{f.transport, c} })
	return c
}

// chatter appends lines, each a chunk of its own, and gives all that was written.
func chatter(n *node, log string, want []byte, lines int) []byte {
	for range lines {
		line := fmt.Appendf(nil, "line at %d\n", len(want))
		n.append(log, line)
		want = append(want, line...)
		n.delivered(log, want)
	}
	return want
}

// The receiver's confirmations alone carry on a log that asks the broker for nothing.
func TestForwardBusyLogAsksRarely(t *testing.T) {
	c := newCentre(t)
	n := newNode(t, c)
	hush(n)
	n.append("app", nil)
	n.start(n.log("app"))
	chunks := count(t, n, "app")
	want := chatter(n, "app", nil, 3*steadyAfter)
	quiet, asked := chunks.counts()
	if quiet < steadyAfter || asked > steadyAfter+2 {
		t.Errorf("%d chunks asked for no answer, %d did", quiet, asked)
	}
	before := n.status("app")
	eventually(t, "no outcome is waited for", func() bool { return n.engine.links["central"].publisher.Pending() == 0 })
	want = chatter(n, "app", want, 3)
	after := n.status("app")
	if after.Round != before.Round || after.LastError != "" || after.State != Idle {
		t.Errorf("what the receiver has went back when its answer didn't come: %+v became %+v", before, after)
	}
	c.with(func() {
		if c.bytes != uint64(len(want)) {
			t.Errorf("%d bytes arrived for %d", c.bytes, len(want))
		}
	})
}

// Without a receiver the last chunks of a busy time are sent again, and then it is known that they are stored.
func TestForwardQuietChunksAreSentAgainWithoutAReceiver(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	hush(n)
	n.append("app", nil)
	n.start(n.log("app"))
	chunks := count(t, n, "app")
	want := chatter(n, "app", nil, 2*steadyAfter)
	c.rest(true)
	before, _ := chunks.counts()
	line := []byte("nobody takes this\n")
	n.append("app", line)
	want = append(want, line...)
	eventually(t, "stored", func() bool { return n.status("app").Stored == uint64(len(want)) })
	if after, _ := chunks.counts(); after != before+1 {
		t.Errorf("%d quiet chunks became %d", before, after)
	}
	c.rest(false)
	n.delivered("app", want)
}

// What was published quietly to a broker that went away, or was lost by it, comes again.
func TestForwardQuietChunksSurviveTheBroker(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	n := newNode(t, c)
	hush(n)
	n.append("app", nil)
	n.start(n.log("app"))
	var want []byte
	for _, fault := range []func(){
		c.restart, c.wipe,
		func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			lost := false
			c.lose = func(*chunk.Chunk) bool {
				was := lost
				lost = true
				return !was
			}
		},
	} {
		want = chatter(n, "app", want, 2*steadyAfter)
		c.rest(true)
		line := []byte("this is under way\n")
		n.append("app", line)
		want = append(want, line...)
		eventually(t, "it is read", func() bool { return n.status("app").Position == uint64(len(want)) })
		fault()
		c.rest(false)
		n.delivered("app", want)
	}
	if g := c.look("app"); len(g.epochs) != 1 || len(g.gaps) != 0 {
		t.Errorf("epochs %v, %d gaps", g.epochs, len(g.gaps))
	}
}

// Where the broker's word is all that there is, each chunk asks for it.
func TestForwardCommitStoredAsksForEachChunk(t *testing.T) {
	t.Parallel()
	c := newCentre(t)
	c.mute(true)
	n := newNode(t, c)
	n.change = func(cfg *Config) {
		cfg.Limits.AckEvery, cfg.Limits.AckTimeout = time.Hour, 200*time.Millisecond
		d := cfg.Destinations["central"]
		d.Commit = Stored
		cfg.Destinations["central"] = d
	}
	n.append("app", nil)
	n.start(n.log("app"))
	chunks := count(t, n, "app")
	written := uint64(0)
	for range 3 * steadyAfter {
		n.append("app", []byte("a line\n"))
		written += 7
		eventually(t, "confirmed", func() bool { return n.status("app").Confirmed == written })
	}
	if quiet, asked := chunks.counts(); quiet != 0 || asked < 3*steadyAfter {
		t.Errorf("%d chunks asked for no answer, %d did", quiet, asked)
	}
}
