package tail

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func (r *rig) link(target, name string) {
	r.t.Helper()
	tmp := r.name(name) + ".new"
	r.must(os.Symlink(target, tmp))
	r.must(os.Rename(tmp, r.name(name)))
}

func TestSymlinkSwapIsARotation(t *testing.T) {
	r := newRig(t)
	r.write("day1", "one\n")
	r.write("day2", "two\n")
	r.link(r.name("day1"), "app.log")
	r.open()
	r.drain()
	r.write("day1", "one more\n")
	r.link(r.name("day2"), "app.log")
	r.drain()
	r.want("one\none more\ntwo\n")
	// And back: the same generation goes on where it was.
	r.write("day1", "again\n")
	r.link(r.name("day1"), "app.log")
	r.drain()
	r.want("one\none more\ntwo\nagain\n")
	r.restart()
	r.release()
	r.write("day1", "end\n")
	r.drain()
	if got := string(r.out[len(r.out)-4:]); got != "end\n" {
		t.Fatalf("%q", got)
	}
}

// A generation that was finished long ago goes on where it was, too.
func TestSymlinkBackAfterItWasFinished(t *testing.T) {
	r := newRig(t)
	r.write("day1", "one\n")
	r.write("day2", "two\n")
	r.link(r.name("day1"), "app.log")
	r.open()
	r.drain()
	r.link(r.name("day2"), "app.log")
	r.drain()
	r.release()
	r.now = r.now.Add(3 * lingerDefault)
	r.drain()
	r.release()
	if n := len(r.log.gens); n != 1 {
		t.Fatalf("%d generations", n)
	}
	r.write("day1", "more\n")
	r.link(r.name("day1"), "app.log")
	r.restart()
	r.drain()
	r.want("one\ntwo\nmore\n")
}

func TestSymlinkToForbiddenFile(t *testing.T) {
	r := newRig(t)
	secret := filepath.Join(t.TempDir(), "secret")
	r.must(os.WriteFile(secret, []byte("secret\n"), 0o600))
	r.write("day1", "one\n")
	r.link(r.name("day1"), "app.log")
	r.open()
	r.drain()
	r.write("day1", "two\n")
	r.link(secret, "app.log")
	r.drain()
	isErr(t, r.err, ErrNotAllowed)
	r.want("one\ntwo\n")
	if r.log.live() != nil {
		t.Fatal("the old file still counts as the live one")
	}
	r.link(r.name("day1"), "app.log")
	r.write("day1", "three\n")
	r.drain()
	r.want("one\ntwo\nthree\n")
}

// A directory of the path can be a link as well.
func TestSymlinkedDirectoryIsResolved(t *testing.T) {
	outside := t.TempDir()
	r := newRig(t)
	r.must(os.Symlink(outside, r.name("sub")))
	r.must(os.WriteFile(filepath.Join(outside, "app.log"), []byte("secret\n"), 0o600))
	r.cfg.Path = r.name("sub/app.log")
	r.open()
	r.drain()
	isErr(t, r.err, ErrNotAllowed)
	r.want("")
}

// While a link is swapped back and forth, no forbidden byte comes out.
func TestSymlinkRaceDoesNotEscape(t *testing.T) {
	r := newRig(t)
	secret := filepath.Join(t.TempDir(), "secret")
	r.must(os.WriteFile(secret, []byte("secret\n"), 0o600))
	r.write("fine", "fine\n")
	r.race(secret, allow(t, r.dir+"/**"), ErrNotAllowed)
}

// Nor does one that the node may read, and this log may not.
func TestSymlinkRaceDoesNotEscapeTheLogsOwnFiles(t *testing.T) {
	r := newRig(t)
	r.write("secret", "secret\n")
	r.write("fine", "fine\n")
	r.race(r.name("secret"), allow(t, r.dir+"/**").Also(r.only("fine")), ErrNotPermitted)
}

// only permits one file.
func (r *rig) only(name string) func(string) error {
	return func(realpath string) error {
		if realpath != r.name(name) {
			return fmt.Errorf("%s: %w", realpath, ErrNotPermitted)
		}
		return nil
	}
}

// A log whose link leads to what it may not have now reads what it has to the end, and goes on when it may.
func TestSymlinkToAFileOfAnotherLog(t *testing.T) {
	r := newRig(t)
	permitted := map[string]bool{r.name("day1"): true}
	r.cfg.Allowed = allow(t, r.dir+"/**").Also(func(realpath string) error {
		if !permitted[realpath] {
			return fmt.Errorf("%s: %w", realpath, ErrNotPermitted)
		}
		return nil
	})
	r.write("day1", "one\n")
	r.write("other", "other's\n")
	r.link(r.name("day1"), "app.log")
	r.open()
	r.drain()
	r.write("day1", "two\n")
	r.link(r.name("other"), "app.log")
	r.drain()
	isErr(t, r.err, ErrNotPermitted)
	r.want("one\ntwo\n")
	// A rotated form that is planted beside it is a link to the same file: it is not taken for one.
	r.must(os.Symlink(r.name("other"), r.name("app.log.1")))
	r.release()
	r.restart()
	r.drain()
	r.want("one\ntwo\n")
	r.write("day2", "three\n")
	permitted[r.name("day2")] = true
	r.link(r.name("day2"), "app.log")
	r.drain()
	r.want("one\ntwo\nthree\n")
	// After a restart what was begun is gone on with, whatever is said of it now.
	delete(permitted, r.name("day2"))
	r.release()
	r.restart()
	r.write("day2", "four\n")
	r.drain()
	r.want("one\ntwo\nthree\nfour\n")
}

// race opens a link that is swapped, and reads what it gets.
func (r *rig) race(secret string, allowed Allowed, refusal error) {
	t := r.t
	t.Helper()
	stop := make(chan struct{})
	var swapper sync.WaitGroup
	swapper.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			target := secret
			if i%2 == 0 {
				target = r.name("fine")
			}
			_ = os.Symlink(target, r.name("tmp"))
			_ = os.Rename(r.name("tmp"), r.name("app.log"))
		}
	})
	var opened, refused int
	for range 5000 {
		f, _, err := openFile(r.name("app.log"), allowed)
		switch {
		case err == nil:
			opened++
			buf := make([]byte, 16)
			n, _ := f.read(nil, buf, 0)
			if string(buf[:n]) != "fine\n" {
				t.Errorf("read %q", buf[:n])
			}
			_ = f.close()
		case errors.Is(err, refusal):
			refused++
		}
	}
	close(stop)
	swapper.Wait()
	t.Logf("%d opened, %d refused", opened, refused)
	if refused == 0 || opened == 0 {
		t.Skip("the race never happened")
	}
}
