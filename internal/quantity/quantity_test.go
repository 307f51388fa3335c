package quantity

import (
	"testing"
	"time"
)

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "500ms": 500 * time.Millisecond, "90m": 90 * time.Minute, "1h30m": 90 * time.Minute, "1d": 24 * time.Hour,
		"1d12h": 36 * time.Hour, "2w": 14 * 24 * time.Hour, "1.5h": 90 * time.Minute,
	} {
		if got, err := Duration(text); err != nil || got != want {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "d", "1", "-1s", "+1s", "1d-1h", "1x", "1e3s", "99999999999w", "1..5h", ".5h", "1 h", "NaNs"} {
		if got, err := Duration(text); err == nil {
			t.Errorf("%q gave %s", text, got)
		}
	}
}

func TestBytesAndRate(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "4096": 4096, "1k": 1024, "1kB": 1000, "64MiB": 64 << 20, "1 GiB": 1 << 30, "1.5k": 1536, "5m": 5 << 20, "9223372036854775807": 1<<63 - 1} {
		if got, err := Bytes(text); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "k", "-1", "1e3", "0.5", "9223372036854775808", "9999999T", "1 2", "1kk", "0x10"} {
		if got, err := Bytes(text); err == nil {
			t.Errorf("%q gave %d", text, got)
		}
	}
	for text, want := range map[string]int64{"unlimited": 0, "0": 0, "5MiB/s": 5 << 20, "800kB/s": 800_000, "100": 100} {
		if got, err := Rate(text); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
}

func FuzzQuantities(f *testing.F) {
	for _, s := range []string{"1h30m", "5MiB/s", "1.5k", "unlimited"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := Duration(s); err == nil && d < 0 {
			t.Errorf("%q: %s", s, d)
		}
		if n, err := Bytes(s); err == nil && n < 0 {
			t.Errorf("%q: %d", s, n)
		}
		if n, err := Rate(s); err == nil && n < 0 {
			t.Errorf("%q: %d", s, n)
		}
	})
}
