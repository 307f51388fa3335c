package keeper

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"logforward/internal/control"
)

// Times of one run. Together they are less than the 20 s that the autonomous agent gives it.
const (
	askTime    = 2 * time.Second  // for one answer of the daemon
	endTime    = 6 * time.Second  // for an end in order, before it is killed or left to the next run
	killTime   = 2 * time.Second  // for a killed process to be gone
	beginTime  = 5 * time.Second  // for a new daemon to answer, before that is left to the next run
	settleTime = 3 * time.Second  // for a new daemon to connect
	lockTime   = 3 * time.Second  // for another run to end
	wordTime   = time.Second      // for the word of how a daemon ended that has just ended
	lateTime   = 25 * time.Second // after which a daemon that was asked to end is killed: longer than it takes in order
)

// Config describes a keeper. All paths are absolute.
type Config struct {
	Dir     string   // the keeper's own directory
	Program string   // logforward, as the daemon is started
	Args    []string // of the daemon
	Socket  string   // the daemon's
	State   string   // the daemon's state directory, by whose lock it is found
	Watched []string // files and directories of files whose change is reason to try again
	Unit    string   // the systemd unit; it is used where systemd runs and knows it. Empty: none

	Attempts int           // starts in a row that don't last before it has failed; default 5
	Backoff  time.Duration // wait before the third start, doubled with each; default 5 s
	Again    time.Duration // after which a failed daemon is tried again; default 15 min; negative: never
	Looks    int           // silent looks in a row before a daemon is replaced; default 3, times 4 while it uses the processor
	Grace    time.Duration // how old a daemon may be that doesn't answer yet; default 20 s
	Steady   time.Duration // how long a daemon must have run to count as staying; default 60 s

	// Startable tells why a new daemon wouldn't start; nil: it isn't asked. A daemon that works isn't ended for one that doesn't.
	Startable func() error
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Keeper looks after one daemon. It is for one goroutine.
type Keeper struct {
	config Config
	client *control.Client
	record *record
	end    time.Duration // endTime, but in tests
}

// New allocates; nothing is touched before Ensure.
func New(c Config) *Keeper {
	if c.Attempts <= 0 {
		c.Attempts = 5
	}
	if c.Looks <= 0 {
		c.Looks = 3
	}
	for _, d := range []struct {
		is    *time.Duration
		deflt time.Duration
	}{{&c.Backoff, 5 * time.Second}, {&c.Again, 15 * time.Minute}, {&c.Grace, 20 * time.Second}, {&c.Steady, time.Minute}} {
		if *d.is == 0 {
			*d.is = d.deflt
		}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	client := control.NewClient(c.Socket)
	client.Timeout = askTime
	return &Keeper{config: c, client: client, end: endTime}
}

// Ensure looks at the daemon, does what has to be done, and tells how the node stands then. order may be nil.
// Its error is of the keeper: that the daemon doesn't run is none, that an order was refused is an [OrderError], which
// comes with an observation all the same.
func (k *Keeper) Ensure(ctx context.Context, order *Order) (Observation, error) {
	unlock, err := k.open(ctx)
	if err != nil {
		return Observation{}, err
	}
	defer unlock()
	var refused error
	if order != nil {
		refused = k.obey(ctx, order)
	}
	o, err := k.keep(ctx)
	o.Time, o.Attempts, o.Order = k.config.Now().UTC(), k.record.Attempts, k.record.Order
	return o, errors.Join(refused, err, k.save())
}

// keep is one look and its consequence.
func (k *Keeper) keep(ctx context.Context) (Observation, error) {
	k.forgive()
	status, err := k.client.Status(ctx, control.StatusRequest{})
	switch {
	case err == nil:
		return k.answered(ctx, status)
	case errors.Is(err, control.ErrBusy):
		k.record.Silent = silence{}
		return Observation{State: Degraded, Reason: err.Error()}, nil // it turned us away, so it lives
	case errors.Is(err, control.ErrNotRunning), errors.Is(err, control.ErrTimeout):
		return k.silent(ctx, err)
	case errors.Is(err, control.ErrRefused):
		k.record.Silent, k.record.Stopping = silence{}, stopping{}
		return Observation{State: Degraded, Reason: "the daemon lives, and how it stands may not be seen: " + err.Error()}, nil
	}
	return Observation{State: Degraded, Reason: "the daemon answers with an error: " + err.Error()}, nil
}

// answered is what follows from a daemon that works: nothing, unless its program was replaced.
func (k *Keeper) answered(ctx context.Context, status control.StatusReply) (Observation, error) {
	k.record.Silent, k.record.Stopping = silence{}, stopping{}
	k.record.Seen = daemon{PID: status.PID, Started: status.Started}
	if k.since(status.Started) >= k.config.Steady {
		k.record.Attempts, k.record.Failed, k.record.Lost = 0, nil, ""
	}
	replaced, err := replacedBy(ctx, status.Executable, k.config.Program)
	if replaced {
		if err = k.startable(); err == nil {
			return k.replace(ctx, false, "the program was replaced")
		}
		err = fmt.Errorf("the program was replaced, and %w", err)
	}
	o := k.observe(ctx, status)
	if err != nil && (o.State == Forwarding || o.State == Idle) {
		o.State, o.Reason = Degraded, err.Error()
	}
	return k.lost(o), nil
}

// lost lets a daemon's unforeseen end be seen for as long as the next one is young: it is back at the next look, and
// nobody would hear of it otherwise.
func (k *Keeper) lost(o Observation) Observation {
	if k.record.Lost != "" && (o.State == Forwarding || o.State == Idle) {
		o.State, o.Reason = Degraded, k.record.Lost
	}
	return o
}

// startable is an error where another daemon wouldn't start.
func (k *Keeper) startable() error {
	if k.config.Startable == nil {
		return nil
	}
	if err := k.config.Startable(); err != nil {
		return fmt.Errorf("the daemon that runs is left alone, for another wouldn't start: %w", err)
	}
	return nil
}

// silent is what follows from a daemon that doesn't answer.
func (k *Keeper) silent(ctx context.Context, cause error) (Observation, error) {
	p, err := holder(filepath.Join(k.config.State, lockName))
	if err != nil {
		return Observation{}, err
	}
	if p == nil {
		if k.record.Stopping.PID == k.record.Seen.PID {
			k.record.Seen.PID = 0 // it was asked to end
		}
		k.record.Silent, k.record.Stopping = silence{}, stopping{}
		if errors.Is(cause, control.ErrTimeout) {
			return Observation{State: Degraded, Reason: cause.Error() + ", and the process that listens there isn't a daemon with the state directory " + k.config.State + ": end it, or set another socket"}, nil
		}
		return k.start(ctx, "")
	}
	now := k.config.Now()
	switch {
	case k.record.Stopping.is(p):
		if k.since(k.record.Stopping.Since) < lateTime {
			return Observation{State: Degraded, Reason: fmt.Sprintf("the daemon (pid %d) is ending", p.pid), PID: p.pid}, nil
		}
		return k.replace(ctx, true, "the daemon doesn't end")
	case p.age() < k.config.Grace:
		return Observation{State: Degraded, Reason: fmt.Sprintf("the daemon (pid %d) is starting", p.pid), PID: p.pid}, nil
	}
	looks := k.record.Silent.look(p, now)
	enough := k.config.Looks
	if looks.Busy {
		enough *= 4
	}
	if looks.Count < enough {
		return Observation{State: Degraded, Reason: fmt.Sprintf("the daemon (pid %d) doesn't answer, look %d of %d: %v", p.pid, looks.Count, enough, cause), PID: p.pid}, nil
	}
	return k.replace(ctx, true, fmt.Sprintf("the daemon (pid %d) didn't answer at %d looks in a row", p.pid, looks.Count))
}

// replace ends the daemon that runs, and starts another. One that is hung is killed where it doesn't end soon.
func (k *Keeper) replace(ctx context.Context, hung bool, why string) (Observation, error) {
	gone, err := k.stop(ctx, hung)
	if err != nil {
		return Observation{}, err
	}
	if !gone {
		return Observation{State: Degraded, Reason: why + "; it is ending", Action: "stopping"}, nil
	}
	if hung {
		why += ", and was replaced"
	} else {
		k.retry() // it didn't end by itself
		why = ""
	}
	k.record.Seen.PID = 0
	o, err := k.start(ctx, why)
	if o.Action == "started" {
		o.Action = "replaced"
	}
	return o, err
}

// since is how long ago something was, either way: a clock that was set back must not make it wait for long.
func (k *Keeper) since(t time.Time) time.Duration { return k.config.Now().Sub(t).Abs() }
