package tail

import "testing"

// What was read to its end and confirmed by an earlier run is let go, also where only a copy of it is left, once that is sure.
func TestSureLetsACopyGo(t *testing.T) {
	c := newCopying(newRig(t))
	c.says(lines("a", 300))
	c.open()
	c.drain()
	c.release()
	c.save()
	c.crash()
	c.must(c.file.Close())
	c.rename("app.log", "app.log.1")
	tick()
	c.gzip("app.log.1")
	c.write("app.log", "")
	c.open()
	c.drain()
	c.must(c.log.Look())
	if g := c.log.Status().Generations; len(g) != 2 || !c.log.Copied() {
		t.Errorf("more of it may have been handed out: %+v", g)
	}
	c.log.Sure()
	if g := c.log.Status().Generations; len(g) != 1 || c.log.Copied() {
		t.Errorf("held: %+v", g)
	}
}
