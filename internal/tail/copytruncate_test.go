package tail

import (
	"compress/gzip"
	"os"
	"testing"
)

func TestCopytruncateIsFinishedFromTheCopy(t *testing.T) {
	for _, how := range []string{"plain", "gz"} {
		t.Run(how, func(t *testing.T) {
			r := newRig(t).open()
			a, b := lines("a", 200), lines("b", 50)
			r.write("app.log", a[:3000])
			r.drain()
			r.write("app.log", a[3000:])
			r.copy("app.log", "app.log.1")
			r.truncate("app.log")
			if how == "gz" {
				r.gzip("app.log.1")
			}
			r.write("app.log", b)
			r.drain()
			r.want(a + b)
			r.wantLosses(0)
			// Reread from the copy, also of what was read before the truncation.
			p, err := r.log.Reread(100, make([]byte, 500))
			r.must(err)
			if string(p.Data) != a[100:600] {
				t.Fatalf("reread %q", p.Data)
			}
			r.restart()
			r.out, r.pieces = nil, nil
			r.drain()
			r.want(a + b)
			r.release()
			// The copy isn't taken for something new at the next rotation.
			r.copy("app.log", "app.log.2")
			r.truncate("app.log")
			r.write("app.log", "c\n")
			r.drain()
			r.want(a + b + "c\n")
		})
	}
}

// The copy is found in the moment when its compressed form is there already, and it is there still.
func TestCopytruncateCopyIsJustBeingCompressed(t *testing.T) {
	r := newRig(t).open()
	a, b := lines("a", 200), lines("b", 50)
	r.write("app.log", a[:3000])
	r.drain()
	r.write("app.log", a[3000:])
	r.copy("app.log", "app.log.1")
	r.copy("app.log", "copy")
	r.truncate("app.log")
	r.gzip("app.log.1")
	r.rename("copy", "app.log.1")
	r.write("app.log", b)
	r.drain()
	r.remove("app.log.1")
	r.drain()
	r.want(a + b)
	r.wantLosses(0)
}

// The new content is longer than the old: size alone shows nothing.
func TestCopytruncateThenGrownBeyond(t *testing.T) {
	r := newRig(t).open()
	a, b := lines("a", 20), lines("b", 500)
	r.write("app.log", a[:400])
	r.drain()
	r.write("app.log", a[400:])
	r.copy("app.log", "app.log.1")
	r.truncate("app.log")
	r.write("app.log", b)
	r.drain()
	r.want(a + b)
	r.wantLosses(0)
}

// The copy was made before the last bytes that were read: it has nothing new
// and is not read again.
func TestCopytruncateCopyEndsBeforeTheOffset(t *testing.T) {
	r := newRig(t).open()
	a := lines("a", 100)
	r.write("app.log", a[:2000])
	r.copy("app.log", "app.log.1")
	r.write("app.log", a[2000:])
	r.drain()
	r.truncate("app.log")
	r.write("app.log", "b\n")
	r.drain()
	r.want(a + "b\n")
	r.wantLosses(0)
}

func (r *rig) gzip(name string) {
	r.t.Helper()
	b, err := os.ReadFile(r.name(name))
	r.must(err)
	st, err := os.Stat(r.name(name))
	r.must(err)
	f, err := os.Create(r.name(name + ".gz"))
	r.must(err)
	z := gzip.NewWriter(f)
	_, err = z.Write(b)
	r.must(err)
	r.must(z.Close())
	r.must(f.Close())
	r.must(os.Chtimes(r.name(name+".gz"), st.ModTime(), st.ModTime()))
	r.remove(name)
}
