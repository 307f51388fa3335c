package rollout

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"logforward/internal/flock"
)

// ErrTaken says that a request took effect before.
var ErrTaken = errors.New("took effect already")

// Once remembers a request's id in a file, until it has expired. A second rollback takes the first one back, so that nobody
// may have one done twice by sending it again. When it returns nil the id is on disk, and was not there before.
func Once(file, id string, until, now time.Time) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	lock, err := os.OpenFile(file+".lock", os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer flock.Release(lock)
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return &fs.PathError{Op: "lock", Path: lock.Name(), Err: err}
	}
	known := map[string]time.Time{}
	b, err := read(file)
	if err != nil {
		return err
	}
	if b != nil {
		if err := json.Unmarshal(b, &known); err != nil {
			return fmt.Errorf("%s: %w; remove it", file, err)
		}
	}
	for other, end := range known {
		if !now.Before(end) {
			delete(known, other)
		}
	}
	if _, taken := known[id]; taken {
		return fmt.Errorf("request %s %w", id, ErrTaken)
	}
	known[id] = until
	if b, err = json.Marshal(known); err != nil {
		return err
	}
	return write(file, b, 0o600, -1, -1)
}
