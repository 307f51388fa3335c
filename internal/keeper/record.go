package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"logforward/internal/flock"
)

// record is what is remembered from run to run. Its zero value is a keeper's first run.
type record struct {
	Attempts  int       `json:"attempts"`             // starts since a daemon last stayed
	NotBefore time.Time `json:"not_before,omitzero"`  // of the next start
	Begun     begun     `json:"begun,omitzero"`       // the last start
	Seen      daemon    `json:"seen,omitzero"`        // the daemon that answered last
	Silent    silence   `json:"silent,omitzero"`      // of the daemon that doesn't answer
	Stopping  stopping  `json:"stopping,omitzero"`    // the daemon that was asked to end
	Failed    *failure  `json:"failed,omitempty"`     // nil: there is hope
	Lost      string    `json:"lost,omitempty"`       // how the daemon before this one came to its end, while this one is young; empty: in order
	Watched   string    `json:"watched,omitempty"`    // fingerprint of what is reason to try again, at the last start
	Order     string    `json:"last_order,omitempty"` // what was ordered last, and what came of it
}

type daemon struct {
	PID     int       `json:"pid"` // 0: it ended in order, or another was started since
	Started time.Time `json:"started"`
}

// begun is a start: when, and from where in the log its words are.
type begun struct {
	Time   time.Time `json:"time"`
	Offset int64     `json:"offset"`
}

type failure struct {
	Reason string    `json:"reason"`
	Time   time.Time `json:"time"`
}

// stopping is a process that was asked to end.
type stopping struct {
	PID   int       `json:"pid"`
	Start uint64    `json:"start"`
	Since time.Time `json:"since"`
}

func (s *stopping) is(p *process) bool { return s.PID == p.pid && s.Start == p.start }

// silence counts the looks at which one process didn't answer.
type silence struct {
	PID   int       `json:"pid"`
	Start uint64    `json:"start"`
	Count int       `json:"count"`
	Used  uint64    `json:"used"` // processor time at the last look, in ticks
	At    time.Time `json:"at"`   // the last look
	Busy  bool      `json:"busy"` // it used the processor between any two looks
}

// look counts one more, and gives the sum.
func (s *silence) look(p *process, now time.Time) silence {
	_, _, used, err := stat(p.pid)
	if err != nil || s.PID != p.pid || s.Start != p.start {
		*s = silence{PID: p.pid, Start: p.start, Count: 1, Used: used, At: now}
		return *s
	}
	// A tenth of a processor: what a daemon uses that does nothing but collect its garbage is far below.
	if worked := time.Duration(used-s.Used) * time.Second / ticks; worked > now.Sub(s.At)/10 {
		s.Busy = true
	}
	s.Count, s.Used, s.At = s.Count+1, used, now
	return *s
}

const (
	recordFile = "record.json"
	lockFile   = "lock"
	daemonLog  = "daemon.log"
	maxRecord  = 64 << 10
)

// open makes the directory, makes sure that nobody else can write to it, and takes its lock, so that two
// runs at once don't start two daemons.
func (k *Keeper) open(ctx context.Context) (unlock func(), err error) {
	dir := k.config.Dir
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, fmt.Errorf("directory of ensure: %w", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("directory of ensure: %w", err)
	}
	if err := ours(dir); err != nil {
		return nil, fmt.Errorf("directory of ensure: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock of ensure: %w", err)
	}
	waiting, cancel := context.WithTimeout(ctx, lockTime)
	defer cancel()
	var locked error
	if !until(waiting, func() bool { locked = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); return locked == nil }) {
		lock.Close()
		if errors.Is(locked, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: it holds %s for more than %s", ErrBusy, lock.Name(), lockTime)
		}
		return nil, fmt.Errorf("lock %s: %w", lock.Name(), locked)
	}
	k.record = k.read()
	return func() { _ = flock.Release(lock) }, nil
}

// ErrBusy says that another run is at work.
var ErrBusy = errors.New("another ensure is at work")

// ours tells whether nobody but this user and root could have written to a directory, or put it there.
func ours(dir string) error {
	for i, d := range []string{dir, filepath.Dir(dir)} {
		info, err := os.Lstat(d)
		if err != nil {
			return err
		}
		owner := int(info.Sys().(*syscall.Stat_t).Uid)
		switch writable := info.Mode().Perm()&0o022 != 0; {
		case !info.IsDir() && (i == 0 || info.Mode().Type() != fs.ModeSymlink):
			return fmt.Errorf("%s is a %s, not a directory; remove it", d, info.Mode().Type())
		case i == 1 && info.Mode().Type() == fs.ModeSymlink:
			// A link to it is somebody's who could write to the directory that it is in.
		case owner != 0 && owner != os.Geteuid():
			return fmt.Errorf("%s belongs to uid %d; it must be root's or uid %d's", d, owner, os.Geteuid())
		case writable && (i == 0 || info.Mode()&fs.ModeSticky == 0):
			return fmt.Errorf("%s may be written to by others (mode %04o): chmod go-w %s", d, info.Mode().Perm(), d)
		}
	}
	return nil
}

// read reads the record. One that can't be read is forgotten: all that is lost is how often was tried.
func (k *Keeper) read() *record {
	r := new(record)
	f, err := os.OpenFile(filepath.Join(k.config.Dir, recordFile), os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return r
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxRecord))
	if err != nil || json.Unmarshal(b, r) != nil {
		return new(record)
	}
	return r
}

// save replaces the record. It isn't synced: after a power failure no daemon runs that it could tell of.
func (k *Keeper) save() error {
	b, err := json.Marshal(k.record)
	if err != nil {
		return fmt.Errorf("record of ensure: %w", err)
	}
	name := filepath.Join(k.config.Dir, recordFile)
	if err := os.WriteFile(name+".new", b, 0o600); err != nil {
		return fmt.Errorf("record of ensure: %w", err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		return fmt.Errorf("record of ensure: %w", err)
	}
	return nil
}
