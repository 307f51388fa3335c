package forward

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// A line of tail's has each of its names once: JSON with a name twice isn't taken everywhere.
func TestTailLinesNameTheLogOnce(t *testing.T) {
	var b bytes.Buffer
	e := &Engine{log: slog.New(slog.NewJSONHandler(&b, nil))}
	f := &forwarder{engine: e, want: Log{Name: "app", Destination: "central"}, log: e.log.With("log", "app", "destination", "central")}
	f.tailConfig().Logger.With("log", "app").Info("as tail does") // see tail.New
	if line := b.String(); strings.Count(line, `"log":"app"`) != 1 || strings.Count(line, `"destination":"central"`) != 1 {
		t.Error(line)
	}
}
