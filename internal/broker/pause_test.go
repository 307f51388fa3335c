package broker_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"logforward/internal/broker"
)

func newShared(t *testing.T) *broker.Shared {
	t.Helper()
	js := newJetStream(t)
	setUp(t, js, broker.Wanted{Partitions: 1})
	shared, err := broker.OpenShared(testContext(t), js)
	if err != nil {
		t.Fatal(err)
	}
	return shared
}

func TestButtonKeepsAPauseOfEachGlob(t *testing.T) {
	shared := newShared(t)
	_, revision, err := shared.Button(testContext(t))
	wantError(t, err, broker.ErrNotFound)
	if revision != 0 {
		t.Errorf("revision %d of nothing", revision)
	}
	now := time.Now().UTC().Truncate(time.Second)
	web := broker.Pause{Since: now, Reason: "upgrade", By: "choria=bob", Match: "web*"}
	all := broker.Pause{Since: now, Until: now.Add(time.Hour)}
	web2 := broker.Pause{Since: now, By: "choria=eve", Match: "web*"}
	var last uint64
	for _, step := range []struct {
		press broker.Pause
		want  []broker.Pause
	}{{web, []broker.Pause{web}}, {all, []broker.Pause{web, all}}, {web2, []broker.Pause{all, web2}}} {
		said, err := shared.Press(testContext(t), step.press)
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := shared.Button(testContext(t))
		if err != nil || !reflect.DeepEqual(got, said) || !reflect.DeepEqual(got.Pauses, step.want) {
			t.Errorf("button is %+v, %v; want %+v", got, err, step.want)
		}
		if got.Change <= last || got.Change < uint64(now.UnixMicro()) {
			t.Errorf("change %d behind %d", got.Change, last)
		}
		last = got.Change
	}
	_, _, err = shared.Release(testContext(t), "db*", false)
	wantError(t, err, broker.ErrNoPause)
	b, lifted, err := shared.Release(testContext(t), "web*", false)
	if err != nil || !reflect.DeepEqual(lifted, []broker.Pause{web2}) || !reflect.DeepEqual(b.Pauses, []broker.Pause{all}) || b.Change <= last {
		t.Errorf("%+v, %+v, %v", b, lifted, err)
	}
	if b, lifted, err = shared.Release(testContext(t), "", true); err != nil || len(lifted) != 1 || len(b.Pauses) != 0 {
		t.Errorf("%+v, %+v, %v", b, lifted, err)
	}
	if again, _, err := shared.Release(testContext(t), "", true); err != nil || again.Change <= b.Change {
		t.Errorf("lifting nothing: %+v, %v", again, err)
	}
}

// Two who press at once both get their pause, and each state its own number.
func TestButtonIsPressedByManyAtOnce(t *testing.T) {
	shared := newShared(t)
	var pressing sync.WaitGroup
	changes := make([]uint64, 5)
	for i := range changes {
		pressing.Go(func() {
			b, err := shared.Press(testContext(t), broker.Pause{Since: time.Now(), Match: fmt.Sprintf("web%d", i)})
			if err != nil {
				t.Error(err)
			}
			changes[i] = b.Change
		})
	}
	pressing.Wait()
	b, _, err := shared.Button(testContext(t))
	if err != nil || len(b.Pauses) != len(changes) {
		t.Errorf("%+v, %v", b, err)
	}
	seen := map[uint64]bool{}
	for _, c := range changes {
		if seen[c] {
			t.Errorf("%d twice in %d", c, changes)
		}
		seen[c] = true
	}
}

func TestButtonTakesOnlyWhatCanBe(t *testing.T) {
	shared := newShared(t)
	now := time.Now()
	for name, p := range map[string]broker.Pause{
		"glob":         {Since: now, Match: "web["},
		"reason":       {Since: now, Reason: strings.Repeat("x", 501)},
		"newline":      {Since: now, Reason: "a\nb"},
		"escape":       {Since: now, By: "\x1b[2J"},
		"no text":      {Since: now, Reason: "\xff"},
		"glob's size":  {Since: now, Match: strings.Repeat("*", 251)},
		"over already": {Since: now, Until: now},
		"for ever":     {Since: now, Until: now.Add(10 * broker.MaxPause)},
	} {
		if _, err := shared.Press(testContext(t), p); err == nil {
			t.Errorf("%s passes", name)
		}
	}
	for i := range 100 {
		if _, err := shared.Press(testContext(t), broker.Pause{Since: now, Match: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := shared.Press(testContext(t), broker.Pause{Since: now, Match: "100"}); err == nil {
		t.Error("more pauses than nodes can be asked to match")
	}
	if _, err := shared.Press(testContext(t), broker.Pause{Since: now, Match: "99"}); err != nil {
		t.Errorf("the same glob again: %v", err)
	}
}

func TestButtonForOneIdentity(t *testing.T) {
	now := time.Unix(1000, 0)
	short := broker.Pause{Reason: "short", Until: now.Add(time.Minute)}
	long := broker.Pause{Reason: "long", Until: now.Add(time.Hour), Match: "web*"}
	open := broker.Pause{Reason: "open", Match: "web1"}
	over := broker.Pause{Reason: "over", Until: now}
	broken := broker.Pause{Reason: "broken", Match: "["}
	for _, c := range []struct {
		name, identity, want string
		pauses               []broker.Pause
	}{
		{"none", "web1", "", nil},
		{"over", "web1", "", []broker.Pause{over}},
		{"broken glob matches nobody", "[", "", []broker.Pause{broken}},
		{"others", "db1", "", []broker.Pause{long}},
		{"the longest", "web2", "long", []broker.Pause{short, long, over}},
		{"the longest, the other way round", "web2", "long", []broker.Pause{long, short}},
		{"without end", "web1", "open", []broker.Pause{open, long}},
		{"without end, the other way round", "web1", "open", []broker.Pause{long, open}},
		{"all", "db1", "short", []broker.Pause{open, short}},
	} {
		b := broker.Button{Pauses: c.pauses}
		got := b.For(c.identity, now)
		if (got == nil) != (c.want == "") || got != nil && got.Reason != c.want {
			t.Errorf("%s: %+v, want %q", c.name, got, c.want)
		}
	}
}

// After a wipe the button is there before the layout is: who sees a layout sees the pause.
func TestRestoreBringsTheButton(t *testing.T) {
	js := newJetStream(t)
	was := broker.Button{Change: 42, Pauses: []broker.Pause{{Since: time.Now().UTC().Truncate(time.Second), By: "ops"}}}
	if err := broker.Restore(testContext(t), js, broker.Wanted{Partitions: 2}, was); err != nil {
		t.Fatal(err)
	}
	shared, err := broker.OpenShared(testContext(t), js)
	if err != nil {
		t.Fatal(err)
	}
	got, revision, err := shared.Button(testContext(t))
	if err != nil || !reflect.DeepEqual(got, was) {
		t.Errorf("%+v, %v", got, err)
	}
	if l, err := shared.Layout(testContext(t)); err != nil || l.Partitions != 2 {
		t.Errorf("%+v, %v", l, err)
	}
	kv, err := js.KeyValue(testContext(t), broker.Bucket)
	if err != nil {
		t.Fatal(err)
	}
	layout, err := kv.Get(testContext(t), "layout")
	if err != nil || layout.Revision() < revision {
		t.Errorf("the layout was there first: revision %d, the button's %d, %v", layout.Revision(), revision, err)
	}
	// Another receiver that comes later, and remembers less, changes nothing.
	if err := broker.Restore(testContext(t), js, broker.Wanted{Partitions: 2}, broker.Button{Change: 41}); err != nil {
		t.Fatal(err)
	}
	if got, _, err = shared.Button(testContext(t)); err != nil || got.Change != 42 {
		t.Errorf("%+v, %v", got, err)
	}
	if err := shared.PutButton(testContext(t), broker.Button{Change: 1}, revision+10); !errors.Is(err, broker.ErrWrongRevision) {
		t.Errorf("written over: %v", err)
	}
}
