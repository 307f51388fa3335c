package keeper

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"logforward/internal/control"
	"logforward/internal/trust"
)

// Self is the program file that this process runs, for a daemon to report. Its path is the one it was
// started by, where that is it: a link to the version in use, say. nil: it can't be had.
func Self() *control.Executable {
	own, err := os.Stat("/proc/self/exe")
	if err != nil {
		return nil
	}
	path, err := os.Executable()
	if err != nil {
		return nil
	}
	if called, err := exec.LookPath(os.Args[0]); err == nil {
		if called, err = filepath.Abs(called); err == nil {
			if info, err := os.Stat(called); err == nil && os.SameFile(info, own) {
				path = called
			}
		}
	}
	e := identify(own)
	e.Path = path
	return &e
}

func identify(info os.FileInfo) control.Executable {
	s := info.Sys().(*syscall.Stat_t)
	return control.Executable{Device: uint64(s.Dev), Inode: s.Ino, Size: info.Size(), Modified: info.ModTime().UTC()}
}

// replacedBy tells whether a daemon's program file is another than the one that it runs, and can be run. One
// that is gone isn't another, nor one that can't be run; an error says so. own is the program that the keeper itself starts.
func replacedBy(ctx context.Context, e *control.Executable, own string) (bool, error) {
	if e == nil || !filepath.IsAbs(e.Path) {
		return false, nil
	}
	info, err := os.Stat(e.Path)
	if err != nil {
		return false, nil
	}
	now := identify(info)
	now.Path = e.Path
	if now.Device == e.Device && now.Inode == e.Inode && now.Size == e.Size && now.Modified.Equal(e.Modified) {
		return false, nil
	}
	program, err := filepath.EvalSymlinks(e.Path)
	if err != nil {
		return false, nil
	}
	// The daemon says which file it is, and may be less trusted than who runs this: what it could have written isn't run.
	if e.Path != own {
		if err := trusted(program); err != nil {
			return false, fmt.Errorf("the program %s was replaced, and isn't run to try it: %w", e.Path, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "version")
	cmd.WaitDelay = time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return false, fmt.Errorf("the program %s was replaced by one that can't be run, so the daemon goes on with the old one: %w: %.200q", e.Path, err, out)
	}
	return true, nil
}

// trusted tells whether nobody but root and this user can write to a file, or put another in its place. name has no links in it.
func trusted(name string) error {
	for at := name; ; at = filepath.Dir(at) {
		info, err := os.Lstat(at)
		if err != nil {
			return err
		}
		if info.IsDir() && info.Mode()&os.ModeSticky != 0 && info.Sys().(*syscall.Stat_t).Uid == 0 {
			// In /tmp nobody replaces what belongs to another.
		} else if err := trust.Check(info); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}
