package broker

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
)

func TestBackoff(t *testing.T) {
	for _, c := range []struct {
		round    int
		from, to time.Duration
	}{
		{0, 50 * time.Millisecond, 100 * time.Millisecond},
		{1, 50 * time.Millisecond, 100 * time.Millisecond},
		{2, 100 * time.Millisecond, 200 * time.Millisecond},
		{5, 800 * time.Millisecond, 1600 * time.Millisecond},
		{9, 12800 * time.Millisecond, 25600 * time.Millisecond},
		{10, 15 * time.Second, 30 * time.Second},
		{1 << 40, 15 * time.Second, 30 * time.Second},
	} {
		different := make(map[time.Duration]bool)
		for range 100 {
			d := backoff(c.round)
			if d < c.from || d > c.to {
				t.Errorf("round %d waits %s, want %s to %s", c.round, d, c.from, c.to)
			}
			different[d] = true
		}
		if len(different) < 50 {
			t.Errorf("round %d waits by no chance: %d different times", c.round, len(different))
		}
	}
}

func TestParseRefusal(t *testing.T) {
	for _, c := range []struct {
		text string
		want Refusal
		ok   bool
	}{
		{`Permissions Violation for Publish to "logs.0.a.b"`, Refusal{OpPublish, "logs.0.a.b"}, true},
		{`Permissions Violation for Subscription to "logs.>"`, Refusal{OpSubscribe, "logs.>"}, true},
		{`Permissions Violation for Subscription to "a.b" using queue "q"`, Refusal{OpSubscribe, "a.b"}, true},
		{`Permissions Violation for something`, Refusal{}, false},
		{`Permissions Violation for Publish to "cut`, Refusal{}, false},
	} {
		got, ok := parseRefusal(fmt.Errorf("%w: %s", nats.ErrPermissionViolation, c.text))
		if ok != c.ok || (ok && got != c.want) {
			t.Errorf("%s: %+v %v", c.text, got, ok)
		}
	}
	if _, ok := parseRefusal(errors.New(`Publish to "x"`)); ok {
		t.Error("another error is taken for a refusal")
	}
}

// A night without broker doesn't fill the log.
func TestAttemptsAreLoggedSparingly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		a := &attempts{log: slog.New(slog.NewTextHandler(&b, nil)), every: time.Minute}
		for range 60 {
			a.failed(errors.New("refused"))
			time.Sleep(time.Second)
		}
		a.failed(errors.New("refused"))
		a.failed(errors.New("another"))
		lines := strings.Split(strings.TrimSpace(b.String()), "\n")
		if len(lines) != 3 || !strings.Contains(lines[1], "unsaid=59") || !strings.Contains(lines[2], "another") {
			t.Errorf("logged:\n%s", b.String())
		}
	})
}
