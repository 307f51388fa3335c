package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What policy doesn't limit only root may write: a definition of somebody else isn't one.
func TestDefinitionsOfOthersAreNotBelieved(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: gives files to another user")
	}
	b := newBench(t)
	b.define("nginx.yaml", nginx)
	b.define("syslog.yaml", syslog)
	file := filepath.Join(b.dir, "syslog.yaml")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for what, do := range map[string]struct {
		spoil, mend func() error
	}{
		"belongs to uid 65534":             {func() error { return os.Chown(file, 65534, 0) }, func() error { return os.Chown(file, 0, 0) }},
		"written by others (mode 0666)":    {func() error { return os.Chmod(file, 0o666) }, func() error { return os.Chmod(file, 0o644) }},
		"written by others (mode 0664)":    {func() error { return os.Chmod(file, 0o664) }, func() error { return os.Chmod(file, 0o644) }},
		"forwarders.d: it may be written ": {func() error { return os.Chmod(b.dir, 0o777) }, func() error { return os.Chmod(b.dir, 0o755) }},
	} {
		must(do.spoil())
		b.open()
		if strings.HasPrefix(what, "forwarders.d") {
			b.want(what)
		} else {
			b.want(what, "nginx access.log end")
		}
		if text := b.problems(); !strings.Contains(text, what) || !strings.Contains(text, "chmod go-w") {
			t.Errorf("%s: problems %s", what, text)
		}
		must(do.mend())
		b.look()
		b.want("mended", "nginx access.log end", "syslog syslog beginning")
		// What ran before goes on; what it says now doesn't count.
		must(do.spoil())
		b.define("syslog.yaml", strings.ReplaceAll(syslog, "LOGS/syslog", "LOGS/other"))
		b.look()
		b.want("spoilt while it runs", "nginx access.log end", "syslog syslog beginning")
		b.define("syslog.yaml", syslog)
		must(do.mend())
		b.look()
		b.want("mended again", "nginx access.log end", "syslog syslog beginning")
	}
}
