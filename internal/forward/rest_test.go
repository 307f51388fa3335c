package forward

import (
	"bytes"
	"hash/maphash"
	"sync/atomic"
	"testing"
	"time"

	"logforward/internal/chunk"
)

func TestOnlyAnAnswerThatSaysNothingNewLeavesALogAsleep(t *testing.T) {
	at := rest{epoch: 7, position: 100, digest: 5, layout: "l"}
	beginning := rest{epoch: 7, layout: "l"}
	known := func(change func(*chunk.AnswerLog)) chunk.AnswerLog {
		a := chunk.AnswerLog{Known: true, Place: chunk.Place{Epoch: 7, Position: 100, Digest: 5}}
		if change != nil {
			change(&a)
		}
		return a
	}
	for _, tt := range []struct {
		name   string
		rest   rest
		was    uint64
		layout string // empty: none
		answer chunk.AnswerLog
		asleep bool
	}{
		{"where it rests", at, 7, "l", known(nil), true},
		{"the same, by a centre without layout", at, 7, "", known(nil), true},
		{"nothing, of a log that rests at the beginning", beginning, 7, "l", chunk.AnswerLog{}, true},
		{"it is awake", rest{}, 7, "l", known(nil), false},
		{"it is awake and has no state", rest{}, 0, "l", chunk.AnswerLog{}, false},
		{"to a hello of an epoch that is over", at, 6, "l", known(nil), false},
		{"to a hello without state", at, 0, "l", known(nil), false},
		{"another layout", at, 7, "m", known(nil), false},
		{"nothing, of what was central", at, 7, "l", chunk.AnswerLog{}, false},
		{"a later epoch", at, 7, "l", known(func(a *chunk.AnswerLog) { a.Epoch = 8 }), false},
		{"an earlier epoch", at, 7, "l", known(func(a *chunk.AnswerLog) { a.Epoch = 6 }), false},
		{"more than it knows of", at, 7, "l", known(func(a *chunk.AnswerLog) { a.Position = 101 }), false},
		{"less than was confirmed", at, 7, "l", known(func(a *chunk.AnswerLog) { a.Position = 99 }), false},
		{"other bytes", at, 7, "l", known(func(a *chunk.AnswerLog) { a.Digest = 6 }), false},
		{"send again", at, 7, "l", known(func(a *chunk.AnswerLog) { a.Resend = &chunk.Resend{} }), false},
		{"a fork", at, 7, "l", known(func(a *chunk.AnswerLog) { a.Fork = true }), false},
		{"it can't say", at, 7, "l", known(func(a *chunk.AnswerLog) { a.Error = "not yet" }), false},
		{"bytes of a log that rests at the beginning", beginning, 7, "l", known(nil), false},
		{"send again, to a log that rests at the beginning", beginning, 7, "l", chunk.AnswerLog{Resend: &chunk.Resend{}}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var layout *chunk.Layout
			if tt.layout != "" {
				layout = &chunk.Layout{ID: tt.layout}
			}
			m := mailbox{wake: make(chan struct{}, 1)}
			if !m.sleep(tt.rest) {
				t.Fatal("it has no mail and doesn't sleep")
			}
			was := chunk.HelloLog{Epoch: tt.was}
			if got := !m.disturb(&was, layout, &tt.answer, 1); got != tt.asleep {
				t.Errorf("asleep %v, want %v", got, tt.asleep)
			}
			if m.sleepsSince(1) != tt.asleep || m.sleepsSince(0) != tt.asleep || m.sleepsSince(2) {
				t.Error("the same answer again counts for something else than it did")
			}
			m.put(nil, func() {})
			if m.sleepsSince(1) || m.sleepsSince(0) {
				t.Error("it has mail, and counts as asleep")
			}
			if !m.disturb(&was, layout, &tt.answer, 1) {
				t.Error("it has mail, which may change where it stands, and the answer didn't go behind it")
			}
			if m.sleep(tt.rest) {
				t.Error("it sleeps with mail")
			}
		})
	}
}

// A quiet log sleeps through hellos. What the centre has lost, or knows more of, still reaches it by one.
func TestForwardQuietLogSleepsThroughHellos(t *testing.T) {
	c := newCentre(t)
	n := newNode(t, c)
	var looks atomic.Int64 // each turn of a forwarder shows where it stands, and asks for the time
	n.change = func(cfg *Config) {
		cfg.Limits.SyncInterval = 50 * time.Millisecond
		cfg.Now = func() time.Time { looks.Add(1); return time.Now() }
	}
	want := lines(seeded(t), 100)
	n.append("app", want)
	n.start(n.log("app"))
	n.delivered("app", want)
	hellos := func() (h int) { c.with(func() { h = c.hellos }); return h }
	eventually(t, "hellos that wake nobody", func() bool {
		before, said := looks.Load(), hellos()
		eventually(t, "hellos", func() bool { return hellos() >= said+6 })
		return looks.Load() == before
	})
	f := n.engine.runs["app"]
	eventually(t, "hellos whose answers needn't be read", func() bool {
		before, said := f.link.parsed.Load(), hellos()
		eventually(t, "hellos", func() bool { return hellos() >= said+6 })
		return f.link.parsed.Load() == before
	})

	// The centre takes another's bytes for this log's: an answer alone says so.
	c.with(func() { c.logs[f.token].fork = true })
	eventually(t, "a new epoch", func() bool { return n.status("app").Forks == 1 && n.status("app").State == Idle })
	c.with(func() { c.logs[f.token].fork = false })

	c.with(func() { c.layout.ID = "layout-2" })
	eventually(t, "the new layout", func() bool {
		f.view.mu.Lock()
		defer f.view.mu.Unlock()
		return f.view.layout == "layout-2"
	})
	more := []byte("after\n")
	n.append("app", more)
	n.delivered("app", append(bytes.Clone(want), more...))
}

// An answer is left unread only where it says of logs and layout what left all of them asleep, and nothing has woken one since.
func TestOnlyTheSameAnswerAgainIsLeftUnread(t *testing.T) {
	l := hinted()
	l.seed = maphash.MakeSeed()
	reply := func(change func(*chunk.Answer, *chunk.AnswerLog)) []byte {
		a := chunk.Answer{Ready: true, Receiver: "r1", Time: time.Now(), Layout: &chunk.Layout{ID: "l", Prefix: "logs", Partitions: 1}}
		one := chunk.AnswerLog{Known: true, Place: chunk.Place{Epoch: 7, Position: 100, Digest: 5}}
		if change != nil {
			change(&a, &one)
		}
		a.Logs = map[string]chunk.AnswerLog{"app": one}
		return marshal(&a)
	}
	f := &forwarder{mail: mailbox{wake: make(chan struct{}, 1)}}
	asked := map[string]*forwarder{"app": f}
	if _, known := l.again(reply(nil), asked); known != 0 {
		t.Error("a log that is awake, and its answer is left unread")
	}
	if !f.mail.sleep(rest{epoch: 7, position: 100, digest: 5, layout: "l"}) {
		t.Fatal("it doesn't sleep")
	}
	if _, known := l.again(reply(nil), asked); known != 0 {
		t.Error("a first answer is left unread")
	}
	first, err := chunk.ParseAnswer(reply(nil))
	if err != nil {
		t.Fatal(err)
	}
	one := first.Logs["app"]
	if f.mail.disturb(&chunk.HelloLog{Epoch: 7}, first.Layout, &one, l.fingerprint(reply(nil))) {
		t.Fatal("the answer disturbs")
	}
	for name, c := range map[string]struct {
		change func(*chunk.Answer, *chunk.AnswerLog)
		unread bool
	}{
		"the same": {nil, true},
		"by another receiver, later": {func(a *chunk.Answer, _ *chunk.AnswerLog) {
			a.Receiver, a.Time, a.Pause = "r2", time.Now().Add(time.Hour), &chunk.Pause{Change: 3}
		}, true},
		"a fork":           {func(_ *chunk.Answer, l *chunk.AnswerLog) { l.Fork = true }, false},
		"send again":       {func(_ *chunk.Answer, l *chunk.AnswerLog) { l.Resend = &chunk.Resend{Log: "app", Epoch: 7} }, false},
		"more":             {func(_ *chunk.Answer, l *chunk.AnswerLog) { l.Position++ }, false},
		"another digest":   {func(_ *chunk.Answer, l *chunk.AnswerLog) { l.Digest++ }, false},
		"another layout":   {func(a *chunk.Answer, _ *chunk.AnswerLog) { a.Layout.ID = "m" }, false},
		"no layout":        {func(a *chunk.Answer, _ *chunk.AnswerLog) { a.Layout = nil }, false},
		"not ready to say": {func(a *chunk.Answer, _ *chunk.AnswerLog) { a.Ready = false }, false},
	} {
		a, known := l.again(reply(c.change), asked)
		if (known != 0) != c.unread || c.unread && (a == nil || name != "the same" && a.Pause == nil) {
			t.Errorf("%s: left unread %t, %+v", name, known != 0, a)
		}
	}
	f.mail.put(nil, func() {})
	if _, known := l.again(reply(nil), asked); known != 0 {
		t.Error("it has mail, and its answer is left unread")
	}
}
