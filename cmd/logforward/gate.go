package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"logforward/internal/audit"
	"logforward/internal/beat"
	"logforward/internal/control"
	"logforward/internal/forward"
	"logforward/internal/policy"
	"logforward/internal/tail"
)

// gate decides on requests, and has each decision about a change, and each refusal, in the audit log:
// what is permitted only happens once that is on disk.
type gate struct {
	peers  func(context.Context, control.Caller, control.Request) error
	policy *policy.Policy // nil: the peers' rights decide alone
	host   host
	// known fills in what the node knows of a log that a question names; nil: nothing.
	known func(control.Caller, control.Request) control.Request
	audit *audit.Log // nil: none is kept
	beat  *beat.Beat // when policy and audit log are looked at
	// watcher tells of changes in the directory of the policy's file; nil: it is looked at each second.
	watcher *tail.Watcher
	rest    time.Duration // between two looks where events tell of all changes; 0: some seconds
	looked  func()        // called after each look, for tests; nil: nobody asks
	log     *slog.Logger
	counts  *prometheus.CounterVec // decisions; nil: nobody counts

	mu       sync.Mutex
	unkept   error // the last decision that couldn't be recorded; nil: the last one could
	unkeptAt time.Time
	broken   string // what the log has been told of the policy; "": it is in force
}

// withoutPolicy is what the setting policy says where the socket's peers decide.
const withoutPolicy = "peers"

// Routes of what nobody asked for at this moment; see [audit.Decision].
const (
	routeFile    = "file"    // a running forwarder meets a file that its path didn't lead to before
	routeRunning = "running" // a running forwarder is looked at again
	routeFleet   = "fleet"   // the fleet's pause, which the broker's permissions guard and the centre tells
)

// ask decides on a request as it came: may this process ask at all, and, where it only reads, may it know.
// A node whose policy is missing or broken still says how it stands.
func (g *gate) ask(ctx context.Context, c control.Caller, r control.Request) error {
	err := g.peers(ctx, c, r)
	if !r.Changes() && r.Log != "" && g.known != nil {
		r = g.known(c, r)
	}
	verdict := policy.Decision{Rule: withoutPolicy}
	if err == nil && g.policy != nil && !r.Changes() {
		if verdict, err = g.decide(ctx, c, r); verdict.Broken {
			err = nil
		}
	}
	if err != nil {
		g.refused(c, r, verdict, err)
	}
	return err
}

// change decides on a change with what the node knows of the log; [gate.ask] has let it through.
func (g *gate) change(ctx context.Context, c control.Caller, r control.Request) error {
	verdict, err := g.decide(ctx, c, r)
	if err != nil {
		g.refused(c, r, verdict, err)
		return err
	}
	return g.permitted(c, r, verdict)
}

// file decides whether a running forwarder may read a file that its path leads to by symbolic links: who
// started it is asked for again, with that file's path.
func (g *gate) file(ctx context.Context, c control.Caller, r control.Request) error {
	if g.policy == nil {
		return nil
	}
	c.Route = routeFile
	return g.change(ctx, c, r)
}

// stands decides whether who started a forwarder might still start it. was is what was decided last: only what
// differs is recorded. An error is no verdict: what runs stays as it is.
func (g *gate) stands(ctx context.Context, c control.Caller, r control.Request, was bool) (bool, error) {
	if g.policy == nil {
		return true, nil
	}
	c.Route = routeRunning
	verdict, refusal := g.decide(ctx, c, r)
	switch {
	case verdict.Broken || verdict.Undecided:
		return was, refusal
	case refusal == nil && was:
		return true, nil
	case refusal == nil:
		return true, g.permitted(c, r, verdict)
	case was && !g.ended(c, r, verdict, refusal):
		return true, fmt.Errorf("it is not permitted any more, and that can't be recorded")
	}
	return false, nil
}

// permitted has a permission on disk. Without that it isn't one.
func (g *gate) permitted(c control.Caller, r control.Request, verdict policy.Decision) error {
	g.count(r.Verb, "allowed")
	if err := g.record(decision(c, r, verdict, nil)); err != nil {
		return control.Errorf(control.CodeInternal, "%s is permitted, and not done: %v", r.Verb, err).WithHint("nothing is changed that can't be recorded")
	}
	return nil
}

// reject records what the node itself refuses.
func (g *gate) reject(c control.Caller, r control.Request, why error) {
	g.refused(c, r, policy.Decision{}, why)
}

// refused records a refusal, or has it counted where it repeats another.
func (g *gate) refused(c control.Caller, r control.Request, verdict policy.Decision, why error) {
	g.count(r.Verb, "refused")
	if g.audit == nil {
		return
	}
	if err := g.kept(g.audit.Refuse(decision(c, r, verdict, why))); err != nil {
		g.log.Error("a refusal isn't in the audit log yet", "error", err)
	}
}

// ended records that what runs isn't permitted any more, and tells whether that worked. That changes something, so it
// has a line of its own.
func (g *gate) ended(c control.Caller, r control.Request, verdict policy.Decision, why error) bool {
	g.count(r.Verb, "refused")
	if err := g.record(decision(c, r, verdict, why)); err != nil {
		g.log.Error("a refusal isn't in the audit log", "error", err)
		return false
	}
	return true
}

func (g *gate) count(verb, verdict string) {
	if g.counts != nil {
		g.counts.WithLabelValues(verb, verdict).Inc()
	}
}

func (g *gate) record(d audit.Decision) error {
	if g.audit == nil {
		return nil
	}
	return g.kept(g.audit.Record(d))
}

// kept remembers whether the last decision could be recorded.
func (g *gate) kept(err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.unkept, g.unkeptAt = err, time.Now()
	return err
}

// heard records what the fleet's pause does here, until ctx ends. It is in force by then: no node's disk may hold it up.
func (g *gate) heard(ctx context.Context, pressed <-chan forward.Pressed) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case p := <-pressed:
			d := audit.Decision{
				Action: control.VerbResume, Allowed: true, Caller: p.Pause.By, Route: routeFleet, Rule: "broker",
				Inputs: map[string]any{"all": true, "destination": p.Destination, "change": p.Pause.Change},
			}
			if p.Pause.Holds() {
				d.Action, d.Inputs["reason"], d.Inputs["match"] = control.VerbPause, p.Pause.Reason, p.Pause.Match
				if left := p.Pause.Duration(); left > 0 {
					d.Inputs["for"] = control.Duration(left.Round(time.Second)).String()
				}
			}
			if err := g.record(d); err != nil {
				g.log.Error("the fleet's pause isn't in the audit log", "error", err)
			}
		}
	}
}

// watchEvery is how often the policy's file is looked at, so that a new one is ready before it is asked.
const watchEvery = time.Second

// policyGather is how long after an event the file is looked at.
const policyGather = 200 * time.Millisecond

// watch has the policy ready, tells the log when it breaks and when it is mended, and has refusals written that were
// counted, until ctx ends.
func (g *gate) watch(ctx context.Context) error {
	tick := beat.NewTicker(g.beat, watchEvery)
	defer tick.Stop()
	changed := make(chan struct{}, 1)
	var dir *tail.Directory
	if g.policy != nil {
		dir = watched(g.watcher, filepath.Dir(g.policy.File()), changed)
		defer dir.Close()
	}
	for {
		rest := g.policy == nil
		if g.policy != nil {
			g.tell(ctx, g.policy.Document(ctx))
			rest = dir.Sure() && g.policy.Settled()
		}
		if g.audit != nil {
			if err := g.audit.Tick(); err != nil {
				_ = g.kept(err)
				g.log.Error("refusals aren't in the audit log yet", "error", err)
			}
		}
		if rest { // a line of counted refusals needn't come to the second
			tick.Reset(cmp.Or(g.rest, beat.AtRest*watchEvery))
		} else {
			tick.Reset(watchEvery)
		}
		if g.looked != nil {
			g.looked()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-changed:
			select { // who writes a file takes a while
			case <-ctx.Done():
				return nil
			case <-time.After(policyGather):
			}
		}
	}
}

// tell says in the log where a document is broken and the last one wasn't, or the other way round.
func (g *gate) tell(ctx context.Context, d *policy.Document) {
	now := ""
	if d.Err() != nil {
		now = d.Err().Error()
	}
	g.mu.Lock()
	was := g.broken
	g.broken = now
	g.mu.Unlock()
	switch {
	case now == was || ctx.Err() != nil:
	case now != "":
		g.log.Warn("nothing can be changed; forwarding goes on", "error", now, "remedy", remedy)
	default:
		g.log.Info("the policy is in force again", "digest", d.Digest())
	}
}

// problems are what a person should mend, for the node's status.
func (g *gate) problems() (all []control.Problem) {
	if g.policy != nil {
		if err := g.policy.Err(context.Background()); err != nil {
			all = append(all, control.Problem{Where: "policy", Problem: err.Error() + "; " + remedy})
		}
	}
	if g.audit != nil && g.audit.Lost() > 0 {
		all = append(all, control.Problem{Where: "audit log", Problem: fmt.Sprintf("%d files were removed before the audit destination had them", g.audit.Lost())})
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.unkept != nil {
		all = append(all, control.Problem{Where: "audit log", Problem: fmt.Sprintf("since %s nothing can be changed: %v; mend that, or set another audit_log",
			g.unkeptAt.UTC().Format(time.RFC3339), g.unkept)})
	}
	return all
}

var remedy = fmt.Sprintf("mend the file that the setting policy names; where it is %q, who may write to the socket decides", withoutPolicy)

// register adds the gate's metrics.
func (g *gate) register(r prometheus.Registerer) error {
	g.counts = prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "logforward", Subsystem: "policy", Name: "decisions_total",
		Help: "Decisions about requests: changes, refused reads, files met by running forwarders."}, []string{"action", "verdict"})
	inForce := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "logforward", Subsystem: "policy", Name: "in_force",
		Help: "1 where changes can be decided on; 0: the policy is missing or broken, and every change is refused."}, func() float64 {
		if g.policy != nil && g.policy.Err(context.Background()) != nil {
			return 0
		}
		return 1
	})
	writable := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "logforward", Subsystem: "audit", Name: "writable",
		Help: "0 where the last decision couldn't be recorded: changes are refused then."}, func() float64 {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.unkept != nil {
			return 0
		}
		return 1
	})
	for _, c := range []prometheus.Collector{g.counts, inForce, writable} {
		if err := r.Register(c); err != nil {
			return fmt.Errorf("metrics: %w", err)
		}
	}
	return nil
}
