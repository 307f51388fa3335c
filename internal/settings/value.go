package settings

import (
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/dustin/go-humanize"

	"logforward/internal/quantity"
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
	URLs     Type = "URLs"  // a list of a broker's
)

// example is shown where a value can't be read.
var example = map[Type]string{
	Int: "4", Bytes: "64MiB, 1GB or 4096", Rate: "5MiB/s, or 0 for no limit", Duration: "500ms, 90m, 2h or 1d",
	Bool: "yes or no", Path: "/var/lib/logforward", List: "a, b", Globs: "/var/log/**, /srv/*/log/*.log", Mode: "0640",
	URLs: "nats://broker.example.net:4222",
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
		n, err := quantity.Bytes(text)
		if err != nil {
			return nil, s.bad(text, err.Error())
		}
		return n, s.inRange(text, n)
	case Rate:
		n, err := quantity.Rate(text)
		if err != nil {
			return nil, s.bad(text, err.Error())
		}
		return n, s.inRange(text, n)
	case Duration:
		d, err := quantity.Duration(text)
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
	case URLs:
		list := split(text, false)
		for _, u := range list {
			if why := badURL(u); why != "" {
				return nil, s.bad(text, why)
			}
		}
		return list, nil
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

// badURL says why a broker can't be found by a URL; one without a scheme is nats://.
func badURL(text string) string {
	if !strings.Contains(text, "://") {
		text = "nats://" + text
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return "one can't be read" // the error holds the text, and that perhaps a password
	case !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme):
		return fmt.Sprintf("%q is none of nats, tls, ws and wss", u.Scheme)
	case u.Hostname() == "":
		return "one names no host"
	}
	return ""
}

func (s *Setting) bad(text, why string) error {
	shown := strconv.Quote(text)
	switch {
	case s.Secret:
		shown = masked
	case s.Type == URLs:
		shown = strconv.Quote(maskURLs(text))
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
