package keeper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// lockName is the file in the daemon's state directory that it holds a lock on while it runs.
const lockName = "forward.lock"

// process is one that was verified to hold the daemon's lock. Its handle is the kernel's: a process that
// later has the same number isn't meant by it.
type process struct {
	pid    int
	start  uint64 // clock ticks after boot, as in /proc/PID/stat
	handle *os.Process
}

// holder is the process that holds the lock on a file; nil: nobody does. The kernel says who: what a lock file
// holds is believed by nobody, and taking the lock to see would turn a daemon away that just starts.
func holder(lock string) (*process, error) {
	info, err := os.Lstat(lock)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("lock of the daemon: %w", err)
	}
	s := info.Sys().(*syscall.Stat_t)
	if !info.Mode().IsRegular() || s.Nlink != 1 {
		// A daemon's own user may write to the directory: a second name of somebody else's lock file would mean them.
		return nil, fmt.Errorf("lock of the daemon: %s is no regular file with one name; remove it", lock)
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return nil, fmt.Errorf("who holds the lock of the daemon: %w", err)
	}
	for _, pid := range lockers(locks, s.Ino) {
		p, err := verified(pid, info)
		if p != nil || err != nil {
			return p, err
		}
	}
	return nil, nil
}

// lockers are the processes that hold a flock on an inode, by what /proc/locks says: "1: FLOCK ADVISORY WRITE 123
// 08:01:4711 0 EOF". The device there isn't always the one that stat gives (btrfs, overlayfs), so it is left out here:
// [verified] looks closer. Lines with "->" wait for a lock.
func lockers(locks []byte, inode uint64) (pids []int) {
	suffix := ":" + strconv.FormatUint(inode, 10)
	for line := range strings.Lines(string(locks)) {
		f := strings.Fields(line)
		if len(f) < 6 || f[1] != "FLOCK" || !strings.HasSuffix(f[5], suffix) {
			continue
		}
		if pid, err := strconv.Atoi(f[4]); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// verified takes a handle of a process, and then looks whether it has the file open; nil: it hasn't.
func verified(pid int, file fs.FileInfo) (*process, error) {
	handle, err := os.FindProcess(pid)
	if err != nil {
		return nil, nil // gone
	}
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	_, start, _, err := stat(pid)
	if err != nil {
		return nil, nil
	}
	fds, err := os.ReadDir(filepath.Join(dir, "fd"))
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("process %d holds the daemon's lock, and may not be looked at: %w; ask as root", pid, err)
	}
	for _, fd := range fds {
		if info, err := os.Stat(filepath.Join(dir, "fd", fd.Name())); err == nil && os.SameFile(info, file) {
			return &process{pid, start, handle}, nil
		}
	}
	return nil, nil
}

// stat reads a process's state letter, start and used processor time (both in ticks) from /proc/PID/stat.
func stat(pid int) (state byte, start, used uint64, err error) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, 0, 0, err
	}
	// The name, in parentheses, may hold anything.
	i := bytes.LastIndexByte(b, ')')
	f := strings.Fields(string(b[i+1:]))
	if i < 0 || len(f) < 20 {
		return 0, 0, 0, fmt.Errorf("/proc/%d/stat: %.100q", pid, b)
	}
	number := func(field int) uint64 {
		n, e := strconv.ParseUint(f[field], 10, 64)
		err = errors.Join(err, e)
		return n
	}
	start, used = number(19), number(11)+number(12)
	return f[0][0], start, used, err
}

// ticks of the kernel's clock in a second, on every platform that Go runs on.
const ticks = 100

// age is how long the process has run.
func (p *process) age() time.Duration {
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return 0
	}
	return time.Duration(up.Nano()) - time.Duration(p.start)*time.Second/ticks
}

// alive tells whether the very process is still there. One that is a zombie has no lock any more.
func (p *process) alive() bool {
	state, start, _, err := stat(p.pid)
	return err == nil && start == p.start && state != 'Z' && state != 'X'
}

// signal sends to this process and no other. That it has ended is no error.
func (p *process) signal(s syscall.Signal) error {
	if !p.alive() {
		return nil
	}
	if err := p.handle.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("%s to the daemon, pid %d: %w", s, p.pid, err)
	}
	return nil
}

// gone waits until the process has ended, at most so long.
func (p *process) gone(ctx context.Context, within time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return until(ctx, func() bool { return !p.alive() })
}

// pace is how often something is looked at that is waited for.
const pace = 20 * time.Millisecond

// until looks again and again; false: not before ctx ended.
func until(ctx context.Context, is func() bool) bool {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for !is() {
		select {
		case <-ctx.Done():
			return is()
		case <-tick.C:
		}
	}
	return true
}
