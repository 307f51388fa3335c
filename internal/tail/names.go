package tail

import (
	"path/filepath"
	"strings"
)

// packing returns how a file of this name is compressed ("gz", …) and the name
// without that ending; "" for none that is known.
func packing(name string) (kind, bare string) {
	for _, e := range []struct{ ending, kind string }{
		{".gz", "gz"}, {".zst", "zst"}, {".bz2", "bz2"}, {".xz", "xz"},
	} {
		if b, ok := strings.CutSuffix(name, e.ending); ok && b != "" {
			return e.kind, b
		}
	}
	return "", name
}

// rotationMark cuts from name what a rotation added to base:
//
//	syslog.1           ".1"            app-2026-11-22.log   "-2026-11-22"
//	syslog-20261122.gz "-20261122"     app.1.log            ".1"
//
// inner says that it stands before the extension. ok is false if name isn't
// base with something added.
func rotationMark(name, base string) (mark string, inner, ok bool) {
	_, name = packing(name)
	if m, found := strings.CutPrefix(name, base); found && m != "" {
		return m, false, true
	}
	ext := filepath.Ext(base)
	stem := strings.TrimSuffix(base, ext)
	if ext == "" || stem == "" {
		return "", false, false
	}
	if m, found := strings.CutPrefix(name, stem); found {
		if m, found = strings.CutSuffix(m, ext); found && m != "" {
			return m, true, true
		}
	}
	return "", false, false
}

// isRotation says that name is a rotated form of base by its number, its date or
// ".old". A number before the extension counts only with a dot, or if it is long
// enough for a date: worker-1.log isn't a rotation of worker.log.
func isRotation(name, base string) bool {
	mark, inner, ok := rotationMark(name, base)
	if !ok || !strings.ContainsRune("-._", rune(mark[0])) {
		return false
	}
	rest := mark[1:]
	if rest == "old" {
		return true
	}
	digits := 0
	for _, c := range rest {
		switch {
		case c >= '0' && c <= '9':
			digits++
		case strings.ContainsRune("-._:TZ+", c):
		default:
			return false
		}
	}
	if digits == 0 || rest[0] < '0' || rest[0] > '9' {
		return false
	}
	return !inner || mark[0] == '.' || digits >= 6
}

// rotatedFrom is the first of names, as they are sorted, that name is a rotated form of; "" for none. It looks up what
// name may have been made from: comparing each name with each takes seconds for ten thousand.
func rotatedFrom(name string, names map[string]bool) string {
	_, bare := packing(name)
	ext := filepath.Ext(bare)
	first := ""
	consider := func(base string) {
		if names[base] && (first == "" || base < first) && isRotation(name, base) && !isRotation(base, name) {
			first = base
		}
	}
	for i := 1; i < len(bare); i++ {
		if strings.IndexByte("-._", bare[i]) < 0 {
			continue // a rotation's mark begins with one of these
		}
		consider(bare[:i])
		if ext != "" {
			consider(bare[:i] + ext)
		}
	}
	return first
}

// isRelated is laxer: name might be a copy or a rotated form of base. It only
// picks whose content is compared.
func isRelated(name, base string) bool {
	mark, _, ok := rotationMark(name, base)
	return ok && strings.ContainsRune("-._~", rune(mark[0]))
}

// IsRelatedToAny says that a file might be a rotated form or a copy of one beside it, whose name is one of those that are
// known. It looks up what the name may have been made from, so it takes no longer for ten thousand.
func IsRelatedToAny(name string, known func(base string) bool) bool {
	_, bare := packing(name)
	ext := filepath.Ext(bare)
	for i := 1; i < len(bare); i++ {
		if strings.IndexByte("-._~", bare[i]) < 0 {
			continue // what is added begins with one of these
		}
		if base := bare[:i]; known(base) && isRelated(name, base) {
			return true
		}
		if base := bare[:i] + ext; ext != "" && known(base) && isRelated(name, base) {
			return true
		}
	}
	return false
}

// rotationNumber returns N of app.log.N, or -1.
func rotationNumber(name, base string) int {
	mark, _, ok := rotationMark(name, base)
	if !ok || len(mark) < 2 || len(mark) > 5 || mark[0] != '.' {
		return -1
	}
	n := 0
	for _, c := range mark[1:] {
		if c < '0' || c > '9' {
			return -1
		}
		n = n*10 + int(c-'0')
	}
	return n
}
