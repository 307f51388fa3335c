package tail

import (
	"errors"
	"log/slog"
	"time"
)

// Start says where a file that was never seen before is begun.
type Start string

const (
	StartEnd       Start = "end"
	StartBeginning Start = "beginning"
)

// Config describes one log. Path is required; the zero value of every other
// field works.
type Config struct {
	Name    string        // the log's name, for messages
	Path    string        // absolute path of the live file; no glob
	Start   Start         // for a file never seen before; default end
	Quiet   time.Duration // an old generation must have been quiet this long before the next is begun; default 500 ms
	Linger  time.Duration // a finished old generation is still watched for late writes this long; default 1 h
	Allowed Allowed       // which real paths may be opened; the zero value allows none
	Watcher *Watcher      // shared; required for Wake to fire
	Budget  *Budget       // shared; nil: no limit on deleted files that are held
	// Since is for a file never seen before that is begun at its beginning: a moment at which there was none under Path. What was
	// rotated away since then belongs to the log, though nobody saw it. Zero: not known; what is there as a rotated form at the first look
	// is not the log's.
	Since time.Time
	// Olddirs returns the directories that rotation is configured to move the files of a log into; nil: none is known but
	// where they are seen to go.
	Olddirs func(path string) []string
	// StateFile is the path of the file that the caller keeps State in: where that and the log's directory are copies, as a backup brings them
	// back, the live file is taken for one, too. Empty: not known.
	StateFile string
	Logger    *slog.Logger
	Now       func() time.Time // for tests; default time.Now
}

// Piece is what comes next in a log: bytes, or a loss.
type Piece struct {
	Position   uint64 // of the first byte
	Data       []byte // in the caller's buffer; empty where Loss is set or nothing is there
	Generation string // generation's id, as it goes over the wire
	Offset     int64  // of the first byte in that generation
	Loss       *Loss  // set instead of Data
	// NewSegment says that these bytes don't follow the last ones in the same
	// generation. State must be persisted before they are sent, so that a restart assigns the
	// same positions to the same bytes.
	NewSegment bool
	// More says that there are more bytes right behind Data.
	More bool
	// Unsure says that an earlier run may have handed out more in front of this piece, of a file that isn't found any more, or of which there is a copy that
	// ends before. Whoever knows how far it got tells by [Log.Pass]. It is also set where nothing comes.
	Unsure bool
}

// Loss is a range of positions whose bytes can't be had.
type Loss struct {
	Cause  string // short, lower case: "truncated", "deleted beyond the budget", …
	Length uint64 // positions it takes, at least 1
	Bytes  int64  // bytes lost as far as known; -1: unknown
	Exact  bool   // Bytes is exact, not a lower bound
	File   string // path as last seen
}

// NotFound is the cause of a loss where the file of an earlier run is nowhere. What of it was read after its state was saved, and what came
// behind, the centre may have all the same.
const NotFound = "not found after a restart"

// Sentinels.
var (
	// ErrGone: bytes that were once read can't be read again from where they were.
	ErrGone = errors.New("bytes are gone")
	// ErrNoFile: nothing is under the path now. It is the [fs.ErrNotExist] or ENOTDIR that says so, too.
	ErrNoFile = errors.New("no file")
	// ErrNotAllowed: the real path is outside what is permitted.
	ErrNotAllowed = errors.New("path is not permitted")
	// ErrNotPermitted: the real path is allowed, but not for this log, or not now.
	ErrNotPermitted = errors.New("file is not permitted for this log")
	// ErrNotRegular: only regular files are forwarded.
	ErrNotRegular = errors.New("not a regular file")
)
