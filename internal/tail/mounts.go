package tail

import "golang.org/x/sys/unix"

// mounts tells whether something was mounted or unmounted where this process sees it: then a path may lead elsewhere, of which inotify says nothing.
type mounts struct{ fd int }

// openMounts begins to watch. Where that can't be had nothing ever changes: looks at paths find it.
func openMounts() *mounts {
	var fd int
	err := retry(func() (err error) {
		fd, err = unix.Open("/proc/self/mountinfo", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		fd = -1
	}
	return &mounts{fd}
}

// changed tells whether there was a change since it was asked last, see proc_pid_mountinfo(5).
func (m *mounts) changed() bool {
	if m.fd < 0 {
		return false
	}
	polled := []unix.PollFd{{Fd: int32(m.fd), Events: unix.POLLPRI}}
	n, err := unix.Poll(polled, 0)
	return err == nil && n > 0 && polled[0].Revents&(unix.POLLPRI|unix.POLLERR) != 0
}

func (m *mounts) close() {
	if m.fd >= 0 {
		_ = unix.Close(m.fd)
	}
}
