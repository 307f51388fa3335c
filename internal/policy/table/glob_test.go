package table

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/bmatcuk/doublestar/v4"
)

// The matcher and the regular expression of a glob are two ways to the same answer.
func TestGlobs(t *testing.T) {
	for _, c := range []struct {
		kind    kind
		glob    string
		yes, no []string
	}{
		{callerGlob, "up=ops-*", []string{"up=ops-", "up=ops-a", "up=ops-a.b", "up=ops-é"}, []string{"up=ops", "up=ops-a=b", "xup=ops-a", "up=Ops-a", "up=ops-a\n", "\nup=ops-a", "up=ops-\x00", "up=ops-a\tb", ""}},
		{callerGlob, "*", []string{"up=a", "up=a=b", "x"}, []string{"", "up=a\n"}},
		{callerGlob, "up=a.b", []string{"up=a.b"}, []string{"up=axb", "up=a.b "}},
		{callerGlob, "up=a?", []string{"up=ab", "up=aé", "up=a."}, []string{"up=a", "up=a=", "up=abc", "up=a\n"}},
		{textGlob, "*", []string{"", "a", "a/b"}, []string{"\n", "a\nb"}},
		{textGlob, "app-*", []string{"app-", "app-x"}, []string{"App-x", "app", "xapp-x"}},
		{textGlob, "[ab]+(c|d)$", []string{"[ab]+(c|d)$"}, []string{"ac", "a"}},
		{pathGlob, "/var/log/*.log", []string{"/var/log/a.log", "/var/log/.log", "/var/log/*.log", "/var/log/a*b?.log"}, []string{"/var/log/a/b.log", "/var/log/a.log/", "/var/log/a.logx", "/var/log/axlog", "/var/log/\t/a.log", "/var/log/\n.log"}},
		{pathGlob, "/var/log/?.log", []string{"/var/log/a.log", "/var/log/?.log"}, []string{"/var/log/*.log", "/var/log/.log", "/var/log//.log", "/var/log/\t.log"}},
		{pathGlob, "/var/log/**", []string{"/var/log/a", "/var/log/a/b", "/var/log/\t", "/var/log/*"}, []string{"/var/log", "/var/log/", "/var/logs/a", "/var/*/a"}},
		{pathGlob, "/var/**/x.log", []string{"/var/x.log", "/var/a/x.log", "/var/a/b/x.log", "/var/\t/x.log", "/var/*/x.log"}, []string{"/var/ax.log", "/var/a/x.logs", "/varx/x.log"}},
		{pathGlob, "/**", []string{"/a", "/a/b", "/\t"}, []string{"/", "", "a"}},
	} {
		g := newGlob(c.glob, c.kind)
		re := regexp.MustCompile(g.expression())
		for want, texts := range map[bool][]string{true: c.yes, false: c.no} {
			for _, text := range texts {
				if g.match(text) != want || re.MatchString(text) != want {
					t.Errorf("%s and %q: matcher %v, %s %v; want %v", c.glob, text, g.match(text), g.expression(), re.MatchString(text), want)
				}
			}
		}
	}
}

// A glob that is asked for, and is within one of the table's, matches nothing that this doesn't match: with
// the node's own matcher, and the node's files.
func TestAskedGlobsAreWithin(t *testing.T) {
	n := seed(t)
	r := newRandom(n)
	parts := []string{"a", "b", "ab", "a.log", "*", "*", "?", "a*", "*.log", "?b", "**", "[ab]", "[!a]*", "a?", "**.log"}
	permit := []string{"a", "ab", "*", "?", "a*", "*.log", "**", "?b"}
	names := []string{"a", "b", "ab", "a.log", "b.log", ".log", "bb"}
	join := func(list []string, most int) string {
		var b strings.Builder
		for range 1 + r.IntN(most) {
			b.WriteString("/" + pick(r, list))
		}
		return b.String()
	}
	within, matched := 0, 0
	for range 60000 {
		asked, permitted := join(parts, 4), join(permit, 4)
		if checkPath(permitted) != nil {
			continue
		}
		shown, ok := compared(asked)
		g := newGlob(permitted, pathGlob)
		if !ok || !g.match(shown) {
			continue
		}
		within++
		for range 8 {
			path := join(names, 5)
			hit, err := doublestar.Match(asked, path)
			if err != nil {
				t.Fatal(err)
			}
			// To the matcher ** at the end may be nothing. A node finds no file so; see the test of tricks.
			dir, isTree := strings.CutSuffix(asked, "/**")
			if itself, _ := doublestar.Match(dir, path); !hit || isTree && itself {
				continue
			}
			matched++
			if theirs, _ := doublestar.Match(permitted, path); !theirs {
				t.Fatalf("LOGFORWARD_SEED=%d: %s is taken to be within %s, but matches %s", n, asked, permitted, path)
			}
		}
	}
	if within < 1000 || matched < 1000 {
		t.Errorf("only %d globs within others, and %d files matched: that tests little", within, matched)
	}
}

// Two globs that a deny rule takes to be apart have no file in common.
func TestGlobsApartShareNothing(t *testing.T) {
	n := seed(t)
	r := newRandom(n)
	parts := []string{"a", "b", "ab", "*", "?", "a*", "**", "[ab]"}
	permit := []string{"a", "ab", "*", "?", "a*", "**"}
	names := []string{"a", "b", "ab", "aa"}
	join := func(list []string, most int) string {
		var b strings.Builder
		for range 1 + r.IntN(most) {
			b.WriteString("/" + pick(r, list))
		}
		return b.String()
	}
	count := 0
	for range 60000 {
		asked, denied := join(parts, 4), join(permit, 4)
		shown, ok := compared(asked)
		if !ok || checkPath(denied) != nil || !apart(denied, shown) {
			continue
		}
		count++
		for range 8 {
			path := join(names, 5)
			mine := newGlob(denied, pathGlob).match(path)
			if hit, _ := doublestar.Match(asked, path); hit && mine {
				t.Fatalf("LOGFORWARD_SEED=%d: %s and %s are taken to be apart, but share %s", n, asked, denied, path)
			}
		}
	}
	if count < 1000 {
		t.Errorf("only %d pairs apart", count)
	}
}

// What the node's glob would find outside of a permitted directory, whatever trick is in it, isn't within.
func TestTricksLeadNowhere(t *testing.T) {
	root := t.TempDir()
	// A ** at the end may stand for nothing to the node's matcher, but what it then finds is no file.
	file := filepath.Join(root, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if found, _ := doublestar.FilepathGlob(file+"/**", doublestar.WithNoFollow()); len(found) > 0 {
		t.Errorf("%s/** finds %v", file, found)
	}
	for _, dir := range []string{"in", "in/sub", "out"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"in/a.log", "in/sub/b.log", "out/secret"} {
		if err := os.WriteFile(filepath.Join(root, file), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out := 0
	for _, trick := range []string{
		"{..,sub}/out/secret", "{.,x}./out/secret", "sub/{..,x}/{..,y}/out/secret", `\.\./out/secret`, `\../out/secret`, "[.][.]/out/secret", "[.]./out/secret", "?./out/secret",
		"??/out/secret", "*/out/secret", "**/../out/secret", "../out/*", "sub/../../out/secret", "{../out/secret,a.log}", "*{/../out/secret,.log}", "./../out/secret", "[!a]./out/secret", "**/secret", "{a.log,/../out/secret}",
	} {
		asked := filepath.Join(root, "in") + "/" + trick
		shown, ok := compared(asked)
		within := ok && newGlob(filepath.Join(root, "in")+"/**", pathGlob).match(shown)
		found, _ := doublestar.FilepathGlob(asked, doublestar.WithNoFollow())
		for _, file := range found {
			if real, err := filepath.EvalSymlinks(file); err == nil && strings.HasPrefix(real, filepath.Join(root, "out")) {
				out++
				if within {
					t.Errorf("%s is taken to be within in/**, and finds %s", trick, real)
				}
			}
		}
	}
	if out < 3 {
		t.Errorf("only %d tricks work at all: the test tests nothing", out)
	}
}
