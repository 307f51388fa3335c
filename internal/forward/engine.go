package forward

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"logforward/internal/beat"
	"logforward/internal/chunk"
	"logforward/internal/tail"

	"golang.org/x/time/rate"
)

// Engine forwards a set of logs, which may change at any time.
type Engine struct {
	cfg            Config
	key            string // secret of the process, see keyAt
	log            *slog.Logger
	metrics        *metrics
	saver          *saver
	signer         *signer    // nil: no destination seals
	beat           *beat.Beat // of lingering logs and gathered events: the process is woken once for all of them
	watcher        *tail.Watcher
	budget         *tail.Budget
	limiter        *rate.Limiter // of the node; nil: none
	buffers, small sync.Pool     // of read buffers: of a chunk, and of smallRead
	changed        chan struct{} // wanted isn't what runs
	opening        chan struct{} // has an element for each log that begins

	mu      sync.Mutex
	opened  bool
	wanted  map[string]Log
	paused  map[string]bool
	all     bool // pause of all
	links   map[string]*link
	runs    map[string]*forwarder // by log name: what runs or is about to end
	refused map[string]Status     // logs that can't be run as they are
}

// New makes an engine; it touches nothing.
func New(c Config) *Engine {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Engine{
		cfg: c, key: chunk.NewKey(), log: c.Logger, changed: make(chan struct{}, 1), opening: make(chan struct{}, openAtOnce),
		wanted: make(map[string]Log), paused: make(map[string]bool), links: make(map[string]*link),
		runs: make(map[string]*forwarder), refused: make(map[string]Status),
	}
}

// A beat as long as logs linger has most of them linger for just that. A long one would delay the notice of a quiet log's lines.
const (
	shortestBeat = 250 * time.Microsecond
	longestBeat  = 4 * time.Millisecond
)

// Open checks the configuration and opens what all logs share. Connections are made
// when a log first needs them.
func (e *Engine) Open(context.Context) error {
	// The map is the caller's: defaults go into a copy.
	destinations := make(map[string]Destination, len(e.cfg.Destinations))
	for name, d := range e.cfg.Destinations {
		destinations[name] = d
	}
	e.cfg.Destinations = destinations
	if err := e.cfg.check(); err != nil {
		return fmt.Errorf("forward: %w", err)
	}
	l := &e.cfg.Limits
	pace, err := beat.New(min(max(l.Linger, shortestBeat), longestBeat))
	if err != nil {
		return fmt.Errorf("forward: %w", err)
	}
	watcher := tail.NewWatcher(tail.WatcherConfig{Poll: l.Poll, Logger: e.log, Beat: pace})
	if err := watcher.Open(); err != nil {
		return errors.Join(fmt.Errorf("forward: watch files: %w", err), pace.Close())
	}
	e.beat, e.watcher, e.budget = pace, watcher, tail.NewBudget(l.HeldDeleted)
	if l.NodeRate > 0 {
		e.limiter = rate.NewLimiter(rate.Limit(l.NodeRate), int(min(max(l.NodeRate/8, 1<<10), int64(l.ChunkSize))))
	}
	e.saver = newSaver(e.cfg.State, l.Checkpoint, e.log)
	for _, d := range destinations {
		if d.Seal && e.signer == nil {
			e.signer = newSigner(&e.cfg, e.log)
			e.signer.wait() // what is wrong is said at once
		}
	}
	e.metrics = newMetrics(e)
	if e.cfg.Registerer != nil {
		if err := e.cfg.Registerer.Register(e.metrics); err != nil {
			return errors.Join(fmt.Errorf("forward: metrics: %w", err), watcher.Close(), pace.Close())
		}
	}
	e.mu.Lock()
	e.opened = true
	e.mu.Unlock()
	return nil
}

// Beat is what the engine's own waits go by, from Open to Close: whatever else is done regularly by the process needn't wake it again.
func (e *Engine) Beat() *beat.Beat { return e.beat }

// Watcher tells of changes in directories, from Open to Close: whoever else looks at one needn't watch it a second time.
func (e *Engine) Watcher() *tail.Watcher { return e.watcher }

// Close gives free what Open took; Run must have returned.
func (e *Engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.opened {
		return nil
	}
	e.opened = false
	if e.cfg.Registerer != nil {
		e.cfg.Registerer.Unregister(e.metrics)
	}
	return errors.Join(e.watcher.Close(), e.beat.Close())
}

// Set says which logs shall be forwarded, all of them. Logs that aren't among them end and keep
// their checkpoint; those that are unchanged notice nothing. It doesn't wait. Of two
// entries with one name the last counts.
func (e *Engine) Set(logs []Log) {
	wanted := make(map[string]Log, len(logs))
	for _, l := range logs {
		if l.Start == "" {
			l.Start = tail.StartEnd
		}
		wanted[l.Name] = l
	}
	e.mu.Lock()
	e.wanted = wanted
	e.mu.Unlock()
	e.kick()
}

// Pause stops publishing of a log, of all for "", or lets it go on. Positions and
// open files are kept. It holds for this run of the engine; whoever wants more keeps it.
func (e *Engine) Pause(name string, on bool) {
	e.mu.Lock()
	if name == "" {
		e.all = on
	} else if on {
		e.paused[name] = true
	} else {
		delete(e.paused, name)
	}
	tell := func(n string, f *forwarder) {
		paused := e.all || e.paused[n]
		f.post(func() { f.paused = paused })
	}
	if name == "" {
		for n, f := range e.runs {
			tell(n, f)
		}
	} else if f := e.runs[name]; f != nil {
		tell(name, f)
	}
	e.mu.Unlock()
}

// Unsealed is why logs go out unsealed that shall be sealed; nil: they don't.
func (e *Engine) Unsealed() error {
	if e.signer == nil {
		return nil
	}
	_, err := e.signer.get()
	return err
}

func (e *Engine) kick() {
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

// Run forwards until ctx ends; then it ends in order: forwarders, a last checkpoint of each,
// connections.
func (e *Engine) Run(ctx context.Context) error {
	e.mu.Lock()
	opened := e.opened
	e.mu.Unlock()
	if !opened {
		return errors.New("forward: run: not open")
	}
	saving, stopSaving := context.WithCancel(context.Background())
	var saver sync.WaitGroup
	saver.Go(func() { e.saver.run(saving) })
	var forwarders sync.WaitGroup

	e.kick()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-e.changed:
			e.reconcile(&forwarders)
		}
	}
	e.mu.Lock()
	for _, f := range e.runs {
		f.cancel()
	}
	e.mu.Unlock()
	forwarders.Wait()
	stopSaving()
	saver.Wait()
	err := e.saver.flush()
	e.mu.Lock()
	links := e.links
	e.links, e.runs = make(map[string]*link), make(map[string]*forwarder)
	e.mu.Unlock()
	for _, l := range links {
		err = errors.Join(err, l.close())
	}
	if err != nil {
		return fmt.Errorf("forward: stop: %w", err)
	}
	return nil
}

// reconcile brings what runs nearer to what is wanted. A log that must end first
// is begun by the call that follows its end.
func (e *Engine) reconcile(group *sync.WaitGroup) {
	e.mu.Lock()
	for name, f := range e.runs {
		select {
		case <-f.done:
			delete(e.runs, name)
			continue
		default:
		}
		want, ok := e.wanted[name]
		switch {
		case !ok:
			f.cancel()
			if behind := f.view.status().LagBytes; behind > 0 && !f.dropped {
				e.log.Warn("the log isn't forwarded any more; what isn't confirmed stays in its files, and is sent if it is wanted again before they are gone",
					"log", name, "destination", f.asked.Destination, "path", f.asked.Path, "bytes", behind)
			}
			f.dropped = true
		case want == f.asked:
		case want.Destination != f.asked.Destination:
			e.retire(f, group)
		case want.Path != f.asked.Path || want.Start != f.asked.Start:
			f.cancel()
		default: // the rate, or whether it is of a glob
			f.asked = want
			f.post(func() { f.want.OfGlob = want.OfGlob; f.setRate(want.Rate) })
		}
	}
	clear(e.refused)
	var begin []Log
	for name, want := range e.wanted {
		if e.runs[name] != nil {
			continue
		}
		if err := want.check(&e.cfg); err != nil {
			e.refused[name] = Status{Log: name, Path: want.Path, Destination: want.Destination, State: Failed, LastError: err.Error(), Since: e.cfg.Now()}
			continue
		}
		begin = append(begin, want)
	}
	e.mu.Unlock()
	for _, want := range begin {
		// Without the lock: this reads the disk, and ten thousand logs' reads would keep status waiting.
		from := e.owing(want)
		e.mu.Lock()
		if e.wanted[want.Name] == want { // else there is another call to come
			e.begin(want, from, group)
		}
		e.mu.Unlock()
	}
}

// begin runs a log; one that owes its former destination something is drained there first. e.mu is held.
func (e *Engine) begin(want Log, from string, group *sync.WaitGroup) {
	if from == "" {
		e.start(want, false, group)
		return
	}
	former := want
	former.Destination = from
	e.start(former, true, group)
	e.retire(e.runs[want.Name], group)
}

// start runs a forwarder; one that is draining reads nothing that an earlier run hasn't sent. e.mu is held.
func (e *Engine) start(want Log, draining bool, group *sync.WaitGroup) {
	l := e.links[want.Destination]
	if l == nil {
		l = newLink(e, want.Destination, e.cfg.Destinations[want.Destination])
		l.open()
		e.links[want.Destination] = l
	}
	f := newForwarder(e, l, want, e.all || e.paused[want.Name])
	f.draining = draining
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	e.runs[want.Name] = f
	group.Go(func() {
		f.run(ctx)
		cancel()
		e.kick()
	})
}

// retire ends a forwarder whose log moves elsewhere, once all that it has sent is confirmed,
// however long that takes: what was sent and isn't confirmed may yet arrive there, and would
// else be at both. Nothing new is sent meanwhile. e.mu is held.
func (e *Engine) retire(f *forwarder, group *sync.WaitGroup) {
	if f.retiring {
		return
	}
	f.retiring = true
	f.post(func() { f.draining = true })
	group.Go(func() {
		defer f.cancel()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-f.done:
				return
			case <-tick.C:
				if f.view.status().drained {
					return
				}
			}
		}
	})
}

// owing is the destination that a log was last sent to, where that isn't the wanted one and
// something of what was sent there may not be confirmed yet: an earlier process ended
// before it was. The log is drained there first. Empty: there is none, or it isn't configured any more.
func (e *Engine) owing(want Log) string {
	from, err := e.saver.active(want.Name)
	if err != nil || from == "" || from == want.Destination {
		return "" // the forwarder's own start meets the error again, and says so
	}
	rec, err := e.saver.checkpoint(from, want.Name)
	if err != nil || rec == nil || rec.Drained || rec.Reserved == rec.Confirmed {
		return ""
	}
	if _, ok := e.cfg.Destinations[from]; !ok {
		e.log.Warn("the log's former destination isn't configured any more; what was sent there and not confirmed is sent to the new one, too",
			"log", want.Name, "former", from, "destination", want.Destination, "bytes", rec.Reserved-rec.Confirmed)
		return ""
	}
	return from
}

const (
	// openAtOnce is how many logs begin at the same time. Ten thousand would keep whoever asks for their status waiting
	// behind them all.
	openAtOnce = 256
	// openWithin is how long one counts among these: a disk that hangs must not keep other disks' logs from beginning.
	openWithin = 250 * time.Millisecond
)

// mayOpen waits until a log may begin; done is called when it has. It is false where ctx ends first.
func (e *Engine) mayOpen(ctx context.Context) (done func(), ok bool) {
	select {
	case e.opening <- struct{}{}:
	case <-ctx.Done():
		return nil, false
	}
	leave := sync.OnceFunc(func() { <-e.opening })
	timer := time.AfterFunc(openWithin, leave)
	return func() { timer.Stop(); leave() }, true
}

// bufferOf is one of at least n bytes from a pool.
func (e *Engine) bufferOf(n int) *[]byte {
	pool, size := &e.buffers, max(n, e.cfg.Limits.ChunkSize)
	if n <= smallRead {
		pool, size = &e.small, smallRead
	}
	if b, ok := pool.Get().(*[]byte); ok && len(*b) >= n {
		return b
	}
	b := make([]byte, size)
	return &b
}

func (e *Engine) giveBack(b *[]byte) {
	switch len(*b) {
	case smallRead:
		e.small.Put(b)
	case e.cfg.Limits.ChunkSize: // a rare bigger one isn't kept
		e.buffers.Put(b)
	}
}

// smallRead is how much a log's first look at its file reads. Hundreds of logs that begin at once
// would else hold a whole chunk's buffer each, for a few lines.
const smallRead = 32 << 10
