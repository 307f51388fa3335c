package tail

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// info is what stat says about a file.
type info struct {
	dev, ino uint64
	size     int64
	links    uint64
	regular  bool
	partial  bool // the size is a lower bound
	mtime    time.Time
	changed  time.Time // the later of mtime and ctime; a rename sets ctime
}

func infoOf(st *unix.Stat_t) info {
	m := time.Unix(int64(st.Mtim.Sec), int64(st.Mtim.Nsec))
	c := time.Unix(int64(st.Ctim.Sec), int64(st.Ctim.Nsec))
	if c.Before(m) {
		c = m
	}
	return info{
		dev: uint64(st.Dev), ino: st.Ino, size: st.Size, links: uint64(st.Nlink),
		regular: st.Mode&unix.S_IFMT == unix.S_IFREG, mtime: m, changed: c,
	}
}

func (i info) same(dev, ino uint64) bool { return i.dev == dev && i.ino == ino }

// statPath follows symbolic links and opens nothing.
func statPath(path string) (info, error) {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Stat(path, &st) }); err != nil {
		return info{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return infoOf(&st), nil
}

// retry repeats a system call that a signal interrupted.
func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// content is what a generation's bytes are read from: the file itself, or a
// compressed form of it.
type content interface {
	// read fills p with the bytes from off on, and before with the len(before) bytes in
	// front of off. It returns how many bytes of p it filled; 0 and nil at the end. If not even
	// before could be filled, because the content ends earlier, it returns errShort.
	read(before, p []byte, off int64) (int, error)
	// stat describes the content. The size of a compressed form is what was unpacked so far;
	// partial says that there may be more.
	stat() (info, error)
	descriptor() int
	close() error
}

var errShort = errors.New("file is shorter than what was read from it")

// file is an open regular file. The raw descriptor is used because preadv has
// no counterpart in package os; it belongs to one goroutine.
type file struct {
	fd   int
	real string // real path when it was opened
	raw  info   // what stat said last
	said int64  // up to here bytes were told of, or read
	room *room  // at its end; nil: there is none
}

// openFile opens path for reading if it leads to a permitted regular file.
//
// The descriptor is taken with O_PATH first, which opens no device and waits
// for no FIFO; type and real path are then those of this very descriptor, and
// only it is opened for reading. So a symbolic link that is swapped between the
// check and the opening can't lead elsewhere.
func openFile(path string, allowed Allowed) (*file, info, error) {
	var pfd int
	err := retry(func() (err error) {
		pfd, err = unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, info{}, openError(path, err)
	}
	defer unix.Close(pfd)
	at, err := fstat(pfd)
	if err != nil {
		return nil, info{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	real, err := realPath(pfd, at)
	if err != nil {
		return nil, info{}, fmt.Errorf("resolve %s: %w", path, err)
	}
	// The path first: that a forbidden path exists, and of which type, is nobody's business.
	if err := allowed.Check(real); err != nil {
		return nil, info{}, fmt.Errorf("open %s: %w", path, err)
	}
	if !at.regular {
		return nil, info{}, fmt.Errorf("open %s: %w", path, ErrNotRegular)
	}
	fd, err := reopen(pfd)
	if err != nil {
		return nil, info{}, openError(path, err)
	}
	now, err := fstat(fd)
	if err != nil {
		unix.Close(fd)
		return nil, info{}, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if !now.same(at.dev, at.ino) || !now.regular {
		unix.Close(fd)
		return nil, info{}, fmt.Errorf("open %s: another file than the one that was checked: %w", path, ErrNotAllowed)
	}
	f := &file{fd: fd, real: real}
	return f, f.measure(now), nil
}

// reopen opens what fd refers to once more, for reading. On a network file
// system this makes the client ask the server for the current attributes.
func reopen(fd int) (int, error) {
	var out int
	err := retry(func() (err error) {
		out, err = unix.Open("/proc/self/fd/"+strconv.Itoa(fd),
			unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
		return err
	})
	return out, err
}

func openError(path string, err error) error {
	wrapped := &fs.PathError{Op: "open", Path: path, Err: err}
	switch err {
	case unix.EMFILE:
		return fmt.Errorf("%w: this process has as many files open as its limit (LimitNOFILE) lets it", wrapped)
	case unix.ENFILE:
		return fmt.Errorf("%w: the whole machine has as many files open as fs.file-max lets it", wrapped)
	}
	return wrapped
}

// realPath returns the path of an open file with all links resolved. For a
// deleted file it is the path that it had.
func realPath(fd int, at info) (string, error) {
	path, err := linkOf(fd)
	if err != nil {
		return "", err
	}
	if at.links == 0 { // otherwise the suffix is part of the name
		path = strings.TrimSuffix(path, deletedMark)
	}
	if !filepath.IsAbs(path) {
		return "", fmt.Errorf("%q: %w", path, ErrNotRegular)
	}
	return path, nil
}

// deletedMark is what the kernel adds to the path of a file that has no name any more.
const deletedMark = " (deleted)"

// linkOf is what the kernel says of a descriptor. Few paths are long: ten thousand logs needn't have room for the longest on their stacks.
func linkOf(fd int) (string, error) {
	link := "/proc/self/fd/" + strconv.Itoa(fd)
	var short [512]byte
	n, err := unix.Readlink(link, short[:])
	if err == nil && n < len(short) {
		return string(short[:n]), nil
	}
	if err == nil {
		return longLink(link)
	}
	return "", &fs.PathError{Op: "readlink", Path: link, Err: err}
}

//go:noinline
func longLink(link string) (string, error) {
	buf := make([]byte, unix.PathMax+16)
	n, err := unix.Readlink(link, buf)
	if err != nil {
		return "", &fs.PathError{Op: "readlink", Path: link, Err: err}
	}
	if n == len(buf) {
		return "", fmt.Errorf("path of %s is longer than %d bytes: %w", link, len(buf), unix.ENAMETOOLONG)
	}
	return string(buf[:n]), nil
}

// resolve is [filepath.EvalSymlinks] of an absolute path. It asks the kernel once, where that one asks for each directory on the way.
func resolve(path string) (string, error) {
	var fd int
	err := retry(func() (err error) {
		fd, err = unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return "", &fs.PathError{Op: "open", Path: path, Err: err}
	}
	real, err := linkOf(fd)
	unix.Close(fd)
	if err == nil && filepath.IsAbs(real) && !strings.HasSuffix(real, deletedMark) {
		return real, nil
	}
	return filepath.EvalSymlinks(path) // it was removed a moment ago, or there is no /proc: what can't be said so is looked at step by step
}

func fstat(fd int) (info, error) {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Fstat(fd, &st) }); err != nil {
		return info{}, err
	}
	return infoOf(&st), nil
}

func (f *file) stat() (info, error) {
	i, err := fstat(f.fd)
	if err != nil {
		return info{}, &fs.PathError{Op: "stat", Path: f.real, Err: err}
	}
	return f.measure(i), nil
}

func (f *file) descriptor() int { return f.fd }

func (f *file) close() error {
	fd := f.fd
	f.fd = -1
	if fd < 0 {
		return nil
	}
	return unix.Close(fd)
}

// read reads check bytes and data in one call, so that what is read and what
// proves that the file is still the same are as close together as can be.
func (f *file) read(before, p []byte, off int64) (int, error) {
	got := 0
	for {
		var vec [][]byte
		if got < len(before) {
			vec = [][]byte{before[got:], p}
		} else {
			vec = [][]byte{p[got-len(before):]}
		}
		var n int
		err := retry(func() (err error) {
			n, err = unix.Preadv(f.fd, vec, off-int64(len(before))+int64(got))
			return err
		})
		if err != nil {
			return 0, &fs.PathError{Op: "read", Path: f.real, Err: err}
		}
		got += n
		// A short read is the end, except for one that ends within the check bytes.
		if n == 0 || got >= len(before)+min(len(p), 1) || len(p) == 0 && got >= len(before) {
			break
		}
	}
	if got < len(before) {
		return 0, errShort
	}
	return f.take(p[:got-len(before)], off), nil
}

// readAt reads len(p) bytes at off, or what there is of them.
func readAt(c content, p []byte, off int64) (int, error) {
	got := 0
	for got < len(p) {
		n, err := c.read(nil, p[got:], off+int64(got))
		if err == errShort {
			return got, io.EOF
		}
		if err != nil {
			return got, err
		}
		if n == 0 {
			return got, io.EOF
		}
		got += n
	}
	return got, nil
}
