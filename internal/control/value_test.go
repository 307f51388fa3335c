package control

import (
	"testing"
	"time"
)

func TestDurationsAsPeopleWriteThem(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"90m": 90 * time.Minute, "2h": 2 * time.Hour, "1d": 24 * time.Hour, "1w": 168 * time.Hour,
		"1h30m": 90 * time.Minute, "500ms": 500 * time.Millisecond, "1.5h": 90 * time.Minute, "0": 0, "30s": 30 * time.Second,
	} {
		if got, err := ParseDuration(in); err != nil || time.Duration(got) != want {
			t.Errorf("%q: %v, %v", in, time.Duration(got), err)
		}
	}
	for _, in := range []string{"", "1", "h", "-1h", "1 h", "1y", "1e9h", "1..5h", ".5h", "5.h", "99999w", "1h1", "∞", "+1h", "1H"} {
		if got, err := ParseDuration(in); err == nil {
			t.Errorf("%q passed as %s", in, got)
		}
	}
}

func TestRatesAsPeopleWriteThem(t *testing.T) {
	for in, want := range map[string]Rate{
		"5MiB/s": 5 << 20, "5MiB": 5 << 20, "800kB/s": 800e3, "1048576": 1 << 20, "0": 0, "unlimited": 0, "1.5KiB/s": 1536, "2 GB/s": 2e9, "7B/s": 7, "3m": 3 << 20,
	} {
		if got, err := ParseRate(in); err != nil || got != want {
			t.Errorf("%q: %d, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "-1", "5MiB/m", "MiB", "2TiB/s", "0.1B/s", "5 5", "1e3", "NaN", "Inf"} {
		if got, err := ParseRate(in); err == nil {
			t.Errorf("%q passed as %d", in, got)
		}
	}
}

// What is written is read back the same, whatever was read first.
func FuzzValues(f *testing.F) {
	for _, s := range []string{"1d2h3m4s5ms", "5MiB/s", "unlimited", "0", "1.5h", "999B/s"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := ParseDuration(s); err == nil {
			d = Duration(time.Duration(d).Truncate(time.Millisecond))
			if back, err := ParseDuration(d.String()); err != nil || back != d || d < 0 {
				t.Errorf("%q is %d, written %q, read %d, %v", s, d, d, back, err)
			}
		}
		if r, err := ParseRate(s); err == nil {
			if back, err := ParseRate(r.String()); err != nil || back != r || r < 0 {
				t.Errorf("%q is %d, written %q, read %d, %v", s, r, r, back, err)
			}
		}
	})
}
