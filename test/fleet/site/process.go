package site

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// pace is how often a file is looked at for what is waited for.
const pace = 10 * time.Millisecond

// stopTime is how long a process may take to end in order, before it is killed.
const stopTime = 30 * time.Second

// Process is a program that was started here, in a process group of its own.
type Process struct {
	Name string
	Log  string // file of what it prints, and, of Choria, what it logs

	cmd   *exec.Cmd
	from  int64 // where its part of the log begins
	ended chan struct{}
	err   error // of its end; once ended is closed
}

// launcher starts processes from one thread that lives as long as it does: the kernel kills a
// child when the thread that started it is gone, so none survives a crash of this process.
type launcher struct {
	work chan func()
	done chan struct{}
	once sync.Once
}

func newLauncher() *launcher {
	l := &launcher{work: make(chan func()), done: make(chan struct{})}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		for {
			select {
			case f := <-l.work:
				f()
			case <-l.done:
				return
			}
		}
	}()
	return l
}

// close lets the thread go; what still runs is killed with it.
func (l *launcher) close() { l.once.Do(func() { close(l.done) }) }

// start runs a program whose output is appended to a log.
func (l *launcher) start(name, log string, env []string, program string, args ...string) (*Process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer out.Close()
	info, err := out.Stat()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &Process{Name: name, Log: log, cmd: exec.Command(program, args...), from: info.Size(), ended: make(chan struct{})}
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = env, out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	select {
	case l.work <- func() { started <- p.cmd.Start() }:
	case <-l.done:
		return nil, fmt.Errorf("start %s: the site is closed", name)
	}
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// PID is the process' id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Running tells whether it hasn't ended.
func (p *Process) Running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// Signal sends a signal to the process alone. One that has ended gets none, and that is no error.
func (p *Process) Signal(s syscall.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s: %w", p.Name, err)
	}
	return nil
}

// Stop asks the process to end, waits, and kills its group after a while. Its error says that it
// had to be killed, or how it ended if not by its own will.
func (p *Process) Stop() error {
	if !p.Running() {
		return p.failure()
	}
	if err := errors.Join(p.Signal(syscall.SIGTERM), p.Signal(syscall.SIGCONT)); err != nil {
		return err
	}
	select {
	case <-p.ended:
		return p.failure()
	case <-time.After(stopTime):
		p.Kill()
		return fmt.Errorf("%s didn't end within %s and was killed; see %s", p.Name, stopTime, p.Log)
	}
}

// failure is the error of an end that nobody asked for. That a signal from here ended it is none.
func (p *Process) failure() error {
	if p.err == nil {
		return nil
	}
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() && (status.Signal() == syscall.SIGTERM || status.Signal() == syscall.SIGKILL) {
		return nil
	}
	return fmt.Errorf("%s ended with %w; see %s", p.Name, p.err, p.Log)
}

// Kill ends the process, and what it started in its group, at once, and waits until it is gone.
func (p *Process) Kill() {
	if p.Running() {
		_ = syscall.Kill(-p.PID(), syscall.SIGKILL) // it may end meanwhile
	}
	<-p.ended
}

// Await waits until the process has logged a line that matches.
func (p *Process) Await(ctx context.Context, pattern string) error {
	match, err := regexp.Compile(pattern)
	if err != nil {
		return err
	}
	err = until(ctx, func() error {
		b, err := os.ReadFile(p.Log)
		if err != nil {
			return err
		}
		b = b[min(int64(len(b)), p.from):]
		if match.Match(b) {
			return nil
		}
		if !p.Running() {
			return final{fmt.Errorf("%s ended (%v): %s", p.Name, p.err, last(b))}
		}
		return fmt.Errorf("%s hasn't logged %q; its last words: %s", p.Name, pattern, last(b))
	})
	return err
}

// last is the end of a log.
func last(b []byte) string { return string(b[max(0, len(b)-600):]) }

// final is an error after which waiting is of no use.
type final struct{ error }

func (f final) Unwrap() error { return f.error }

// until repeats a check until it succeeds or ctx ends; then it returns what the check said last.
func until(ctx context.Context, check func() error) error {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		err := check()
		if err == nil || errors.As(err, &final{}) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}
