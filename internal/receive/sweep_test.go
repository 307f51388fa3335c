package receive

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestClosedFilesAreCompressed(t *testing.T) {
	t.Parallel()
	for how, ending := range map[string]string{"gzip": ".gz", "zstd": ".zst"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, func(c *Config) { c.RotateSize, c.Compress, c.Sweep = 1000, how, time.Millisecond })
			s.startReceiver()
			n := s.node("web1", "syslog")
			// Many in one second: the name of a file that is compressed by now is still taken.
			for i := range 40 {
				n.send(n.make(fmt.Sprintf("%d %s\n", i, strings.Repeat("x", 1000))))
				n.waitConfirmed()
			}
			closed := n.events(EventClose)
			eventually(t, "compress", func() (bool, string) {
				for _, e := range closed {
					path := filepath.Join(s.config.Output, e.Name)
					if exists(path) || !exists(path+ending) {
						return false, tree(s.config.Output)
					}
				}
				return len(closed) >= 39, fmt.Sprint(len(closed))
			})
			n.same()
		})
	}
}

func TestCompressionSurvivesAnyStep(t *testing.T) {
	t.Parallel()
	for _, op := range []string{opCompress, opRemove, opRename} {
		for _, err := range []error{errStopped, syscall.EIO} {
			for _, done := range []bool{false, true} {
				if done && err != errStopped {
					continue
				}
				t.Run(fmt.Sprintf("%s/%v/%t", op, err, done), func(t *testing.T) {
					t.Parallel()
					f := &fault{op: op, done: done, n: 1, err: err, hit: make(chan struct{})}
					s := newSite(t, func(c *Config) { c.RotateSize, c.Compress, c.Sweep, c.fault = 500, "gzip", time.Millisecond, f.check })
					survive(t, s, f)
				})
			}
		}
	}
}

// What a crash leaves of a compression goes away.
func TestLeftoversOfCompressionGoAway(t *testing.T) {
	t.Parallel()
	f := &fault{op: opRemove, n: 0, err: errStopped, hit: make(chan struct{})}
	s := newSite(t, func(c *Config) { c.RotateSize, c.Compress, c.fault = 10, "gzip", f.check })
	s.startReceiver()
	n := s.node("web1", "syslog")
	n.send(n.make("the first file\n"), n.make("the second file")) // no line ends in the second: it stays open
	s.crashed(f)
	if got := len(s.files()); got < 2 {
		t.Fatalf("%d files: the crash came at another place\n%s", got, tree(s.config.Output))
	}
	s.startReceiver()
	n.waitConfirmed()
	eventually(t, "remove the plain file", func() (bool, string) {
		plain := 0
		for _, name := range s.files() {
			if !strings.HasSuffix(name, ".gz") {
				plain++
			}
		}
		return plain == 1, tree(s.config.Output)
	})
	n.same()
}

func TestRetention(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]func(*Config){
		"count": func(c *Config) { c.RetainCount = 2 },
		"size":  func(c *Config) { c.RetainSize = 2 * 101 },
		"age":   func(c *Config) { c.RetainAge = time.Hour },
	} {
		for _, compress := range []string{"none", "gzip"} {
			if name == "size" && compress != "none" {
				continue // sizes on disk would have to be known here
			}
			t.Run(name+"/"+compress, func(t *testing.T) {
				t.Parallel()
				var c clock
				s := newSite(t, func(config *Config) {
					config.RotateSize, config.Now, config.Compress = 50, c.now, compress
					set(config)
				})
				s.startReceiver()
				n := s.node("web1", "syslog")
				for i := range 6 {
					if i > 0 { // the line before ends now: a full file is closed at a line's end, also where nothing more comes
						n.send(n.make("\n"))
					}
					n.send(n.make(fmt.Sprintf("%d%s", i, strings.Repeat("x", 99))))
					n.waitConfirmed()
					if i == 3 && name == "age" {
						c.forward(50 * time.Minute)
					}
				}
				// Five are closed. Nothing goes within the second of its closing.
				c.forward(30 * time.Minute)
				eventually(t, "expire", func() (bool, string) {
					closed, err := s.r.state.closedFiles()
					return err == nil && len(closed) == 2, fmt.Sprint(len(closed), err)
				})
				eventually(t, "write it down", func() (bool, string) {
					return len(n.events(EventExpire)) == 3, tree(s.config.Output)
				})
				eventually(t, "delete", func() (bool, string) { return len(s.files()) == 3, tree(s.config.Output) })
				var b strings.Builder
				missing, err := Cat(&b, []string{s.config.Output}, "web1", "syslog")
				if err != nil || missing != 3 || b.String() != string(n.written[3*101:]) {
					t.Errorf("%d missing, %v, %d bytes", missing, err, b.Len())
				}
				s.must(s.stopReceiver())
				s.startReceiver() // the lines are committed by now, or were written again
				n.send(n.make("after\n"))
				n.waitConfirmed()
				if got := len(n.events(EventExpire)); got < 3 {
					t.Errorf("%d files expired in the ledger", got)
				}
			})
		}
	}
}

// A file that isn't committed to its end is never compressed or deleted.
func TestOnlyWhollyCommittedFilesAreTouched(t *testing.T) {
	t.Parallel()
	f := &fault{op: opRecord, n: 1, err: errStopped, hit: make(chan struct{})}
	var c clock
	s := newSite(t, func(config *Config) {
		config.RotateSize, config.Compress, config.RetainAge, config.Now, config.fault = 10, "gzip", time.Nanosecond, c.now, f.check
	})
	s.startReceiver()
	n := s.node("web1", "syslog")
	n.send(n.make("the first file\n"))
	n.waitConfirmed()
	n.send(n.make("second\n"))
	s.crashed(f)
	c.forward(time.Hour)
	if got := s.files(); len(got) != 1 || got[0] != filepath.Join("web1", "syslog.log") {
		t.Fatalf("%q", got)
	}
	s.startReceiver()
	n.waitConfirmed()
	eventually(t, "expire the first", func() (bool, string) { return len(n.events(EventExpire)) >= 1, tree(s.config.Output) })
	b, err := os.ReadFile(filepath.Join(s.config.Output, "web1", "syslog.log"))
	if err != nil || string(b) != "second\n" {
		t.Errorf("%q, %v", b, err)
	}
}

// One file's trouble doesn't keep the others as they are.
func TestSweepGoesOnBehindAFileInTrouble(t *testing.T) {
	t.Parallel()
	s, n := twoClosed(t, func(c *Config) { c.Sweep = time.Hour })
	closed := n.events(EventClose)
	path := filepath.Join(s.config.Output, closed[0].Name)
	s.must(os.Truncate(path, 3))
	s.config.Compress, s.config.Sweep = "gzip", 10*time.Millisecond
	s.startReceiver()
	eventually(t, "compress the second", func() (bool, string) {
		return exists(filepath.Join(s.config.Output, closed[1].Name+".gz")), tree(s.config.Output)
	})
	if !exists(path) || exists(path+".gz") {
		t.Errorf("the damaged file was replaced\n%s", tree(s.config.Output))
	}
}
