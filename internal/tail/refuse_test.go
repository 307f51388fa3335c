package tail

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestRefuseWhatIsNotARegularFile(t *testing.T) {
	makers := map[string]func(r *rig) error{
		"fifo":      func(r *rig) error { return unix.Mkfifo(r.path, 0o644) },
		"directory": func(r *rig) error { return os.Mkdir(r.path, 0o755) },
		"device":    func(r *rig) error { return unix.Mknod(r.path, unix.S_IFCHR|0o644, int(unix.Mkdev(1, 5))) },
		"socket": func(r *rig) error {
			fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			if err != nil {
				return err
			}
			r.t.Cleanup(func() { unix.Close(fd) })
			return unix.Bind(fd, &unix.SockaddrUnix{Name: r.path})
		},
		"link to a fifo": func(r *rig) error {
			if err := unix.Mkfifo(r.name("fifo"), 0o644); err != nil {
				return err
			}
			return os.Symlink(r.name("fifo"), r.path)
		},
	}
	for name, make := range makers {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			if err := make(r); err != nil {
				t.Skipf("can't make a %s here: %v", name, err)
			}
			r.open()
			r.drain()
			isErr(t, r.err, ErrNotRegular)
			_, _, err := openFile(r.path, r.cfg.Allowed)
			isErr(t, err, ErrNotRegular)
			_, refused, err := Expand(r.dir+"/app*", r.cfg.Allowed)
			r.must(err)
			if len(refused) != 1 {
				t.Fatalf("%v", refused)
			}
			// It recovers by itself.
			r.must(os.RemoveAll(r.path))
			r.write("app.log", "one\n")
			r.drain()
			r.want("one\n")
			// And the other way: what was held open isn't lost.
			r.write("app.log", "two\n")
			r.rename("app.log", "x")
			_ = os.Remove(r.name("fifo"))
			r.must(make(r))
			r.drain()
			isErr(t, r.err, ErrNotRegular)
			r.want("one\ntwo\n")
		})
	}
}

func TestRefuseZeroAllowed(t *testing.T) {
	r := newRig(t)
	r.cfg.Allowed = Allowed{}
	r.write("app.log", "one\n")
	r.open()
	r.drain()
	isErr(t, r.err, ErrNotAllowed)
}

func TestAllowedGlobs(t *testing.T) {
	a := allow(t, "/var/log/**", "/srv/*/app-?.log", "/data/[ab]/x")
	for path, want := range map[string]bool{
		"/var/log/syslog": true, "/var/log/a/b/c.log": true, "/var/logs/x": false, "/var/log/../etc/shadow": false,
		"/srv/x/app-1.log": true, "/srv/x/y/app-1.log": false, "/data/a/x": true, "/data/c/x": false,
		"var/log/x": false, "": false, "(unreachable)/var/log/x": false, "/var/log/.hidden": true,
	} {
		if err := a.Check(path); (err == nil) != want {
			t.Errorf("%q: %v", path, err)
		}
	}
	for _, bad := range []string{"", "relative/*", "/var/[", "/var/log/../x", "/a/./b"} {
		if _, err := ParseAllowed([]string{bad}); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}
