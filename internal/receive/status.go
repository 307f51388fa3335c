package receive

import (
	"context"
	"fmt"
	"maps"
	"time"
)

// LogStatus is where one log stands. Bytes and counters are of the partition's current term.
type LogStatus struct {
	Identity   string    `json:"identity"`
	Log        string    `json:"log"`
	Partition  int       `json:"partition"`
	Epoch      uint64    `json:"epoch"`
	Position   uint64    `json:"position"`  // appended
	Committed  uint64    `json:"committed"` // in this epoch
	File       string    `json:"file,omitempty"`
	Size       int64     `json:"size"`
	Bytes      uint64    `json:"bytes"` // appended
	Duplicates uint64    `json:"duplicates"`
	Holes      uint64    `json:"holes"`
	Gaps       uint64    `json:"gaps"`
	Forked     bool      `json:"forked,omitempty"`
	Changed    time.Time `json:"changed"`
}

// Status is a receiver's state.
type Status struct {
	Name      string `json:"name"`
	Connected bool   `json:"connected"`
	Ready     bool   `json:"ready"` // answers nodes' syncs
	Layout    string `json:"layout,omitempty"`
	// Partitions are those that this receiver works.
	Partitions []int       `json:"partitions"`
	Problems   []string    `json:"problems,omitempty"`
	Logs       []LogStatus `json:"logs"`
}

// Status asks all partitions. Those that are between terms have no logs to show.
func (r *Receiver) Status(ctx context.Context) Status {
	r.mu.Lock()
	s := Status{Name: r.config.Name, Connected: r.link != nil, Ready: r.complete, Partitions: []int{}, Logs: []LogStatus{}}
	var partitions []*partition
	if r.serving {
		s.Layout, partitions = r.layout.ID, r.partitions
	} else if r.note != nil {
		s.Problems = append(s.Problems, r.note.Error())
	}
	for _, err := range []error{r.sharing.twin, r.sharing.trouble, r.lacking, r.hang, r.denied()} {
		if err != nil {
			s.Problems = append(s.Problems, err.Error())
		}
	}
	for n := range partitions {
		for _, err := range []error{r.terms[n], r.stalls[n]} {
			if err != nil {
				s.Problems = append(s.Problems, fmt.Sprintf("partition %d: %s", n, err))
			}
		}
	}
	working := maps.Clone(r.working)
	r.mu.Unlock()
	for _, p := range partitions {
		if !working[p.n] {
			continue
		}
		s.Partitions = append(s.Partitions, p.n)
		reply := make(chan []LogStatus, 1)
		select {
		case p.looks <- reply:
			s.Logs = append(s.Logs, <-reply...)
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
	return s
}

func (r *Receiver) setTerm(n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.terms[n] = err
}

// setWorking says whether a partition has begun here, and its loop answers.
func (r *Receiver) setWorking(n int, is bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if is {
		r.working[n] = true
	} else {
		delete(r.working, n)
		delete(r.sharing.work, n)
	}
	r.metrics.working.Set(float64(len(r.working)))
	r.broadcast()
}

func (r *Receiver) setWorkload(n int, w workload) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sharing.work[n] = w
}

func (r *Receiver) setStall(n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		delete(r.stalls, n)
	} else {
		r.stalls[n] = err
	}
	r.metrics.stalled.Set(float64(len(r.stalls)))
}
