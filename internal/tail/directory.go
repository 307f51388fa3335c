package tail

import (
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Directory tells of changes in one directory, which need not be there yet. It is for others who look at a directory again and
// again: where [Directory.Sure] says so they needn't, and what wakes the process wakes it once for all.
type Directory struct {
	w       *Watcher
	path    string
	mask    uint32 // of the events that count
	changed func()
}

// entries are what changes which files a directory has, and who may read them.
const entries = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_ATTRIB

// Directory has changed called when a directory's files come, go, or get another name or mode, with contents also when they are written to; when the
// directory itself comes, goes or is replaced; and when that may have been missed. It must not block, and comes more often than anything has
// changed. The path is absolute. A nil Watcher gives a nil Directory, of which nothing comes.
func (w *Watcher) Directory(path string, contents bool, changed func()) *Directory {
	if w == nil || !filepath.IsAbs(path) {
		return nil
	}
	s := &Directory{w: w, path: filepath.Clean(path), mask: entries, changed: changed}
	if contents {
		s.mask |= unix.IN_MODIFY
	}
	answers(s.path)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.subs[s] = struct{}{}
	d := w.directory(s.path)
	d.subs = append(d.subs, s)
	if !d.sure {
		w.hasten()
	}
	return s
}

// Sure tells whether no change of the directory's entries can go unseen now: the kernel sees all of them, and it is watched with all that is on the way to
// it. What happens elsewhere to a file that an entry is a link to, or that has another name, too, is no such change; neither is what is mounted over it.
// When this ends changed is called.
func (s *Directory) Sure() bool {
	if s == nil {
		return false
	}
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	d := s.w.dirs[s.path]
	return s.w.notify != nil && d != nil && d.sure
}

// Close ends it; it may be called again.
func (s *Directory) Close() {
	if s == nil {
		return
	}
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if _, ok := s.w.subs[s]; !ok {
		return
	}
	delete(s.w.subs, s)
	if d := s.w.dirs[s.path]; d != nil {
		d.subs = slices.DeleteFunc(d.subs, func(x *Directory) bool { return x == s })
		s.w.unwanted(d)
	}
}

// event is one that happened to the directory or in it. Called with the watcher's mu.
func (s *Directory) event(e happened) {
	if e.mask&s.mask != 0 {
		s.changed()
	}
}
