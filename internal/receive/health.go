package receive

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"logforward/internal/broker"
)

// refusal is what the broker refused last. It answers nothing to a request that it refuses, which then looks like a broker
// that is slow.
type refusal struct {
	broker.Refusal
	at time.Time
}

// refusedFor is how long a refusal is told of in the health: what is refused is tried again before that.
const refusedFor = 30 * time.Second

func (f *refusal) Error() string {
	what := "publish to"
	if f.Op == broker.OpSubscribe {
		what = "hear"
	}
	return fmt.Sprintf("the broker refuses the receiver to %s %s: grant it that right (docs/cluster.md lists what a receiver needs)", what, f.Subject)
}

// refused notes what the broker refuses. Inboxes aren't counted: nodes choose them.
func (r *Receiver) refused(f broker.Refusal) {
	own := f.Op == broker.OpSubscribe || strings.HasPrefix(f.Subject, "$") || strings.HasPrefix(f.Subject, r.config.Prefix+".") ||
		r.identity.StreamAPI() != "" && strings.HasPrefix(f.Subject, r.identity.StreamAPI()+".")
	r.mu.Lock()
	defer r.mu.Unlock()
	if own {
		r.refusal = &refusal{f, time.Now()}
	}
}

// denied is what the broker has refused of late; nil: nothing. mu is held.
func (r *Receiver) denied() error {
	if r.refusal == nil || time.Since(r.refusal.at) > refusedFor {
		return nil
	}
	return r.refusal
}

// Health gives the reasons why this receiver doesn't do its work now; none: it does.
func (r *Receiver) Health() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var reasons []string
	switch {
	case r.link == nil:
		reasons = append(reasons, "not connected to the broker")
	case !r.serving && r.note != nil:
		reasons = append(reasons, r.note.Error())
	case r.sharing.twin != nil:
		reasons = append(reasons, r.sharing.twin.Error())
	case r.sharing.trouble != nil:
		reasons = append(reasons, r.sharing.trouble.Error())
	case r.lacking != nil:
		reasons = append(reasons, r.lacking.Error())
	case !r.serving || !r.complete:
		reasons = append(reasons, "not ready yet")
	}
	for _, err := range []error{r.hang, r.denied()} {
		if err != nil {
			reasons = append(reasons, err.Error())
		}
	}
	for n := range r.partitions {
		for _, err := range []error{r.terms[n], r.stalls[n]} {
			if errors.Is(err, context.Canceled) { // how a term ends with its connection
				err = errors.New("its connection to the broker was lost; it begins anew with the next one")
			}
			if err != nil {
				reasons = append(reasons, fmt.Sprintf("partition %d: %s", n, err))
			}
		}
	}
	return reasons
}
