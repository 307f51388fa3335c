// Package wish keeps what operators asked of a node whose daemon wasn't running, until it runs.
//
// A wish is one file in a directory that only root, or the daemon's own user, may write. It is there
// whole or not at all, and stays until the daemon has taken it: through the same checks and the same
// authorization as a request on its socket, in the order in which they were recorded wherever that matters.
package wish

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"logforward/internal/trust"
)

const (
	suffix = ".json"
	// MaxSize bounds a wish, in bytes: a request's body and who asked.
	MaxSize = 128 << 10
	// MaxCount is how many wishes may wait: more are a loop somewhere.
	MaxCount = 1000
)

// Wish is one change that was asked for.
type Wish struct {
	Verb       string          `json:"verb"`
	Body       json.RawMessage `json:"body"`   // the request, as the socket takes it
	Caller     string          `json:"caller"` // as the socket's caller: "choria=alice.mcollective"
	RequestID  string          `json:"request,omitempty"`
	Collective string          `json:"collective,omitempty"`
	TTL        int             `json:"ttl,omitempty"` // the request's, in seconds
	Time       time.Time       `json:"time"`
}

// Entry is a recorded wish.
type Entry struct {
	Wish
	File string // its path
}

// ErrFull says that too many wishes wait.
var ErrFull = errors.New("too many wishes wait for the daemon")

// Record writes a wish; when it returns nil, a loss of power doesn't lose it. The directory is made
// where it is missing. Errors say what the disk said.
func Record(dir string, w Wish) (err error) {
	if err := makeDir(dir); err != nil {
		return fmt.Errorf("record a wish: %w", err)
	}
	root, err := open(dir, true)
	if err != nil {
		return fmt.Errorf("record a wish: %w", err)
	}
	defer root.Close()
	names, err := names(root)
	if err != nil {
		return fmt.Errorf("record a wish: %w", err)
	}
	if len(names) >= MaxCount {
		return fmt.Errorf("record a wish in %s: %w", dir, ErrFull)
	}
	b, err := json.Marshal(w)
	if err != nil {
		return fmt.Errorf("record a wish: %w", err)
	}
	if len(b) > MaxSize {
		return fmt.Errorf("record a wish: it has %d bytes, at most %d are taken", len(b), MaxSize)
	}
	f, err := os.CreateTemp(dir, ".wish-*")
	if err != nil {
		return fmt.Errorf("record a wish: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	// The number of the temporary file tells two wishes of one instant apart.
	name := after(names, w.Time).Format(stamp) + "-" + strings.TrimPrefix(filepath.Base(f.Name()), ".wish-") + suffix
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, name))
	}
	if err != nil {
		return fmt.Errorf("record a wish: %w", errors.Join(err, os.Remove(f.Name())))
	}
	if err := root.Sync(); err != nil {
		return fmt.Errorf("record a wish: %w", err)
	}
	return nil
}

// stamp begins a wish's name: names sort as wishes were recorded.
const stamp = "20060102T150405.000000000Z"

// after is the time by which a wish is named: its own, or behind the last that waits, for the clock may have been set back since.
func after(names []string, t time.Time) time.Time {
	t = t.UTC()
	for _, name := range names {
		at, _, _ := strings.Cut(name, "-")
		if last, err := time.Parse(stamp, at); err == nil && !t.After(last) {
			t = last.Add(1)
		}
	}
	return t
}

// makeDir makes the directory where it is missing, so that it is there after a loss of power, too.
func makeDir(dir string) error {
	if _, err := os.Lstat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Read gives the wishes that wait, the oldest first, and what is wrong with those that can't be
// believed; these stay where they are. A directory that isn't there holds none.
func Read(dir string) ([]Entry, []error) {
	root, err := open(dir, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, []error{fmt.Errorf("wishes: %w", err)}
	}
	defer root.Close()
	names, err := names(root)
	if err != nil {
		return nil, []error{fmt.Errorf("wishes: %w", err)}
	}
	var list []Entry
	var problems []error
	for _, name := range names {
		w, err := read(root, name)
		if err != nil {
			problems = append(problems, fmt.Errorf("wish %s: %w", filepath.Join(dir, name), err))
			continue
		}
		list = append(list, Entry{w, filepath.Join(dir, name)})
	}
	return list, problems
}

// Done removes a wish that was taken. When it returns nil, a loss of power doesn't bring it back: it would undo
// what was asked for since.
func (e Entry) Done() error {
	err := os.Remove(e.File)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = syncDir(filepath.Dir(e.File))
	}
	if err != nil {
		return fmt.Errorf("a wish that was taken stays: %w", err)
	}
	return nil
}

// Account is the user that the packages' daemon runs as.
const Account = "logforward"

// daemons tells whether a user is [Account].
func daemons(uid uint32) bool {
	u, err := user.Lookup(Account)
	return err == nil && u.Uid == strconv.FormatUint(uint64(uid), 10)
}

// open opens the directory, if nobody else can write in it. Root records in the directory of [Account], too, which
// can't give itself another's wishes by that: what root writes there stays root's, and the daemon believes nobody else.
func open(dir string, record bool) (*os.File, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	f := os.NewFile(uintptr(fd), dir)
	if err := trusted(f, false, record); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return f, nil
}

func names(dir *os.File) ([]string, error) {
	all, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(n string) bool { return strings.HasPrefix(n, ".") || !strings.HasSuffix(n, suffix) })
	slices.Sort(all)
	return all, nil
}

func read(dir *os.File, name string) (w Wish, err error) {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return w, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	if err := trusted(f, true, false); err != nil {
		return w, err
	}
	b, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	switch {
	case err != nil:
		return w, err
	case len(b) > MaxSize:
		return w, fmt.Errorf("it has more than %d bytes", MaxSize)
	}
	if err := json.Unmarshal(b, &w); err != nil {
		return w, fmt.Errorf("it can't be read: %w", err)
	}
	return w, nil
}

// trusted tells whether only root or this process's own user can have made what f is; for root that records, or [Account].
func trusted(f *os.File, file, record bool) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	switch {
	case file && !info.Mode().IsRegular():
		return errors.New("it is no regular file")
	case file && info.Sys().(*syscall.Stat_t).Nlink > 1:
		return errors.New("it has another name, too")
	case record && os.Geteuid() == 0 && daemons(info.Sys().(*syscall.Stat_t).Uid) && info.Mode().Perm()&0o022 == 0:
		return nil
	}
	return trust.Check(info)
}
