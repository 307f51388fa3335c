package tail

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"
)

// pack compresses with the real program, as an administrator's logrotate does.
func (r *rig) pack(name, how string) {
	r.t.Helper()
	args := map[string][]string{
		"gz": {"gzip"}, "bz2": {"bzip2"}, "zst": {"zstd", "-q", "--rm"}, "xz": {"xz"},
	}[how]
	if args == nil {
		return
	}
	if _, err := exec.LookPath(args[0]); err != nil {
		r.t.Skipf("%s isn't installed", args[0])
	}
	cmd := exec.Command(args[0], append(args[1:], r.name(name))...)
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("%v: %s", err, out)
	}
}

func TestRotationWhileDown(t *testing.T) {
	for _, how := range []string{"plain", "gz", "bz2", "zst", "xz"} {
		for _, name := range []string{"app.log.1", "app.log-20261122", "app-2026-11-22.log"} {
			for _, read := range []int{0, 10, 999, 1000, 2000, 12000} {
				t.Run(fmt.Sprintf("%s/%s/%d", how, name, read), func(t *testing.T) {
					r := newRig(t).open()
					r.buf = make([]byte, 500)
					a := lines("a", 1000)
					r.write("app.log", a[:20000])
					for len(r.out) < read {
						r.buf = make([]byte, min(500, read-len(r.out)))
						if !r.step() {
							t.Fatal("nothing there")
						}
					}
					if read == 0 {
						r.must(r.log.Look())
					}
					if read != 2000 {
						r.release()
						r.out = r.out[:0]
					} else {
						r.out = nil
					}
					from := int(r.log.Released())
					r.save()
					r.crash()
					r.write("app.log", a[20000:])
					r.rename("app.log", name)
					r.pack(name, how)
					r.write("app.log", "b\n")
					r.open()
					r.buf = make([]byte, 4000)
					r.out, r.pieces = nil, nil
					r.drain()
					if want := a[from:] + "b\n"; string(r.out) != want {
						t.Fatalf("got %s\nwant %s\nlosses %v err %v", brief(r.out), brief([]byte(want)), r.losses, r.err)
					}
					r.wantLosses(0)
				})
			}
		}
	}
}

// Several rotations while down: those in between were never seen.
func TestRotationWhileDownSeveral(t *testing.T) {
	for _, how := range []string{"plain", "gz", "mixed"} {
		t.Run(how, func(t *testing.T) {
			r := newRig(t).open()
			r.write("app.log", "old\n")
			r.drain()
			r.rename("app.log", "app.log.1")
			a := lines("a", 100)
			r.write("app.log", a[:500])
			r.drain()
			r.release()
			r.save()
			r.crash()
			r.write("app.log", a[500:])
			rotate := func(n int) {
				for i := n; i > 0; i-- {
					for _, e := range []string{"", ".gz"} {
						from := fmt.Sprintf("app.log.%d%s", i, e)
						if _, err := os.Stat(r.name(from)); err == nil {
							r.rename(from, fmt.Sprintf("app.log.%d%s", i+1, e))
						}
					}
				}
				r.rename("app.log", "app.log.1")
				if how == "gz" {
					r.pack("app.log.1", "gz")
				} else if how == "mixed" && n > 1 {
					r.pack("app.log.2", "gz")
				}
			}
			want := a[500:]
			for i := 1; i <= 4; i++ {
				rotate(i)
				s := lines(fmt.Sprint("gen", i), 30*i)
				r.write("app.log", s)
				want += s
			}
			r.open()
			r.out, r.pieces = nil, nil
			r.drain()
			if string(r.out) != want {
				t.Fatalf("got %s\nwant %s\nlosses %v err %v", brief(r.out), brief([]byte(want)), r.losses, r.err)
			}
			r.wantLosses(0)
			r.release()
			// None of them comes again.
			r.restart()
			r.rename("app.log", "app.log.0")
			r.write("app.log", "end\n")
			r.out, r.pieces = nil, nil
			r.drain()
			if string(r.out) != "end\n" {
				t.Fatalf("got %s", brief(r.out))
			}
		})
	}
}

// The file is nowhere: what may have been in it is a loss, of unknown size.
func TestRotationWhileDownAndDeleted(t *testing.T) {
	r := newRig(t).open()
	r.write("app.log", "one\n")
	r.drain()
	r.release()
	r.save()
	r.crash()
	r.remove("app.log")
	r.open()
	r.drain()
	r.wantLosses(0) // nothing to go on with yet: perhaps a file system isn't mounted
	isErr(t, r.err, os.ErrNotExist)
	r.write("app.log", "two\n")
	r.drain()
	r.want("one\ntwo\n")
	r.wantLosses(1)
	if l := r.losses[0]; l.Bytes != -1 || l.Exact {
		t.Fatalf("%+v", l)
	}
}

// Files that existed before the log was begun are nobody's.
func TestRotationOlderFilesAreNotRead(t *testing.T) {
	r := newRig(t)
	r.write("app.log.2", "x\n")
	r.write("app.log.1", "y\n")
	r.write("app.log", "one\n")
	r.open()
	r.drain()
	r.rename("app.log.2", "app.log.3")
	r.rename("app.log.1", "app.log.2")
	r.write("app.log.2", "written late\n")
	r.rename("app.log", "app.log.1")
	r.write("app.log", "two\n")
	r.drain()
	r.want("one\ntwo\n")
	r.rename("app.log.2", "app.log.4")
	// All this happens within one tick of the file system's clock; give it another time, which gzip keeps.
	past := time.Now().Add(-time.Second)
	r.must(os.Chtimes(r.name("app.log.4"), past, past))
	r.pack("app.log.4", "gz")
	r.rename("app.log.1", "app.log.2")
	r.rename("app.log", "app.log.1")
	r.write("app.log", "three\n")
	r.drain()
	r.want("one\ntwo\nthree\n")
}

func TestRotationPackedIsReadInSmallSteps(t *testing.T) {
	r := newRig(t).open()
	a := []byte(lines("a", 100000))
	r.writeBytes("app.log", a[:100])
	r.drain()
	r.save()
	r.crash()
	r.writeBytes("app.log", a[100:])
	r.rename("app.log", "app.log.1")
	r.pack("app.log.1", "gz")
	r.write("app.log", "end\n")
	r.open()
	r.buf = make([]byte, 32<<10)
	r.out, r.pieces = nil, nil
	start := time.Now()
	for {
		p, err := r.log.Peek(r.buf)
		r.must(err)
		if len(p.Data) == 0 {
			if r.now = r.now.Add(time.Second); bytes.HasSuffix(r.out, []byte("end\n")) {
				break
			}
			continue
		}
		n := max(1, len(p.Data)*3/4)
		r.out = append(r.out, p.Data[:n]...)
		r.must(r.log.Advance(uint64(n)))
	}
	t.Logf("%d bytes in %v", len(r.out), time.Since(start))
	r.wantBytes(append(a, "end\n"...))
}

// Rotations that follow so fast that the last changes bear the same time are read in the order of the numbers in
// their names; which way these count is seen from others.
func TestRotationWhileDownWithEqualTimes(t *testing.T) {
	for _, names := range [][]string{{"app.log.1", "app.log.2", "app.log.3"}, {"app.log.3", "app.log.2", "app.log.1"}} {
		t.Run(names[0], func(t *testing.T) {
			r := newRig(t).open()
			r.write("app.log", "old\n")
			r.drain()
			r.save()
			r.crash()
			now := time.Now()
			for i, name := range names {
				r.write("app.log", fmt.Sprintf("generation %d\n", i))
				r.rename("app.log", name)
				at := now
				if i == 0 {
					at = now.Add(-time.Millisecond)
				}
				r.must(os.Chtimes(r.name(name), at, at))
			}
			r.write("app.log", "live\n")
			r.open()
			r.out, r.pieces = nil, nil
			r.drain()
			r.want("old\ngeneration 0\ngeneration 1\ngeneration 2\nlive\n")
		})
	}
}
