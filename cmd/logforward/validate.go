package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/choria-io/fisk"
	"github.com/nats-io/nats.go"

	"logforward/internal/broker"
	"logforward/internal/chunk"
	"logforward/internal/forward"
	"logforward/internal/node"
	"logforward/internal/policy"
	"logforward/internal/settings"
)

// validateTime bounds what one destination may take.
const validateTime = 8 * time.Second

func (p *program) validateCommand(app *fisk.Application) {
	var set *given
	c := p.command(app, "validate", "Check a node's configuration, before a restart", `
Checks settings, definitions, paths, directories, and for each destination connection,
credentials, permissions, streams and whether a receiver answers. Nothing is changed.
Exits with 78 if a check failed.

    logforward validate --config /etc/choria/plugin.d/logforward.cfg
`, func(ctx context.Context) error {
		v := &validation{program: p}
		v.all(ctx, set)
		return v.result()
	})
	set = p.settings(c, settings.Forward)
}

// finding is one check's result.
type finding struct {
	Check  string `json:"check"`
	Result string `json:"result"` // ok, warning or failed
	Text   string `json:"text,omitempty"`
}

type validation struct {
	*program
	findings []finding
}

func (v *validation) ok(check, format string, args ...any) {
	v.findings = append(v.findings, finding{check, "ok", fmt.Sprintf(format, args...)})
}

func (v *validation) warn(check, format string, args ...any) {
	v.findings = append(v.findings, finding{check, "warning", fmt.Sprintf(format, args...)})
}

func (v *validation) fail(check string, err error) {
	v.findings = append(v.findings, finding{check, "failed", err.Error()})
}

func (v *validation) result() error {
	failed := 0
	for _, f := range v.findings {
		if f.Result == "failed" {
			failed++
		}
		if !v.json {
			fmt.Fprintf(v.out, "%-8s %s: %s\n", f.Result, harmless(f.Check), harmless(f.Text))
		}
	}
	if v.json {
		if err := v.print(v.findings); err != nil {
			return err
		}
	}
	if failed > 0 {
		return misconfigured(fmt.Errorf("%d of %d checks failed", failed, len(v.findings)))
	}
	return nil
}

func (v *validation) all(ctx context.Context, set *given) {
	values, err := v.load(set)
	if err != nil {
		v.fail("settings", err)
		return
	}
	for _, w := range values.Warnings {
		v.warn("settings", "%s", w)
	}
	config, _, err := forwardConfig(values, slog.New(slog.DiscardHandler))
	if err != nil {
		v.fail("settings", err)
		return
	}
	if err := chunk.CheckName(config.Identity); err != nil {
		v.fail("settings", fmt.Errorf("identity: %w", err))
	}
	v.ok("settings", "identity %s", config.Identity)
	v.directories(values)
	v.policy(ctx, values, config)
	v.definitions(values.Text("forwarders"), config)
	names := destinationNames(config.Destinations)
	slices.Sort(names)
	for _, name := range names {
		v.rights(values, name)
		v.destination(ctx, name, config)
	}
}

// directories must be usable, or be such that they can be made.
func (v *validation) directories(values *values) {
	state := values.Text("state")
	existing := state
	for existing != "/" {
		if _, err := os.Stat(existing); err == nil {
			break
		}
		existing = filepath.Dir(existing)
	}
	info, err := os.Stat(existing)
	switch {
	case err != nil:
		v.fail("state", err)
	case !info.IsDir():
		v.fail("state", fmt.Errorf("%s is not a directory; set another state", existing))
	default:
		v.ok("state", "%s", state)
	}
	if socket := values.Text("socket"); len(socket) > 107 {
		v.fail("socket", fmt.Errorf("%s has %d bytes, a unix socket's path may have 107; set a shorter one", socket, len(socket)))
	} else {
		v.ok("socket", "%s", socket)
	}
}

// policy and audit log are what changes depend on; forwarding doesn't.
func (v *validation) policy(ctx context.Context, values *values, c forward.Config) {
	if file := values.Text("policy"); file == withoutPolicy {
		v.warn("policy", "none: who may write to the socket may change everything")
	} else if err := policy.Open(file).Err(ctx); err != nil {
		if _, missing := os.Stat(file); missing != nil {
			v.warn("policy", "%v; forwarding works without", err)
		} else {
			v.fail("policy", err)
		}
	} else {
		v.ok("policy", "%s", file)
	}
	switch a, err := auditing(values, c); {
	case err != nil:
		v.fail("audit log", err)
	case a.file == "":
		v.warn("audit log", "none is kept")
	case a.destination == "":
		v.ok("audit log", "%s, which stays here", a.file)
	default:
		v.ok("audit log", "%s, forwarded to %s", a.file, a.destination)
	}
}

func (v *validation) definitions(dir string, c forward.Config) {
	if _, err := os.Stat(dir); err != nil {
		v.warn("definitions", "%v: nothing is defined by files", err)
		return
	}
	list, problems := node.Definitions(dir)
	for _, q := range problems {
		v.fail("definition "+q.Where, errors.New(q.Problem))
	}
	names := destinationNames(c.Destinations)
	for _, d := range list {
		text, refused, err := node.Preview(d, c.Allowed, names)
		if err != nil {
			v.fail("log "+d.Log, err)
			continue
		}
		v.ok("log "+d.Log, "%s", text)
		for _, q := range refused {
			v.warn("log "+d.Log, "not followed: %s: %s", q.Where, q.Problem)
		}
	}
	v.ok("definitions", "%d in %s", len(list), dir)
}

// rights tells whether a node's Choria token permits what it needs; the broker would only refuse.
func (v *validation) rights(values *values, name string) {
	destinations, configs, err := values.destinations()
	if err != nil || configs[name] == nil {
		return
	}
	check := "destination " + name
	missing, err := configs[name].Missing(destinations[name].Prefix)
	switch {
	case err != nil:
		v.fail(check, err)
	case missing != "":
		v.fail(check, errors.New(missing))
	default:
		v.ok(check, "identity %s by %s (%s)", configs[name].Identity, configs[name].File, configs[name].Provider)
	}
}

// destination connects as the daemon would, and does what it may: it says hello.
func (v *validation) destination(ctx context.Context, name string, c forward.Config) {
	ctx, cancel := context.WithTimeout(ctx, validateTime)
	defer cancel()
	check := "destination " + name
	d := c.Destinations[name]
	o := d.Broker
	o.Name = "logforward validate"
	refusals := make(chan broker.Refusal, 8)
	o.OnPermission = func(r broker.Refusal) {
		select {
		case refusals <- r:
		default:
		}
	}
	nc, err := broker.Connect(ctx, o)
	if err != nil {
		v.fail(check, err)
		return
	}
	defer nc.Close()
	v.ok(check, "connected to %s", nc.ConnectedUrlRedacted())
	v.hello(ctx, check, nc, d, c.Identity, refusals)
	v.streams(ctx, check, nc, streamAPI(o), refusals)
}

// hello tells whether the node may say hello, hears the answer, and whether a receiver is there.
func (v *validation) hello(ctx context.Context, check string, nc *nats.Conn, d forward.Destination, identity string, refusals chan broker.Refusal) {
	subject := chunk.SyncSubject(d.Prefix, identity)
	within, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	type answered struct {
		msg *nats.Msg
		err error
	}
	answer := make(chan answered, 1)
	go func() {
		// An empty hello changes nothing: it asks for the layout and the pause.
		m, err := nc.RequestWithContext(within, subject, []byte(`{"instance":"validate"}`))
		answer <- answered{m, err}
	}()
	var a answered
	select {
	case r := <-refusals:
		// NATS tells a refusal apart from the call, which only times out.
		cancel()
		<-answer
		v.fail(check, fmt.Errorf("the credentials don't permit to %s %s; a node needs to publish %s.*.%s.> and to hear its own inbox", r.Op, r.Subject, d.Prefix, chunk.Token(identity)))
		return
	case a = <-answer:
	}
	switch {
	case errors.Is(a.err, nats.ErrNoResponders):
		v.warn(check, "no receiver listens on %s: logs wait until one does", subject)
	case a.err != nil:
		v.warn(check, "no receiver answered on %s: %v", subject, a.err)
	default:
		reply, err := chunk.ParseAnswer(a.msg.Data)
		switch {
		case err != nil:
			v.fail(check, err)
		case !reply.Ready || reply.Layout == nil:
			v.warn(check, "receiver %s isn't ready yet", reply.Receiver)
		default:
			v.ok(check, "receiver %s answers; prefix %s, %d partitions", reply.Receiver, reply.Layout.Prefix, reply.Layout.Partitions)
			if reply.Pause.Holds() {
				v.warn(check, "the fleet is paused by %s: %s", reply.Pause.By, reply.Pause.Reason)
			}
		}
	}
}

// streams looks for what setup makes. A node need not be permitted to look.
func (v *validation) streams(ctx context.Context, check string, nc *nats.Conn, api string, refusals chan broker.Refusal) {
	js, err := broker.JetStream(nc, api)
	if err != nil {
		v.fail(check, err)
		return
	}
	within, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	shared, err := broker.OpenShared(within, js)
	var layout broker.Layout
	if err == nil {
		layout, err = shared.Layout(within)
	}
	switch {
	case err == nil:
		v.ok(check, "streams are set up: prefix %s, %d partitions, %d replicas", layout.Prefix, layout.Partitions, layout.Replicas)
	case errors.Is(err, broker.ErrNoStream), errors.Is(err, broker.ErrNotFound):
		v.fail(check, fmt.Errorf("the streams are not set up: run logforward setup --url … (%w)", err))
	case errors.Is(err, broker.ErrNoJetStream):
		v.fail(check, err)
	default:
		select {
		case <-refusals:
			v.ok(check, "streams can't be looked at with a node's rights, which is as it should be")
		default:
			v.warn(check, "streams can't be looked at: %v", err)
		}
	}
}
