// Package audit keeps what was decided about requests: one line for each that is permitted, a CloudEvents 1.0 event as
// JSON, on disk before what it permits takes effect. A refusal that repeats another is counted, and one line stands for
// several: each says for how many. A process that is killed takes with it what it has counted and not written, at most ten minutes' worth.
package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"golang.org/x/sys/unix"
)

// LogName is the log that the file is forwarded as, where a destination is set for it.
const LogName = "audit.logforward"

// Type is the events' type; its last part is the version of [Decision].
const Type = "io.logforward.decision.v1"

const (
	mode = 0o640
	// DefaultSize is how many bytes a file has when the next one begins, DefaultCount how many older
	// ones are kept.
	DefaultSize  = 16 << 20
	DefaultCount = 10
)

// Decision is what was asked, by whom, and what came of it.
type Decision struct {
	Action     string         `json:"action"`
	Allowed    bool           `json:"allowed"`
	Reason     string         `json:"reason,omitempty"` // why not
	Caller     string         `json:"caller"`
	UID        int            `json:"uid"` // of the process that asked, as the kernel says
	PID        int            `json:"pid,omitempty"`
	Request    string         `json:"request,omitempty"` // Choria's id
	Collective string         `json:"collective,omitempty"`
	Route      string         `json:"route"`               // socket, wish, command, fleet, or file and running, which nobody asked for
	Inputs     map[string]any `json:"inputs"`              // with the log's path and destination filled in
	RealPath   string         `json:"real_path,omitempty"` // where the path leads by symbolic links, if elsewhere
	Total      string         `json:"total,omitempty"`     // for how long in all, with what this caller had of late
	Rule       string         `json:"rule,omitempty"`      // of the policy
	Policy     string         `json:"policy,omitempty"`    // SHA-256 of its file
	Count      uint64         `json:"count"`               // of decisions that the line stands for; more than one are refusals, of which this is the last
	Since      *time.Time     `json:"since,omitempty"`     // of the first of several
}

// Log is the file of decisions. Its methods may be used by several goroutines.
type Log struct {
	file   string
	source string
	size   int64
	count  int
	now    func() time.Time
	// Unsent tells how many of the youngest bytes somebody still needs who reads the files, and whether that is known; files
	// that hold them stay, up to ten times as many as are kept otherwise. nil: nobody does. Set it before the first decision.
	Unsent func() (int64, bool)

	mu       sync.Mutex
	lost     int // files that were removed though somebody needed them
	f        *os.File
	seq      uint64
	refusals map[kind]*tally
	askers   map[asker]*known
}

// New names a file; nothing is touched before the first decision. identity is the node's: the events'
// source. size is when the next file begins, in bytes, and count how many older ones stay, as
// file.1 (the youngest) and so on; 0: the defaults.
func New(file, identity string, size int64, count int) *Log {
	if size <= 0 {
		size = DefaultSize
	}
	if count <= 0 {
		count = DefaultCount
	}
	return &Log{file: file, source: "/logforward/" + identity, size: size, count: count, now: time.Now}
}

// Record has a decision on disk when it returns nil. With an error it isn't known to be there, so
// what it permits mustn't be done.
func (l *Log) Record(d Decision) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	d.Count = 1
	if err := l.record(d); err != nil {
		return l.failed(err)
	}
	return nil
}

func (l *Log) failed(err error) error { return fmt.Errorf("audit log %s: %w", l.file, err) }

func (l *Log) record(d Decision) error {
	line, err := l.line(d)
	if err != nil {
		return err
	}
	if err := l.open(); err != nil {
		return err
	}
	info, err := l.f.Stat()
	if err != nil {
		return err
	}
	end := info.Size()
	if end > 0 && end+int64(len(line)) > l.size {
		if err := l.rotate(end); err != nil {
			return err
		}
		end = 0
	}
	_, err = l.f.Write(line)
	if err == nil {
		err = l.f.Sync()
	}
	if err != nil {
		// Half a line would make the next one unreadable, too; a whole one would tell of what isn't done. Where
		// it can't be cut off, the next open ends it.
		err = errors.Join(err, l.f.Truncate(end), l.f.Close())
		l.f = nil
	}
	return err
}

func (l *Log) line(d Decision) ([]byte, error) {
	now := l.now().UTC()
	l.seq++
	e := event.New(event.CloudEventsVersionV1)
	e.SetType(Type)
	e.SetSource(l.source)
	e.SetTime(now)
	e.SetID(strconv.FormatInt(now.UnixNano(), 36) + "-" + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatUint(l.seq, 36))
	if log, _ := d.Inputs["log"].(string); log != "" {
		e.SetSubject(log)
	}
	if err := e.SetData(event.ApplicationJSON, d); err != nil {
		return nil, err
	}
	b, err := json.Marshal(e) // checks it, too
	return append(b, '\n'), err
}

// open has the file that has the name: somebody else may have rotated or removed it.
func (l *Log) open() error {
	if l.f != nil {
		var have, named unix.Stat_t
		if unix.Fstat(int(l.f.Fd()), &have) == nil && unix.Lstat(l.file, &named) == nil && have.Ino == named.Ino && have.Dev == named.Dev {
			return nil
		}
		_ = l.f.Close() // all of it is synced
		l.f = nil
	}
	dir := filepath.Dir(l.file)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	fd, err := unix.Open(l.file, unix.O_RDWR|unix.O_CREAT|unix.O_APPEND|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, mode)
	if err != nil {
		return &fs.PathError{Op: "open", Path: l.file, Err: err}
	}
	f := os.NewFile(uintptr(fd), l.file)
	info, err := f.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = errors.New("it is no regular file")
	case info.Sys().(*syscall.Stat_t).Nlink > 1:
		err = errors.New("it has another name, too")
	case info.Mode().Perm()&^mode != 0:
		err = f.Chmod(mode)
	}
	if err == nil {
		err = errors.Join(give(f, info, dir), endLine(f, info.Size()), syncDir(dir))
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.f = f
	return nil
}

// give has a file of root's belong to the directory's owner: what root writes there, before an apply say, is the log of a daemon that
// isn't root, and could write no more. By the descriptor, for that owner may put another file in its place at any time.
func give(f *os.File, info os.FileInfo, dir string) error {
	if os.Geteuid() != 0 || info.Sys().(*syscall.Stat_t).Uid != 0 {
		return nil
	}
	of, err := os.Stat(dir)
	if err != nil {
		return err
	}
	owner := of.Sys().(*syscall.Stat_t)
	if owner.Uid == 0 {
		return nil
	}
	return f.Chown(int(owner.Uid), int(owner.Gid))
}

// endLine ends the line that a loss of power, or of the process, has cut short: the next one would be unreadable with it.
func endLine(f *os.File, size int64) error {
	last := []byte{'\n'}
	if size > 0 {
		if _, err := f.ReadAt(last, size-1); err != nil {
			return err
		}
	}
	if last[0] == '\n' {
		return nil
	}
	_, err := f.WriteString("\n")
	return err
}

// most is how many times as many files as usual are kept for who needs them.
const most = 10

func (l *Log) older(n int) string { return l.file + "." + strconv.Itoa(n) }

// rotate gives the name of the file, which has so many bytes, to a new one.
func (l *Log) rotate(size int64) error {
	last, err := l.drop(size)
	if err != nil {
		return err
	}
	for n := last; n > 0; n-- {
		if err := os.Rename(l.older(n), l.older(n+1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.Rename(l.file, l.older(1)); err != nil {
		return err
	}
	return l.open()
}

// drop removes the files that are too many, the oldest first, and gives the last one's number, at most count-1 where
// nobody needs more.
func (l *Log) drop(size int64) (last int, err error) {
	sizes := []int64{0} // by number
	for n := 1; n <= l.count*most; n++ {
		info, err := os.Lstat(l.older(n))
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return 0, err
		}
		sizes = append(sizes, info.Size())
	}
	last = len(sizes) - 1
	if last < l.count {
		return last, nil
	}
	needed, known := int64(0), true
	if l.Unsent != nil {
		needed, known = l.Unsent()
	}
	younger := size
	for n := 1; n < last; n++ {
		younger += sizes[n]
	}
	for ; last >= l.count; last-- {
		wanted := !known || younger < needed
		if wanted && last < l.count*most {
			return last, nil
		}
		if err := os.Remove(l.older(last)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
		if wanted {
			l.lost++
		}
		younger -= sizes[last-1]
	}
	return last, nil
}

// Lost is how many files were removed though somebody still needed them, for there were too many.
func (l *Log) Lost() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Close writes what was counted, and lets go of the file.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.tick(true)
	if l.f != nil {
		err = errors.Join(err, l.f.Close())
		l.f = nil
	}
	return err
}
