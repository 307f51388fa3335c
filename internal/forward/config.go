package forward

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"logforward/internal/broker"
	"logforward/internal/chunk"
	"logforward/internal/tail"

	"github.com/prometheus/client_golang/prometheus"
)

// Commit says what makes a byte count as delivered.
type Commit string

const (
	// Confirmed: the receiver has fsynced it, has a record of it and says so.
	Confirmed Commit = "confirmed"
	// Stored: the broker has acknowledged it. A broker that loses power or is
	// wiped then loses bytes that this node has forgotten.
	Stored Commit = "stored"
)

// SealKeyFile is the name of the key in the state directory.
const SealKeyFile = "seal.key"

// Compression of payloads.
const (
	CompressionNone = "none"
	CompressionS2   = string(chunk.S2)
	CompressionZstd = string(chunk.Zstd)
)

// Config of an [Engine]. Identity, Destinations and State are required.
type Config struct {
	Identity     string
	Destinations map[string]Destination
	Allowed      tail.Allowed // real paths that may be read; the zero value allows none
	// Permit is asked before each file of a log is opened, with its real path, by the goroutine that works the
	// log; an error keeps it closed. nil: what is allowed is permitted.
	Permit func(log, realpath string) error
	// Olddirs is [tail.Config].Olddirs of every log.
	Olddirs func(path string) []string
	// Pressed is told when the fleet's pause begins, changes or is lifted here, so that it can be recorded. What it can't take
	// at once is in the log alone: nothing waits for it. nil: nobody is told.
	Pressed chan<- Pressed
	Limits  Limits
	// SealKey is the file of the key that seals what goes to destinations that say so; see package seed. It is made where there is none. Empty: [SealKeyFile] in
	// the state directory. While the key can't be had logs go out unsealed.
	SealKey    string
	State      *State // stays the caller's, who closes it after the engine
	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: metrics are counted and shown nowhere
	Now        func() time.Time      // for tests: the clock of epochs and pauses; default time.Now
}

// Pressed is the fleet's pause as a destination's centre has it now; one that doesn't hold is lifted.
type Pressed struct {
	Destination string
	Pause       chunk.Pause
}

// Destination is a named place that logs may be forwarded to.
type Destination struct {
	Broker      broker.Options // Retry, callbacks and Logger are set by the engine
	Prefix      string         // of subjects; default "logs"
	Compression string         // default none
	Commit      Commit         // default Confirmed
	Seal        bool           // what goes there is signed with SealKey
}

// Limits of an [Engine]. The zero value of each means its default.
type Limits struct {
	Rate         int64         // bytes/s of each log that has none of its own; 0: none
	NodeRate     int64         // bytes/s of all logs together; 0: none
	Window       int64         // bytes sent and not acknowledged, for each destination, at the most: see windowAt; default 16 MiB
	ChunkSize    int           // most bytes in one message; default 512 KiB
	Linger       time.Duration // a busy log sends a chunk that isn't full at most this often; default 2.8 ms
	PartialWait  time.Duration // a line without its end is sent after this long without growth; default 250 ms
	Checkpoint   time.Duration // checkpoints are written at most this often; default 1 s
	HeldDeleted  int64         // bytes held in deleted files that aren't read yet; default 1 GiB, negative: no limit
	Quiet        time.Duration // see [tail.Config]; 0: its default
	LateWrites   time.Duration // see Linger of [tail.Config]; 0: its default
	Poll         time.Duration // files are looked at this often without notification; default 1 s
	SyncInterval time.Duration // between hellos, give or take a fifth; default 30 s
	ReserveStep  uint64        // positions reserved at a time; default 64 MiB
	AckTimeout   time.Duration // for the broker's acknowledgement; default 5 s
	AckEvery     time.Duration // a busy log asks for one this often; default 25 ms
	SealBlock    uint64        // bytes behind which a seal's block ends; default 1 MiB
}

func (l *Limits) setDefaults() {
	set(&l.Window, 16<<20)
	set(&l.ChunkSize, 512<<10)
	set(&l.Linger, 2800*time.Microsecond)
	set(&l.PartialWait, 250*time.Millisecond)
	set(&l.Checkpoint, time.Second)
	set(&l.HeldDeleted, 1<<30)
	set(&l.Poll, time.Second)
	set(&l.SyncInterval, 30*time.Second)
	set(&l.ReserveStep, 64<<20)
	set(&l.AckTimeout, 5*time.Second)
	set(&l.AckEvery, 25*time.Millisecond)
	set(&l.SealBlock, chunk.SealBlock)
	l.ChunkSize = min(max(l.ChunkSize, minChunk), chunk.MaxLength)
}

// minChunk keeps a wrong chunk_size from making a message of every byte.
const minChunk = 256

func set[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

func (c *Config) check() error {
	if err := chunk.CheckName(c.Identity); err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	if c.State == nil {
		return errors.New("no state is given")
	}
	for name, d := range c.Destinations {
		if d.Prefix == "" {
			d.Prefix = "logs"
		}
		if d.Compression == "" {
			d.Compression = CompressionNone
		}
		if d.Commit == "" {
			d.Commit = Confirmed
		}
		if d.Compression != CompressionNone && d.Compression != CompressionS2 && d.Compression != CompressionZstd {
			return fmt.Errorf("destination %s: compression %q is none of %s, %s, %s", name, d.Compression, CompressionNone, CompressionS2, CompressionZstd)
		}
		if d.Commit != Confirmed && d.Commit != Stored {
			return fmt.Errorf("destination %s: commit %q is neither %s nor %s", name, d.Commit, Confirmed, Stored)
		}
		c.Destinations[name] = d
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	c.Limits.setDefaults()
	return nil
}

// Log is one concrete file that shall be forwarded.
type Log struct {
	Name        string // as the operator calls it; see [chunk.CheckName]
	Path        string // absolute; no glob
	Destination string // a name in [Config].Destinations
	Start       tail.Start
	Since       time.Time // as [tail.Config].Since
	Rate        int64     // bytes/s; 0: [Limits].Rate, negative: none
	OfGlob      bool      // a glob found its file: where that is gone, and all of it was read, nothing is wrong
}

func (l Log) check(c *Config) error {
	if err := chunk.CheckName(l.Name); err != nil {
		return fmt.Errorf("log: %w", err)
	}
	if !filepath.IsAbs(l.Path) || filepath.Clean(l.Path) != l.Path {
		return fmt.Errorf("path %q is not absolute and clean", l.Path)
	}
	if _, ok := c.Destinations[l.Destination]; !ok {
		names := make([]string, 0, len(c.Destinations))
		for name := range c.Destinations {
			names = append(names, name)
		}
		slices.Sort(names)
		return fmt.Errorf("destination %q is not configured on this node; known: %s", l.Destination, strings.Join(names, ", "))
	}
	switch l.Start {
	case "", tail.StartEnd, tail.StartBeginning:
		return nil
	}
	return fmt.Errorf("start %q is neither %s nor %s", l.Start, tail.StartEnd, tail.StartBeginning)
}
