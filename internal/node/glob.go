package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"logforward/internal/control"
	"logforward/internal/tail"
)

// maxFiles is the most files that one glob may make logs of.
const maxFiles = 10000

// keepGone is how long a file's log is kept after the file vanished and all of it is
// confirmed: rotation without "create" leaves no file for a while.
const keepGone = 10 * time.Minute

// glob is what is known of a forwarder's files. It is persisted, for three reasons: a file
// that was made while the daemon was down is read from its beginning; one that vanished
// meanwhile may have bytes left under a rotated name; and a name, once given, is never given
// to another file.
type glob struct {
	Pattern string   `json:"pattern"`
	Files   []*child `json:"files"`

	refused []control.Problem // of the last look: files that match and aren't followed
	summary string
	fault   error    // of the pattern as a whole
	seen    *finding // what was applied last; nil: nothing in this run
	unsaved bool     // the last change is not on disk
}

// child is one file of a glob.
type child struct {
	Log   string    `json:"log"`
	Path  string    `json:"path"`
	First bool      `json:"first,omitempty"` // there at first sight: the definition's start counts
	Since time.Time `json:"since,omitzero"`  // when there was no such file, at the last look before it was found
	Gone  time.Time `json:"gone,omitzero"`   // since when there is no such file
	// Births name the last files that had this path, the newest last.
	Births []string `json:"births,omitempty"`
}

// lookup finds the files of a pattern; see [tail.Expand].
type lookup func(pattern string) (followed []string, refused []control.Problem, err error)

// look brings the glob up to date with what was found, and reports whether what is persisted changed. taken are the logs that others
// have; drained tells whether all that was read of a log is confirmed.
func (g *glob) look(log string, seen *finding, taken map[string]bool, drained func(log string) bool, now time.Time) (changed bool) {
	first := g.Files == nil
	if first {
		g.Files, changed = []*child{}, true
	}
	before := g.seen
	g.seen, g.fault = seen, seen.err
	if seen.err != nil {
		return changed // what was followed stays
	}
	g.refused = slices.Clone(seen.refused)
	matching := len(seen.files) + len(seen.refused)
	byPath := make(map[string]*child, len(g.Files))
	names := make(map[string]string, len(g.Files))
	for _, c := range g.Files {
		byPath[c.Path], names[c.Log] = c, c.Path
	}
	refuse := func(path, why string, args ...any) {
		g.refused = append(g.refused, control.Problem{Where: path, Problem: fmt.Sprintf(why, args...)})
	}
	// By birth. Rotation by rename leaves a moment without the live file, in which the rotated one looks like any other
	// match; it would be sent a second time, as a log of its own.
	files := map[string]*child{}
	for _, c := range g.Files {
		for _, b := range c.Births {
			files[b] = c
		}
	}
	present := make(map[string]bool, len(seen.files))
	for _, f := range seen.files {
		path := f.path
		present[path] = true
		if c := byPath[path]; c != nil {
			if !c.Gone.IsZero() {
				c.Gone, changed = time.Time{}, true
			}
			if c.born(f.birth) {
				files[c.Births[len(c.Births)-1]], changed = c, true
			}
			if taken[c.Log] {
				refuse(path, "another forwarder has the log %s", c.Log)
			}
			continue
		}
		name := log + "." + filepath.Base(path)
		if err := control.CheckLog(name); err != nil {
			refuse(path, "%v", err)
		} else if other, ok := names[name]; ok {
			refuse(path, "the log %s is %s already", name, other)
		} else if taken[name] {
			refuse(path, "another forwarder has the log %s", name)
		} else if other := files[f.birth]; other != nil && other.Path != path {
			refuse(path, "it is a file of the log %s, renamed", other.Log)
		} else if len(g.Files) >= maxFiles {
			refuse(path, "%d files are followed already, which is the most of one glob", maxFiles)
		} else {
			c := &child{Log: name, Path: path, First: first}
			if before != nil && before.err == nil && before != seen {
				c.Since = before.at.UTC().Round(0)
			}
			if c.born(f.birth) {
				files[c.Births[0]] = c
			}
			g.Files, names[name], changed = append(g.Files, c), path, true
		}
	}
	g.Files = slices.DeleteFunc(g.Files, func(c *child) bool {
		if present[c.Path] {
			return false
		}
		if c.Gone.IsZero() {
			c.Gone, changed = now, true
			return false
		}
		gone := now.Sub(c.Gone) >= keepGone && drained(c.Log)
		changed = changed || gone
		return gone
	})
	slices.SortFunc(g.Files, func(a, b *child) int { return strings.Compare(a.Log, b.Log) })
	slices.SortFunc(g.refused, func(a, b control.Problem) int { return strings.Compare(a.Where, b.Where) })
	g.summary = fmt.Sprintf("%d files followed out of %d matching", matching-len(g.refused), matching)
	if matching-len(g.refused) == 1 {
		g.summary = strings.Replace(g.summary, "files", "file", 1)
	}
	return changed
}

func (g *glob) encode() ([]byte, error) {
	b, err := json.Marshal(g)
	if err != nil {
		return nil, fmt.Errorf("keep the files of %s: %w", g.Pattern, err)
	}
	return b, nil
}

func decodeGlob(b []byte) (*glob, error) {
	g := new(glob)
	if err := json.Unmarshal(b, g); err != nil {
		return nil, fmt.Errorf("files of a glob: %w", err)
	}
	for _, c := range g.Files {
		if c == nil || control.CheckLog(c.Log) != nil || !filepath.IsAbs(c.Path) {
			return nil, errors.New("files of a glob: a log without a valid name or path")
		}
	}
	return g, nil
}

// permitted tells whether a definition's path may be forwarded at all, before anything is begun.
// Whatever it says, each file is checked again when it is opened.
func permitted(path string, allowed tail.Allowed, find lookup) error {
	if !isGlob(path) {
		real, err := resolve(path)
		if err != nil {
			return err
		}
		return allowed.Check(real)
	}
	followed, refused, err := find(path)
	if err != nil {
		return err
	}
	if len(followed) > 0 {
		return nil
	}
	if len(refused) > 0 {
		return fmt.Errorf("none of %d matching files may be forwarded; %s: %s", len(refused), refused[0].Where, refused[0].Problem)
	}
	// No file matches yet. A path that the glob could give stands for them.
	real, err := resolve(sample(path))
	if err != nil {
		return err
	}
	return allowed.Check(real)
}

// sample is some path that a glob matches, "x" for each wildcard.
func sample(pattern string) string {
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; c {
		case '*':
			if i == 0 || pattern[i-1] != '*' {
				b.WriteByte('x')
			}
		case '?':
			b.WriteByte('x')
		case '\\':
			if i++; i < len(pattern) {
				b.WriteByte(pattern[i])
			}
		case '[', '{':
			end := strings.IndexByte(pattern[i:], map[byte]byte{'[': ']', '{': '}'}[c])
			if end < 0 {
				return b.String()
			}
			inside := pattern[i+1 : i+end]
			if c == '[' {
				inside = strings.TrimLeft(inside, "^!")
				if inside != "" {
					inside = inside[:1]
				}
			} else {
				inside, _, _ = strings.Cut(inside, ",")
			}
			b.WriteString(inside)
			i += end
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// resolve gives the real path of a file that may not exist yet: symbolic links of the part
// that exists are resolved.
func resolve(path string) (string, error) {
	rest := ""
	for dir := path; ; dir = filepath.Dir(dir) {
		real, err := filepath.EvalSymlinks(dir)
		switch {
		case err == nil:
			return filepath.Join(real, rest), nil
		case !errors.Is(err, fs.ErrNotExist) || dir == "/":
			return "", fmt.Errorf("resolve %s: %w", path, err)
		}
		// A dangling link would be followed by whoever creates its target: what it points to counts.
		if target, err := os.Readlink(dir); err == nil {
			if !filepath.IsAbs(target) {
				target = filepath.Join(filepath.Dir(dir), target)
			}
			return filepath.Join(target, rest), nil
		}
		rest = filepath.Join(filepath.Base(dir), rest)
	}
}
