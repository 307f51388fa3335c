package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"logforward/internal/forward"
	"logforward/internal/node"
	"logforward/internal/policy"
)

const (
	// leastSpace is how much a directory should have: checkpoints and decisions are small, a full disk stops both.
	leastSpace = 64 << 20
	// descriptorsOfOne is what one log may need: its file, a rotated one before it, a deleted one that is still read.
	descriptorsOfOne = 3
	// descriptorsBeside is what the daemon needs besides logs.
	descriptorsBeside = 64
)

// directories must be usable, or be such that they can be made, and have space.
func (v *validation) directories(values *values) {
	v.directory("state", values.Text("state"))
	if file := values.Text("audit_log"); file != "" {
		v.directory("audit_log", filepath.Dir(file))
	}
	if socket := values.Text("socket"); len(socket) > 107 {
		v.fail("socket", fmt.Errorf("%s has %d bytes, a unix socket's path may have 107", socket, len(socket)))
		v.remedy("set a shorter socket")
	} else {
		v.ok("socket", "%s", socket)
	}
}

func (v *validation) directory(check, dir string) {
	existing := dir
	for existing != "/" && existing != "." {
		if _, err := os.Stat(existing); err == nil {
			break
		}
		existing = filepath.Dir(existing)
	}
	info, err := os.Stat(existing)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is not a directory", existing)
	}
	if err != nil {
		v.fail(check, err)
		v.remedy("set another %s", check)
		return
	}
	var s unix.Statfs_t
	if err := unix.Statfs(existing, &s); err != nil {
		v.warn(check, "how much space is left below %s can't be told: %v", existing, err)
		return
	}
	free := int64(s.Bavail) * s.Bsize
	switch {
	case s.Flags&unix.ST_RDONLY != 0:
		v.fail(check, fmt.Errorf("%s is on a file system that is mounted read-only", existing))
		v.remedy("mount it for writing, or set another %s", check)
	case free < leastSpace || s.Files > 0 && s.Ffree < 100:
		v.fail(check, fmt.Errorf("%s has %s and %d files left; at least %s and 100 files are wanted", existing, size(free), s.Ffree, size(int64(leastSpace))))
		v.remedy("make room there, or set another %s", check)
	default:
		v.ok(check, "%s, with %s free", dir, size(free))
	}
}

// inForce: the policy must be there, or nothing can be changed.
func (v *validation) inForce(ctx context.Context, values *values) {
	file := values.Text("policy")
	if file == withoutPolicy {
		v.warn("policy", "none: who may write to the socket may change everything")
		v.remedy("set policy to a document, made by logforward policy render")
		return
	}
	err := policy.Open(file).Err(ctx)
	switch _, there := os.Stat(file); {
	case err == nil:
		v.ok("policy", "%s", file)
	case errors.Is(there, fs.ErrNotExist):
		v.warn("policy", "%v; forwarding goes on", err)
		v.remedy("put one there, made by logforward policy render, or by Puppet")
	default:
		v.fail("policy", err)
		v.remedy("correct it, owned by root and writable by nobody else; until then every change is refused")
	}
}

// definitions tells of each, and gives the files that they follow now.
func (v *validation) definitions(dir string, c forward.Config) (files []string) {
	if _, err := os.Stat(dir); err != nil {
		v.warn("definitions", "%v: nothing is defined by files", err)
		return nil
	}
	list, problems := node.Definitions(dir)
	for _, q := range problems {
		v.fail("definition "+q.Where, errors.New(q.Problem))
	}
	names := destinationNames(c.Destinations)
	for _, d := range list {
		o, err := node.Preview(d, c.Allowed, names)
		if err != nil {
			v.fail("log "+d.Log, err)
			continue
		}
		text := o.Path + " to " + o.Destination
		if o.Summary != "" {
			text += ": " + o.Summary
		}
		v.ok("log "+d.Log, "%s", text)
		for _, q := range o.Refused {
			v.warn("log "+d.Log, "not followed: %s: %s", q.Where, q.Problem)
		}
		files = append(files, o.Files...)
	}
	v.ok("definitions", "%d in %s", len(list), dir)
	return files
}

// readable tells whether the daemon, not just whoever asks, may read the files.
func (v *validation) readable(values *values, files []string) {
	u, err := daemonUser(values.Text("state"))
	if err != nil {
		v.warn("reading", "as whom the daemon runs can't be told: %v", err)
		return
	}
	denied := u.denied(files)
	for _, err := range denied[:min(len(denied), 20)] {
		v.fail("reading", fmt.Errorf("as %s: %w", u.name, err))
		v.remedy("let %s read it, by a group (adm, say) or an ACL; the packaged unit gives the daemon CAP_DAC_READ_SEARCH, with which it reads all", u.name)
	}
	if len(denied) > 20 {
		v.fail("reading", fmt.Errorf("as %s: %d more files", u.name, len(denied)-20))
	}
	if len(denied) == 0 && len(files) > 0 {
		v.ok("reading", "%s may read all %d files", u.name, len(files))
	}
}

// account is whom the daemon runs as.
type account struct {
	name     string
	uid, gid int
	groups   []int
	all      bool // it may read everything
}

// units are where systemd finds the daemon's, the first that is there counts.
var units = [...]string{"/etc/systemd/system/logforward-forward.service", "/usr/lib/systemd/system/logforward-forward.service", "/lib/systemd/system/logforward-forward.service"}

// daemonUser is the user of the systemd unit, where root asks and there is one; else who owns the state; and for
// anybody else than root, who asks.
func daemonUser(state string) (account, error) {
	if os.Geteuid() != 0 {
		groups, err := os.Getgroups()
		return account{name: "uid " + strconv.Itoa(os.Geteuid()), uid: os.Geteuid(), gid: os.Getegid(), groups: groups}, err
	}
	for _, file := range units {
		if name, all, err := unitUser(file); err == nil {
			return accountOf(name, all)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return account{}, err
		}
	}
	info, err := os.Stat(state)
	if err != nil {
		return account{name: "root", all: true}, nil // nobody's yet: whoever asks starts it
	}
	return accountOf(strconv.Itoa(int(info.Sys().(*syscall.Stat_t).Uid)), false)
}

// unitUser reads a unit file: its user, and whether that has the capability to read everything.
func unitUser(file string) (name string, all bool, err error) {
	f, err := os.Open(file)
	if err != nil {
		return "", false, err
	}
	defer f.Close()
	name = "root"
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), "=")
		switch key {
		case "User":
			name = value
		case "AmbientCapabilities":
			all = all || strings.Contains(value, "CAP_DAC_READ_SEARCH")
		}
	}
	return name, all, lines.Err()
}

func accountOf(name string, all bool) (account, error) {
	u, err := user.Lookup(name)
	if err != nil {
		if u, err = user.LookupId(name); err != nil {
			return account{}, err
		}
	}
	a := account{name: u.Username, all: all || u.Uid == "0"}
	a.uid, _ = strconv.Atoi(u.Uid) // numbers, on every system that this runs on
	a.gid, _ = strconv.Atoi(u.Gid)
	ids, err := u.GroupIds()
	if err != nil {
		return account{}, err
	}
	for _, id := range ids {
		if n, err := strconv.Atoi(id); err == nil {
			a.groups = append(a.groups, n)
		}
	}
	return a, nil
}

// denied opens each file as the account, and gives what it may not read.
func (a account) denied(files []string) []error {
	if a.all {
		return nil
	}
	answer := make(chan []error, 1)
	go func() {
		var list []error
		defer func() { answer <- list }()
		if os.Geteuid() == 0 {
			// Credentials are each thread's own to the kernel. This one is never given back: it ends here.
			runtime.LockOSThread()
			if err := a.become(); err != nil {
				list = append(list, err)
				return
			}
		}
		for _, file := range files {
			fd, err := unix.Open(file, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
			if err != nil {
				list = append(list, &fs.PathError{Op: "open", Path: file, Err: err})
				continue
			}
			_ = unix.Close(fd)
		}
	}()
	return <-answer
}

// become gives this thread, and no other, the account's rights over files.
func (a account) become() error {
	groups := make([]uint32, 0, len(a.groups)+1)
	for _, g := range append(a.groups, a.gid) {
		groups = append(groups, uint32(g))
	}
	if err := threadGroups(groups); err != nil {
		return fmt.Errorf("take the groups of %s: %w", a.name, err)
	}
	if err := unix.Setfsgid(a.gid); err != nil {
		return err
	}
	if err := unix.Setfsuid(a.uid); err != nil {
		return err
	}
	// Neither says whether it was done: asking for what can't be changes nothing, and gives what is.
	if got, err := unix.SetfsuidRetUid(-1); err != nil || got != a.uid {
		return fmt.Errorf("take the rights of %s: still those of uid %d", a.name, got)
	}
	return nil
}

// limits are the kernel's and this process's, against what the files need.
func (v *validation) limits(files []string) {
	dirs := map[string]bool{}
	for _, file := range files {
		dirs[filepath.Dir(file)] = true
	}
	needed := len(dirs) + len(files)
	if most, err := number("/proc/sys/fs/inotify/max_user_watches"); err == nil {
		switch {
		case most < needed:
			v.fail("inotify", fmt.Errorf("%d files in %d directories need %d watches, a user may have %d", len(files), len(dirs), needed, most))
			v.remedy("sysctl fs.inotify.max_user_watches=%d; without watches files are polled", 2*needed)
		case most < 2*needed:
			v.warn("inotify", "%d files in %d directories need %d of the %d watches that a user may have", len(files), len(dirs), needed, most)
			v.remedy("sysctl fs.inotify.max_user_watches=%d", 4*needed)
		default:
			v.ok("inotify", "%d of %d watches are needed", needed, most)
		}
	}
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		v.warn("descriptors", "how many there may be can't be told: %v", err)
		return
	}
	switch most := uint64(len(files)*descriptorsOfOne + descriptorsBeside); {
	case r.Max < most:
		v.fail("descriptors", fmt.Errorf("%d files may need %d descriptors, a process may have %d", len(files), most, r.Max))
		v.remedy("raise LimitNOFILE in the unit, or ulimit -n")
	default:
		v.ok("descriptors", "at most %d of %d are needed", most, r.Max)
	}
}

func number(file string) (int, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}
