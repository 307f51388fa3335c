package forward

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
)

// A line of tail's has each of its names once: JSON with a name twice isn't taken everywhere.
func TestTailLinesNameTheLogOnce(t *testing.T) {
	var b bytes.Buffer
	e := &Engine{log: slog.New(slog.NewJSONHandler(&b, nil))}
	e.cfg.State = &State{dir: t.TempDir()}
	f := &forwarder{engine: e, link: &link{log: e.log.With("destination", "central")}, want: Log{Name: "app", Destination: "central"}}
	f.tailConfig().Logger.With("log", "app").Info("as tail does") // see tail.New
	if line := b.String(); strings.Count(line, `"log":"app"`) != 1 || strings.Count(line, `"destination":"central"`) != 1 {
		t.Error(line)
	}
}

// A log that nobody wants any more, because its definition was renamed or removed, isn't left behind in silence: once it is said what wasn't confirmed.
func TestLogThatIsDroppedSaysWhatIsLeft(t *testing.T) {
	var b bytes.Buffer
	e := &Engine{log: slog.New(slog.NewTextHandler(&b, nil)), runs: map[string]*forwarder{}}
	for name, behind := range map[string]int64{"behind": 27, "done": 0} {
		f := &forwarder{asked: Log{Name: name, Destination: "central"}, done: make(chan struct{}), cancel: func() {}}
		f.view.now.LagBytes = behind
		e.runs[name] = f
	}
	var group sync.WaitGroup
	e.reconcile(&group)
	e.reconcile(&group)
	if text := b.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "log=behind") || !strings.Contains(text, "bytes=27") {
		t.Error(text)
	}
}
