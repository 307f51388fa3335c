// Package beat lets many wait for the same moments, so that the kernel wakes the process once for all of them.
//
// The runtime's own timers are asked by a poll that counts in whole milliseconds: a wait of 1.9 ms wakes the process after 1 ms,
// and again one later. Where hundreds of short waits a second are all that a process does, that is most of its work.
package beat

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Beat has moments at a fixed distance. Between them, and while nobody waits, it does nothing. Safe for concurrent use.
type Beat struct {
	every  time.Duration
	origin time.Time
	file   *os.File // a timerfd
	fd     int      // of file
	done   sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	waiting []waiter
	armed   int64 // moment that the timer is set to; 0: none
}

type waiter struct {
	moment int64
	wake   func()
}

// New starts a beat, which the caller closes.
func New(every time.Duration) (*Beat, error) {
	if every <= 0 {
		return nil, fmt.Errorf("beat: every %s", every)
	}
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("beat: make a timer: %w", err)
	}
	b := &Beat{every: every, origin: time.Now(), file: os.NewFile(uintptr(fd), "timer"), fd: fd}
	b.done.Go(b.run)
	return b, nil
}

// Close ends it. Whoever waits isn't woken any more.
func (b *Beat) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed, b.waiting = true, nil
	b.mu.Unlock()
	err := b.file.Close()
	b.done.Wait()
	if err != nil {
		return fmt.Errorf("beat: close the timer: %w", err)
	}
	return nil
}

// Near is the moment nearest to t, and never before the beat began.
func (b *Beat) Near(t time.Time) time.Time {
	return b.origin.Add(time.Duration(b.moment(t)) * b.every)
}

func (b *Beat) moment(t time.Time) int64 {
	return int64(max(0, t.Sub(b.origin)+b.every/2) / b.every)
}

// Wake calls wake once, at the moment nearest to t, or at the next one where that is over. wake must not block.
func (b *Beat) Wake(t time.Time, wake func()) {
	now := time.Now()
	next := int64(now.Sub(b.origin)/b.every) + 1
	w := waiter{max(b.moment(t), next), wake}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	b.waiting = append(b.waiting, w)
	if b.armed == 0 || w.moment < b.armed {
		b.arm(now, w.moment)
	}
}

// arm sets the timer. Called with mu.
func (b *Beat) arm(now time.Time, moment int64) {
	b.armed = moment
	wait := max(b.origin.Add(time.Duration(moment)*b.every).Sub(now), 1)
	// It fails for no valid descriptor and time only.
	_ = unix.TimerfdSettime(b.fd, 0, &unix.ItimerSpec{Value: unix.NsecToTimespec(int64(wait))}, nil)
}

func (b *Beat) run() {
	var expirations [8]byte
	var due []func()
	for {
		if _, err := b.file.Read(expirations[:]); err != nil || binary.NativeEndian.Uint64(expirations[:]) == 0 {
			return // closed
		}
		due = b.due(due[:0])
		for _, wake := range due {
			wake()
		}
		clear(due)
	}
}

// due takes out those whose moment has come, and sets the timer for the rest.
func (b *Beat) due(list []func()) []func() {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	reached := max(int64(now.Sub(b.origin)/b.every), b.armed)
	b.armed = 0
	rest, next := b.waiting[:0], int64(0)
	for _, w := range b.waiting {
		if w.moment <= reached {
			list = append(list, w.wake)
			continue
		}
		rest = append(rest, w)
		if next == 0 || w.moment < next {
			next = w.moment
		}
	}
	clear(b.waiting[len(rest):])
	b.waiting = rest
	if next > 0 && !b.closed {
		b.arm(now, next)
	}
	return list
}
