package receive

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// overdue is how far beyond its size limit a file may grow while it waits for a line's end.
const overdue = 64 << 20

// mustRotate tells whether a file must be closed before more is appended: its size or period is
// full, or the pattern gives another name now. Only at a line's end, unless that doesn't come.
func (p *partition) mustRotate(l *log, now time.Time) bool {
	f, c := l.file, &p.r.config
	if f == nil || f.size == 0 {
		return false
	}
	full := c.RotateSize > 0 && f.size >= c.RotateSize
	if c.RotateEvery > 0 && now.Truncate(c.RotateEvery).After(f.opened) {
		full = true
	}
	if !full && (!p.r.naming.timed || p.r.naming.base(l.identity, l.name, now) == f.base) {
		return false
	}
	if f.unread {
		if _, err := p.open.use(f); err != nil {
			return false // the append meets it, too
		}
	}
	return f.newline || c.RotateSize > 0 && f.size >= c.RotateSize+overdue
}

// holdForClose stops a log until the next commit has closed its file.
func (p *partition) holdForClose(l *log) {
	l.hold, l.rotate = forClose, true
	p.touch(l)
	p.urgent = true
}

// planClose chooses the final name of a file that the coming commit completes.
func (p *partition) planClose(l *log, now time.Time) (*closing, error) {
	c := &closing{From: l.file.name, Epoch: l.cur.Epoch, Pos: l.cur.Position, Size: l.file.size, Time: now}
	if digest := l.cur.Digest; l.from != unplaced {
		c.Digest = &digest
	}
	if p.r.naming.base(l.identity, l.name, now) != l.file.base {
		c.To = c.From // the next one has another name anyway
		return c, nil
	}
	var err error
	c.To, err = p.r.free(func(i int) string { return p.r.naming.closedName(c.From, now, i) })
	if err != nil {
		return nil, fmt.Errorf("name for closed file %s: %w", c.From, err)
	}
	return c, nil
}

// finishCloses gives the files that a commit has closed their final names.
func (r *Receiver) finishCloses(items []*item) error {
	dirs := make(map[string]bool)
	for _, it := range items {
		if it.closing == nil {
			continue
		}
		if err := r.disk.do(opClose, func() error { return r.renameClosed(it.closing, dirs) }); err != nil {
			return err
		}
	}
	if len(dirs) > fewFiles && r.syncfs != nil {
		if err := r.syncfs.sync(); err != nil {
			return err
		}
		dirs = map[string]bool{r.config.Output: true}
	}
	return r.disk.syncDirs(dirs)
}

// finishClose gives one closed file its final name.
func (r *Receiver) finishClose(c *closing) error {
	dirs := make(map[string]bool)
	if err := r.renameClosed(c, dirs); err != nil {
		return err
	}
	return r.disk.syncDirs(dirs)
}

// renameClosed gives a closed file its final name, and adds the directory that is to be synced then. It may be repeated after a
// crash: the state says what was meant.
func (r *Receiver) renameClosed(c *closing, dirs map[string]bool) error {
	if c.From == c.To {
		return nil
	}
	from, to := filepath.Join(r.config.Output, c.From), filepath.Join(r.config.Output, c.To)
	// The name was free when it was chosen and no other receiver chooses it: if it is there, the
	// rename was done before a crash, and From is the next file already.
	if !exists(to) {
		if err := r.disk.rename(from, to); err != nil {
			return fmt.Errorf("rename closed file: %w", err)
		}
	}
	dirs[filepath.Dir(to)] = true
	return nil
}

// closedEntry is the ledger's line for a file that has its final name.
func (c *closing) entry() Entry {
	return Entry{Time: c.Time, Event: EventClose, Epoch: c.Epoch, To: c.Pos, File: c.From, Name: c.To, Size: c.Size, Digest: c.Digest}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
