package tail

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
)

// Allowed says which files may be opened, as globs over real paths: symbolic
// links are resolved before the check. The zero value allows none.
type Allowed struct {
	patterns []string
	also     func(realpath string) error
}

// Also narrows what is allowed: a file is opened only if permit returns nil for its real path, too. An error should
// be [ErrNotPermitted] where it may change. It is called by whoever opens, and may take some time. nil: no more than a allows.
func (a Allowed) Also(permit func(realpath string) error) Allowed {
	a.also = permit
	return a
}

// ParseAllowed checks the globs and keeps them. A glob is absolute; `*` and `?`
// stay within one directory, `**` crosses directories.
func ParseAllowed(globs []string) (Allowed, error) {
	var a Allowed
	for _, g := range globs {
		g = strings.TrimSpace(g)
		if !filepath.IsAbs(g) {
			return Allowed{}, fmt.Errorf("permitted path %q: must be absolute", g)
		}
		if !doublestar.ValidatePattern(g) {
			return Allowed{}, fmt.Errorf("permitted path %q: %w", g, doublestar.ErrBadPattern)
		}
		for _, part := range strings.Split(g, "/") {
			if part == ".." || part == "." {
				return Allowed{}, fmt.Errorf("permitted path %q: must not contain %q", g, part)
			}
		}
		a.patterns = append(a.patterns, g)
	}
	return a, nil
}

// Check returns nil if the real path is permitted, else an error that wraps
// [ErrNotAllowed]. The path must have its symbolic links resolved.
func (a Allowed) Check(realpath string) error {
	// A path that the kernel can't express from our root begins with "(unreachable)".
	if filepath.IsAbs(realpath) && filepath.Clean(realpath) == realpath {
		for _, p := range a.patterns {
			if ok, err := doublestar.Match(p, realpath); err == nil && ok {
				if a.also != nil {
					return a.also(realpath)
				}
				return nil
			}
		}
	}
	return fmt.Errorf("%q: %w", realpath, ErrNotAllowed)
}

// Or allows more.
func (a Allowed) Or(globs ...string) (Allowed, error) {
	more, err := ParseAllowed(globs)
	a.patterns = append(slices.Clone(a.patterns), more.patterns...)
	return a, err
}

// QuoteGlob makes a path a glob that matches only it.
func QuoteGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`, `{`, `\{`, `}`, `\}`).Replace(path)
}

// String lists the globs, for messages.
func (a Allowed) String() string {
	if len(a.patterns) == 0 {
		return "(none)"
	}
	return strings.Join(a.patterns, " ")
}
