package control

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"slices"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// peer asks the kernel who is at the other end, as it was when it connected. A process that
// has changed its user since, or passed the connection on, is still the one that connected.
func peer(conn *net.UnixConn) (Caller, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return Caller{}, fmt.Errorf("peer credentials: %w", err)
	}
	var cred *unix.Ucred
	var groups []int
	var inner error
	if err := raw.Control(func(fd uintptr) {
		if cred, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); inner == nil {
			groups, inner = peerGroups(int(fd))
		}
	}); err != nil {
		return Caller{}, fmt.Errorf("peer credentials: %w", err)
	}
	if inner != nil {
		return Caller{}, fmt.Errorf("peer credentials: %w", inner)
	}
	return Caller{UID: int(cred.Uid), GID: int(cred.Gid), PID: int(cred.Pid), Groups: groups, Name: userName(int(cred.Uid))}, nil
}

// peerGroups reads SO_PEERGROUPS (Linux 4.13): the supplementary groups. /proc/PID would be a
// race: the process may be gone and its number in use again.
func peerGroups(fd int) ([]int, error) {
	for n := 32; n <= 1<<16; n *= 8 {
		buf := make([]byte, 4*n)
		length := uint32(len(buf))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&length)), 0)
		switch {
		case errno == unix.ERANGE:
			continue
		case errno == unix.ENOPROTOOPT:
			return nil, nil
		case errno != 0:
			return nil, fmt.Errorf("SO_PEERGROUPS: %w", errno)
		}
		groups := make([]int, 0, length/4)
		for i := 0; i+4 <= int(length); i += 4 {
			groups = append(groups, int(binary.NativeEndian.Uint32(buf[i:])))
		}
		return groups, nil
	}
	return nil, errors.New("SO_PEERGROUPS: more than 65536 groups")
}

// LocalCaller begins the names of callers that are users of this machine, as "up=" and "choria=" begin
// those of Choria's.
const LocalCaller = "local="

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return LocalCaller + u.Username
	}
	return LocalCaller + "uid:" + strconv.Itoa(uid)
}

// PeerPolicy is the default Authorize: who can connect may read; root, the daemon's own user,
// and members of the socket's group may change. The group is looked up at each request, so
// that a chgrp of the socket takes effect at once.
func PeerPolicy(socket string) func(context.Context, Caller, Request) error {
	return func(_ context.Context, c Caller, r Request) error {
		if !r.Changes() || c.UID == 0 || c.UID == os.Geteuid() {
			return nil
		}
		info, err := os.Stat(socket)
		if err != nil {
			return Errorf(CodeRefused, "%s by %s: the socket's group can't be read: %v", r.Verb, c.Name, err)
		}
		group := int(info.Sys().(*syscall.Stat_t).Gid)
		if c.GID == group || slices.Contains(c.Groups, group) {
			return nil
		}
		return Errorf(CodeRefused, "%s is not permitted for %s (uid %d)", r.Verb, c.Name, c.UID).
			WithHint("only root and members of the socket's group (gid %d) may change what is forwarded", group)
	}
}
