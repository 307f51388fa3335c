package receive

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// An output that is away for a while, as an unmounted file system is, comes back as it was: nothing in it is cut back to what was written meanwhile, or
// overwritten, though files have the same names. Both together have all.
func TestOutputThatComesBackIsLeftAlone(t *testing.T) {
	t.Parallel()
	for _, x := range []struct{ awayDown, backDown bool }{{false, false}, {true, false}, {false, true}, {true, true}} {
		t.Run(fmt.Sprintf("away down %t/back down %t", x.awayDown, x.backDown), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, nil)
			s.startReceiver()
			n, quiet := s.node("web1", "syslog"), s.node("web1", "quiet")
			quiet.send(quiet.make("once\n"))
			quiet.waitConfirmed()
			first := strings.Repeat("before\n", 100)
			for range 3 {
				n.send(n.make(first))
				n.waitConfirmed()
			}
			out, away, below := s.config.Output, s.config.Output+".away", s.config.Output+".below"
			s.must(os.Mkdir(below, 0o755))
			swap := func(down bool, to, from string) {
				t.Helper()
				if down {
					s.must(s.stopReceiver())
				}
				s.must(os.Rename(out, to))
				s.must(os.Rename(from, out))
				if down {
					s.startReceiver()
				}
			}
			swap(x.awayDown, away, below)
			for range 2 {
				n.send(n.make("meanwhile\n"))
				n.waitConfirmed()
			}
			before := contents(t, away)
			swap(x.backDown, below, away)
			for range 2 {
				n.send(n.make("after\n"))
				n.waitConfirmed()
			}
			quiet.send(quiet.make("twice\n"))
			quiet.waitConfirmed()
			for name, was := range before {
				if now, err := os.ReadFile(filepath.Join(out, name)); err != nil || !bytes.HasPrefix(now, was) || len(now) > len(was) && !strings.Contains(name, "quiet") {
					t.Errorf("%s had %d bytes and has %d: %v", name, len(was), len(now), err)
				}
			}
			for _, of := range []*node{n, quiet} {
				var all bytes.Buffer
				_, err := Cat(&all, []string{out, below}, of.identity, of.log)
				s.must(err)
				if all.String() != string(of.written) {
					t.Errorf("%s: %q, want %q\n%s", of.log, all.String(), of.written, tree(s.dir))
				}
			}
			// Without what is elsewhere that is damage, with its extent. What was written to an open file before it was seen to be elsewhere is there.
			v, err := Verify(t.Context(), []string{out}, n.identity, n.log, nil)
			s.must(err)
			var here bytes.Buffer
			_, err = Cat(&here, []string{out}, n.identity, n.log)
			s.must(err)
			if v.Verdict != Damaged || v.Damaged == 0 || v.Damaged != int64(len(n.written)-here.Len()) {
				t.Errorf("%d bytes of %d are here: %+v\n%s", here.Len(), len(n.written), v, tree(s.dir))
			}
		})
	}
}

// contents are the data files and ledgers below a directory, by their names.
func contents(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	files, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all[strings.TrimPrefix(f, dir+"/")] = b
	}
	return all
}

// An output that somebody removes is made anew, and receiving goes on.
func TestRemovedOutputIsMadeAnew(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	s.startReceiver()
	n := s.node("web1", "syslog")
	n.send(n.make("before\n"))
	n.waitConfirmed()
	s.must(os.Rename(s.config.Output, s.config.Output+".removed"))
	n.send(n.make("after\n"))
	n.waitConfirmed()
	got, err := n.central()
	s.must(err)
	if string(got) != "after\n" {
		t.Errorf("%q\n%s", got, tree(s.dir))
	}
	holes, _, err := Holes(s.outputs(), n.identity, n.log)
	s.must(err)
	if len(holes) != 1 || holes[0].From != 0 || holes[0].To != uint64(len("before\n")) || holes[0].Verdict != Damaged {
		t.Errorf("%+v", holes)
	}
}

// Closed files below another output aren't taken for removed: when it is back, retention knows them.
func TestClosedFilesOfAnotherOutputWait(t *testing.T) {
	t.Parallel()
	var compresses atomic.Bool
	s := newSite(t, func(c *Config) {
		c.RotateSize, c.Compress = 10, "zstd"
		c.fault = func(op string, done bool) error {
			if op == opCompress && !compresses.Load() {
				return syscall.EIO
			}
			return nil
		}
	})
	s.startReceiver()
	n := s.node("web1", "syslog")
	n.send(n.make("longer than ten bytes\n"))
	n.waitConfirmed()
	var name string
	eventually(t, "close it", func() (bool, string) {
		files, err := s.r.state.closedFiles()
		for f := range files {
			name = f
		}
		return err == nil && len(files) == 1, ""
	})
	compresses.Store(true)
	s.must(s.stopReceiver())
	s.must(os.Rename(s.config.Output, s.config.Output+".away"))
	s.startReceiver()
	n.send(n.make("and another of more than ten\n"))
	n.waitConfirmed()
	eventually(t, "look after closed files", func() (bool, string) {
		files, err := s.r.state.closedFiles()
		for f, c := range files {
			if f != name && c.Compressed != "" {
				return err == nil, ""
			}
		}
		return false, fmt.Sprintf("%+v", files)
	})
	files, err := s.r.state.closedFiles()
	s.must(err)
	if files[name] == nil {
		t.Errorf("%s is forgotten", name)
	}
}

// What lies on another file system than the output did at the start isn't made durable by that one's sync.
func TestSyncIsOfTheOutputsFileSystem(t *testing.T) {
	t.Parallel()
	var count atomic.Bool
	var whole, each atomic.Int64
	s := newSite(t, func(c *Config) {
		c.fault = func(op string, done bool) error {
			if done && count.Load() {
				switch op {
				case opSyncFS:
					whole.Add(1)
				case opSync:
					each.Add(1)
				}
			}
			return nil
		}
	})
	other, err := os.MkdirTemp("/dev/shm", "logforward-test-")
	if err != nil {
		t.Skip("no second file system: ", err)
	}
	t.Cleanup(func() { os.RemoveAll(other) })
	var here, there unix.Stat_t
	if unix.Stat(s.dir, &here) != nil || unix.Stat(other, &there) != nil || here.Dev == there.Dev {
		t.Skip("/dev/shm is the file system of temporary files")
	}
	s.must(os.Mkdir(s.config.Output+".first", 0o755))
	s.must(os.Symlink(s.config.Output+".first", s.config.Output)) // the output itself may be a link
	s.startReceiver()
	if s.r.syncfs == nil {
		t.Skip("syncfs isn't relied on here")
	}
	var nodes []*node
	for i := range 2 * fewFiles {
		n := s.node("web1", fmt.Sprint("log", i))
		n.send(n.make("before\n"))
		nodes = append(nodes, n)
	}
	for _, n := range nodes {
		n.waitConfirmed()
	}
	s.must(os.Symlink(other, s.config.Output+".link"))
	s.must(os.Rename(s.config.Output+".link", s.config.Output))
	count.Store(true)
	for _, n := range nodes {
		n.send(n.make("after\n"))
	}
	for _, n := range nodes {
		n.waitConfirmed()
	}
	if each.Load() < int64(len(nodes)) {
		t.Errorf("%d files were synced one by one, %d file systems", each.Load(), whole.Load())
	}
	for _, n := range nodes {
		if got, err := n.central(); err != nil || string(got) != "after\n" {
			t.Errorf("%s: %q, %v", n.log, got, err)
		}
	}
}
