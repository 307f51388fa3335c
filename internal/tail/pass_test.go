package tail

import (
	"errors"
	"testing"
)

// endsBefore is a log whose file was copied and removed and then written on; the state was saved when it was read up to the copy's end, or (late) up to its own.
func endsBefore(t *testing.T, late bool) (c *copying, a, rest string, last Source) {
	c = newCopying(newRig(t))
	a, rest = lines("a", 300), lines("late", 100)
	c.says(a)
	c.open()
	c.drain()
	c.must(c.log.Look())
	c.renames(true)
	c.copies(-1)
	c.remove("app.log.1.tmp")
	c.save()
	before := c.state
	c.says(rest)
	c.drain()
	if c.save(); !late {
		c.state = before
	}
	sources := c.log.Sources()
	last = sources[0]
	if want := int64(len(a + rest)); last.Offset != want {
		t.Fatalf("read up to %d, want %d", last.Offset, want)
	}
	c.crash()
	c.must(c.file.Close())
	c.write("app.log", "next\n")
	c.out, c.losses = nil, nil
	return c, a, rest, last
}

// With the word of whoever took it the log goes on behind what nobody can read again, and nothing is lost.
func TestPassBehindACopy(t *testing.T) {
	for _, late := range []bool{false, true} {
		for _, again := range []bool{false, true} {
			c, a, rest, last := endsBefore(t, late)
			c.open()
			end := uint64(len(a + rest))
			if !c.log.Copied() {
				t.Fatal("no copy is known")
			}
			c.must(c.log.Pass(end, last, nil))
			if again { // the state says the same
				c.restart()
				c.must(c.log.Pass(end, last, nil))
			}
			c.drain()
			c.want("next\n")
			c.wantLosses(0)
			if got := c.log.Head(); got != end+5 {
				t.Errorf("late %t, again %t: head %d, want %d", late, again, got, end+5)
			}
		}
	}
}

// What was read of the file when the state was saved can be read again as far as the copy has it, and the rest is a loss.
func TestPassIsNotNeededToReadTheCopy(t *testing.T) {
	c, a, _, _ := endsBefore(t, true)
	c.open()
	c.drain()
	c.want(a + "next\n")
	if len(c.losses) == 0 {
		t.Error("no loss")
	}
}

// Without a word the piece that comes behind says that it isn't sure.
func TestPeekIsUnsureBehindACopy(t *testing.T) {
	for _, late := range []bool{false, true} {
		c, _, _, last := endsBefore(t, late)
		c.open()
		for {
			p, err := c.log.Peek(c.buf)
			c.must(err)
			if p.Unsure {
				if p.Loss == nil && string(p.Data) != "next\n" {
					t.Errorf("late %t: %q isn't sure", late, p.Data)
				}
				break
			}
			if p.Loss != nil || len(p.Data) == 0 || string(p.Data) == "next\n" {
				t.Fatalf("late %t: %+v, and it is sure", late, p)
			}
			c.must(c.log.Advance(uint64(len(p.Data))))
		}
		c.must(c.log.Pass(uint64(last.Offset), last, nil))
		c.drain()
		c.want("next\n")
	}
}

// Nothing is passed over that an earlier run can't have handed out so.
func TestPassRefuses(t *testing.T) {
	for _, late := range []bool{false, true} {
		c, a, rest, last := endsBefore(t, late)
		c.open()
		end := uint64(len(a + rest))
		for name, tt := range map[string]struct {
			position uint64
			last     Source
		}{
			"another offset":     {end, Source{last.ID, last.Offset - 1}},
			"another generation": {end, Source{last.ID + "1", last.Offset}},
			"another position":   {end + 1, last},
			"no position":        {positionMax + 1, last},
		} {
			if err := c.log.Pass(tt.position, tt.last, nil); !errors.Is(err, errNotPassed) {
				t.Errorf("late %t, %s: %v", late, name, err)
			}
		}
		c.must(c.log.Pass(end, last, nil))
		c.drain()
		if err := c.log.Pass(end+5, last, nil); !errors.Is(err, errNotPassed) { // something else was handed out since
			t.Errorf("late %t, later: %v", late, err)
		}
	}
}

// Where more was read again than is passed, what lies behind the place comes again.
func TestPassGoesBack(t *testing.T) {
	c, _, _, last := endsBefore(t, true)
	c.open()
	p, err := c.log.Peek(c.buf[:50])
	c.must(err)
	c.must(c.log.Advance(uint64(len(p.Data))))
	c.must(c.log.Pass(10, Source{last.ID, 10}, nil))
	if p, err = c.log.Peek(c.buf); err != nil || p.Position != 10 {
		t.Errorf("goes on at %d, %v", p.Position, err)
	}
}
