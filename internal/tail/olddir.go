package tail

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	dirsMax    = 4    // directories that are remembered
	belowMax   = 64   // directories beside a log that are searched for a file of an earlier run
	openedMax  = 64   // files that are opened in each of them
	besidesMax = 4096 // entries that are looked at for them
)

// Shifts tells how rotation numbers a log's files: the number that one gets when it is rotated, and how often one was seen
// to get it. Twice the same means that the older ones are moved on by one each time.
type Shifts struct {
	First int `json:"first"`
	Seen  int `json:"seen"`
}

// whereabouts are where a log's path leads at a moment.
type whereabouts struct {
	real string   // the path without links; empty: it leads nowhere
	own  []string // the directories of the path and of where it leads to
}

func (l *Log) whereabouts() whereabouts {
	w := whereabouts{own: []string{filepath.Dir(l.cfg.Path)}}
	add := func(dir string) {
		if !slices.Contains(w.own, dir) {
			w.own = append(w.own, dir)
		}
	}
	if dir, err := resolve(w.own[0]); err == nil {
		add(dir)
	}
	if real, err := resolve(l.cfg.Path); err == nil {
		w.real = real
		add(filepath.Dir(real))
	}
	return w
}

// elsewhere are the other directories that rotation puts the log's files into: where they were seen to go, and what logrotate
// is configured to do. The links of a configuration are resolved; where files were seen to go there was none, and whoever puts one there
// means harm. What is permitted nowhere isn't looked at.
func (l *Log) elsewhere(where whereabouts) []string {
	var dirs []string
	for _, dir := range l.dirs {
		if real, err := resolve(dir); err == nil && real == dir {
			dirs = append(dirs, dir)
		}
	}
	if l.cfg.Olddirs != nil {
		dirs = append(dirs, l.cfg.Olddirs(l.cfg.Path)...)
		if where.real != "" && where.real != l.cfg.Path {
			dirs = append(dirs, l.cfg.Olddirs(where.real)...)
		}
	}
	var list []string
	for _, dir := range dirs {
		real, err := resolve(dir)
		if err != nil || slices.Contains(where.own, real) || slices.Contains(list, real) || !l.cfg.Allowed.leads(real) {
			continue
		}
		list = append(list, real)
	}
	return list
}

// learn sees where an open file is by now. Its name has changed if it was rotated: then the others go there, too.
func (l *Log) learn(g *generation) {
	f, ok := g.content.(*file)
	if !ok {
		return
	}
	at, err := f.stat()
	if err != nil {
		return
	}
	if real, err := realPath(f.fd, at); err == nil && real != g.path {
		l.went(real)
		if at.links > 0 {
			g.path = real
		}
	}
}

// went remembers the directory of a file that was rotated to another one.
func (l *Log) went(real string) {
	dir := filepath.Dir(real)
	if !isRotation(filepath.Base(real), filepath.Base(l.cfg.Path)) || slices.Contains(l.whereabouts().own, dir) || l.cfg.Allowed.Also(nil).Check(real) != nil {
		return
	}
	if i := slices.Index(l.dirs, dir); i >= 0 {
		l.dirs = slices.Delete(l.dirs, i, i+1)
	} else {
		l.cfg.Logger.Info("the log's files are rotated into another directory", "directory", dir)
	}
	l.dirs = append([]string{dir}, l.dirs[:min(len(l.dirs), dirsMax-1)]...)
}

// trace looks for files of an earlier run that aren't in the log's own directories in those below these, by inode and birth or by
// content, and remembers where they are: they were moved there while nobody looked. It reports whether it found any. It looks once for as
// long as the log's directory doesn't change: nothing was moved out of it then.
func (l *Log) trace(wanted []*generation) (found bool) {
	at, err := statPath(filepath.Dir(l.cfg.Path))
	if err != nil {
		return false
	}
	var lost []*generation
	for _, g := range wanted {
		if !g.traced.Equal(at.changed) && !isVery(g.path, g) && !l.beside(g) {
			lost = append(lost, g)
		}
		g.traced = at.changed
	}
	if len(lost) == 0 {
		return false
	}
	for _, dir := range l.below() {
		names, err := l.cfg.Watcher.list(dir)
		if err != nil {
			continue
		}
		for _, g := range lost {
			for _, e := range names.pick(nil, map[uint64]bool{g.ino: true}) {
				if path := filepath.Join(dir, e.name); isVery(path, g) {
					l.went(path)
					found = true
				}
			}
			found = l.recognise(g, dir, names) || found
		}
	}
	return found
}

// recognise looks for a copy or a compressed form of a file of an earlier run in one of the directories below: what has its name, was written
// last when it was or later, and holds what was read of it.
func (l *Log) recognise(g *generation, dir string, names *listing) bool {
	base := filepath.Base(l.cfg.Path)
	if g.head.length < telling || slices.Contains(l.dirs, dir) {
		return false
	}
	opened := 0
	for _, e := range names.pick([]string{strings.TrimSuffix(base, filepath.Ext(base))}, nil) {
		path := filepath.Join(dir, e.name)
		at, err := lstat(path)
		if err != nil || !at.regular || !isRotation(e.name, base) || at.mtime.Before(g.mtime) {
			continue
		}
		if opened++; opened > openedMax {
			return false
		}
		kind, _ := packing(e.name)
		c := &candidate{path: path, kind: kind, at: at, strict: true}
		ok, err := c.open(l.cfg.Allowed.Also(nil))
		same := ok && err == nil && l.fits(c, g)
		c.close()
		if same {
			l.went(path)
			return true
		}
	}
	return false
}

// isVery says that the name is that of g's very file. Inodes are used again, for the next file, too. Where the birth isn't known the
// content decides later.
func isVery(path string, g *generation) bool {
	at, err := lstat(path)
	return err == nil && at.regular && at.same(g.dev, g.ino) &&
		(g.born.IsZero() || birthOf(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW).Equal(g.born))
}

// beside says that g's file is in one of the log's own directories.
func (l *Log) beside(g *generation) bool {
	return slices.ContainsFunc(l.whereabouts().own, func(dir string) bool {
		names, err := l.cfg.Watcher.list(dir)
		return err == nil && slices.ContainsFunc(names.pick(nil, map[uint64]bool{g.ino: true}), func(e entry) bool {
			return isVery(filepath.Join(dir, e.name), g)
		})
	})
}

// below lists the directories in the log's own, without links.
func (l *Log) below() (dirs []string) {
	for _, own := range l.whereabouts().own {
		f, err := os.Open(own)
		if err != nil {
			continue
		}
		entries, _ := f.ReadDir(besidesMax)
		_ = f.Close()
		for _, e := range entries {
			real, err := filepath.EvalSymlinks(filepath.Join(own, e.Name()))
			if !e.IsDir() || err != nil || slices.Contains(dirs, real) || !l.cfg.Allowed.leads(real) || len(dirs) == belowMax {
				continue
			}
			dirs = append(dirs, real)
		}
	}
	return dirs
}

// lstat is statPath of the name itself.
func lstat(path string) (info, error) {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Lstat(path, &st) }); err != nil {
		return info{}, &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	return infoOf(&st), nil
}

// counted notes which number a file got when it was rotated.
func (l *Log) counted(path string) {
	n := rotationNumber(filepath.Base(path), filepath.Base(l.cfg.Path))
	switch s := &l.shifts; {
	case n < 0 || n > s.First && s.Seen > 1: // not seen until it was moved on
	case s.Seen > 0 && n == s.First:
		s.Seen = min(s.Seen+1, 2)
	default:
		*s = Shifts{n, 1}
	}
}

// holes is a loss where the names show that files came and went between since and next that are nowhere.
//
// Where rotation moves numbers on, since has the number of rotations that it has seen. A file for each was made since then, and has a
// lower number. All that is required, for a gap that isn't one would be worse than none:
//   - two files in a row were seen to get the same number when they were rotated, so numbers are moved on;
//   - since still exists, under a higher number;
//   - since wasn't touched after next was made: otherwise a rotation may be under way, which has moved since on
//     already and next not yet.
func (l *Log) holes(since, next *generation) (*generation, error) {
	base, first := filepath.Base(l.cfg.Path), l.shifts.First
	n := rotationNumber(filepath.Base(since.path), base)
	if since.content == nil || l.shifts.Seen < 2 || n <= first || next.birth.IsZero() {
		return nil, nil
	}
	if at, err := since.content.stat(); err != nil || at.links == 0 || at.changed.After(next.birth) {
		return nil, nil
	}
	dir := filepath.Dir(since.path)
	names, err := l.cfg.Watcher.list(dir)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	there := map[int]bool{}
	for _, e := range names.pick([]string{strings.TrimSuffix(base, filepath.Ext(base))}, nil) {
		there[rotationNumber(e.name, base)] = true
	}
	missing := 0
	for i := first; i < n; i++ {
		if !there[i] {
			missing++
		}
	}
	if missing == 0 {
		return nil, nil
	}
	const why = "rotated away unseen, and not found"
	l.cfg.Logger.Warn("files of the log were rotated away unseen, and are nowhere", "files", missing, "directory", dir, "last", since.path)
	return &generation{path: since.path, gone: true, drained: true, cause: why, loss: bytesLoss(why, -1, false, dir)}, nil
}
