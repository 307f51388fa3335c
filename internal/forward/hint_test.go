package forward

import (
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"logforward/internal/chunk"
)

// hinted is a link that isn't connected to anything.
func hinted() *link {
	return &link{log: slog.New(slog.DiscardHandler), wake: make(chan struct{}, 1), turned: make(chan struct{}, 1), forwarders: map[string]*forwarder{"app": nil}, due: map[string]time.Time{}, stopping: func() {}}
}

// Anybody may send hints, as many as they like: the node says one hello for them.
func TestHintsByTheThousandAreOneHello(t *testing.T) {
	l := hinted()
	l.hint(&chunk.Control{Hello: true})
	first := l.asking
	if first == nil {
		t.Fatal("a hint has no effect")
	}
	for range 1000 {
		l.hint(&chunk.Control{Hello: true})
		l.hint(&chunk.Control{Pause: &chunk.Pause{Change: 7, Since: time.Now()}})
	}
	if l.asking != first {
		t.Error("further hints have further hellos said")
	}
	if rest := time.Until(l.hinted); rest < hintRest-time.Second || rest > hintRest+hintSpread {
		t.Errorf("no further hint is taken for %s", rest)
	}
	if l.button != nil {
		t.Error("a hint pressed the button")
	}
	_ = l.close()
	if first.Stop() {
		t.Error("a link that is closed will say hello")
	}
}

// Whoever closes a link waits for the hello that a hint has said, and none comes after that.
func TestHintsEndWithTheLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := hinted()
		var over atomic.Bool
		l.hint(&chunk.Control{Hello: true})
		go func() { l.stopped.Wait(); over.Store(true) }()
		synctest.Wait()
		if over.Load() {
			t.Error("a link that is closed wouldn't wait for it")
		}
		time.Sleep(hintSpread)
		synctest.Wait()
		if !over.Load() || l.due["app"].IsZero() {
			t.Errorf("over %t, due %s", over.Load(), l.due["app"])
		}
		time.Sleep(hintRest + hintSpread)
		l.hint(&chunk.Control{Hello: true})
		second := l.asking
		began := time.Now()
		_ = l.close()
		_ = l.close()
		if took := time.Since(began); second.Stop() || took > 0 {
			t.Errorf("it isn't stopped, or was waited for: %s", took)
		}
		time.Sleep(hintRest + 2*hintSpread)
		l.hint(&chunk.Control{Hello: true})
		if l.asking != nil {
			t.Error("a closed link takes a hint")
		}
	})
}

// A hint of a pause that is known has notice given of what is obeyed, and no hello; nor has one that a receiver tells of before the hello is due.
func TestAHintOfWhatIsKnownIsNoReasonToAsk(t *testing.T) {
	l := hinted()
	l.button = &held{Pause: chunk.Pause{Change: 7}}
	for _, change := range []uint64{6, 7} {
		l.hint(&chunk.Control{Pause: &chunk.Pause{Change: change}})
		if l.asking != nil {
			t.Fatalf("change %d: it asks", change)
		}
		select {
		case <-l.turned:
		default:
			t.Errorf("change %d: no notice is given", change)
		}
	}
	l.hint(&chunk.Control{Pause: &chunk.Pause{Change: 8}})
	if l.asking == nil {
		t.Fatal("it doesn't ask for a pause that it doesn't know")
	}
	l.mu.Lock()
	l.button = &held{Pause: chunk.Pause{Change: 8}}
	l.asking.Reset(0)
	l.mu.Unlock()
	eventually(t, "the next hint counts", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.hinted.IsZero()
	})
	if len(l.wake) != 0 || len(l.due) != 0 {
		t.Error("it asks for what a receiver has told meanwhile")
	}
}
