// Package trust tells whether what a file says can be believed: only root, or this process's own user, can have
// written it. Policies, wishes and definitions are such files.
package trust

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// Check looks at an open file's or directory's owner and mode; its error says what is wrong, beginning with "it".
func Check(info fs.FileInfo) error {
	owner := info.Sys().(*syscall.Stat_t).Uid
	switch {
	case owner != 0 && int(owner) != os.Geteuid():
		return fmt.Errorf("it belongs to uid %d, not to root", owner)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("it may be written by others (mode %04o)", info.Mode().Perm())
	}
	return nil
}
