package receive

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Operations, as tests name them to fail exactly one.
const (
	opCreate     = "create"
	opOpen       = "open"
	opAppend     = "append"
	opReadEnd    = "read the end"
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
	opBeat       = "heartbeat"
	opLook       = "look at files"
	opRetire     = "retire a stream"

	opBackName    = "name what is put back"
	opBackWrite   = "write what is put back"
	opBackPrepare = "prepare what is put back"
	opBackRecord  = "record what is put back"
	opBackLine    = "tell the ledger what is put back"
	opBackCommit  = "commit what is put back"
	opAskedName   = "name what is kept"
	opAskedWrite  = "write what is kept"
	opAskedLine   = "tell the ledger what is kept or dropped"
	opAskedRemove = "remove what is kept or dropped"
)

// disk is every operation of this package on files. fault, where set, is asked before each
// operation, and after it with done true: a test fails one call site, or stops the world right behind it.
type disk struct {
	output  string // below it no link is followed
	fault   func(op string, done bool) error
	flights flights
}

func (d *disk) do(op string, f func() error) error {
	defer d.flights.end(d.flights.begin(op))
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

// parent opens the directory that a path names a file of, without following a link below the output.
func (d *disk) parent(path string, make fs.FileMode) (*os.File, string, error) {
	if name, ok := strings.CutPrefix(path, d.output+"/"); ok {
		return parentBelow(d.output, name, make)
	}
	dir, err := os.Open(filepath.Dir(path))
	return dir, filepath.Base(path), err
}

// create makes a new file, and its directories; it is an error if there is one.
func (d *disk) create(path string, mode, dirMode fs.FileMode) (*os.File, error) {
	return d.openAs(opCreate, path, os.O_RDWR|os.O_CREATE|os.O_EXCL, mode, dirMode)
}

// open opens a file that must be there.
func (d *disk) open(path string) (*os.File, error) { return d.openAs(opOpen, path, os.O_RDWR, 0, 0) }

func (d *disk) openAs(op, path string, flags int, mode, dirMode fs.FileMode) (f *os.File, err error) {
	err = d.do(op, func() error {
		if name, ok := strings.CutPrefix(path, d.output+"/"); ok {
			f, err = openBelow(d.output, name, flags, mode, dirMode)
			return err
		}
		dir, base, err := d.parent(path, dirMode)
		if err != nil {
			return err
		}
		defer dir.Close()
		f, err = openIn(dir, base, path, flags, mode)
		return err
	})
	if err != nil && f != nil {
		f.Close()
		f = nil
	}
	return f, err
}

func (d *disk) append(f *os.File, data []byte, at int64) error {
	return d.do(opAppend, func() error {
		_, err := f.WriteAt(data, at)
		return err
	})
}

// endsLine reads the last byte of a file of that size.
func (d *disk) endsLine(f *os.File, size int64) (is bool, err error) {
	if size == 0 {
		return true, nil
	}
	err = d.do(opReadEnd, func() error {
		var b [1]byte
		_, err := f.ReadAt(b[:], size-1)
		is = b[0] == '\n'
		return err
	})
	return is, err
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
		a, old, err := d.parent(from, 0)
		if err != nil {
			return err
		}
		defer a.Close()
		b, name, err := d.parent(to, 0)
		if err != nil {
			return err
		}
		defer b.Close()
		err = unix.Renameat2(int(a.Fd()), old, int(b.Fd()), name, unix.RENAME_NOREPLACE)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // a file system without it
			if exists(to) {
				return fmt.Errorf("%s: %w", to, fs.ErrExist)
			}
			err = unix.Renameat(int(a.Fd()), old, int(b.Fd()), name)
		}
		if err != nil {
			return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
		}
		return nil
	})
}

// remove deletes files; one that isn't there is no error.
func (d *disk) remove(path string) error {
	return d.do(opRemove, func() error {
		dir, base, err := d.parent(path, 0)
		if err == nil {
			defer dir.Close()
			err = unix.Unlinkat(int(dir.Fd()), base, 0)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return &fs.PathError{Op: "remove", Path: path, Err: err}
		}
		return nil
	})
}

// makeDir makes a directory of the state, so that it is there after a power failure.
func makeDir(path string) error {
	if exists(path) {
		return nil
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}
