package main

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// threadGroups sets the supplementary groups of this thread alone; those of the standard library
// set them for the whole process.
func threadGroups(groups []uint32) error {
	var first unsafe.Pointer
	if len(groups) > 0 {
		first = unsafe.Pointer(&groups[0])
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(first), 0); errno != 0 {
		return errno
	}
	return nil
}
