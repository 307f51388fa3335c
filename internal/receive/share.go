package receive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/nats-io/nuid"
	"golang.org/x/sync/errgroup"

	"logforward/internal/broker"
)

// sharing is this receiver's part in the sharing of partitions. All of it is guarded by the receiver's mu.
type sharing struct {
	state    string // id of the state directory
	instance string // of this run
	host     string
	started  time.Time

	records *broker.Records  // the leases bucket, of this session
	table   *table           // nil until the bucket has been read in this session, and this receiver's heart beats
	plan    map[int]string   // of table, made when asked for
	blind   bool             // the bucket can't be watched: the table may be old
	own     uint64           // revision of this receiver's beat; 0: none yet
	twin    error            // another receiver has this one's name
	trouble error            // why this receiver takes no part now
	peers   map[string]bool  // receivers that were ever seen, as remembered
	news    chan struct{}    // peers are to be written
	work    map[int]workload // of partitions that are worked
}

// workload is what a partition's loop says of itself in the heartbeat.
type workload struct {
	pending   int64
	oldest    time.Time
	committed time.Time
}

const (
	metaID    = "id"
	metaPeers = "peers"
)

// recallSharing reads what the state knows of this receiver and the others.
func (r *Receiver) recallSharing() error {
	s := &r.sharing
	s.instance, s.started, s.peers, s.work = nuid.Next(), r.now(), make(map[string]bool), make(map[int]workload)
	s.news = make(chan struct{}, 1)
	s.host, _ = os.Hostname() // for people only
	found, err := r.state.getMeta(metaID, &s.state)
	if err == nil && !found {
		s.state = nuid.Next()
		err = r.state.putMeta(metaID, s.state)
	}
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	if _, err := r.state.getMeta(metaPeers, &s.peers); err != nil {
		r.logger.Error("remembered receivers can't be read", "error", err)
		s.peers = make(map[string]bool)
	}
	return nil
}

// share takes part in the sharing of partitions until ctx ends, over each connection anew. When leave ends, this
// receiver says that it goes, and goes on beating until ctx ends.
func (r *Receiver) share(ctx, leave context.Context) error {
	for ctx.Err() == nil {
		session, err := r.session(ctx)
		if err != nil {
			return nil
		}
		session, cancel := context.WithCancel(session)
		stop := context.AfterFunc(ctx, cancel)
		err = r.shareOnce(session, leave)
		if err != nil && session.Err() == nil {
			r.setTrouble(err)
		}
		stop()
		cancel()
		r.mu.Lock()
		r.sharing.table, r.sharing.records = nil, nil
		r.broadcast()
		r.mu.Unlock()
		if !sleep(ctx, r.config.LeaseInterval) {
			return nil
		}
	}
	return nil
}

// shareOnce is share over one connection.
func (r *Receiver) shareOnce(session, leave context.Context) error {
	records, err := broker.OpenRecords(session, r.js, r.pub, broker.Leases)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(session)
	group.Go(func() error {
		r.watchLeases(ctx, records)
		return nil
	})
	group.Go(func() error { return r.beats(ctx, leave, records) })
	group.Go(func() error { return r.keepPeers(ctx) })
	return group.Wait()
}

// watchLeases keeps the table. While the bucket is read anew the former table stands.
func (r *Receiver) watchLeases(ctx context.Context, records *broker.Records) {
	misses := int((r.config.LeaseTimeout + r.config.LeaseInterval - 1) / r.config.LeaseInterval)
	fresh := newTable(r.config.Name, misses)
	caught := false
	records.Watch(ctx, func() {
		fresh, caught = newTable(r.config.Name, misses), false
	}, func(rec broker.Record) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if news := fresh.observe(rec); caught && news {
			r.replan()
		}
	}, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if ctx.Err() != nil {
			return
		}
		if old := r.sharing.table; old != nil {
			fresh.inherit(old)
		}
		r.sharing.table, r.sharing.records, r.sharing.blind, caught = fresh, records, false, true
		r.replan()
	}, func(err error) {
		r.logger.Warn("leases can't be watched now", "error", err)
		if ctx.Err() == nil {
			r.setTrouble(err)
			r.mu.Lock()
			r.sharing.blind = true
			r.mu.Unlock()
		}
	})
}

func (r *Receiver) setTrouble(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.sharing.trouble
	r.sharing.trouble = fmt.Errorf("leases: %w", err)
	if was == nil || was.Error() != r.sharing.trouble.Error() { // else it was said
		r.logger.Error("no part is taken in the sharing of partitions", "error", r.sharing.trouble)
	}
}

// replan has everybody look again who shall work what. mu is held.
func (r *Receiver) replan() {
	r.sharing.plan = nil
	r.rememberPeers()
	r.broadcast()
}

// rememberPeers keeps who has ever been seen: after a wipe it is waited for what they know. mu is held.
func (r *Receiver) rememberPeers() {
	s := &r.sharing
	known, forgotten := s.table.others()
	changed := false
	for _, name := range known {
		changed = changed || !s.peers[name]
		s.peers[name] = true
	}
	for _, name := range forgotten {
		changed = changed || s.peers[name]
		delete(s.peers, name)
	}
	if !changed {
		return
	}
	select {
	case s.news <- struct{}{}:
	default: // it is to be written already
	}
}

// beats writes this receiver's heartbeat each interval, until ctx ends or its outcome can't be told. While the disk hangs it says so once, and no more.
// One that can't see the leases has no heart either: it would be given partitions, and not take them.
func (r *Receiver) beats(ctx, leave context.Context, records *broker.Records) error {
	key := beatKey(r.config.Name)
	if err := r.awaitLeases(ctx); err != nil {
		return nil // ctx is over
	}
	revision, err := r.takeName(ctx, records, key)
	if err != nil {
		return err
	}
	defer func() {
		r.mu.Lock()
		r.sharing.own = 0
		r.mu.Unlock()
	}()
	tick := time.NewTicker(r.config.LeaseInterval)
	defer tick.Stop()
	leaving := leave.Done()
	for silent := false; ; {
		if hung := r.hangs(); r.seesLeases() && (!hung || !silent) {
			if revision, err = r.beatOnce(ctx, leave, records, key, revision, hung); err != nil {
				return fmt.Errorf("heartbeat: %w", err)
			}
			silent = hung
		}
		select {
		case <-tick.C:
		case <-leaving:
			leaving = nil
		case <-ctx.Done():
			r.farewell(records, key, revision, leave)
			return nil
		}
	}
}

// seesLeases tells whether the table is what the bucket says, but for the moment that a change takes.
func (r *Receiver) seesLeases() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sharing.table != nil && !r.sharing.blind
}

// awaitLeases waits for that.
func (r *Receiver) awaitLeases(ctx context.Context) error {
	for {
		r.mu.Lock()
		changed := r.changed
		r.mu.Unlock()
		if r.seesLeases() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// beatOnce writes one heartbeat. hung: it is the last for now, and by it all take this receiver for dead, itself too.
func (r *Receiver) beatOnce(ctx, leave context.Context, records *broker.Records, key string, revision uint64, hung bool) (uint64, error) {
	b := r.beat(leave.Err() != nil, false)
	b.Hung = hung
	value, err := json.Marshal(b)
	if err != nil {
		return 0, err
	}
	err = r.disk.do(opBeat, func() (err error) {
		revision, err = r.write(ctx, records, key, value, revision)
		return err
	})
	if err != nil {
		return 0, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	first := r.sharing.own == 0
	r.sharing.own, r.sharing.twin = revision, nil
	if r.sharing.table != nil {
		r.sharing.trouble = nil
	}
	if first {
		r.broadcast()
	}
	return revision, nil
}

// farewell says that this receiver has ended, so that nobody waits for its heart.
func (r *Receiver) farewell(records *broker.Records, key string, revision uint64, leave context.Context) {
	if leave.Err() == nil || r.nc.IsClosed() || !r.nc.IsConnected() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	value, err := json.Marshal(r.beat(true, true))
	if err == nil {
		_, err = r.write(ctx, records, key, value, revision)
	}
	if err != nil {
		r.logger.Info("the end of this receiver isn't told; the others notice", "error", err)
	}
}

// takeName makes sure that no other receiver that lives has this one's name: records and files are told apart by it.
// One of the same state directory on this host has ended, for the directory is locked; one on another host may be a copy.
func (r *Receiver) takeName(ctx context.Context, records *broker.Records, key string) (uint64, error) {
	var seen uint64
	for {
		value, revision, err := records.Get(ctx, key)
		if errors.Is(err, broker.ErrNotFound) {
			return revision, nil
		}
		if err != nil {
			return 0, err
		}
		var b Beat
		if json.Unmarshal(value, &b) != nil || b.Left || b.Forgotten || revision == seen || b.State == r.sharing.state && b.Host == r.sharing.host {
			return revision, nil
		}
		if seen > 0 {
			r.mu.Lock()
			r.sharing.twin = fmt.Errorf("another receiver named %q runs on host %q (output %s): give one of them another name (receiver = …) and a state directory of its own", b.Name, b.Host, b.Output)
			r.mu.Unlock()
			r.logger.Error("no partition is worked", "error", r.sharing.twin)
		}
		seen = revision
		if !sleep(ctx, r.config.LeaseTimeout) {
			return 0, ctx.Err()
		}
	}
}

// write writes a key of the leases bucket and finds out whether it did.
func (r *Receiver) write(ctx context.Context, records *broker.Records, key string, value []byte, expected uint64) (uint64, error) {
	type answer struct {
		revision uint64
		err      error
	}
	done := make(chan answer, 1)
	records.Update(key, value, expected, func(revision uint64, err error) { done <- answer{revision, err} })
	var a answer
	select {
	case a = <-done:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	if a.err == nil {
		return a.revision, nil
	}
	if broker.OutcomeUnknown(a.err) || errors.Is(a.err, broker.ErrWrongRevision) { // a repeated one may be its own obstacle
		if now, revision, err := records.Get(ctx, key); err == nil && string(now) == string(value) {
			return revision, nil
		}
	}
	return 0, a.err
}

// beat is this receiver's heartbeat now.
func (r *Receiver) beat(leaving, left bool) Beat {
	problems := r.Health()
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.sharing
	b := Beat{Name: r.config.Name, State: s.state, Instance: s.instance, Host: s.host, Output: r.config.Output, Started: s.started, Layout: r.layout.ID, Timeout: int64(r.config.LeaseTimeout),
		Leaving: leaving, Left: left, Problems: problems[:min(len(problems), 5)]}
	for _, w := range s.work {
		b.Pending += w.pending
		if !w.oldest.IsZero() && (b.Oldest.IsZero() || w.oldest.Before(b.Oldest)) {
			b.Oldest = w.oldest
		}
		if w.committed.After(b.Committed) {
			b.Committed = w.committed
		}
	}
	return b
}

// planned tells who shall work n, by what is seen now. mu is held.
func (r *Receiver) planned(n int) string {
	s := &r.sharing
	if s.table == nil || s.own == 0 {
		return ""
	}
	if n >= r.layout.Partitions {
		return s.table.planned(n, r.layout.Partitions, r.layout.ID)
	}
	if s.plan == nil {
		s.plan = s.table.plan(r.layout.Partitions, r.layout.ID)
	}
	return s.plan[n]
}

// owner is the living receiver that has n, by what is seen now; empty: none, or it isn't known.
func (r *Receiver) owner(n int) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.sharing.table
	if t == nil || !t.alive(t.leases[n].Owner) {
		return ""
	}
	return t.leases[n].Owner
}

// seenPeers are all receivers that may hold what the records lack: those that were ever seen.
func (r *Receiver) seenPeers() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := []string{r.config.Name}
	for name := range r.sharing.peers {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}
