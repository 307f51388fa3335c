package receive

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"logforward/internal/broker"
)

// What was set aside and isn't proved is an operator's to decide. State and output have one writer, the receiver: so it is asked, by a file below "asked" in
// its state directory, and does it at its next look after closed files. Asked while it is stopped, it does it when it is started again.
//
//	step    keep                                                    drop                a crash right after it
//	name    the request says which file it will be                                      what there is of the file is made anew
//	write   copy, sync, sync directories                                                the same
//	line    the ledger says it, and is committed                    the same            said once more
//	remove  what was set aside, and then the request                the same            the request is dropped
//
// What is kept becomes no part of the log: no range names it, cat and verify don't read it, and retention leaves it alone.

// Events of a ledger that stand for an operator's decision. Readers of positions ignore them.
const (
	EventKept    = "kept"    // what was set aside is the whole of File, beside the log's: nothing proves that it belongs to From and To
	EventDropped = "dropped" // what was set aside was deleted
)

// Actions of an [AsideRequest].
const (
	AsideKeep = "keep" // make a file beside the log's of it
	AsideDrop = "drop" // delete it
)

// AsideRequest is what an operator wants to become of what was set aside.
type AsideRequest struct {
	Action string    `json:"action"`         // keep or drop
	By     string    `json:"by"`             // who asks
	Reason string    `json:"reason"`         // for the ledger
	Time   time.Time `json:"time"`           // when it was asked
	File   string    `json:"file,omitempty"` // keep: below the output, as the receiver has chosen
}

// ErrAsked: something was asked of it already, and isn't done yet.
var ErrAsked = errors.New("is asked already")

// maxWords bounds By and Reason, in bytes.
const maxWords = 512

func (q *AsideRequest) check() error {
	if q.Action != AsideKeep && q.Action != AsideDrop {
		return fmt.Errorf("action %.40q is neither %s nor %s", q.Action, AsideKeep, AsideDrop)
	}
	for what, s := range map[string]string{"by": q.By, "reason": q.Reason} {
		switch {
		case strings.TrimSpace(s) == "":
			return fmt.Errorf("%s is empty: the ledger is to say who and why", what)
		case len(s) > maxWords:
			return fmt.Errorf("%s of %d bytes; at most %d", what, len(s), maxWords)
		case strings.ContainsFunc(s, func(r rune) bool { return r == unicode.ReplacementChar || !unicode.IsPrint(r) }):
			return fmt.Errorf("%s %.40q has characters that can't be printed", what, s)
		}
	}
	return nil
}

// askedPath is where the request for what was set aside under a path is.
func askedPath(path string) string {
	dir, name := filepath.Split(path) // <state>/cut/<identity>/<name>
	state := filepath.Dir(filepath.Dir(filepath.Clean(dir)))
	return filepath.Join(state, "asked", filepath.Base(dir), name)
}

// AskAside leaves a request for a receiver, about what [ListSetAside] gave the path of. It is on disk when it returns. The error wraps [ErrAsked] where there
// is one already.
func AskAside(stateDir, path string, q AsideRequest) error {
	if err := q.check(); err != nil {
		return err
	}
	q.File = ""
	all, err := ListSetAside(stateDir)
	if !slices.ContainsFunc(all, func(a SetAside) bool { return a.Path == path }) {
		return errors.Join(fmt.Errorf("%s isn't set aside", path), err)
	}
	b, err := json.Marshal(&q)
	if err != nil {
		return err
	}
	// Below the state and nowhere else: its owner could have put a link there, and root may be asking.
	root, err := os.OpenRoot(stateDir)
	if err != nil {
		return err
	}
	defer root.Close()
	at, err := filepath.Rel(stateDir, askedPath(path))
	if err != nil {
		return err
	}
	owner, err := root.Stat(".")
	if err != nil {
		return err
	}
	dir, above := filepath.Dir(at), "."
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := ownDir(root, above, d, owner); err != nil {
			return err
		}
		above = d
	}
	name := filepath.Join(dir, "new-"+rand.Text())
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer root.Remove(name)
	_, err = f.Write(b)
	if err == nil {
		err = handOver(f, owner)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = root.Link(name, at) // whole, or not at all, and never over another one
	}
	if errors.Is(err, fs.ErrExist) {
		if old, err := readAsked(askedPath(path)); err == nil {
			return fmt.Errorf("%s %w: to %s it, by %s at %s", path, ErrAsked, old.Action, old.By, old.Time.UTC().Format(time.RFC3339))
		}
		return fmt.Errorf("%s %w", path, ErrAsked)
	}
	if err != nil {
		return err
	}
	return syncIn(root, dir)
}

// ownDir makes a directory below a state directory, where it isn't there.
func ownDir(root *os.Root, above, name string, owner fs.FileInfo) error {
	if err := root.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	d, err := root.OpenFile(name, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := handOver(d, owner); err != nil {
		return err
	}
	return syncIn(root, above)
}

func syncIn(root *os.Root, name string) error {
	d, err := root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// handOver gives what root has made below a state directory to who owns that: the receiver must read and remove it.
func handOver(f *os.File, owner fs.FileInfo) error {
	st, ok := owner.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return f.Chown(int(st.Uid), int(st.Gid))
}

func readAsked(path string) (*AsideRequest, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return nil, err
	}
	q := new(AsideRequest)
	if err := json.Unmarshal(b, q); err != nil {
		return nil, err
	}
	return q, q.check()
}

// doAsked does what operators have asked for. What a proof would put back waits for that, and is never dropped.
func (r *Receiver) doAsked(ctx context.Context) error {
	paths, err := fs.Glob(os.DirFS(r.config.State), "asked/*/*")
	if err != nil || len(paths) == 0 {
		return err
	}
	records, err := r.openRecords(ctx)
	if err != nil {
		r.logger.Debug("what is asked of what was set aside waits", "error", err)
		return nil
	}
	var all []error
	for _, path := range paths {
		if !strings.Contains(filepath.Base(path), "@") {
			continue // of somebody who asks now, or was killed; a log may be called new-1, too, but what was set aside of it isn't
		}
		at, bytes := filepath.Join(r.config.State, path), filepath.Join("cut", strings.TrimPrefix(path, "asked/"))
		if err := r.doOne(ctx, records, at, bytes); errors.Is(err, errStopped) || ctx.Err() != nil {
			return err
		} else if err != nil {
			all = append(all, fmt.Errorf("what is asked by %s isn't done yet: %w", at, err))
		}
	}
	return errors.Join(all...)
}

// doOne does what the request at a path says. bytes are what was set aside, below the state directory.
func (r *Receiver) doOne(ctx context.Context, records *broker.Records, at, bytes string) error {
	q, err := readAsked(at)
	if err != nil {
		return fmt.Errorf("%w; remove it, and ask again", err)
	}
	key, c, ok := parseAside(bytes)
	if !ok {
		return errors.New("not the name of what a receiver sets aside; remove it")
	}
	path := filepath.Join(r.config.State, bytes)
	src, err := openBelow(r.config.State, bytes, os.O_RDONLY, 0, 0)
	if errors.Is(err, fs.ErrNotExist) {
		r.logger.Warn("what was asked of what was set aside isn't needed any more: it is central by now, or it is done", "file", path, "action", q.Action, "by", q.By)
		return removeAsked(at)
	}
	if err != nil {
		return err
	}
	defer src.Close()
	st, err := src.Stat()
	if err != nil {
		return err
	}
	n := noteOf(path)
	if err := n.read(); err == nil {
		if slices.ContainsFunc(n.Back, func(b *putBack) bool { return !b.Done }) {
			return errors.New("a part of it is being put back")
		}
		missing, err := r.missing(ctx, records, n)
		if len(missing) > 0 {
			return errors.New("it is proved to be the only copy, and put back by itself")
		}
		if err != nil {
			return err
		}
		if len(n.Pieces) > 0 && n.Pieces[0].Epoch == c.epoch {
			c.from = n.Pieces[0].From
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	e := Entry{Time: q.Time, Event: EventDropped, Epoch: c.epoch, From: c.from, To: c.to, Size: st.Size(), Cause: q.Reason, By: q.By}
	if q.Action == AsideKeep {
		e.Event = EventKept
		if e.File, err = r.keepAside(at, q, key, src); err != nil {
			return err
		}
	}
	if err := r.disk.do(opAskedLine, func() error { return r.tellAsked(ctx, key, e) }); err != nil {
		return err
	}
	if err := r.disk.do(opAskedRemove, func() error {
		err := dropNote(path) // first: nothing else would look for it
		if err == nil {
			err = os.Remove(path)
		}
		if err == nil {
			err = syncDir(filepath.Dir(path)) // else it could come back, and nobody would know what was asked of it
		}
		return err
	}); err != nil {
		return err
	}
	r.logger.Warn("what was set aside is done with, as an operator has asked", "file", path, "action", q.Action, "by", q.By, "reason", q.Reason, "kept", e.File, "bytes", st.Size())
	return removeAsked(at)
}

// keepAside makes the file beside the log's.
func (r *Receiver) keepAside(at string, q *AsideRequest, key string, src *os.File) (string, error) {
	identity, name, err := splitKey(key)
	if err != nil {
		return "", err
	}
	if q.File == "" {
		if q.File, err = r.free(func(int) string { return r.naming.keptName(identity, name, q.Time) }); err != nil {
			return "", err
		}
		if err := r.disk.do(opAskedName, func() error { return q.write(at) }); err != nil {
			return "", err
		}
	}
	if !r.naming.isKept(q.File, identity, name) { // the request is a file, that somebody may have changed
		return "", fmt.Errorf("%.100q is no name for it; remove the request, and ask again", q.File)
	}
	return q.File, r.disk.do(opAskedWrite, func() (err error) {
		// What is there is of an attempt that ended before what was set aside was removed.
		if err := r.disk.remove(filepath.Join(r.config.Output, q.File)); err != nil {
			return err
		}
		f, err := r.create(q.File)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		size, err := io.Copy(f, src)
		if err == nil {
			err = r.disk.sync(f)
		}
		if err != nil {
			return err
		}
		dirs := make(map[string]bool)
		for d := filepath.Dir(q.File); ; d = filepath.Dir(d) {
			dirs[filepath.Join(r.config.Output, d)] = true
			if d == "." {
				break
			}
		}
		if err := r.disk.syncDirs(dirs); err != nil {
			return err
		}
		return checkName(r.config.Output, q.File, f, size)
	})
}

// tellAsked has the log's ledger say what was decided, and makes sure that it does.
func (r *Receiver) tellAsked(ctx context.Context, key string, e Entry) error {
	if err := r.lineBack(ctx, line{key, e, make(chan error, 1)}); err != nil {
		return err
	}
	lo, err := r.state.log(key)
	if err != nil {
		return err
	}
	if lo != nil && lo.LedgerFile != "" {
		entries, err := Ledger(filepath.Join(r.config.Output, lo.LedgerFile))
		if err != nil {
			return err
		}
		if slices.ContainsFunc(entries, func(o Entry) bool {
			return o.Event == e.Event && o.Epoch == e.Epoch && o.To == e.To && o.File == e.File && o.By == e.By && o.Time.Equal(e.Time)
		}) {
			return nil
		}
	}
	return errors.New("this receiver has no ledger of the log that could say so; it has one when it next receives something of it")
}

// write replaces the request, which is on disk when it returns.
func (q *AsideRequest) write(path string) error {
	b, err := json.Marshal(q)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return err
	}
	return syncDir(filepath.Dir(path))
}

func removeAsked(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(filepath.Dir(path))
}

const keptMark = "@kept-"

// keptName is a name for what an operator keeps of what was set aside. Chance makes it unique, as that of [naming.backName].
func (n *naming) keptName(identity, log string, t time.Time) string {
	return n.fill(n.stem, identity, log, t) + "@" + n.receiver + keptMark + rand.Text()[:12] + n.ext
}

// isKept tells whether a name is one that keptName gives for a log.
func (n *naming) isKept(name, identity, log string) bool {
	stem, mark, ok := strings.Cut(name, "@"+n.receiver+keptMark)
	mark, hasExt := strings.CutSuffix(mark, n.ext)
	return ok && hasExt && len(mark) == 12 && !strings.ContainsFunc(mark, func(r rune) bool { return !unicode.IsUpper(r) && !unicode.IsDigit(r) }) &&
		filepath.IsLocal(name) && filepath.Clean(name) == name && slices.Contains(strings.Split(stem, "/"), pathName(identity)) && strings.Contains(filepath.Base(stem), pathName(log))
}
