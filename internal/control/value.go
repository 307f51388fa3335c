package control

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is a time span that is written as people write it: "90s", "90m", "2h",
// "1d", "1w", "1h30m". It is never negative.
type Duration time.Duration

// MaxDuration is the longest that is accepted: ten years.
const MaxDuration = 10 * 365 * 24 * time.Hour

// Rate is bytes per second; 0: no limit. As text it is "5MiB/s", "800kB/s", "1048576" or "unlimited".
type Rate int64

// MaxRate is the greatest that is accepted: 1 TiB/s.
const MaxRate = 1 << 40

type unit struct {
	name string
	size float64
}

func timeUnits() []unit {
	return []unit{
		{"ms", float64(time.Millisecond)}, {"s", float64(time.Second)}, {"m", float64(time.Minute)},
		{"h", float64(time.Hour)}, {"d", 24 * float64(time.Hour)}, {"w", 7 * 24 * float64(time.Hour)},
	}
}

func byteUnits() []unit {
	return []unit{
		{"", 1}, {"b", 1}, {"kb", 1e3}, {"mb", 1e6}, {"gb", 1e9}, {"tb", 1e12},
		{"k", 1 << 10}, {"m", 1 << 20}, {"g", 1 << 30}, {"t", 1 << 40},
		{"kib", 1 << 10}, {"mib", 1 << 20}, {"gib", 1 << 30}, {"tib", 1 << 40},
	}
}

// ParseDuration reads what [Duration] writes.
func ParseDuration(s string) (Duration, error) {
	bad := func() (Duration, error) {
		return 0, fmt.Errorf("%.40q is no duration like 90s, 90m, 2h, 1d or 1h30m, at most ten years", s)
	}
	if s == "0" {
		return 0, nil
	}
	if s == "" || len(s) > 40 {
		return bad()
	}
	total, rest := 0.0, s
	for rest != "" {
		n, tail, ok := number(rest)
		if !ok {
			return bad()
		}
		end := strings.IndexAny(tail, "0123456789.")
		if end < 0 {
			end = len(tail)
		}
		size, ok := lookup(timeUnits(), tail[:end])
		if !ok {
			return bad()
		}
		total, rest = total+n*size, tail[end:]
	}
	if total > float64(MaxDuration) {
		return bad()
	}
	return Duration(math.Round(total)), nil
}

// ParseRate reads what [Rate] writes, with or without "/s".
func ParseRate(s string) (Rate, error) {
	bad := func() (Rate, error) {
		return 0, fmt.Errorf("%.40q is no rate like 5MiB/s, 800kB/s or unlimited, at most 1TiB/s", s)
	}
	if s == "unlimited" {
		return 0, nil
	}
	if len(s) > 40 {
		return bad()
	}
	n, tail, ok := number(strings.TrimSuffix(s, "/s"))
	if !ok {
		return bad()
	}
	size, ok := lookup(byteUnits(), strings.ToLower(strings.TrimSpace(tail)))
	if !ok || n*size > MaxRate || n > 0 && n*size < 1 {
		return bad()
	}
	return Rate(math.Round(n * size)), nil
}

// number splits a plain decimal number off the front of s: digits, at most one dot.
func number(s string) (float64, string, bool) {
	end, dots := 0, 0
	for end < len(s) && (s[end] >= '0' && s[end] <= '9' || s[end] == '.') {
		if s[end] == '.' {
			dots++
		}
		end++
	}
	if end == 0 || end > 20 || dots > 1 || s[0] == '.' || s[end-1] == '.' {
		return 0, "", false
	}
	n, err := strconv.ParseFloat(s[:end], 64)
	return n, s[end:], err == nil
}

func lookup(units []unit, name string) (float64, bool) {
	for _, u := range units {
		if u.name == name {
			return u.size, true
		}
	}
	return 0, false
}

func (d Duration) String() string {
	rest := time.Duration(d)
	if rest == 0 {
		return "0"
	}
	var b strings.Builder
	for _, u := range []struct {
		name string
		size time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}, {"ms", time.Millisecond}} {
		if n := rest / u.size; n > 0 {
			fmt.Fprintf(&b, "%d%s", n, u.name)
			rest -= n * u.size
		}
	}
	return b.String()
}

// MarshalText writes "1d2h".
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText is [ParseDuration].
func (d *Duration) UnmarshalText(b []byte) (err error) {
	*d, err = ParseDuration(string(b))
	return err
}

func (r Rate) String() string {
	for _, u := range []unit{{"GiB/s", 1 << 30}, {"MiB/s", 1 << 20}, {"KiB/s", 1 << 10}} {
		if n := int64(u.size); r >= Rate(n) && int64(r)%n == 0 {
			return strconv.FormatInt(int64(r)/n, 10) + u.name
		}
	}
	if r == 0 {
		return "unlimited"
	}
	return strconv.FormatInt(int64(r), 10) + "B/s"
}

// MarshalText writes "5MiB/s".
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText is [ParseRate].
func (r *Rate) UnmarshalText(b []byte) (err error) {
	*r, err = ParseRate(string(b))
	return err
}
