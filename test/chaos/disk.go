package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// volume is an ext4 file system in a file, mounted on a directory, that can lose its power, fill up and break.
type volume struct {
	image, dir string
	device     string
}

// Of ext4's ioctl that stops a file system at once, without writing what it has in memory: what a power failure leaves on the
// disk. Linux, fs/ext4/ext4.h: EXT4_IOC_SHUTDOWN = _IOR('X', 125, __u32), EXT4_GOING_FLAGS_NOLOGFLUSH = 2.
const (
	ext4Shutdown   = 0x8004587d
	ext4NoLogFlush = 2
)

func command(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// newVolume makes one of so many bytes; the image is beside the directory.
func newVolume(dir string, size int64) (*volume, error) {
	v := &volume{image: dir + ".img", dir: dir}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(v.image, nil, 0o600); err != nil {
		return nil, err
	}
	if err := os.Truncate(v.image, size); err != nil {
		return nil, err
	}
	if _, err := command("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1", v.image); err != nil {
		return nil, err
	}
	return v, v.mount()
}

func (v *volume) mount() error {
	if _, err := command("mount", "-o", "loop,errors=remount-ro", v.image, v.dir); err != nil {
		return err
	}
	// What took all room may be there again, where the power failed right after it was removed.
	if err := v.free(); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	source, err := command("findmnt", "--noheadings", "--output", "SOURCE", v.dir)
	v.device = filepath.Base(source)
	return err
}

func (v *volume) unmount() error {
	var err error
	for range 50 { // a process that was killed may not be gone altogether
		if err = unix.Unmount(v.dir, 0); !errors.Is(err, unix.EBUSY) {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", v.dir, err)
	}
	return nil
}

// detach takes the file system from its directory while files are open there, as umount --lazy does. attach puts it back.
func (v *volume) detach() (attach func() error, err error) {
	held, err := os.Open(v.dir) // or it would be gone with the last of these
	if err != nil {
		return nil, err
	}
	if err := unix.Unmount(v.dir, unix.MNT_DETACH); err != nil {
		held.Close()
		return nil, fmt.Errorf("unmount %s: %w", v.dir, err)
	}
	return func() error {
		defer held.Close()
		_, err := command("mount", "-o", "errors=remount-ro", "/dev/"+v.device, v.dir)
		return err
	}, nil
}

// cutPower makes the disk be as it would be after a power failure now. Nobody can use it until it is mounted again.
func (v *volume) cutPower() error {
	f, err := os.Open(v.dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), ext4Shutdown, ext4NoLogFlush); err != nil {
		return fmt.Errorf("shut %s down: %w", v.dir, err)
	}
	return nil
}

// breaks makes the kernel meet an error in the file system: it is read-only from then on, open files too.
func (v *volume) breaks() error {
	return os.WriteFile("/sys/fs/ext4/"+v.device+"/trigger_fs_error", []byte("1"), 0)
}

// repaired is what an administrator does about it, once nobody has files open there.
func (v *volume) repaired() error {
	if err := v.unmount(); err != nil {
		return err
	}
	out, err := exec.Command("e2fsck", "-f", "-y", v.image).CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || exit.ExitCode() > 1) {
		return fmt.Errorf("e2fsck: %w: %s", err, out)
	}
	return v.mount()
}

// fill takes all room but so many bytes; free gives it back.
func (v *volume) fill(leave int64) error {
	f, err := os.Create(filepath.Join(v.dir, "filler"))
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return err
	}
	size := int64(st.Bfree)*st.Bsize - leave
	for ; size > 0; size -= 64 << 10 { // some of it is the file system's own
		if err = unix.Fallocate(int(f.Fd()), 0, 0, size); !errors.Is(err, unix.ENOSPC) {
			break
		}
	}
	return err
}

func (v *volume) free() error { return os.Remove(filepath.Join(v.dir, "filler")) }

// volumes tells why there can be none, or gives an empty text.
func volumes() string {
	dir, err := os.MkdirTemp("", "chaos-")
	if err != nil {
		return err.Error()
	}
	defer os.RemoveAll(dir)
	v, err := newVolume(filepath.Join(dir, "v"), 16<<20)
	if err != nil {
		return "no ext4 can be mounted: " + err.Error()
	}
	err = v.cutPower()
	if uerr := v.unmount(); err == nil {
		err = uerr
	}
	if err != nil {
		return "ext4 can't be stopped: " + err.Error()
	}
	return ""
}
