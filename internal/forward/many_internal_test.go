package forward

import (
	"fmt"
	"log/slog"
	"testing"
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
