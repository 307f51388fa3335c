package tail

import (
	"os"
	"testing"
)

// A power failure takes a file's bytes and the name that it was rotated to, and a later file wholly. What is written to the first one then
// isn't lost with them, though it was rotated again before anybody looked, and is older by its birth than the later one was.
func TestPowerFailureEmptiesAFileThatIsWrittenAndRotatedAgain(t *testing.T) {
	r := newRig(t).open()
	r.write("app.log", lines("a", 100))
	r.drain()
	r.rename("app.log", "app.log.1")
	r.write("app.log", lines("b", 100))
	r.drain()
	r.save()
	r.crash()
	r.rename("app.log.1", "app.log")
	r.must(os.Truncate(r.path, 0))
	c, d := lines("c", 100), lines("d", 100)
	r.write("app.log", c)
	r.rename("app.log", "app.log.1")
	r.write("app.log", d)
	r.out = nil
	r.open()
	r.drain()
	r.want(c + d)
	if len(r.losses) == 0 {
		t.Error("no loss")
	}
}
