package tail

import (
	"bytes"
	"errors"
	"math/rand"
	"os"
	"testing"
	"time"
)

// A compressed file that is being written while the rotation is noticed isn't
// taken for a file of its own.
func TestPackedInTheMaking(t *testing.T) {
	for _, size := range []int{0, 5, 100, 400} {
		r := newRig(t).open()
		a := lines("a", 500)
		r.write("app.log", a)
		r.drain()
		r.release()
		r.copy("app.log", "tmp")
		r.pack("tmp", "gz")
		whole, err := os.ReadFile(r.name("tmp.gz"))
		r.must(err)
		r.rename("app.log", "app.log.1")
		r.now = time.Now()
		r.writeBytes("app.log.1.gz", whole[:size])
		r.write("app.log", "two\n")
		r.must(r.log.Look())
		r.writeBytes("app.log.1.gz", whole[size:])
		r.remove("app.log.1")
		r.drain()
		r.want(a + "two\n")
		r.release()
		r.rename("app.log.1.gz", "app.log.2.gz")
		r.rename("app.log", "app.log.1")
		r.write("app.log", "three\n")
		r.drain()
		r.want(a + "two\nthree\n")
		r.wantLosses(0)
	}
}

// While down the file was compressed, and damaged behind the offset.
func TestPackedDamagedIsALoss(t *testing.T) {
	r := newRig(t).open()
	rnd := rand.New(rand.NewSource(1))
	a := make([]byte, 400_000) // doesn't compress: so the damage lies where it seems
	rnd.Read(a)
	r.writeBytes("app.log", a[:1000])
	r.drain()
	r.release()
	r.save()
	r.crash()
	r.writeBytes("app.log", a[1000:])
	r.rename("app.log", "app.log.1")
	r.pack("app.log.1", "gz")
	r.must(os.Truncate(r.name("app.log.1.gz"), 200_000))
	r.write("app.log", "two\n")
	r.now = time.Now()
	r.open()
	for r.step() {
	}
	if r.err == nil || len(r.losses) > 0 {
		t.Fatalf("given up at once: %v %v", r.err, r.losses)
	}
	got := len(r.out)
	if !bytes.Equal(r.out, a[:got]) || got < 100_000 {
		t.Fatalf("%d bytes", got)
	}
	r.now = r.now.Add(5 * time.Minute)
	r.drain()
	r.wantLosses(1)
	if l := r.losses[0]; l.Cause != "compressed file is damaged" || l.Exact {
		t.Fatalf("%+v", l)
	}
	r.wantBytes(append(bytes.Clone(a[:got]), "two\n"...))
}

// While down the file is compressed, which takes longer than the start: the rest
// comes when it is there.
func TestPackedUnfinishedIsWaitedFor(t *testing.T) {
	r := newRig(t).open()
	rnd := rand.New(rand.NewSource(1))
	a := make([]byte, 400_000)
	rnd.Read(a)
	r.writeBytes("app.log", a[:1000])
	r.drain()
	r.release()
	r.save()
	r.crash()
	r.writeBytes("app.log", a[1000:])
	r.rename("app.log", "tmp")
	r.pack("tmp", "gz")
	whole, err := os.ReadFile(r.name("tmp.gz"))
	r.must(err)
	r.remove("tmp.gz")
	r.writeBytes("app.log.1.gz", whole[:200_000])
	r.write("app.log", "two\n")
	r.now = time.Now()
	r.open()
	for r.step() {
	}
	if r.err == nil {
		t.Fatal("no error")
	}
	r.writeBytes("app.log.1.gz", whole[200_000:])
	r.drain()
	r.wantLosses(0)
	r.wantBytes(append(bytes.Clone(a), "two\n"...))
}

// Reading anywhere gives what is there, however far back.
func TestPackedReadsAnywhere(t *testing.T) {
	r := newRig(t)
	rnd := rand.New(rand.NewSource(2))
	a := []byte(lines("a", 30_000))
	for _, how := range []string{"gz", "zst", "bz2", "xz"} {
		t.Run(how, func(t *testing.T) {
			r.writeBytes("x", a)
			r.pack("x", how)
			name := "x." + how
			defer r.remove(name)
			f, _, err := openFile(r.name(name), r.cfg.Allowed)
			r.must(err)
			p := newPacked(f, how)
			defer p.close()
			for range 30 {
				off := rnd.Intn(len(a) + 100)
				buf := make([]byte, rnd.Intn(100_000))
				before := make([]byte, min(off, rnd.Intn(65)))
				n, err := p.read(before, buf, int64(off))
				if off-len(before) > len(a) || off > len(a) && len(before) > 0 {
					if !errors.Is(err, errShort) && n > 0 {
						t.Fatalf("read %d at %d behind the end: %v", n, off, err)
					}
					continue
				}
				r.must(err)
				want := a[min(off, len(a)):min(len(a), off+len(buf))]
				if !bytes.Equal(buf[:n], want) || !bytes.Equal(before, a[off-len(before):off]) {
					t.Fatalf("%d bytes at %d: %d came", len(buf), off, n)
				}
			}
			c := candidate{kind: how, content: p}
			if n, err := c.length(); n != int64(len(a)) || err != nil {
				t.Fatalf("length %d: %v", n, err)
			}
		})
	}
}
