package keeper

import (
	"context"
	"fmt"
	"slices"
	"time"

	"logforward/internal/control"
)

// Orders that the autonomous agent passes on for an operator.
const (
	OrderPause   = "pause"
	OrderResume  = "resume"
	OrderRestart = "restart"
	OrderRetry   = "retry"
)

// Orders are all of them.
func Orders() []string { return []string{OrderPause, OrderResume, OrderRestart, OrderRetry} }

// Order is what an operator wants of a node. A pause or a resume is decided on by policy as one that comes
// from this machine's own user.
type Order struct {
	Verb   string
	For    control.Duration // of a pause
	Reason string
}

// Check tells whether it is one.
func (o *Order) Check() error {
	if !slices.Contains(Orders(), o.Verb) {
		return fmt.Errorf("order %.40q: want one of %q", o.Verb, Orders())
	}
	return nil
}

// OrderError says that an order wasn't done.
type OrderError struct {
	Verb string
	Err  error
}

func (e *OrderError) Error() string { return e.Verb + " wasn't done: " + e.Err.Error() }

// Unwrap is why.
func (e *OrderError) Unwrap() error { return e.Err }

// obey does what is ordered before the look, and remembers what came of it.
func (k *Keeper) obey(ctx context.Context, o *Order) error {
	text, err := k.carryOut(ctx, o)
	if err != nil {
		err = &OrderError{o.Verb, err}
		text = err.Error()
	}
	k.record.Order = words([]byte(k.config.Now().UTC().Format(time.RFC3339)+" "+text), "")
	return err
}

func (k *Keeper) carryOut(ctx context.Context, o *Order) (string, error) {
	var reply control.Reply
	var err error
	switch o.Verb {
	case OrderPause:
		reply, err = k.pause(ctx, o)
	case OrderResume:
		reply, err = k.client.Resume(ctx, control.ResumeRequest{All: true, Reason: o.Reason})
	case OrderRetry:
		k.retry()
		reply.Message = "the daemon is tried again"
	case OrderRestart:
		if _, down := k.client.Status(ctx, control.StatusRequest{}); down == nil {
			if err = k.startable(); err != nil {
				break
			}
		}
		k.retry()
		k.record.Seen.PID = 0 // its end is wanted
		reply.Message = "the daemon was restarted"
		var gone bool
		if gone, err = k.stop(ctx, false); !gone {
			reply.Message = "the daemon is ending; a new one is started when it has"
		}
	default:
		err = o.Check()
	}
	return o.Verb + ": " + reply.Message, err
}

// pause pauses all logs. A pause that somebody else asked for and that ends later stays as it is: it would end
// with this one.
func (k *Keeper) pause(ctx context.Context, o *Order) (control.Reply, error) {
	status, err := k.client.Status(ctx, control.StatusRequest{})
	if err != nil {
		return control.Reply{}, err
	}
	now := k.config.Now()
	if p := status.Pause; p.Active(now) && o.For > 0 && (p.Until.IsZero() || p.Until.After(now.Add(time.Duration(o.For)))) {
		return control.Reply{Message: "all logs are paused for longer already, by " + p.By}, nil
	}
	return k.client.Pause(ctx, control.PauseRequest{All: true, For: o.For, Reason: o.Reason})
}
