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
	"logforward/internal/settings"
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
	u, err := daemonUser(settings.Forward, values.Text("state"))
	for _, d := range [][2]string{{"state", values.Text("state")}, {"audit_log", filepath.Dir(values.Text("audit_log"))}} {
		if d[0] == "audit_log" && values.Text("audit_log") == "" {
			continue
		}
		v.directory(d[0], d[1], u, err == nil)
	}
	if socket := values.Text("socket"); len(socket) > 107 {
		v.fail("socket", fmt.Errorf("%s has %d bytes, a unix socket's path may have 107", socket, len(socket)), "set a shorter socket")
	} else {
		v.ok("socket", "%s", socket)
	}
}

// directory tells whether one is fit for use, and, where the daemon's user is known, whether they may write there.
func (v *validation) directory(check, dir string, u account, known bool) {
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
		v.fail(check, err, fmt.Sprintf("set another %s", check))
		return
	}
	if known {
		if err := writable(dir, u); err != nil {
			v.fail(check, fmt.Errorf("as %s: %s can't be written to: %w", u.name, dir, err), fmt.Sprintf("chown %s %s, or set another %s", u.name, dir, check))
			return
		}
	}
	var s unix.Statfs_t
	if err := unix.Statfs(existing, &s); err != nil {
		v.warn(check, fmt.Sprintf("how much space is left below %s can't be told: %v", existing, err), "see what df says to it, as the daemon's user")
		return
	}
	free := int64(s.Bavail) * s.Bsize
	switch {
	case s.Flags&unix.ST_RDONLY != 0:
		v.fail(check, fmt.Errorf("%s is on a file system that is mounted read-only", existing), fmt.Sprintf("mount it for writing, or set another %s", check))
	case free < leastSpace || s.Files > 0 && s.Ffree < 100:
		v.fail(check, fmt.Errorf("%s has %s and %d files left; at least %s and 100 files are wanted", existing, size(free), s.Ffree, size(int64(leastSpace))), fmt.Sprintf("make room there, or set another %s", check))
	default:
		v.ok(check, "%s, with %s free", dir, size(free))
	}
}

// writable gives the error with which the daemon may not make files in a directory, be it that it may not even look for it. One
// that isn't there is made by systemd or by whoever starts the daemon.
func writable(dir string, u account) error {
	err := u.do(func() error {
		// A file without a name: nothing is seen of it.
		fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return err
		}
		return unix.Close(fd)
	})
	if errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

// inForce: the policy must be there, or nothing can be changed.
func (v *validation) inForce(ctx context.Context, values *values) {
	file := values.Text("policy")
	if file == withoutPolicy {
		v.warn("policy", "peers: who may write to the socket may change everything", "set policy to a document, made by logforward policy render")
		return
	}
	err := policy.Open(file).Err(ctx)
	switch _, there := os.Stat(file); {
	case err == nil:
		v.ok("policy", "%s", file)
	case errors.Is(there, fs.ErrNotExist):
		v.warn("policy", fmt.Sprintf("%v; forwarding goes on", err), "put one there, made by logforward policy render, or by Puppet")
	default:
		v.fail("policy", err, "correct it, owned by root and writable by nobody else; until then every change is refused")
	}
}

// definitions tells of each, and gives the files that they follow now.
func (v *validation) definitions(dir string, c forward.Config) (files []string) {
	if _, err := os.Stat(dir); err != nil {
		v.warn("definitions", fmt.Sprintf("%v: nothing is defined by files", err), "put definitions there, or set another forwarders, if something is to be forwarded without being started by hand")
		return nil
	}
	list, problems := node.Definitions(dir)
	for _, q := range problems {
		v.fail("definition "+q.Where, errors.New(q.Problem), "correct the file; until then it defines nothing, or what it defined before")
	}
	names := destinationNames(c.Destinations)
	for _, d := range list {
		o, err := node.Preview(d, c.Allowed, names)
		if err != nil {
			v.fail("log "+d.Log, err, "correct path or destination in the definition, or allowed_paths and destinations in the settings")
			continue
		}
		text := o.Path + " to " + o.Destination
		if o.Summary != "" {
			text += ": " + o.Summary
		}
		if o.Special != "" {
			v.warn("log "+d.Log, fmt.Sprintf("not followed: %s: it is %s", o.Path, o.Special), "name a regular file, or a directory's files with a pattern")
			continue
		}
		v.ok("log "+d.Log, "%s", text)
		for _, q := range o.Refused {
			v.warn("log "+d.Log, fmt.Sprintf("not followed: %s: %s", q.Where, q.Problem), "permit it in allowed_paths, or have the pattern match less")
		}
		files = append(files, o.Files...)
	}
	v.ok("definitions", "%d in %s", len(list), dir)
	return files
}

// readable tells whether the daemon, not just whoever asks, may read the files.
func (v *validation) readable(values *values, files []string) {
	u, err := daemonUser(settings.Forward, values.Text("state"))
	if err != nil {
		v.warn("reading", fmt.Sprintf("as whom the daemon runs can't be told: %v", err), "see that the unit's user exists: systemd-sysusers, or the package, makes it")
		return
	}
	denied := u.denied(files)
	for _, err := range denied[:min(len(denied), 20)] {
		v.fail("reading", fmt.Errorf("as %s: %w", u.name, err), fmt.Sprintf("let %s read it, by a group (adm, say) or an ACL; the packaged unit gives the daemon CAP_DAC_READ_SEARCH, with which it reads all", u.name))
	}
	if len(denied) > 20 {
		v.fail("reading", fmt.Errorf("as %s: %d more files", u.name, len(denied)-20), "as above")
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
	all      bool   // it may read everything
	files    uint64 // descriptors that its unit gives it; 0: as many as who asks
}

// units are where systemd finds a daemon's, the first that is there counts.
func units(daemon string) []string {
	name := "logforward-" + daemon + ".service"
	return []string{"/etc/systemd/system/" + name, "/usr/lib/systemd/system/" + name, "/lib/systemd/system/" + name}
}

// daemonUser is the user of the systemd unit, where root asks and there is one; else who owns the state; and for
// anybody else than root, who asks.
func daemonUser(daemon, state string) (account, error) {
	if os.Geteuid() != 0 {
		groups, err := os.Getgroups()
		return account{name: "uid " + strconv.Itoa(os.Geteuid()), uid: os.Geteuid(), gid: os.Getegid(), groups: groups}, err
	}
	for _, file := range units(daemon) {
		if name, all, most, err := unitUser(file); err == nil {
			a, err := accountOf(name, all)
			a.files = most
			return a, err
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

// unitUser reads a unit file: its user, whether that has the capability to read everything, and how many descriptors it gives;
// 0: it doesn't say.
func unitUser(file string) (name string, all bool, most uint64, err error) {
	f, err := os.Open(file)
	if err != nil {
		return "", false, 0, err
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
		case "LimitNOFILE":
			most, _ = strconv.ParseUint(value[strings.LastIndexByte(value, ':')+1:], 10, 64) // infinity is none
		}
	}
	return name, all, most, lines.Err()
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
	var list []error
	if err := a.do(func() error {
		for _, file := range files {
			fd, err := unix.Open(file, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
			if err != nil {
				list = append(list, &fs.PathError{Op: "open", Path: file, Err: err})
				continue
			}
			_ = unix.Close(fd)
		}
		return nil
	}); err != nil {
		list = append(list, err)
	}
	return list
}

// do calls f with the account's rights over files.
func (a account) do(f func() error) error {
	if os.Geteuid() != 0 || a.uid == 0 {
		return f()
	}
	answer := make(chan error, 1)
	go func() {
		// Credentials are each thread's own to the kernel. This one is never given back: it ends here.
		runtime.LockOSThread()
		err := a.become()
		if err == nil {
			err = f()
		}
		answer <- err
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
func (v *validation) limits(state string, files []string) {
	dirs := map[string]bool{}
	for _, file := range files {
		dirs[filepath.Dir(file)] = true
	}
	needed := len(dirs) + len(files)
	if most, sysctl := watches(); sysctl != "" {
		switch {
		case most < needed:
			v.fail("inotify", fmt.Errorf("%d files in %d directories need %d watches, a user may have %d", len(files), len(dirs), needed, most), fmt.Sprintf("sysctl %s=%d; without watches files are polled", sysctl, 2*needed))
		case most < 2*needed:
			v.warn("inotify", fmt.Sprintf("%d files in %d directories need %d of the %d watches that a user may have", len(files), len(dirs), needed, most), fmt.Sprintf("sysctl %s=%d", sysctl, 4*needed))
		default:
			v.ok("inotify", "%d of %d watches are needed", needed, most)
		}
	}
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		v.warn("descriptors", fmt.Sprintf("how many there may be can't be told: %v", err), "see what ulimit -n says")
		return
	}
	if u, err := daemonUser(settings.Forward, state); err == nil && u.files > 0 {
		r.Max = u.files // not this shell's: the unit's
	}
	switch most := uint64(len(files)*descriptorsOfOne + descriptorsBeside); {
	case r.Max < most:
		v.fail("descriptors", fmt.Errorf("%d files may need %d descriptors, a process may have %d", len(files), most, r.Max), "raise LimitNOFILE in the unit, or ulimit -n")
	default:
		v.ok("descriptors", "at most %d of %d are needed", most, r.Max)
	}
}

// watches is how many of inotify's a user may have, and the setting that says so: the kernel's, or where that is less, this
// user namespace's.
func watches() (most int, sysctl string) {
	for _, name := range []string{"fs.inotify.max_user_watches", "user.max_inotify_watches"} {
		if n, err := number("/proc/sys/" + strings.ReplaceAll(name, ".", "/")); err == nil && (sysctl == "" || n < most) {
			most, sysctl = n, name
		}
	}
	return most, sysctl
}

func number(file string) (int, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}
