package forward

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"logforward/internal/flock"
)

// The buckets that this package keeps for itself; [State.Put] refuses them.
const (
	ownBuckets        = "forward."
	bucketCheckpoints = "forward.checkpoints" // <destination> NUL <log> → record
	bucketActive      = "forward.active"      // <log> → the destination it was last sent to
	bucketPauses      = "forward.pauses"      // <destination> → the fleet's pause
	bucketCorrupt     = "forward.corrupt"     // what could not be read, as it was
)

const stateFile = "forward.db"

// ErrLocked: another process uses the state directory.
var ErrLocked = errors.New("state directory is in use")

// errCorrupt: the file or a value in it isn't what was written.
var errCorrupt = errors.New("state is corrupt")

// State is the node's memory: one bbolt file in a directory that belongs to one
// process. Its methods may be called by several goroutines.
//
// A file that can't be read is set aside and a fresh one begun: what is lost is recovered from
// the centre, and forwarding must not stop for it.
type State struct {
	dir  string
	log  *slog.Logger
	lock *os.File

	mu     sync.Mutex // over db: it is replaced when it turns out to be corrupt
	db     *bolt.DB
	closed bool
}

// OpenState opens the state in dir, which is made (0700) if missing. The error
// wraps [ErrLocked] and tells who, where another process has it. logger may be nil.
func OpenState(dir string, logger *slog.Logger) (*State, error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make %s: %w; let the daemon's user write there, or set another state", dir, err)
	}
	s := &State{dir: dir, log: logger}
	if err := s.takeLock(); err != nil {
		return nil, err
	}
	if err := s.open(); err != nil {
		return nil, errors.Join(err, flock.Release(s.lock))
	}
	return s, nil
}

// file is the path of the database.
func (s *State) file() string { return filepath.Join(s.dir, stateFile) }

// takeLock uses a file of its own, because bbolt's lock goes with the database file,
// which is replaced when it is corrupt. The kernel drops it with the process.
func (s *State) takeLock() error {
	name := filepath.Join(s.dir, "forward.lock")
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("open the lock in %s: %w; let the daemon's user write there, or set another state", s.dir, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("lock %s: %w", name, err)
		}
		by := ""
		if b, err := io.ReadAll(io.LimitReader(f, 32)); err == nil {
			if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
				by = fmt.Sprintf(", pid %d", pid)
			}
		}
		return fmt.Errorf("%w: another logforward uses %s%s; stop it, or set another state directory", ErrLocked, s.dir, by)
	}
	// The pid is only for the message above; without it the lock holds as well.
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	s.lock = f
	return nil
}

// open opens the database and reads all of it once, so that a corrupt page is found now.
func (s *State) open() error {
	path := s.file()
	db, err := openWhole(path)
	if err == nil {
		s.db = db
		return nil
	}
	if !corruption(err) {
		return fmt.Errorf("open state %s: %w", path, err)
	}
	if err := s.setAside(path, err); err != nil {
		return err
	}
	if s.db, err = openWhole(path); err != nil {
		return fmt.Errorf("begin a new state %s: %w", path, err)
	}
	return nil
}

func (s *State) setAside(path string, why error) error {
	aside := path + ".corrupt-" + time.Now().UTC().Format("20060102T150405.000000000Z")
	// It may be away already: by somebody's hand, or by an earlier try that found no room for the new one.
	if err := os.Rename(path, aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("set corrupt state aside: %w", err)
	}
	s.log.Error("state is corrupt; it was set aside and a new one is begun; positions are recovered from the centre",
		"state", path, "aside", aside, "error", why)
	return nil
}

// corruption tells a damaged file from one that can't be had now: only the
// former is set aside.
func corruption(err error) bool {
	return errors.Is(err, errCorrupt) || errors.Is(err, berrors.ErrInvalid) || errors.Is(err, berrors.ErrChecksum) ||
		errors.Is(err, berrors.ErrVersionMismatch) || errors.Is(err, io.ErrUnexpectedEOF) || nowhereToWrite(err)
}

// nowhereToWrite tells the error of a write to a page that no file can have, which a damaged list of free pages leads to: no disk has room or is repaired for that.
func nowhereToWrite(err error) bool {
	path := new(fs.PathError)
	if !errors.As(err, &path) || !strings.HasPrefix(path.Op, "write") {
		return false
	}
	var errno unix.Errno
	return !errors.As(path.Err, &errno) && path.Err != fs.ErrClosed || errno == unix.EFBIG || errno == unix.EINVAL
}

func openWhole(path string) (db *bolt.DB, err error) {
	err = guard(func() error {
		// The free list must be on disk: without it bbolt walks all pages in a
		// goroutine of its own, where a damaged one ends the process.
		db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: 2 * time.Second})
		if err != nil {
			if fi, serr := os.Stat(path); serr == nil && fi.Size() > 0 && !known(err) {
				err = fmt.Errorf("%w: %w", errCorrupt, err)
			}
			return err
		}
		return db.View(func(tx *bolt.Tx) error {
			return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
				return b.ForEach(func(k, v []byte) error {
					// Looking at each byte makes a hole in the mapping fault here.
					var x byte
					for _, c := range k {
						x ^= c
					}
					for _, c := range v {
						x ^= c
					}
					_ = x
					return nil
				})
			})
		})
	})
	if err != nil && db != nil {
		// After a panic inside a transaction Close would wait for it for ever:
		// the descriptor is given up with the damaged file.
		if !errors.Is(err, errCorrupt) {
			err = errors.Join(err, db.Close())
		}
		db = nil
	}
	return db, err
}

// known tells the errors that aren't about the file's content.
func known(err error) bool {
	var errno unix.Errno
	return errors.As(err, &errno) && errno != unix.EINVAL || errors.Is(err, berrors.ErrTimeout) || errors.Is(err, os.ErrPermission)
}

// guard turns what bbolt does on a damaged file into an error: it panics, and
// where the file is shorter than it claims the mapping faults.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errCorrupt, r)
		}
	}()
	return f()
}

// update runs one transaction. It has reached the disk when update returns nil.
func (s *State) update(f func(*bolt.Tx) error) error {
	return s.run(func() error { return s.db.Update(f) })
}

func (s *State) view(f func(*bolt.Tx) error) error {
	return s.run(func() error { return s.db.View(f) })
}

// run runs a transaction; once more on a new file where the damage of the old one shows up only now. A log that begins only reads: it must not wait
// until another one writes.
func (s *State) run(transaction func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.New("state is closed")
	}
	path := s.file()
	if s.db != nil {
		err := guard(transaction)
		if !corruption(err) {
			return err
		}
		if aside := s.setAside(path, err); aside != nil {
			return errors.Join(err, aside)
		}
		s.db = nil // it can't be used or closed any more: it may hold its own locks
	}
	db, err := openWhole(path)
	if err != nil {
		return fmt.Errorf("begin a new state %s: %w", path, err)
	}
	s.db = db
	return guard(transaction)
}

func put(tx *bolt.Tx, bucket, key string, value []byte) error {
	b, err := tx.CreateBucketIfNotExists([]byte(bucket))
	if err != nil {
		return err
	}
	return b.Put([]byte(key), value)
}

func get(tx *bolt.Tx, bucket, key string) []byte {
	b := tx.Bucket([]byte(bucket))
	if b == nil {
		return nil
	}
	return append([]byte(nil), b.Get([]byte(key))...)
}

func checkBucket(bucket string) error {
	if bucket == "" || strings.HasPrefix(bucket, ownBuckets) {
		return fmt.Errorf("state: bucket %q is not for others", bucket)
	}
	return nil
}

// Put keeps a value; it is on disk when Put returns nil.
func (s *State) Put(bucket, key string, value []byte) error {
	if err := checkBucket(bucket); err != nil {
		return err
	}
	if err := s.update(func(tx *bolt.Tx) error { return put(tx, bucket, key, seal(value)) }); err != nil {
		return fmt.Errorf("state: put %s/%s: %w", bucket, key, err)
	}
	return nil
}

// Entry is one value of a state, for [State.PutAll]. No value: it is forgotten.
type Entry struct {
	Bucket, Key string
	Value       []byte
}

// PutAll keeps several values: all of them, or none if it returns an error.
func (s *State) PutAll(entries ...Entry) error {
	for _, e := range entries {
		if err := checkBucket(e.Bucket); err != nil {
			return err
		}
	}
	err := s.update(func(tx *bolt.Tx) error {
		for _, e := range entries {
			if e.Value != nil {
				if err := put(tx, e.Bucket, e.Key, seal(e.Value)); err != nil {
					return err
				}
			} else if b := tx.Bucket([]byte(e.Bucket)); b != nil {
				if err := b.Delete([]byte(e.Key)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("state: put %d values, the first %s/%s: %w", len(entries), entries[0].Bucket, entries[0].Key, err)
	}
	return nil
}

// Get gives a value; nil: there is none. A value that isn't what was put is set
// aside, reported in the log, and counts as none.
func (s *State) Get(bucket, key string) ([]byte, error) {
	if err := checkBucket(bucket); err != nil {
		return nil, err
	}
	return s.read(bucket, key)
}

func (s *State) read(bucket, key string) ([]byte, error) {
	var raw []byte
	if err := s.view(func(tx *bolt.Tx) error { raw = get(tx, bucket, key); return nil }); err != nil {
		return nil, fmt.Errorf("state: get %s/%s: %w", bucket, key, err)
	}
	if len(raw) == 0 {
		return nil, nil
	}
	value, err := unseal(raw)
	if err == nil {
		return value, nil
	}
	return nil, s.spoil(bucket, key, raw, err)
}

// spoil moves a value that can't be read into the corrupt bucket.
func (s *State) spoil(bucket, key string, raw []byte, why error) error {
	s.log.Error("a value of the state is corrupt; it was set aside and counts as lost", "bucket", bucket, "key", key, "error", why)
	name := bucket + "\x00" + key + "\x00" + time.Now().UTC().Format(time.RFC3339Nano)
	err := s.update(func(tx *bolt.Tx) error {
		if err := put(tx, bucketCorrupt, name, raw); err != nil {
			return err
		}
		return tx.Bucket([]byte(bucket)).Delete([]byte(key))
	})
	if err != nil {
		return fmt.Errorf("state: set %s/%s aside: %w", bucket, key, err)
	}
	return nil
}

// Delete forgets a value; there need be none.
func (s *State) Delete(bucket, key string) error {
	if err := checkBucket(bucket); err != nil {
		return err
	}
	err := s.update(func(tx *bolt.Tx) error {
		if b := tx.Bucket([]byte(bucket)); b != nil {
			return b.Delete([]byte(key))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("state: delete %s/%s: %w", bucket, key, err)
	}
	return nil
}

// Each calls f for each value of a bucket in the order of keys, until f returns an
// error. f gets copies and may call other methods. Corrupt values are treated as by [State.Get].
func (s *State) Each(bucket string, f func(key string, value []byte) error) error {
	if err := checkBucket(bucket); err != nil {
		return err
	}
	var keys []string
	err := s.view(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(bucket))
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, _ []byte) error { keys = append(keys, string(k)); return nil })
	})
	if err != nil {
		return fmt.Errorf("state: list %s: %w", bucket, err)
	}
	for _, key := range keys {
		value, err := s.read(bucket, key)
		if err != nil {
			return err
		}
		if value == nil {
			continue
		}
		if err := f(key, value); err != nil {
			return err
		}
	}
	return nil
}

// Close gives the directory free.
func (s *State) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	var err error
	if s.db != nil {
		err = s.db.Close()
	}
	return errors.Join(err, flock.Release(s.lock))
}
