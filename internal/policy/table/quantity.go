package table

import (
	"fmt"
	"math/big"
	"strings"
	"time"
)

// Durations and rates are compared in whole thousandths, so that every evaluation comes to the same number.
// The texts are those that the node reads, but for such with more than three decimals or very many digits, which
// are no quantity here, and so within no limit.
const (
	durationText = `^([0-9]{1,9}([.][0-9]{1,3})?(ms|s|m|h|d|w))+$`
	durationPart = `([0-9]+)[.]?([0-9]*)(ms|s|m|h|d|w)`
	rateText     = `^([0-9]{1,15})(?:[.]([0-9]{1,3}))? *([A-Za-z]{0,3})(?:/s)?$`
	maxText      = 40 // characters
	timeText     = `^(19|20|21)[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})$`
)

// unitNames are the units of durations, in nanoseconds for a thousandth of one.
var unitNames = []struct {
	name string
	size int64
}{{"ms", 1e3}, {"s", 1e6}, {"m", 60e6}, {"h", 3600e6}, {"d", 86400e6}, {"w", 604800e6}}

// byteNames are the units of rates, in bytes.
var byteNames = []struct {
	name string
	size int64
}{
	{"", 1}, {"b", 1}, {"kb", 1e3}, {"mb", 1e6}, {"gb", 1e9}, {"tb", 1e12},
	{"k", 1 << 10}, {"kib", 1 << 10}, {"m", 1 << 20}, {"mib", 1 << 20},
	{"g", 1 << 30}, {"gib", 1 << 30}, {"t", 1 << 40}, {"tib", 1 << 40},
}

// duration reads a duration as nanoseconds.
func duration(text string) (*big.Int, bool) {
	if len([]rune(text)) > maxText {
		return nil, false
	}
	total := new(big.Int)
	rest := text
	for rest != "" {
		whole, tail := span(rest, "0123456789")
		decimals := ""
		if strings.HasPrefix(tail, ".") {
			if decimals, tail = span(tail[1:], "0123456789"); decimals == "" {
				return nil, false
			}
		}
		name, after := span(tail, "abcdefghijklmnopqrstuvwxyz")
		size := int64(0)
		for _, u := range unitNames {
			if u.name == name {
				size = u.size
			}
		}
		if whole == "" || len(whole) > 9 || len(decimals) > 3 || size == 0 {
			return nil, false
		}
		n := thousandths(whole, decimals)
		total.Add(total, n.Mul(n, big.NewInt(size)))
		rest = after
	}
	return total, text != ""
}

// rateOf reads a rate as thousandths of bytes per second.
func rateOf(text string) (*big.Int, bool) {
	if len([]rune(text)) > maxText {
		return nil, false
	}
	whole, tail := span(text, "0123456789")
	decimals := ""
	if strings.HasPrefix(tail, ".") {
		if decimals, tail = span(tail[1:], "0123456789"); decimals == "" {
			return nil, false
		}
	}
	name := strings.TrimSuffix(strings.TrimLeft(tail, " "), "/s")
	if whole == "" || len(whole) > 15 || len(decimals) > 3 {
		return nil, false
	}
	for _, u := range byteNames {
		if strings.EqualFold(u.name, name) && len(u.name) == len(name) { // in ASCII only
			n := thousandths(whole, decimals)
			return n.Mul(n, big.NewInt(u.size)), true
		}
	}
	return nil, false
}

func thousandths(whole, decimals string) *big.Int {
	n, _ := new(big.Int).SetString(whole+(decimals + "000")[:3], 10)
	return n
}

// span splits the characters of a set off the front.
func span(text, set string) (front, rest string) {
	rest = strings.TrimLeft(text, set)
	return text[:len(text)-len(rest)], rest
}

// clock is a time of day, "08:30", in minutes; "24:00" is the day's end.
func clock(text string) (int, error) {
	if text == "24:00" {
		return 24 * 60, nil
	}
	t, err := time.Parse("15:04", text)
	if err != nil || len(text) != len("15:04") {
		return 0, fmt.Errorf("%.20q is no time of day from 00:00 to 24:00", text)
	}
	return t.Hour()*60 + t.Minute(), nil
}
