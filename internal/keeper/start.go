package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"logforward/internal/control"
)

// waiter is the shell that outlives this run only to say how the daemon ended. $0 is its name in a list of processes.
const waiter = `"$@"; status=$?; echo "logforward: the daemon ended with status $status" >&2; exit $status`

// start starts a daemon, unless too many ended too soon. lost says why the one before isn't there any more; empty: it ended by
// itself, or its end was wanted, or there was none.
func (k *Keeper) start(ctx context.Context, lost string) (Observation, error) {
	now, r := k.config.Now(), k.record
	if r.Failed != nil {
		return k.failed(), nil
	}
	if r.Attempts > 0 && !r.Seen.Started.Before(r.Begun.Time) && now.Sub(r.Seen.Started) >= k.config.Steady {
		r.Attempts, r.NotBefore = 0, time.Time{} // it stayed, though no look fell into the time after
	}
	if r.Attempts >= k.config.Attempts {
		r.Failed = &failure{fmt.Sprintf("%d starts in a row didn't last: %s", r.Attempts, k.lastWords(ctx)), now}
		return k.failed(), nil
	}
	// A clock that was set back must not make it wait longer than was meant.
	if left := r.NotBefore.Sub(now); left > 0 && left <= k.wait(r.Attempts) {
		return Observation{State: Degraded, Reason: fmt.Sprintf("the daemon ended; attempt %d of %d in %s: %s", r.Attempts+1, k.config.Attempts, left.Round(time.Second), k.lastWords(ctx))}, nil
	}
	if lost == "" && (r.Seen.PID != 0 || r.Attempts > 0) {
		if last := k.lastWords(ctx); !inOrder(last) {
			lost = "the daemon ended, and was started again: " + last
		}
	}
	r.Lost, r.Seen.PID = lost, 0
	// On disk before the start: a run that is killed in between must not forget that it tried.
	r.Attempts++
	r.Watched, r.NotBefore = k.fingerprint(), now.Add(k.wait(r.Attempts))
	r.Begun = begun{now, k.cut()}
	if err := k.save(); err != nil {
		return Observation{State: Failed, Reason: err.Error()}, nil
	}
	begin := k.session
	if k.unit(ctx) {
		begin = k.systemd
	}
	ended, err := begin(ctx)
	if err != nil {
		return Observation{State: Degraded, Reason: err.Error(), Action: "tried"}, nil
	}
	return k.begun(ctx, ended)
}

// inOrder tells of a daemon's last words whether somebody has ended it as it shall be ended: a rollout, an operator.
func inOrder(words string) bool {
	return strings.HasSuffix(words, "ended with status 0") || strings.HasSuffix(words, "result success, status 0")
}

// wait is how long after the nth start the next may come.
func (k *Keeper) wait(n int) time.Duration {
	if n < 2 {
		return 0
	}
	return k.config.Backoff << min(n-2, 10)
}

// begun waits until a new daemon answers, or has ended. ended may be nil.
func (k *Keeper) begun(ctx context.Context, ended <-chan struct{}) (Observation, error) {
	waiting, cancel := context.WithTimeout(ctx, beginTime)
	defer cancel()
	var status control.StatusReply
	over := false
	answers := until(waiting, func() bool {
		select {
		case <-ended:
			over = true
			return true
		default:
		}
		var err error
		status, err = k.client.Status(waiting, control.StatusRequest{})
		return err == nil
	})
	switch {
	case over:
		return Observation{State: Degraded, Reason: "the daemon ended at once: " + k.lastWords(ctx), Action: "tried"}, nil
	case !answers:
		return Observation{State: Degraded, Reason: "the daemon is starting", Action: "started"}, nil
	}
	k.record.Seen = daemon{PID: status.PID, Started: status.Started}
	o := k.lost(k.settled(ctx, status))
	o.Action = "started"
	return o, nil
}

// settled is how a new daemon stands once it had a moment: it answers before it has connected.
func (k *Keeper) settled(ctx context.Context, status control.StatusReply) (o Observation) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	until(ctx, func() bool {
		if now, err := k.client.Status(ctx, control.StatusRequest{}); err == nil {
			status = now
		}
		if now := k.observe(ctx, status); ctx.Err() == nil || o.State == "" {
			o = now
		}
		return o.State != Degraded
	})
	return o
}

// session starts the daemon in a session of its own, so that no signal to whoever runs this reaches it. ended is
// closed when it has ended.
func (k *Keeper) session(context.Context) (ended <-chan struct{}, err error) {
	log, err := os.OpenFile(filepath.Join(k.config.Dir, daemonLog), os.O_CREATE|os.O_WRONLY|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("log of the daemon: %w", err)
	}
	defer log.Close()
	cmd := exec.Command("/bin/sh", append([]string{"-c", waiter, "logforward-waiter", k.config.Program}, k.config.Args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Dir = "/"
	cmd.Env = environment(os.Environ())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the daemon: %w", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait() // its log says how it ended
	}()
	return done, nil
}

// environment is what a daemon gets of this process's: not what an operator's shell or a watcher happens to have.
func environment(all []string) []string {
	env := []string{}
	path := "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, e := range all {
		name, _, _ := strings.Cut(e, "=")
		switch {
		case name == "PATH":
			path = e
		case name == "TZ", name == "LANG", name == "GOMEMLIMIT", name == "GOGC", name == "GODEBUG", name == "SSL_CERT_FILE", name == "SSL_CERT_DIR",
			strings.HasPrefix(name, "LOGFORWARD_"):
			env = append(env, e)
		}
	}
	return append(env, path)
}

// stop ends the daemon that runs. false: it hasn't ended yet, and the next run will see.
func (k *Keeper) stop(ctx context.Context, hung bool) (gone bool, err error) {
	p, err := holder(filepath.Join(k.config.State, lockName))
	if err != nil || p == nil {
		return err == nil, err
	}
	if !k.record.Stopping.is(p) {
		k.record.Stopping = stopping{p.pid, p.start, k.config.Now()}
	}
	if err := errors.Join(p.signal(syscall.SIGTERM), p.signal(syscall.SIGCONT)); err != nil {
		return false, err
	}
	if p.gone(ctx, k.end) {
		k.record.Stopping = stopping{}
		return true, nil
	}
	if !hung && k.since(k.record.Stopping.Since) < lateTime {
		return false, nil
	}
	if err := p.signal(syscall.SIGKILL); err != nil {
		return false, err
	}
	if !p.gone(ctx, killTime) {
		return false, nil // in the kernel, on a device that doesn't answer
	}
	k.record.Stopping = stopping{}
	return true, nil
}
