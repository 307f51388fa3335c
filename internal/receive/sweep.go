package receive

import (
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/klauspost/compress/zstd"
)

// compressions are the forms of closed files, by the setting's name.
var compressions = map[string]struct {
	ending string
	writer func(io.Writer) (io.WriteCloser, error)
}{
	"none": {},
	"gzip": {".gz", func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriterLevel(w, gzip.DefaultCompression) }},
	"zstd": {".zst", func(w io.Writer) (io.WriteCloser, error) {
		return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(1<<20))
	}},
}

// unfinished ends the name of a file that is being compressed.
const unfinished = "@new"

// sweep looks after closed files until ctx ends: compresses them, deletes what retention doesn't
// keep, and drops what was set aside and is central by now.
func (r *Receiver) sweep(ctx context.Context) error {
	for {
		if err := r.sweepOnce(ctx); err != nil && ctx.Err() == nil {
			if errors.Is(err, errStopped) {
				return err
			}
			r.logger.Error("closed files", "error", err)
		}
		if !sleep(ctx, r.config.Sweep) {
			return nil
		}
	}
}

func (r *Receiver) sweepOnce(ctx context.Context) error {
	r.sweeping.Lock()
	defer r.sweeping.Unlock()
	files, err := r.state.closedFiles()
	if err != nil {
		return err
	}
	output, err := r.outputName()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// What is below another output waits until that is back.
	maps.DeleteFunc(files, func(_ string, c *closed) bool { return c.Output != "" && c.Output != output || c.Untold })
	names := oldestFirst(files, r.now())
	names, err = r.expire(ctx, names, files)
	all := []error{err} // one file's trouble isn't the others'
	how := compressions[r.config.Compress]
	for _, name := range names {
		if errors.Is(errors.Join(all...), errStopped) || ctx.Err() != nil {
			break
		}
		switch c := files[name]; {
		case c.Compressed != "" && !r.swept:
			// A crash behind the compression may have left the plain file.
			if path := filepath.Join(r.config.Output, name); exists(path) && exists(filepath.Join(r.config.Output, c.Compressed)) {
				all = append(all, r.disk.remove(path))
			}
		case c.Compressed == "" && how.writer != nil:
			all = append(all, r.compress(ctx, name, c, how.ending, how.writer))
		}
	}
	r.swept = true
	if !r.config.leaveCuts {
		all = append(all, r.putBackAll(ctx))
	}
	all = append(all, r.dropCovered(ctx), r.doAsked(ctx))
	r.measureAside()
	return errors.Join(all...)
}

// compress replaces a closed file by a compressed one. Until the new one is synced and the state knows of
// it, the old one stays.
func (r *Receiver) compress(ctx context.Context, name string, c *closed, ending string, writer func(io.Writer) (io.WriteCloser, error)) error {
	path := filepath.Join(r.config.Output, name)
	src, err := openBelow(r.config.Output, name, os.O_RDONLY, 0, 0)
	if errors.Is(err, fs.ErrNotExist) {
		r.logger.Error("closed file is gone: somebody else removed it", "file", name)
		return r.state.put(opCompress, nil, map[string]*closed{name: nil})
	}
	if err != nil {
		return fmt.Errorf("compress: %w", err)
	}
	defer src.Close()
	err = r.disk.do(opCompress, func() (err error) {
		dst, err := openBelow(r.config.Output, name+ending+unfinished, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, r.config.FileMode, 0)
		if err != nil {
			return err
		}
		defer func() {
			if err2 := dst.Close(); err == nil {
				err = err2
			}
			if err != nil {
				os.Remove(dst.Name())
			}
		}()
		z, err := writer(dst)
		if err != nil {
			return err
		}
		n, err := io.Copy(z, &interruptible{ctx, src})
		if err2 := z.Close(); err == nil {
			err = err2
		}
		if err == nil && n != c.Size {
			err = fmt.Errorf("%s has %d bytes and %d were committed: it stays as it is", name, n, c.Size)
		}
		if err == nil {
			err = dst.Sync()
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("compress %s: %w", name, err)
	}
	if err := os.Rename(path+ending+unfinished, path+ending); err != nil {
		return fmt.Errorf("compress: %w", err)
	}
	if err := r.disk.syncDirs(map[string]bool{filepath.Dir(path): true}); err != nil {
		return err
	}
	c.Compressed = name + ending
	if err := r.state.put(opCompress, nil, map[string]*closed{name: c}); err != nil {
		return err
	}
	r.metrics.squeezed.Inc()
	return r.disk.remove(path)
}

// interruptible ends a long copy with its context.
type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (i *interruptible) Read(p []byte) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, err
	}
	return i.r.Read(p)
}

// oldestFirst orders closed files by age. Within a log their positions say which is older: the clock may have been set meanwhile.
func oldestFirst(files map[string]*closed, now time.Time) []string {
	names := slices.SortedFunc(maps.Keys(files), func(a, b string) int {
		x, y := files[a], files[b]
		return cmp.Or(strings.Compare(x.Key, y.Key), cmp.Compare(x.Epoch, y.Epoch), cmp.Compare(x.To, y.To), x.Time.Compare(y.Time), strings.Compare(a, b))
	})
	for i, name := range slices.Backward(names) {
		f := files[name]
		behind := now
		if i+1 < len(names) && files[names[i+1]].Key == f.Key {
			behind = files[names[i+1]].since
		}
		if f.since = f.Time; f.since.After(behind) {
			f.since = behind
		}
	}
	slices.SortStableFunc(names, func(a, b string) int { return files[a].since.Compare(files[b].since) })
	return names
}

// going is a closed file that is to be deleted when its ledger's line is committed.
type going struct {
	name, why string
	line      line
	p         *partition
}

// expire deletes what retention doesn't keep, and returns the names of what stays.
func (r *Receiver) expire(ctx context.Context, names []string, files map[string]*closed) ([]string, error) {
	c := &r.config
	perLog := make(map[string]int)
	away := make(map[*partition]bool) // these take no lines now
	var failed []error
	var total int64
	for _, name := range names {
		perLog[files[name].Key]++
		if c.RetainSize > 0 {
			total += r.sizeOnDisk(name, files[name])
		}
	}
	kept := names[:0:0]
	var due []going
	for _, name := range names {
		f := files[name]
		why := ""
		switch {
		case ctx.Err() != nil || r.now().Sub(f.Time).Abs() < 2*time.Second:
			// A name that is free again within its second could be given once more, and the ledger
			// would mean two files by it.
			kept = append(kept, name)
			continue
		case c.RetainAge > 0 && r.now().Sub(f.since) > c.RetainAge:
			why = "older than " + c.RetainAge.String()
		case c.RetainCount > 0 && perLog[f.Key] > c.RetainCount:
			why = "more than " + strconv.Itoa(c.RetainCount) + " files"
		case c.RetainSize > 0 && total > c.RetainSize:
			why = "more than " + strconv.FormatInt(c.RetainSize, 10) + " bytes in all"
		default:
			kept = append(kept, name)
			continue
		}
		// The line first: a crash in between says it twice, which does no harm. Between terms nobody
		// takes it, and the file stays until somebody does.
		e := Entry{Time: r.now(), Event: EventExpire, Epoch: f.Epoch, To: f.To, File: name, Size: f.Size, Cause: why}
		g := going{name: name, why: why, line: line{f.Key, e, make(chan error, 1)}}
		var taken bool
		if g.p, taken = r.noteExpired(ctx, away, g.line); !taken {
			kept = append(kept, name)
			continue
		}
		due = append(due, g)
		perLog[f.Key]--
		total -= r.sizeOnDisk(name, f)
	}
	until := time.Now().Add(expireWait + 2*c.CommitInterval)
	for _, g := range due {
		committed, full := r.awaitLine(ctx, g, until)
		if !committed && !full {
			kept = append(kept, g.name) // its line is said once more
			continue
		}
		if err := r.removeClosed(g.name); err != nil {
			failed = append(failed, err)
			continue
		}
		if full {
			g.line.kept = make(chan error, 1)
			r.noteExpired(ctx, away, g.line) // there is room for it now
		}
		r.metrics.expired.Inc()
		r.logger.Info("closed file expired", "file", g.name, "because", g.why)
	}
	return kept, errors.Join(failed...)
}

// expireWait is how long it is waited for the commits of what expires, beside what they need anyway.
const expireWait = 5 * time.Second

// awaitLine waits until an expired file's line is committed. On a full disk that may need the room which the file has: there it goes first, and a crash
// right then leaves nobody to say where it went.
func (r *Receiver) awaitLine(ctx context.Context, g going, until time.Time) (committed, full bool) {
	for {
		select {
		case err := <-g.line.kept:
			return err == nil, errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
		case <-ctx.Done():
			return false, false
		case <-time.After(min(50*time.Millisecond, max(0, time.Until(until)))):
		}
		r.mu.Lock()
		full = g.p != nil && r.stalls[g.p.n] != nil
		r.mu.Unlock()
		if full || !time.Now().Before(until) {
			return false, full
		}
	}
}

// removeClosed deletes a closed file in whatever form it is there: a crash while it was compressed
// may have left two.
func (r *Receiver) removeClosed(name string) error {
	path := filepath.Join(r.config.Output, name)
	for _, how := range compressions {
		for _, end := range []string{"", unfinished} {
			if path := path + how.ending + end; exists(path) {
				if err := r.disk.remove(path); err != nil {
					return err
				}
			}
		}
	}
	if err := r.disk.syncDirs(map[string]bool{filepath.Dir(path): true}); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return r.state.put(opRemove, nil, map[string]*closed{name: nil})
}

// noteExpired hands a ledger line to the log's partition, unless it is between terms.
func (r *Receiver) noteExpired(ctx context.Context, away map[*partition]bool, l line) (p *partition, taken bool) {
	identity, _, err := splitKey(l.key)
	if err != nil {
		l.kept <- nil
		return nil, true // nobody's
	}
	r.mu.Lock()
	if r.serving {
		p = r.partitions[r.partitionOf(identity)]
	}
	r.mu.Unlock()
	if p == nil || away[p] {
		return nil, false
	}
	select {
	case p.lines <- l:
		return p, true
	case <-time.After(5 * time.Second):
	case <-ctx.Done():
	}
	away[p] = true
	return nil, false
}

func (r *Receiver) sizeOnDisk(name string, c *closed) int64 {
	if c.Compressed != "" {
		name = c.Compressed
	}
	if st, err := os.Lstat(filepath.Join(r.config.Output, name)); err == nil {
		return st.Size()
	}
	return 0
}
