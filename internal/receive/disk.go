package receive

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Operations, as tests name them to fail exactly one.
const (
	opCreate     = "create"
	opOpen       = "open"
	opAppend     = "append"
	opTruncate   = "truncate"
	opSync       = "sync"
	opSyncDir    = "sync directory"
	opSyncFS     = "sync file system"
	opRename     = "rename"
	opRemove     = "remove"
	opSetAside   = "set aside"
	opQuarantine = "quarantine"
	opPrepare    = "prepare"
	opRecord     = "record"
	opCommit     = "commit"
	opConfirm    = "confirm"
	opAck        = "ack"
	opClose      = "close file"
	opCompress   = "compress"
	opNames      = "name files"
	opBegin      = "begin"
)

// disk is every operation of this package on files. fault, where set, is asked before each
// operation, and after it with done true: a test fails one call site, or stops the world right behind it.
type disk struct {
	fault func(op string, done bool) error
}

func (d *disk) do(op string, f func() error) error {
	if d.fault == nil {
		return f()
	}
	if err := d.fault(op, false); err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	return d.fault(op, true)
}

// create makes a new file; it is an error if there is one.
func (d *disk) create(path string, mode, dirMode fs.FileMode) (f *os.File, err error) {
	err = d.do(opCreate, func() error {
		if err := os.MkdirAll(filepath.Dir(path), dirMode); err != nil {
			return err
		}
		f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, mode)
		return err
	})
	if err != nil && f != nil {
		f.Close()
	}
	return f, err
}

// open opens a file that must be there. Links aren't followed: what lies below the
// output was made by a receiver, and a link there is somebody's trap.
func (d *disk) open(path string) (f *os.File, err error) {
	err = d.do(opOpen, func() error {
		f, err = os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
		return err
	})
	if err != nil && f != nil {
		f.Close()
	}
	return f, err
}

func (d *disk) append(f *os.File, data []byte, at int64) error {
	return d.do(opAppend, func() error {
		_, err := f.WriteAt(data, at)
		return err
	})
}

func (d *disk) truncate(f *os.File, size int64) error {
	return d.do(opTruncate, func() error { return f.Truncate(size) })
}

func (d *disk) sync(f *os.File) error {
	return d.do(opSync, func() error { return unix.Fdatasync(int(f.Fd())) })
}

func (d *disk) syncFS(f *os.File) error {
	return d.do(opSyncFS, func() error { return unix.Syncfs(int(f.Fd())) })
}

// syncDirs syncs directories after names in them changed.
func (d *disk) syncDirs(dirs map[string]bool) error {
	for dir := range dirs {
		err := d.do(opSyncDir, func() error { return syncDir(dir) })
		if err != nil {
			return fmt.Errorf("sync directory %s: %w", dir, err)
		}
	}
	return nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// rename moves a closed file to its final name. It never replaces one.
func (d *disk) rename(from, to string) error {
	return d.do(opRename, func() error {
		err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // a file system without it
			if _, err := os.Lstat(to); err == nil {
				return fmt.Errorf("%s: %w", to, fs.ErrExist)
			}
			return os.Rename(from, to)
		}
		if err != nil {
			return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
		}
		return nil
	})
}

func (d *disk) remove(path string) error {
	return d.do(opRemove, func() error {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}
