package receive

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"
)

// A disk that hangs, as a file server does that doesn't answer, holds up whatever touches it, without an error and perhaps for ever. The
// receiver's heart touches no disk: it would beat on, and its partitions stand still. So operations are watched, and where one doesn't
// come back the heart says so and then stands still, until the disk is back. The others take over as from any receiver that is silent, and what
// was hanging can't commit a range that another has committed meanwhile: its term is over, and the records' revisions have moved on.

// flights are the operations on the disk that haven't come back. Their age is counted in looks, not by a clock: a process that was
// stopped hasn't looked meanwhile.
type flights struct {
	mu  sync.Mutex
	all map[*flight]struct{}
}

type flight struct {
	op    string
	looks int
}

// watched tells whether an operation should come back soon whatever it is about. Others wait for the broker, or take as
// long as a file is big; on a disk that hangs they aren't alone.
func watched(op string) bool {
	switch op {
	case opRecord, opConfirm, opAck, opBeat, opRetire, opCompress, opSetAside, opRemove:
		return false
	}
	return true
}

func (s *flights) begin(op string) *flight {
	if !watched(op) {
		return nil
	}
	f := &flight{op: op}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = make(map[*flight]struct{})
	}
	s.all[f] = struct{}{}
	return f
}

func (s *flights) end(f *flight) {
	if f == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, f)
}

// look counts one look more for each operation, and gives the one that has seen the most.
func (s *flights) look() (oldest flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for f := range s.all {
		if f.looks++; f.looks > oldest.looks {
			oldest = *f
		}
	}
	return oldest
}

// watchDisk looks with each heartbeat whether the disk hangs, until ctx ends.
func (r *Receiver) watchDisk(ctx context.Context) {
	most := max(2, int((r.config.DiskTimeout+r.config.LeaseInterval-1)/r.config.LeaseInterval))
	for sleep(ctx, r.config.LeaseInterval) {
		oldest := r.disk.flights.look()
		var err error
		if oldest.looks > most {
			err = fmt.Errorf("the disk hangs: %s (below %s or %s) hasn't come back for %s; until it does this receiver's heart stands still, and others take over",
				oldest.op, r.config.Output, r.config.State, time.Duration(oldest.looks)*r.config.LeaseInterval)
		}
		r.setHang(err)
	}
}

func (r *Receiver) setHang(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.hang
	r.hang = err
	switch {
	case was == nil && err != nil:
		r.metrics.hung.Set(1)
		r.logger.Error(err.Error())
	case was != nil && err == nil:
		r.metrics.hung.Set(0)
		r.logger.Warn("the disk is back, and the receiver's heart beats again")
	}
}

// hangs tells whether the disk hangs.
func (r *Receiver) hangs() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hang != nil
}

// keepPeers writes who has ever been seen to the state, whenever that has changed. It is beside all else, for a disk that hangs.
func (r *Receiver) keepPeers(ctx context.Context) error {
	for {
		select {
		case <-r.sharing.news:
		case <-ctx.Done():
			select {
			case <-r.sharing.news:
			default:
				return nil
			}
		}
		r.mu.Lock()
		peers := maps.Clone(r.sharing.peers)
		r.mu.Unlock()
		if err := r.state.putMeta(metaPeers, peers); err != nil {
			r.logger.Error("other receivers can't be remembered", "error", err)
		}
	}
}
