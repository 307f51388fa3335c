package tail

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// copying is logrotate's renamecopy of the log's file, step by step: the file is renamed, its name made anew, the copy made, the file removed, and
// perhaps the copy compressed. The writer goes on with the file that it has open.
type copying struct {
	*rig
	file *os.File // that the writer has open
}

func newCopying(r *rig) *copying {
	r.t.Helper()
	f, err := os.OpenFile(r.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	r.must(err)
	r.t.Cleanup(func() { _ = f.Close() })
	return &copying{rig: r, file: f}
}

// says writes to the file that the writer has open.
func (c *copying) says(s string) {
	c.t.Helper()
	_, err := c.file.WriteString(s)
	c.must(err)
}

func (c *copying) renames(create bool) {
	c.t.Helper()
	c.rename("app.log", "app.log.1.tmp")
	if create {
		c.write("app.log", "")
	}
}

// copies fills the copy from where it ends up to an offset; -1 is the file's end.
func (c *copying) copies(to int64) {
	c.t.Helper()
	tick()
	b, err := os.ReadFile(c.name("app.log.1.tmp"))
	c.must(err)
	done := int64(0)
	if st, err := os.Stat(c.name("app.log.1")); err == nil {
		done = st.Size()
	}
	if to < 0 {
		to = int64(len(b))
	}
	c.writeBytes("app.log.1", b[done:to])
	tick()
}

// The log is looked at while the copy is made. It can have next to nothing in it then.
func TestRenamecopyInTheMaking(t *testing.T) {
	for _, create := range []bool{true, false} {
		for _, seen := range []int64{0, 5000} {
			for _, restart := range []string{"", "empty", "done"} {
				t.Run(fmt.Sprintf("create %t, %d bytes seen, restart %s", create, seen, restart), func(t *testing.T) {
					c := newCopying(newRig(t))
					a, late := lines("a", 500), lines("late", 300)
					c.says(a)
					c.open()
					c.drain()
					c.renames(create)
					c.copies(seen)
					_ = c.log.Look()
					again := func() {
						c.drain()
						c.release()
						c.restart()
					}
					if restart == "empty" {
						again()
					}
					c.says(late[:1000])
					c.copies(9000)
					c.drain()
					c.copies(-1)
					c.drain()
					c.says(late[1000:])
					c.remove("app.log.1.tmp")
					c.drain()
					if restart == "done" {
						again()
					}
					c.must(c.file.Close())
					c.release()
					c.drain()
					c.write("app.log", "next\n")
					c.drain()
					c.want(a + late + "next\n")
					// The file that the last bytes came from is nowhere after a restart: the centre's word is asked for.
					c.wantLosses(map[string]int{"done": 1}[restart])
				})
			}
		}
	}
}

// What looks like the beginning of a copy is another file: an empty one that was rotated away unseen, and is written to late. It begins as the one before.
func TestRenameOfAnEmptyFileThatBeginsAlike(t *testing.T) {
	header := "a header that each file of this log begins with, whatever comes behind it\n"
	r := newRig(t).open()
	a, b := header+lines("a", 100), header+lines("b", 10)
	r.write("app.log", a)
	r.drain()
	r.rename("app.log", "app.log.2")
	r.write("app.log", "")
	r.rename("app.log", "app.log.1")
	r.write("app.log", "next\n")
	r.must(r.log.Look())
	r.write("app.log.1", header)
	r.now = time.Now()
	r.must(r.log.Look())
	if r.step() { // it may be a copy of the first
		t.Fatalf("%q is read", r.out[len(a):])
	}
	r.write("app.log.1", b[len(header):])
	r.drain()
	r.want(a + b + "next\n")
	r.wantLosses(0)
}

// What was written behind the copy is read, too, all of it is confirmed, and the file let go. Only then the next one is begun, or rotated away itself:
// the copy is the beginning of what was read.
func TestRenamecopyAndWrittenOn(t *testing.T) {
	for _, next := range []string{"is written", "was rotated away", "isn't made"} {
		for _, compressed := range []bool{false, true} {
			for _, restart := range []string{"", "while the writer has it open", "when it is let go"} {
				for _, copied := range []int{100, 5000} {
					t.Run(fmt.Sprintf("next %s, compressed %t, restart %s, %d bytes", next, compressed, restart, copied), func(t *testing.T) {
						c := newCopying(newRig(t))
						a, late := lines("a", 500)[:copied], lines("late", 100)
						c.says(a)
						c.open()
						c.drain()
						c.renames(next != "isn't made")
						c.copies(-1)
						c.remove("app.log.1.tmp")
						c.says(late)
						c.drain()
						if compressed {
							c.gzip("app.log.1")
						}
						c.release()
						c.must(ignoreMissing(c.log.Look()))
						losses := 0
						if restart == "while the writer has it open" {
							c.restart() // the file that the last bytes came from is nowhere: the centre's word is asked for
							losses = 1
						}
						c.must(c.file.Close())
						c.must(ignoreMissing(c.log.Look()))
						if n := len(c.log.gens); losses == 0 && n > 1 {
							t.Fatalf("%d generations", n)
						}
						if restart == "when it is let go" {
							c.restart()
						}
						tick()
						if next == "was rotated away" {
							ext := map[bool]string{true: ".gz"}[compressed]
							c.rename("app.log.1"+ext, "app.log.2"+ext)
							c.renames(true)
							c.copies(-1)
							c.remove("app.log.1.tmp")
						}
						c.write("app.log", "next\n")
						c.drain()
						c.want(a + late + "next\n")
						c.wantLosses(losses)
					})
				}
			}
		}
	}
}
