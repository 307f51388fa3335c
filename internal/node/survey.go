package node

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"logforward/internal/control"
	"logforward/internal/share"
	"logforward/internal/tail"
)

// Looking at files takes as long as it takes: a directory can have ten thousand of them, and a network file system that
// is away can hold a look up for ever. So nothing is looked at with the node's lock held: looks are made beside it, what
// they found is applied under it, and who waits for one does so for a moment only.

const (
	// lookWithin is how long a change waits for a look at its own path, and the start of the node for all of them.
	lookWithin = 3 * time.Second
	// leadWithin is how long a change is held up, with others behind it, until it is known that its path still leads where it led.
	leadWithin = 250 * time.Millisecond
)

var errLate = errors.New("it can't be looked at: its file system doesn't answer, or has too much to look at")

// finding is what one look at a glob's files found. Nobody changes it.
type finding struct {
	at      time.Time // when the look began
	links   bool      // some that match are links
	files   []file    // that are to be followed, by path
	refused []control.Problem
	err     error
}

// file is one of them, and its birth.
type file struct{ path, birth string }

// take looks at a glob's files.
func take(pattern string, find lookup) *finding {
	at := time.Now()
	paths, refused, err := find(pattern)
	f := &finding{at: at, files: make([]file, len(paths)), refused: refused, err: err}
	for i, path := range paths {
		f.files[i] = file{path, birth(path)}
		f.links = f.links || isLink(path)
	}
	for _, r := range refused {
		f.links = f.links || isLink(r.Where)
	}
	return f
}

func isLink(path string) bool {
	info, err := os.Lstat(path)
	return err != nil || info.Mode()&os.ModeSymlink != 0
}

// lookup gives what was found, as if it were looked for now.
func (f *finding) lookup(string) (followed []string, refused []control.Problem, err error) {
	for _, file := range f.files {
		followed = append(followed, file.path)
	}
	return followed, f.refused, f.err
}

// survey looks at globs' files. It may be used by several goroutines.
type survey struct {
	find    lookup
	watcher *tail.Watcher         // nil: nothing tells of changes
	stirred chan struct{}         // something happened in a directory that has a pattern's files
	calls   share.Calls[*finding] // by pattern: one look at a time

	mu     sync.Mutex
	known  map[string]*sight
	fresh  chan struct{} // something was found that the node doesn't know of
	closed bool
}

// sight is what is known of one pattern.
type sight struct {
	glance glance
	forced bool // the next look is made whether it is due or not
	last   *finding
	dir    *tail.Directory // with all its files; nil: they may lie in several, or it isn't watched
	// touched: something happened there since the last look, which may be a file's mode.
	touched *atomic.Bool
}

func newSurvey(find lookup, watcher *tail.Watcher) *survey {
	return &survey{find: find, watcher: watcher, known: map[string]*sight{}, fresh: make(chan struct{}, 1), stirred: make(chan struct{}, 1)}
}

// watch has the directory of a pattern's files watched. It isn't for when a lock is held: the directory's file system may be away.
func (s *survey) watch(pattern string, k *sight) {
	dir := oneDirectory(pattern)
	s.mu.Lock()
	had := k.dir != nil || s.closed
	s.mu.Unlock()
	if had || dir == "" {
		return
	}
	d := s.watcher.Directory(dir, false, func() { k.touched.Store(true); kick(s.stirred) })
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known[pattern] != k || s.closed {
		d.Close()
		return
	}
	k.dir = d
}

// close ends that anything is watched.
func (s *survey) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, k := range s.known {
		k.dir.Close()
		k.dir = nil
	}
}

// touch has a pattern looked at as often as if something happened there that events don't tell of.
func (s *survey) touch(pattern string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.known[pattern]; k != nil {
		k.touched.Store(true)
	}
}

// rests tells whether a pattern's files are those that were found last, until an event tells of a change.
func (s *survey) rests(pattern string) bool {
	s.mu.Lock()
	k := s.known[pattern]
	if k == nil || k.last == nil || k.forced || k.glance.dir == (signature{}) || !k.dir.Sure() {
		s.mu.Unlock()
		return false
	}
	was := k.glance.dir
	s.mu.Unlock()
	info, err := os.Stat(oneDirectory(pattern))
	return err == nil && signatureOf(info) == was
}

func newSight() *sight { return &sight{touched: new(atomic.Bool)} }

// ask has a pattern looked at, if that is due or forced. It doesn't wait.
func (s *survey) ask(pattern string, forced bool) *share.Call[*finding] {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.known[pattern]
	if k == nil {
		k = newSight()
		s.known[pattern] = k
	}
	k.forced = k.forced || forced
	return s.calls.Ask(pattern, func() *finding { return s.look(pattern, k) })
}

// look runs for one pattern at a time.
func (s *survey) look(pattern string, k *sight) *finding {
	s.mu.Lock()
	g, forced, last := k.glance, k.forced, k.last
	k.forced = false
	every := everyLook
	if last != nil && !last.links && !k.touched.Load() && k.dir.Sure() {
		every = rareLook
	}
	s.mu.Unlock()
	if !forced && last != nil && !g.due(pattern, time.Now(), every) {
		return last
	}
	s.watch(pattern, k)
	k.touched.Store(false)
	done := g.begin(pattern)
	f := take(pattern, s.find)
	done()
	s.mu.Lock()
	k.glance, k.last = g, f
	s.mu.Unlock()
	select {
	case s.fresh <- struct{}{}:
	default:
	}
	return f
}

// last is what was found last; nil: nothing yet.
func (s *survey) last(pattern string) *finding {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.known[pattern]; k != nil {
		return k.last
	}
	return nil
}

// remember takes over what was found for a pattern that nobody had asked for before.
func (s *survey) remember(pattern string, f *finding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known[pattern] == nil {
		k := newSight()
		k.last = f
		s.known[pattern] = k
	}
}

// keep forgets all patterns but these.
func (s *survey) keep(patterns map[string]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for pattern := range s.known {
		if !patterns[pattern] {
			s.known[pattern].dir.Close()
			delete(s.known, pattern)
		}
	}
}

// ground is what a change stands on: what is asked for, and what the disk says of its path.
type ground struct {
	about   control.Request // with the path, the destination and the time in all filled in
	path    string
	real    string   // where the path leads; empty: nowhere else, or that can't be told
	fault   error    // why the path can't be started
	finding *finding // of a glob that is to be started
	special string   // what the path is instead of a regular file, where it may be followed; empty: it is one, or isn't there yet
}

// ground looks at a path, for no longer than a while and with no lock held. start has it looked at all that a start asks.
func (n *Node) ground(ctx context.Context, path string, start bool, within time.Duration) ground {
	if path == "" {
		return ground{}
	}
	key := path
	if start {
		key = "start " + path
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	g, err := n.grounds.Ask(key, func() ground {
		g := ground{path: path}
		// Where that can't be told nothing can be read either; and it is asked again when a file is opened.
		if real, err := realPath(path); err == nil && real != path {
			g.real = real
		}
		if !start {
			return g
		}
		find := n.survey.find
		if isGlob(path) {
			g.finding, _ = n.survey.ask(path, true).Wait(context.Background())
			find = g.finding.lookup
		}
		g.fault = permitted(path, n.config.Allowed, find)
		if g.fault == nil && !isGlob(path) {
			g.special = special(path)
		}
		return g
	}).Wait(ctx)
	if err != nil {
		return ground{path: path, fault: errLate}
	}
	return g
}

const aDirectory = "a directory"

// special says what a path is that is there and can't be followed, for only regular files are.
func special(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return ""
	case mode.IsDir():
		return aDirectory
	case mode&os.ModeNamedPipe != 0:
		return "a FIFO"
	case mode&os.ModeSocket != 0:
		return "a socket"
	default:
		return "a device"
	}
}

// update brings everything up to date: it has globs looked at, all of them where again is set, and applies what is found
// within some time; what is found later is applied when it is.
func (n *Node) update(again bool, within time.Duration) {
	n.mu.Lock()
	n.refresh(again)
	var calls []*share.Call[*finding]
	for _, f := range n.plan.forwarders {
		if f.glob != nil {
			calls = append(calls, n.survey.ask(f.Path, again))
		}
	}
	n.mu.Unlock()
	if within > 0 && len(calls) > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), within)
		for _, c := range calls {
			_, _ = c.Wait(ctx)
		}
		cancel()
		n.mu.Lock()
		n.refresh(false)
		n.mu.Unlock()
	}
}

// settleUp asks the engine where its logs stand, if anything depends on that, and does what follows. The engine waits for
// every log, so it isn't asked with the lock held.
func (n *Node) settleUp() {
	n.mu.Lock()
	depends := n.depends
	n.mu.Unlock()
	if !depends {
		return
	}
	stands := n.status()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.latest = stands
	n.refresh(false)
}

// finder is [tail.Expand] with the node's permitted paths.
func finder(allowed tail.Allowed) lookup {
	return func(pattern string) ([]string, []control.Problem, error) { return expand(pattern, allowed) }
}
