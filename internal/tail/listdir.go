package tail

import (
	"bytes"
	"encoding/binary"
	"io/fs"

	"golang.org/x/sys/unix"
)

type entry struct {
	name string
	ino  uint64
}

// listDir lists the names that keep accepts, with their inodes. os.ReadDir would
// need a stat call for each inode and memory for each name, and a log directory can have
// thousands of files that are other logs' business.
func listDir(dir string, keep func(name []byte, ino uint64) bool) ([]entry, error) {
	var fd int
	err := retry(func() (err error) {
		fd, err = unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(fd)
	var list []entry
	buf := make([]byte, 32<<10)
	for {
		var n int
		err := retry(func() (err error) {
			n, err = unix.Getdents(fd, buf)
			return err
		})
		if err != nil {
			return nil, &fs.PathError{Op: "readdir", Path: dir, Err: err}
		}
		if n <= 0 {
			return list, nil
		}
		list = parseEntries(buf[:n], list, keep)
	}
}

// parseEntries reads struct linux_dirent64: inode (8 bytes), next (8), record
// length (2), type (1), name up to a NUL. See getdents64(2).
func parseEntries(b []byte, list []entry, keep func(name []byte, ino uint64) bool) []entry {
	const nameAt = 19
	for len(b) > nameAt {
		size := int(binary.NativeEndian.Uint16(b[16:]))
		if size <= nameAt || size > len(b) {
			break
		}
		name := b[nameAt:size]
		if end := bytes.IndexByte(name, 0); end >= 0 {
			name = name[:end]
		}
		if ino := binary.NativeEndian.Uint64(b); keep(name, ino) {
			list = append(list, entry{string(name), ino})
		}
		b = b[size:]
	}
	return list
}
