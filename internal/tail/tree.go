package tail

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// maxEntries is how many files and directories the expansion of one pattern looks at. Whoever may
// name a pattern could otherwise have all of a machine's disks walked, again and again.
const maxEntries = 100_000

// glob gives the names that a clean, absolute pattern matches, of those that may be permitted: what is
// elsewhere isn't looked at, nor are its names told to whoever may name a pattern. It looks at no more than so
// many entries.
func glob(pattern string, allowed Allowed, most int) ([]string, error) {
	base, rest := doublestar.SplitPattern(pattern)
	if rest == "" || rest == "." || rest == ".." {
		return doublestar.FilepathGlob(pattern, doublestar.WithNoFollow())
	}
	t := &tree{root: base, allowed: allowed, left: most}
	names, err := doublestar.Glob(t, rest, doublestar.WithNoFollow())
	if err == nil && t.left < 0 {
		err = fmt.Errorf("there are more than %d files and directories where it looks; name a directory further down", most)
	}
	if err != nil {
		return nil, err
	}
	for i := range names {
		names[i] = filepath.Join(base, names[i])
	}
	return names, nil
}

// tree is the file system below root, without what can't be permitted and leads to nothing that is. It ends
// where its entries do that may be looked at: left is negative then.
type tree struct {
	root    string
	allowed Allowed
	left    int
}

func (t *tree) Open(name string) (fs.File, error) { return os.Open(filepath.Join(t.root, name)) }

// Stat is fs.StatFS: a named pipe would block if it were opened for that.
func (t *tree) Stat(name string) (fs.FileInfo, error) { return os.Stat(filepath.Join(t.root, name)) }

func (t *tree) ReadDir(name string) ([]fs.DirEntry, error) {
	dir := filepath.Join(t.root, name)
	if t.left < 0 {
		return nil, fs.ErrPermission
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	entries, err := d.ReadDir(t.left + 1)
	t.left -= len(entries)
	if err != nil && !errors.Is(err, io.EOF) || t.left < 0 {
		return nil, errors.Join(err, fs.ErrPermission)
	}
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return !t.shown(real, e) })
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

// shown tells whether an entry of a directory, with its links resolved, has to be looked at.
func (t *tree) shown(dir string, e fs.DirEntry) bool {
	path := filepath.Join(dir, e.Name())
	switch {
	case e.IsDir():
		return t.allowed.leads(path)
	case t.allowed.within(dir):
		return true
	case e.Type()&fs.ModeSymlink == 0:
		return t.allowed.Check(path) == nil
	}
	target, err := filepath.EvalSymlinks(path)
	return err == nil && t.allowed.Check(target) == nil
}

// leads tells whether a directory, with its links resolved, may be permitted itself, or hold or be above
// what is.
func (a Allowed) leads(dir string) bool {
	return a.within(dir) || slices.ContainsFunc(a.patterns, func(p string) bool {
		base, _ := doublestar.SplitPattern(p)
		return dir == "/" || strings.HasPrefix(base, dir+"/")
	})
}

// within tells whether a directory, with its links resolved, is one where a glob of permitted paths looks.
func (a Allowed) within(dir string) bool {
	return slices.ContainsFunc(a.patterns, func(p string) bool {
		base, _ := doublestar.SplitPattern(p)
		return base == "/" || dir == base || strings.HasPrefix(dir, base+"/")
	})
}
