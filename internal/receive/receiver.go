package receive

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sys/unix"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

// Config of a receiver. Name, Output, State and Broker's URLs (or Server) are required; the zero value of
// every other field takes the default named behind it.
type Config struct {
	Name   string         // of this receiver, unique among receivers; kept for good
	Output string         // directory of the central files
	State  string         // directory of this receiver's own state; no other process may use it
	Broker broker.Options // Retry and the callbacks are set here

	Prefix      string      // of subjects; "logs"
	FilePattern string      // "{identity}/{log}.log"
	FileMode    fs.FileMode // 0640
	DirMode     fs.FileMode // 0750

	RotateSize  int64         // bytes; 0: no limit
	RotateEvery time.Duration // aligned to UTC; 0: never
	RetainCount int           // closed files of each log; 0: all
	RetainAge   time.Duration // of closed files; 0: for ever
	RetainSize  int64         // bytes of all closed files of this receiver; 0: no limit
	Compress    string        // of closed files: "none" (default), "gzip", "zstd"

	CommitInterval time.Duration // 1 s
	CommitBytes    int64         // 64 MiB
	MaxOpenFiles   int           // 0: half of what the process may have
	MaxLogs        int           // of one identity; 10,000
	QuarantineSize int64         // bytes; 1 GiB
	FetchBytes     int           // that are fetched ahead, in each partition; 8 MiB, and never less than two messages
	Sweep          time.Duration // how often closed files are looked after; 10 s
	LeaseInterval  time.Duration // of the heartbeat; 1 s
	LeaseTimeout   time.Duration // without a heartbeat, until others take over; 5 s
	DiskTimeout    time.Duration // for an operation on the disk, until the heart stands still; 30 s, and at least two heartbeats
	LeftoverGrace  time.Duration // that an older layout's stream must have been empty, until it is deleted; 2 min

	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time // for tests

	fault     func(op string, done bool) error
	leaveCuts bool // nothing is put back: for tests of what is kept
}

func (c *Config) setDefaults() error {
	if c.Name == "" || c.Output == "" || c.State == "" {
		return errors.New("receiver: name, output and state must be set")
	}
	if err := chunk.CheckName(c.Name); err != nil || len(chunk.FileName(c.Name)) > 32 {
		return fmt.Errorf("receiver: name %q can't be part of a file name, or is longer than 32 bytes there", c.Name)
	}
	def(&c.Prefix, "logs")
	def(&c.FilePattern, "{identity}/{log}.log")
	def(&c.FileMode, 0o640)
	def(&c.DirMode, 0o750)
	def(&c.Compress, "none")
	def(&c.CommitInterval, time.Second)
	def(&c.CommitBytes, 64<<20)
	def(&c.MaxLogs, 10_000)
	def(&c.QuarantineSize, 1<<30)
	def(&c.FetchBytes, 8<<20)
	def(&c.Sweep, 10*time.Second)
	def(&c.LeaseInterval, time.Second)
	def(&c.LeaseTimeout, 5*time.Second)
	def(&c.DiskTimeout, 30*time.Second)
	def(&c.LeftoverGrace, 2*time.Minute)
	if c.LeaseTimeout < 2*c.LeaseInterval {
		return fmt.Errorf("receiver: lease_timeout %s is less than two heartbeats (lease_interval %s): others would take over from a receiver that lives", c.LeaseTimeout, c.LeaseInterval)
	}
	if _, ok := compressions[c.Compress]; !ok {
		return fmt.Errorf("receiver: compress %q is none of none, gzip, zstd", c.Compress)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return nil
}

// def sets what was left at its zero value.
func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Receiver writes logs to files. Make it with [New], then Open, Run, Close.
type Receiver struct {
	config       Config
	logger       *slog.Logger
	now          func() time.Time
	naming       naming
	disk         disk
	state        *state
	syncfs       *fileSystem // nil: files are synced one by one
	identity     broker.Identity
	metrics      *metrics
	decompressor *chunk.Decompressor

	nc    *nats.Conn
	js    jetstream.JetStream
	pub   *broker.Publisher
	ended chan error // why nc was given up for good

	quarantineLock sync.Mutex
	quarantined    int64
	measured       time.Time  // when quarantined was last counted
	sweeping       sync.Mutex // over one look after closed files
	swept          bool       // once; belongs to sweep

	// Constant while partitions run.
	layout     broker.Layout
	partitions []*partition

	button  button
	listing listing
	claim   sync.Mutex // guards claimed, output and naming.suffixed
	claimed bool
	output  string              // name of the output that claimed is about
	moves   *semaphore.Weighted // bytes on the way to another stream

	mu       sync.Mutex
	link     *link
	changed  chan struct{} // closed when link, complete, season or the sharing of partitions change
	sharing  sharing
	serving  bool
	complete bool         // the positions bucket knows all that receivers do
	begun    map[int]bool // partitions whose state was brought together with the bucket's, in this session
	terms    map[int]error
	working  map[int]bool // partitions that this receiver works now
	stalls   map[int]error
	note     error // why there is no layout yet
	lacking  error // why complete is false, where that takes long
	hang     error // of the disk
	refusal  *refusal
}

// link is one life of the connection.
type link struct {
	ctx    context.Context
	cancel context.CancelFunc
}

// New makes a receiver; it touches nothing.
func New(c Config) *Receiver {
	return &Receiver{config: c, changed: make(chan struct{}), ended: make(chan error, 1), listing: listing{turn: make(chan struct{}, 1)}, moves: semaphore.NewWeighted(inRoom)}
}

// Open takes the state directory, checks the settings, and connects. A broker that can't be
// reached is no error: the receiver goes on trying.
func (r *Receiver) Open(ctx context.Context) (err error) {
	if err := r.config.setDefaults(); err != nil {
		return err
	}
	r.logger, r.now = r.config.Logger, r.config.Now
	r.disk.fault = r.config.fault
	r.terms, r.stalls = map[int]error{}, map[int]error{}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	if r.naming, err = newNaming(r.config.FilePattern, r.config.Name); err != nil {
		return err
	}
	if err := os.MkdirAll(r.config.Output, r.config.DirMode); err != nil {
		return fmt.Errorf("output directory: %w", err)
	}
	if r.config.Output, err = filepath.Abs(r.config.Output); err != nil {
		return fmt.Errorf("output directory: %w", err)
	}
	// Its name must outlast a power failure, or its files are lost with it.
	if err := syncDir(filepath.Dir(r.config.Output)); err != nil {
		return fmt.Errorf("output directory: %w", err)
	}
	r.disk.output = r.config.Output
	var note error
	if r.state, note, err = openState(r.config.State, &r.disk); err != nil {
		return err
	}
	if note != nil {
		r.logger.Error("state set aside", "error", note)
	}
	if err := r.checkName(); err != nil {
		return err
	}
	r.rememberButton()
	if err := r.recallSharing(); err != nil {
		return err
	}
	if r.quarantined, err = dirSize(filepath.Join(r.config.State, "quarantine")); err != nil {
		return fmt.Errorf("quarantine: %w", err)
	}
	if reportsWriteErrors() && syncsWhole(r.config.Output) {
		if r.syncfs, err = openFileSystem(r.config.Output, &r.disk); err != nil {
			return fmt.Errorf("output directory: %w", err)
		}
	}
	if r.decompressor, err = chunk.NewDecompressor(); err != nil {
		return err
	}
	r.metrics = newMetrics(r.config.Registerer)
	return r.connect(ctx)
}

// checkName makes sure that a state keeps its receiver's name: its files are known by it.
func (r *Receiver) checkName() error {
	var name string
	found, err := r.state.getMeta("name", &name)
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	if found && name != r.config.Name {
		return fmt.Errorf("state directory %s belongs to receiver %q, and this one is %q: set receiver = %s, or use another state directory", r.config.State, name, r.config.Name, name)
	}
	if found {
		return nil
	}
	return r.state.putMeta("name", r.config.Name)
}

// reportsWriteErrors tells whether syncfs fails when a write to any file did: since Linux 5.8.
func reportsWriteErrors() bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	var major, minor int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor); err != nil {
		return false
	}
	return major > 5 || major == 5 && minor >= 8
}

func (r *Receiver) connect(ctx context.Context) (err error) {
	o := r.config.Broker
	o.Retry = true
	if o.Logger == nil {
		o.Logger = r.logger
	}
	if o.Identity == nil {
		o.Identity = broker.PlainNATS{Prefix: r.config.Prefix, Inbox: o.InboxPrefix}
	}
	r.identity = o.Identity
	o.OnConnect = func(*nats.Conn) { r.linked() }
	o.OnReconnect = func(*nats.Conn) { r.linked() }
	o.OnDisconnect = func(_ *nats.Conn, err error) { r.unlinked() }
	o.OnClosed = r.closed
	o.OnPermission = r.refused
	if r.nc, err = broker.Connect(ctx, o); err != nil {
		return err
	}
	if r.js, err = broker.JetStream(r.nc, r.identity.StreamAPI()); err != nil {
		return err
	}
	r.pub, err = broker.NewPublisher(r.nc, broker.PublisherOptions{Logger: r.logger})
	return err
}

func (r *Receiver) linked() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.relink()
}

// relink begins a session. mu is held.
func (r *Receiver) relink() {
	if r.link != nil {
		r.link.cancel()
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.link, r.refusal = &link{ctx, cancel}, nil
	r.complete, r.begun = false, map[int]bool{}
	r.broadcast()
}

func (r *Receiver) unlinked() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.link != nil {
		r.link.cancel()
		r.link = nil
	}
	r.complete = false
	r.broadcast()
}

// broadcast wakes all that wait for a change. mu is held.
func (r *Receiver) broadcast() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// session waits for a connection and gives a context that ends with it.
func (r *Receiver) session(ctx context.Context) (context.Context, error) {
	for {
		r.mu.Lock()
		l, changed := r.link, r.changed
		r.mu.Unlock()
		if l != nil {
			return l.ctx, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Run receives until ctx ends, and then commits what it has. It returns early only on errors
// that no waiting mends.
func (r *Receiver) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.connected(ctx) })
	group.Go(func() error { return r.sweep(ctx) })
	group.Go(func() error { return r.answerSyncs(ctx) })
	group.Go(func() error {
		for ctx.Err() == nil {
			if err := r.season(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	err := group.Wait()
	if r.nc.Status() == nats.CONNECTED {
		// The last acknowledgements. If they are lost the messages come again, as duplicates.
		if err := r.nc.FlushTimeout(2 * time.Second); err != nil {
			r.logger.Info("last acknowledgements may be lost", "error", err)
		}
	}
	return err
}

// closed takes note that the client library has given the connection up for good.
func (r *Receiver) closed(nc *nats.Conn) {
	select {
	case r.ended <- cmp.Or(nc.LastError(), nats.ErrConnectionClosed):
	default: // said already
	}
}

// connected waits for the end of the connection: nothing makes it anew, and a receiver without one, alive for ever, would be worse than one that is started again.
func (r *Receiver) connected(ctx context.Context) error {
	select {
	case err := <-r.ended:
		return fmt.Errorf("the connection to the broker ended for good; start the receiver again: %w", err)
	case <-ctx.Done():
		return nil
	}
}

// season runs the partitions of one layout.
func (r *Receiver) season(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	layout, err := r.findLayout(ctx)
	if err != nil {
		return nil // ctx is over
	}
	partitions := make([]*partition, layout.Partitions)
	for n := range partitions {
		partitions[n] = newPartition(r, n)
	}
	r.mu.Lock()
	r.layout, r.partitions, r.serving = layout, partitions, true
	r.complete, r.begun = false, map[int]bool{}
	r.terms, r.stalls, r.working = map[int]error{}, map[int]error{}, map[int]bool{}
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.serving = false
	}()
	r.metrics.partitions.Set(float64(layout.Partitions))
	r.logger.Info("receiving", "layout", layout.ID, "prefix", layout.Prefix, "partitions", layout.Partitions, "output", r.config.Output)
	// The sharing outlives the partitions: they give their leases back.
	sharing, end := context.WithCancel(context.WithoutCancel(ctx))
	shared := make(chan error, 1)
	var watch sync.WaitGroup
	defer func() { end(); <-shared; watch.Wait() }()
	watch.Go(func() { r.watchDisk(sharing) })
	group, ctx := errgroup.WithContext(ctx)
	go func() { shared <- r.share(sharing, ctx) }()
	for _, p := range partitions {
		group.Go(func() error { return p.run(ctx) })
	}
	group.Go(func() error { return r.leftovers(ctx) })
	group.Go(func() error { r.completeBucket(ctx); return nil })
	group.Go(func() error {
		defer cancel() // a new layout ends the season
		r.watchShared(ctx)
		return nil
	})
	err = group.Wait()
	if errors.Is(err, errStopped) {
		r.crash()
	}
	return err
}

// crash lets nothing more be said, as if the process were gone; only tests make it.
func (r *Receiver) crash() {
	r.nc.SetClosedHandler(nil) // who is gone doesn't tell why
	r.nc.Close()
}

// Close frees everything. It may be called at any point behind New.
func (r *Receiver) Close() error {
	if r.pub != nil {
		r.pub.Close()
	}
	if r.nc != nil {
		r.nc.Close()
	}
	r.mu.Lock()
	if r.link != nil {
		r.link.cancel()
		r.link = nil
	}
	r.mu.Unlock()
	if r.decompressor != nil {
		r.decompressor.Close()
	}
	if r.syncfs != nil {
		r.syncfs.Close()
	}
	if r.state != nil {
		return r.state.close()
	}
	return nil
}

// fileLimit is how many descriptors one partition may keep open.
func (r *Receiver) fileLimit() int {
	n := r.config.MaxOpenFiles
	if n == 0 {
		var lim unix.Rlimit
		if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) == nil {
			n = int(min(lim.Cur, 1<<20) / 2)
		}
	}
	return max(8, n/max(1, r.layout.Partitions))
}

func (r *Receiver) openRecords(ctx context.Context) (*broker.Records, error) {
	return broker.OpenRecords(ctx, r.js, r.pub, broker.Positions)
}

// tell sends a node a control message. Its subject is computed, never taken from a message.
func (r *Receiver) tell(identity string, c *chunk.Control) {
	b, err := json.Marshal(c)
	if err == nil {
		m := &nats.Msg{Subject: r.identity.ControlSubject(chunk.Token(identity)), Data: b}
		if key := r.keyOf(identity); key != "" { // else the node takes it for a hint
			m.Header = nats.Header{chunk.MACHeader: {chunk.MAC(key, b)}}
		}
		err = r.nc.PublishMsg(m)
	}
	if err != nil {
		r.logger.Warn("control message not sent; the next sync says the same", "identity", identity, "error", err)
	}
}

// inbox tells whether a subject is where replies to a node go: it may not make a receiver publish anywhere else.
func (r *Receiver) inbox(subject, identity string) bool {
	if own := r.identity.NodeInbox(chunk.Token(identity)); own != "" {
		return strings.HasPrefix(subject, own)
	}
	if strings.HasPrefix(subject, "_INBOX") {
		return true
	}
	p := r.config.Broker.InboxPrefix
	return p != "" && strings.HasPrefix(subject, p+".")
}
