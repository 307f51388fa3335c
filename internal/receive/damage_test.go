package receive

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Somebody else's hands in the output: what they took is written down, and receiving goes on.
func TestDamagedCentralFile(t *testing.T) {
	t.Parallel()
	const first = "committed before\n"
	remove := func(path string) error { return os.Remove(path) }
	harms := map[string]func(path string) error{
		"removed":   remove,
		"truncated": func(path string) error { return os.Truncate(path, 4) },
		"emptied":   func(path string) error { return os.Truncate(path, 0) },
		"moved":     func(path string) error { return os.Rename(path, path+".1") },
		"replaced": func(path string) error {
			if err := os.WriteFile(path+".1", bytes.Repeat([]byte("x"), 1000), 0o644); err != nil {
				return err
			}
			return os.Rename(path+".1", path)
		},
		"a link": func(path string) error {
			return errors.Join(os.Rename(path, path+".1"), os.Symlink(path+".1", path))
		},
		"directory moved": func(path string) error {
			return os.Rename(filepath.Dir(path), filepath.Dir(path)+".1")
		},
		"directory a link": func(path string) error {
			dir := filepath.Dir(path)
			return errors.Join(os.Rename(dir, dir+".1"), os.Symlink(dir+".1", dir))
		},
	}
	for name, harm := range harms {
		for _, running := range []bool{true, false} {
			for _, evicted := range []bool{true, false} {
				if evicted && !running || name == "replaced" && !running {
					continue // a file that was replaced by a longer one while it was closed can't be told
				}
				t.Run(fmt.Sprintf("%s/running %t/evicted %t", name, running, evicted), func(t *testing.T) {
					t.Parallel()
					s := newSite(t, func(c *Config) { c.MaxOpenFiles = 8 })
					s.startReceiver()
					n := s.node("web1", "syslog")
					n.send(n.make(first))
					n.waitConfirmed()
					if evicted {
						for i := range 10 {
							other := s.node("web2", fmt.Sprint(i))
							other.send(other.make("x\n"))
							other.waitConfirmed()
						}
					}
					if !running {
						s.must(s.stopReceiver())
					}
					s.must(harm(filepath.Join(s.config.Output, "web1", "syslog.log")))
					if !running {
						s.startReceiver()
					}
					if name == "directory a link" {
						n.send(n.make("after\n"))
						stuck(t, s, n, running && !evicted)
						return
					}
					for range 3 {
						n.send(n.make("after\n"))
					}
					n.waitConfirmed()
					if !strings.HasPrefix(name, "directory") && name != "replaced" && len(n.events(EventDamage)) == 0 {
						t.Errorf("the ledger doesn't tell\n%s", tree(s.config.Output))
					}
					got, err := n.central()
					s.must(err)
					if !strings.HasSuffix(string(got), "after\nafter\nafter\n") || strings.Count(string(got), "after\n") != 3 || bytes.ContainsRune(got, 0) {
						t.Errorf("central: %q\n%s", got, tree(s.config.Output))
					}
					s.must(s.stopReceiver())
					s.startReceiver()
					n.send(n.make("and on\n"))
					n.waitConfirmed()
				})
			}
		}
	}
}

// stuck waits until the receiver says that it doesn't write, and looks that it hasn't.
//
// held says that the file was open: then what comes before the next commit goes into it.
func stuck(t *testing.T, s *site, n *node, held bool) {
	t.Helper()
	target := filepath.Join(s.config.Output, n.identity+".1")
	before := tree(target)
	eventually(t, "say so", func() (bool, string) {
		st := s.r.Status(t.Context())
		return strings.Contains(strings.Join(st.Problems, "\n"), "somebody else put it there"), fmt.Sprintf("%+v", st)
	})
	if after := tree(target); after != before && !held {
		t.Errorf("the link was followed:\n%s\nthen\n%s", before, after)
	}
	// Once it is gone receiving goes on by itself.
	s.must(os.Remove(filepath.Join(s.config.Output, n.identity)))
	n.waitConfirmed()
}

// A link in the place of the first file, or of the identity's directory, is never followed.
func TestPlantedLinksAreNotFollowed(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"file", "dangling", "ledger"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, nil)
			target := filepath.Join(s.dir, "target")
			if name != "dangling" {
				s.must(os.WriteFile(target, []byte("root:x:0:0\n"), 0o600))
			}
			link := map[string]string{"file": "syslog.log", "dangling": "syslog.log", "ledger": "syslog@ledger.jsonl"}[name]
			s.must(os.MkdirAll(filepath.Join(s.config.Output, "web1"), 0o755))
			s.must(os.Symlink(target, filepath.Join(s.config.Output, "web1", link)))
			s.startReceiver()
			n := s.node("web1", "syslog")
			n.send(n.make("evil::0:0\n"))
			n.waitConfirmed()
			if b, err := os.ReadFile(target); name == "dangling" && !os.IsNotExist(err) || name != "dangling" && string(b) != "root:x:0:0\n" {
				t.Errorf("the target holds %q, %v", b, err)
			}
		})
	}
	t.Run("directory", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, nil)
		s.must(os.MkdirAll(filepath.Join(s.config.Output, "web1.1"), 0o755))
		s.must(os.Symlink("web1.1", filepath.Join(s.config.Output, "web1")))
		s.startReceiver()
		n := s.node("web1", "syslog")
		n.send(n.make("evil\n"))
		stuck(t, s, n, false)
		n.same()
	})
	t.Run("compressed", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, func(c *Config) { c.RotateSize, c.Sweep = 10, time.Hour })
		target := filepath.Join(s.dir, "target")
		s.must(os.WriteFile(target, []byte("root:x:0:0\n"), 0o600))
		s.startReceiver()
		n := s.node("web1", "syslog")
		n.send(n.make("the first file\n"), n.make("second\n"))
		n.waitConfirmed()
		eventually(t, "close", func() (bool, string) { return len(n.events(EventClose)) == 1, "" })
		s.must(s.stopReceiver())
		s.must(os.Symlink(target, filepath.Join(s.config.Output, n.events(EventClose)[0].Name+".gz"+unfinished)))
		s.config.Compress, s.config.Sweep = "gzip", 10*time.Millisecond
		s.startReceiver()
		n.send(n.make("more\n"))
		n.waitConfirmed()
		if b, err := os.ReadFile(target); err != nil || string(b) != "root:x:0:0\n" {
			t.Errorf("the target holds %q, %v", b, err)
		}
		n.same()
	})
}

// A file that is lost between the commit and its final name stops nobody.
func TestFileLostWhileItIsClosed(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(path string) error{
		"removed":   os.Remove,
		"truncated": func(path string) error { return os.Truncate(path, 3) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &fault{op: opRename, err: errStopped, hit: make(chan struct{})}
			s := newSite(t, func(c *Config) { c.RotateSize, c.fault = 10, f.check })
			s.startReceiver()
			n := s.node("web1", "syslog")
			n.send(n.make("the first file\n"), n.make("second\n"))
			s.crashed(f)
			s.must(harm(filepath.Join(s.config.Output, "web1", "syslog.log")))
			s.startReceiver()
			n.waitConfirmed()
			if len(n.events(EventDamage)) == 0 {
				t.Errorf("the ledger doesn't tell\n%s", tree(s.config.Output))
			}
			b, err := os.ReadFile(filepath.Join(s.config.Output, "web1", "syslog.log"))
			if err != nil || string(b) != "second\n" {
				t.Errorf("%q, %v", b, err)
			}
		})
	}
}

// A shortened ledger is continued, one that is gone begun anew; the bytes behind are found either way.
func TestDamagedLedger(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		harm func(path string) error
		all  bool // what the open file holds is found whole
	}{
		"removed":          {os.Remove, true},
		"emptied":          {func(path string) error { return os.Truncate(path, 0) }, true},
		"cut in a line":    {func(path string) error { return os.Truncate(path, 100) }, true},
		"cut in last line": {func(path string) error { st, _ := os.Stat(path); return os.Truncate(path, st.Size()-3) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, func(c *Config) { c.RotateSize = 40 })
			s.startReceiver()
			n := s.node("web1", "syslog")
			n.send(n.make("before\n"))
			n.waitConfirmed()
			s.must(s.stopReceiver())
			s.must(test.harm(filepath.Join(s.config.Output, "web1", "syslog@ledger.jsonl")))
			s.startReceiver()
			for i := range 20 {
				n.send(n.make(fmt.Sprintf("after %d\n", i)))
				n.waitConfirmed()
			}
			n.same()
			if len(n.events(EventDamage)) == 0 {
				t.Errorf("the ledger doesn't tell\n%s", tree(s.config.Output))
			}
			if got := len(n.events(EventClose)); got < 2 {
				t.Errorf("%d files closed", got)
			}
		})
	}
}

// A state that came out of a backup knows less than was written. Its files aren't cut back to it.
func TestStateOutOfABackupCutsNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	n := s.node("web1", "syslog")
	s.steady(n, "in the backup\n")
	db := filepath.Join(s.config.State, "receive.db")
	backup, err := os.ReadFile(db)
	s.must(err)
	s.steady(n, "not in the backup\n")
	s.must(os.WriteFile(db, backup, 0o600))
	s.startReceiver()
	n.send(n.make("later\n"))
	n.waitConfirmed()
	n.same()
}

// Cat may run while files are rotated and compressed: it sees a log's beginning, whole.
func TestCatBesideARunningReceiver(t *testing.T) {
	t.Parallel()
	s := newSite(t, func(c *Config) {
		c.RotateSize, c.Compress, c.Sweep, c.CommitInterval = 2000, "zstd", time.Millisecond, 2*time.Millisecond
	})
	s.startReceiver()
	n := s.node("web1", "syslog")
	var all bytes.Buffer
	for i := range 1500 {
		fmt.Fprintf(&all, "%d %s\n", i, strings.Repeat("x", 100))
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for line := range strings.Lines(all.String()) {
			n.send(n.make(line))
		}
	}()
	for reads, running := 0, true; running || reads < 3; reads++ {
		select {
		case <-done:
			running = false
		default:
		}
		got, err := n.central()
		s.must(err)
		if !bytes.HasPrefix(all.Bytes(), got) {
			t.Fatalf("%d bytes, differ at %d", len(got), differ(got, all.Bytes()))
		}
	}
	n.waitConfirmed()
	n.same()
}

// The same where the backup was made when the log's file had a name, and nothing was committed to it yet.
func TestStateOfABackupFromBeforeTheFirstCommit(t *testing.T) {
	t.Parallel()
	s := newSite(t, nil)
	n := s.node("web1", "syslog")
	f := s.crashAt(opNames, true)
	s.startReceiver()
	n.send(n.make("committed after the backup\n"))
	s.crashed(f)
	db := filepath.Join(s.config.State, "receive.db")
	backup, err := os.ReadFile(db)
	s.must(err)
	s.startReceiver()
	n.waitConfirmed()
	s.must(s.stopReceiver())
	s.must(os.WriteFile(db, backup, 0o600))
	s.steady(n, "after the backup came back\n")
	n.same()
}

// The same where the file of the backup was closed since, and no other was begun.
func TestStateOfABackupFromBeforeARotation(t *testing.T) {
	t.Parallel()
	var c clock
	c.middle(time.Hour)
	s := newSite(t, func(config *Config) { config.RotateEvery, config.Now = time.Hour, c.now })
	n := s.node("web1", "syslog")
	s.steady(n, "in the backup\n")
	db := filepath.Join(s.config.State, "receive.db")
	backup, err := os.ReadFile(db)
	s.must(err)
	s.startReceiver()
	n.send(n.make("not in the backup\n"))
	n.waitConfirmed()
	c.forward(time.Hour)
	eventually(t, "close it", func() (bool, string) { files, err := s.r.state.closedFiles(); return err == nil && len(files) == 1, "" })
	s.must(s.stopReceiver())
	s.must(os.WriteFile(db, backup, 0o600))
	s.steady(n, "later\n")
	n.same()
}

// The same where nothing came since but the rotation.
func TestStateOfABackupFromBeforeARotationAlone(t *testing.T) {
	t.Parallel()
	var c clock
	c.middle(time.Hour)
	s := newSite(t, func(config *Config) { config.RotateEvery, config.Now = time.Hour, c.now })
	n := s.node("web1", "syslog")
	s.steady(n, "in the backup\n")
	db := filepath.Join(s.config.State, "receive.db")
	backup, err := os.ReadFile(db)
	s.must(err)
	s.startReceiver()
	c.forward(time.Hour)
	eventually(t, "close it", func() (bool, string) { files, err := s.r.state.closedFiles(); return err == nil && len(files) == 1, "" })
	s.must(s.stopReceiver())
	s.must(os.WriteFile(db, backup, 0o600))
	s.steady(n, "later\n")
	n.same()
}
