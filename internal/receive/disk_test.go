package receive

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// broken fails some operations for as long as it is broken.
type broken struct {
	mu  sync.Mutex
	ops map[string]error
	met int
}

func (b *broken) check(op string, done bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.ops[op]; err != nil && !done {
		b.met++
		return err
	}
	return nil
}

func (b *broken) set(ops map[string]error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ops = ops
}

// waitMet waits until an operation has failed some times more.
func (b *broken) waitMet(t *testing.T, times int) {
	t.Helper()
	b.mu.Lock()
	want := b.met + times
	b.mu.Unlock()
	eventually(t, "meet the fault", func() (bool, string) {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.met >= want, fmt.Sprint(b.met)
	})
}

// A disk that takes nothing for a while stops receiving, is told of, and loses nothing.
func TestPersistentlyFullDisk(t *testing.T) {
	t.Parallel()
	for _, err := range []error{syscall.ENOSPC, syscall.EROFS, syscall.EDQUOT} {
		for name, ops := range map[string][]string{
			"data": {opAppend}, "names": {opCreate}, "state": {opNames, opPrepare, opCommit, opBegin}, "prepare": {opPrepare}, "commit": {opCommit}, "all": {opAppend, opCreate, opNames, opPrepare, opCommit, opBegin},
		} {
			if err != syscall.ENOSPC && name != "all" && name != "data" {
				continue
			}
			t.Run(fmt.Sprintf("%v/%s", err, name), func(t *testing.T) {
				t.Parallel()
				var b broken
				s := newSite(t, func(c *Config) { c.RotateSize, c.fault = 500, b.check })
				s.startReceiver()
				n := s.node("web1", "syslog")
				other := s.node("web1", "other")
				n.send(n.make("before\n"))
				n.waitConfirmed()
				confirmed := n.position
				full := make(map[string]error)
				for _, op := range ops {
					full[op] = err
				}
				b.set(full)
				for i := range 30 {
					n.send(n.make(fmt.Sprintf("%d %s\n", i, strings.Repeat("x", 50))))
					other.send(other.make("a new log\n"))
				}
				b.waitMet(t, 2)
				eventually(t, "tell of it", func() (bool, string) {
					st := s.r.Status(t.Context())
					return strings.Contains(strings.Join(st.Problems, "\n"), err.Error()), fmt.Sprintf("%+v", st)
				})
				n.mu.Lock()
				told := n.confirmed.Position
				n.mu.Unlock()
				if name != "names" && told != confirmed { // with full directories the open file still takes bytes
					t.Errorf("confirmed %d, and %d was all that could be", told, confirmed)
				}
				if central, err := n.central(); err != nil || uint64(len(central)) < told {
					t.Errorf("%d bytes are central, %d confirmed, %v", len(central), told, err)
				}
				b.set(nil)
				n.waitConfirmed()
				other.waitConfirmed()
				n.same()
				other.same()
				eventually(t, "take it back", func() (bool, string) {
					st := s.r.Status(t.Context())
					return len(st.Problems) == 0, fmt.Sprintf("%+v", st)
				})
			})
		}
	}
}

// small mounts a small file system, or skips.
func small(t *testing.T, dir, options string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting a file system needs root")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("no small file system can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

func TestReallyFullDisk(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"out", "state"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, func(c *Config) { c.RotateSize = 300 << 10 })
			dir := filepath.Join(s.dir, what)
			size := map[string]string{"out": "1m", "state": "192k"}[what]
			small(t, dir, "size="+size)
			s.startReceiver()
			n := s.node("web1", "syslog")
			n.send(n.make("before\n"))
			n.waitConfirmed()
			var nodes []*node
			if what == "out" {
				for i := range 200 {
					n.send(n.make(fmt.Sprintf("%d %s\n", i, strings.Repeat("x", 10<<10))))
				}
			} else { // the state grows with the number of logs
				for i := range 300 {
					o := s.node("web2", fmt.Sprintf("%0150d", i))
					o.send(o.make("x\n"))
					nodes = append(nodes, o)
				}
			}
			eventually(t, "tell of it", func() (bool, string) {
				st := s.r.Status(t.Context())
				return strings.Contains(strings.Join(st.Problems, "\n"), "no space left"), fmt.Sprint(st.Problems)
			})
			n.mu.Lock()
			told := n.confirmed.Position
			n.mu.Unlock()
			if central, err := n.central(); err != nil || uint64(len(central)) < told {
				t.Errorf("%d bytes are central, %d confirmed, %v", len(central), told, err)
			}
			s.must(unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=64m"))
			for _, n := range append(nodes, n) {
				n.waitConfirmed()
				n.same()
			}
			s.must(s.stopReceiver())
		})
	}
}

func TestReadOnlyFileSystem(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	dir := filepath.Join(s.dir, "out")
	small(t, dir, "size=4m")
	s.must(unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	s.startReceiver()
	n := s.node("web1", "syslog")
	n.send(n.make("one\n"))
	eventually(t, "tell of it", func() (bool, string) {
		st := s.r.Status(t.Context())
		return strings.Contains(strings.Join(st.Problems, "\n"), "read-only file system"), fmt.Sprint(st.Problems)
	})
	s.must(unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, ""))
	n.waitConfirmed()
	n.same()
	s.must(s.stopReceiver())
}
