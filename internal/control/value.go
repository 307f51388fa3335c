package control

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"logforward/internal/quantity"
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

// ParseDuration reads what [Duration] writes.
func ParseDuration(s string) (Duration, error) {
	bad := func() (Duration, error) {
		return 0, fmt.Errorf("%.40q is no duration like 90s, 90m, 2h, 1d or 1h30m, at most ten years", s)
	}
	d, err := quantity.Duration(s)
	if err != nil || d > MaxDuration {
		return bad()
	}
	return Duration(d), nil
}

// ParseRate reads what [Rate] writes, with or without "/s".
func ParseRate(s string) (Rate, error) {
	bad := func() (Rate, error) {
		return 0, fmt.Errorf("%.40q is no rate like 5MiB/s, 800kB/s or unlimited, at most 1TiB/s", s)
	}
	n, err := quantity.Rate(s)
	if err != nil || n > MaxRate {
		return bad()
	}
	return Rate(n), nil
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
	for _, u := range []struct {
		name string
		size Rate
	}{{"GiB/s", 1 << 30}, {"MiB/s", 1 << 20}, {"KiB/s", 1 << 10}} {
		if r >= u.size && r%u.size == 0 {
			return strconv.FormatInt(int64(r/u.size), 10) + u.name
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
