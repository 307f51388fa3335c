package tail

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestExpandFollowsLiveFilesOnly(t *testing.T) {
	r := newRig(t)
	outside := filepath.Join(t.TempDir(), "other.log")
	r.must(os.WriteFile(outside, nil, 0o644))
	for _, n := range []string{
		"app.log", "app.log.1", "app.log.2.gz", "app.log-20261122", "app-2026-11-22.log", "app-2026-11-21.log.gz", "app.1.log", "app.log.old",
		"worker.log", "worker-1.log", "worker-2.log", "syslog", "syslog.1", "only-20261122.log",
	} {
		r.write(n, "x\n")
	}
	r.must(os.Mkdir(r.name("sub"), 0o755))
	r.write("sub/deep.log", "x\n")
	r.must(os.Mkdir(r.name("dir.log"), 0o755))
	r.must(os.Symlink(outside, r.name("link.log")))
	r.must(os.Symlink(r.name("app.log"), r.name("current.log")))
	r.must(os.Symlink(r.name("nowhere"), r.name("broken.log")))

	check := func(pattern string, want, wantRefused string) {
		t.Helper()
		follow, refused, err := Expand(r.name(pattern), r.cfg.Allowed)
		r.must(err)
		for i := range follow {
			follow[i] = strings.TrimPrefix(follow[i], r.dir+"/")
		}
		var names []string
		for _, x := range refused {
			names = append(names, strings.TrimPrefix(x.Path, r.dir+"/"))
			if x.Reason == "" {
				t.Errorf("%s refused without a reason", x.Path)
			}
		}
		if got := strings.Join(follow, " "); got != want {
			t.Errorf("%s: follow %s\nwant %s", pattern, got, want)
		}
		if got := strings.Join(names, " "); got != wantRefused {
			t.Errorf("%s: refused %s\nwant %s", pattern, got, wantRefused)
		}
	}
	check("*.log", "app.log only-20261122.log worker-1.log worker-2.log worker.log",
		"app-2026-11-22.log app.1.log broken.log current.log dir.log link.log")
	check("**/*.log", "app.log only-20261122.log sub/deep.log worker-1.log worker-2.log worker.log",
		"app-2026-11-22.log app.1.log broken.log current.log dir.log link.log")
	check("app*", "app.log", "app-2026-11-21.log.gz app-2026-11-22.log app.1.log app.log-20261122 app.log.1 app.log.2.gz app.log.old")
	check("syslog*", "syslog", "syslog.1")
	check("syslog", "syslog", "")
	check("none*", "", "")
	for _, bad := range []string{"relative", r.dir + "/["} {
		if _, _, err := Expand(bad, r.cfg.Allowed); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
	_, refused, err := Expand(r.name("link.log"), r.cfg.Allowed)
	r.must(err)
	if len(refused) != 1 || !strings.Contains(refused[0].Reason, "not permitted") {
		t.Fatalf("%v", refused)
	}
}

// A directory that is reached by a link counts as what it really is.
func TestExpandThroughALinkedDirectory(t *testing.T) {
	r := newRig(t)
	r.write("a.log", "x\n")
	r.write("b.log", "x\n")
	link := filepath.Join(t.TempDir(), "link")
	r.must(os.Symlink(r.dir, link))
	follow, refused, err := Expand(link+"/*.log", r.cfg.Allowed)
	r.must(err)
	if want := []string{link + "/a.log", link + "/b.log"}; !slices.Equal(follow, want) || len(refused) > 0 {
		t.Errorf("follow %q, refuse %v", follow, refused)
	}
}

// What may have been made from a known name is found by looking names up, exactly where comparing with each would find it.
func TestRelatedToAnyIsRelatedToOne(t *testing.T) {
	bases := []string{"app.log", "app", "syslog", "a.b.c", "app-1.log", "x.log.gz", ".log", "a_b"}
	names := []string{"app.log", "app.log.1", "app.log.2.gz", "app-20260102.log", "app.1.log.zst", "app~", "app.log~", "apple.log", "syslog-20260102", "syslogx",
		"a.b.1.c", "a.b.c.old", "app-1.log.1", "app-1-2.log", "x.log.1.gz", "x.log.gz.1", ".log.1", "a_b_1", "a", "", "-", "b.log", "app_x.log"}
	for _, name := range names {
		want := slices.ContainsFunc(bases, func(base string) bool { return isRelated(name, base) })
		if got := IsRelatedToAny(name, func(base string) bool { return slices.Contains(bases, base) }); got != want {
			t.Errorf("%q: %t, want %t", name, got, want)
		}
	}
}
