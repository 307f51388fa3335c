package receive

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// fileSystem is the syncfs of the output, which all partitions share: whose writes were complete before one began is served by it,
// and all that ask while one runs share the next. The kernel tells each descriptor of a failure once, whoever's bytes were lost. So
// failed counts them, and a partition that has written since before the last one can't take a later success for its own.
type fileSystem struct {
	disk *disk
	f    *os.File      // opened before the first write: an error is reported to those who were there
	turn chan struct{} // held by the syncfs that runs

	mu       sync.Mutex
	next     *sharedSync // that nobody has begun yet; nil: nobody waits for one
	failures uint64
}

// sharedSync is one syncfs. err is set before done is closed.
type sharedSync struct {
	done chan struct{}
	err  error
}

func openFileSystem(path string, d *disk) (*fileSystem, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &fileSystem{disk: d, f: f, turn: make(chan struct{}, 1)}, nil
}

// Close frees the descriptor. No sync may be under way.
func (s *fileSystem) Close() error { return s.f.Close() }

// wholly are the file systems whose syncfs brings all to the disk, or the server's disk, and fails if anything was lost. Others' doesn't: FUSE,
// 9p and SMB send no flush, and an overlay's says nothing of what the file system below it could not write.
var wholly = map[int64]bool{
	unix.EXT4_SUPER_MAGIC:  true, // ext2 and ext3, too
	unix.XFS_SUPER_MAGIC:   true,
	unix.BTRFS_SUPER_MAGIC: true,
	unix.F2FS_SUPER_MAGIC:  true,
	unix.TMPFS_MAGIC:       true,
	unix.NFS_SUPER_MAGIC:   true,
	0x00c36400:             true, // Ceph
	0x2fc12fc1:             true, // ZFS
	0xca451a4e:             true, // bcachefs
}

// syncsWhole tells whether a directory lies on one of these.
func syncsWhole(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && wholly[int64(st.Type)]
}

// sync makes durable what was written, and named, before it was called.
func (s *fileSystem) sync() error {
	s.mu.Lock()
	if s.next == nil {
		s.next = &sharedSync{done: make(chan struct{})}
	}
	mine := s.next
	s.mu.Unlock()
	select {
	case <-mine.done:
		return mine.err
	case s.turn <- struct{}{}:
	}
	defer func() { <-s.turn }()
	s.mu.Lock()
	if s.next != mine { // it was done before its turn was given back
		s.mu.Unlock()
		<-mine.done
		return mine.err
	}
	s.next = nil // what is written from here on may come too late for it
	s.mu.Unlock()
	mine.err = s.disk.syncFS(s.f)
	if mine.err != nil {
		s.mu.Lock()
		s.failures++
		s.mu.Unlock()
	}
	close(mine.done)
	return mine.err
}

// has tells whether a directory is on this file system: it may have become another one.
func (s *fileSystem) has(dir string) bool {
	var here, there unix.Stat_t
	return unix.Fstat(int(s.f.Fd()), &here) == nil && unix.Stat(dir, &there) == nil && here.Dev == there.Dev
}

// failed is how often it has failed until now.
func (s *fileSystem) failed() uint64 {
	if s == nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failures
}
