package keeper

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"logforward/internal/control"
)

// The test binary is the daemon where this is set: one that holds the lock and answers, or doesn't, as it says.
const beDaemon = "LOGFORWARD_TEST_DAEMON"

func TestMain(m *testing.M) {
	if how := os.Getenv(beDaemon); how != "" && len(os.Args) > 1 && os.Args[1] == "forward" {
		os.Exit(daemonProcess(how, os.Args[2], os.Args[3]))
	}
	if os.Getenv(beDaemon) != "" && len(os.Args) > 1 && os.Args[1] == "version" {
		return
	}
	os.Exit(m.Run())
}

// daemonProcess takes the real lock and the real socket API, over a node that forwards nothing.
func daemonProcess(how, state, socket string) int {
	if how == "crash" {
		fmt.Fprintln(os.Stderr, "logforward: no \x1b[31mdestination\x07 is configured")
		return 78
	}
	lock, err := os.OpenFile(filepath.Join(state, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if how == "obedient" {
		signalObey()
	}
	if how == "stubborn" {
		signalIgnore()
	}
	server := control.New(control.Config{Socket: socket, Node: &quietNode{started: time.Now()}})
	if err := server.Open(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	select {}
}

// site is a daemon's surroundings.
type site struct {
	*testing.T
	dir string
	now time.Time
	c   Config
}

func newSite(t *testing.T, how string) *site {
	t.Helper()
	dir, err := os.MkdirTemp("", "k")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(beDaemon, how)
	s := &site{T: t, dir: dir, now: time.Now()}
	// The environment of a daemon has what begins with LOGFORWARD_, and so what it shall be.
	s.c = Config{Dir: dir + "/ensure", Program: os.Args[0], Args: []string{"forward", dir, dir + "/s"}, Socket: dir + "/s", State: dir, Watched: []string{dir + "/defs"}, Now: func() time.Time { return s.now }}
	t.Cleanup(func() {
		s.end()
		_ = os.RemoveAll(dir)
	})
	return s
}

// end ends the daemon, if one runs.
func (s *site) end() {
	s.Helper()
	p, err := holder(filepath.Join(s.dir, lockName))
	if err != nil || p == nil {
		return
	}
	if err := p.signal(syscall.SIGKILL); err != nil || !p.gone(context.Background(), time.Minute) {
		s.Errorf("the daemon %d doesn't end: %v", p.pid, err)
	}
}

// ensure is one run, as a process of its own would do it.
func (s *site) ensure(order *Order) Observation {
	s.Helper()
	k := New(s.c)
	k.end = 2 * time.Second
	o, err := k.Ensure(s.Context(), order)
	if err != nil {
		s.Fatal(err)
	}
	return o
}

// later lets time pass for the keeper.
func (s *site) later(d time.Duration) { s.now = s.now.Add(d) }

func (s *site) pid() int {
	s.Helper()
	p, err := holder(filepath.Join(s.dir, lockName))
	if err != nil {
		s.Fatal(err)
	}
	if p == nil {
		return 0
	}
	return p.pid
}
