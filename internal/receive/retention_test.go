package receive

import (
	"fmt"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// twoClosed makes a log of two closed files and one that stays open, for no line ends in it. The receiver is stopped.
func twoClosed(t *testing.T, change func(*Config)) (*site, *node) {
	t.Helper()
	s := newSite(t, func(c *Config) {
		c.RotateSize = 10
		if change != nil {
			change(c)
		}
	})
	s.startReceiver()
	n := s.node("web1", "syslog")
	n.send(n.make("the first file\n"), n.make("the second file\n"), n.make("the third file"))
	n.waitConfirmed()
	eventually(t, "close two", func() (bool, string) { files, err := s.r.state.closedFiles(); return err == nil && len(files) == 2, "" })
	s.must(s.stopReceiver())
	return s, n
}

// A file goes when the line that says so is committed: after a crash it is either there, or known to have been deleted.
func TestExpiredFileIsInTheLedgerFirst(t *testing.T) {
	t.Parallel()
	s, n := twoClosed(t, nil)
	first := filepath.Join(s.config.Output, n.events(EventClose)[0].Name)
	f := s.crashAt(opSync, false) // of the commit that has the line
	s.config.fault = func(op string, done bool) error {
		for began := time.Now(); op == opSync && !done && exists(first) && time.Since(began) < 300*time.Millisecond; {
			pause() // so that who doesn't wait for the commit has deleted it
		}
		return f.check(op, done)
	}
	var c clock
	c.forward(time.Minute)
	s.config.RetainCount, s.config.Now = 1, c.now
	s.startReceiver()
	s.crashed(f)
	v, err := Verify(t.Context(), s.outputs(), "web1", "syslog", nil)
	if err != nil || v.Damaged != 0 {
		t.Errorf("%+v, %v\n%s", v, err, tree(s.config.Output))
	}
	s.startReceiver()
	eventually(t, "delete it", func() (bool, string) { return !exists(first), tree(s.config.Output) })
	if v := n.verify(Intact); v.Expired != 15 {
		t.Errorf("%+v", v)
	}
}

// A file of a full disk goes all the same: that makes room for the line.
func TestRetentionFreesAFullDisk(t *testing.T) {
	t.Parallel()
	s, n := twoClosed(t, nil)
	first := filepath.Join(s.config.Output, n.events(EventClose)[0].Name)
	s.config.fault = func(op string, done bool) error {
		if op == opAppend && !done && exists(first) {
			return syscall.ENOSPC
		}
		return nil
	}
	var c clock
	c.forward(time.Minute)
	s.config.RetainCount, s.config.Now = 1, c.now
	s.startReceiver()
	n.send(n.make("the fourth\n"))
	n.waitConfirmed()
	if exists(first) {
		t.Error("it is still there")
	}
	eventually(t, "say so", func() (bool, string) { return len(n.events(EventExpire)) > 0, tree(s.config.Output) })
}

// Which of a log's files are the oldest their positions say, not the clock that was set meanwhile.
func TestRetentionGoesByPositions(t *testing.T) {
	t.Parallel()
	var c clock
	s, n := twoClosed(t, func(config *Config) { config.RetainCount, config.Now = 2, c.now })
	c.forward(-10 * 365 * 24 * time.Hour) // they were closed by a clock that was wrong
	s.startReceiver()
	n.send(n.make("\n"), n.make("the fourth file\n"), n.make("the fifth file\n"), n.make("the sixth file"))
	n.waitConfirmed()
	c.forward(time.Minute)
	eventually(t, "expire", func() (bool, string) {
		files, err := s.r.state.closedFiles()
		return err == nil && len(files) == 2 && len(n.events(EventExpire)) >= 3, tree(s.config.Output)
	})
	if got, err := n.central(); err != nil || string(got) != "the fourth file\nthe fifth file\nthe sixth file" {
		t.Errorf("%q, %v\n%s", got, err, tree(s.config.Output))
	}
}

// What is written to the state when a partition is given away in order is all that its files have.
func TestHandOverLeavesNoFileHalfClosed(t *testing.T) {
	t.Parallel()
	held, go_ := make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	s := newSite(t, func(c *Config) {
		c.RotateSize = 10
		c.fault = func(op string, done bool) error {
			if op == opSync && !done && first.CompareAndSwap(false, true) {
				close(held)
				<-go_
			}
			return nil
		}
	})
	s.startReceiver()
	n := s.node("web1", "syslog")
	n.send(n.make("the first file\n"))
	<-held
	n.send(n.make("the second file\n"))
	eventually(t, "the loop has it", func() (bool, string) {
		info := s.stream(0)
		st := s.r.Status(t.Context())
		return info.State.Msgs == 2 && len(s.r.partitions[0].in) == 0 && len(st.Logs) == 1 && s.r.partitions[0].r == s.r, fmt.Sprint(info.State.Msgs)
	})
	s.r.Status(t.Context())
	r := s.r
	s.cancel()
	close(go_)
	if err := <-s.done; err != nil {
		t.Fatal(err)
	}
	s.r = nil
	lo, err := r.state.log(key("web1", "syslog"))
	if err != nil || lo == nil || lo.Closing != nil || lo.Prepared != nil {
		t.Errorf("%+v, %v", lo, err)
	}
	s.must(r.Close())
}
