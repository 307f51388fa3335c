package node

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"logforward/internal/tail"
)

// What each second finds on a node at rest costs no listing, and whatever happens to the directory or to a file in it is seen by the next look.
func TestDirectoryAtRestIsNotListed(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	if !tail.IsLocal(parent) {
		t.Skip("the file system of temporary files isn't local: it is listed each time")
	}
	d := newDirectory(filepath.Join(parent, "d"))
	write := func(name, path string) {
		t.Helper()
		file := filepath.Join(d.path, name)
		if err := os.WriteFile(file, []byte("log: "+name[:1]+"\npath: "+path+"\ndestination: central\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, time.Time{}, time.Now().Add(-settle)); err != nil {
			t.Fatal(err)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	look := func(what string, changed bool, defined int) {
		t.Helper()
		if got := d.look(false); got != changed || len(d.sources) != defined {
			t.Fatalf("%s: changed %t with %d definitions, want %t with %d (%v)", what, got, len(d.sources), changed, defined, d.fault)
		}
	}
	rest := func() {
		t.Helper()
		d.at = signature{}
		deadline := time.Now().Add(time.Minute)
		for d.at == (signature{}) {
			d.look(false)
			if time.Now().After(deadline) {
				t.Fatal("a directory that nobody changes is listed again and again")
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	began := time.Now()
	must(os.Mkdir(d.path, 0o755))
	write("a.yaml", "/var/log/a")
	look("first", true, 1)
	if d.at != (signature{}) && time.Since(began) < coarse {
		t.Fatal("a directory that changed a moment ago is taken for one at rest")
	}
	rest()
	read := d.read
	look("at rest", false, 1)
	if d.read != read {
		t.Fatal("a directory at rest was listed")
	}
	write("a.yaml", "/var/log/other")
	look("edited in place", true, 1)
	if got := d.sources["a.yaml"].good.Path; got != "/var/log/other" || d.read != read {
		t.Fatalf("path %s; listed: %t", got, d.read != read)
	}
	write("b.yaml", "/var/log/b")
	look("a new file", true, 2)
	rest()
	must(os.Remove(filepath.Join(d.path, "b.yaml")))
	look("a file is gone", true, 1)
	rest()
	must(os.Chmod(d.path, 0o777))
	look("anybody may write", true, 1)
	if d.fault == nil {
		t.Fatal("a directory that anybody may write to is trusted")
	}
	must(os.Chmod(d.path, 0o755))
	look("mended", true, 1)
	rest()
	must(os.Rename(d.path, d.path+".old"))
	look("gone", true, 1)
	must(os.Mkdir(d.path, 0o755))
	write("c.yaml", "/var/log/c")
	look("another one of the name", true, 1)
	if d.sources["c.yaml"] == nil {
		t.Fatal("the old directory's names are kept")
	}
	rest()
	d.read = d.read.Add(-everyLook)
	read = d.read
	look("after long", false, 1)
	if d.read == read {
		t.Fatal("it is never listed again")
	}
}
