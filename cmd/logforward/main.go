// Command logforward brings the bytes of log files from a fleet's nodes to one
// file per node and log at the centre.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/choria-io/fisk"
	"golang.org/x/sys/unix"

	"logforward/agent"
	"logforward/internal/broker"
	"logforward/internal/control"
)

func main() {
	// Choria Server starts the agent in the environment that its protocol describes.
	if agent.Wanted(os.Getenv) {
		os.Exit(agent.Run(context.Background(), os.Getenv, os.Stderr))
	}
	os.Exit(execute(os.Args[1:], os.Stdout, os.Stderr))
}

// A reason or a name may begin with @: it is no file of more arguments.
func init() { fisk.EnableFileExpansion = false }

// program is one invocation: what was asked for, and where it writes.
type program struct {
	out, err io.Writer
	json     bool
	data     bool // out and err are read as one document: nothing but that is written where all is well
	endless  bool // a signal is how the command ends in order; to any other it is an interruption
	printed  bool // there is a JSON document on out, and there shall be one only
	// do is the chosen command; parsing sets it and nothing else, so that a wrong argument is
	// never found after something was done.
	do func(context.Context) error
}

const about = `Brings the bytes of log files to a central place: one file per host and log,
complete, in order, each byte once, and able to prove it.

Try it in one line, with everything in one process:

    logforward run /var/log/syslog
`

func execute(args []string, out, errw io.Writer) int {
	printed := &noted{Writer: out}
	p := &program{out: printed, err: errw}
	app := fisk.New("logforward", about+exitCodes).Version(version())
	app.HelpFlag.Short('h')
	app.UsageWriter(sturdy{out}).ErrorWriter(errw)
	app.Flag("json", "Write results as JSON, one document, to standard output; docs/json.md tells what its keys mean").UnNegatableBoolVar(&p.json)
	for _, register := range []func(*fisk.Application){
		p.runCommand, p.forwardCommand, p.receiveCommand, p.brokerCommand, p.setupCommand,
		p.startCommand, p.stopCommand, p.pauseCommand, p.resumeCommand, p.redirectCommand, p.statusCommand, p.listCommand, p.checkCommand, p.ensureCommand,
		p.fleetCommand, p.tapCommand, p.policyCommand, p.planCommand, p.applyCommand, p.rollbackCommand,
		p.receiversCommand, p.drainCommand, p.locateCommand,
		p.configCommand, p.validateCommand, p.ledgerCommand, p.catCommand, p.verifyCommand, p.sealKeyCommand, p.asideCommand, p.versionCommand, p.manualCommand,
	} {
		register(app)
	}
	if _, err := app.Parse(args); err != nil {
		fmt.Fprintf(errw, "logforward: %s\n", harmlessLines(err.Error()))
		if errors.Is(err, fisk.ErrSubCommandRequired) && len(args) == 1 {
			fmt.Fprintf(errw, "Try: logforward %s --help\n", harmlessLines(args[0]))
		} else if errors.Is(err, fisk.ErrSubCommandRequired) || errors.Is(err, fisk.ErrExpectedKnownCommand) {
			fmt.Fprintln(errw, "Try: logforward --help")
		} else {
			fmt.Fprintln(errw, "Try the command with --help")
		}
		if slices.Contains(args, "--json") { // who reads documents reads this one, too
			_ = p.print(&control.Error{Message: err.Error(), Code: control.CodeInvalid})
		}
		return exitUsage
	}
	if p.do == nil { // --help and --version have ended already
		return exitOK
	}
	ctx, end := signals(context.Background(), errw)
	defer end()
	err := p.do(ctx)
	if err == nil && printed.err != nil && !errors.Is(printed.err, unix.EPIPE) { // who reads no more knows
		err = fmt.Errorf("write the result: %w", printed.err)
	}
	return p.report(cutShort(ctx, err))
}

// cutShort tells a way to the broker that a signal ended from one that isn't there.
func cutShort(ctx context.Context, err error) error {
	if errors.Is(err, broker.ErrUnreachable) && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// noted keeps the first error of writing: a result that nobody got is no success, whatever printed it.
type noted struct {
	io.Writer
	err error
}

func (n *noted) Write(b []byte) (int, error) {
	w, err := n.Writer.Write(b)
	if n.err == nil {
		n.err = err
	}
	return w, err
}

// sturdy takes what can't be written: fisk panics where its help can't be.
type sturdy struct{ io.Writer }

func (s sturdy) Write(b []byte) (int, error) {
	_, _ = s.Writer.Write(b)
	return len(b), nil
}

// command adds a command whose work is do.
func (p *program) command(app *fisk.Application, name, help, long string, do func(context.Context) error) *fisk.CmdClause {
	c := app.Command(name, help).HelpLong(long)
	return c.Action(func(*fisk.ParseContext) error {
		p.do, p.endless = do, slices.Contains([]string{"forward", "receive", "broker", "run", "tap"}, name)
		return nil
	})
}
