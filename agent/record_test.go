package agent

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A disk that is full or read-only, or a file that isn't ours: nothing changes, forwarding and reads go on, and it heals.
func TestDecisionsThatCanNotBeKept(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root to mount")
	}
	h := newGuardedHost(t, rules)
	dir := h.path("books")
	h.must(os.Mkdir(dir, 0o700))
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=65536,mode=700"); err != nil {
		t.Skipf("no mounts here: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	config, err := os.ReadFile(h.path("logforward.cfg"))
	h.must(err)
	h.must(os.WriteFile(h.path("logforward.cfg"), []byte(strings.Replace(string(config), h.path("audit.log"), dir+"/audit.log", 1)), 0o644))
	h.start()
	pause := func() reply {
		return h.as("up=oncall-eve", "pause", inputs{"log": "app", "for": "1m", "reason": "disk"})
	}
	resume := func() {
		h.says(h.as("up=oncall-eve", "resume", inputs{"log": "app", "reason": "done"}), codeOK, "starting")
	}
	h.says(pause(), codeOK, "paused")
	resume()
	for name, do := range map[string]struct{ spoil, mend func() error }{
		"no space left":   {func() error { return fill(dir + "/fill") }, func() error { return os.Remove(dir + "/fill") }},
		"read-only":       {func() error { return syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, "") }, func() error { return syscall.Mount("", dir, "", syscall.MS_REMOUNT, "") }},
		"is a directory":  {func() error { return swapFor(dir, func(f string) error { return os.Mkdir(f, 0o700) }) }, func() error { return os.Remove(dir + "/audit.log") }},
		"many levels":     {func() error { return swapFor(dir, func(f string) error { return os.Symlink("/dev/null", f) }) }, func() error { return os.Remove(dir + "/audit.log") }},
		"no regular file": {func() error { return swapFor(dir, func(f string) error { return syscall.Mkfifo(f, 0o600) }) }, func() error { return os.Remove(dir + "/audit.log") }},
	} {
		if name == "read-only" { // a file that is open for writing keeps a file system from becoming read-only
			h.must(swapFor(dir, func(string) error { return nil }))
			h.says(h.as("up=anybody", "pause", inputs{"all": true}), codeAborted, "")
			h.stop()
			h.must(do.spoil())
			h.start()
		} else {
			h.must(do.spoil())
		}
		r := pause()
		for n := 0; n < 10 && r.Code == codeOK; n++ { // the file's last page has room for some
			r = pause()
		}
		h.says(r, codeOther, "", name, "nothing is changed that can't be recorded")
		h.reads(h.as("up=anybody", "status", nil), name, "audit log")
		h.reads(h.as("up=anybody", "check", nil), "audit log")
		if got := h.metric("logforward_audit_writable"); got != "0" {
			t.Errorf("%s: writable %s", name, got)
		}
		h.must(do.mend())
		h.says(pause(), codeOK, "paused")
		resume()
		if r = h.as("up=anybody", "status", nil); r.Data["error"] != "" {
			t.Errorf("%s, mended: %+v", name, r)
		}
	}
}

func fill(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	return nil // it is full
}

// swapFor puts something else in the place of the audit log.
func swapFor(dir string, make func(file string) error) error {
	file := filepath.Join(dir, "audit.log")
	if err := os.Rename(file, file+".away"); err != nil {
		return err
	}
	return make(file)
}
