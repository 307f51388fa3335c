package pipe

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"logforward/internal/forward"
	"logforward/internal/receive"
)

func TestNodeStateWiped(t *testing.T) {
	for _, c := range []struct {
		name   string
		rotate func(n *node)
	}{
		{"the same file", func(*node) {}},
		{"rotated meanwhile", func(n *node) { n.rename("app.log", "app.log.1") }},
		{"compressed meanwhile", func(n *node) {
			n.rename("app.log", "app.log.1")
			command(n.t, "gzip", n.path("app.log.1"))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, want := began(t)
			n.stop()
			n.forget()
			unread := text("unread", 80<<10)
			n.write("app.log", unread)
			c.rotate(n)
			live := text("live", 20<<10)
			n.write("app.log", live)
			n.start()
			n.exact("app", join(want, unread, live))
			if e := n.epochs("app"); len(e) != 1 {
				t.Errorf("epochs %v", e)
			}
		})
	}
}

func TestNodeStateWipedAndFileGone(t *testing.T) {
	n, want := began(t)
	n.stop()
	n.forget()
	n.remove("app.log")
	live := text("live", 90<<10)
	n.write("app.log", live)
	n.start()
	n.exact("app", join(want, live), loss{"node state lost", -1})
	if e := n.epochs("app"); len(e) != 2 {
		t.Errorf("epochs %v", e)
	}
}

func TestNodeStateCorrupt(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(b []byte) []byte
	}{
		{"other bytes", func(b []byte) []byte { return bytes.Repeat([]byte("not a database "), len(b)/15) }},
		{"cut", func(b []byte) []byte { return b[:len(b)/2] }},
		{"empty", func([]byte) []byte { return nil }},
		{"a hole", func(b []byte) []byte { clear(b[len(b)/4:]); return b }},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, want := began(t)
			n.stop()
			path := filepath.Join(n.state, "forward.db")
			b, err := os.ReadFile(path)
			n.must(err)
			n.must(os.WriteFile(path, c.spoil(b), 0o600))
			more := text("more", 80<<10)
			n.write("app.log", more)
			n.start()
			n.exact("app", join(want, more))
			if e := n.epochs("app"); len(e) != 1 {
				t.Errorf("epochs %v", e)
			}
		})
	}
}

func TestReceiverCrashes(t *testing.T) {
	n, want := began(t)
	for i := range 3 {
		b := text(fmt.Sprint("round", i), 150<<10)
		n.write("app.log", b)
		want = join(want, b)
		n.crashReceiver()
		n.startReceiver()
	}
	n.exact("app", want)
}

func TestReceiverStateWiped(t *testing.T) {
	for _, how := range []string{"with nothing under way", "with messages in the stream"} {
		t.Run(how, func(t *testing.T) {
			n, want := began(t)
			n.stopReceiver()
			more := text("more", 150<<10)
			if how != "with nothing under way" {
				n.write("app.log", more)
				n.stored("app", len(want)+len(more))
			}
			n.must(os.RemoveAll(n.receiving.State))
			n.startReceiver()
			if how == "with nothing under way" {
				n.write("app.log", more)
			}
			n.exact("app", join(want, more))
		})
	}
}

func TestBrokerWiped(t *testing.T) {
	for _, how := range []string{"stopped", "running"} {
		for _, stored := range []bool{false, true} {
			name := how + ", idle"
			if stored {
				name = how + ", with messages in the stream"
			}
			t.Run(name, func(t *testing.T) {
				n, want := began(t)
				more := text("more", 150<<10)
				if stored {
					n.stopReceiver()
					n.write("app.log", more)
					n.stored("app", len(want)+len(more))
				}
				if how == "stopped" {
					n.stopBroker()
					n.wipeStore()
				} else {
					n.wipeStreams()
				}
				if stored {
					n.startReceiver()
				} else {
					n.write("app.log", more)
				}
				n.exact("app", join(want, more))
				if e := n.epochs("app"); len(e) != 1 {
					t.Errorf("epochs %v", e)
				}
			})
		}
	}
}

// The node's word alone says where the log stands.
func TestBrokerAndReceiverStateWiped(t *testing.T) {
	n, want := began(t)
	n.stopReceiver()
	n.stopBroker()
	n.must(os.RemoveAll(n.receiving.State))
	more := text("more", 80<<10)
	n.write("app.log", more)
	n.wipeStore()
	n.startReceiver()
	n.exact("app", join(want, more))
	repaired := false
	for _, e := range n.ledger("app") {
		repaired = repaired || e.Event == receive.EventRepair
	}
	if e := n.epochs("app"); len(e) != 1 || !repaired {
		t.Errorf("epochs %v; the ledger tells of the repair: %v", e, repaired)
	}
}

// The receiver's state alone says where the log stands.
func TestNodeStateAndBrokerWiped(t *testing.T) {
	n, want := began(t)
	n.stop()
	n.forget()
	n.stopBroker()
	n.wipeStore()
	more := text("more", 80<<10)
	n.write("app.log", more)
	n.rename("app.log", "app.log.1")
	live := text("live", 5<<10)
	n.write("app.log", live)
	n.start()
	n.exact("app", join(want, more, live))
	if e := n.epochs("app"); len(e) != 1 {
		t.Errorf("epochs %v", e)
	}
}

// A clock that was stepped back neither stops anything nor makes a new epoch look old.
func TestClockSteppedBack(t *testing.T) {
	t.Parallel()
	n := newRig(t).node
	var step atomic.Int64
	n.change = func(c *forward.Config) {
		c.Now = func() time.Time { return time.Now().Add(time.Duration(step.Load())) }
	}
	want := text("first", 100<<10)
	n.write("app.log", want)
	n.start()
	n.exact("app", want)

	step.Store(int64(-48 * time.Hour))
	second := text("second", 30<<10)
	n.write("app.log", second)
	n.rename("app.log", "app.log.1")
	third := text("third", 30<<10)
	n.write("app.log", third)
	want = join(want, second, third)
	n.exact("app", want)

	n.stop()
	n.forget()
	n.remove("app.log")
	fresh := text("fresh", 30<<10)
	n.write("app.log", fresh)
	n.remove("app.log.1")
	n.start()
	n.exact("app", join(want, fresh), loss{"node state lost", -1})
	if e := n.epochs("app"); len(e) != 2 {
		t.Errorf("epochs %v", e)
	}
}

// TestRewrittenBeforeConfirmation changes the file after it was sent. What the stream has still counts; what
// it lost can't be sent again, and is a gap.
func TestRewrittenBeforeConfirmation(t *testing.T) {
	for _, c := range []struct {
		name    string
		rewrite func(n *node, b []byte) // sent is at the end
		wiped   bool
		relieve bool
	}{
		{"truncated and written, the stream has the old bytes", rewriteTruncated, false, false},
		{"truncated and written, the stream lost the old bytes", rewriteTruncated, true, false},
		{"written over, the stream lost the old bytes", rewriteOver, true, false},
		{"truncated and written, the stream has the old bytes, and another receiver takes over", rewriteTruncated, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, want := began(t)
			n.stopReceiver()
			sent := text("sent", 50<<10)
			n.write("app.log", sent)
			n.stored("app", len(want)+len(sent))
			fresh := text("fresh", len(want)+len(sent))
			c.rewrite(n, fresh)
			if c.wiped {
				n.wipeStreams()
				n.startReceiver()
				n.exact("app", join(want, fresh), loss{"", int64(len(sent))})
				return
			}
			if c.relieve {
				n.relieve()
			} else {
				n.startReceiver()
			}
			n.exact("app", join(want, sent, fresh))
		})
	}
}

func rewriteTruncated(n *node, b []byte) { n.must(os.WriteFile(n.path("app.log"), b, 0)) }

func rewriteOver(n *node, b []byte) {
	f, err := os.OpenFile(n.path("app.log"), os.O_WRONLY, 0)
	n.must(err)
	_, err = f.WriteAt(b, 0)
	n.must(err)
	n.must(f.Close())
}
