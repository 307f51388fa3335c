package rollout

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Change puts the set of the directory from into force, and keeps what was in force in the directory former, which may
// be from itself: that is a roll back. When it returns nil all of it is on disk, and from is gone or holds what was in
// force. After an error it may be repeated.
func Change(from string, now Set, former string) error {
	next, err := Open(from)
	if err != nil {
		return err
	}
	kept := former + ".new"
	if _, err := os.Lstat(filepath.Join(kept, completeName)); err != nil {
		if err := keep(now, kept); err != nil {
			return fmt.Errorf("keep what is in force: %w", err)
		}
	}
	// Policy first: what is defined is then decided on by the document that comes with it.
	for _, part := range []struct {
		name, from, to string
		directory      bool
	}{
		{policyName, next.Policy, now.Policy, false}, {settingsName, next.Settings, now.Settings, false}, {definitionsName, next.Definitions, now.Definitions, true},
	} {
		var err error
		switch {
		case slices.Contains(next.absent, part.name):
			err = remove(part.to, part.directory)
		case part.from == "":
		case part.directory:
			err = putAll(part.from, part.to)
		default:
			err = put(part.from, part.to)
		}
		if err != nil {
			return fmt.Errorf("put %s into force: %w; repeat it, or roll back", part.name, err)
		}
	}
	if err := os.RemoveAll(former); err != nil {
		return err
	}
	if err := os.Rename(kept, former); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(former, completeName)); err != nil {
		return err
	}
	if from != former {
		if err := os.RemoveAll(from); err != nil {
			return err
		}
	}
	return syncDir(filepath.Dir(former))
}

// keep copies what is in force, and notes what isn't there.
func keep(now Set, dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var absent []string
	for name, part := range now.parts() {
		_, err := os.Stat(*part)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			absent = append(absent, name)
			continue
		case err != nil:
			return err
		}
		if name == definitionsName {
			err = putAll(*part, filepath.Join(dir, name))
		} else {
			err = put(*part, filepath.Join(dir, name))
		}
		if err != nil {
			return err
		}
	}
	slices.Sort(absent)
	if err := write(filepath.Join(dir, absentName), []byte(strings.Join(absent, "\n")+"\n"), 0o600, -1, -1); err != nil {
		return err
	}
	return write(filepath.Join(dir, completeName), nil, 0o600, -1, -1)
}

// put replaces a file by a copy of another, with its owner and mode. Whoever reads it sees the old or the new one.
func put(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	b, err := read(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	s := info.Sys().(*syscall.Stat_t)
	return write(to, b, info.Mode().Perm(), int(s.Uid), int(s.Gid))
}

// putAll makes a directory's definitions those of another; other files in it stay.
func putAll(from, to string) error {
	names, err := definitions(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, name := range names {
		if err := put(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
			return err
		}
	}
	old, err := definitions(to)
	if err != nil {
		return err
	}
	for _, name := range old {
		if !slices.Contains(names, name) {
			if err := os.Remove(filepath.Join(to, name)); err != nil {
				return err
			}
		}
	}
	return syncDir(to)
}

func remove(path string, directory bool) error {
	if directory {
		names, err := definitions(path)
		for _, name := range names {
			err = errors.Join(err, os.Remove(filepath.Join(path, name)))
		}
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// write makes or replaces a file; an owner of -1 is this process's. It is on disk, name and all, when it returns nil.
func write(file string, b []byte, mode fs.FileMode, uid, gid int) error {
	f, err := os.CreateTemp(filepath.Dir(file), ".rollout-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if uid >= 0 && (os.Geteuid() == 0 || uid == os.Geteuid()) {
		err = errors.Join(err, f.Chown(uid, gid))
	}
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := syncDir(filepath.Dir(file)); err != nil {
		return fmt.Errorf("%s: it may not outlast a loss of power: %w", file, err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
