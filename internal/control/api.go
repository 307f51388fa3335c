package control

import (
	"context"
	"time"
)

// Node is what the API steers. Every request has passed Check and Authorize. The
// errors it returns should be [Error]s; others are answered as internal.
type Node interface {
	Start(context.Context, Caller, StartRequest) (Reply, error)
	Stop(context.Context, Caller, StopRequest) (Reply, error)
	Pause(context.Context, Caller, PauseRequest) (Reply, error)
	Resume(context.Context, Caller, ResumeRequest) (Reply, error)
	Redirect(context.Context, Caller, RedirectRequest) (Reply, error)
	Status(context.Context, StatusRequest) (StatusReply, error)
	List(context.Context) (ListReply, error)
	Check(context.Context) (CheckReply, error)
	Health(context.Context) Health
}

// Verbs, as policy sees them.
const (
	VerbStart    = "start"
	VerbStop     = "stop"
	VerbPause    = "pause"
	VerbResume   = "resume"
	VerbRedirect = "redirect"
	VerbStatus   = "status"
	VerbList     = "list"
	VerbCheck    = "check"
)

// RouteWish is the route of what was recorded while no daemon ran.
const RouteWish = "wish"

// Caller is who asks.
type Caller struct {
	UID int `json:"uid"` // as the kernel says
	GID int `json:"gid"`
	PID int `json:"pid"`
	// Groups are the supplementary groups that the kernel knew when the caller connected.
	Groups []int `json:"groups,omitempty"`
	// Name is for whom a root process asks ("choria=alice.mcollective"); otherwise the user: "local=root", "local=uid:1000".
	Name string `json:"name"`
	// RequestID is the id of the request that a root process passes on; otherwise empty.
	RequestID string `json:"request,omitempty"`
	// Collective is where that request came from; empty: it came from this machine.
	Collective string `json:"collective,omitempty"`
	// TTL is how long that request is good for, in seconds; 0: it came from this machine.
	TTL int `json:"ttl,omitempty"`
	// Route is how the request came here: "socket" or "wish".
	Route string `json:"route,omitempty"`
}

// Request is what policy decides on: the verb and what it is about. Where a request names
// only a log, the node fills in that log's path and destination before it asks again.
type Request struct {
	Verb        string        `json:"verb"`
	Log         string        `json:"log,omitempty"` // empty: all
	Path        string        `json:"path,omitempty"`
	Real        string        `json:"real,omitempty"` // where Path leads by symbolic links; empty: nowhere else
	Destination string        `json:"destination,omitempty"`
	Current     string        `json:"current,omitempty"` // where a log that is to be redirected goes now
	Lifts       bool          `json:"lifts,omitempty"`   // a start that ends a stop, and begins nothing
	Start       string        `json:"start,omitempty"`
	All         bool          `json:"all,omitempty"`
	Drain       bool          `json:"drain,omitempty"`
	Rate        *Rate         `json:"rate,omitempty"`
	For         time.Duration `json:"for,omitempty"`   // nanoseconds
	Total       time.Duration `json:"total,omitempty"` // For, and what of the same kind this caller had of late; 0: nothing
	Reason      string        `json:"reason,omitempty"`
}

// Changes tells whether the verb changes anything.
func (r Request) Changes() bool {
	return r.Verb != VerbStatus && r.Verb != VerbList && r.Verb != VerbCheck
}

// StartRequest begins forwarding. With a Path it defines the log; without one it lifts an
// operator's stop of a log that is known.
type StartRequest struct {
	Log         string   `json:"log"`
	Path        string   `json:"path,omitempty"`        // absolute; a glob makes one log per file, <log>.<file name>
	Destination string   `json:"destination,omitempty"` // a name of the node's configuration; empty: the only one
	Start       string   `json:"start,omitempty"`       // "end" (default) or "beginning": for files never seen before
	Rate        *Rate    `json:"rate,omitempty"`        // absent: the node's default
	For         Duration `json:"for,omitempty"`         // absent: until it is stopped
	Reason      string   `json:"reason,omitempty"`
}

// StopRequest ends forwarding. What an operator started is forgotten; what a file
// defines is overridden. The checkpoint stays: a later start continues there.
type StopRequest struct {
	Log    string   `json:"log"`
	Drain  bool     `json:"drain,omitempty"` // first send what is in the file, and have it confirmed
	For    Duration `json:"for,omitempty"`   // absent: until it is started
	Reason string   `json:"reason,omitempty"`
}

// PauseRequest stops publishing within a second and keeps positions and open files.
type PauseRequest struct {
	Log    string   `json:"log,omitempty"`
	All    bool     `json:"all,omitempty"` // every log, also those that come later; instead of Log
	For    Duration `json:"for,omitempty"` // absent: until it is resumed
	Reason string   `json:"reason,omitempty"`
}

// ResumeRequest lifts a pause. All lifts the pause of all and that of each log.
type ResumeRequest struct {
	Log string `json:"log,omitempty"`
	All bool   `json:"all,omitempty"`
	// For makes it an exception from a pause of all, for this long; for All it isn't permitted.
	For    Duration `json:"for,omitempty"`
	Reason string   `json:"reason,omitempty"`
}

// RedirectRequest sends a log to another of the node's destinations. What was sent to the old one
// is confirmed there first; what comes behind it goes to the new one: each byte is at one of them.
type RedirectRequest struct {
	Log         string `json:"log"`
	Destination string `json:"destination"` // a name of the node's configuration
	Reason      string `json:"reason,omitempty"`
}

// StatusRequest asks for all logs or for one.
type StatusRequest struct {
	Log     string
	History bool // with the last changes of each log
}

// Reply is the answer to a change.
type Reply struct {
	Log      string    `json:"log,omitempty"`  // empty: all
	State    string    `json:"state"`          // what the log is now: starting, stopped, draining, paused, redirecting
	Changed  bool      `json:"changed"`        // false: it was so already
	Until    time.Time `json:"until,omitzero"` // when the change ends by itself; absent: when somebody ends it
	Message  string    `json:"message"`        // one line for a person
	Logs     []string  `json:"logs,omitempty"` // the logs that are meant, where a glob makes several
	Files    int       `json:"files"`          // files of those logs that are open now
	LagBytes int64     `json:"lag_bytes"`      // bytes of those logs that aren't confirmed
}

// StatusReply is where everything stands.
type StatusReply struct {
	Identity     string              `json:"identity"`             // name of the node
	Version      string              `json:"version,omitempty"`    // of the daemon's program
	PID          int                 `json:"pid"`                  // of the daemon
	Started      time.Time           `json:"started"`              // when the daemon was started
	Executable   *Executable         `json:"executable,omitempty"` // nil: not known
	Pause        *Override           `json:"pause,omitempty"`      // a pause of all
	Logs         []LogStatus         `json:"logs"`                 // all, or those that were asked for
	Destinations []DestinationStatus `json:"destinations"`         // that the settings name
	Problems     []Problem           `json:"problems"`
}

// Executable is the program file that a daemon runs, as it was when the daemon started.
type Executable struct {
	Path     string    `json:"path"`     // absolute
	Device   uint64    `json:"device"`   // number of its file system
	Inode    uint64    `json:"inode"`    // on that file system
	Size     int64     `json:"size"`     // in bytes
	Modified time.Time `json:"modified"` // when the file was last written
}

// LogStatus is one row of status.
type LogStatus struct {
	Log         string  `json:"log"`             // its name
	State       string  `json:"state"`           // starting, syncing, forwarding, idle, paused, blocked, draining, redirecting, stopped, failed or waiting
	Path        string  `json:"path"`            // of the file that is followed, or as it is defined
	Files       int     `json:"files"`           // generations that are open
	Destination string  `json:"destination"`     // name of where it goes
	LagBytes    int64   `json:"lag_bytes"`       // bytes between the file's end and confirmed
	LagSeconds  float64 `json:"lag_seconds"`     // age of the oldest byte that isn't confirmed, in seconds
	Rate        float64 `json:"rate"`            // bytes/s, smoothed
	Limit       int64   `json:"limit"`           // most bytes/s; 0: none
	Epoch       uint64  `json:"epoch,omitempty"` // of the log's numbering; absent: none has begun
	Confirmed   uint64  `json:"confirmed"`       // position up to which it lies centrally
	Gaps        uint64  `json:"gaps"`            // ranges that were lost since the daemon started
	GapBytes    uint64  `json:"gap_bytes"`       // positions that these gaps take
	Resends     uint64  `json:"resends"`         // times that a receiver asked to go back since the daemon started
	// Managed is the file that defines the log; empty: an operator's.
	Managed  string    `json:"managed,omitempty"`
	Override *Override `json:"override,omitempty"`
	Promise  string    `json:"promise,omitempty"` // set where the promise is weaker than confirmed
	Seal     *Seal     `json:"seal,omitempty"`    // nil: the destination isn't one whose logs are sealed
	Error    string    `json:"error,omitempty"`   // why it isn't forwarded, or what else is wrong with it
	History  []Change  `json:"history,omitempty"` // newest last
}

// Seal is the last seal of a log whose bytes the centre has confirmed. Whoever keeps it elsewhere can prove with it what the centre must have.
type Seal struct {
	Epoch    uint64 `json:"epoch"`           // of the position
	Position uint64 `json:"position"`        // its end; behind it nothing is sealed yet. 0: nothing is
	ID       string `json:"id,omitempty"`    // 64 hex digits; empty: nothing is sealed yet
	Error    string `json:"error,omitempty"` // why the log goes out unsealed, though it shall be sealed
}

// DestinationStatus is one named destination.
type DestinationStatus struct {
	Name      string `json:"name"`      // as the settings have it
	Connected bool   `json:"connected"` // false also where no log goes there
	Logs      int    `json:"logs"`      // how many logs go there
}

// Override is an operator's word that stands above a definition.
type Override struct {
	Verb       string    `json:"verb"`                 // start, stop, drain, pause, resume or redirect
	By         string    `json:"by"`                   // caller: choria=alice.mcollective, local=root
	UID        int       `json:"uid"`                  // user id of the process that asked on this node's socket
	RequestID  string    `json:"request,omitempty"`    // id of the Choria request; absent: it came from this machine
	Collective string    `json:"collective,omitempty"` // that the Choria request came to; absent: it came from this machine
	TTL        int       `json:"ttl,omitempty"`        // how long the Choria request was good for, in seconds
	Since      time.Time `json:"since"`                // when it was said
	Until      time.Time `json:"until,omitzero"`       // zero: until somebody lifts it
	Reason     string    `json:"reason,omitempty"`     // as the caller gave it
	// Inputs are what else the request said, by input: path, destination, from, rate.
	Inputs map[string]string `json:"inputs,omitempty"`
}

// Active tells whether the override holds at now.
func (o *Override) Active(now time.Time) bool {
	return o != nil && (o.Until.IsZero() || now.Before(o.Until))
}

// Change is one entry of a log's history.
type Change struct {
	Override
	Ended string `json:"ended,omitempty"` // set where the entry tells an end: "expired", "lifted"
}

// Problem is something that a person should look at.
type Problem struct {
	Where   string `json:"where"`   // file, log or destination
	Problem string `json:"problem"` // what is wrong
}

// Forwarder is one definition and what came of it.
type Forwarder struct {
	Log         string    `json:"log"`               // its name; of a glob the part before each file's
	Path        string    `json:"path"`              // absolute; it may be a glob
	Destination string    `json:"destination"`       // name of where it goes
	Start       string    `json:"start"`             // where a file begins that was never seen before: end or beginning
	Rate        int64     `json:"rate"`              // most bytes/s; 0: no limit
	Managed     string    `json:"managed,omitempty"` // the file that defines it
	By          string    `json:"by,omitempty"`      // the operator who started it
	Since       time.Time `json:"since,omitzero"`    // when the operator started it
	Until       time.Time `json:"until,omitzero"`    // when what the operator said ends by itself; absent: when somebody ends it
	State       string    `json:"state"`             // active, paused, stopped or draining
	Logs        []string  `json:"logs"`              // their names: one, or what the glob gives
	Files       string    `json:"files,omitempty"`   // of a glob: how many files are followed out of how many that match
	Refused     []Problem `json:"refused,omitempty"` // files that match a glob and aren't followed, and why
}

// ListReply is all definitions.
type ListReply struct {
	Forwarders []Forwarder `json:"forwarders"`
	Problems   []Problem   `json:"problems"`
}

// Verdicts of a check, as monitoring plugins name them.
const (
	OK       = "ok"
	Warning  = "warning"
	Critical = "critical"
	Unknown  = "unknown"
)

// CheckReply is one verdict.
type CheckReply struct {
	Status     string    `json:"status"`             // ok, warning, critical or unknown
	Text       string    `json:"text"`               // one line for a person
	Logs       int       `json:"logs"`               // how many logs the node has
	LagBytes   int64     `json:"lag_bytes"`          // bytes of all logs that aren't confirmed
	LagSeconds float64   `json:"lag_seconds"`        // age of the oldest byte that isn't confirmed, in seconds
	Problems   []Problem `json:"problems,omitempty"` // what makes it no ok
}

// ExitCode is the verdict as a monitoring plugin's exit code.
func (c CheckReply) ExitCode() int {
	switch c.Status {
	case OK:
		return 0
	case Warning:
		return 1
	case Critical:
		return 2
	}
	return 3
}

// Health says whether the daemon does its work at all.
type Health struct {
	Healthy bool     `json:"healthy"`
	Reasons []string `json:"reasons"`
}

// About is the request as policy sees it.
func (r StartRequest) About() Request {
	return Request{Verb: VerbStart, Log: r.Log, Path: r.Path, Destination: r.Destination, Start: r.Start, Rate: r.Rate, For: time.Duration(r.For), Reason: r.Reason}
}

// About is the request as policy sees it.
func (r StopRequest) About() Request {
	return Request{Verb: VerbStop, Log: r.Log, Drain: r.Drain, For: time.Duration(r.For), Reason: r.Reason}
}

// About is the request as policy sees it.
func (r PauseRequest) About() Request {
	return Request{Verb: VerbPause, Log: r.Log, All: r.All, For: time.Duration(r.For), Reason: r.Reason}
}

// About is the request as policy sees it.
func (r ResumeRequest) About() Request {
	return Request{Verb: VerbResume, Log: r.Log, All: r.All, For: time.Duration(r.For), Reason: r.Reason}
}

// About is the request as policy sees it.
func (r RedirectRequest) About() Request {
	return Request{Verb: VerbRedirect, Log: r.Log, Destination: r.Destination, Reason: r.Reason}
}
