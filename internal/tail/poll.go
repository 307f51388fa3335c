package tail

import "logforward/internal/beat"

func (w *Watcher) poll() {
	t := beat.NewTicker(w.cfg.Beat, w.cfg.Poll)
	defer t.Stop()
	r := pollings{mounts: openMounts()}
	defer r.mounts.close()
	for {
		select {
		case <-w.stop:
			return
		case <-w.hurry:
			r.restful = false
		case <-t.C:
			w.round(&r)
		}
	}
}

// pollings is what one poll leaves to the next.
type pollings struct {
	mounts  *mounts
	restful bool // inotify works for all files and their directories
	glances int  // since the last sweep
}

// round is one poll.
func (w *Watcher) round(r *pollings) {
	switch {
	case r.mounts.changed():
		w.mu.Lock()
		for s := range w.subs {
			s.changed()
		}
		w.mu.Unlock()
		r.restful, r.glances = w.sweep(true), 0
	case r.restful && r.glances < relaxed-1:
		w.glance()
		r.glances++
	default:
		r.restful, r.glances = w.sweep(r.restful), 0
	}
}

// glance asks each live file's descriptor whether something was written to it. Events come to the directory of the name that a writer has opened
// the file by: none comes here of what is written by another name of it, through a file system that lies on top of this one, or through a mapping.
func (w *Watcher) glance() {
	w.mu.Lock()
	order := w.order // whoever isn't in it yet has hastened
	w.mu.Unlock()
	for _, e := range order {
		if e.glance() {
			e.wake()
		}
	}
}

func (e *watch) glance() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	f := e.live
	if f == nil {
		return false
	}
	at, err := fstat(f.fd)
	if err != nil || at.size == f.size && at.mtime.Equal(f.mtime) {
		return false
	}
	f.size, f.mtime = at.size, at.mtime
	if e.err == nil && at.same(e.last.dev, e.last.ino) {
		e.last = at // the next look says it no second time
	}
	return true
}
