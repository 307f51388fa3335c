package forward

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// saver writes the checkpoints of all forwarders, many in one transaction. What is
// needed before something may be published is written at once, together with all
// else that waits; the rest at most once in every interval.
type saver struct {
	state *State
	every time.Duration
	log   *slog.Logger
	wake  chan struct{}

	mu      sync.Mutex
	waiting savings
	writing savings // what flush has in hand
	order   uint64
	urgent  bool
	err     error // of the last attempt
}

// savings are records to be written.
type savings struct {
	records map[string]saving // by record key: only the newest counts
	newest  map[string]saving // by log: it says where the log is sent
}

func newSavings() savings {
	return savings{records: map[string]saving{}, newest: map[string]saving{}}
}

func (s savings) add(key string, one saving) {
	s.records[key] = one
	if one.order >= s.newest[one.log].order {
		s.newest[one.log] = one
	}
}

type saving struct {
	raw         []byte
	log         string
	destination string
	done        func()
	order       uint64 // a log's greatest one is its active destination
}

func newSaver(state *State, every time.Duration, log *slog.Logger) *saver {
	return &saver{state: state, every: every, log: log, wake: make(chan struct{}, 1), waiting: newSavings()}
}

// save takes over a record. done is called once it is on disk, unless a newer record of the same
// log takes its place first, whose done then says more; it must not block, and may never be called.
func (s *saver) save(one saving, urgent bool) {
	key := recordKey(one.destination, one.log)
	s.mu.Lock()
	first := len(s.waiting.records) == 0
	s.order++
	one.order = s.order
	s.waiting.add(key, one) // its done stands for that of an older one, too
	signal := first || urgent && !s.urgent
	s.urgent = s.urgent || urgent
	s.mu.Unlock()
	if signal {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// failure is why the last attempt failed; nil: it didn't.
func (s *saver) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// run writes until ctx ends. What waits then is left to flush.
func (s *saver) run(ctx context.Context) {
	var (
		timer = time.NewTimer(time.Hour)
		last  time.Time
		retry time.Duration
	)
	defer timer.Stop()
	for {
		s.mu.Lock()
		urgent, some := s.urgent, len(s.waiting.records) > 0
		s.mu.Unlock()
		wait := time.Hour
		if some {
			wait = s.every - time.Since(last)
			if urgent {
				wait = 0
			}
			wait = max(wait, retry-time.Since(last))
		}
		if some && wait <= 0 {
			err := s.flush()
			last, retry = time.Now(), 0
			if err != nil {
				// Publishing goes on as far as positions are reserved.
				s.log.Error("can't write checkpoints; trying again", "error", err)
				retry = time.Second/2 + rand.N(time.Second)
			}
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-timer.C:
		}
	}
}

// flush writes what waits now.
func (s *saver) flush() error {
	s.mu.Lock()
	waiting, urgent := s.waiting, s.urgent
	s.waiting, s.urgent = newSavings(), false
	s.writing = waiting
	s.mu.Unlock()
	if len(waiting.records) == 0 {
		return nil
	}
	records, active := make(map[string][]byte, len(waiting.records)), make(map[string]string, len(waiting.newest))
	for key, one := range waiting.records {
		records[key] = one.raw
	}
	for log, one := range waiting.newest {
		active[log] = one.destination
	}
	err := s.state.write(records, active)
	s.mu.Lock()
	s.err, s.writing = err, savings{}
	if err != nil {
		s.urgent = s.urgent || urgent
		for key, one := range waiting.records {
			if _, newer := s.waiting.records[key]; !newer {
				s.waiting.add(key, one)
			}
		}
	}
	s.mu.Unlock()
	if err == nil {
		for _, one := range waiting.records {
			one.done()
		}
	}
	return err
}

// checkpoint is a log's newest record, on disk or on its way there: a forwarder that
// begins where another has just ended must not begin from an older one.
func (s *saver) checkpoint(destination, log string) (*record, error) {
	key := recordKey(destination, log)
	s.mu.Lock()
	one, ok := s.waiting.records[key]
	if !ok {
		one, ok = s.writing.records[key]
	}
	s.mu.Unlock()
	if ok {
		return decodeRecord(one.raw)
	}
	return s.state.checkpoint(destination, log)
}

// active is the destination that a log was last sent to, by its newest record; empty: none.
func (s *saver) active(log string) (string, error) {
	s.mu.Lock()
	one, ok := s.waiting.newest[log]
	if !ok {
		one, ok = s.writing.newest[log]
	}
	s.mu.Unlock()
	if ok {
		return one.destination, nil
	}
	return s.state.active(log)
}
