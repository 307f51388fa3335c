package tail

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
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

// So it is where the copy is finished later than the last bytes were written: logrotate sets its size at the end.
func TestCopytruncateCopyIsFinishedAfterMoreWasRead(t *testing.T) {
	for name, c := range map[string]struct{ copied, read int }{
		"longer than the fingerprint": {2000, 4000}, "shorter": {500, 3000}, "within what is remembered": {2900, 3000}, "as long as what was read": {3000, 3000},
	} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, restart %t", name, restart), func(t *testing.T) {
				r := newRig(t).open()
				a := lines("a", 200)[:c.read]
				r.write("app.log", a[:c.copied])
				r.drain()
				r.copy("app.log", "app.log.1")
				r.write("app.log", a[c.copied:])
				r.drain()
				st, err := os.Stat(r.name("app.log"))
				r.must(err)
				r.must(os.Chtimes(r.name("app.log.1"), st.ModTime(), st.ModTime().Add(time.Nanosecond)))
				r.truncate("app.log")
				if restart {
					if c.copied < headMax && c.copied < c.read {
						t.Skip("so little of a head isn't kept over a restart")
					}
					r.release() // else it comes again
					r.restart()
				}
				r.write("app.log", "b\n")
				r.drain()
				if got := strings.Count(string(r.out), a[:c.copied]); got != 1 {
					t.Errorf("the copy's bytes are there %d times", got)
				}
				if !bytes.HasSuffix(r.out, []byte("b\n")) {
					t.Errorf("%s", brief(r.out))
				}
			})
		}
	}
}

// The copy has the very time of the truncation, and what was truncated is done with when something is written behind it.
func TestCopytruncateCopyInTheTickOfTheTruncation(t *testing.T) {
	r := newRig(t).open()
	a := lines("a", 100)
	r.write("app.log", a[:2000])
	r.drain()
	r.copy("app.log", "app.log.1")
	r.write("app.log", a[2000:])
	r.drain()
	r.truncate("app.log")
	st, err := os.Stat(r.name("app.log"))
	r.must(err)
	r.must(os.Chtimes(r.name("app.log.1"), st.ModTime(), st.ModTime()))
	r.drain()
	r.release()
	r.drain()
	r.write("app.log", "b\n")
	r.drain()
	r.want(a + "b\n")
}

// A copy of something else is no copy of what was read, though it begins alike: it is made later, or over an older copy, and longer or with another end.
func TestCopytruncateCopyOfSomethingElse(t *testing.T) {
	banner := lines("banner", 50)
	for name, c := range map[string]struct {
		first, second string
		over          bool
	}{
		"made later":        {banner + lines("one", 50), banner + "two\n", false},
		"longer":            {banner + "one\n", banner + lines("two", 50), true},
		"another end":       {banner + lines("one", 3), banner + "two\n", true},
		"another beginning": {banner + lines("one", 50), lines("two", 50), true},
		"hardly anything":   {banner, banner[:telling-1], true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t).open()
			r.write("app.log", c.first[:100])
			r.drain()
			if c.over {
				r.copy("app.log", "app.log.1")
			}
			r.write("app.log", c.first[100:])
			r.drain()
			r.copy("app.log", "app.log.2")
			r.truncate("app.log")
			r.write("app.log", c.second)
			r.copy("app.log", "app.log.1")
			r.truncate("app.log")
			r.write("app.log", "three\n")
			r.drain()
			r.want(c.first + c.second + "three\n")
			r.wantLosses(0)
		})
	}
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

// So little of a file was read that the next one begins with it, too, and has grown beyond: what else is known of its beginning tells.
func TestCopytruncateHardlyAnythingWasRead(t *testing.T) {
	for _, read := range []int{1, 20} {
		for _, again := range []bool{false, true} { // a piece that is the same in both tells nothing
			t.Run(fmt.Sprintf("%d, again %t", read, again), func(t *testing.T) {
				r := newRig(t).open()
				same := strings.Repeat("-", 2*read)
				a, b, c := same+lines("a", 50), same+lines("b", 60), same+lines("c", 70)
				r.write("app.log", a)
				r.buf = make([]byte, read)
				r.step()
				r.copy("app.log", "app.log.2")
				tick()
				r.truncate("app.log")
				r.write("app.log", b)
				r.copy("app.log", "app.log.1")
				tick()
				r.truncate("app.log")
				r.write("app.log", c)
				if again {
					r.step()
				}
				r.buf = make([]byte, 64<<10)
				r.drain()
				r.want(a + b + c)
				r.wantLosses(0)
			})
		}
	}
}

// What was seen to be written between the copy and the truncation, and wasn't read in time, is a loss.
func TestCopytruncateWhatWasSeenBehindTheCopyIsALoss(t *testing.T) {
	r := newRig(t).open()
	a := lines("a", 100)
	r.write("app.log", a)
	r.buf = make([]byte, 1500)
	r.step()
	r.copy("app.log", "app.log.1")
	r.write("app.log", "between\n")
	r.must(r.log.Look())
	r.truncate("app.log")
	r.write("app.log", "b\n")
	r.buf = make([]byte, 64<<10)
	r.drain()
	r.want(a + "b\n")
	r.wantLosses(1)
	if got := r.losses[0]; got.Bytes != 8 || got.Exact {
		t.Fatalf("%+v", got)
	}
}

// The file is copied, truncated and filled beyond what was seen of it in the middle of a look, perhaps twice before the next one: the size that is
// seen then isn't that of what was read, so nothing is missing at the copy's end.
func TestCopytruncateInTheMiddleOfALook(t *testing.T) {
	for name, twice := range map[string]bool{"once": false, "twice": true} {
		for _, where := range []string{"read", "settle"} {
			t.Run(name+", "+where, func(t *testing.T) {
				r := newRig(t).open()
				a, b, c := lines("a", 50), lines("b", 80), lines("c", 90)
				r.write("app.log", a)
				r.buf = make([]byte, 100)
				r.step()
				calls := 0
				r.log.statAt = func(g *generation, at info) info {
					if calls++; calls != map[string]int{"read": 1, "settle": 2}[where] {
						return at
					}
					r.copy("app.log", "app.log.1")
					r.truncate("app.log")
					r.write("app.log", b)
					if at, err := g.content.stat(); err == nil {
						return at
					}
					return at
				}
				if where == "read" {
					r.step()
				} else {
					r.must(r.log.settle(r.log.live(), r.now))
				}
				r.log.statAt = nil
				want := a + b
				if twice {
					tick()
					r.rename("app.log.1", "app.log.2")
					r.copy("app.log", "app.log.1")
					r.truncate("app.log")
					r.write("app.log", c)
					want += c
				}
				r.buf = make([]byte, 64<<10)
				r.drain()
				r.want(want)
				r.wantLosses(0)
			})
		}
	}
}

// A copy that was read stays known though many older files are done with after it.
func TestCopyIsKnownAfterManyOlderFilesWereDeleted(t *testing.T) {
	r := newRig(t).open()
	want := ""
	for i := range finishedMax + 2 {
		s := lines(fmt.Sprint("file ", i), 3)
		r.write("app.log", s)
		r.drain()
		r.rename("app.log", fmt.Sprint("app.log.", 20-i))
		want += s
		tick()
	}
	a := lines("a", 50)
	r.write("app.log", a)
	r.drain()
	r.release()
	tick()
	r.copy("app.log", "app.log.1")
	r.truncate("app.log")
	now := time.Now()
	r.touch("app.log.1", now)
	r.touch("app.log", now)
	r.drain()
	for i := range finishedMax + 2 {
		r.remove(fmt.Sprint("app.log.", 20-i))
	}
	r.drain()
	tick()
	r.write("app.log", "b\n")
	r.drain()
	r.want(want + a + "b\n")
	r.wantLosses(0)
}
