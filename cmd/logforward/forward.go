package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/choria-io/fisk"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"logforward/internal/broker"
	"logforward/internal/control"
	"logforward/internal/forward"
	"logforward/internal/keeper"
	"logforward/internal/logrotate"
	"logforward/internal/node"
	"logforward/internal/policy"
	"logforward/internal/resident"
	"logforward/internal/settings"
	"logforward/internal/tail"
)

func (p *program) forwardCommand(app *fisk.Application) {
	var set *given
	c := p.command(app, "forward", "Run the node's daemon: all forwarders of this machine", `
Forwards what the definitions directory and operators say to the configured destinations, and
answers on its socket. SIGHUP reads all definitions again.

    logforward forward --config /etc/choria/plugin.d/logforward.cfg
`, func(ctx context.Context) error {
		broker.DontSample()
		v, err := p.load(set)
		if err != nil {
			return err
		}
		log := p.logger(v)
		modest()
		c, host, err := forwardConfig(v, log)
		if err != nil {
			return misconfigured(err)
		}
		f := &forwarding{config: c, log: log, definitions: v.Text("forwarders"), socket: v.Text("socket"), wishes: v.Text("wishes"), policy: v.Text("policy"), enforce: v.Text("enforce") == "running", host: host, state: v.Text("state"), metrics: registry()}
		if f.audit, err = auditing(v, c); err != nil {
			return misconfigured(err)
		}
		return f.run(ctx, v.Text("metrics_listen"), nil)
	})
	set = p.settings(c, settings.Forward)
}

// forwarding is the node's daemon with all of its parts.
type forwarding struct {
	config      forward.Config // without State and Registerer
	log         *slog.Logger
	definitions string
	socket      string // empty: none
	wishes      string // directory of what was asked for while no daemon ran; empty: none
	audit       auditSettings
	policy      string // file, or withoutPolicy
	enforce     bool   // policy also decides on what runs
	host        host
	state       string
	metrics     *prometheus.Registry

	node *node.Node
}

// run opens the parts, from the disk outwards, runs them until ctx ends, and closes them in the
// opposite order: first nobody can change anything, then the engine sends its last checkpoint to
// the state, then the state is closed. ready is called once all are open; nil: nobody is.
func (f *forwarding) run(ctx context.Context, listen string, ready func()) (err error) {
	if err := resident.Drop(); err != nil { // to begin took more than all that follows
		f.log.Debug("what the program has mapped stays so", "error", err)
	}
	hup, unhear := hangups()
	defer unhear()
	state, err := forward.OpenState(f.state, f.log)
	if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	defer func() { err = errors.Join(err, state.Close()) }()
	f.config.State, f.config.Registerer = state, f.metrics
	own, err := f.audit.own()
	if err != nil {
		return err
	}
	allowed := f.config.Allowed // the engine may read the node's own logs, too
	if f.config.Allowed, err = f.audit.readable(allowed); err != nil {
		return err
	}
	f.config.Permit = func(log, realpath string) error { return f.node.Permit(log, realpath) } // no log is set before there is a node
	pressed := make(chan forward.Pressed, 64)
	f.config.Pressed = pressed
	engine := forward.New(f.config)
	if err := engine.Open(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	g := &gate{peers: control.PeerPolicy(f.socket), host: f.host, beat: engine.Beat(), watcher: engine.Watcher(), log: f.log}
	if f.socket != "" && f.policy != withoutPolicy {
		g.policy = policy.Open(f.policy)
		g.tell(ctx, g.policy.Document(ctx))
	}
	if err := g.register(f.metrics); err != nil {
		return err
	}
	if f.socket != "" && f.audit.file != "" {
		g.audit = f.audit.open(f.config.Identity, engine)
		defer func() { err = errors.Join(err, g.audit.Close()) }()
	}
	var stands func(context.Context, control.Caller, control.Request, bool) (bool, error)
	if f.enforce {
		stands = g.stands
	}
	f.node = node.New(node.Config{
		Identity: f.config.Identity, Version: version(), PID: os.Getpid(), Executable: keeper.Self(), Definitions: f.definitions, Allowed: allowed, Own: own,
		Destinations: destinationNames(f.config.Destinations), Engine: engine, Beat: engine.Beat(), Watcher: engine.Watcher(), State: state, Rate: f.config.Limits.Rate, Logger: f.log,
		Authorize: g.change, File: g.file, Refused: g.reject, Stands: stands,
		Problems: func() []control.Problem { return append(g.problems(), unsealed(engine)...) },
		Connected: func() map[string]bool {
			up := map[string]bool{}
			for _, d := range engine.Destinations() {
				up[d.Name] = d.Connected
			}
			return up
		},
	})
	g.known = f.node.Known
	if err := f.node.Open(ctx); err != nil {
		return err
	}
	var wanted *wishes
	if f.socket != "" {
		server := control.New(control.Config{Socket: f.socket, Node: f.node, Authorize: g.ask, Metrics: metricsHandler(f.metrics), Logger: f.log})
		if f.wishes != "" {
			wanted = &wishes{dir: f.wishes, server: server, beat: engine.Beat(), watcher: engine.Watcher(), log: f.log}
			wanted.first(ctx)
		}
		if err := server.Open(ctx); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, server.Close()) }()
	}
	group, ctx := errgroup.WithContext(ctx)
	if err := serveMetrics(ctx, group, listen, metricsHandler(f.metrics), func(ctx context.Context) []string { return f.node.Health(ctx).Reasons }, f.log); err != nil {
		return err
	}
	group.Go(func() error { return f.node.Run(ctx) })
	group.Go(func() error { return g.watch(ctx) })
	group.Go(func() error { return g.heard(ctx, pressed) })
	if wanted != nil {
		group.Go(func() error { return wanted.run(ctx) })
	}
	system := &service{log: f.log, alive: func() { engine.Destinations() }}
	group.Go(func() error { system.reload(ctx, hup, f.node.Reload); return nil })
	f.log.Info("forwarding", "identity", f.config.Identity, "version", version(), "definitions", f.definitions, "state", f.state, "allowed", f.config.Allowed.String())
	if ready != nil {
		ready()
	}
	group.Go(func() error { resident.Keep(ctx, f.log); return nil })
	system.run(ctx, group)
	err = group.Wait()
	ended(f.log, err)
	return err
}

// unsealed is a problem where logs go out unsealed that shall be sealed.
func unsealed(e *forward.Engine) []control.Problem {
	if err := e.Unsealed(); err != nil {
		return []control.Problem{{Where: "seal_key", Problem: "logs go out unsealed: " + err.Error()}}
	}
	return nil
}

func destinationNames(m map[string]forward.Destination) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	return names
}

// forwardConfig is the engine's configuration as it is set, and what policy is to know of the node.
func forwardConfig(v *values, log *slog.Logger) (forward.Config, host, error) {
	allowed, err := tail.ParseAllowed(v.List("allowed_paths"))
	if err != nil {
		return forward.Config{}, host{}, fmt.Errorf("allowed_paths: %w", err)
	}
	destinations, configs, err := v.destinations()
	if err != nil {
		return forward.Config{}, host{}, err
	}
	identity, err := v.identity(configs)
	if err != nil {
		return forward.Config{}, host{}, err
	}
	held := v.Number("held_deleted")
	if held == 0 {
		held = -1 // the engine takes 0 as its default
	}
	var olddirs func(path string) []string
	if conf := v.Text("logrotate"); conf != "" {
		olddirs = logrotate.New(conf, log).Olddirs
	}
	return forward.Config{
		Identity: identity, Destinations: destinations, Allowed: allowed, Olddirs: olddirs, SealKey: v.Text("seal_key"), Logger: log,
		Limits: forward.Limits{
			Rate: v.Number("rate"), NodeRate: v.Number("node_rate"), Window: v.Number("window"), ChunkSize: int(v.Number("chunk_size")),
			Linger: v.soon("linger"), PartialWait: v.soon("partial_wait"), Checkpoint: v.Duration("checkpoint_interval"),
			HeldDeleted: held, Quiet: v.soon("quiet"), LateWrites: v.soon("late_writes"),
			Poll: v.Duration("poll"), SyncInterval: v.Duration("sync_interval"),
		},
	}, hostOf(configs), nil
}
