package main

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
	"slices"
	"strings"
	"time"

	"logforward/internal/beat"
	"logforward/internal/control"
	"logforward/internal/tail"
	"logforward/internal/wish"
)

// wishesEvery is how often the directory of wishes is looked at: they wait only where the daemon was away.
const wishesEvery = time.Second

// firstWishes is how long the socket waits for the wishes that are there when the daemon starts.
const firstWishes = 10 * time.Second

// wishes takes what operators asked for while no daemon ran.
type wishes struct {
	dir    string
	server *control.Server
	beat   *beat.Beat // when the directory is looked at
	// watcher tells of changes in it; nil: it is looked at each second.
	watcher *tail.Watcher
	rest    time.Duration   // between two looks where events tell of all changes; 0: some seconds
	looked  func(rest bool) // called each time that it begins to wait, for tests; nil: nobody asks
	log     *slog.Logger
	seen    time.Time       // the directory's last change that was looked at
	said    map[string]bool // problems that the log has already
	// taken are those whose files couldn't be removed: once is enough.
	taken map[string]bool
	late  map[string]delay // those whose paths couldn't be looked at, by file
}

// first takes the wishes that are there before the socket is open: what is asked for there is younger, and must not be
// undone by them. A slow disk must not keep the socket shut, so the rest is left to run after a while.
func (w *wishes) first(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, firstWishes)
	defer cancel()
	w.look(ctx)
}

// run takes the wishes that come, until ctx ends.
func (w *wishes) run(ctx context.Context) error {
	tick := beat.NewTicker(w.beat, wishesEvery)
	defer tick.Stop()
	changed := make(chan struct{}, 1)
	dir := watched(w.watcher, w.dir, changed)
	defer dir.Close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			w.look(ctx)
		case <-changed: // by the next tick it is written
		}
		rest := dir.Sure() && w.rests()
		if rest {
			tick.Reset(cmp.Or(w.rest, beat.AtRest*wishesEvery))
		} else {
			tick.Reset(wishesEvery)
		}
		if w.looked != nil {
			w.looked(rest)
		}
	}
}

// rests tells whether there was nothing at the last look, and nothing has come since.
func (w *wishes) rests() bool {
	info, err := os.Stat(w.dir)
	return errors.Is(err, fs.ErrNotExist) || err == nil && info.ModTime().Equal(w.seen)
}

// watched has a channel written to when something happens in a directory.
func watched(w *tail.Watcher, dir string, changed chan<- struct{}) *tail.Directory {
	path, err := filepath.Abs(dir)
	if err != nil {
		return nil
	}
	return w.Directory(path, true, func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
}

// look takes all wishes in their order. One whose path can't be looked at, for a file system is away, is tried again later, and holds
// up those that its outcome could matter to.
func (w *wishes) look(ctx context.Context) {
	info, err := os.Stat(w.dir)
	if err != nil || info.ModTime().Equal(w.seen) {
		return
	}
	entries, problems := wish.Read(w.dir)
	for _, p := range problems {
		if w.said == nil {
			w.said = map[string]bool{}
		}
		if !w.said[p.Error()] {
			w.said[p.Error()] = true
			w.log.Warn("a wish isn't taken", "error", p)
		}
	}
	var waiting []matter
	late := map[string]delay{}
	defer func() { w.late = late }()
	for i, e := range entries {
		if w.taken[e.File] {
			continue
		}
		m := matterOf(e)
		d, tried := w.late[e.File]
		if tried {
			late[e.File] = d
		}
		if time.Now().Before(d.next) || slices.ContainsFunc(waiting, m.touches) {
			waiting = append(waiting, m)
			continue
		}
		err := w.take(ctx, e)
		if errors.Is(err, control.ErrTimeout) && ctx.Err() == nil && len(late) < maxLate {
			late[e.File] = d.longer()
			waiting = append(waiting, m)
			if !tried {
				w.log.Warn("a wish has to wait, and others of its log with it", "file", e.File, "error", err)
			}
			continue
		}
		if err != nil {
			w.log.Error("a wish has to wait, and all behind it", "file", e.File, "error", err)
			for _, e := range entries[i:] { // when they are tried again stays as it was
				if d, ok := w.late[e.File]; ok {
					late[e.File] = d
				}
			}
			return
		}
		delete(late, e.File)
		if err := e.Done(); err != nil {
			if w.taken == nil {
				w.taken = map[string]bool{}
			}
			w.taken[e.File] = true
			w.log.Error("a wish that was taken would be taken again by the next daemon", "file", e.File, "error", err)
		}
	}
	// A problem may be mended without a change of the directory; one that comes in the same step of the file
	// system's clock doesn't change the directory's time.
	if len(entries) == 0 && len(problems) == 0 && time.Since(info.ModTime()) >= wishesEvery {
		w.seen = info.ModTime()
	}
}

// A wish whose path can't be looked at costs some seconds, a line in the audit log, and a thread as long as the file system is away.
const (
	firstDelay = 5 * time.Second
	mostDelay  = time.Minute
	maxLate    = 100 // more hold up all behind them
)

// delay is when a wish is tried again, and how long that is put off.
type delay struct {
	next time.Time
	by   time.Duration
}

func (d delay) longer() delay {
	d.by = min(max(2*d.by, firstDelay), mostDelay)
	d.next = time.Now().Add(d.by)
	return d
}

// matter is what a wish is about.
type matter struct {
	verb, log, path string
	all             bool
}

// matterOf reads it; what can't be read may be about anything.
func matterOf(e wish.Entry) matter {
	var r struct {
		Log  string `json:"log"`
		Path string `json:"path"`
		All  bool   `json:"all"`
	}
	if err := json.Unmarshal(e.Body, &r); err != nil || r.Log == "" {
		return matter{verb: e.Verb, all: true}
	}
	return matter{e.Verb, r.Log, r.Path, r.All}
}

// touches tells whether it matters which of two wishes is done first. A pause or resume of all ends pauses of logs and exceptions, and has
// nothing to do with the rest: it means logs to come, too.
func (m matter) touches(n matter) bool {
	switch {
	case m.all && n.all:
		return true
	case m.all:
		return n.verb == control.VerbPause || n.verb == control.VerbResume
	case n.all:
		return n.touches(m)
	case m.path != "" && m.path == n.path, m.log == n.log:
		return true
	}
	// A glob's name means all of its logs.
	return strings.HasPrefix(m.log, n.log+".") || strings.HasPrefix(n.log, m.log+".")
}

// take does what a wish asks for. What can't be done now, but may be later, is an error.
func (w *wishes) take(ctx context.Context, e wish.Entry) error {
	caller := control.Caller{UID: os.Geteuid(), GID: os.Getegid(), Name: e.Caller, RequestID: e.RequestID, Collective: e.Collective, TTL: e.TTL, Route: control.RouteWish}
	log := w.log.With("verb", e.Verb, "caller", e.Caller, "request", e.RequestID, "asked", e.Time)
	body, err := remaining(e.Body, time.Since(e.Time))
	if err != nil {
		log.Warn("a wish was refused", "error", err)
		return nil
	}
	reply, err := w.server.Apply(ctx, caller, e.Verb, body)
	switch {
	case err == nil:
		log.Info("a wish was taken", "message", reply.Message)
	case errors.Is(err, control.ErrTimeout), errors.Is(err, control.ErrInternal), errors.Is(err, control.ErrBusy), ctx.Err() != nil:
		return err
	default:
		log.Warn("a wish was refused", "error", err)
	}
	return nil
}

// remaining is a request as it is some time after it was made: what is left of its "for".
func remaining(body []byte, passed time.Duration) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return nil, fmt.Errorf("the request can't be read: %w", err)
	}
	raw, ok := fields["for"]
	if !ok {
		return body, nil
	}
	var d control.Duration
	if err := json.Unmarshal(raw, &d); err != nil {
		return nil, err
	}
	if d == 0 {
		return body, nil
	}
	left := time.Duration(d) - max(passed, 0)
	if left <= 0 {
		return nil, fmt.Errorf("its time was over before the daemon ran (for %s)", d)
	}
	// In whole seconds, never longer than it was: policies read it, too.
	left = min(left.Truncate(time.Second)+time.Second, time.Duration(d))
	fields["for"], _ = json.Marshal(control.Duration(left)) // a text
	return json.Marshal(fields)
}
