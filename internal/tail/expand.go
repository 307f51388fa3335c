package tail

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// Refused is a file that a pattern matches and that isn't followed.
type Refused struct {
	Path   string `json:"path"`
	Reason string `json:"reason"`
}

// Expand returns the files that pattern matches and that are to be followed,
// sorted, and those that aren't, each with its reason: not regular, not
// permitted, compressed, a rotated form of another match, or the same file as another.
// Symbolic links to directories are not descended into by `**`. What lies where no file is permitted isn't
// looked at: a pattern that begins there gives that directory as refused. Where more than 100,000 files and
// directories would have to be looked at, that is an error.
func Expand(pattern string, allowed Allowed) ([]string, []Refused, error) {
	if !filepath.IsAbs(pattern) {
		return nil, nil, fmt.Errorf("expand %q: must be absolute", pattern)
	}
	if !doublestar.ValidatePattern(pattern) {
		return nil, nil, fmt.Errorf("expand %q: %w", pattern, doublestar.ErrBadPattern)
	}
	matches, err := glob(filepath.Clean(pattern), allowed, maxEntries)
	if err != nil {
		return nil, nil, fmt.Errorf("expand %q: %w", pattern, err)
	}
	slices.Sort(matches)
	matches = slices.Compact(matches)
	if dir := foreign(pattern, allowed); dir != "" && len(matches) == 0 {
		return nil, []Refused{{dir, ErrNotAllowed.Error()}}, nil
	}

	live := map[string]map[string]bool{} // names by directory that others may be rotated forms of
	for _, m := range matches {
		if kind, _ := packing(m); kind == "" {
			dir := filepath.Dir(m)
			if live[dir] == nil {
				live[dir] = map[string]bool{}
			}
			live[dir][filepath.Base(m)] = true
		}
	}
	var follow []string
	var refused []Refused
	type identity struct{ dev, ino uint64 }
	first := map[identity]string{}
	// Links last: where a link and its target both match, the target is followed.
	links := make(map[string]bool)
	for _, m := range matches {
		if isLink(m) {
			links[m] = true
		}
	}
	byLink := slices.Clone(matches)
	slices.SortStableFunc(byLink, func(a, b string) int { return rank(links[a]) - rank(links[b]) })
	real := resolver{}
	for _, m := range byLink {
		reason, at := refusal(m, live[filepath.Dir(m)], allowed, func() (string, error) {
			if links[m] {
				return filepath.EvalSymlinks(m)
			}
			return real.file(m)
		})
		if reason == "" {
			id := identity{at.dev, at.ino}
			if other, ok := first[id]; ok {
				reason = "the same file as " + other
			} else {
				first[id] = m
			}
		}
		if reason != "" {
			refused = append(refused, Refused{m, reason})
			continue
		}
		follow = append(follow, m)
	}
	slices.Sort(follow)
	slices.SortFunc(refused, func(a, b Refused) int { return strings.Compare(a.Path, b.Path) })
	return follow, refused, nil
}

// foreign is the directory where a pattern begins to look, if nothing is permitted there.
func foreign(pattern string, allowed Allowed) string {
	base, _ := doublestar.SplitPattern(filepath.Clean(pattern))
	if real, err := filepath.EvalSymlinks(base); err != nil || allowed.leads(real) {
		return ""
	}
	return base
}

func isLink(path string) bool {
	fi, err := os.Lstat(path)
	return err == nil && fi.Mode()&os.ModeSymlink != 0
}

func rank(link bool) int {
	if link {
		return 1
	}
	return 0
}

// resolver keeps where directories really are while one pattern is looked at: each would else be resolved again for each of its files.
type resolver map[string]string

// file is the real path of a file that is no link.
func (r resolver) file(path string) (string, error) {
	dir, name := filepath.Split(path)
	real, known := r[dir]
	if !known {
		var err error
		if real, err = filepath.EvalSymlinks(dir); err != nil {
			return "", err
		}
		r[dir] = real
	}
	return filepath.Join(real, name), nil
}

// refusal says why path isn't followed, "" if it is. The file isn't opened. realPath gives it without links.
func refusal(path string, names map[string]bool, allowed Allowed, realPath func() (string, error)) (string, info) {
	at, err := statPath(path)
	if err != nil {
		return err.Error(), at
	}
	if !at.regular {
		return ErrNotRegular.Error(), at
	}
	real, err := realPath()
	if err != nil {
		return err.Error(), at
	}
	if err := allowed.Check(real); err != nil {
		return err.Error(), at
	}
	if kind, _ := packing(path); kind != "" {
		return "compressed", at
	}
	if base := rotatedFrom(filepath.Base(path), names); base != "" {
		return "rotated form of " + base, at
	}
	return "", at
}
