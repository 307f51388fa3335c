package tail

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What follows is about files that all begin with the same header, so that what is known of one may be in another, too.

var header = lines("header", 7)

// tick lets the file systems' clock, which goes in steps, move on: what is made or changed from here on bears later times than all before.
func tick() {
	for now := time.Now(); ; time.Sleep(time.Millisecond) {
		var t unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &t); err != nil {
			panic(err)
		}
		if time.Unix(t.Unix()).After(now) {
			return
		}
	}
}

// headed is a log of which nothing is known but a file's header, and that is confirmed and saved.
func headed(t *testing.T) *rig {
	t.Helper()
	r := newRig(t).open()
	r.write("app.log", header)
	r.drain()
	r.release()
	r.save()
	tick()
	return r
}

func TestAlikeWhileDown(t *testing.T) {
	for name, c := range map[string]struct {
		do     func(r *rig)
		want   string
		losses int
	}{
		"compressed, and another is live": {func(r *rig) {
			r.write("app.log", "a\n")
			r.rename("app.log", "app.log.1")
			r.write("other", "") // keeps the inode from being used again
			r.gzip("app.log.1")
			tick()
			r.write("app.log", header+"b\n")
		}, header + header + "a\n" + header + "b\n", 1},
		"compressed as it was, and another is live": {func(r *rig) {
			r.rename("app.log", "app.log.1")
			r.write("other", "")
			r.gzip("app.log.1")
			tick()
			r.write("app.log", header+"b\n")
		}, header + header + "b\n", 0},
		"compressed, and no other file begins so": {func(r *rig) {
			r.write("app.log", "a\n")
			r.rename("app.log", "app.log.1")
			r.write("other", "")
			r.gzip("app.log.1")
			tick()
			r.write("app.log", "b\n")
		}, header + "a\nb\n", 0},
		"compressed, and there is no other": {func(r *rig) {
			r.write("app.log", "a\n")
			r.rename("app.log", "app.log.1")
			r.write("other", "")
			r.gzip("app.log.1")
			tick()
			r.write("app.log", header[:10])
		}, header + header + "a\n" + header[:10], 1},
		"deleted, and the next one is compressed": {func(r *rig) {
			r.write("other", header+"b\n")
			r.rename("other", "app.log")
			r.rename("app.log", "app.log.1")
			r.gzip("app.log.1")
			tick()
			r.write("app.log", header+"c\n")
		}, header + header + "b\n" + header + "c\n", 1},
		"deleted, and of the next two one is compressed": {func(r *rig) {
			r.write("other", header+"b\n")
			r.rename("other", "app.log")
			r.rename("app.log", "app.log.2")
			tick()
			r.write("app.log", header+"c\n")
			r.rename("app.log", "app.log.1")
			r.gzip("app.log.1")
			tick()
			r.write("app.log", header+"d\n")
		}, header + header + "b\n" + header + "c\n" + header + "d\n", 1},
		"copied, and the copy is all that is left": {func(r *rig) {
			r.write("app.log", "a\n")
			r.rename("app.log", "temporary")
			r.copy("temporary", "app.log.1")
			r.remove("temporary")
			tick()
			r.write("app.log", "b\n")
		}, header + header + "a\nb\n", 1},
		"compressed, the next one not yet, and another is live": {func(r *rig) {
			r.write("app.log", "a\n")
			r.rename("app.log", "app.log.2")
			r.gzip("app.log.2")
			tick()
			r.write("app.log", header+"b\n")
			r.rename("app.log", "app.log.1")
			tick()
			r.write("app.log", header+"c\n")
		}, header + header + "a\n" + header + "b\n" + header + "c\n", 1},
		"deleted, and another is live": {func(r *rig) {
			r.write("other", header+"b\n")
			r.rename("other", "app.log")
		}, header + header + "b\n", 1},
		"deleted, and one is there that was compressed long ago": {func(r *rig) {
			r.write("app.log.9", header+"old\n")
			r.gzip("app.log.9")
			r.touch("app.log.9.gz", time.Now().Add(-time.Hour))
			r.write("other", header+"b\n")
			r.rename("other", "app.log")
		}, header + header + "b\n", 1},
		"deleted, and the next one is rotated away": {func(r *rig) {
			r.write("other", header+"b\n")
			r.rename("other", "app.log")
			r.rename("app.log", "app.log.1")
			tick()
			r.write("app.log", header+"c\n")
		}, header + header + "b\n" + header + "c\n", 1},
		"copied, truncated, and begun again": {func(r *rig) {
			r.write("app.log", "a\n")
			r.copy("app.log", "app.log.1")
			r.truncate("app.log")
			tick()
			r.write("app.log", header+"b\n")
		}, header + "a\n" + header + "b\n", 0},
		"copied, truncated, begun again, and rotated away": {func(r *rig) {
			r.write("app.log", "a\n")
			r.copy("app.log", "app.log.1")
			r.truncate("app.log")
			tick()
			r.write("app.log", header+"b\n")
			r.rename("app.log.1", "app.log.2")
			r.gzip("app.log.2")
			r.rename("app.log", "app.log.1")
			tick()
			r.write("app.log", header+"c\n")
		}, header + "a\n" + header + "b\n" + header + "c\n", 0},
		"rotated away, and two others": {func(r *rig) {
			r.write("app.log", "a\n")
			r.rename("app.log", "app.log.2")
			tick()
			r.write("app.log", header+"b\n")
			r.rename("app.log", "app.log.1")
			tick()
			r.write("app.log", header+"c\n")
		}, header + "a\n" + header + "b\n" + header + "c\n", 0},
		"copied, and gone on with": {func(r *rig) {
			r.write("app.log", "a\n")
			r.copy("app.log", "app.log.1")
			tick()
			r.write("app.log", "b\n")
		}, header + "a\nb\n", 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := headed(t)
			r.crash()
			c.do(r)
			r.open()
			r.drain()
			r.want(c.want)
			r.wantLosses(c.losses)
		})
	}
}

// What was seen of a file, and is no longer there at the next start, is said to be lost, though what was read of it is.
func TestShorterThanBeforeTheRestart(t *testing.T) {
	r := newRig(t).open()
	a := header + lines("a", 50)
	r.write("app.log", a)
	r.buf = make([]byte, 200)
	r.step()
	r.release()
	r.restart()
	r.crash()
	r.must(os.Truncate(r.path, 1500))
	r.open()
	r.buf = make([]byte, 64<<10)
	r.drain()
	r.want(a[:1500])
	r.wantLosses(1)
	if got := r.losses[0].Bytes; got != int64(len(a)-1500) {
		t.Fatal(got)
	}
}

// Of a file that was truncated hardly more than the header had been read: another one that begins so isn't its copy.
func TestAlikeFileIsntACopyOfWhatIsGone(t *testing.T) {
	r := headed(t)
	r.truncate("app.log")
	r.drain()
	r.write("app.log", "x\n")
	r.drain()
	r.release()
	tick()
	r.rename("app.log", "app.log.2")
	r.write("app.log.1", header+"b\n")
	tick()
	r.write("app.log", "c\n")
	r.drain()
	r.want(header + "x\n" + header + "b\nc\n")
	r.wantLosses(0)
}

// An earlier copy isn't taken for that of a file that was truncated now, and of two new ones the first is.
func TestAlikeCopies(t *testing.T) {
	for name, earlier := range map[string]func(r *rig){
		"copied":  func(r *rig) { r.copy("app.log", "app.log.1"); r.truncate("app.log") },
		"renamed": func(r *rig) { r.rename("app.log", "app.log.1") },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t).open()
			r.write("app.log", header+"a\n")
			r.drain()
			r.release()
			tick()
			earlier(r)
			r.write("app.log", header)
			r.drain()
			r.release()
			r.now = r.now.Add(2 * time.Hour)
			r.drain()
			tick()
			r.truncate("app.log")
			r.write("app.log", "b\n")
			r.drain()
			r.want(header + "a\n" + header + "b\n")
			r.wantLosses(0)
		})
	}
	t.Run("two", func(t *testing.T) {
		r := headed(t)
		r.write("app.log", "a\n")
		r.copy("app.log", "app.log.2")
		r.truncate("app.log")
		tick()
		r.write("app.log", header+"b\n")
		r.copy("app.log", "app.log.1")
		r.truncate("app.log")
		r.write("app.log", "c\n")
		r.drain()
		r.want(header + "a\n" + header + "b\nc\n")
		r.wantLosses(0)
	})
}

// A file was read as far as its header goes, and more of it was seen, when it was copied, truncated, and begun again as before: it may be shorter
// by the next look, or longer.
func TestAlikeAfterTruncation(t *testing.T) {
	for name, again := range map[string]string{"only the header": header, "shorter": header + "b\n", "longer": header + lines("b", 60)} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t).open()
			a := header + lines("a", 50)
			r.write("app.log", a)
			r.buf = make([]byte, len(header))
			r.step()
			r.release()
			tick()
			r.copy("app.log", "app.log.1")
			r.truncate("app.log")
			r.write("app.log", again)
			r.buf = make([]byte, 64<<10)
			r.drain()
			r.write("app.log", "c\n")
			r.drain()
			r.want(a + again + "c\n")
			r.wantLosses(0)
		})
	}
}

// Where the file system doesn't say when files were made a small file with the inode of one that is done with is sent, too.
func TestAlikeWithoutBirths(t *testing.T) {
	r := headed(t)
	r.rename("app.log", "kept")
	r.drain()
	r.remove("kept")
	r.drain()
	r.write("app.log", "")
	r.reuse("app.log", header+"b\n")
	for i := range r.log.finished {
		r.log.finished[i].Born = 0
	}
	r.drain()
	r.want(header + header + "b\n")
	r.wantLosses(0)
}

// Of a file that is given up after a restart less is known than a fingerprint covers: what begins alike is no form of it, so it is the copy of the one
// that is read next.
func TestAlikeCopyOfTheNextOne(t *testing.T) {
	r := headed(t)
	r.crash()
	r.write("other", header)
	r.rename("other", "app.log")
	r.open()
	r.crash()
	r.write("app.log", "b\n")
	r.copy("app.log", "app.log.1")
	r.truncate("app.log")
	tick()
	r.write("app.log", "c\n")
	r.open()
	r.drain()
	r.want(header + header + "b\nc\n")
	r.wantLosses(1)
}

// A copy that has the inode of a deleted file of the log shows all the same that the live one was truncated.
func TestAlikeCopyWithAnInodeOfADeletedFile(t *testing.T) {
	r := newRig(t).open()
	r.write("app.log", lines("a", 50))
	r.drain()
	r.rename("app.log", "app.log.2")
	r.write("app.log", header)
	r.drain()
	r.release()
	r.save()
	tick()
	r.crash()
	r.write("app.log", "b\n")
	r.reuse("app.log.2", header+"b\n")
	r.rename("app.log.2", "app.log.1")
	r.truncate("app.log")
	tick()
	r.write("app.log", header+"c\n")
	r.open()
	r.drain()
	r.want(lines("a", 50) + header + "b\n" + header + "c\n")
	r.wantLosses(0)
}
