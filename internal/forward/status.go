package forward

import (
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"logforward/internal/chunk"
	"logforward/internal/tail"
)

// What a log does.
const (
	Starting   = "starting"   // not open yet, or where it begins isn't on disk yet
	Syncing    = "syncing"    // the centre is asked where it stands
	Forwarding = "forwarding" // there is something to send or to be confirmed
	Idle       = "idle"       // all of it is confirmed
	Paused     = "paused"
	// Redirecting: the log goes to another destination once all that was sent to this one is confirmed.
	Redirecting = "redirecting"
	Blocked     = "blocked" // it can't send; LastError says why
	Failed      = "failed"  // the file or the definition is wrong; LastError says how
)

// Status is where one log stands.
type Status struct {
	Log         string
	Path        string
	Destination string
	State       string
	Since       time.Time // of State
	Epoch       uint64
	Position    uint64 // handed out by tail
	Stored      uint64 // acknowledged by the broker
	Confirmed   uint64 // by the receiver
	Reserved    uint64
	Round       uint64
	LagBytes    int64   // from confirmed to the file's end, over all generations
	LagSeconds  float64 // age of the oldest byte that isn't confirmed, since it was seen
	Rate        float64 // bytes/s published, smoothed
	Limit       int64   // bytes/s; 0: none
	GapBytes    uint64  // positions that gaps took in this run
	Gaps        uint64
	Resends     uint64 // times that a receiver had it go back
	Rounds      uint64 // times it went back, for whatever reason
	Forks       uint64
	LastError   string
	Promise     string // set where it is weaker than a receiver's confirmation
	Seals       bool   // the log is sealed
	Sealed      Sealed // where Seals; the last one that is confirmed
	Unsealed    string // why it goes out unsealed, though it shall be sealed
	Generations []tail.GenerationStatus
	Accounting

	drained bool // it reads nothing more, and all it sent is confirmed as far as the centre was heard
}

// Accounting of positions since this log was started in this run. At every moment
//
//	HandedOut = Acknowledged + Unconfirmed + Gap
//
// What a new epoch takes back counts as never handed out.
type Accounting struct {
	HandedOut    uint64 // by tail: bytes and positions of gaps
	Acknowledged uint64 // bytes that count as delivered
	Unconfirmed  uint64 // bytes that don't yet
	Gap          uint64 // positions of gaps, confirmed or not
}

const weaker = "weaker promise: broker acknowledgement only"

// view is what others may see of a forwarder.
type view struct {
	mu     sync.Mutex
	now    Status
	hello  chunk.HelloLog
	layout string
}

func (v *view) set(s Status, h chunk.HelloLog, layout string) {
	v.mu.Lock()
	if s.State == v.now.State {
		s.Since = v.now.Since
	}
	v.now, v.hello, v.layout = s, h, layout
	v.mu.Unlock()
}

func (v *view) status() Status {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.now
}

// greeting is what a hello says about this log.
func (f *forwarder) greeting() (chunk.HelloLog, string) {
	f.view.mu.Lock()
	defer f.view.mu.Unlock()
	return f.view.hello, f.view.layout
}

// show lets others see where it stands. It runs after each piece of work, so what is dear
// (asking the file) is left to refresh.
func (f *forwarder) show() {
	h := chunk.HelloLog{Epoch: f.helloEpoch()}
	layout := ""
	if f.rec.Layout != nil {
		layout = f.rec.Layout.ID
		h.Partition = chunk.Partition(f.engine.cfg.Identity, f.rec.Layout.Partitions)
	}
	if h.Epoch > 0 {
		h.Predecessor, h.Stored, h.Confirmed = f.rec.Predecessor, f.stored, f.rec.Confirmed
		h.Digest, h.Round, h.Weak = f.rec.Digest, f.rec.Round, f.rec.Weak
		if f.ending.asks && f.flight.end() == f.flight.start {
			h.Stored = max(h.Stored, f.restored)
		}
	}
	bytes, _ := f.flight.unconfirmed()
	s := Status{
		Log: f.want.Name, Path: f.want.Path, Destination: f.want.Destination, Since: f.engine.cfg.Now(),
		Epoch: f.rec.Epoch, Position: f.flight.end(), Stored: f.stored, Confirmed: f.rec.Confirmed,
		Reserved: f.rec.Reserved, Round: f.rec.Round, Limit: max(f.want.Rate, 0),
		GapBytes: f.stats.gap.Load(), Gaps: f.stats.gaps.Load(), Resends: f.stats.resends.Load(),
		Rounds: f.stats.rounds.Load(), Forks: f.stats.forks.Load(),
		Accounting: Accounting{
			HandedOut: f.stats.handed.Load(), Acknowledged: f.stats.acknowledged.Load(),
			Unconfirmed: bytes, Gap: f.stats.gap.Load(),
		},
		drained: f.drained(),
	}
	if f.link.destination.Commit == Stored {
		s.Promise = weaker
	}
	if f.signer != nil {
		s.Seals, s.Sealed = true, f.sealed
		if _, err := f.signer.get(); err != nil {
			s.Unsealed = err.Error()
		}
	}
	s.State, s.LastError = f.state()
	f.shown = s.State
	// Of the dear ones the last known stay.
	f.view.mu.Lock()
	s.LagBytes, s.LagSeconds, s.Rate, s.Generations = f.view.now.LagBytes, f.view.now.LagSeconds, f.view.now.Rate, f.view.now.Generations
	f.view.mu.Unlock()
	f.view.set(s, h, layout)
}

// drained tells, of a log that moves to another destination, whether all that was ever sent to this
// one is confirmed, by earlier runs too.
func (f *forwarder) drained() bool {
	if !f.draining || f.tail == nil {
		return false
	}
	return !f.begun || f.synced && f.place == nil && f.flight.end() == f.flight.start && f.flight.end() >= f.former
}

func (f *forwarder) state() (string, string) {
	text := func(err error) string {
		if err == nil {
			return ""
		}
		return err.Error()
	}
	pause, ends := f.link.paused()
	switch {
	case f.tail == nil && f.fileErr != nil:
		return Failed, text(f.fileErr)
	case f.tail == nil, f.savedSeq < f.opening && f.fileErr == nil && f.engine.saver.failure() == nil:
		return Starting, ""
	case f.paused:
		return Paused, text(f.fileErr)
	case pause != nil:
		return Paused, text(errPaused(pause, ends))
	case !f.up:
		_, _, err := f.link.conduit()
		if err == nil {
			return Starting, ""
		}
		return Blocked, text(err)
	case f.fork.due:
		return Blocked, "another node uses this identity or its state was restored: " + f.fork.why
	case f.fileErr != nil:
		return Failed, text(f.fileErr)
	case !f.synced || f.rec.Layout == nil || f.place != nil:
		return Syncing, text(f.centreErr)
	case f.sendErr != nil:
		return Blocked, text(f.sendErr)
	}
	if err := f.engine.saver.failure(); err != nil {
		return Blocked, "checkpoints can't be written: " + err.Error()
	}
	if f.draining {
		return Redirecting, "what was sent to " + f.want.Destination + " waits for its confirmation"
	}
	if f.flight.end() == f.flight.start && f.behind.IsZero() && f.partial.end == 0 {
		return Idle, text(f.centreErr)
	}
	return Forwarding, text(f.centreErr)
}

// refresh looks at the file for what show leaves out.
func (f *forwarder) refresh() {
	f.show()
	now := time.Now()
	f.view.mu.Lock()
	defer f.view.mu.Unlock()
	s := &f.view.now
	s.Rate = f.meter.value(now)
	if f.tail == nil {
		return
	}
	s.LagBytes = max(f.tail.Pending(), 0)
	since := f.behind
	if f.flight.end() > f.flight.start {
		bytes, _ := f.flight.unconfirmed()
		s.LagBytes += int64(min(bytes, math.MaxInt64/2))
		if at := f.flight.chunks[0].at; since.IsZero() || at.Before(since) {
			since = at
		}
	}
	if s.LagBytes > 0 && since.IsZero() {
		f.behind, since = now, now // written while it may not read
	}
	s.LagSeconds = 0
	if !since.IsZero() {
		s.LagSeconds = now.Sub(since).Seconds()
	}
	s.Generations = f.tail.Status().Generations
}

// answerWithin is how long a status waits for the logs' answers: as long as a request about other logs may be held up by
// one whose disk hangs.
const answerWithin = 250 * time.Millisecond

// Status is where each wanted log stands, sorted by name; only the named ones where any are named. It asks the
// forwarders, and for what one of them doesn't answer soon (its disk hangs, or thousands start) takes the last known.
func (e *Engine) Status(names ...string) []Status {
	e.mu.Lock()
	all, list := make([]*forwarder, 0, len(e.runs)), make([]Status, 0, len(e.runs)+len(e.refused))
	if len(names) == 0 {
		for _, f := range e.runs {
			all = append(all, f)
		}
		for _, s := range e.refused {
			list = append(list, s)
		}
	}
	for _, name := range names {
		if f := e.runs[name]; f != nil {
			all = append(all, f)
		}
		if s, ok := e.refused[name]; ok {
			list = append(list, s)
		}
	}
	e.mu.Unlock()

	if len(all) > 0 {
		q := &inquiry{all: make(chan struct{})}
		q.left.Store(int64(len(all)))
		timer := time.NewTimer(answerWithin)
		for _, f := range all {
			f.mail.ask(q)
		}
		select {
		case <-q.all:
		case <-timer.C:
		}
		timer.Stop()
	}
	for _, f := range all {
		list = append(list, f.view.status())
	}
	slices.SortFunc(list, func(a, b Status) int { return strings.Compare(a.Log, b.Log) })
	return list
}

// DestinationStatus is where one destination stands.
type DestinationStatus struct {
	Name      string
	Connected bool
	Logs      int
	InFlight  int64        // bytes published and not answered
	Answered  time.Time    // when a receiver last answered; zero: never
	Pause     *chunk.Pause // the fleet's, where it holds now
	PauseEnds time.Time    // by this node's clock; zero: not by itself
	Error     string
}

// Destinations is where each destination in use stands, sorted by name.
func (e *Engine) Destinations() []DestinationStatus {
	e.mu.Lock()
	defer e.mu.Unlock()
	var list []DestinationStatus
	for name, l := range e.links {
		d := DestinationStatus{Name: name, InFlight: l.window.inUse()}
		d.Pause, d.PauseEnds = l.paused()
		l.mu.Lock()
		d.Connected, d.Logs, d.Answered = l.up, len(l.forwarders), l.seen
		if l.err != nil {
			d.Error = l.err.Error()
		}
		l.mu.Unlock()
		list = append(list, d)
	}
	slices.SortFunc(list, func(a, b DestinationStatus) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// meter smooths a rate over some seconds.
type meter struct {
	rate float64
	at   time.Time
	sum  float64
}

const (
	meterSpan  = 5.0 // seconds
	meterSlice = 0.2
)

func (m *meter) add(now time.Time, n int) {
	m.roll(now)
	m.sum += float64(n)
}

func (m *meter) roll(now time.Time) {
	if m.at.IsZero() {
		m.at = now
		return
	}
	if d := now.Sub(m.at).Seconds(); d >= meterSlice {
		keep := math.Exp(-d / meterSpan)
		m.rate = m.rate*keep + m.sum/d*(1-keep)
		m.sum, m.at = 0, now
	}
}

func (m *meter) value(now time.Time) float64 {
	m.roll(now)
	if m.rate < 1 {
		return 0
	}
	return m.rate
}
