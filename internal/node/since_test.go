package node

import (
	"slices"
	"testing"
	"time"

	"logforward/internal/forward"
)

// A glob's file that appears later knows when it wasn't there: what of it was rotated before it was found belongs to its log. It still does
// after a restart; nothing is known of those at first sight.
func TestGlobKnowsSinceWhenAFileMayHaveBeen(t *testing.T) {
	b := newBench(t)
	b.file("web/a.log")
	b.define("web.yaml", "log: web\npath: LOGS/web/*.log\ndestination: central\n")
	began := time.Now()
	b.open()
	looked := time.Now()
	b.file("web/new.log")
	b.look()
	since := func(log string) time.Time {
		i := slices.IndexFunc(b.wheel.logs, func(l forward.Log) bool { return l.Name == log })
		if i < 0 {
			t.Fatalf("%s isn't forwarded", log)
		}
		return b.wheel.logs[i].Since
	}
	at := since("web.new.log")
	if at.Before(began) || at.After(looked) {
		t.Errorf("%v, want a moment between %v and %v", at, began, looked)
	}
	if at := since("web.a.log"); !at.IsZero() {
		t.Errorf("at first sight: %v", at)
	}
	b.open()
	if again := since("web.new.log"); !again.Equal(at) {
		t.Errorf("after a restart: %v, before %v", again, at)
	}
}
