package tail

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// renameCopy is logrotate's renamecopy, with a log that is read meanwhile and a writer that goes on with its file, also when that is removed. What it
// writes then is only in the file that the log holds: all of it is confirmed before anything else happens.
func (h *history) renameCopy() {
	st, err := os.Stat(h.path)
	if err != nil || st.Size() == 0 {
		return
	}
	h.must(ignoreMissing(h.log.Look()))
	h.say("rename and copy")
	file, err := os.OpenFile(h.path, os.O_APPEND|os.O_RDWR, 0)
	h.must(err)
	h.shift()
	h.rename("app.log", "app.log.1.tmp")
	if h.rnd.Intn(3) > 0 {
		h.writeBytes("app.log", nil)
	}
	h.writeBytes("app.log.1", nil)
	h.meanwhile(file)
	for at := int64(0); ; {
		block := make([]byte, telling<<h.rnd.Intn(7))
		n, err := file.ReadAt(block, at)
		at += int64(n)
		h.writeBytes("app.log.1", block[:n])
		h.meanwhile(file)
		if err == io.EOF {
			break
		}
		h.must(err)
	}
	h.meanwhile(file)
	h.remove("app.log.1.tmp")
	h.meanwhile(file)
	if h.rnd.Intn(3) == 0 {
		h.compress("app.log.1")
		h.meanwhile(file)
	}
	h.finish("what was written to a removed file")
	h.release()
	h.must(file.Close())
	h.must(ignoreMissing(h.log.Look())) // it lets go of the file, which nobody would find after a restart
	h.save()
}

// meanwhile is what happens between two steps of a copy.
func (h *history) meanwhile(file *os.File) {
	switch h.rnd.Intn(5) {
	case 0:
		tick() // what was compressed within a tick of the file system's clock isn't told from the whole
		var late bytes.Buffer
		for range 1 + h.rnd.Intn(20) {
			h.lines++
			fmt.Fprintf(&late, "%d late %s\n", h.lines, bytes.Repeat([]byte{byte(h.rnd.Intn(256))}, h.rnd.Intn(90)))
		}
		h.say("late %d at %d, to %s", late.Len(), len(h.written), filepath.Base(file.Name()))
		_, err := file.Write(late.Bytes())
		h.must(err)
		h.written = append(h.written, late.Bytes()...)
		tick()
	case 1:
		h.must(ignoreMissing(h.log.Look()))
	case 2:
		for range 1 + h.rnd.Intn(4) {
			h.piece()
		}
	case 3:
		h.finish("meanwhile")
		if h.rnd.Intn(2) == 0 {
			h.release()
		}
	}
}
