package receive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/nats-io/nuid"

	"logforward/internal/broker"
	"logforward/internal/chunk"
)

// What was set aside is put back where it turns out to be the only copy: positions of the log that its record has left behind, which no receiver's
// range and no file of this one holds, and a digest of those who have gone on behind them proves that they read the same bytes there. It becomes
// a closed file of its own, by the steps of a commit:
//
//	step     what it does                                           a crash right after it
//	name     the note says which file it will be                    what there is of the file is made anew
//	write    copy, compare with the digest, sync, sync directories  the same
//	prepare  the note says "on disk"                                it goes on from here
//	line     the ledger says it, and is committed                   said once more, and read once
//	record   compare-and-set: the record names the range            it is there already
//	commit   the state knows the closed file                        the bytes set aside are dropped as central
//
// A gap's end has no digest that could prove what was before it. So what a node has declared lost is never put back by this: it may
// have sent the same bytes again, at other positions.

// putBack is a part of a piece that becomes a central file.
type putBack struct {
	asidePiece
	File     string    `json:"file"` // below the output; free when it was chosen
	Time     time.Time `json:"time"`
	Prepared bool      `json:"prepared,omitempty"` // it is on disk, whole
	Done     bool      `json:"done,omitempty"`     // and committed
}

// maxPieces is how many runs a note tells of. Where there are more, nothing is put back by itself.
const maxPieces = 1000

// putBackAll puts back what nobody else has.
func (r *Receiver) putBackAll(ctx context.Context) error {
	paths, err := filepath.Glob(filepath.Join(r.config.State, "cut", "*", "*"))
	if err != nil || len(paths) == 0 {
		return err
	}
	records, err := r.openRecords(ctx)
	if err != nil {
		r.logger.Debug("what was set aside isn't looked after now", "error", err)
		return nil
	}
	var all []error
	for _, path := range paths {
		n := noteOf(path)
		if err := n.read(); err != nil {
			continue // an older version set it aside, or the note is lost
		}
		if err := r.putBack(ctx, records, n); errors.Is(err, errStopped) || ctx.Err() != nil {
			return err
		} else if err != nil {
			all = append(all, fmt.Errorf("put back %s: %w", path, err))
		}
	}
	return errors.Join(all...)
}

// putBack goes on with what is on its way, and then looks what else is missing.
func (r *Receiver) putBack(ctx context.Context, records *broker.Records, n *asideNote) error {
	for _, b := range n.Back {
		if !b.Done {
			if err := r.finishBack(ctx, records, n, b); err != nil {
				return err
			}
		}
	}
	missing, err := r.missing(ctx, records, n)
	if err != nil && !errors.Is(err, errUndecided) {
		return err
	}
	if len(missing) == 0 {
		return nil
	}
	identity, name, err := splitKey(n.key)
	if err != nil {
		return err
	}
	for _, m := range missing {
		now := r.now()
		file, err := r.free(func(int) string { return r.naming.backName(identity, name, now) })
		if err != nil {
			return err
		}
		b := &putBack{asidePiece: m, File: file, Time: now}
		n.Back = append(n.Back, b)
		if err := r.disk.do(opBackName, n.write); err != nil {
			return err
		}
		if err := r.finishBack(ctx, records, n, b); err != nil {
			return err
		}
	}
	return nil
}

// finishBack carries one part through the steps, from where it is.
func (r *Receiver) finishBack(ctx context.Context, records *broker.Records, n *asideNote, b *putBack) error {
	if b.Prepared {
		is, err := r.state.isClosed(b.File)
		if err != nil {
			return err
		}
		if is { // committed; what became of it since isn't for here
			b.Done = true
			return n.write()
		}
		if err := checkName(r.config.Output, b.File, nil, int64(b.To-b.From)); errors.Is(err, errDamagedFile) {
			b.Prepared = false // somebody took it away
		} else if err != nil {
			return err
		}
	}
	if !b.Prepared {
		if err := r.disk.do(opBackWrite, func() error { return r.writeBack(n, b) }); err != nil {
			return err
		}
		b.Prepared = true
		if err := r.disk.do(opBackPrepare, n.write); err != nil {
			b.Prepared = false
			return err
		}
	}
	size := int64(b.To - b.From)
	e := Entry{Time: b.Time, Event: EventBack, Epoch: b.Epoch, From: b.From, To: b.To, File: b.File, Size: size, Cause: "the only copy was set aside, and is put back", Digest: &b.Before, After: &b.After}
	lines := []Entry{e}
	for _, g := range n.Gaps { // what proves the bytes behind it proves that it was there
		if g.Epoch == b.Epoch && g.To == b.From {
			g.File, g.Offset = b.File, 0
			lines = append([]Entry{g}, lines...)
		}
	}
	for _, e := range lines {
		if err := r.disk.do(opBackLine, func() error { return r.lineBack(ctx, line{n.key, e, make(chan error, 1)}) }); err != nil {
			return err
		}
	}
	if err := r.disk.do(opBackRecord, func() error { return r.recordBack(ctx, records, n, b) }); err != nil {
		return err
	}
	output, err := r.outputName()
	if err != nil {
		return err
	}
	c := &closed{Key: n.key, Size: size, Time: b.Time, Epoch: b.Epoch, To: b.To, Output: output}
	if err := r.state.put(opBackCommit, nil, map[string]*closed{b.File: c}); err != nil {
		return err
	}
	b.Done = true
	r.logger.Warn("bytes that were set aside are the only copy, and are central again", "key", n.key, "epoch", b.Epoch, "from", b.From, "to", b.To, "file", b.File)
	return n.write()
}

// writeBack makes the central file.
func (r *Receiver) writeBack(n *asideNote, b *putBack) (err error) {
	src, err := os.Open(n.bytes)
	if err != nil {
		return err
	}
	defer src.Close()
	path := filepath.Join(r.config.Output, b.File)
	// The note has named it, and nothing is committed to it: what is there is of an attempt that a crash ended.
	if err := r.disk.remove(path); err != nil {
		return err
	}
	f, err := r.create(b.File)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := &summingWriter{w: f, digest: b.Before}
	size := int64(b.To - b.From)
	if m, err := io.Copy(w, io.NewSectionReader(src, b.Offset, size)); err != nil {
		return err
	} else if m != size || w.digest != b.After {
		return fmt.Errorf("%s: other bytes than were set aside", n.bytes)
	}
	if err := r.disk.sync(f); err != nil {
		return err
	}
	dirs := make(map[string]bool)
	for d := filepath.Dir(b.File); ; d = filepath.Dir(d) {
		dirs[filepath.Join(r.config.Output, d)] = true
		if d == "." {
			break
		}
	}
	if err := r.disk.syncDirs(dirs); err != nil {
		return err
	}
	return checkName(r.config.Output, b.File, f, size)
}

type summingWriter struct {
	w      io.Writer
	digest chunk.Digest
}

func (s *summingWriter) Write(b []byte) (int, error) {
	n, err := s.w.Write(b)
	s.digest = s.digest.Update(b[:n])
	return n, err
}

// recordBack has the record name the range. Whoever works the log notices by its next compare-and-set, and begins anew.
func (r *Receiver) recordBack(ctx context.Context, records positions, n *asideNote, b *putBack) error {
	for try := 0; ; try++ {
		value, revision, err := records.Get(ctx, n.key)
		if err != nil {
			return err
		}
		rec, err := parseRecord(value)
		if err != nil {
			return err
		}
		if !rec.giveBack(r.config.Name, b) {
			return nil
		}
		rec.Writer, rec.Commit = r.config.Name+"/back/"+nuid.Next(), 1
		if value, err = rec.bytes(); err != nil {
			return err
		}
		_, err = update(ctx, records, n.key, value, revision)
		if !errors.Is(err, broker.ErrWrongRevision) || try == 10 {
			return err
		}
	}
}

// lineBack has the log's partition write the ledger's line, and waits until it is committed.
func (r *Receiver) lineBack(ctx context.Context, l line) error {
	if _, taken := r.noteExpired(ctx, make(map[*partition]bool), l); !taken {
		return errors.New("the log's partition is between terms")
	}
	select {
	case err := <-l.kept:
		return err
	case <-time.After(expireWait + 2*r.config.CommitInterval):
		return errors.New("the ledger's line isn't committed yet")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// giveBack adds a range that was put back, in the order of positions. It tells whether the record has changed.
func (r *record) giveBack(receiver string, b *putBack) bool {
	s := span{Receiver: receiver, File: b.File, Epoch: b.Epoch, From: b.From, To: b.To, Since: b.Time.UTC(), Digest: &b.Before, Back: true}
	if slices.ContainsFunc(r.Ranges, func(o span) bool {
		return o.Back && o.Receiver == receiver && o.Epoch == s.Epoch && o.From == s.From && o.To == s.To && o.File == s.File
	}) {
		return false
	}
	r.merge([]span{s})
	return true
}
