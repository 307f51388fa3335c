package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"logforward/internal/flock"
)

// maxSocketPath is the kernel's limit (108) less the NUL at the end.
const maxSocketPath = 107

const socketMode = 0o660

// listen takes the socket's path. The lock file beside it decides between two daemons that
// start at once: both could find the same stale socket, and the second would remove the
// first one's new one. It stays when the daemon ends.
func listen(ctx context.Context, path string) (_ *net.UnixListener, _ *os.File, err error) {
	if len(path) > maxSocketPath {
		return nil, nil, fmt.Errorf("control socket %s: the path has %d bytes, a unix socket's may have %d; set a shorter one with socket", path, len(path), maxSocketPath)
	}
	if !filepath.IsAbs(path) {
		return nil, nil, fmt.Errorf("control socket %s: the path must be absolute", path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, nil, fmt.Errorf("control socket %s: make its directory: %w", path, err)
	}
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("control socket %s: lock file: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = flock.Release(lock)
		}
	}()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, nil, fmt.Errorf("control socket %s: lock %s: %w", path, lock.Name(), err)
		}
		return nil, nil, inUse(path, holder(lock))
	}
	if err := removeStale(ctx, path); err != nil {
		return nil, nil, err
	}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		// The mode of the descriptor becomes the mode of the file at bind, so there is no
		// moment at which it is wider.
		var inner error
		if err := raw.Control(func(fd uintptr) { inner = unix.Fchmod(int(fd), socketMode) }); err != nil {
			return err
		}
		return inner
	}}
	l, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	listener := l.(*net.UnixListener)
	// The umask may have taken bits away.
	if err := os.Chmod(path, socketMode); err != nil {
		listener.Close()
		return nil, nil, fmt.Errorf("control socket %s: set mode %o: %w", path, socketMode, err)
	}
	// Who holds the lock, for the message of the one that comes second.
	if err := lock.Truncate(0); err == nil {
		_, _ = fmt.Fprintf(lock, "%d\n", os.Getpid())
	}
	return listener, lock, nil
}

// removeStale removes a socket on which nobody answers, and nothing else.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("control socket %s: %w", path, err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("control socket %s: there is a %s in its place, which is left alone; remove it or set another path with socket", path, describe(info.Mode()))
	}
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, "unix", path)
	if err == nil {
		conn.Close()
		return inUse(path, "")
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("control socket %s: can't tell whether somebody answers there: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("control socket %s: remove the one that a dead daemon left: %w", path, err)
	}
	return nil
}

func describe(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "directory"
	case m.IsRegular():
		return "file"
	case m.Type() == fs.ModeSymlink:
		return "symbolic link"
	}
	return "special file"
}

func inUse(path, pid string) error {
	by := "another daemon"
	if pid != "" {
		by += " (pid " + pid + ")"
	}
	return Errorf(CodeConflict, "control socket %s: %s answers there", path, by).
		WithHint("stop it first, or set another path with socket")
}

// holder reads the pid from a lock file; empty where there is none.
func holder(lock *os.File) string {
	b := make([]byte, 20)
	n, _ := lock.ReadAt(b, 0)
	pid := strings.TrimSpace(string(b[:n]))
	if strings.Trim(pid, "0123456789") != "" {
		return ""
	}
	return pid
}
