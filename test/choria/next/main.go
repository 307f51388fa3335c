// Command next is the next generation of Choria for a test fleet: the server and the broker of
// go-choria v0.30.2, hosted by its libraries. Its own command line can't be built from the module
// proxy alone, for one of its dependencies isn't there; so this has what a fleet runs:
//
//	next broker run --config FILE
//	next server run --config FILE
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/choria-io/fisk"
	"github.com/choria-io/go-choria/broker/network"
	"github.com/choria-io/go-choria/build"
	"github.com/choria-io/go-choria/choria"
	"github.com/choria-io/go-choria/config"
	"github.com/choria-io/go-choria/server"
)

// release is what the libraries, whose version a linker would set, are.
const release = "0.30.2"

// graceTime is how long the parts may take to end.
const graceTime = 10 * time.Second

func main() {
	build.Version = release
	ctx, end := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer end()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "next: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	app := fisk.New("next", "Choria "+release+" from its libraries").Version(release)
	var file string
	var do func(context.Context, *choria.Framework) error
	for _, part := range []struct {
		name, help string
		do         func(context.Context, *choria.Framework) error
	}{{"broker", "Choria Network Broker", runBroker}, {"server", "Choria Server", runServer}} {
		c := app.Command(part.name, part.help).Command("run", "Run it")
		c.Flag("config", "Choria's configuration file").Required().PlaceHolder("FILE").StringVar(&file)
		c.Action(func(*fisk.ParseContext) error { do = part.do; return nil })
	}
	if _, err := app.Parse(args); err != nil {
		return err
	}
	if do == nil {
		return nil // --help
	}
	c, err := config.NewSystemConfig(file, true)
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	c.ApplyBuildSettings(&build.Info{})
	framework, err := choria.NewWithConfig(c)
	if err != nil {
		return fmt.Errorf("choria: %w", err)
	}
	return do(ctx, framework)
}

func runBroker(ctx context.Context, framework *choria.Framework) error {
	broker, err := network.NewServer(framework, &build.Info{}, false)
	if err != nil {
		return fmt.Errorf("broker: %w", err)
	}
	var parts sync.WaitGroup
	parts.Add(1)
	go broker.Start(ctx, &parts)
	return wait(ctx, &parts)
}

func runServer(ctx context.Context, framework *choria.Framework) error {
	instance, err := server.NewInstance(framework)
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	framework.Logger("next").Infof("Choria Server version %s starting with config %s", release, framework.Config.ConfigFile)
	var parts sync.WaitGroup
	parts.Add(1)
	if framework.Config.Choria.MachineSourceDir != "" {
		parts.Add(1) // the host of autonomous agents counts off one part (its HTTP listeners) that it hasn't counted
	}
	if err := instance.Run(ctx, &parts); err != nil {
		return fmt.Errorf("server: %w", err)
	}
	return wait(ctx, &parts)
}

// wait returns when the parts have ended, or their time for that is over.
func wait(ctx context.Context, parts *sync.WaitGroup) error {
	ended := make(chan struct{})
	go func() { parts.Wait(); close(ended) }()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
	}
	select {
	case <-ended:
		return nil
	case <-time.After(graceTime):
		return errors.New("parts that don't end")
	}
}
