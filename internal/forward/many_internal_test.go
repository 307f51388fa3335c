package forward

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"testing"
	"time"
)

// To pause one log tells that log alone: with ten thousand, telling all of them for each would be a hundred million notes.
func TestPauseOfOneLogTellsThatOneAlone(t *testing.T) {
	e := &Engine{log: slog.New(slog.DiscardHandler), paused: map[string]bool{}, runs: map[string]*forwarder{}}
	for i := range 100 {
		e.runs[fmt.Sprint(i)] = &forwarder{mail: mailbox{wake: make(chan struct{}, 1)}}
	}
	notes := func() (n int) {
		for _, f := range e.runs {
			n += len(f.mail.notes)
			for _, note := range f.mail.notes {
				note()
			}
			f.mail.notes = nil
		}
		return n
	}
	e.Pause("7", true)
	e.Pause("8", true)
	e.Pause("8", false)
	e.Pause("unknown", true)
	if n := notes(); n != 3 || !e.runs["7"].paused || e.runs["8"].paused {
		t.Errorf("%d notes, 7 paused: %v, 8 paused: %v", n, e.runs["7"].paused, e.runs["8"].paused)
	}
	e.Pause("", true)
	if n := notes(); n != 100 || !e.runs["8"].paused {
		t.Errorf("all: %d notes", n)
	}
	e.Pause("", false)
	if notes(); !e.runs["7"].paused || e.runs["8"].paused {
		t.Error("all are released: 7 isn't paused by itself any more, or 8 still is")
	}
}

// A status asks all logs with one question. Those that have ended don't hold it up, one that hangs does for a moment
// only, and no goroutine is begun for any of them.
func TestStatusAsksAllAtOnce(t *testing.T) {
	const n = 1000
	e := &Engine{runs: map[string]*forwarder{}}
	for i := range n {
		name := fmt.Sprintf("%04d", i)
		f := &forwarder{mail: mailbox{begun: true, wake: make(chan struct{}, 1)}}
		f.view.now.Log = name
		e.runs[name] = f
	}
	before := runtime.NumGoroutine()
	got := make(chan []Status)
	go func() { got <- e.Status() }()
	asked := func() (all []*inquiry) {
		for _, f := range e.runs {
			f.mail.mu.Lock()
			all = append(all, f.mail.asked...)
			f.mail.mu.Unlock()
		}
		return all
	}
	for len(asked()) < n {
		time.Sleep(time.Millisecond)
	}
	if more := runtime.NumGoroutine() - before; more > 10 {
		t.Errorf("%d goroutines ask", more)
	}
	for _, f := range e.runs {
		f.mail.close() // as the end of its run does
	}
	if list := <-got; len(list) != n || list[7].Log != "0007" {
		t.Errorf("%d logs", len(list))
	}
	if list := e.Status("0007", "0003", "unknown"); len(list) != 2 || list[0].Log != "0003" {
		t.Errorf("%+v", list)
	}
	e.runs = map[string]*forwarder{"hangs": {mail: mailbox{begun: true, wake: make(chan struct{}, 1)}}, "ended": e.runs["0001"]}
	began := time.Now()
	if list := e.Status(); len(list) != 2 {
		t.Errorf("%+v", list)
	}
	if took := time.Since(began); took < answerWithin || took > time.Minute {
		t.Errorf("a log that hangs holds a status up for %v", took)
	}
	e.runs["begins"] = &forwarder{mail: mailbox{wake: make(chan struct{}, 1)}}
	fastest := time.Hour
	for range 20 { // a busy machine may take long for one
		began = time.Now()
		e.Status("ended", "begins")
		fastest = min(fastest, time.Since(began))
	}
	if fastest >= answerWithin {
		t.Error("a log that hangs holds up a status of another one")
	}
}

// Where a log was last sent is known while ten thousand records wait to be written, without a look at each of them.
func TestNewestDestinationOfWhatWaits(t *testing.T) {
	s := newSaver(nil, time.Second, slog.New(slog.DiscardHandler))
	for i := range 1000 {
		s.save(saving{log: fmt.Sprint(i), destination: "central"}, false)
	}
	s.save(saving{log: "7", destination: "archive"}, false)
	s.save(saving{log: "8", destination: "archive"}, false)
	s.save(saving{log: "8", destination: "central"}, false)
	for log, want := range map[string]string{"6": "central", "7": "archive", "8": "central"} {
		if got, err := s.active(log); got != want || err != nil {
			t.Errorf("%s: %q, %v", log, got, err)
		}
	}
	if n := len(s.waiting.records); n != 1002 {
		t.Errorf("%d records", n)
	}
	allocs := testing.AllocsPerRun(10, func() { _, _ = s.active("999") })
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// Logs begin some at a time; one whose disk hangs gives its place up, so that the others begin.
func TestALogThatHangsKeepsNoOtherFromBeginning(t *testing.T) {
	e := New(Config{})
	for range 3 * openAtOnce { // none of them says that it has begun
		if _, ok := e.mayOpen(t.Context()); !ok {
			t.Fatal("no place")
		}
		if n := len(e.opening); n > openAtOnce {
			t.Fatalf("%d begin at once", n)
		}
	}
	done, ok := e.mayOpen(t.Context())
	if !ok {
		t.Fatal("no place")
	}
	done()
	done() // the time may be over, too: it gives one place back, not two
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range openAtOnce { // where all places are taken, whoever ends doesn't wait
		if _, ok := e.mayOpen(ctx); !ok {
			return
		}
	}
}
