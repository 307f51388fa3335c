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
}

// changes are what a directory is watched for: its files' and its own.
const changes = unix.IN_MODIFY | unix.IN_ATTRIB | unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO |
	unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR

func newInotify() (*inotify, error) {
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("inotify_init1", err)
	}
	return &inotify{file: os.NewFile(uintptr(fd), "inotify"), fd: fd, dirs: map[int32][]*watchedDir{}}, nil
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
	list, ok := n.dirs[d.wd]
	if !ok {
		return
	}
	for i, x := range list {
		if x == d {
			list = append(list[:i:i], list[i+1:]...)
			break
		}
	}
	if len(list) > 0 {
		n.dirs[d.wd] = list
		return
	}
	delete(n.dirs, d.wd)
	_, _ = unix.InotifyRmWatch(n.fd, uint32(d.wd))
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
