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
		{2, 62500 * time.Microsecond, 125 * time.Millisecond},
		{11, 465 * time.Millisecond, 932 * time.Millisecond},
		{26, 13200 * time.Millisecond, 26500 * time.Millisecond},
		{27, 15 * time.Second, 30 * time.Second},
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

// A fleet that lost its broker at one moment is back within half the outage and a little, and doesn't come in one wave.
func TestAFleetComesBackSoonAndNotAtOnce(t *testing.T) {
	const nodes = 10_000
	for _, outage := range []time.Duration{time.Second, 5 * time.Second, time.Minute, 10 * time.Minute} {
		latest := min(outage/2+firstBackoff, longestBackoff)
		var arrived [10]int // in each tenth of that
		for range nodes {
			at := time.Duration(0)
			for round := 1; at < outage; round++ {
				at += backoff(round)
			}
			late := at - outage
			if late > latest {
				t.Fatalf("after an outage of %s a node waits another %s", outage, late)
			}
			arrived[min(late*10/latest, 9)]++
		}
		for i, n := range arrived {
			if n > nodes/3 {
				t.Errorf("after an outage of %s %d of %d nodes come in tenth %d of %s", outage, n, nodes, i, latest)
			}
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
