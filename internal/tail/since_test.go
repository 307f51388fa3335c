package tail

import (
	"testing"
	"time"
)

// A file that wasn't there at some moment came and was rotated before the first look: all of it is the log's.
func TestSinceTakesWhatWasRotatedBeforeTheFirstLook(t *testing.T) {
	for _, how := range []string{"plain", "gz"} {
		t.Run(how, func(t *testing.T) {
			r := newRig(t)
			r.write("app.log.7", "another's\n")
			past := time.Now().Add(-time.Hour)
			r.touch("app.log.7", past)
			r.cfg.Since = time.Now()
			r.write("app.log", "one\n")
			r.rename("app.log", "app.log.2")
			r.pack("app.log.2", how)
			r.write("app.log", "two\n")
			r.rename("app.log", "app.log.1")
			r.write("app.log", "three\n")
			r.open()
			r.drain()
			r.want("one\ntwo\nthree\n")
			r.release()
			r.restart()
			r.drain()
			r.want("one\ntwo\nthree\n")
		})
	}
}

// It was rotated away, and no other has its name yet.
func TestSinceTakesWhatWasRotatedWhereNoFileIs(t *testing.T) {
	r := newRig(t)
	r.cfg.Since = time.Now()
	r.write("app.log.1", "one\n")
	r.open()
	r.drain()
	r.want("one\n")
	r.write("app.log", "two\n")
	r.drain()
	r.want("one\ntwo\n")
}

// Without such a moment, and from the end on, rotated forms that are there at the first look aren't the log's.
func TestSinceUnknownLeavesRotatedFiles(t *testing.T) {
	for _, start := range []Start{StartBeginning, StartEnd} {
		r := newRig(t, func(c *Config) { c.Start = start })
		if start == StartEnd {
			r.cfg.Since = time.Now()
		}
		r.write("app.log.1", "one\n")
		r.write("app.log", "two\n")
		r.open()
		r.write("app.log", "three\n")
		r.drain()
		if want := map[Start]string{StartBeginning: "two\nthree\n", StartEnd: "three\n"}[start]; string(r.out) != want {
			t.Errorf("%s: got %q, want %q", start, r.out, want)
		}
	}
}
