package settings

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/dustin/go-humanize"
)

// Type is how a setting's text is read.
type Type string

const (
	Text     Type = "text"
	Int      Type = "number"
	Bytes    Type = "bytes"    // 64MiB, 1GB, 4096
	Rate     Type = "rate"     // 5MiB/s; 0 or unlimited: no limit
	Duration Type = "duration" // 500ms, 90m, 2h, 1d
	Bool     Type = "yes or no"
	Enum     Type = "one of"
	Path     Type = "path"
	List     Type = "list"  // separated by commas or spaces
	Globs    Type = "globs" // a list of absolute patterns; ** crosses directories
	Mode     Type = "mode"  // octal file mode
)

// example is shown where a value can't be read.
var example = map[Type]string{
	Int: "4", Bytes: "64MiB, 1GB or 4096", Rate: "5MiB/s, or 0 for no limit", Duration: "500ms, 90m, 2h or 1d",
	Bool: "yes or no", Path: "/var/lib/logforward", List: "a, b", Globs: "/var/log/**, /srv/*/log/*.log", Mode: "0640",
}

// parse reads a value. The result's type follows from t: string, int64 (Int, Bytes, Rate, Mode),
// time.Duration, bool or []string.
func (s *Setting) parse(text string) (any, error) {
	if strings.IndexByte(text, 0) >= 0 {
		return nil, s.bad(text, "it holds a NUL")
	}
	switch s.Type {
	case Int:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, s.bad(text, "it is no whole number")
		}
		return n, s.inRange(text, n)
	case Bytes:
		n, err := parseBytes(text)
		if err != nil {
			return nil, s.bad(text, err.Error())
		}
		return n, s.inRange(text, n)
	case Rate:
		if text == "unlimited" {
			return int64(0), nil
		}
		n, err := parseBytes(strings.TrimSuffix(text, "/s"))
		if err != nil {
			return nil, s.bad(text, err.Error())
		}
		return n, s.inRange(text, n)
	case Duration:
		d, err := ParseDuration(text)
		if err != nil {
			return nil, s.bad(text, err.Error())
		}
		return d, s.inRange(text, int64(d))
	case Bool:
		switch strings.ToLower(text) {
		case "yes", "true", "on", "1":
			return true, nil
		case "no", "false", "off", "0":
			return false, nil
		}
		return nil, s.bad(text, "it is neither yes nor no")
	case Enum:
		for _, e := range s.Enum {
			if e == text {
				return text, nil
			}
		}
		return nil, s.bad(text, "it is none of "+strings.Join(s.Enum, ", "))
	case Mode:
		n, err := strconv.ParseUint(text, 8, 32)
		if err != nil || n > 0o777 {
			return nil, s.bad(text, "it is no octal mode up to 0777")
		}
		return int64(n), nil
	case List:
		return split(text, false), nil
	case Globs:
		list := split(text, true)
		for _, g := range list {
			if !filepath.IsAbs(g) || !doublestar.ValidatePattern(g) {
				return nil, s.bad(text, strconv.Quote(g)+" is no absolute pattern")
			}
		}
		return list, nil
	}
	return text, nil
}

func (s *Setting) bad(text, why string) error {
	shown := strconv.Quote(text)
	if s.Secret {
		shown = masked
	}
	if e := example[s.Type]; e != "" {
		why += "; write for example " + e
	}
	return fmt.Errorf("%s = %s: %s", s.Name, shown, why)
}

func (s *Setting) inRange(text string, n int64) error {
	if n < s.Min || s.Max > 0 && n > s.Max {
		low, high := s.show(s.Min), "any"
		if s.Max > 0 {
			high = s.show(s.Max)
		}
		return s.bad(text, fmt.Sprintf("it must be from %s to %s", low, high))
	}
	return nil
}

func (s *Setting) show(n int64) string {
	switch s.Type {
	case Bytes:
		return humanize.IBytes(uint64(n))
	case Duration:
		return time.Duration(n).String()
	}
	return strconv.FormatInt(n, 10)
}

// split gives the parts between commas, spaces and tabs. With braces, what stands in {…} is not split:
// /var/log/{a,b}.log is one pattern.
func split(text string, braces bool) []string {
	depth := 0
	return strings.FieldsFunc(text, func(r rune) bool {
		switch {
		case !braces:
		case r == '{':
			depth++
		case r == '}' && depth > 0:
			depth--
		}
		return depth == 0 && (r == ',' || r == ' ' || r == '\t')
	})
}

// byteUnit is the bytes of a unit in lower case, as definitions of forwarders take them too; 0: none.
func byteUnit(name string) int64 {
	switch name {
	case "", "b":
		return 1
	case "kb":
		return 1e3
	case "mb":
		return 1e6
	case "gb":
		return 1e9
	case "tb":
		return 1e12
	case "k", "kib":
		return 1 << 10
	case "m", "mib":
		return 1 << 20
	case "g", "gib":
		return 1 << 30
	case "t", "tib":
		return 1 << 40
	}
	return 0
}

func parseBytes(text string) (int64, error) {
	end := strings.IndexFunc(text, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if end < 0 {
		end = len(text)
	}
	number := text[:end]
	unit := byteUnit(strings.ToLower(strings.TrimLeft(text[end:], " ")))
	if number == "" || unit == 0 {
		return 0, errors.New("it is no number of bytes")
	}
	if n, err := strconv.ParseInt(number, 10, 64); err == nil {
		if n > math.MaxInt64/unit {
			return 0, errors.New("it is too large")
		}
		return n * unit, nil
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || !strings.Contains(number, ".") {
		return 0, errors.New("it is no number of bytes, or too large")
	}
	f *= float64(unit)
	switch {
	case f >= math.MaxInt64:
		return 0, errors.New("it is too large")
	case f > 0 && f < 1:
		// Rounded to 0 it would mean "no limit" in most places.
		return 0, errors.New("it is less than one byte")
	}
	return int64(math.Round(f)), nil
}

var days = regexp.MustCompile(`^(\d{1,6})d`)

// ParseDuration reads a duration as people write it: what Go takes (90m, 1h30m, 500ms), and days in
// front (1d, 1d12h). A negative one is refused.
func ParseDuration(text string) (time.Duration, error) {
	if strings.ContainsAny(text, "+-") {
		return 0, errors.New("it has a sign")
	}
	var d time.Duration
	rest := text
	if m := days.FindStringSubmatch(text); m != nil {
		n, err := strconv.Atoi(m[1])
		if err != nil || n > 100_000 {
			return 0, fmt.Errorf("%q is more than 100,000 days", text)
		}
		d = time.Duration(n) * 24 * time.Hour
		rest = text[len(m[0]):]
	}
	if rest != "" || d == 0 && text == "" {
		more, err := time.ParseDuration(rest)
		if err != nil {
			return 0, fmt.Errorf("it is no duration")
		}
		d += more
	}
	if d < 0 {
		return 0, fmt.Errorf("it is negative")
	}
	return d, nil
}
