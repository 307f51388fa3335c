package tail

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPermissionLostAndRegained runs itself as another user, since root may read everything.
func TestPermissionLostAndRegained(t *testing.T) {
	if dir := os.Getenv("TAIL_PERMISSION_DIR"); dir != "" {
		permissionScenario(t, dir)
		return
	}
	if os.Getuid() != 0 {
		permissionScenario(t, t.TempDir())
		return
	}
	const nobody = 65534
	dir, err := os.MkdirTemp("", "tail-permission")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	// The test's own program may lie where the other user can't get to.
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	program := dir + "/tail.test"
	if err := os.WriteFile(program, self, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-test.run", "^TestPermissionLostAndRegained$", "-test.v")
	cmd.Dir = dir
	cmd.Env = []string{"TAIL_PERMISSION_DIR=" + dir, "TMPDIR=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestPermissionLostAndRegained") {
		t.Fatalf("%v\n%s", err, out)
	}
}

func permissionScenario(t *testing.T, dir string) {
	r := newRig(t)
	r.dir, r.path = dir, dir+"/app.log"
	r.cfg.Path, r.cfg.Allowed = r.path, allow(t, dir+"/**")
	chmod := func(name string, mode os.FileMode) {
		t.Helper()
		r.must(os.Chmod(r.name(name), mode))
	}
	r.write("app.log", "one\n")
	chmod("app.log", 0)
	r.open()
	r.drain()
	isErr(t, r.err, os.ErrPermission)
	chmod("app.log", 0o600)
	r.drain()
	r.want("one\n")
	// What is open stays readable.
	r.write("app.log", "two\n")
	chmod("app.log", 0)
	r.drain()
	r.want("one\ntwo\n")
	chmod("app.log", 0o600)
	r.write("app.log", "three\n")
	// A new file that can't be read: the old one is finished first.
	r.rename("app.log", "app.log.1")
	r.write("app.log", "four\n")
	chmod("app.log", 0)
	r.drain()
	isErr(t, r.err, os.ErrPermission)
	r.want("one\ntwo\nthree\n")
	chmod("app.log", 0o600)
	r.drain()
	r.want("one\ntwo\nthree\nfour\n")
	// The whole directory.
	r.write("app.log", "five\n")
	r.must(os.Chmod(dir, 0))
	r.drain()
	r.must(os.Chmod(dir, 0o755))
	r.drain()
	r.want("one\ntwo\nthree\nfour\nfive\n")
	// Lost over a restart: nothing is given up, the search goes on.
	r.release()
	r.save()
	r.crash()
	r.write("app.log", "six\n")
	r.rename("app.log", "app.log.1")
	r.write("app.log", "seven\n")
	chmod("app.log.1", 0)
	r.open()
	r.drain()
	isErr(t, r.err, os.ErrPermission)
	r.wantLosses(0)
	chmod("app.log.1", 0o600)
	r.drain()
	r.want("one\ntwo\nthree\nfour\nfive\nsix\nseven\n")
	r.wantLosses(0)
	// A file that came and went unseen and that may not be read is a loss, once.
	r.rename("app.log", "app.log.3")
	r.write("app.log.2", "secret\n")
	chmod("app.log.2", 0)
	r.write("app.log", "eight\n")
	r.drain()
	r.release()
	r.rename("app.log", "app.log.1")
	r.write("app.log", "nine\n")
	r.restart()
	r.drain()
	r.want("one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\n")
	r.wantLosses(1)
}

// With no descriptor left a rotation can't be followed; nothing is lost by it.
func TestPermissionNoDescriptorsLeft(t *testing.T) {
	r := newRig(t).open()
	r.write("app.log", "one\n")
	r.drain()
	r.write("app.log", "two\n")
	r.rename("app.log", "app.log.1")
	r.write("app.log", "three\n")
	var old unix.Rlimit
	r.must(unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	probe, err := os.Open("/dev/null")
	r.must(err)
	limit := old
	limit.Cur = uint64(probe.Fd())
	r.must(probe.Close())
	r.must(unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	r.drain()
	err = r.err
	r.must(unix.Setrlimit(unix.RLIMIT_NOFILE, &old))
	isErr(t, err, unix.EMFILE)
	if !strings.Contains(err.Error(), "LimitNOFILE") {
		t.Fatalf("%v", err)
	}
	r.drain()
	r.want("one\ntwo\nthree\n")
	r.wantLosses(0)
}
