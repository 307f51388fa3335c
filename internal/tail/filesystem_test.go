package tail

import (
	"cmp"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// On other file systems inodes are given out differently, and births and times are others'.
func TestOtherFileSystems(t *testing.T) {
	for name, dir := range map[string]func(t *testing.T) string{
		"tmpfs": func(t *testing.T) string {
			var st unix.Statfs_t
			if err := unix.Statfs("/dev/shm", &st); err != nil || st.Type != unix.TMPFS_MAGIC {
				t.Skip("/dev/shm is no tmpfs here")
			}
			dir, err := os.MkdirTemp("/dev/shm", "tail")
			if err != nil {
				t.Skip(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			return dir
		},
		"overlay": func(t *testing.T) string { return overlay(t, false) },
		"overlay, the file below": func(t *testing.T) string {
			return overlay(t, true)
		},
		"bind mount": func(t *testing.T) string {
			dir := t.TempDir()
			source := filepath.Join(dir, "source")
			at := filepath.Join(dir, "bound")
			if err := cmp.Or(os.Mkdir(source, 0o755), os.Mkdir(at, 0o755)); err != nil {
				t.Fatal(err)
			}
			if err := unix.Mount(source, at, "", unix.MS_BIND, ""); err != nil {
				t.Skipf("no bind mount here: %v", err)
			}
			t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
			return at
		},
	} {
		for how, do := range map[string]func(r *rig){
			"renamed": func(r *rig) { r.rename("app.log", "app.log.1") },
			"copied":  func(r *rig) { r.copy("app.log", "app.log.1"); r.truncate("app.log") },
			"compressed": func(r *rig) {
				r.rename("app.log", "app.log.1")
				r.pack("app.log.1", "gz")
			},
		} {
			for _, down := range []bool{false, true} {
				t.Run(name+"/"+how+map[bool]string{true: ", while down"}[down], func(t *testing.T) {
					at := dir(t)
					r := newRig(t, func(c *Config) {
						c.Path, c.Allowed = filepath.Join(at, "app.log"), allow(t, at+"/**")
					})
					r.dir, r.path = at, filepath.Join(at, "app.log")
					r.open()
					a, b, c := lines("a", 100), lines("b", 100), lines("c", 100)
					r.write("app.log", a)
					r.drain()
					if down {
						r.release()
						r.save()
						r.crash()
					}
					r.write("app.log", b)
					tick()
					do(r)
					tick()
					r.write("app.log", c)
					if down {
						r.open()
					}
					r.drain()
					r.want(a + b + c)
					r.wantLosses(0)
				})
			}
		}
	}
}

// overlay mounts one. below: the log is there in the lower layer, so the first write to it makes a copy in the upper one.
func overlay(t *testing.T, below bool) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "tail") // a temporary directory may be an overlay itself, which can't be an upper layer
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	at := filepath.Join(dir, "merged")
	for _, d := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if below {
		if err := os.WriteFile(filepath.Join(dir, "lower", "app.log"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	options := "lowerdir=" + dir + "/lower,upperdir=" + dir + "/upper,workdir=" + dir + "/work"
	if err := unix.Mount("overlay", at, "overlay", 0, options); err != nil {
		t.Skipf("no overlay here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	return at
}
