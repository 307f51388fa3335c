package proc

import (
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A process outlives the thread on which its start was asked for.
func TestLaunchedProcessOutlivesAThread(t *testing.T) {
	var p *Process
	var err error
	var asked sync.WaitGroup
	var ask func()
	ask = func() {
		runtime.LockOSThread() // not unlocked: the thread ends with the goroutine
		if syscall.Gettid() == os.Getpid() {
			var other sync.WaitGroup
			other.Go(ask) // the first thread doesn't end
			other.Wait()
			return
		}
		p, err = Launch("sleep", filepath.Join(t.TempDir(), "out"), nil, nil, "sleep", "60")
	}
	asked.Go(ask)
	asked.Wait()
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Done:
		t.Errorf("it ended with the thread: %v", p.Cmd.ProcessState)
	case <-time.After(300 * time.Millisecond):
	}
	p.Cmd.Process.Kill()
	<-p.Done
}

// A process that stood still may not have got as far as to catch signals; one that has run for a while has.
func TestEndOfAProcessThatStoodStill(t *testing.T) {
	for _, stopped := range []bool{true, false} {
		p, err := Launch("sleep", filepath.Join(t.TempDir(), "out"), nil, nil, "sleep", "60")
		if err != nil {
			t.Fatal(err)
		}
		p.Started = p.Started.Add(-time.Minute)
		if stopped {
			p.Signal(syscall.SIGSTOP)
			p.Signal(syscall.SIGCONT)
		}
		if err := p.End(syscall.SIGTERM); (err == nil) != stopped {
			t.Errorf("stopped %v: %v", stopped, err)
		}
	}
}
