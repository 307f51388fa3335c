package node

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/bmatcuk/doublestar/v4"

	"logforward/internal/tail"
)

func TestMayShare(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"/log/a.log", "/log/a.log", true},
		{"/log/a.log", "/log/b.log", false},
		{"/log/a.log", "/log/a.lo[g]", true},
		{"/log/a.log", "/log/*", true},
		{"/log/a.log", "/log/?", false},
		{"/log/a.log", `/log/a\.log`, true},
		{`/log/\*.log`, "/log/a.log", false},
		{`/log/\*.log`, "/log/*.log", true},
		{"/log/*.log", "/log/*.txt", false},
		{"/log/a*", "/log/*b", true},
		{"/log/a*", "/log/b*", false},
		{"/log/*/x.log", "/log/x.log", false},
		{"/log/**/x.log", "/log/x.log", true},
		{"/log/**/x.log", "/log/a/b/x.log", true},
		{"/log/**/x.log", "/log/a/yx.log", false},
		{"/log/**", "/log/a/b", true},
		{"/log/**", "/log", true},
		{"/log/**", "/logs", false},
		{"/**", "/log/a.log", true},
		{"/log/{a,b}.log", "/log/b.*", true},
		{"/log/{a,b}.log", "/log/c.*", false},
		{"/log/{a,b{1,2}}.log", "/log/b2.log", true},
		{"/log/{a,}.log", "/log/.log", true},
		{"/var/log/*", "/srv/log/*", false},
		{"/{var,srv}/log/*", "/srv/log/a", true},
		{"/log/[!a].log", "/log/b.log", true},
		{"/log/[^a-c]x.log", "/log/dx.log", true},
	} {
		for _, pair := range [][2]string{{c.a, c.b}, {c.b, c.a}} {
			budget := maxCompared
			if got := mayShare(pair[0], pair[1], &budget); got != c.want {
				t.Errorf("%s and %s: %t, want %t", pair[0], pair[1], got, c.want)
			}
		}
	}
	budget := 10
	if !mayShare("/"+strings.Repeat("*a", 100), "/"+strings.Repeat("*b", 100), &budget) {
		t.Error("doubt must be yes")
	}
}

// TestMayShareFindsWhatMatches: two globs that match one path share it, by doublestar's own word.
func TestMayShareFindsWhatMatches(t *testing.T) {
	number := rand.Uint64()
	r := rand.New(rand.NewPCG(number, 7))
	parts := []string{"a", "b", "ab", "/", "/", "*", "**", "?", "[ab]", "[!a]", "{a,b}", "{a/b,}", "{*,b}", `\a`, `\*`, "/**/", "/**"}
	glob := func() string {
		var b strings.Builder
		for range 1 + r.IntN(6) {
			b.WriteString(parts[r.IntN(len(parts))])
		}
		return "/" + b.String()
	}
	path := func() string {
		var b strings.Builder
		for range 1 + r.IntN(5) {
			b.WriteString([]string{"a", "b", "ab", "/a", "/b", "*"}[r.IntN(6)])
		}
		return "/" + strings.Trim(b.String(), "/")
	}
	found := 0
	for range 100_000 {
		p, g, h := path(), glob(), glob()
		if ok, err := doublestar.Match(g, p); !ok || err != nil {
			continue
		}
		budget := maxCompared
		if !mayShare(g, tail.QuoteGlob(p), &budget) {
			t.Fatalf("seed %d: %s matches %s", number, g, p)
		}
		if ok, err := doublestar.Match(h, p); !ok || err != nil {
			continue
		}
		found++
		if !mayShare(g, h, &budget) {
			t.Fatalf("seed %d: %s and %s match %s", number, g, h, p)
		}
	}
	if found < 100 {
		t.Errorf("only %d pairs", found)
	}
}
