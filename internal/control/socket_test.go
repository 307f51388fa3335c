package control

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"logforward/internal/flock"
)

func chgrp(t *testing.T, path string, gid int) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: only root may give a file to another group")
	}
	if err := os.Chown(path, -1, gid); err != nil {
		t.Fatal(err)
	}
}

func TestSocketModeAndDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "here")
	socket := filepath.Join(dir, "s")
	open(t, Config{Socket: socket, Node: new(recorder)})
	info, err := os.Lstat(socket)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("socket: %v, %v", info, err)
	}
	if info, err = os.Stat(dir); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("directory: %v, %v", info, err)
	}
}

func TestSocketOfADeadDaemonIsReplaced(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	client := open(t, Config{Socket: socket, Node: new(recorder)})
	if _, err := client.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// What stood in the way holds nobody up once it is gone: the lock was given back.
func TestSocketIsFreeAgainAfterItCouldNotBeOpened(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	if err := os.Mkdir(socket, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := New(Config{Socket: socket, Node: new(recorder)}).Open(t.Context()); err == nil || errors.Is(err, ErrConflict) {
		t.Errorf("a directory in its place: %v", err)
	}
	if err := os.Remove(socket); err != nil {
		t.Fatal(err)
	}
	open(t, Config{Socket: socket, Node: new(recorder)})
}

func TestSocketOfALivingDaemonIsLeftAlone(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	client := open(t, Config{Socket: socket, Node: new(recorder)})
	err := New(Config{Socket: socket, Node: new(recorder)}).Open(t.Context())
	if !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), "answers there") {
		t.Errorf("second daemon: %v", err)
	}
	if _, err := client.Check(t.Context()); err != nil {
		t.Errorf("the first one after that: %v", err)
	}
}

// Somebody listens who knows nothing of the lock file.
func TestSocketOfAStrangerIsLeftAlone(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := New(Config{Socket: socket, Node: new(recorder)}).Open(t.Context()); !errors.Is(err, ErrConflict) {
		t.Errorf("taken over from a stranger: %v", err)
	}
	if _, err := os.Lstat(socket); err != nil {
		t.Error(err)
	}
}

func TestSocketRefusesWhatIsNone(t *testing.T) {
	dir := t.TempDir()
	for name, make := range map[string]func(string) error{
		"file":          func(p string) error { return os.WriteFile(p, []byte("precious"), 0o600) },
		"directory":     func(p string) error { return os.Mkdir(p, 0o700) },
		"symbolic link": func(p string) error { return os.Symlink("/dev/null", p) },
	} {
		p := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
		if err := make(p); err != nil {
			t.Fatal(err)
		}
		err := New(Config{Socket: p, Node: new(recorder)}).Open(t.Context())
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Lstat(p); err != nil {
			t.Errorf("%s was removed: %v", name, err)
		}
	}
}

func TestSocketPathTooLong(t *testing.T) {
	p := filepath.Join(t.TempDir(), strings.Repeat("x", 108))
	err := New(Config{Socket: p, Node: new(recorder)}).Open(t.Context())
	if err == nil || !strings.Contains(err.Error(), "107") {
		t.Errorf("open: %v", err)
	}
	if _, err := NewClient(p).Check(t.Context()); !errors.Is(err, ErrInvalid) {
		t.Errorf("client: %v", err)
	}
}

func TestSocketOpensAgainAfterClose(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	for range 3 {
		s := New(Config{Socket: socket, Node: new(recorder)})
		if err := s.Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(socket); err == nil {
			t.Fatal("the socket is still there after Close")
		}
	}
	if err := New(Config{Socket: socket}).Close(); err != nil {
		t.Errorf("close without open: %v", err)
	}
}

func TestClientSaysThatNobodyRuns(t *testing.T) {
	dir := t.TempDir()
	_, err := NewClient(filepath.Join(dir, "none")).Check(t.Context())
	if !errors.Is(err, ErrNotRunning) || !strings.Contains(err.Error(), "systemctl start") {
		t.Errorf("no socket: %v", err)
	}
	socket := filepath.Join(dir, "dead")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if _, err := NewClient(socket).Check(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("dead socket: %v", err)
	}
}

// The test binary runs itself as nobody, to be another caller in the kernel's eyes.
func TestSocketAsNobody(t *testing.T) {
	if socket := os.Getenv("CONTROL_TEST_SOCKET"); socket != "" {
		client := NewClient(socket)
		client.Caller = os.Getenv("CONTROL_TEST_CALLER")
		_, err := client.Stop(t.Context(), StopRequest{Log: "a"})
		switch {
		case err == nil:
			t.Log("PERMITTED")
		case errors.Is(err, ErrRefused):
			t.Logf("REFUSED %v", err)
		default:
			t.Errorf("%v", err)
		}
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: starts a process as another user")
	}
	dir, err := os.MkdirTemp("", "control")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "test")
	if err := os.WriteFile(binary, self, 0o755); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	node := new(recorder)
	open(t, Config{Socket: socket, Node: node})
	run := func(t *testing.T, as string, groups ...uint32) string {
		t.Helper()
		c := exec.Command(binary, "-test.run=^TestSocketAsNobody$", "-test.v")
		c.Dir = dir
		c.Env = []string{"CONTROL_TEST_SOCKET=" + socket, "CONTROL_TEST_CALLER=" + as}
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534, Groups: groups}}
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	chgrp(t, socket, 4242)
	if out := run(t, ""); !strings.Contains(out, "REFUSED no permission") {
		t.Errorf("outside the group: %s", out)
	}
	if out := run(t, "", 4242); !strings.Contains(out, "PERMITTED") {
		t.Errorf("inside the group: %s", out)
	}
	if caller, _ := node.last(); caller.UID != 65534 {
		t.Errorf("the caller arrived as %+v", caller)
	}
	if out := run(t, "choria=root.mcollective", 4242); !strings.Contains(out, "REFUSED only root may ask for another") {
		t.Errorf("asks for another: %s", out)
	}
	if err := os.Chmod(socket, 0o666); err != nil {
		t.Fatal(err)
	}
	if out := run(t, ""); !strings.Contains(out, "REFUSED stop is not permitted") {
		t.Errorf("connects but isn't in the group: %s", out)
	}
}

func TestRootMayAskForAnother(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	node := new(recorder)
	client := open(t, Config{Node: node})
	client.Caller, client.RequestID = "choria=alice.mcollective", "0f3a"
	if _, err := client.Stop(t.Context(), StopRequest{Log: "a"}); err != nil {
		t.Fatal(err)
	}
	if c, _ := node.last(); c.Name != "choria=alice.mcollective" || c.RequestID != "0f3a" || c.UID != 0 {
		t.Errorf("arrived as %+v", c)
	}
}

// Two daemons that start at once may both find the stale socket; the lock decides before either removes it.
func TestSocketLockDecides(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	lock, err := os.Create(socket + ".lock")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if _, err := lock.WriteString("4711\n"); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	err = New(Config{Socket: socket, Node: new(recorder)}).Open(t.Context())
	if !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), "pid 4711") {
		t.Errorf("while another holds the lock: %v", err)
	}
	if err := flock.Release(lock); err != nil {
		t.Fatal(err)
	}
	open(t, Config{Socket: socket, Node: new(recorder)})
}
