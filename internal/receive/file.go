package receive

import (
	"container/list"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ncruces/go-strftime"

	"logforward/internal/chunk"
)

// naming makes the names of central files from the pattern.
type naming struct {
	pattern  string // "{identity}/{log}.log", with strftime conversions
	stem     string // pattern without ext
	ext      string // literal ending from the last dot on, if nothing variable follows it
	receiver string // this receiver's name as part of a file name
}

// newNaming checks a pattern. {identity} must be a path element of its own and {log} come
// behind it, or two logs could claim one name.
func newNaming(pattern, receiver string) (naming, error) {
	bad := func(why string) (naming, error) {
		return naming{}, fmt.Errorf("file_pattern %q: %s; for example {identity}/{log}.log or {identity}/%%Y/{log}-%%Y%%m%%d.log", pattern, why)
	}
	elements := strings.Split(pattern, "/")
	identity, log := -1, -1
	for i, e := range elements {
		switch {
		case e == "" || e == "." || e == "..":
			return bad("it must be a path below the output, without empty, . and .. elements")
		case strings.HasPrefix(e, "."):
			return bad("an element may not begin with a dot")
		case strings.Contains(e, "@"):
			return bad("@ marks rotated files and may not be in it")
		case strings.IndexByte(e, 0) >= 0:
			return bad("it holds a NUL")
		}
		if e == "{identity}" && identity < 0 {
			identity = i
		}
		if strings.Count(e, "{log}") == 1 && log < 0 {
			log = i
		}
	}
	rest := strings.NewReplacer("{identity}", "", "{log}", "").Replace(pattern)
	switch {
	case identity < 0 || log < identity:
		return bad("{identity} must be a directory, and {log} stand behind it")
	case log != len(elements)-1:
		return bad("{log} must be in the last element")
	case strings.Count(pattern, "{identity}") != 1 || strings.Count(pattern, "{log}") != 1 || strings.ContainsAny(rest, "{}"):
		return bad("{identity} and {log} must stand once each, and no other braces")
	}
	if got := strftime.Format(rest, time.Unix(0, 0).UTC()); strings.ContainsAny(got, "/\x00") != strings.Contains(rest, "/") || strings.Count(got, "/") != strings.Count(rest, "/") {
		return bad("a conversion gives a path separator")
	}
	n := naming{pattern: pattern, stem: pattern, receiver: chunk.FileName(receiver)}
	if i := strings.LastIndexByte(pattern, '.'); i > strings.LastIndexAny(pattern, "}/%") {
		n.stem, n.ext = pattern[:i], pattern[i:]
	}
	return n, nil
}

func (n *naming) fill(s, identity, log string, t time.Time) string {
	s = strftime.Format(s, t.UTC())
	s = strings.Replace(s, "{identity}", pathName(identity), 1)
	return strings.Replace(s, "{log}", pathName(log), 1)
}

// pathName is a name as a path element: never hidden, so that nothing of a node's choosing
// looks like the receiver's own.
func pathName(name string) string {
	s := chunk.FileName(name)
	if s[0] == '.' {
		s = "=2E" + s[1:]
	}
	return s
}

// base is the name of the log's open file at a time, below the output.
func (n *naming) base(identity, log string, t time.Time) string {
	return n.fill(n.stem, identity, log, t) + n.ext
}

// variants are the names to try in turn for a log's next open file: the plain one, unless
// somebody else's file has it.
func (n *naming) variants(identity, log string, t time.Time) func(i int) string {
	stem := n.fill(n.stem, identity, log, t)
	return func(i int) string {
		switch i {
		case 0:
			return stem + n.ext
		case 1:
			return stem + "@" + n.receiver + n.ext
		}
		return fmt.Sprintf("%s@%s-%d%s", stem, n.receiver, i, n.ext)
	}
}

// closedName is the i-th name to try for a file that is closed at t. It never changes again, but
// for a compression's ending.
func (n *naming) closedName(open string, t time.Time, i int) string {
	stem := strings.TrimSuffix(open, n.ext)
	name := stem + "@" + t.UTC().Format("20060102T150405Z")
	if i > 0 {
		name += fmt.Sprintf("-%d", i+1)
	}
	return name + n.ext
}

// ledgerName is the i-th name to try for a log's ledger.
func (n *naming) ledgerName(identity, log string, i int) string {
	name := pathName(identity) + "/" + pathName(log) + "@ledger"
	switch {
	case i == 1:
		name += "@" + n.receiver
	case i > 1:
		name += fmt.Sprintf("@%s-%d", n.receiver, i)
	}
	return name + ".jsonl"
}

// free finds the first name of a sequence that no file has.
func free(output string, name func(i int) string) (string, error) {
	for i := range 1000 {
		s := name(i)
		if _, err := os.Lstat(filepath.Join(output, s)); errors.Is(err, fs.ErrNotExist) {
			return s, nil
		} else if err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("%s and 999 names like it are taken: %w", name(0), fs.ErrExist)
}

// file is one file that this receiver appends to. It belongs to the partition's loop; the
// descriptor alone is lent to the commit.
type file struct {
	name    string // below the output
	size    int64  // appended
	opened  time.Time
	base    string // name that the pattern gave when it was begun
	newline bool   // the last byte ends a line
	dirty   bool   // appended to since the last commit took it
	fresh   bool   // its name has not been synced yet
	f       *os.File
	pins    int // commits that use f
	place   *list.Element
}

// openFiles keeps at most limit descriptors, closing the least recently used.
type openFiles struct {
	output string
	disk   *disk
	limit  int
	lru    list.List // of *file, most recent first
}

// use gives the file's descriptor, opening it again where it was closed.
func (o *openFiles) use(f *file) (*os.File, error) {
	if f.f != nil {
		o.lru.MoveToFront(f.place)
		return f.f, nil
	}
	h, err := o.disk.open(filepath.Join(o.output, f.name))
	if err != nil {
		return nil, err
	}
	if st, err := h.Stat(); err != nil || st.Size() < f.size {
		h.Close()
		return nil, fmt.Errorf("central file %s: %w", f.name, errDamagedFile)
	}
	o.adopt(f, h)
	return h, nil
}

// errDamagedFile: a central file is shorter than what was committed to it.
var errDamagedFile = errors.New("it is shorter than what was written: somebody else changed it")

func (o *openFiles) adopt(f *file, h *os.File) {
	f.f = h
	f.place = o.lru.PushFront(f)
	for e := o.lru.Back(); e != nil && o.lru.Len() > o.limit; {
		prev := e.Prev()
		if old := e.Value.(*file); old.pins == 0 && old != f {
			o.close(old)
		}
		e = prev
	}
}

// close gives the descriptor back. What is dirty stays so: the commit then syncs the whole file system.
func (o *openFiles) close(f *file) {
	if f.f == nil {
		return
	}
	f.f.Close()
	o.lru.Remove(f.place)
	f.f, f.place = nil, nil
}

func (o *openFiles) closeAll() {
	for e := o.lru.Front(); e != nil; e = o.lru.Front() {
		o.close(e.Value.(*file))
	}
}

// append writes data at the file's end. After an error the same call may be repeated.
func (o *openFiles) append(f *file, data []byte) error {
	h, err := o.use(f)
	if err != nil {
		return err
	}
	if err := o.disk.append(h, data, f.size); err != nil {
		return fmt.Errorf("append %d bytes to %s at %d: %w", len(data), f.name, f.size, err)
	}
	f.size += int64(len(data))
	f.newline = data[len(data)-1] == '\n'
	f.dirty = true
	return nil
}
