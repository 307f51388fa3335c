package flock

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Who forks at the same moment has a copy of every descriptor until its exec. A lock that was given back is free all the same.
func TestReleaseWhileAChildHasTheFile(t *testing.T) {
	open := func() *os.File {
		f, err := os.OpenFile(filepath.Join(t.TempDir(), "..", "lock"), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	take := func(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }
	f := open()
	if err := take(f); err != nil {
		t.Fatal(err)
	}
	child, err := unix.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(child)
	if err := take(open()); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Fatalf("it isn't locked: %v", err)
	}
	if err := Release(f); err != nil {
		t.Fatal(err)
	}
	if err := take(open()); err != nil {
		t.Errorf("it is locked still: %v", err)
	}
	if err := Release(f); !errors.Is(err, os.ErrClosed) {
		t.Errorf("once more: %v", err)
	}
}
