package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/choria-io/fisk"

	"logforward/internal/keeper"
	"logforward/internal/settings"
)

// ensureTime bounds a run; the autonomous agent kills it after 20 s.
const ensureTime = 18 * time.Second

func (p *program) ensureCommand(app *fisk.Application) {
	var set *given
	var order keeper.Order
	var forHow string
	var retry bool
	c := p.command(app, "ensure", "Keep this node's daemon running: look at it, and do what has to be done", `
Short, and to be repeated: a daemon that works is left alone. One that doesn't run is
started, by systemd where there is a unit, otherwise in a session of its own; one that
doesn't answer at several looks in a row is replaced; one whose program file was
replaced is restarted onto it. A daemon that doesn't stay is started less and less
often, and after some attempts not before a definition, the configuration or the
program changes, ensure_again has passed, or --retry.

Exits with 0 where the daemon runs, 1 where it has failed, 3 where an order was
refused, 4 where it is being started or another ensure is at work.

    logforward ensure
    logforward ensure --retry
    logforward ensure --order pause --for 2h --reason "switch upgrade"
`, func(ctx context.Context) error {
		if retry && order.Verb != "" && order.Verb != keeper.OrderRetry {
			return usage("--retry is an order, and --order %s another", order.Verb)
		}
		if retry {
			order.Verb = keeper.OrderRetry
		}
		if order.Verb == "" && (forHow != "" || order.Reason != "") || order.Verb != "" && order.Verb != keeper.OrderPause && order.Verb != orderButton && forHow != "" {
			return usage("--for belongs to --order pause, --reason to an order")
		}
		if err := parseWhy(forHow, &order.For); err != nil {
			return err
		}
		config, err := p.keeperConfig(set)
		if err != nil && p.data && order.Verb == "" {
			// The daemon may run all the same; it can't be found out.
			return p.showObservation(keeper.Observation{State: keeper.Degraded, Reason: strings.ReplaceAll(err.Error(), "\n", " "), Time: time.Now().UTC()}, true)
		}
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, ensureTime)
		defer cancel()
		var wanted *keeper.Order
		switch order.Verb {
		case "":
		case orderButton:
			if wanted, err = buttonOrder(ctx, config.Socket, order.For); err != nil {
				return err
			}
		default:
			wanted = &order
		}
		o, err := keeper.New(config).Ensure(ctx, wanted)
		if err != nil && o.State == "" {
			return ensureFailed(err, os.Geteuid())
		}
		// What came of an order is told whole: looks may have changed the machine's data since it was begun.
		if werr := p.showObservation(o, order.Verb == ""); werr != nil {
			return werr
		}
		if err != nil {
			return ensureFailed(err, os.Geteuid())
		}
		return p.standing(o)
	})
	c.Flag("order", "What is wanted of the node first: pause, resume (all logs), restart or retry (the daemon), or button (a pause, where the red button holds this node)").PlaceHolder("ORDER").EnumVar(&order.Verb, append(keeper.Orders(), orderButton)...)
	c.Flag("retry", "The same as --order retry").UnNegatableBoolVar(&retry)
	c.Flag("for", "End a pause by itself after this long: 90m, 2h, 1d").StringVar(&forHow)
	c.Flag("reason", reasonHelp).StringVar(&order.Reason)
	c.Flag("data", "Write the result as Choria's exec watcher takes it with parse_as_data: one JSON object of texts, without those that the machine has already; exit with 0 whatever the daemon's state").UnNegatableBoolVar(&p.data)
	set = p.settings(c, settings.Ensure, "textfiles")
}

// keeperConfig is the keeper's, with the daemon started as this command was: from the same program and configuration.
func (p *program) keeperConfig(set *given) (keeper.Config, error) {
	v, err := p.load(set)
	if err != nil {
		return keeper.Config{}, err
	}
	self := keeper.Self()
	if self == nil {
		return keeper.Config{}, errors.New("ensure: its own program file can't be found; is /proc mounted?")
	}
	c := keeper.Config{
		Dir: v.Text("ensure"), Program: self.Path, Args: []string{"forward"}, Socket: v.Text("socket"), State: v.Text("state"), Unit: v.Text("ensure_unit"),
		Watched:  []string{v.Text("forwarders")},
		Attempts: int(v.Number("ensure_attempts")), Backoff: v.Duration("ensure_backoff"), Steady: v.Duration("ensure_steady"), Again: v.Duration("ensure_again"),
	}
	if c.Again == 0 {
		c.Again = -1
	}
	file := set.file
	if file == "" {
		file = settings.DefaultFile(settings.Ensure)
	} else {
		if file, err = filepath.Abs(file); err != nil {
			return c, fmt.Errorf("--config: %w", err)
		}
		c.Args = append(c.Args, "--config", file)
	}
	c.Watched = append(c.Watched, file)
	c.Startable = func() error {
		next, err := settings.Load(settings.Forward, set.file, os.Environ(), nil)
		if err != nil {
			return err
		}
		return startable(&values{next, settings.Forward})
	}
	_ = os.MkdirAll(v.Text("forwarders"), 0o755) // so that it can be watched before something is defined; its absence is no fault
	// What else the command line says is the daemon's, too.
	for _, name := range []string{"socket", "state", "forwarders"} {
		if v.Where(name) == "flag --"+name {
			c.Args = append(c.Args, "--"+name, v.Text(name))
		}
	}
	if os.Geteuid() != 0 && !v.IsSet("ensure_unit") {
		c.Unit = "" // not another user's to start
	}
	return c, nil
}

// sight is how old an observation may be that is left as it is; the machine takes one of a minute for none.
const sight = 20 * time.Second

// machineData is what the autonomous agent that runs this has already; nil: none does.
func machineData() map[string]any {
	b, err := os.ReadFile(os.Getenv("WATCHER_DATA"))
	if err != nil {
		return nil
	}
	var known map[string]any
	if json.Unmarshal(b, &known) != nil {
		return nil
	}
	return known
}

// unknown is what an observation has that a machine doesn't know yet. Choria writes all of a machine's data to disk for each
// text that it is given, equal or not: with all eight, each five seconds, that is a disk's work at a fleet on shared storage.
func unknown(data map[string]string, known map[string]any, now time.Time) map[string]string {
	fresh := map[string]string{}
	for name, text := range data {
		if was, ok := known[name].(string); name != "observed" && (!ok || was != text) {
			fresh[name] = text
		}
	}
	was, _ := known["observed"].(string)
	at, err := time.Parse(time.RFC3339, was)
	if age := now.Sub(at); len(fresh) > 0 || err != nil || age < 0 || age >= sight {
		fresh["observed"] = data["observed"]
	}
	return fresh
}

// showObservation prints it; news: as data, only what the machine doesn't know.
func (p *program) showObservation(o keeper.Observation, news bool) error {
	if p.data && news {
		return p.print(unknown(o.Data(), machineData(), o.Time))
	}
	if p.data || p.json {
		return p.print(o.Report())
	}
	text := o.State
	if o.PID != 0 {
		text += fmt.Sprintf(", pid %d", o.PID)
	}
	if o.Action != "" {
		text += ", " + o.Action
	}
	if o.Reason != "" {
		text += ": " + harmless(o.Reason)
	}
	_, err := fmt.Fprintln(p.out, text)
	return err
}

// standing is the exit code of an observation.
func (p *program) standing(o keeper.Observation) error {
	switch {
	case p.data:
		return nil
	case o.State == keeper.Failed:
		return &exitError{code: exitFailure}
	case o.PID == 0:
		return &exitError{code: exitUnreachable}
	}
	return nil
}

func ensureFailed(err error, uid int) error {
	switch {
	case errors.Is(err, keeper.ErrBusy):
		return &exitError{exitUnreachable, err}
	case errors.Is(err, fs.ErrPermission) && uid != 0:
		return &exitError{exitRefused, fmt.Errorf("ensure: %w: run it as root, or as the daemon's user with directories of its own (ensure, state, socket)", err)}
	}
	return err
}
