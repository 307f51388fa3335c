package node

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"logforward/internal/control"
	"logforward/internal/tail"
)

// expand is [tail.Expand] in this package's words.
func expand(pattern string, allowed tail.Allowed) ([]string, []control.Problem, error) {
	followed, refused, err := tail.Expand(pattern, allowed)
	problems := make([]control.Problem, 0, len(refused))
	for _, r := range refused {
		problems = append(problems, control.Problem{Where: r.Path, Problem: r.Reason})
	}
	return followed, problems, err
}

// maxBirths is how many of a log's files are remembered.
const maxBirths = 8

// birth names a physical file: device, inode, and its time of birth, so that an inode that is
// used again isn't taken for the old file. Empty: there is none.
func birth(path string) string {
	var s unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_DONT_SYNC, unix.STATX_INO|unix.STATX_BTIME, &s); err != nil {
		return ""
	}
	return fmt.Sprintf("%d:%d-%d-%d.%d", s.Dev_major, s.Dev_minor, s.Ino, s.Btime.Sec, s.Btime.Nsec)
}

// born remembers the birth of the file that the path leads to. It reports whether that is a new one.
func (c *child) born(b string) bool {
	if b == "" || len(c.Births) > 0 && c.Births[len(c.Births)-1] == b {
		return false
	}
	c.Births = append(c.Births, b)
	if extra := len(c.Births) - maxBirths; extra > 0 {
		c.Births = slices.Clone(c.Births[extra:])
	}
	return true
}
