// Package quantity reads durations, numbers of bytes and rates as people write them, alike in
// settings, definitions and requests.
package quantity

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// maxText is longer than any sensible quantity.
const maxText = 40

// Duration reads "500ms", "90m", "2h", "1h30m", "1d", "1d12h", "2w", "1.5h" and "0". It has no sign.
func Duration(text string) (time.Duration, error) {
	if text == "0" {
		return 0, nil
	}
	if text == "" || len(text) > maxText {
		return 0, errors.New("it is no duration")
	}
	var total float64
	for rest := text; rest != ""; {
		number, tail := digits(rest)
		end := strings.IndexAny(tail, "0123456789.")
		if end < 0 {
			end = len(tail)
		}
		unit := timeUnit(tail[:end])
		n, err := strconv.ParseFloat(number, 64)
		if number == "" || err != nil || unit == 0 {
			return 0, errors.New("it is no duration")
		}
		total, rest = total+n*float64(unit), tail[end:]
	}
	if total >= math.MaxInt64 {
		return 0, errors.New("it is too long")
	}
	return time.Duration(math.Round(total)), nil
}

func timeUnit(name string) time.Duration {
	switch name {
	case "us", "µs":
		return time.Microsecond
	case "ms":
		return time.Millisecond
	case "s":
		return time.Second
	case "m":
		return time.Minute
	case "h":
		return time.Hour
	case "d":
		return 24 * time.Hour
	case "w":
		return 7 * 24 * time.Hour
	}
	return 0
}

// digits splits a plain decimal number off the front: digits, with one dot among them at most.
func digits(s string) (number, rest string) {
	end := 0
	for end < len(s) && (s[end] >= '0' && s[end] <= '9' || s[end] == '.') {
		end++
	}
	n := s[:end]
	if end == 0 || strings.Count(n, ".") > 1 || n[0] == '.' || n[end-1] == '.' {
		return "", s
	}
	return n, s[end:]
}

// Bytes reads "64MiB", "1GB", "1.5k" and "4096". Capitals don't matter; k, M, G and T alone are the binary ones.
func Bytes(text string) (int64, error) {
	if len(text) > maxText {
		return 0, errors.New("it is no number of bytes")
	}
	number, tail := digits(text)
	unit := byteUnit(strings.ToLower(strings.TrimLeft(tail, " ")))
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
	f *= float64(unit)
	switch {
	case err != nil || f >= math.MaxInt64:
		return 0, errors.New("it is too large")
	case f > 0 && f < 1:
		// Rounded to 0 it would mean "no limit" in most places.
		return 0, errors.New("it is less than one byte")
	}
	return int64(math.Round(f)), nil
}

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

// Rate reads bytes per second: what [Bytes] reads, with or without "/s". 0 and "unlimited" are no limit.
func Rate(text string) (int64, error) {
	if text == "unlimited" {
		return 0, nil
	}
	n, err := Bytes(strings.TrimSuffix(text, "/s"))
	if err != nil {
		return 0, fmt.Errorf("it is no rate: %w", err)
	}
	return n, nil
}
