package tail

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// inotify is the kernel's notification of changes in directories.
//
// It is read here, not by a library, because of when: the kernel makes one event of several that say the same only while they
// wait to be read. A reader that takes each at once is woken for each line of a busy file.
type inotify struct {
	file *os.File
	fd   int // of file
	dirs map[int32][]*watchedDir
	ways map[int32][]*watchedDir // those that lie below a directory which is watched for being moved itself
}

// changes are what a directory is watched for: its files' and its own.
const changes = unix.IN_MODIFY | unix.IN_ATTRIB | unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO |
	unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR

// moves are what a directory on the way to another one is watched for: that the path leads elsewhere. Nothing that happens in it is among that.
const moves = unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR

// arrivals are what the directory is watched for, beside moves, where the next part of the way isn't there yet.
const arrivals = unix.IN_CREATE | unix.IN_MOVED_TO

func newInotify() (*inotify, error) {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	return &inotify{file: os.NewFile(uintptr(fd), "inotify"), fd: fd, dirs: map[int32][]*watchedDir{}, ways: map[int32][]*watchedDir{}}, nil
}

// add watches a directory. Several paths may lead to one.
func (n *inotify) add(d *watchedDir) error {
	wd, err := unix.InotifyAddWatch(n.fd, d.path, changes)
	if err != nil {
		return &os.PathError{Op: "inotify_add_watch", Path: d.path, Err: err}
	}
	d.wd = int32(wd)
	n.dirs[d.wd] = append(n.dirs[d.wd], d)
	return nil
}

// remove is add's inverse; the directory may be gone.
func (n *inotify) remove(d *watchedDir) {
	if without(n.dirs, d.wd, d) {
		n.narrow(d.wd, d.path)
	}
}

// way watches a directory on the way to d for moves, and for arrivals where more says so, beside what it is watched for already.
func (n *inotify) way(d *watchedDir, path string, more uint32) error {
	wd, err := unix.InotifyAddWatch(n.fd, path, moves|more|unix.IN_MASK_ADD)
	if err != nil {
		return &os.PathError{Op: "inotify_add_watch", Path: path, Err: err}
	}
	n.ways[int32(wd)] = append(n.ways[int32(wd)], d)
	d.way = append(d.way, step{int32(wd), path})
	return nil
}

// leaveWay is way's inverse, for all of d's.
func (n *inotify) leaveWay(d *watchedDir) {
	for _, s := range d.way {
		if without(n.ways, s.wd, d) {
			n.narrow(s.wd, s.path)
		}
	}
	d.way = nil
}

// narrow ends a watch that nothing needs any more, or has it tell of moves alone where that is all that is needed.
func (n *inotify) narrow(wd int32, path string) {
	switch {
	case len(n.dirs[wd]) > 0:
	case len(n.ways[wd]) == 0:
		_, _ = unix.InotifyRmWatch(n.fd, uint32(wd))
	case !n.awaits(wd):
		// Where the path leads elsewhere by now that was a new watch, of no use.
		if other, err := unix.InotifyAddWatch(n.fd, path, moves); err == nil && int32(other) != wd && len(n.dirs[int32(other)]) == 0 && len(n.ways[int32(other)]) == 0 {
			_, _ = unix.InotifyRmWatch(n.fd, uint32(other))
		}
	}
}

// awaits tells whether a directory is one in which something is to appear.
func (n *inotify) awaits(wd int32) bool {
	for _, d := range n.ways[wd] {
		if d.next != "" && d.way[len(d.way)-1].wd == wd {
			return true
		}
	}
	return false
}

// without takes one directory out of a watch's, and tells whether it was the last of them.
func without(all map[int32][]*watchedDir, wd int32, d *watchedDir) bool {
	list, ok := all[wd]
	if !ok {
		return false
	}
	for i, x := range list {
		if x == d {
			list = append(list[:i:i], list[i+1:]...)
			break
		}
	}
	if all[wd] = list; len(list) == 0 {
		delete(all, wd)
	}
	return len(list) == 0
}

// happened is one event; name is empty where it is about the directory itself.
type happened struct {
	wd   int32
	mask uint32
	name string
}

// each calls do for the events in buf, as the kernel gave them.
func each(buf []byte, do func(happened)) error {
	for len(buf) > 0 {
		if len(buf) < unix.SizeofInotifyEvent {
			return errors.New("inotify: cut short")
		}
		raw := (*unix.InotifyEvent)(unsafe.Pointer(&buf[0]))
		end := unix.SizeofInotifyEvent + int(raw.Len)
		if len(buf) < end {
			return fmt.Errorf("inotify: an event of %d bytes in %d", end, len(buf))
		}
		name := buf[unix.SizeofInotifyEvent:end]
		for len(name) > 0 && name[len(name)-1] == 0 {
			name = name[:len(name)-1]
		}
		do(happened{raw.Wd, raw.Mask, string(name)})
		buf = buf[end:]
	}
	return nil
}
