package tail

import (
	"encoding/binary"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

type entry struct {
	name string
	ino  uint64
}

// listDir lists the names with their inodes. os.ReadDir would need a stat call for each inode.
func listDir(dir string) ([]entry, error) {
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
		list = parseEntries(buf[:n], list)
	}
}

// parseEntries reads struct linux_dirent64: inode (8 bytes), next (8), record
// length (2), type (1), name up to a NUL. See getdents64(2). The names share memory: there may be thousands.
func parseEntries(b []byte, list []entry) []entry {
	const nameAt = 19
	names := string(b)
	for at := 0; len(b)-at > nameAt; {
		size := int(binary.NativeEndian.Uint16(b[at+16:]))
		if size <= nameAt || size > len(b)-at {
			break
		}
		name := names[at+nameAt : at+size]
		if end := strings.IndexByte(name, 0); end >= 0 {
			name = name[:end]
		}
		list = append(list, entry{name, binary.NativeEndian.Uint64(b[at:])})
		at += size
	}
	return list
}
