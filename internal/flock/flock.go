// Package flock gives locks of files back.
package flock

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Release gives back a lock that flock(2) took on f, and closes f. To close it alone isn't enough: the lock belongs to the open file, which
// a child has as well between its fork and its exec, whatever program it is that begins at this moment. The error wraps
// [os.ErrClosed] where f is closed already.
func Release(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_UN)
	if err != nil {
		err = fmt.Errorf("unlock %s: %w", f.Name(), err)
	}
	return errors.Join(err, f.Close())
}
