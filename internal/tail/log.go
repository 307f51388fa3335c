package tail

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"
)

const (
	quietDefault  = 500 * time.Millisecond
	lingerDefault = time.Hour
	finishedMax   = 8
	retryMin      = time.Second
	retryMax      = 30 * time.Second
)

// Log is one log as one endless sequence of bytes. It belongs to one
// goroutine; none of its calls waits for bytes.
type Log struct {
	cfg Config

	opened bool
	closed bool

	released uint64
	next     uint64 // where Peek begins
	head     uint64 // up to which positions were handed out
	segments []segment
	peeked   *peeked // what the last Peek said

	earlier  []segment         // that the state had, as long as what came behind them isn't known: see [Log.Pass]
	gens     []*generation     // unfinished, in reading order; the live one is the last
	finished []GenerationState // newest last; remembered so that their copies aren't taken for something new
	older    []OlderFile       // rotated forms that were there before the log was begun
	since    Since             // of the newest generation that was let go
	dirs     []string          // others that files were seen to be rotated into, the last first
	shifts   Shifts
	made     Made      // what the state was last saved beside
	missing  bool      // gens of an earlier run are still to be found
	begun    bool      // the start rule was applied
	scanned  time.Time // the directory's time when, with no file under the path, it was searched
	serial   uint64    // of the last id

	pathErr error  // why the path can't be followed now
	lastErr error  // what Peek returned last
	shrinks uint64 // shrinkings that weren't confirmed
	timer   *time.Timer
	due     time.Time     // when timer fires
	wait    time.Duration // before the path's trouble is looked at again
	check   [checkRead]byte
	watch   *watch
	wake    chan struct{}
	poked   atomic.Bool // a signal came, whoever took it from wake

	statAt func(g *generation, at info) info // tests only: what stat says instead
}

// peeked is a piece that was shown but not consumed.
type peeked struct {
	segment
	data   []byte // in the caller's buffer
	replay bool
}

// New returns a log that is not yet open.
func New(cfg Config) *Log {
	if cfg.Start == "" {
		cfg.Start = StartEnd
	}
	if cfg.Quiet <= 0 {
		cfg.Quiet = quietDefault
	}
	if cfg.Linger <= 0 {
		cfg.Linger = lingerDefault
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Name == "" {
		cfg.Name = cfg.Path
	}
	cfg.Logger = cfg.Logger.With("log", cfg.Name)
	return &Log{cfg: cfg, wake: make(chan struct{}, 1)}
}

// Open begins where state says, or by the start rule for the zero State. A path that
// can't be read now is no error: it is followed as soon as it can be. A state that is
// inconsistent is one; the caller sets it aside and uses Resume or Begin.
//
// Save [Log.State] after the first Open, before anything else: it holds where
// the log was begun.
func (l *Log) Open(state State) error {
	if err := l.prepare(); err != nil {
		return err
	}
	if err := l.restore(state); err != nil {
		return fmt.Errorf("open %s: %w", l.cfg.Name, err)
	}
	l.missing = len(l.gens) > 0
	l.start()
	return nil
}

// Begin opens the log at the live file's beginning, with its first byte at
// position, or with loss there and the bytes behind it.
func (l *Log) Begin(position uint64, loss *Loss) error {
	if err := l.prepare(); err != nil {
		return err
	}
	if position > positionMax || loss != nil && (loss.Length == 0 || loss.Length > positionMax) {
		return fmt.Errorf("begin %s at position %d: out of range", l.cfg.Name, position)
	}
	l.released, l.next, l.head = position, position, position
	if loss != nil {
		copied := *loss
		l.gens = append(l.gens, &generation{loss: &copied, gone: true, drained: true, settled: true, path: loss.File})
	}
	l.begun = true
	l.start()
	return nil
}

func (l *Log) prepare() error {
	switch {
	case l.opened:
		return fmt.Errorf("open %s: is open already", l.cfg.Name)
	case !filepath.IsAbs(l.cfg.Path):
		return fmt.Errorf("open %s: path %q must be absolute", l.cfg.Name, l.cfg.Path)
	case l.cfg.Start != StartEnd && l.cfg.Start != StartBeginning:
		return fmt.Errorf("open %s: start %q is neither %q nor %q", l.cfg.Name, l.cfg.Start, StartEnd, StartBeginning)
	}
	l.cfg.Path = filepath.Clean(l.cfg.Path)
	return nil
}

func (l *Log) start() {
	l.opened = true
	l.watch = l.cfg.Watcher.add(l.cfg.Path, l.signal)
	l.look()
}

// Close lets everything go. State may be asked before, not after.
func (l *Log) Close() error {
	if !l.opened || l.closed {
		return nil
	}
	l.closed = true
	l.cfg.Watcher.remove(l.watch)
	if l.timer != nil {
		l.timer.Stop()
	}
	for _, g := range l.gens {
		l.letGo(g)
	}
	return nil
}

// Wake signals that it is worth to look again. Signals that nobody took
// become one. May be used by any goroutine.
func (l *Log) Wake() <-chan struct{} { return l.wake }

func (l *Log) signal() {
	l.poked.Store(true)
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// signalAfter wakes the caller when a wait that only the clock ends is over.
func (l *Log) signalAfter(d time.Duration) {
	d += time.Millisecond // not a moment too early, or it would wait again
	now := time.Now()
	if now.Before(l.due) && l.due.Before(now.Add(d)) {
		return // it wakes before that
	}
	l.due = now.Add(d)
	if l.timer == nil {
		l.timer = time.AfterFunc(d, l.signal)
		return
	}
	l.timer.Reset(d)
}

// retryLater wakes the caller as long as there is a trouble that no event ends: a
// missing permission, a file that waits to be found. Ever more rarely.
func (l *Log) retryLater() {
	if l.pathErr == nil || errors.Is(l.pathErr, fs.ErrNotExist) && !l.missing {
		l.wait = 0
		return
	}
	l.wait = min(max(retryMin, l.wait*2), retryMax)
	l.signalAfter(l.wait)
}

func (l *Log) live() *generation {
	if n := len(l.gens); n > 0 && l.gens[n-1].live {
		return l.gens[n-1]
	}
	return nil
}

// letGo closes a generation's file.
func (l *Log) letGo(g *generation) {
	g.close()
	l.cfg.Budget.drop(g.hold)
	g.hold = nil
}

// name gives g its id for the wire. Its first bytes are known by now.
func (l *Log) name(g *generation) {
	if g.id != "" {
		return
	}
	l.serial = max(l.serial+1, uint64(max(0, l.cfg.Now().UnixMicro())))
	g.id = newID(g.dev, g.ino, g.head, l.serial)
}

// adopt makes a generation of an open file; from is the offset of the first byte that is wanted.
func (l *Log) adopt(c content, real string, at info, from int64) (*generation, error) {
	now := l.cfg.Now()
	g := &generation{
		dev: at.dev, ino: at.ino, path: real, offset: from, size: at.size, mtime: at.mtime, stamp: at.mtime,
		content: c, noticed: now, changed: at.changed, deleted: at.links == 0,
	}
	g.born = birthOf(c.descriptor(), "", atEmptyPath)
	g.birth = g.born
	if _, err := g.fingerprint(); err != nil {
		return nil, err
	}
	if from > 0 {
		if err := g.load(); err != nil {
			return nil, err
		}
		l.name(g)
	}
	return g, nil
}
