package tail

import (
	"testing"

	"golang.org/x/sys/unix"
)

// Where a disk's own file system counts as one that others change, nothing would rest, and the tests of resting would be skipped.
func TestDisksAreLocal(t *testing.T) {
	dir := t.TempDir()
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	switch int64(st.Type) {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.TMPFS_MAGIC:
		if !IsLocal(dir) {
			t.Errorf("%s, a file system of type %#x, isn't local", dir, st.Type)
		}
	default:
		t.Skipf("%s is on a file system of type %#x", dir, st.Type)
	}
	for _, elsewhere := range []string{"/proc", dir + "/none"} {
		if IsLocal(elsewhere) {
			t.Errorf("%s is local", elsewhere)
		}
	}
}
