package receive

import (
	"container/list"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"github.com/ncruces/go-strftime"
	"golang.org/x/sys/unix"

	"logforward/internal/chunk"
)

// naming makes the names of central files from the pattern.
type naming struct {
	pattern  string // "{identity}/{log}.log", with strftime conversions
	stem     string // pattern without ext
	ext      string // literal ending from the last dot on, if nothing variable follows it
	receiver string // this receiver's name as part of a file name
	timed    bool   // names change with time
	suffixed bool   // all names have the receiver's suffix: another receiver has the plain ones
	literal  int    // bytes of the longest element beside {identity} and {log}
}

// maxSuffix is the most that is added to a base name: receiver and number, time of closing and
// number, compression and the mark of what is unfinished.
const maxSuffix = len("@-999@20060102T150405Z-999.zst") + len(unfinished)

// maxLiteral leaves room for a log name of 100 bytes.
const maxLiteral = 60

// maxElementLength is Linux's limit of one path element.
const maxElementLength = 255

// fits tells whether all names that a log's files may need are short enough.
func (n *naming) fits(identity, log string) error {
	over := max(len(pathName(log))+n.literal+len(n.receiver)+maxSuffix, len(pathName(identity))) - maxElementLength
	if over > 0 {
		return fmt.Errorf("log name %.40q… is %d bytes too long for files of the pattern %s", log, over, n.pattern)
	}
	return nil
}

func maxElement(path string) (longest int) {
	for e := range strings.SplitSeq(path, "/") {
		longest = max(longest, len(e))
	}
	return longest
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
	got := strftime.Format(rest, time.Unix(0, 0).UTC())
	if strings.Count(got, "/") != strings.Count(rest, "/") || strings.ContainsFunc(got, unicode.IsControl) {
		return bad("a path separator or control character comes out of it")
	}
	n := naming{pattern: pattern, stem: pattern, receiver: chunk.FileName(receiver), timed: strings.Contains(pattern, "%"), literal: maxElement(got)}
	if n.literal > maxLiteral {
		return bad(fmt.Sprintf("%d bytes beside identity and log in one element are too many; at most %d", n.literal, maxLiteral))
	}
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
// it isn't this receiver's to give, or somebody else's file has it. No number is taken for a part of a receiver's name: r1's are never r1-2's.
func (n *naming) variants(identity, log string, t time.Time) func(i int) string {
	stem := n.fill(n.stem, identity, log, t)
	return func(i int) string {
		if n.suffixed || n.asCompressed(stem+n.ext) {
			i++
		}
		switch i {
		case 0:
			return stem + n.ext
		case 1:
			return stem + "@" + n.receiver + n.ext
		}
		return fmt.Sprintf("%s@%s@%d%s", stem, n.receiver, i, n.ext)
	}
}

// asCompressed tells whether a plain name is what another log's file is called once it is compressed.
func (n *naming) asCompressed(name string) bool {
	for _, how := range compressions {
		if how.ending != "" && strings.HasSuffix(name, n.ext+how.ending) {
			return true
		}
	}
	return false
}

// others tells whether another receiver may have chosen a name of an open file or ledger.
func (n *naming) others(name string) bool {
	return n.suffixed && !strings.Contains(name, "@"+n.receiver)
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

// backName is a name for a file of what was set aside and is put back. Chance makes it unique: it is written down before the file is made, and whoever
// does that after a crash must not meet another's file under it.
func (n *naming) backName(identity, log string, t time.Time) string {
	return n.fill(n.stem, identity, log, t) + "@" + n.receiver + "@back-" + rand.Text()[:12] + n.ext
}

// ledgerName is the i-th name to try for a log's ledger.
func (n *naming) ledgerName(identity, log string, i int) string {
	name := pathName(identity) + "/" + pathName(log) + "@ledger"
	if n.suffixed {
		i++
	}
	switch {
	case i == 1:
		name += "@" + n.receiver
	case i > 1:
		name += fmt.Sprintf("@%s@%d", n.receiver, i)
	}
	return name + ".jsonl"
}

// free finds the first name of a sequence that no file has, in no form: a closed file that was
// compressed still has its name. So has one that somebody took away, for retention would delete by it what has the name then.
func (r *Receiver) free(name func(i int) string) (string, error) {
	const tried = 1000
next:
	for i := range tried + 10 {
		if i >= tried { // somebody has taken them all, which mustn't hold up the logs that are named with this one
			i = int(r.now().UnixMicro()) + i
		}
		s := name(i)
		if closed, err := r.state.isClosed(s); err != nil {
			return "", err
		} else if closed {
			continue
		}
		for _, how := range compressions {
			_, err := os.Lstat(filepath.Join(r.config.Output, s+how.ending))
			if err == nil {
				continue next
			}
			if !errors.Is(err, fs.ErrNotExist) {
				return "", err
			}
		}
		return s, nil
	}
	return "", fmt.Errorf("%s and %d names like it are taken: %w", name(0), tried, fs.ErrExist)
}

// file is one file that this receiver appends to. It belongs to the partition's loop; the
// descriptor alone is lent to the commit.
type file struct {
	name    string // below the output
	size    int64  // appended
	opened  time.Time
	base    string // name that the pattern gave when it was begun
	newline bool   // the last byte ends a line
	unread  bool   // newline isn't known yet: its descriptor was not open since the term began
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
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotOurs) {
		return nil, fmt.Errorf("central file: %w: %w", err, errDamagedFile)
	}
	if err != nil {
		return nil, err
	}
	if err := checkSize(h, f.size); err != nil {
		h.Close()
		return nil, fmt.Errorf("central file %s: %w", f.name, err)
	}
	if f.unread {
		if f.newline, err = o.disk.endsLine(h, f.size); err != nil {
			h.Close()
			return nil, fmt.Errorf("read the end of %s: %w: %w", f.name, err, errUnreadable)
		}
		f.unread = false
	}
	o.adopt(f, h)
	return h, nil
}

// errUnreadable: a central file's last bytes can't be read: a bad sector, say. One file's shall not stop its partition.
var errUnreadable = errors.New("it can't be gone on with")

// errDamagedFile: a central file is gone, or shorter than what was written to it.
var errDamagedFile = errors.New("it is gone, or shorter than what was written: somebody else changed it")

// checkSize tells whether a file still has what was written to it.
func checkSize(h *os.File, size int64) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(h.Fd()), &st); err != nil {
		return fmt.Errorf("look at %s: %w", h.Name(), err)
	}
	if st.Size < size {
		return fmt.Errorf("%d of %d bytes: %w", st.Size, size, errDamagedFile)
	}
	return nil
}

// checkName tells whether a file still has its name and its bytes. What is written to a file that
// somebody removed, moved or replaced would be synced, and nobody would find it.
func checkName(output, name string, h *os.File, size int64) error {
	for i, c := range name {
		if c != '/' {
			continue
		}
		// Every directory must still be one, too.
		if st, err := os.Lstat(filepath.Join(output, name[:i])); err == nil && !st.IsDir() {
			return fmt.Errorf("central directory %s: %w: %w", name[:i], errNotOurs, errDamagedFile)
		}
	}
	at, err := os.Lstat(filepath.Join(output, name))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return fmt.Errorf("central file %s: %w", name, errDamagedFile)
	}
	if err != nil {
		return err
	}
	if !at.Mode().IsRegular() || at.Size() < size {
		return fmt.Errorf("central file %s, %d of %d bytes: %w", name, at.Size(), size, errDamagedFile)
	}
	if h == nil {
		return nil
	}
	open, err := h.Stat()
	if err == nil && !os.SameFile(at, open) {
		err = fmt.Errorf("central file %s was replaced: %w", name, errDamagedFile)
	}
	return err
}

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

// rest lets a file be closed before others: it won't be needed for long.
func (o *openFiles) rest(f *file) {
	if f.f != nil {
		o.lru.MoveToBack(f.place)
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
	// Truncated meanwhile? Writing at our end would fill what is missing with zeros. And one that is longer may be another one with the same name.
	var st unix.Stat_t
	if err := unix.Fstat(int(h.Fd()), &st); err != nil {
		return fmt.Errorf("look at %s: %w", f.name, err)
	}
	if st.Size != f.size {
		return fmt.Errorf("central file %s: %d bytes, and not %d: %w", f.name, st.Size, f.size, errDamagedFile)
	}
	if err := o.disk.append(h, data, f.size); err != nil {
		// What was written of it goes away, should the file be closed at its old size. If that
		// fails too, the next begin cuts it.
		_ = h.Truncate(f.size)
		return fmt.Errorf("append %d bytes to %s at %d: %w", len(data), f.name, f.size, err)
	}
	f.size += int64(len(data))
	f.newline = data[len(data)-1] == '\n'
	f.dirty = true
	return nil
}
