package agent

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"logforward/ddl"
	"logforward/internal/control"
	"logforward/internal/settings"
)

// Variables by which Choria Server tells an external agent what to do.
const (
	envProtocol = "CHORIA_EXTERNAL_PROTOCOL"
	envRequest  = "CHORIA_EXTERNAL_REQUEST"
	envReply    = "CHORIA_EXTERNAL_REPLY"
	envConfig   = "CHORIA_EXTERNAL_CONFIG"
)

// Wanted tells whether this process was started as an external agent.
func Wanted(getenv func(string) string) bool { return getenv(envProtocol) != "" }

// Run answers the one request that the environment names, and returns the process's exit code: 0 where
// there is a reply, whatever it says. What goes wrong with the reply itself goes to errs, which Choria Server logs.
func Run(ctx context.Context, getenv func(string) string, errs io.Writer) int {
	var answer any
	switch protocol := getenv(envProtocol); protocol {
	case activationProtocol:
		// The agent is wanted wherever it is installed: it also tells that no daemon runs.
		answer = map[string]bool{"activate": true}
	case requestProtocol:
		answer = inTime(ctx, getenv)
	default:
		fmt.Fprintf(errs, "logforward: %s=%.80q isn't understood; known are %s and %s\n", envProtocol, protocol, requestProtocol, activationProtocol)
		return 1
	}
	if err := write(getenv(envReply), answer); err != nil {
		fmt.Fprintf(errs, "logforward: %v\n", err)
		return 1
	}
	return 0
}

// agent answers one request.
type agent struct {
	*request
	client *control.Client
	wishes string
	config string // file of settings; empty: the one that all commands read
	now    time.Time
}

// actions are what can be asked for; the description has the same.
var actions = map[string]func(*agent, context.Context) *reply{
	"start": (*agent).start, "stop": (*agent).stop, "pause": (*agent).pause, "resume": (*agent).resume, "redirect": (*agent).redirect,
	"status": (*agent).status, "list": (*agent).list, "check": (*agent).check,
	"plan": (*agent).plan, "apply": (*agent).apply, "rollback": (*agent).rollback,
}

// inTime answers well before half of what Choria Server waits is over, for a busy machine takes its time to start a process: one that is
// too late is dropped without a word. The daemon is waited for less; what is left are disks that hang, where nothing can be cancelled.
func inTime(ctx context.Context, getenv func(string) string) *reply {
	description, err := ddl.Parse()
	if err != nil {
		return failed(codeOther, "%v", err)
	}
	limit := time.Duration(description.Metadata.Timeout) * time.Second * 2 / 5
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	answer := make(chan *reply, 1)
	go func() { answer <- respond(ctx, getenv, description) }() // the process ends with the reply, and takes it along
	select {
	case r := <-answer:
		return r
	case <-ctx.Done():
	}
	return failed(codeOther, "no answer within %s: something on this node hangs, perhaps a disk; a change may have been made, so ask for the status before you try again", limit)
}

func respond(ctx context.Context, getenv func(string) string, description *ddl.Agent) *reply {
	r, bad := readRequest(getenv(envRequest))
	if bad != nil {
		return bad
	}
	action, do := description.Action(r.Action), actions[r.Action]
	if action == nil || do == nil {
		return failed(codeUnknown, "there is no action %.40q", r.Action)
	}
	now := time.Now()
	if err := r.fresh(now); err != nil {
		return failed(codeAborted, "%v", err)
	}
	if bad := r.fits(action); bad != nil {
		return bad
	}
	config := configFile(getenv(envConfig))
	v, err := settings.Load(settings.Client, config, nil, nil)
	if err != nil {
		return failed(codeOther, "settings: %v", err)
	}
	client := control.NewClient(v.Text("socket"))
	client.Caller, client.RequestID, client.Collective, client.TTL = r.CallerID, r.RequestID, r.Collective, r.TTL
	// Some room is left to record a wish.
	client.Timeout = time.Duration(description.Metadata.Timeout) * time.Second * 3 / 10
	return do(&agent{r, client, v.Text("wishes"), config, now}, ctx)
}

// configFile is the file of settings that Choria Server names, if it is there: it leaves the suffix
// out that others write. Empty: the one that all commands read.
func configFile(named string) string {
	for _, file := range []string{named, named + ".cfg"} {
		if info, err := os.Stat(file); named != "" && err == nil && info.Mode().IsRegular() {
			return file
		}
	}
	return ""
}
