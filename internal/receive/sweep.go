package receive

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
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
	files, err := r.state.closedFiles()
	if err != nil {
		return err
	}
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	// Oldest first; names decide between files of one second.
	slices.SortFunc(names, func(a, b string) int {
		if c := files[a].Time.Compare(files[b].Time); c != 0 {
			return c
		}
		return strings.Compare(a, b)
	})
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
	return errors.Join(append(all, r.dropCovered(ctx))...)
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
	for _, name := range names {
		f := files[name]
		why := ""
		switch {
		case ctx.Err() != nil || r.now().Sub(f.Time) < 2*time.Second:
			// A name that is free again within its second could be given once more, and the ledger
			// would mean two files by it.
			kept = append(kept, name)
			continue
		case c.RetainAge > 0 && r.now().Sub(f.Time) > c.RetainAge:
			why = "older than " + c.RetainAge.String()
		case c.RetainCount > 0 && perLog[f.Key] > c.RetainCount:
			why = "more than " + strconv.Itoa(c.RetainCount) + " files"
		case c.RetainSize > 0 && total > c.RetainSize:
			why = "more than " + strconv.FormatInt(c.RetainSize, 10) + " bytes in all"
		default:
			kept = append(kept, name)
			continue
		}
		size := r.sizeOnDisk(name, f)
		// The line first: a crash in between says it twice, which does no harm. Between terms nobody
		// takes it, and the file stays until somebody does.
		if !r.noteExpired(ctx, away, f.Key, Entry{Time: r.now(), Event: EventExpire, Epoch: f.Epoch, To: f.To, File: name, Size: f.Size, Cause: why}) {
			kept = append(kept, name)
			continue
		}
		if err := r.removeClosed(name); err != nil {
			failed = append(failed, err)
			continue
		}
		perLog[f.Key]--
		total -= size
		r.metrics.expired.Inc()
		r.logger.Info("closed file expired", "file", name, "because", why)
	}
	return kept, errors.Join(failed...)
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
func (r *Receiver) noteExpired(ctx context.Context, away map[*partition]bool, key string, e Entry) bool {
	identity, _, err := splitKey(key)
	if err != nil {
		return true // nobody's
	}
	r.mu.Lock()
	var p *partition
	if r.serving {
		p = r.partitions[r.partitionOf(identity)]
	}
	r.mu.Unlock()
	if p == nil || away[p] {
		return false
	}
	select {
	case p.lines <- line{key, e}:
		return true
	case <-time.After(5 * time.Second):
	case <-ctx.Done():
	}
	away[p] = true
	return false
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
