package tail

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A pattern is an operator's word: however wide it is, only what may be forwarded is looked at.
func TestWidePatternLooksWhereFilesArePermittedOnly(t *testing.T) {
	root := t.TempDir()
	var want []string
	for _, name := range []string{"var/log/app/a.log", "var/log/b.log", "var/lib/c.log", "srv/x/y/d.log", "home/e.log"} {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(name, "var/log") {
			want = append(want, file)
		}
	}
	if err := os.Symlink(filepath.Join(root, "var/log"), filepath.Join(root, "logs")); err != nil {
		t.Fatal(err)
	}
	allowed, err := ParseAllowed([]string{root + "/var/log/**"})
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{"/**", "/**/*.log", root + "/**", root + "/*/**", root + "/{srv,var,home}/**/*.log"} {
		tree := &tree{root: "/", allowed: allowed, left: maxEntries}
		follow, refused, err := Expand(pattern, allowed)
		if err != nil || !slices.Equal(follow, want) {
			t.Errorf("%s: %q, %v; want %q", pattern, follow, err, want)
		}
		for _, r := range refused {
			if !strings.HasPrefix(root, r.Path) && !strings.HasPrefix(r.Path, root+"/var") && r.Path != root+"/logs" || strings.HasSuffix(r.Path, "lib") {
				t.Errorf("%s: %s was looked at, and told", pattern, r.Path)
			}
		}
		if entries, err := tree.ReadDir("."); err != nil || slices.ContainsFunc(entries, func(e os.DirEntry) bool { return e.Name() == "proc" || e.Name() == "etc" }) {
			t.Errorf("the root's directories are %v, %v", entries, err)
		}
	}
	if follow, refused, err := Expand("/etc/*", allowed); err != nil || len(follow) != 0 || len(refused) != 1 || refused[0].Path != "/etc" {
		t.Errorf("%v %v %v; want that nothing below /etc is permitted, and no name from there", follow, refused, err)
	}
	// A link that the pattern names is followed, as before.
	follow, _, err := Expand(root+"/logs/*.log", allowed)
	if err != nil || !slices.Equal(follow, []string{root + "/logs/b.log"}) {
		t.Errorf("%q, %v", follow, err)
	}
}

func TestPatternThatLooksAtTooMuchIsAnError(t *testing.T) {
	root := t.TempDir()
	for i := range 20 {
		if err := os.MkdirAll(filepath.Join(root, fmt.Sprint(i%4), fmt.Sprint(i)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	allowed, err := ParseAllowed([]string{root + "/**"})
	if err != nil {
		t.Fatal(err)
	}
	for most, over := range map[int]bool{24: false, 23: true, 4: true, 0: true} { // there are 4 and 20
		for _, pattern := range []string{"/**", "/*/*"} {
			names, err := glob(root+pattern, allowed, most)
			if (err != nil) != over || over && (names != nil || !strings.Contains(err.Error(), fmt.Sprintf("more than %d files", most))) {
				t.Errorf("%s within %d entries: %q, %v", pattern, most, names, err)
			}
		}
	}
}
