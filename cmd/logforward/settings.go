package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/choria-io/fisk"

	"logforward/internal/broker"
	"logforward/internal/choria"
	"logforward/internal/forward"
	"logforward/internal/settings"
)

// given is what a command line says about settings.
type given struct {
	command string // whose settings these are
	file    string
	flags   *settings.Flags
}

// settings adds --config and a flag for each setting of command. unused are those that this one of the commands that share them doesn't use.
func (p *program) settings(c *fisk.CmdClause, command string, unused ...string) *given {
	g := &given{command: command}
	help := "File with settings, one key = value a line"
	if d := settings.DefaultFile(command); d != "" {
		help += "; without it " + d + ", if that is there"
	}
	c.Flag("config", help).PlaceHolder("FILE").StringVar(&g.file)
	g.flags = settings.Register(c, command, unused...)
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
		if p.data {
			break
		}
		fmt.Fprintf(p.err, "logforward: warning: %s\n", harmless(w))
	}
	return &values{v, g.command}, nil
}

// logger writes to standard error as it is set.
func (p *program) logger(v *values) *slog.Logger {
	levels := map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}
	options := &slog.HandlerOptions{Level: levels[v.Text("log_level")]}
	if slices.Contains([]string{settings.Run, settings.Setup, settings.Fleet, settings.Verify}, v.Command) && !v.IsSet("log_level") {
		options.Level = slog.LevelWarn // what is looked at is the result
	}
	if v.Text("log_format") == "json" {
		return slog.New(slog.NewJSONHandler(p.err, options))
	}
	return slog.New(slog.NewTextHandler(p.err, options))
}

// identity is the one that is set, or that of the node's Choria configuration, or the host's name as
// Choria takes it: fully qualified where that can be found out. A token permits its own identity only.
func (v *values) identity(configs choriaConfigs) (string, error) {
	id := v.Text("identity")
	for _, name := range slices.Sorted(maps.Keys(configs)) {
		c := configs[name]
		if id != "" && id != c.Identity {
			return "", fmt.Errorf("identity: %s, but destination %s connects as %s (%s); give both the same", id, name, c.Identity, c.File)
		}
		id = c.Identity
	}
	if id != "" {
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

// brokerOptions are those of one connection. Where it is Choria's, its configuration comes with them.
func brokerOptions(d settings.Destination) (broker.Options, *choria.Config, error) {
	o := broker.Options{
		URLs: d.URL, User: d.User, Password: d.Password, Token: d.Token, NKeySeed: d.NKey, Credentials: d.Credentials,
		TLS:      broker.TLS{CA: d.CA, Certificate: d.Certificate, Key: d.Key, ServerName: d.ServerName},
		Identity: broker.PlainNATS{Prefix: d.Prefix},
	}
	if d.Choria == "" {
		if d.ChoriaToken != "" || d.ChoriaSeed != "" {
			return o, nil, errors.New("choria_token and choria_seed belong to a choria configuration: set choria, too")
		}
		return o, nil, nil
	}
	c, err := choria.Load(d.Choria)
	if err != nil {
		return o, nil, err
	}
	if (d.ChoriaToken == "") != (d.ChoriaSeed == "") {
		return o, nil, errors.New("choria_token and choria_seed belong together: set both")
	}
	if d.ChoriaToken != "" {
		c.Provider, c.Token, c.Seed = "choria", d.ChoriaToken, d.ChoriaSeed
	}
	if err := c.Connection(&o); err != nil {
		return o, nil, err
	}
	if len(o.URLs) == 0 {
		if o.URLs, err = c.Brokers(context.Background()); err != nil {
			return o, nil, err
		}
	}
	return o, c, nil
}

// streamAPI is the prefix of the streams' API that a connection's identity sees.
func streamAPI(o broker.Options) string {
	if o.Identity == nil {
		return ""
	}
	return o.Identity.StreamAPI()
}

// centre is the broker of a command that has only one, and the prefix of subjects.
func (v *values) centre() (broker.Options, string, error) {
	d := v.Connection()
	if len(d.URL) == 0 && d.Choria == "" {
		return broker.Options{}, "", errors.New("neither url nor choria is set: where is the broker? For example --url nats://logs.example.net:4222, or url = … in " + settings.DefaultFile(settings.Receive))
	}
	o, _, err := brokerOptions(d)
	return o, d.Prefix, err
}

// ownChoria is where a node's own Choria Server has its configuration.
const ownChoria = "/etc/choria/server.conf"

// choriaConfigs are the Choria configurations of a node's destinations, by destination.
type choriaConfigs map[string]*choria.Config

// destinations are a node's. Without any, the node's own Choria broker is one, called central.
func (v *values) destinations() (map[string]forward.Destination, choriaConfigs, error) {
	given := v.Destinations()
	if len(given) == 0 {
		if _, err := os.Stat(ownChoria); err == nil {
			given = map[string]settings.Destination{"central": {Choria: ownChoria, Prefix: "logs", Compression: "none", Commit: "confirmed"}}
		}
	}
	all, configs := make(map[string]forward.Destination), make(choriaConfigs)
	for name, d := range given {
		o, c, err := brokerOptions(d)
		if err != nil {
			return nil, nil, fmt.Errorf("destination %s: %w", name, err)
		}
		if c != nil {
			configs[name] = c
		}
		o.Name = "logforward forward"
		all[name] = forward.Destination{Broker: o, Prefix: d.Prefix, Compression: d.Compression, Commit: forward.Commit(d.Commit), Seal: d.Seal}
	}
	if len(all) == 0 {
		return nil, nil, errors.New("no destination is configured: set destination.<name>.url, for example destination.central.url = nats://logs.example.net:4222, or destination.<name>.choria = " + ownChoria)
	}
	return all, configs, nil
}

// soon is a duration for which zero means at once, where the engine takes zero as its default.
func (v *values) soon(name string) time.Duration { return max(v.Duration(name), 1) }

// modest suits a daemon that shares its machine with those whose logs it reads: it collects early, and takes no more than one core.
// Its work is many short steps; on several cores each would wake another thread, which finds nothing left to do.
// GOMEMLIMIT and GOMAXPROCS in the environment win.
func modest() {
	if os.Getenv("GOMEMLIMIT") == "" {
		limitMemory(96 << 20)
	}
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(1)
	}
}
