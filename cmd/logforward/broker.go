package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"github.com/choria-io/fisk"
	"golang.org/x/sync/errgroup"

	"logforward/internal/broker"
	"logforward/internal/quantity"
	"logforward/internal/settings"
)

// served is what broker prints once it serves.
type served struct {
	URL string `json:"url"` // where clients connect, such as nats://0.0.0.0:4222
}

func (p *program) brokerCommand(app *fisk.Application) {
	var set *given
	c := p.command(app, "broker", "Run a NATS broker with JetStream, where there is none", `
For small sites and tests: one server, files on its own disk. Larger ones use the
NATS or Choria broker that they have.

    logforward broker --listen 0.0.0.0:4222 --store /var/lib/logforward/broker
    logforward setup --url nats://localhost:4222
`, func(ctx context.Context) error {
		v, err := p.load(set)
		if err != nil {
			return err
		}
		log := p.logger(v)
		o, err := serverOptions(v, log)
		if err != nil {
			return misconfigured(err)
		}
		defer brokerMemory()()
		s, err := broker.Serve(ctx, o)
		if err != nil {
			return err
		}
		log.Info("broker is up", "url", s.URL(), "store", o.Store, "version", version())
		if !p.json {
			fmt.Fprintf(p.out, "broker at %s\n", s.URL())
		} else if err := p.print(served{s.URL()}); err != nil {
			return err
		}
		group, ctx := errgroup.WithContext(ctx)
		if err := serveMetrics(ctx, group, v.Text("metrics_listen"), metricsHandler(registry()), func(context.Context) []string { return nil }, log); err != nil {
			return errors.Join(err, s.Shutdown())
		}
		group.Go(func() error { frugal(ctx); return nil })
		system := &service{log: log, alive: func() {}}
		system.run(ctx, group)
		return errors.Join(group.Wait(), s.Shutdown())
	})
	set = p.settings(c, settings.Broker)
}

func serverOptions(v *values, log *slog.Logger) (broker.ServerOptions, error) {
	o := broker.ServerOptions{Listen: v.Text("listen"), Store: v.Text("store"), MaxPayload: int(v.Number("max_payload")), MaxStore: v.Number("max_store"), Logger: log,
		User: v.Text("user"), Password: v.Text("password"), Token: v.Text("token"),
		TLS: broker.TLS{CA: v.Text("ca"), Certificate: v.Text("certificate"), Key: v.Text("key")}}
	if o.User == "" && o.Token == "" && o.TLS.CA == "" && !loopback(o.Listen) {
		log.Warn("anybody who reaches this broker may read and write everything: set user and password, a token, or certificate, key and ca", "listen", o.Listen)
	}
	if sync := v.Text("sync"); sync == "always" {
		o.SyncAlways = true
	} else {
		d, err := quantity.Duration(sync)
		if err != nil {
			return o, fmt.Errorf("sync = %s (%s): want always, or how often, such as 10s", sync, v.Where("sync"))
		}
		o.SyncInterval = d
	}
	return o, nil
}

// loopback tells whether only this machine reaches an address.
func loopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false // Serve says what is wrong with it
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
