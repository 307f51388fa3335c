package tail

import (
	"fmt"
	"os"
	"testing"
)

// shift moves rotated files on by one, as logrotate does, and makes the next file.
func (r *rig) shift(content string) {
	r.t.Helper()
	for i := 9; i > 0; i-- {
		if _, err := os.Stat(r.name(fmt.Sprintf("app.log.%d", i))); err == nil {
			r.rename(fmt.Sprintf("app.log.%d", i), fmt.Sprintf("app.log.%d", i+1))
		}
	}
	r.rename("app.log", "app.log.1")
	tick()
	r.write("app.log", content)
}

// A file that came and went unseen and is nowhere is a gap: the numbers tell.
func TestHoleOfAMissingFileIsAGap(t *testing.T) {
	for _, mode := range []string{"running", "down"} {
		t.Run(mode, func(t *testing.T) {
			r := newRig(t).open()
			r.write("app.log", "one\n")
			r.drain()
			for _, s := range []string{"two\n", "three\n"} {
				r.shift(s)
				r.drain()
			}
			r.wantLosses(0)
			r.release()
			r.save()
			if mode == "down" {
				r.crash()
			}
			r.shift("lost\n")
			r.shift("five\n")
			r.remove("app.log.1")
			if mode == "down" {
				r.open()
			}
			r.drain()
			r.want("one\ntwo\nthree\nfive\n")
			r.wantLosses(1)
			if l := r.losses[0]; l.Bytes != -1 || l.Exact || l.Cause != "rotated away unseen, and not found" {
				t.Fatalf("%+v", l)
			}
			r.shift("six\n")
			r.drain()
			r.release()
			r.restart()
			r.drain()
			r.wantLosses(1) // once
		})
	}
}

// What isn't certain isn't said.
func TestHoleIsNotSaidWhereNothingIsMissing(t *testing.T) {
	for name, do := range map[string]func(r *rig){
		"all are there": func(r *rig) {
			r.shift("x\n")
			r.shift("y\n")
		},
		"one is empty": func(r *rig) {
			r.shift("")
			r.shift("y\n")
		},
		"one is compressed": func(r *rig) {
			r.shift("x\n")
			r.pack("app.log.1", "gz")
			r.rename("app.log.1.gz", "app.log.2.gz")
			r.rename("app.log.2", "app.log.3")
			r.rename("app.log", "app.log.1")
			tick()
			r.write("app.log", "y\n")
		},
		"a rotation is under way": func(r *rig) {
			r.shift("x\n")
			tick()
			r.rename("app.log.1", "app.log.2") // and app.log not yet
		},
		"it was renamed by hand": func(r *rig) {
			r.shift("x\n")
			tick()
			r.rename("app.log.1", "app.log.7")
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t).open()
			r.write("app.log", "one\n")
			r.drain()
			for _, s := range []string{"two\n", "three\n"} {
				r.shift(s)
				r.drain()
			}
			do(r)
			r.drain()
			r.wantLosses(0)
		})
	}
}

// A rotation that was seen late, when the file had been moved on already, isn't taken for another numbering.
func TestHoleIsSaidAfterALateLook(t *testing.T) {
	r := newRig(t).open()
	r.write("app.log", "one\n")
	r.drain()
	for _, s := range []string{"two\n", "three\n"} {
		r.shift(s)
		r.drain()
	}
	r.shift("four\n")
	r.shift("five\n")
	r.drain()
	r.wantLosses(0)
	r.shift("lost\n")
	r.shift("seven\n")
	r.remove("app.log.1")
	r.drain()
	r.want("one\ntwo\nthree\nfour\nfive\nseven\n")
	r.wantLosses(1)
}

// Numbers that rise with time tell nothing: any may be the first that this log sees.
func TestHoleIsNotSaidWhereNumbersRise(t *testing.T) {
	r := newRig(t).open()
	for _, n := range []int{1, 2, 5, 7} {
		r.write("app.log", fmt.Sprintln(n))
		r.drain()
		r.rename("app.log", fmt.Sprintf("app.log.%d", n))
		tick()
		r.write("app.log", "")
		r.drain()
	}
	r.wantLosses(0)
}
