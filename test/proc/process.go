package proc

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Process is one run of a program. Its output goes to a file.
type Process struct {
	Name    string
	Cmd     *exec.Cmd
	Started time.Time     // or went on, after it stood still
	Done    chan struct{} // closed when it has ended
}

// starter runs functions on one thread that never ends: the kernel kills a child when the thread that started it is gone, and any other may
// be one that somebody locks, and leaves to die.
var starter = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

// Start starts a command that dies with this process.
func Start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = new(syscall.SysProcAttr)
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	started := make(chan error, 1)
	starter() <- func() { started <- cmd.Start() }
	return <-started
}

// Launch starts a program. Its output is appended to a file; it dies with this process. attr may be nil.
func Launch(name, output string, env []string, attr *syscall.SysProcAttr, args ...string) (*Process, error) {
	cmd := exec.Command(args[0], args[1:]...)
	out, err := os.OpenFile(output, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr, cmd.Env = out, out, append(os.Environ(), env...)
	cmd.SysProcAttr = attr
	if err := Start(cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &Process{name, cmd, time.Now(), make(chan struct{})}
	go func() {
		cmd.Wait()
		close(p.Done)
	}()
	return p, nil
}

// Signal sends a signal, and doesn't wait for anything.
func (p *Process) Signal(sig syscall.Signal) {
	if sig == syscall.SIGCONT {
		p.Started = time.Now() // it may have been stopped before it got anywhere
	}
	p.Cmd.Process.Signal(sig)
}

// End sends a signal and waits for the end. The error tells of a process that doesn't end, or that ends
// on SIGTERM with a failure.
func (p *Process) End(sig syscall.Signal) error {
	p.Signal(sig)
	select {
	case <-p.Done:
	case <-time.After(30 * time.Second):
		p.Signal(syscall.SIGQUIT) // its stacks go to its output
		<-p.Done
		return fmt.Errorf("%s doesn't end on %s", p.Name, sig)
	}
	code := p.Cmd.ProcessState.ExitCode()
	young := time.Since(p.Started) < time.Second // it may not have got as far as to catch signals
	if sig == syscall.SIGTERM && code != 0 && !(young && code == -1) {
		return fmt.Errorf("%s: exit code %d on SIGTERM", p.Name, code)
	}
	return nil
}
