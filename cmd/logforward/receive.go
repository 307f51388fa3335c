package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"

	"github.com/choria-io/fisk"
	"golang.org/x/sync/errgroup"

	"logforward/internal/broker"
	"logforward/internal/receive"
	"logforward/internal/settings"
)

func (p *program) receiveCommand(app *fisk.Application) {
	var set *given
	c := p.command(app, "receive", "Run a receiver: write the fleet's logs to files", `
Any number of receivers share the work. Each needs a name and a state directory of
its own; output directories may be local or shared.

    logforward receive --url nats://broker:4222 --output /srv/logs
`, func(ctx context.Context) (err error) {
		broker.DontSample()
		v, err := p.load(set)
		if err != nil {
			return err
		}
		log := p.logger(v)
		defer muchMemory()()
		c, err := receiveConfig(v, log)
		if err != nil {
			return misconfigured(err)
		}
		metrics := registry()
		c.Registerer = metrics
		r := receive.New(c)
		if err := r.Open(ctx); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, r.Close()) }()
		group, ctx := errgroup.WithContext(ctx)
		if err := serveMetrics(ctx, group, v.Text("metrics_listen"), metricsHandler(metrics), func(ctx context.Context) []string { return unhealthy(r.Status(ctx)) }, log); err != nil {
			return err
		}
		group.Go(func() error { return r.Run(ctx) })
		group.Go(func() error { frugal(ctx); return nil })
		log.Info("receiving", "receiver", c.Name, "version", version(), "output", c.Output, "state", c.State)
		system := &service{log: log, alive: func() { r.Health() }}
		system.run(ctx, group)
		err = group.Wait()
		ended(log, err)
		return err
	})
	set = p.settings(c, settings.Receive)
}

// unhealthy tells why a receiver doesn't do its work.
func unhealthy(s receive.Status) []string {
	reasons := s.Problems
	if !s.Connected {
		reasons = append(reasons, "the broker is not connected")
	}
	return reasons
}

// receiveConfig is the receiver's configuration as it is set.
func receiveConfig(v *values, log *slog.Logger) (receive.Config, error) {
	options, prefix, err := v.centre()
	if err != nil {
		return receive.Config{}, err
	}
	name, err := v.receiver()
	if err != nil {
		return receive.Config{}, err
	}
	options.Name = "logforward receive " + name
	return receive.Config{
		Name: name, Output: v.Text("output"), State: v.Text("state"), Broker: options, Prefix: prefix,
		FilePattern: v.Text("file_pattern"), FileMode: fs.FileMode(v.Number("file_mode")), DirMode: fs.FileMode(v.Number("dir_mode")),
		RotateSize: v.Number("rotate_size"), RotateEvery: v.Duration("rotate_every"),
		RetainCount: int(v.Number("retain_count")), RetainAge: v.Duration("retain_age"), RetainSize: v.Number("retain_size"), Compress: v.Text("compress"),
		CommitInterval: v.Duration("commit_interval"), CommitBytes: v.Number("commit_bytes"), MaxOpenFiles: int(v.Number("max_open_files")),
		MaxLogs: int(v.Number("max_logs_per_identity")), QuarantineSize: v.Number("quarantine_size"), FetchBytes: int(v.Number("fetch_bytes")),
		LeaseInterval: v.Duration("lease_interval"), LeaseTimeout: v.Duration("lease_timeout"), DiskTimeout: v.Duration("disk_timeout"), Logger: log,
	}, nil
}
