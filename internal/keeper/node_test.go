package keeper

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"logforward/internal/control"
)

// quietNode is one on which nothing is to be forwarded.
type quietNode struct {
	control.Node // nobody asks for what isn't here
	started      time.Time
}

func (n *quietNode) Status(context.Context, control.StatusRequest) (control.StatusReply, error) {
	return control.StatusReply{PID: os.Getpid(), Started: n.started, Executable: Self()}, nil
}

func (n *quietNode) Check(context.Context) (control.CheckReply, error) {
	return control.CheckReply{Status: control.Unknown}, nil
}

// signalIgnore makes this a daemon that doesn't end when it is asked to.
func signalIgnore() { signal.Ignore(syscall.SIGTERM) }

// signalObey makes this a daemon that ends in order.
func signalObey() {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGTERM)
	go func() {
		<-asked
		os.Exit(0)
	}()
}
