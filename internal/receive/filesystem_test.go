package receive

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// Whoever asks while a sync runs may have written too late for it: they all share the next.
func TestPartitionsShareOneSync(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var begun atomic.Int32
		end := make(chan error)
		s, err := openFileSystem(dir, &disk{fault: func(op string, done bool) error {
			if done {
				return nil
			}
			begun.Add(1)
			return <-end
		}})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		results := make(chan error, 4)
		ask := func() {
			go func() { results <- s.sync() }()
			synctest.Wait()
		}
		ask()
		for range 3 {
			ask()
		}
		if n := begun.Load(); n != 1 {
			t.Fatalf("%d at once", n)
		}
		end <- nil
		synctest.Wait()
		if n := begun.Load(); n != 2 || len(results) != 1 {
			t.Fatalf("%d begun, %d answered, when one has ended", n, len(results))
		}
		if err := <-results; err != nil {
			t.Error(err)
		}
		end <- syscall.EIO
		for range 3 {
			if err := <-results; !errors.Is(err, syscall.EIO) {
				t.Errorf("one of those that shared it: %v", err)
			}
		}
		if n := begun.Load(); n != 2 || s.failed() != 1 {
			t.Errorf("%d begun, %d failed", n, s.failed())
		}
	})
}

// The kernel tells of lost pages once. What another partition heard counts for all that had written before it.
func TestAnotherPartitionsFailedSyncCounts(t *testing.T) {
	t.Parallel()
	var fail atomic.Bool
	s := newSite(t, func(c *Config) {
		c.fault = func(op string, done bool) error {
			if op == opSyncFS && !done && fail.Swap(false) {
				return syscall.EIO
			}
			return nil
		}
	})
	s.startReceiver()
	if s.r.syncfs == nil {
		t.Skip("files of this file system are synced one by one")
	}
	var nodes []*node
	for i := range fewFiles + 1 {
		nodes = append(nodes, s.node("web1", fmt.Sprint(i)))
		nodes[i].send(nodes[i].make("before\n"))
	}
	for _, n := range nodes {
		n.waitConfirmed()
	}
	fail.Store(true)
	if err := s.r.syncfs.sync(); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	retired := func() bool {
		for _, n := range nodes {
			if len(n.events(EventClose)) > 0 {
				return true
			}
		}
		return false
	}
	eventually(t, "begin new files", func() (bool, string) {
		for _, n := range nodes { // until so many are in one commit that it is a syncfs
			n.send(n.make("after\n"))
		}
		return retired(), tree(s.config.Output)
	})
	for _, n := range nodes {
		n.waitConfirmed()
		n.same()
	}
}

// Files are made while a commit waits for the disk, and the other way round.
func TestNamesAndCommitsDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	for _, held := range []string{opCreate, opPrepare} {
		t.Run(held, func(t *testing.T) {
			t.Parallel()
			var hold atomic.Bool
			met, release := make(chan struct{}), make(chan struct{})
			made := make(chan struct{}, 100)
			s := newSite(t, func(c *Config) {
				c.fault = func(op string, done bool) error {
					if op == opCreate && done {
						made <- struct{}{}
					}
					if op == held && !done && hold.Swap(false) {
						close(met)
						<-release
					}
					return nil
				}
			})
			let := sync.OnceFunc(func() { close(release) })
			t.Cleanup(let)
			s.startReceiver()
			old, fresh := s.node("web1", "old"), s.node("web1", "new")
			old.send(old.make("first\n"))
			old.waitConfirmed()
			for len(made) > 0 {
				<-made
			}
			hold.Store(true)
			if held == opCreate {
				fresh.send(fresh.make("of a new log\n"))
				<-met
				old.send(old.make("goes on\n"))
				old.waitConfirmed()
			} else {
				old.send(old.make("goes on\n"))
				<-met
				fresh.send(fresh.make("of a new log\n"))
				select {
				case <-made:
				case <-time.After(time.Minute):
					t.Error("no file was made while a commit was under way")
				}
			}
			let()
			for _, n := range []*node{old, fresh} {
				n.waitConfirmed()
				n.same()
			}
		})
	}
}

// Files of many directories that are closed by one commit have their new names synced together.
func TestManyClosedFilesShareOneSync(t *testing.T) {
	t.Parallel()
	var hold atomic.Bool
	var mu sync.Mutex
	closes, together := 0, 0 // in this commit; in one that a syncfs followed
	met, release := make(chan struct{}), make(chan struct{})
	made := make(chan struct{}, 1000)
	s := newSite(t, func(c *Config) {
		c.RotateSize = 8
		c.fault = func(op string, done bool) error {
			switch {
			case op == opCreate && done:
				made <- struct{}{}
			case op == opClose && done:
				mu.Lock()
				defer mu.Unlock()
				closes++
			case (op == opSyncDir || op == opSyncFS) && !done:
				mu.Lock()
				defer mu.Unlock()
				if op == opSyncFS {
					together = max(together, closes)
				}
				closes = 0
			case op == opPrepare && !done && hold.Swap(false):
				close(met)
				<-release
			}
			return nil
		}
	})
	let := sync.OnceFunc(func() { close(release) })
	t.Cleanup(let)
	s.startReceiver()
	if s.r.syncfs == nil {
		t.Skip("files of this file system are synced one by one")
	}
	var nodes []*node
	for i := range fewFiles + 3 {
		nodes = append(nodes, s.node(fmt.Sprint("web", i), "syslog"))
		nodes[i].send(nodes[i].make("one\n"))
		nodes[i].waitConfirmed()
	}
	for len(made) > 0 {
		<-made
	}
	hold.Store(true)
	last := s.node("last", "syslog")
	nodes[0].send(nodes[0].make("two, and full\n"))
	<-met
	for i, n := range nodes {
		if i > 0 {
			n.send(n.make("two, and full\n"))
		}
		n.send(n.make("three\n"))
	}
	last.send(last.make("behind them\n"))
	<-made // so the others wait for their files to be closed
	let()
	for _, n := range append(nodes, last) {
		n.waitConfirmed()
		n.same()
		if closed := len(n.events(EventClose)); n != last && closed != 1 {
			t.Errorf("%s: %d files closed", n.identity, closed)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if together < len(nodes) {
		t.Errorf("%d of %d files closed at once", together, len(nodes))
	}
}

// A log that is being named is in no commit: both write its entry of the state.
func TestLogsBeingNamedAreNotCommitted(t *testing.T) {
	t.Parallel()
	var watch atomic.Bool
	wrote := make(chan struct{}, 100)
	s := newSite(t, func(c *Config) {
		c.fault = func(op string, done bool) error {
			if op == opRecord && !done && watch.Load() {
				wrote <- struct{}{}
			}
			if op == opNames && !done {
				for len(wrote) > 0 {
					<-wrote // a commit that was over before
				}
			}
			if op == opNames && done && watch.Load() {
				select {
				case <-wrote:
					t.Error("the log is in a commit")
				case <-time.After(10 * c.CommitInterval):
				}
				watch.Store(false)
			}
			return nil
		}
	})
	s.startReceiver()
	n := s.node("web1", "syslog")
	n.send(n.make("before\n"))
	n.waitConfirmed()
	s.must(s.stopReceiver())
	s.must(os.RemoveAll(s.config.State)) // its record says more than it has learnt, so that it is to be committed
	n.send(n.make("after\n"))
	watch.Store(true)
	s.startReceiver()
	n.waitConfirmed()
	n.same()
	if watch.Load() {
		t.Error("no names were needed")
	}
}

// A file whose last byte can't be read stops nobody: its log goes on in another.
func TestUnreadableEndBeginsANewFile(t *testing.T) {
	t.Parallel()
	var fail atomic.Bool
	s := newSite(t, func(c *Config) {
		c.fault = func(op string, done bool) error {
			if op == opReadEnd && !done && fail.Load() {
				return syscall.EIO
			}
			return nil
		}
	})
	s.startReceiver()
	n := s.node("web1", "syslog")
	n.send(n.make("before\n"))
	n.waitConfirmed()
	s.must(s.stopReceiver())
	fail.Store(true)
	s.startReceiver()
	n.send(n.make("after\n"))
	n.waitConfirmed()
	n.same()
	if len(n.events(EventClose)) != 1 {
		t.Errorf("%s", tree(s.config.Output))
	}
}

// A path is opened alike at once and step by step, and no link is followed either way.
func TestOpenAtOnceIsOpenStepwise(t *testing.T) {
	root := t.TempDir()
	for _, err := range []error{
		os.Mkdir(filepath.Join(root, "dir"), 0o700), os.WriteFile(filepath.Join(root, "dir/file"), []byte("x"), 0o600), unix.Mkfifo(filepath.Join(root, "dir/pipe"), 0o600),
		os.Symlink("dir", filepath.Join(root, "link")), os.Symlink("file", filepath.Join(root, "dir/link")), os.Symlink("nothing", filepath.Join(root, "dir/dangling")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]error{
		"dir/file": nil, "dir/pipe": errNotOurs, "dir": syscall.EISDIR, "dir/link": errNotOurs, "dir/dangling": errNotOurs, "link/file": errNotOurs, "dir/file/x": errNotOurs,
		"dir/none": os.ErrNotExist, "none/file": os.ErrNotExist, "../x": errNotOurs, "/etc/passwd": errNotOurs,
	} {
		f, err := openAtOnce(root, name, os.O_RDWR, 0)
		if errors.Is(err, errStepwise) {
			t.Skip(err)
		}
		if err == nil {
			f.Close()
		}
		var err2 error
		dir, base, err2 := parentBelow(root, name, 0)
		if err2 == nil {
			if f, err2 = openIn(dir, base, filepath.Join(root, name), os.O_RDWR, 0); err2 == nil {
				f.Close()
			}
			dir.Close()
		}
		if !errors.Is(err, want) || !errors.Is(err2, want) {
			t.Errorf("%s: at once %v, step by step %v, want %v", name, err, err2, want)
		}
	}
	// A new file below new directories.
	f, err := openBelow(root, "a/b/file", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o640, 0o750)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}
