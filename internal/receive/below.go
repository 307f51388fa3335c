package receive

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Below the output no link is followed, neither in a file's place nor in that of a directory: what
// lies there was made by a receiver, and a link is somebody's trap. The output itself may be one.

// errNotOurs: something lies where a receiver's file or directory should be.
var errNotOurs = errors.New("it is a link, or no regular file: somebody else put it there")

// openBelow opens a regular file below root. With a dirMode, directories that are missing are made.
func openBelow(root, name string, flags int, mode, dirMode fs.FileMode) (*os.File, error) {
	f, err := openAtOnce(root, name, flags, mode)
	if err == nil || !errors.Is(err, errStepwise) && (dirMode == 0 || !errors.Is(err, fs.ErrNotExist)) {
		return f, err
	}
	dir, base, err := parentBelow(root, name, dirMode)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return openIn(dir, base, filepath.Join(root, name), flags, mode)
}

// errStepwise: the kernel can't, or may not, open a path at once without following links.
var errStepwise = errors.New("no openat2")

// openAtOnce has the kernel walk the whole path (openat2, since Linux 5.6).
func openAtOnce(root, name string, flags int, mode fs.FileMode) (*os.File, error) {
	path := filepath.Join(root, name)
	if !filepath.IsLocal(name) {
		return nil, pathError("open", path, errNotOurs)
	}
	dir, err := again(func() (int, error) { return unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: root, Err: err}
	}
	defer unix.Close(dir)
	how := unix.OpenHow{Flags: uint64(flags | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK), Resolve: unix.RESOLVE_NO_SYMLINKS}
	if flags&os.O_CREATE != 0 {
		how.Mode = uint64(mode.Perm())
	}
	fd, err := again(func() (int, error) { return unix.Openat2(dir, name, &how) })
	switch {
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM): // a sandbox that doesn't know it refuses it
		return nil, errStepwise
	case err != nil:
		return nil, pathError("open", path, err)
	}
	return regular(fd, path)
}

// openIn opens a regular file in a directory. A pipe in its place doesn't block.
func openIn(dir *os.File, base, path string, flags int, mode fs.FileMode) (*os.File, error) {
	fd, err := again(func() (int, error) {
		return unix.Openat(int(dir.Fd()), base, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, uint32(mode.Perm()))
	})
	if err != nil {
		return nil, pathError("open", path, err)
	}
	return regular(fd, path)
}

// regular makes a file of a descriptor that was opened without blocking, if it is a regular one's, and else closes it.
func regular(fd int, path string) (*os.File, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(fd)
		return nil, pathError("open", path, errors.Join(err, errNotOurs))
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		unix.Close(fd)
		return nil, pathError("open", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

// parentBelow opens the directory of name below root. With a mode, directories that are missing are made.
func parentBelow(root, name string, make fs.FileMode) (dir *os.File, base string, err error) {
	if !filepath.IsLocal(name) { // a ledger that somebody else wrote may say anything
		return nil, "", pathError("open", filepath.Join(root, name), errNotOurs)
	}
	dir, err = os.Open(root)
	if err != nil {
		return nil, "", err
	}
	elements := strings.Split(filepath.Clean(name), "/")
	path := root
	for _, e := range elements[:len(elements)-1] {
		path = filepath.Join(path, e)
		next, err := openDir(dir, e, path, make)
		dir.Close()
		if err != nil {
			return nil, "", err
		}
		dir = next
	}
	return dir, elements[len(elements)-1], nil
}

func openDir(dir *os.File, name, path string, make fs.FileMode) (*os.File, error) {
	for made := false; ; made = true {
		fd, err := again(func() (int, error) {
			return unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		})
		if err == nil {
			return os.NewFile(uintptr(fd), path), nil
		}
		if !errors.Is(err, fs.ErrNotExist) || make == 0 || made {
			return nil, pathError("open directory", path, err)
		}
		if err := unix.Mkdirat(int(dir.Fd()), name, uint32(make.Perm())); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, pathError("make directory", path, err)
		}
	}
}

// pathError names the file, and says of a link what it is.
func pathError(op, path string, err error) error {
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
		err = fmt.Errorf("%w: %w", err, errNotOurs)
	}
	return &fs.PathError{Op: op, Path: path, Err: err}
}

// again repeats a call that a signal interrupted.
func again(f func() (int, error)) (int, error) {
	for {
		if n, err := f(); err != unix.EINTR {
			return n, err
		}
	}
}
