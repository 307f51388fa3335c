package main

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"
)

// service tells systemd how a daemon is: ready, reloading, stopping, and again and again that it is alive. Where
// nobody listens (no NOTIFY_SOCKET) nothing is told.
type service struct {
	log *slog.Logger
	// alive returns once the daemon has shown that its parts still answer. It needn't return: a daemon in
	// which something hangs is one that systemd ends and starts again. What a restart doesn't heal (a broker that is
	// away, a full disk, a file system that hangs) is no matter of this, but of /healthz.
	alive func()
}

// run tells that the daemon is ready, and then that it is alive, until ctx ends, which it tells as well.
// Whatever is to be ready is open when it is called.
func (s *service) run(ctx context.Context, group *errgroup.Group) {
	s.tell(daemon.SdNotifyReady)
	group.Go(func() error {
		<-ctx.Done()
		s.tell(daemon.SdNotifyStopping)
		return nil
	})
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		s.log.Warn("systemd's watchdog is not served", "error", err)
	}
	if interval > 0 {
		group.Go(func() error { s.watch(ctx, interval/2); return nil })
	}
}

func (s *service) watch(ctx context.Context, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		s.alive()
		s.tell(daemon.SdNotifyWatchdog)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// reload calls read for each hangup until ctx ends. systemd is told before and after, and shows it as
// reloading meanwhile; systemctl reload returns when the signal is sent.
func (s *service) reload(ctx context.Context, hup <-chan os.Signal, read func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
			s.tell(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
			read()
			s.tell(daemon.SdNotifyReady)
		}
	}
}

func (s *service) tell(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		s.log.Warn("systemd can't be told", "what", state, "error", err)
	}
}
