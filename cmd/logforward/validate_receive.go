package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"logforward/internal/broker"
	"logforward/internal/settings"
)

// descriptorsOfReceiver is what a receiver needs besides central files.
const descriptorsOfReceiver = 256

// receive checks a receiver's configuration.
func (v *validation) receive(ctx context.Context, set *given) {
	values, err := v.load(set)
	if err != nil {
		v.fail("settings", err, correctSettings)
		return
	}
	for _, w := range values.Warnings {
		v.warn("settings", w, "change that line: as it is it works, and is likely not meant")
	}
	config, err := receiveConfig(values, slog.New(slog.DiscardHandler))
	if err != nil {
		v.fail("settings", err, correctSettings)
		return
	}
	v.ok("settings", "receiver %s", config.Name)
	u, unknown := daemonUser(settings.Receive, config.State)
	for _, d := range [][2]string{{"output", config.Output}, {"state", config.State}} {
		v.directory(d[0], d[1], u, unknown == nil)
	}
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err == nil {
		if unknown == nil && u.files > 0 {
			r.Max = u.files // not this shell's: the unit's
		}
		if need := uint64(config.MaxOpenFiles + descriptorsOfReceiver); r.Max < need {
			v.fail("descriptors", fmt.Errorf("max_open_files = %d needs %d descriptors, a process may have %d", config.MaxOpenFiles, need, r.Max), "raise LimitNOFILE in the unit, or set a smaller max_open_files")
		} else {
			v.ok("descriptors", "%d may be open", r.Max)
		}
	}
	v.centre(ctx, config.Broker)
}

// centre connects as the receiver would, and looks whether it may read what it needs.
func (v *validation) centre(ctx context.Context, o broker.Options) {
	const check = "broker"
	ctx, cancel := context.WithTimeout(ctx, validateTime)
	defer cancel()
	o.Name = "logforward validate"
	nc, err := broker.Connect(ctx, o)
	if err != nil {
		v.fail(check, err, "see that the broker runs and can be reached from here, and that url or choria, credentials and authorities are its")
		return
	}
	defer nc.Close()
	v.ok(check, "connected to %s", nc.ConnectedUrlRedacted())
	js, err := broker.JetStream(nc, streamAPI(o))
	if err != nil {
		v.fail(check, err, enableStreams)
		return
	}
	within, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	shared, err := broker.OpenShared(within, js)
	var layout broker.Layout
	if err == nil {
		layout, err = shared.Layout(within)
	}
	for n := 0; err == nil && n < layout.Partitions; n++ {
		if _, err = js.Stream(within, broker.StreamName(n)); err != nil {
			err = fmt.Errorf("stream %s: %w", broker.StreamName(n), err)
		}
	}
	switch {
	case err == nil:
		v.ok(check, "streams are set up: prefix %s, %d partitions, %d replicas", layout.Prefix, layout.Partitions, layout.Replicas)
		v.clock(within, check, shared)
	case errors.Is(err, broker.ErrNoStream), errors.Is(err, broker.ErrNotFound):
		v.fail(check, err, runSetup)
	default:
		v.fail(check, fmt.Errorf("streams and buckets can't be read: %w", err), "a receiver reads and acknowledges streams, and reads and writes buckets: with Choria's tokens that takes --stream-user")
	}
}
