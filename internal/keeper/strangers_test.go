package keeper

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A daemon may be less trusted than who looks after it: a file that others can write isn't run, whatever the daemon says of it.
func TestAProgramOfOthersIsNotRun(t *testing.T) {
	s := newSite(t, "quiet")
	open := s.dir + "/open"
	if err := errors.Join(os.Mkdir(open, 0o755), os.Chmod(open, 0o777)); err != nil {
		t.Fatal(err)
	}
	s.c.Program = open + "/program"
	if out, err := exec.Command("cp", os.Args[0], s.c.Program).CombinedOutput(); err != nil {
		t.Fatalf("%s", out)
	}
	s.ensure(nil)
	first := s.pid()
	evil := fmt.Sprintf("#!/bin/sh\ntouch %s/run\n", s.dir)
	if err := errors.Join(os.Remove(s.c.Program), os.WriteFile(s.c.Program, []byte(evil), 0o755)); err != nil {
		t.Fatal(err)
	}
	s.c.Program = os.Args[0]
	o := s.ensure(nil)
	if _, err := os.Stat(s.dir + "/run"); err == nil || s.pid() != first {
		t.Errorf("it was run, or the daemon %d replaced by %d", first, s.pid())
	}
	if o.State != Degraded || !strings.Contains(o.Reason, "may be written by others (mode 0777)") || !strings.Contains(o.Reason, open) {
		t.Errorf("%+v", o)
	}
	if err := os.Chmod(open, 0o755); err != nil {
		t.Fatal(err)
	}
	if o = s.ensure(nil); o.Action != "replaced" {
		t.Errorf("%+v: nobody else can write it any more", o)
	}
}

// Whatever stands in a lock file, only who holds the lock is meant.
func TestAStrangerIsNeverSignalled(t *testing.T) {
	s := newSite(t, "quiet")
	stranger := exec.Command("sleep", "300")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stranger.Process.Kill(); _ = stranger.Wait() }()
	lock := filepath.Join(s.dir, lockName)
	if err := os.WriteFile(lock, []byte(strconv.Itoa(stranger.Process.Pid)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s.pid() != 0 {
		t.Error("who stands in the file is taken for who holds the lock")
	}
	if o := s.ensure(&Order{Verb: OrderRestart}); o.Action != "started" {
		t.Errorf("%+v", o)
	}
	if state, _, _, err := stat(stranger.Process.Pid); err != nil || state != 'S' {
		t.Errorf("the stranger is %c (%v)", state, err)
	}
	info, err := os.Stat(lock)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := verified(stranger.Process.Pid, info); p != nil || err != nil {
		t.Errorf("%+v, %v: a process that hasn't the file open", p, err)
	}
	if p := (&process{pid: stranger.Process.Pid, start: 1}); p.alive() {
		t.Error("another process with the same number is taken for it")
	}
	s.end()
	if err := os.Remove(lock); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", lock); err != nil {
		t.Fatal(err)
	}
	if _, err := holder(lock); err == nil {
		t.Error("a link in the lock's place is followed")
	}
	// The lock of another program, under the daemon's name.
	theirs, err := os.Create(s.dir + "/theirs")
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	if err := errors.Join(unix.Flock(int(theirs.Fd()), unix.LOCK_EX), os.Remove(lock), os.Link(theirs.Name(), lock)); err != nil {
		t.Fatal(err)
	}
	if p, err := holder(lock); err == nil {
		t.Errorf("the holder of another lock is taken for the daemon: %+v", p)
	}
}

func TestOnlyItsOwnUserMayWriteToItsDirectory(t *testing.T) {
	for name, spoil := range map[string]func(s *site) error{
		"writable by all": func(s *site) error { return errors.Join(os.Mkdir(s.c.Dir, 0o700), os.Chmod(s.c.Dir, 0o777)) },
		"a link": func(s *site) error {
			return errors.Join(os.Mkdir(s.dir+"/elsewhere", 0o700), os.Symlink(s.dir+"/elsewhere", s.c.Dir))
		},
		"a file":          func(s *site) error { return os.WriteFile(s.c.Dir, nil, 0o600) },
		"another's":       func(s *site) error { return errors.Join(os.Mkdir(s.c.Dir, 0o700), os.Chown(s.c.Dir, 65534, 65534)) },
		"parent writable": func(s *site) error { return os.Chmod(s.dir, 0o777) },
		"lock is a link": func(s *site) error {
			return errors.Join(os.Mkdir(s.c.Dir, 0o700), os.Symlink("/etc/passwd", filepath.Join(s.c.Dir, lockFile)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "another's" && os.Geteuid() != 0 {
				t.Skip("only root can give a directory away")
			}
			s := newSite(t, "quiet")
			if err := spoil(s); err != nil {
				t.Fatal(err)
			}
			if o, err := New(s.c).Ensure(t.Context(), nil); err == nil {
				t.Errorf("%+v, want an error", o)
			}
			if s.pid() != 0 {
				t.Error("a daemon was started")
			}
		})
	}
}

// Somebody else's server on the socket is told of, and left alone.
func TestAStrangersSocket(t *testing.T) {
	s := newSite(t, "quiet")
	l, err := net.Listen("unix", s.c.Socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Second}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	if o := s.ensure(nil); o.State != Degraded || !strings.Contains(o.Reason, "is that logforward?") || s.pid() != 0 {
		t.Errorf("%+v, pid %d", o, s.pid())
	}
}
