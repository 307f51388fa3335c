package tail

import (
	"errors"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// watchedDir is a directory with logs in it.
type watchedDir struct {
	path     string
	names    map[string][]*watch
	subs     []*Directory
	watched  bool
	wd       int32 // of the watch
	local    bool  // changes made elsewhere are impossible
	dev, ino uint64
	// sure: an event comes when the path leads elsewhere, or, where there is no such directory, when there is one. All on the way
	// to it is watched, then, and none of that is a link.
	sure bool
	way  []step
	next string // name of the part of the way that isn't there, in the last directory of way; empty: all is
}

// step is a directory on the way to another one, and its watch.
type step struct {
	wd   int32
	path string
}

// answers returns when a directory's file system does. It is for before w.mu is taken: a file system that is away must hold up its own logs alone.
func answers(dir string) { _, _ = statPath(dir) }

// enter lets events for path wake e. Called with w.mu.
func (w *Watcher) enter(path string, e *watch) {
	dir, name := filepath.Split(path)
	d := w.directory(filepath.Clean(dir))
	d.names[name] = append(d.names[name], e)
}

// directory is the one with a path, watched if that can be. Called with w.mu.
func (w *Watcher) directory(path string) *watchedDir {
	d := w.dirs[path]
	if d == nil {
		d = &watchedDir{path: path, names: map[string][]*watch{}}
		w.dirs[path] = d
		w.attach(d)
	}
	return d
}

// leave is enter's inverse. Called with w.mu.
func (w *Watcher) leave(path string, e *watch) {
	dir, name := filepath.Split(path)
	dir = filepath.Clean(dir)
	d := w.dirs[dir]
	if d == nil {
		return
	}
	for i, x := range d.names[name] {
		if x == e {
			d.names[name] = append(d.names[name][:i:i], d.names[name][i+1:]...)
			break
		}
	}
	if len(d.names[name]) == 0 {
		delete(d.names, name)
	}
	w.unwanted(d)
}

// unwanted lets a directory go that nobody asks for any more. Called with w.mu.
func (w *Watcher) unwanted(d *watchedDir) {
	if len(d.names) == 0 && len(d.subs) == 0 {
		delete(w.dirs, d.path)
		w.detach(d)
	}
}

// attach watches a directory. Called with w.mu.
func (w *Watcher) attach(d *watchedDir) bool {
	if w.notify == nil || d.watched {
		return false
	}
	w.forsake(d)
	at, err := statPath(d.path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			d.sure = w.await(d)
		}
		return false // it is tried again at every sweep
	}
	if err := w.notify.add(d); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			w.report(d.path, err)
		}
		return false
	}
	d.watched, d.dev, d.ino, d.local = true, at.dev, at.ino, IsLocal(d.path)
	d.sure = d.local && w.follow(d)
	return true
}

// detach stops watching a directory. Called with w.mu.
func (w *Watcher) detach(d *watchedDir) {
	if w.notify != nil && d.watched {
		w.notify.remove(d)
	}
	d.watched = false
	w.forsake(d)
}

// renew watches a directory that appeared, or was replaced by another of the
// same name: inotify would go on watching the old one. Called with w.mu.
func (w *Watcher) renew(d *watchedDir, at info, err error) {
	if w.notify == nil {
		return
	}
	switch {
	case err != nil && !d.watched && d.sure && d.absent(): // an event will tell
	case err != nil:
		w.detach(d)
		w.attach(d)
	case d.watched && !at.same(d.dev, d.ino):
		w.detach(d)
		w.attach(d)
		d.wake()
	case !d.watched:
		if w.attach(d) {
			d.wake()
		}
	}
}

// follow watches the way to a directory that is watched itself, and tells whether nothing can happen to it unseen. Called with w.mu.
func (w *Watcher) follow(d *watchedDir) bool {
	if !w.steps(d, filepath.Dir(d.path), 0) {
		return false
	}
	// What was replaced before its watch was there shows here, what is replaced from now on in an event. What is mounted on the way shows at the sweep.
	at, err := statPath(d.path)
	return err == nil && at.same(d.dev, d.ino) && straight(d.path)
}

// await watches for a directory that isn't there, and tells whether it can't appear unseen. Called with w.mu.
func (w *Watcher) await(d *watchedDir) bool {
	for dir, next := filepath.Dir(d.path), filepath.Base(d.path); ; dir, next = filepath.Dir(dir), filepath.Base(dir) {
		if _, err := statPath(dir); err != nil {
			if !errors.Is(err, fs.ErrNotExist) || dir == "/" {
				return false
			}
			continue
		}
		if !IsLocal(dir) || !straight(dir) || !w.steps(d, dir, arrivals) || !straight(dir) {
			return false
		}
		d.next = next
		return d.absent()
	}
}

// absent tells whether a part of the way that wasn't there still isn't; a link to nowhere is something.
func (d *watchedDir) absent() bool {
	_, err := lstat(filepath.Join(d.way[len(d.way)-1].path, d.next))
	return errors.Is(err, fs.ErrNotExist)
}

// steps watches a directory, for more, and all above it. Called with w.mu.
func (w *Watcher) steps(d *watchedDir, path string, more uint32) bool {
	if path != "/" && !w.steps(d, filepath.Dir(path), 0) {
		return false
	}
	if err := w.notify.way(d, path, more); err != nil {
		if errors.Is(err, unix.ENOSPC) {
			w.report(path, err)
		}
		return false
	}
	return true
}

// straight tells whether no part of a path is a link.
func straight(path string) bool {
	real, err := filepath.EvalSymlinks(path)
	return err == nil && real == path
}

// forsake stops watching the way to a directory. Called with w.mu.
func (w *Watcher) forsake(d *watchedDir) {
	if w.notify != nil {
		w.notify.leaveWay(d)
	}
	d.sure, d.way, d.next = false, nil, ""
}

// report says once that inotify doesn't suffice. Called with w.mu.
func (w *Watcher) report(dir string, err error) {
	if w.reported {
		return
	}
	w.reported = true
	hint := ""
	switch {
	case errors.Is(err, unix.ENOSPC):
		hint = "raise fs.inotify.max_user_watches"
	case errors.Is(err, unix.EMFILE):
		hint = "raise fs.inotify.max_user_instances"
	}
	w.cfg.Logger.Warn("inotify can't watch everything, files are polled instead",
		"directory", dir, "poll", w.cfg.Poll, "error", err, "hint", hint)
}

func (d *watchedDir) wake() {
	for _, list := range d.names {
		for _, x := range list {
			x.wake()
		}
	}
	for _, s := range d.subs {
		s.changed()
	}
}

// IsLocal says that a directory lies on a file system whose every change this
// kernel sees, so that inotify tells of it and its times are never old ones.
func IsLocal(dir string) bool {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return false
	}
	switch uint32(st.Type) {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC, unix.F2FS_SUPER_MAGIC:
		return true
	}
	return false
}
