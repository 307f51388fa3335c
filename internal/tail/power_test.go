package tail

import (
	"os"
	"path/filepath"
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

// So it goes where the live file is rotated in the very moment of the first look, which is repeated then: what is known of the emptied file, which had been
// read to its end, isn't forgotten meanwhile.
func TestPowerFailureEmptiesAFileAndAnotherIsRotatedDuringTheLook(t *testing.T) {
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
	c, d, e := lines("c", 100), lines("d", 100), lines("e", 100)
	r.write("app.log", c)
	r.rename("app.log", "app.log-20261125")
	r.write("app.log", d)
	looks := 0
	r.cfg.Allowed = r.cfg.Allowed.Also(func(real string) error {
		if filepath.Base(real) == "app.log-20261125" {
			if looks++; looks == 1 {
				r.rename("app.log", "app.log-20261126")
				r.write("app.log", e)
			}
		}
		return nil
	})
	r.out = nil
	r.open()
	r.drain()
	if looks < 2 {
		t.Errorf("the rotated file was looked at %d times", looks)
	}
	r.want(c + d + e)
	if len(r.losses) == 0 {
		t.Error("no loss")
	}
}
