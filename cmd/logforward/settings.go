package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/choria-io/fisk"

	"logforward/internal/broker"
	"logforward/internal/forward"
	"logforward/internal/settings"
)

// given is what a command line says about settings.
type given struct {
	command string // whose settings these are
	file    string
	flags   *settings.Flags
}

// settings adds --config and a flag for each setting of command.
func (p *program) settings(c *fisk.CmdClause, command string) *given {
	g := &given{command: command}
	help := "File with settings, one key = value a line"
	if d := settings.DefaultFile(command); d != "" {
		help += "; without it " + d + ", if that is there"
	}
	c.Flag("config", help).PlaceHolder("FILE").StringVar(&g.file)
	g.flags = settings.Register(c, command)
	return g
}

// values are the settings in force.
type values struct {
	*settings.Values
	Command string // whose they are
}

// load reads the settings. What is wrong with them is all said at once.
func (p *program) load(g *given) (*values, error) {
	v, err := settings.Load(g.command, g.file, os.Environ(), g.flags)
	if err != nil {
		return nil, misconfigured(fmt.Errorf("settings:\n  %s", strings.ReplaceAll(err.Error(), "\n", "\n  ")))
	}
	for _, w := range v.Warnings {
		fmt.Fprintf(p.err, "logforward: warning: %s\n", w)
	}
	return &values{v, g.command}, nil
}

// logger writes to standard error as it is set.
func (p *program) logger(v *values) *slog.Logger {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	options := &slog.HandlerOptions{Level: levels[v.Text("log_level")]}
	if v.Command == settings.Run && !v.IsSet("log_level") {
		options.Level = slog.LevelWarn // the live view is what is looked at
	}
	if v.Text("log_format") == "json" {
		return slog.New(slog.NewJSONHandler(p.err, options))
	}
	return slog.New(slog.NewTextHandler(p.err, options))
}

// identity is the one that is set, or the host's name as Choria takes it: fully qualified where
// that can be found out.
func (v *values) identity() (string, error) {
	if id := v.Text("identity"); id != "" {
		return id, nil
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		return "", fmt.Errorf("identity: the host's name can't be had (%w); set identity", err)
	}
	if strings.Contains(host, ".") {
		return host, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if name, err := net.DefaultResolver.LookupCNAME(ctx, host); err == nil && strings.HasPrefix(name, host+".") {
		return strings.TrimSuffix(name, "."), nil
	}
	return host, nil
}

// receiver is this receiver's name: the one that is set, or the host's.
func (v *values) receiver() (string, error) {
	if name := v.Text("receiver"); name != "" {
		return name, nil
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		return "", fmt.Errorf("receiver: the host's name can't be had (%w); set receiver", err)
	}
	host, _, _ = strings.Cut(host, ".")
	return host, nil
}

func brokerOptions(d settings.Destination) broker.Options {
	return broker.Options{
		URLs: d.URL, User: d.User, Password: d.Password, Token: d.Token, NKeySeed: d.NKey, Credentials: d.Credentials,
		TLS:      broker.TLS{CA: d.CA, Certificate: d.Certificate, Key: d.Key, ServerName: d.ServerName},
		Identity: broker.PlainNATS{Prefix: d.Prefix},
	}
}

// centre is the broker of a command that has only one, and the prefix of subjects.
func (v *values) centre() (broker.Options, string, error) {
	d := v.Connection()
	if len(d.URL) == 0 {
		return broker.Options{}, "", errors.New("url isn't set: where is the broker? For example --url nats://logs.example.net:4222")
	}
	return brokerOptions(d), d.Prefix, nil
}

// destinations are a node's.
func (v *values) destinations() (map[string]forward.Destination, error) {
	all := make(map[string]forward.Destination)
	for name, d := range v.Destinations() {
		o := brokerOptions(d)
		o.Name = "logforward forward"
		all[name] = forward.Destination{Broker: o, Prefix: d.Prefix, Compression: d.Compression, Commit: forward.Commit(d.Commit)}
	}
	if len(all) == 0 {
		return nil, errors.New("no destination is configured: set destination.<name>.url, for example destination.central.url = nats://logs.example.net:4222")
	}
	return all, nil
}

// soon is a duration for which zero means at once, where the engine takes zero as its default.
func (v *values) soon(name string) time.Duration { return max(v.Duration(name), 1) }

// smallMemory suits a daemon that shares its machine with those whose logs it reads: it collects early.
func smallMemory() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(96 << 20)
	}
}

// muchMemory suits a receiver: payloads come and go fast, and collecting them rarely saves
// much of its work. The limit lets it collect earlier where the heap grows all the same.
func muchMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(800)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(512 << 20)
	}
}
