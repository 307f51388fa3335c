package tail

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What follows is about files of a few bytes that have all the same content: a line that says that the program has started, say. Their content
// doesn't tell one from another, or from a copy.

const same = "late line\n"

// later gives a file a time of change that no other has.
func (r *rig) later(name string) {
	r.t.Helper()
	for range 3 {
		r.now = r.now.Add(time.Second)
	}
	r.touch(name, r.now)
}

// rotated is a log all of whose first file was read, and of whose next one. open: nothing of it is confirmed, so both are held.
func rotated(t *testing.T, open bool) *rig {
	t.Helper()
	r := newRig(t).open()
	r.write("app.log", same)
	r.drain()
	if !open {
		r.release()
	}
	r.rename("app.log", "app.log.1")
	r.write("app.log", "second\n")
	r.drain()
	if !open {
		r.release()
	}
	return r
}

// taken is one whose first file was deleted then.
func taken(t *testing.T, open bool) *rig {
	t.Helper()
	r := rotated(t, open)
	r.remove("app.log.1")
	r.drain()
	if known := len(r.log.finished); open == (known > 0) {
		t.Fatalf("%d finished", known)
	}
	return r
}

func TestSmallFileLikeAnEarlierOneIsSent(t *testing.T) {
	for name, open := range map[string]bool{"finished": false, "held": true} {
		for _, down := range []bool{false, true} {
			if open && down {
				continue // nobody holds it then
			}
			t.Run(name+map[bool]string{true: ", while down"}[down], func(t *testing.T) {
				r := taken(t, open)
				if down {
					r.save()
					r.crash()
				}
				r.rename("app.log", "app.log.2")
				r.write("app.log.3", same)
				r.later("app.log.3")
				r.write("app.log", "fourth\n")
				r.later("app.log")
				if down {
					r.open()
				}
				r.drain()
				r.want(same + "second\n" + same + "fourth\n")
			})
		}
	}
}

func TestSmallFilesOtherFormIsntSent(t *testing.T) {
	for name, open := range map[string]bool{"finished": false, "held": true} {
		t.Run(name, func(t *testing.T) {
			r := rotated(t, open)
			r.gzip("app.log.1")
			r.drain()
			r.rename("app.log.1.gz", "app.log.2.gz")
			r.rename("app.log", "app.log.1")
			r.write("app.log", "third\n")
			r.later("app.log")
			r.drain()
			if !open {
				r.release()
				r.restart()
				r.drain()
			}
			r.want(same + "second\nthird\n")
			r.wantLosses(0)
		})
	}
}

// With copytruncate a copy is made each time.
func TestSmallCopiesArentSent(t *testing.T) {
	r := newRig(t).open()
	for i := range 3 {
		r.write("app.log", same)
		r.later("app.log")
		r.drain()
		r.release()
		for n := i; n > 0; n-- {
			r.rename("app.log."+string(rune('0'+n)), "app.log."+string(rune('1'+n)))
		}
		r.copy("app.log", "app.log.1")
		r.later("app.log.1")
		r.truncate("app.log")
		if i == 1 {
			r.restart()
		}
		r.drain()
	}
	r.write("app.log", "last\n")
	r.drain()
	r.want(same + same + same + "last\n")
	r.wantLosses(0)
}

// reuse makes a file that has the inode of the one that it takes away.
func (r *rig) reuse(name, content string) {
	r.t.Helper()
	ino := func() uint64 {
		var st unix.Stat_t
		r.must(unix.Stat(r.name(name), &st))
		return st.Ino
	}
	old := ino()
	born := birthOf(unix.AT_FDCWD, r.name(name), 0)
	r.remove(name)
	for i := range 200 {
		r.write(name, content)
		if ino() == old && !birthOf(unix.AT_FDCWD, r.name(name), 0).Equal(born) {
			return
		}
		r.rename(name, "other"+string(rune('a'+i%26))+string(rune('a'+i/26)))
	}
	r.t.Skip("this file system doesn't use inodes again at once, or doesn't say when files were made")
}

// A file that has the inode of a deleted one, and begins as that did, is another all the same: many programs begin each file with the same lines.
func TestFileWithAnInodeOfAnEarlierOneIsSent(t *testing.T) {
	for name, first := range map[string]string{"small": same, "header": lines("header", 10)} {
		for _, down := range []bool{false, true} {
			for _, all := range []string{first, first + "and more\n"} {
				t.Run(name+map[bool]string{true: ", while down", false: ", running"}[down], func(t *testing.T) {
					r := newRig(t).open()
					r.write("app.log", first)
					r.drain()
					r.release()
					if down {
						r.save()
						r.crash()
					} else {
						r.rename("app.log", "kept")
						r.drain()
						r.remove("kept")
						r.drain()
						if len(r.log.gens) != 0 {
							t.Fatalf("%d generations", len(r.log.gens))
						}
						r.write("app.log", "")
					}
					r.reuse("app.log", all)
					r.later("app.log")
					if down {
						r.open()
					}
					r.drain()
					r.want(first + all)
					r.wantLosses(map[bool]int{true: 1}[down]) // who knows what was written to it before it was deleted
				})
			}
		}
	}
}

// A file that begins as another one that is whole has more than a copy of that would.
func TestFileThatGoesOnWhereAnotherEnds(t *testing.T) {
	header := lines("header", 10)
	for _, c := range []struct {
		name          string
		first, second string
		finished      bool
	}{
		{"held", header, header + "more\n", false},
		{"finished", header, header + "more\n", true},
	} {
		for _, down := range []bool{false, true} {
			t.Run(c.name+map[bool]string{true: ", while down"}[down], func(t *testing.T) {
				r := newRig(t).open()
				r.write("app.log", c.first)
				r.drain()
				r.release()
				r.rename("app.log", "app.log.1")
				r.write("app.log", header+"live\n")
				r.later("app.log")
				r.drain()
				r.release()
				if c.finished {
					r.remove("app.log.1")
					r.drain()
				}
				if known := len(r.log.finished); c.finished != (known > 0) {
					t.Fatalf("%d finished", known)
				}
				if down {
					r.save()
					r.crash()
				}
				r.rename("app.log", "app.log.2")
				r.write("app.log.3", c.second)
				r.later("app.log.3")
				r.write("app.log", header+"last\n")
				r.later("app.log")
				if down {
					r.open()
				}
				r.drain()
				r.want(c.first + header + "live\n" + c.second + header + "last\n")
			})
		}
	}
}

// A small file's copy, or the file itself after a late line, is compressed while nobody looks.
func TestSmallFileCompressedWhileDown(t *testing.T) {
	for name, rotate := range map[string]func(r *rig) (late string){
		"a copy": func(r *rig) string {
			r.copy("app.log", "app.log.1")
			r.later("app.log.1")
			r.truncate("app.log")
			return ""
		},
		"written to late": func(r *rig) string {
			r.rename("app.log", "app.log.1")
			r.write("app.log", "second\n")
			r.drain()
			r.write("app.log.1", "late\n")
			r.later("app.log.1")
			return "second\nlate\n"
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t).open()
			r.write("app.log", same)
			r.drain()
			late := rotate(r)
			r.drain()
			r.release()
			r.save()
			r.crash()
			r.gzip("app.log.1")
			r.write("app.log", "third\n")
			r.later("app.log")
			r.open()
			r.drain()
			r.want(same + late + "third\n")
			r.wantLosses(0)
		})
	}
}

// A copy gets its name only after the truncation.
func TestSmallCopyThatComesLateIsntSent(t *testing.T) {
	r := newRig(t).open()
	r.write("app.log", same)
	r.drain()
	r.release()
	r.copy("app.log", "temporary")
	r.later("temporary")
	r.truncate("app.log")
	r.drain()
	r.write("app.log", "second\n")
	r.drain()
	r.release()
	if len(r.log.finished) != 1 {
		t.Fatalf("%d finished", len(r.log.finished))
	}
	r.rename("temporary", "app.log.2")
	r.rename("app.log", "app.log.1")
	r.write("app.log", "third\n")
	r.drain()
	r.want(same + "second\nthird\n")
}
