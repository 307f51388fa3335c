package tail

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"logforward/internal/beat"
	"logforward/internal/share"
)

const pollDefault = time.Second

// gather is how long events are left to gather once some were handled: the kernel makes one of several that
// say the same, and a file that is written to without a break needn't wake its log for each line.
const gather = time.Millisecond

// relaxed is how many polls pass between two looks at a path for which inotify
// works: local, no link, nothing open besides. Then the look is only there in case, and what lies between asks the open file alone, see glance. Where that is so of
// all files and directories, these looks are made at once.
const relaxed = beat.AtRest

// WatcherConfig describes a [Watcher]. The zero value works.
type WatcherConfig struct {
	Poll   time.Duration // how often every file is looked at in any case; default 1 s, negative: only by Sweep
	Logger *slog.Logger
	Beat   *beat.Beat // at whose moments gathered events are read and files are looked at; nil: it has timers of its own
	// NoInotify leaves it to the poll alone.
	NoInotify bool
}

// Watcher wakes logs when something happened to their files. It watches
// directories, each once for all logs in it, and behind that compares every file's
// size and identity from time to time: network file systems send no events, and
// events can be lost. Safe for concurrent use.
type Watcher struct {
	cfg      WatcherConfig
	listings share.Calls[listed] // by directory
	read     atomic.Int64        // directories, for tests
	now      func() time.Time    // for listings; tests only: another clock

	mu       sync.Mutex
	logs     map[*watch]struct{}
	dirs     map[string]*watchedDir
	subs     map[*Directory]struct{}
	notify   *inotify
	reported bool // that inotify doesn't suffice
	sweeps   uint64
	order    []*watch
	kept     map[string]*kept // by directory

	stop  chan struct{}
	hurry chan struct{} // something is to be polled, and maybe nothing was
	done  sync.WaitGroup
}

// watch is one log's part in a Watcher.
type watch struct {
	path, dir string
	wake      func()
	w         *Watcher
	relaxed   atomic.Bool

	mu   sync.Mutex // guards what the log changes and the sweep reads
	last info
	err  error
	link bool      // to something that isn't there
	live *unnamed  // the descriptor of the one that it leads to; nil: none is open
	old  []unnamed // descriptors of files that the path no longer leads to
	due  time.Time // when a finished generation's time is over
	real string
}

// unnamed is a file that is asked by its descriptor. The log may close the descriptor
// before it says so here: then the sweep asks about nothing, or about another file, and
// the worst that follows is a wake for nothing.
type unnamed struct {
	fd    int
	size  int64
	links uint64
	mtime time.Time // of the live one
}

// NewWatcher returns a watcher that isn't open yet.
func NewWatcher(cfg WatcherConfig) *Watcher {
	if cfg.Poll == 0 {
		cfg.Poll = pollDefault
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Watcher{cfg: cfg, now: time.Now, logs: map[*watch]struct{}{}, dirs: map[string]*watchedDir{}, subs: map[*Directory]struct{}{}, kept: map[string]*kept{},
		hurry: make(chan struct{}, 1)}
}

// Open starts to watch. Where inotify can't be had it polls only, and says so
// in the log; that is no error.
func (w *Watcher) Open() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stop != nil {
		return errors.New("open watcher: is open already")
	}
	w.stop = make(chan struct{})
	if !w.cfg.NoInotify {
		n, err := newInotify()
		if err != nil {
			w.report("", err)
		} else {
			w.notify = n
			for _, d := range w.dirs {
				w.attach(d)
			}
			w.done.Go(func() { w.events(n) })
		}
	}
	if w.cfg.Poll > 0 {
		w.done.Go(w.poll)
	}
	return nil
}

// Close stops watching and waits for it. Logs that are still open get no more
// wakes.
func (w *Watcher) Close() error {
	w.mu.Lock()
	if w.stop == nil {
		w.mu.Unlock()
		return nil
	}
	select {
	case <-w.stop:
		w.mu.Unlock()
		return nil
	default:
	}
	close(w.stop)
	n := w.notify
	w.notify = nil
	w.mu.Unlock()
	var err error
	if n != nil {
		if err = n.file.Close(); err != nil {
			err = fmt.Errorf("close inotify: %w", err)
		}
	}
	w.done.Wait()
	return err
}

func (w *Watcher) add(path string, wake func()) *watch {
	if w == nil {
		return nil
	}
	e := &watch{path: path, dir: filepath.Dir(path), wake: wake, w: w}
	answers(e.dir)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.logs[e] = struct{}{}
	w.order = nil
	w.enter(path, e)
	w.hasten() // it wasn't looked at yet
	return e
}

func (w *Watcher) remove(e *watch) {
	if w == nil || e == nil {
		return
	}
	w.mu.Lock()
	delete(w.logs, e)
	w.order = nil
	w.leave(e.path, e)
	e.mu.Lock()
	real := e.real
	e.live, e.old, e.real = nil, nil, ""
	e.mu.Unlock()
	if real != "" {
		w.leave(real, e)
	}
	w.mu.Unlock()
}

// events reads what the kernel tells, until n is closed.
func (w *Watcher) events(n *inotify) {
	buf := make([]byte, 16<<10)
	on := make(chan struct{}, 1)
	for {
		k, err := n.file.Read(buf)
		if err != nil {
			return // closed; it fails for nothing else
		}
		w.handle(n, buf[:k])
		if k > len(buf)/2 {
			continue // there may be more
		}
		if w.cfg.Beat == nil {
			time.Sleep(gather)
			continue
		}
		w.cfg.Beat.Wake(time.Now().Add(gather), func() { on <- struct{}{} })
		select {
		case <-on:
		case <-w.stop:
			return
		}
	}
}

// handle wakes the logs that some events are about.
func (w *Watcher) handle(n *inotify, buf []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	err := each(buf, func(e happened) {
		if e.mask&unix.IN_Q_OVERFLOW != 0 {
			w.wakeAll() // anything may have happened
			for _, d := range w.dirs {
				if !d.watched {
					w.forsake(d)
				}
			}
			w.hasten()
			return
		}
		for _, d := range n.dirs[e.wd] {
			w.event(d, e)
		}
		gone := e.mask&elsewhere != 0
		for _, d := range slices.Clone(n.ways[e.wd]) {
			if gone || e.name != "" && e.name == d.next && d.way[len(d.way)-1].wd == e.wd {
				w.detach(d) // the next sweep looks where the path leads now
				d.wake()
				w.hasten()
			}
		}
		switch {
		case e.mask&unix.IN_IGNORED != 0: // the watch is gone
			delete(n.dirs, e.wd)
			delete(n.ways, e.wd)
		case e.mask&unix.IN_MOVE_SELF != 0: // the path leads elsewhere by now
			delete(n.dirs, e.wd)
			delete(n.ways, e.wd)
			_, _ = unix.InotifyRmWatch(n.fd, uint32(e.wd))
		}
	})
	if err != nil {
		w.cfg.Logger.Debug("inotify", "error", err)
		w.wakeAll()
	}
}

// elsewhere is what happens to a directory so that its path doesn't lead to it any more.
const elsewhere = unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_IGNORED | unix.IN_UNMOUNT

func (w *Watcher) event(d *watchedDir, e happened) {
	for _, s := range d.subs {
		s.event(e)
	}
	if e.name == "" {
		if e.mask&elsewhere != 0 && d.watched {
			// The directory itself went. The next sweep looks for it.
			d.watched, d.sure = false, false
			d.wake()
			w.hasten()
		}
		return
	}
	for _, x := range d.names[e.name] {
		x.wake()
	}
}

// WakeAll wakes every log.
func (w *Watcher) WakeAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wakeAll()
}

func (w *Watcher) wakeAll() {
	for e := range w.logs {
		e.wake()
	}
	for s := range w.subs {
		s.changed()
	}
}

// hasten has everything polled that inotify doesn't tell of, from the next poll on.
func (w *Watcher) hasten() {
	select {
	case w.hurry <- struct{}{}:
	default:
	}
}

// Sweep looks at every file and directory once, now, and wakes the logs for which something
// changed.
func (w *Watcher) Sweep() { w.sweep(true) }

// sweep looks at all files, or leaves out most of those for which inotify works. restful: it works for all, and for their directories.
func (w *Watcher) sweep(all bool) (restful bool) {
	type seen struct {
		d   *watchedDir
		at  info
		err error
	}
	w.mu.Lock()
	dirs := make([]seen, 0, len(w.dirs))
	for _, d := range w.dirs {
		dirs = append(dirs, seen{d: d})
	}
	w.mu.Unlock()
	for i := range dirs { // without the lock, see answers
		dirs[i].at, dirs[i].err = statPath(dirs[i].d.path)
	}
	w.mu.Lock()
	w.sweeps++
	turn := w.sweeps % relaxed
	for _, s := range dirs {
		if w.dirs[s.d.path] == s.d {
			w.renew(s.d, s.at, s.err)
		}
	}
	restful = true
	for _, d := range w.dirs {
		restful = restful && d.sure
	}
	now := time.Now()
	w.drop(now)
	order := w.ordered()
	for _, e := range order {
		d := w.dirs[e.dir]
		e.relaxed.Store(d != nil && d.watched && d.local || d != nil && d.sure)
	}
	w.mu.Unlock()
	for i, e := range order {
		calm := e.relaxed.Load() && e.simple()
		if all || !calm || uint64(i%relaxed) == turn {
			if e.look(now) {
				e.wake()
			}
			calm = e.relaxed.Load() && e.simple()
		} else if e.glance() {
			e.wake()
		}
		restful = restful && calm
	}
	return restful
}

// simple says that nothing but the path is to be looked at, and the path is no link.
func (e *watch) simple() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	there := e.err == nil && e.last.ino != 0 || errors.Is(e.err, fs.ErrNotExist) && !e.link
	return there && e.real == "" && len(e.old) == 0 && e.due.IsZero()
}

// look compares one log's files with what they were.
func (e *watch) look(now time.Time) bool {
	at, err := statPath(e.path)
	link := false
	if errors.Is(err, fs.ErrNotExist) {
		_, lerr := lstat(e.path)
		link = lerr == nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.link = link
	changed := (err == nil) != (e.err == nil) || err == nil &&
		(!at.same(e.last.dev, e.last.ino) || at.size != e.last.size || !at.mtime.Equal(e.last.mtime) || !at.changed.Equal(e.last.changed))
	e.last, e.err = at, err
	for i := range e.old {
		o := &e.old[i]
		if st, err := fstat(o.fd); err == nil && (st.size != o.size || st.links != o.links) {
			o.size, o.links = st.size, st.links
			changed = true
		}
	}
	if !e.due.IsZero() && !now.Before(e.due) {
		e.due = time.Time{}
		changed = true
	}
	return changed
}

// set tells the watcher which files a log has open besides the live one, and
// where the live one really is.
func (e *watch) set(gens []*generation, linger time.Duration) {
	if e == nil {
		return
	}
	e.mu.Lock()
	e.live, e.old = nil, e.old[:0]
	e.due = time.Time{}
	real := ""
	for _, g := range gens {
		if g.live {
			if real = g.path; real == e.path {
				real = ""
			}
			if f, ok := g.content.(*file); ok {
				e.live = &unnamed{f.fd, f.raw.size, f.raw.links, f.raw.mtime}
			}
			continue
		}
		if g.content == nil || g.settled {
			continue
		}
		e.old = append(e.old, unnamed{fd: g.content.descriptor(), size: g.size, links: g.links})
		if g.drained {
			if end := g.drainedAt.Add(linger); e.due.IsZero() || end.Before(e.due) {
				e.due = end
			}
		}
	}
	was := e.real
	e.real = real
	if len(e.old) > 0 || !e.due.IsZero() || real != "" {
		e.w.hasten()
	}
	e.mu.Unlock()
	if was == real {
		return
	}
	if real != "" {
		answers(filepath.Dir(real))
	}
	e.w.mu.Lock()
	defer e.w.mu.Unlock()
	if was != "" {
		e.w.leave(was, e)
	}
	if real != "" {
		e.w.enter(real, e)
	}
}
